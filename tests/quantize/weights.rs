//! Which linear ops are quantized, and along which axis their weights get scales.

use super::{decision, model, planned};
use lapidary::quantize::{ConvTransposeAxis, Profile, QuantizeOptions};

fn options() -> QuantizeOptions {
    QuantizeOptions::default()
}

#[track_caller]
fn axis(text: &str, o: &QuantizeOptions) -> Option<usize> {
    let m = model(text);
    planned(&m, o).weights[0].axis
}

const CONV: &str = "g (float[n, 16, 8, 8] x, float[32, 16, 3, 3] w) => (float[n, 32, 6, 6] y) {
    y = Conv(x, w)
}";

#[test]
fn w1_conv_along_output_channels() {
    assert_eq!(decision(CONV, &options(), "y"), (true, "W1"));
    assert_eq!(axis(CONV, &options()), Some(0));
}

#[test]
fn w2_conv_transpose_per_tensor_unless_asked() {
    let text = "g (float[n, 16, 8, 8] x, float[16, 32, 2, 2] w) => (float[n, 32, 9, 9] y) {
        y = ConvTranspose(x, w)
    }";
    let with = |convtranspose_axis| QuantizeOptions { convtranspose_axis, ..options() };
    assert_eq!(axis(text, &options()), None);
    assert_eq!(axis(text, &with(ConvTransposeAxis::Input)), Some(0));
    assert_eq!(axis(text, &with(ConvTransposeAxis::Output)), Some(1));
    let grouped =
        text.replace("(x, w)", "<group = 2>(x, w)").replace("[16, 32, 2, 2] w", "[16, 16, 2, 2] w");
    assert_eq!(decision(&grouped, &options(), "y"), (false, "W2"));
    let deep =
        text.replace("8, 8]", "8, 8, 8]").replace("2, 2]", "2, 2, 2]").replace("9, 9]", "9, 9, 9]");
    assert_eq!(decision(&deep, &options(), "y"), (false, "W2"));
}

#[test]
fn w3_gemm_along_output_features() {
    let text = "g (float[n, 32] x, float[32, 64] w) => (float[n, 64] y) { y = Gemm(x, w) }";
    assert_eq!(axis(text, &options()), Some(1));
    let transposed = text.replace("(x, w)", "<transB = 1>(x, w)").replace("[32, 64]", "[64, 32]");
    assert_eq!(axis(&transposed, &options()), Some(0));
}

#[test]
fn w4_matmul_along_the_axis_that_is_not_summed() {
    let right =
        "g (float[n, s, 32] x, float[32, 64] w) => (float[n, s, 64] y) { y = MatMul(x, w) }";
    assert_eq!(axis(right, &options()), Some(1));
    let left = "g (float[n, 32, s] x, float[64, 32] w) => (float[n, 64, s] y) { y = MatMul(w, x) }";
    assert_eq!(axis(left, &options()), Some(0));
    let batched = right.replace("float[32, 64]", "float[1, 32, 64]");
    assert_eq!(axis(&batched, &options()), None);
}

#[test]
fn w5_products_of_activations_stay_float() {
    let text =
        "g (float[n, s, 32] x, float[n, 32, s] z) => (float[n, s, s] y) { y = MatMul(x, z) }";
    assert_eq!(decision(text, &options(), "y"), (false, "W5"));
}

#[test]
fn w6_depthwise_in_eights() {
    let text = |c: usize, k: usize| {
        format!(
            "g (float[n, {c}, 8, 8] x, float[{c}, 1, {k}, {k}] w) => (float[n, {c}, h, h] y) {{ y = Conv<group = {c}>(x, w) }}"
        )
    };
    assert_eq!(decision(&text(24, 3), &options(), "y"), (true, "W1"));
    assert_eq!(decision(&text(12, 3), &options(), "y"), (false, "W6"));
    assert_eq!(decision(&text(24, 1), &options(), "y"), (false, "W6"));
}

#[test]
fn w7_small_ops_stay_float_unless_minimal_or_switched_off() {
    let conv = "g (float[n, 16, 8, 8] x, float[16, 16, 3, 3] w0, float[4, 16, 1, 1] w) => (float[n, 4, 6, 6] y) {
        a = Conv(x, w0)
        y = Conv(a, w)
    }";
    let square = conv.replace("float[4, ", "float[12, ").replace("[n, 4,", "[n, 12,");
    assert_eq!(decision(conv, &options(), "y"), (true, "W1"), "16 inputs, square, in eights");
    assert_eq!(decision(&square, &options(), "y"), (true, "W1"));
    let narrow = conv
        .replace("float[4, 16, 1, 1]", "float[4, 16, 1, 3]")
        .replace("[n, 4, 6, 6]", "[n, 4, 6, 4]");
    assert_eq!(decision(&narrow, &options(), "y"), (false, "W7"));
    let off = QuantizeOptions { rules: vec!["-W7".into()], ..options() };
    assert_eq!(decision(&narrow, &off, "y"), (true, "W1"));
    let minimal = QuantizeOptions { profile: Profile::Minimal, ..options() };
    assert_eq!(decision(&narrow, &minimal, "y"), (true, "W1"));
    let first = "g (float[n, 3, 8, 8] x, float[32, 3, 3, 3] w) => (float[n, 32, 6, 6] y) { y = Conv(x, w) }";
    assert_eq!(decision(first, &options(), "y"), (true, "W1"));
    let classes = "g (float[n, 64] x, float[64, 10] w) => (float[n, 10] y) { y = Gemm(x, w) }";
    assert_eq!(decision(classes, &options(), "y"), (false, "W7"));
    let vector = "g (float[1, 64] x, float[64, 64] w) => (float[1, 64] y) { y = Gemm(x, w) }";
    assert_eq!(decision(vector, &options(), "y"), (false, "W7"));
}

