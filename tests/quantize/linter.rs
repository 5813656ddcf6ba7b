//! The legality linter finds planted defects and nothing in a sound model.

use lapidary::onnx;
use lapidary::target::tensorrt::check_qdq;

/// Conv with an INT8 weight and a pair on its input, all by the rules.
const SOUND: &str = r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[n, 2, 4, 4] x) => (float[n, 2, 4, 4] y)
<float s = {0.1}, int8 z = {0}, int8[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2] ws = {0.1, 0.2}, int8[2] wz = {0, 0}, float[2] b = {0, 0}>
{
    q = QuantizeLinear<axis = 0>(x, s, z)
    d = DequantizeLinear<axis = 0>(q, s, z)
    wd = DequantizeLinear<axis = 0>(w, ws, wz)
    y = Conv(d, wd, b)
}"#;

#[track_caller]
fn found(text: &str) -> Vec<&'static str> {
    let mut m = onnx::text::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let opset = m.default_opset();
    lapidary::pass::infer_graph(&mut m.graph, opset, &mut |_, _| {});
    let findings = check_qdq(&m);
    assert!(findings.iter().all(|f| !f.node.is_empty() && !f.why.is_empty() && !f.fix.is_empty()));
    let mut ids: Vec<&str> = findings.into_iter().map(|f| f.id).collect();
    ids.dedup();
    ids
}

#[track_caller]
fn planted(from: &str, to: &str, want: &[&str]) {
    assert!(SOUND.contains(from), "{from}");
    assert_eq!(found(&SOUND.replace(from, to)), want, "{from} -> {to}");
}

#[test]
fn a_sound_model_passes() {
    assert!(found(SOUND).is_empty());
    assert!(
        found(&SOUND.replace("int8[2] wz = {0, 0}, ", "").replace(", ws, wz)", ", ws)")).is_empty()
    );
}

#[test]
fn l1_l2_zero_points() {
    planted("int8 z = {0}", "int8 z = {3}", &["L1"]);
    planted("int8[2] wz = {0, 0}", "int8[2] wz = {0, 1}", &["L1"]);
    planted("int8 z = {0}", "uint8 z = {0}", &["L2"]);
    let computed = SOUND.replace("int8 z = {0}, ", "").replace("x)", "x, int8 z)");
    assert_eq!(found(&computed), ["L1"]);
}

#[test]
fn l5_scales() {
    planted("float s = {0.1}", "float s = {0}", &["L5"]);
    planted("ws = {0.1, 0.2}", "ws = {0.1, -0.2}", &["L5"]);
    let computed = SOUND.replace("float s = {0.1}, ", "").replace("x)", "x, float s)");
    assert_eq!(found(&computed), ["L5"]);
}

#[test]
fn l6_sizes() {
    planted("float[2] ws = {0.1, 0.2}", "float[3] ws = {0.1, 0.2, 0.3}", &["L6"]);
    planted("int8[2] wz = {0, 0}", "int8[1] wz = {0}", &["L6"]);
    planted("float[n, 2, 4, 4] x", "float x", &["L6"]);
}

#[test]
fn l7_l8_axes() {
    planted("(x, s, z)", "(x, ws, wz)", &["L7", "L16"]);
    planted("wd = DequantizeLinear<axis = 0>", "wd = DequantizeLinear", &["L8"]);
    planted("wd = DequantizeLinear<axis = 0>", "wd = DequantizeLinear<axis = -4>", &["L8"]);
    planted("wd = DequantizeLinear<axis = 0>", "wd = DequantizeLinear<axis = 4>", &["L8"]);
}

#[test]
fn l9_l10_types_and_operator_sets() {
    planted("\"\" : 17", "\"\" : 12", &["L10"]);
    let half = SOUND.replace("float s = {0.1}", "float16 s = {0.1}");
    assert_eq!(found(&half), ["L10", "L9", "L10"]);
    let half = half
        .replace("\"\" : 17", "\"\" : 19")
        .replace("float[n, 2, 4, 4] x", "float16[n, 2, 4, 4] x");
    assert!(found(&half).is_empty());
    let int4 = SOUND
        .replace("int8[2, 2, 1, 1] w", "int4[2, 2, 1, 1] w")
        .replace("int8[2] wz", "int4[2] wz");
    assert_eq!(found(&int4), ["L10"]);
    assert!(found(&int4.replace("\"\" : 17", "\"\" : 21")).is_empty());
}

#[test]
fn l11_l12_int32_and_integer_operators() {
    let bias = SOUND
        .replace("float[2] b = {0, 0}", "int32[2] bi = {0, 0}, int32[2] bz = {0, 0}")
        .replace("    y =", "    b = DequantizeLinear<axis = 0>(bi, ws, bz)\n    y =");
    assert_eq!(found(&bias), ["L11"]);
    let dynamic = SOUND.replace("    q =", "    u, us, uz = DynamicQuantizeLinear(x)\n    q =");
    assert_eq!(found(&dynamic), ["L12"]);
}

#[test]
fn l14_l15_attributes_and_byte_inputs() {
    planted("q = QuantizeLinear<axis = 0>", "q = QuantizeLinear<axis = 0, saturate = 0>", &["L14"]);
    let bytes = SOUND
        .replace("g (", "g (uint8[n] u, ")
        .replace("(float[n, 2, 4, 4] y)", "(float[n, 2, 4, 4] y, uint8[n] v)");
    let text = bytes.replace("    q =", "    v = Identity(u)\n    q =");
    assert_eq!(found(&text), ["L15"]);
    let cast = bytes
        .replace("uint8[n] v", "float[n] v")
        .replace("    q =", "    v = Cast<to = 1>(u)\n    q =");
    assert!(found(&cast).is_empty());
}

#[test]
fn l16_n19_shape_tensors_and_loose_ends() {
    let shape = SOUND.replace("    q =", "    sh = Shape(x)\n    sf = Cast<to = 1>(sh)\n    sq = QuantizeLinear<axis = 0>(sf, s, z)\n    sd = DequantizeLinear<axis = 0>(sq, s, z)\n    t = Tanh(sd)\n    q =");
    assert_eq!(found(&shape), ["L16"]);
    let loose = SOUND.replace("    y =", "    q2 = QuantizeLinear<axis = 0>(d, s, z)\n    y =");
    assert_eq!(found(&loose), ["N19"]);
    let unread = SOUND.replace("    y =", "    d2 = DequantizeLinear<axis = 0>(q, s, z)\n    y =");
    assert_eq!(found(&unread), ["N19"]);
}

#[test]
fn subgraphs_are_checked() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
    g (bool c, float[4] x) => (float[4] y) <float s = {0.1}, int8 z = {1}> {
        y = If <then_branch = t () => (float[4] a) {
            q = QuantizeLinear(x, s, z)
            a = DequantizeLinear(q, s, z)
        }, else_branch = e () => (float[4] b) { b = Neg(x) }> (c)
    }"#;
    assert_eq!(found(text), ["L1"]);
}
