//! Models of any size, to see how simplification scales.

use lapidary::ir::Model;
use lapidary::onnx::text;

/// A block as transformers have it, in a form as exporters write it, repeated: a normalization and
/// a Gelu spelled out, sizes computed, two linear layers, a residual.
#[allow(dead_code)]
pub fn blocks(count: usize) -> Model {
    let mut body = String::new();
    for i in 0..count {
        let x = if i == 0 { "x".to_owned() } else { format!("y{}", i - 1) };
        body += &format!(
            "a{i} = ReduceMean <axes = [-1]> ({x})
             b{i} = Sub ({x}, a{i})
             c{i} = Pow (b{i}, two)
             d{i} = ReduceMean <axes = [-1]> (c{i})
             e{i} = Add (d{i}, epsilon)
             f{i} = Sqrt (e{i})
             g{i} = Div (b{i}, f{i})
             w{i} = Constant <value = float[4] {{{i}, 2, 3, 4}}> ()
             h{i} = Mul (g{i}, w{i})
             i{i} = Add (h{i}, w{i})
             m{i} = Constant <value = float[4,4] {{{i}, 0, 0, 1, 0, 2, 0, 0, 1, 0, 1, 0, 1, 0, 0, 1}}> ()
             j{i} = MatMul (i{i}, m{i})
             k{i} = Add (w{i}, j{i})
             l{i} = Div (k{i}, root)
             o{i} = Erf (l{i})
             p{i} = Add (o{i}, one)
             q{i} = Mul (k{i}, p{i})
             r{i} = Mul (q{i}, half)
             s{i} = Shape (r{i})
             t{i} = Gather <axis = 0> (s{i}, zero)
             u{i} = Unsqueeze (t{i}, first)
             v{i} = Concat <axis = 0> (u{i}, rest)
             z{i} = Reshape (r{i}, v{i})
             n{i} = Identity (z{i})
             y{i} = Add ({x}, n{i})
            "
        );
    }
    let text = format!(
        "<ir_version: 8, opset_import: [\"\" : 17]>
         blocks (float[N,3,4] x) => (float[N,3,4] y{})
         <float two = {{2}}, float epsilon = {{0.00001}}, float root = {{1.4142135}}, float one = {{1}},
          float half = {{0.5}}, int64 zero = {{0}}, int64[1] first = {{0}}, int64[2] rest = {{3, 4}}>
         {{ {body} }}",
        count - 1
    );
    text::parse(&text).expect("it is valid")
}