#[test]
fn n13_first_and_last_on_request() {
    let text = "g (float[n, 16, 8, 8] x, float[16, 16, 3, 3] w0, float[16, 16, 3, 3] w1, float[16, 16, 3, 3] w2) => (float[n, 16, 2, 2] y) {
        a = Conv(x, w0)
        b = Conv(a, w1)
        y = Conv(b, w2)
    }";
    let ends = QuantizeOptions { skip_first: 1, skip_last: 1, ..options() };
    assert_eq!(decision(text, &ends, "a"), (false, "N13"));
    assert_eq!(decision(text, &ends, "b"), (true, "W1"));
    assert_eq!(decision(text, &ends, "y"), (false, "N13"));
    assert_eq!(decision(text, &options(), "y"), (true, "W1"));
}

#[test]
fn n13_heads_are_no_layers_behind_a_residual_branch() {
    let text = "g (float[n, s, 32] x, float[32, 32] w0, float[32, 64] w1, float[64, 32] w2, float[32] wg) => (float[n, s, 32] y) {
        a = MatMul(x, w0)
        b = Relu(a)
        c = MatMul(b, w1)
        d = Relu(c)
        e = MatMul(d, w2)
        f = Add(e, b)
        y = LayerNormalization(f, wg)
    }";
    let o = QuantizeOptions { skip_head: true, ..options() };
    assert_eq!(decision(text, &o, "e"), (false, "N13"));
    assert_eq!(decision(text, &o, "c"), (true, "W4"));
    assert_eq!(decision(text, &o, "a"), (true, "W4"), "only the shortcut leads around");
}

#[test]
fn patterns_match_names_and_types() {
    let text = "g (float[n, 16, 8, 8] x, float[16, 16, 3, 3] w0, float[8, 16] w1) => (float[n, 16, 6, 6] y) {
        [\"head/conv\"] y = Conv(x, w0)
    }";
    let with = |include: &[&str], exclude: &[&str]| {
        let list = |l: &[&str]| l.iter().map(|s| (*s).to_owned()).collect();
        QuantizeOptions { include: list(include), exclude: list(exclude), ..options() }
    };
    assert_eq!(decision(text, &with(&[], &["head/*"]), "y"), (false, "user"));
    assert_eq!(decision(text, &with(&[], &["Conv"]), "y"), (false, "user"));
    assert_eq!(decision(text, &with(&["Gemm"], &[]), "y"), (false, "user"));
    assert_eq!(decision(text, &with(&["Gemm", "*conv"], &["tail*"]), "y"), (true, "W1"));
    let m = model(text);
    assert!(lapidary::quantize::plan(&m.graph, &with(&["["], &[])).is_err());
    let unknown = QuantizeOptions { rules: vec!["-N99".into()], ..options() };
    assert!(lapidary::quantize::plan(&m.graph, &unknown).unwrap_err().to_string().contains("W7"));
}

#[test]
fn n17_computed_weights_stay_float() {
    let text = "g (float[n, 16, 8, 8] x, float[32, 16, 3, 3] w) => (float[n, 32, 6, 6] y) {
        a = Tanh(w)
        y = Conv(x, a)
    }";
    assert_eq!(decision(text, &options(), "y"), (false, "N17"));
}

#[test]
fn n16_weights_of_subgraphs_and_outputs_stay_float() {
    let text = "g (float[n, 32] x, bool c, float[32, 32] w) => (float[n, 32] y, float[32, 32] z) {
        y = MatMul(x, w)
        z = If(c) <then_branch = t () => (float[32, 32] a) { a = Identity(w) },
                   else_branch = e () => (float[32, 32] b) { b = Neg(w) }>
    }";
    let text =
        text.replace("z = If(c) <then", "z = If <then").replace("Neg(w) }>", "Neg(w) }> (c)");
    assert_eq!(decision(&text, &options(), "y"), (false, "N16"));
}

#[test]
fn l9_only_float32() {
    let text = CONV.replace("float[", "float16[");
    assert_eq!(decision(&text, &options(), "y"), (false, "L9"));
}

#[test]
fn l16_shape_arithmetic_is_not_data() {
    let text = "g (float[n, 32] x, float[2, 32] w) => (float[32] y) {
        s = Shape(x)
        f = Cast<to = 1>(s)
        y = MatMul(f, w)
    }";
    assert_eq!(decision(text, &options(), "y"), (false, "L16"));
}
