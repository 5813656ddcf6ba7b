//! ONNX's textual syntax.

use lapidary::ir::{AttrValue, DType, Model, Type};
use lapidary::onnx::LoadError;
use lapidary::onnx::text::{self, PrintOptions};

use crate::support::parse_fixture;

fn parse(text: &str) -> Model {
    text::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

fn full(model: &Model) -> String {
    text::print(model, &PrintOptions::default())
}

/// Printing what was parsed, and parsing that, changes nothing any more.
fn assert_stable(text: &str) -> Model {
    let model = parse(text);
    let printed = full(&model);
    assert_eq!(full(&parse(&printed)), printed);
    model
}

fn error(text: &str) -> (usize, String) {
    match text::parse(text) {
        Err(LoadError::Text { line, what }) => (line, what),
        Err(other) => panic!("not a syntax error: {other}"),
        Ok(_) => panic!("accepted: {text}"),
    }
}

#[test]
fn a_model_with_every_part() {
    let model = assert_stable(
        r#"# A comment.
<
   ir_version: 10, opset_import: ["" : 21, "my.domain" : 1],
   producer_name: "a \"tool\"", producer_version: "1", domain: "d", model_version: -3,
   doc_string: "back\\slash", metadata_props: ["k": "v", "": ""]
>
"main graph" (float[N, "a b", 3, ?] x, float[] any, float scalar, "quoted/name.1") =>
    (float[N] y, seq(optional(map(int64, float[2]))) s)
<
   float[2] w = {1.0, -2e-3}, # inline
   int64[0] none = {},
   float16[N] t,
   sparse_tensor(float[4]) sp = {float[1] {2.0}, int64[1] idx {3}}
>
{
   [first] t1, , t2 = my.domain.Op:fast <a = 1, b: float = 2, c = [1.5, 2], d: ints = [],
      e = "text", f = ["x", "y"], g = float[2] {3, 4}, h: type_proto = float[N],
      i: tensors = [int8 named {-1}, float {2}], "an attr" = -inf> (x, , w, sp)
   y = "odd domain"."Op|2" (t1, "quoted/name.1", any, scalar, none)
   s = SequenceEmpty () <dtype = 1>
}
<domain: "my.domain", overload: "fast", opset_import: ["" : 21], doc_string: "f">
Op <alpha, beta: float = 2.5> (float[2] p, q) => (r, u) <float[2] mid>
{
   mid = Scale <factor: float = @alpha> (p)
   r, u = Split (mid, q)
}
"#,
    );
    let g = &model.graph;
    assert_eq!(g.name, "main graph");
    assert_eq!(model.opsets, [("".into(), 21), ("my.domain".into(), 1)]);
    assert_eq!((model.model_version, model.metadata.len()), (Some(-3), 2));
    let x = g.value(g.inputs()[0]);
    assert_eq!(x.ty.as_ref().map(Type::to_string).as_deref(), Some("float[N,a b,3,?]"));
    assert_eq!(g.value(g.inputs()[1]).shape(), None);
    assert_eq!(g.value(g.inputs()[2]).rank(), Some(0));
    let op = g.ops().find(|op| g.op(*op).name == "first").expect("node");
    let attrs = |name| g.op(op).attr(name);
    assert_eq!((g.op(op).arity(), g.op(op).result_count()), (4, 3));
    assert_eq!(attrs("b"), Some(&AttrValue::Float(2.0)));
    assert_eq!(attrs("c"), Some(&AttrValue::Floats(vec![1.5, 2.0])));
    assert_eq!(attrs("d"), Some(&AttrValue::Ints(vec![])));
    assert_eq!(attrs("an attr"), Some(&AttrValue::Float(f32::NEG_INFINITY)));
    assert!(matches!(attrs("i"), Some(AttrValue::Tensors(t)) if t.len() == 2));
    let f = &model.functions[0];
    assert_eq!((f.attr_names.len(), f.attr_defaults.len(), f.overload.as_str()), (1, 1, "fast"));
    assert!(model.function(g.op(op)).is_some());
}

#[test]
fn subgraphs_capture_outer_values() {
    let model = assert_stable(
        "<ir_version: 8, opset_import: [\"\" : 17]>
        g (bool c, float[2] x) => (float[2] y) {
          y = If <then_branch = t () => (float[2] a) {
                    a = If <then_branch = tt () => (float[2] b) { b = Neg (x) },
                            else_branch = \"t e\" () => (float[2] b) { b = Abs (x) }> (c)
                  },
                  else_branch = e () => (float[2] z) <float[2] k = {1, 2}> { z = Add (x, k) }> (c)
        }",
    );
    let g = &model.graph;
    let op = g.ops().next().expect("one node");
    assert_eq!(g.captures(op).len(), 3);
    assert_eq!(g.op(op).body("else_branch").map(|b| b.name.as_str()), Some("e"));
}

#[test]
fn elements_of_every_type() {
    for dtype in DType::all() {
        let list = match dtype {
            DType::Str => r#""a", "q\"\\", "\xff""#,
            DType::Bool => "1, 0, 1",
            DType::C64 | DType::C128 => "1.0, -0.0, inf, nan, -inf, 0.1",
            DType::F32 => "1e-45, 3.4028235e38, -0.0",
            DType::F64 => "5e-324, 0.1, -nan",
            DType::I2 => "1, -2, -1",
            DType::I4 => "7, -8, -1",
            DType::I8 => "127, -128, -1",
            DType::I64 => "9223372036854775807, -9223372036854775808, 0",
            DType::U64 => "18446744073709551615, 0, 1",
            DType::U2 => "3, 0, 1",
            _ if dtype.bits() == 4 => "15, 0, 9",
            _ if dtype.bits() == 6 => "63, 0, 33",
            _ => "100, 0, 37",
        };
        let text = format!("g () => ({dtype}[3] w) <{dtype}[3] w = {{{list}}}> {{\n}}");
        let model = assert_stable(&text);
        let printed = full(&model);
        assert!(printed.contains(&format!("{{{list}}}")), "{dtype}: {printed}");
    }
}

#[test]
fn half_floats_take_values_or_bits() {
    let m = parse("g () => () <float16[2] a = {1.5, 15872}, bfloat16[1] b = {-2.0}> {}");
    let data = |name| {
        let v = m.graph.find_value(name).and_then(|v| m.graph.initializer(v).cloned());
        v.and_then(|t| t.to_f32()).expect("floats")
    };
    assert_eq!((data("a"), data("b")), (vec![1.5, 1.5], vec![-2.0]));
}

#[test]
fn elided_elements_print_but_do_not_parse() {
    let m = parse("g () => () <float[4] w = {1, 2, 3, 4}, int64[2] s = {5, 6}> {}");
    let options = PrintOptions { max_elements: Some(2), ..Default::default() };
    let text = text::print(&m, &options);
    assert!(text.contains("float[4] w = {1.0, 2.0, ...}"), "{text}");
    assert!(text.contains("int64[2] s = {5, 6}"), "{text}");
    assert!(error(&text).1.contains("left out"));
}

#[test]
fn errors_name_line_and_cause() {
    for (text, line, what) in [
        ("", 1, "expected the name of a graph, but the text ends"),
        ("g (x) =>\n (y) {\n y = Op (x\n}", 4, "expected `)`, found `}`"),
        ("<ir_version: 8,\n colour: 1> g", 2, "a model has no `colour`"),
        ("g (flaot[2] x) => (y) {}", 1, "expected `,` or `)`, found `[2] x) => (y) {}`"),
        ("g () => ()\n<float[2] w = {1}> {}", 2, "tensor \"w\" has 1 elements, not 2"),
        ("g () => () <int8[1] w = {200}> {}", 1, "200 does not fit int8"),
        ("g () => () <float[N] w = {1}> {}", 1, "tensor \"w\" needs sizes that are numbers"),
        ("g () => () <float[1] w = {1e99}> {}", 1, "1e99 is no number of this type"),
        ("g () => () { y = Op <a = []> () }", 1, "an empty list needs its type"),
        ("g () => () { y = Op <a: int = 1.5> () }", 1, "a value of type float, not int"),
        ("g () => () { y = Op <s = \"open> () }", 1, "a string is not closed"),
        ("g () => () <float[99999999999,99999999999] w = {}> {}", 1, "is too large"),
    ] {
        let (at, found) = error(text);
        assert!(at == line && found.contains(what), "{text}\nline {at}: {found}");
    }
    let deep = "g (".to_owned() + &"seq(".repeat(100_000);
    assert!(error(&deep).1.contains("nested too deeply"));
}

#[test]
fn the_model_must_still_be_valid() {
    let text = "g (x) => (y) {\n y = Add (x, gone)\n}";
    assert!(
        matches!(text::parse(text), Err(LoadError::UnknownInput { name, .. }) if name == "gone")
    );
}

#[test]
fn one_can_print_some_nodes() {
    let m = parse(
        r#"g (x, c) => (z) {
          ["a/1"] y = Relu (x)
          ["b/1"] z = If (c) <t = s () => (q) { ["a/2"] q = Neg (y) }>
        }"#,
    );
    let pattern = globset::Glob::new("a/*").expect("glob").compile_matcher();
    let text = text::print(&m, &PrintOptions { nodes: Some(pattern), ..Default::default() });
    assert_eq!(text, "[\"a/1\"] y = Relu (x)\n[\"a/2\"] q = Neg (y)\n");
}

#[test]
fn fixtures_can_be_filled() {
    let text = "# fill: w seed=7\n# fill: b seed=1 min=2 max=3\n# fill: n seed=3
        g (float[4,2] x) => (float[4,2] y) <float[2,2] w, float[2] b, int8 n> {
          m = MatMul (x, w)\n y = Add (m, b)\n k = Neg (n)
        }";
    let m = parse_fixture(text).expect("fixture");
    let data = |name: &str| {
        let v = m.graph.find_value(name).expect("value");
        m.graph.const_tensor(v).and_then(|t| t.to_f64()).expect("data")
    };
    assert!(data("w").len() == 4 && data("w").iter().all(|v| v.abs() <= 0.71));
    assert!(data("b").iter().all(|v| (2.0..=3.0).contains(v)));
    assert_eq!(data("n").len(), 1);
    assert!(parse_fixture("# fill: q seed=7\ng () => () {}").is_err());
}
