//! N3 and N5: additions of two activations.

use super::{expect, model, operands, planned};
use lapidary::quantize::QuantizeOptions;

fn graph(body: &str) -> String {
    let w: String = (0..4).map(|i| format!(", float[16, 16, 3, 3] w{i}")).collect();
    format!("g (float[n, 16, 8, 8] x{w}) => (float[n, 16, 8, 8] y) {{\n{body}}}")
}

fn conv(result: &str, input: &str, weight: &str) -> String {
    format!("{result} = Conv<pads = [1, 1, 1, 1]>({input}, {weight})\n")
}

/// `a` is the activation that the block starts from.
fn stem() -> String {
    conv("s", "x", "w0") + "a = Relu(s)\n"
}

#[test]
fn identity_shortcut_gets_the_pair() {
    let block = stem() + &conv("b", "a", "w1") + "c = Relu(b)\n" + &conv("d", "c", "w2");
    expect(&graph(&(block.clone() + "e = Add(d, a)\ny = Relu(e)\n")), "e", "-q");
    expect(&graph(&(block + "e = Add(a, d)\ny = Relu(e)\n")), "e", "q-");
}

#[test]
fn the_shorter_of_two_branches_is_the_shortcut() {
    let block = stem()
        + &conv("b", "a", "w1")
        + "c = Relu(b)\n"
        + &conv("d", "c", "w2")
        + &conv("f", "a", "w3");
    expect(&graph(&(block.clone() + "e = Add(d, f)\ny = Relu(e)\n")), "e", "-q");
    expect(&graph(&(block + "e = Add(f, d)\ny = Relu(e)\n")), "e", "q-");
}

#[test]
fn the_branch_may_end_in_an_activation() {
    let block = stem() + &conv("b", "a", "w1") + "c = Sigmoid(b)\nd = Mul(b, c)\ny = Add(a, d)\n";
    expect(&graph(&block), "y", "q-");
}

#[test]
fn a_branch_that_others_read_does_not_fuse() {
    let block = stem() + &conv("b", "a", "w1") + "e = Add(a, b)\nt = Tanh(b)\ny = Sub(e, t)\n";
    let m = model(&graph(&block));
    let o = QuantizeOptions { rules: vec!["-N4".into()], ..QuantizeOptions::default() };
    assert_eq!(operands(&m, &planned(&m, &o), "e"), "--");
}

#[test]
fn conv_transpose_is_a_branch_too() {
    let text = "g (float[n, 16, 8, 8] x, float[16, 16, 2, 2] w0, float[16, 16, 1, 1] w1, float[16, 16, 2, 2] w2) => (float[n, 16, 16, 16] y) {
        a = ConvTranspose<strides = [2, 2]>(x, w0)
        b = Conv(x, w1)
        c = Relu(b)
        d = ConvTranspose<strides = [2, 2]>(c, w2)
        e = Add(a, d)
        y = Relu(e)
    }";
    let m = model(text);
    let read = operands(&m, &planned(&m, &QuantizeOptions::default()), "e");
    assert_eq!(read.matches('q').count(), 1, "{read}");
    expect(text, "e", "q-");
}

#[test]
fn neither_broadcasts_nor_inputs_nor_float_branches_count() {
    let pooled = stem() + &conv("b", "a", "w1") + "p = GlobalAveragePool(a)\ny = Add(b, p)\n";
    expect(&graph(&pooled), "y", "--");
    let input = conv("b", "x", "w1") + "t = Tanh(b)\ny = Add(t, u)\n";
    expect(&graph(&input).replace("g (", "g (float[n, 16, 8, 8] u, "), "y", "--");
    let text = graph(&(stem() + &conv("b", "a", "w1") + "y = Add(a, b)\n"));
    let m = model(&text);
    let exclude = QuantizeOptions { exclude: vec!["Conv".into()], ..QuantizeOptions::default() };
    assert_eq!(operands(&m, &planned(&m, &exclude), "y"), "--");
}

#[test]
fn n5_no_residual_pairs_in_networks_with_layer_norm() {
    let block = |norm: &str| {
        let body = stem() + &conv("b", "a", "w1") + "e = Add(a, b)\n" + norm;
        graph(&body).replace("g (", "g (float[8] wg, float[1] wtwo, float[1] weps, ")
    };
    expect(&block("y = Relu(e)\n"), "e", "q-");
    expect(&block("y = LayerNormalization(e, wg)\n"), "e", "--");
    let by_hand = "m = ReduceMean<axes = [-1]>(e)\nd = Sub(e, m)\np = Pow(d, wtwo)\n\
        v = ReduceMean<axes = [-1]>(p)\nve = Add(v, weps)\nr = Sqrt(ve)\ny = Div(d, r)\n";
    expect(&block(by_hand), "e", "--");
}
