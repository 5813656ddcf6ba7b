use super::*;
use crate::onnx;

fn stripped(text: &str) -> (Model, Stripped) {
    let mut m = onnx::text::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let found = strip(&mut m);
    m.graph.check().expect("invariants hold");
    (m, found)
}

fn ops(m: &Model) -> Vec<String> {
    m.graph.order().into_iter().map(|op| m.graph.op(op).op_type.clone()).collect()
}

fn constant(m: &Model, name: &str) -> Vec<f32> {
    let v = m.graph.find_value(name).unwrap_or_else(|| panic!("{name}"));
    m.graph.const_tensor(v).and_then(Tensor::to_f32).expect("float constant")
}

#[test]
fn pairs_go_and_weights_become_float() {
    let (m, found) = stripped(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] y)
        <float s = {0.1}, uint8 z = {128}, int8[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2] ws = {0.5, 0.25}, int8[2] wz = {0, 0},
         int32[2] b = {10, 20}, float[2] bs = {0.05, 0.025}, int32[2] bz = {0, 0}>
        {
            q = QuantizeLinear(x, s, z)
            r = Transpose<perm = [0, 1, 3, 2]>(q)
            d = DequantizeLinear(r, s, z)
            wd = DequantizeLinear<axis = 0>(w, ws, wz)
            bd = DequantizeLinear<axis = 0>(b, bs, bz)
            c = Conv(d, wd, bd)
            q2 = QuantizeLinear(c, s, z)
            y = DequantizeLinear(q2, s, z)
        }"#,
    );
    assert_eq!(ops(&m), ["Transpose", "Conv", "Identity"]);
    assert_eq!(constant(&m, "wd"), [0.5, 1.0, 0.75, 1.0]);
    assert_eq!(constant(&m, "bd"), [0.5, 0.5]);
    let x = m.graph.find_value("x").expect("x");
    assert!((found.ranges[&x] - 12.8).abs() < 1e-6);
}

#[test]
fn quantized_operators_become_float() {
    let (m, found) = stripped(
        r#"<ir_version: 8, opset_import: ["" : 17, "com.microsoft" : 1]>
        g (float[1, 2, 4, 4] x) => (float[1, 2, 1, 1] y)
        <float s = {0.1}, uint8 z = {0}, uint8[2, 2, 1, 1] w = {129, 130, 131, 132}, float[1] ws = {0.5}, uint8[1] wz = {128}, int32[2] b = {10, 20}>
        {
            q = QuantizeLinear(x, s, z)
            c = QLinearConv<kernel_shape = [1, 1]>(q, s, z, w, ws, wz, s, z, b)
            a = com.microsoft.QLinearAdd(c, s, z, c, s, z, s, z)
            p = com.microsoft.QLinearGlobalAveragePool<channels_last = 0>(a, s, z, s, z)
            y = DequantizeLinear(p, s, z)
        }"#,
    );
    let want = ["Clip", "Conv", "Clip", "Add", "Clip", "GlobalAveragePool", "Clip", "Identity"];
    assert_eq!(ops(&m), want);
    assert_eq!(constant(&m, "w_float"), [0.5, 1.0, 1.5, 2.0]);
    assert_eq!(constant(&m, "b_float"), [0.5, 1.0]);
    assert_eq!(found.ranges.len(), 5);
    assert!(found.ranges.values().all(|r| (r - 25.5).abs() < 1e-5));
}

#[test]
fn dynamic_quantization_becomes_a_product() {
    let (m, _) = stripped(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        g (float[3, 2] x) => (float[3, 2] y)
        <int8[2, 2] w = {1, 2, 3, 4}, float[2] ws = {0.5, 0.25}>
        {
            q, s, z = DynamicQuantizeLinear(x)
            i = MatMulInteger(q, w, z)
            f = Cast<to = 1>(i)
            t = Mul(s, ws)
            y = Mul(f, t)
        }"#,
    );
    assert_eq!(ops(&m), ["MatMul"]);
    assert_eq!(constant(&m, "w_float"), [0.5, 0.5, 1.5, 1.0]);
}

#[test]
fn a_range_from_zero_stands_for_the_relu_that_it_replaced() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
        g (float[4] x) => (float[4] y) <float s = {0.1}, uint8 z = {0}>
        {
            a = Neg(x)
            q = QuantizeLinear(a, s, z)
            y = DequantizeLinear(q, s, z)
        }"#;
    let (m, found) = stripped(text);
    assert_eq!(ops(&m), ["Neg", "Clip", "Identity"]);
    assert_eq!(constant(&m, "a_min"), [0.0]);
    assert!((constant(&m, "a_max")[0] - 25.5).abs() < 1e-5);
    let limited = m.graph.find_value("a_limited").expect("limited");
    assert!((found.ranges[&limited] - 25.5).abs() < 1e-5);
    let positive = text.replace("Neg(x)", "Relu(x)");
    assert_eq!(ops(&stripped(&positive).0), ["Relu", "Identity"]);
    let signed = text.replace("uint8 z = {0}", "int8 z = {0}");
    assert_eq!(ops(&stripped(&signed).0), ["Neg", "Identity"]);
}

#[test]
fn what_is_not_understood_stays() {
    let text = r#"<ir_version: 8, opset_import: ["" : 17]>
        g (float[4] x, float s) => (uint8[4] y, float[4] t) <uint8 z = {0}, float k = {0.1}>
        {
            y = QuantizeLinear(x, k, z)
            q = QuantizeLinear(x, s, z)
            n = Cast<to = 7>(q)
            t = Cast<to = 1>(n)
        }"#;
    assert_eq!(ops(&stripped(text).0).len(), 4);
}

#[test]
fn blocks_are_dequantized_along_their_axis() {
    let (m, _) = stripped(
        r#"<ir_version: 10, opset_import: ["" : 21]>
        g (float[1, 4] x) => (float[1, 2] y)
        <int4[4, 2] w = {1, 2, 3, 4, 5, 6, 7, -8}, float[2, 2] ws = {1, 10, 100, 1000}, int4[2, 2] wz = {0, 0, 0, 0}>
        {
            wd = DequantizeLinear<axis = 0, block_size = 2>(w, ws, wz)
            y = MatMul(x, wd)
        }"#,
    );
    assert_eq!(constant(&m, "wd"), [1.0, 20.0, 3.0, 40.0, 500.0, 6000.0, 700.0, -8000.0]);
}

#[test]
fn moved_codes_keep_their_range() {
    let (m, found) = stripped(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 4, 4, 4] x) => (float[1, 16] y, int64[1, 1, 2, 2] k)
        <float s = {0.1}, uint8 z = {10}, float[4] up = {1, 1, 0.5, 0.5}, int64[8] pads = {0,0,0,0, 0,0,0,0}, uint8 v = {10}, int64[1] i = {0}>
        {
            q = QuantizeLinear(x, s, z)
            r = Resize<mode = "nearest">(q, , up)
            p = Pad(r, pads, v)
            a, b = Split<axis = 1>(p)
            c = Concat<axis = 1>(a, b)
            f = Flatten(c)
            y = DequantizeLinear(f, s, z)
            k = ArgMax<axis = 1>(p)
        }"#,
    );
    let want = ["Resize", "Pad", "Split", "ArgMax", "Concat", "Flatten", "Identity"];
    let mut made = ops(&m);
    made.sort();
    assert_eq!(made, {
        let mut w = want.to_vec();
        w.sort_unstable();
        w
    });
    assert_eq!(constant(&m, "r_pad"), [0.0]);
    for name in ["x", "a_float", "c_float", "f_float"] {
        let v = m.graph.find_value(name).unwrap_or_else(|| panic!("{name}"));
        assert!((found.ranges[&v] - 24.5).abs() < 1e-5, "{name}");
    }
}

#[test]
fn ranges_pass_flatten_in_float_too() {
    let (m, found) = stripped(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        g (float[1, 2, 2] x) => (float[1, 4] y) <float s = {0.5}, int8 z = {0}>
        {
            q = QuantizeLinear(x, s, z)
            d = DequantizeLinear(q, s, z)
            f = Flatten(d)
            t = Relu(f)
            y = Neg(t)
        }"#,
    );
    let range = |name| found.ranges[&m.graph.find_value(name).expect("a value")];
    assert_eq!((range("x"), range("f"), range("t")), (63.5, 63.5, 63.5));
}

#[test]
fn a_gather_from_stored_codes_reads_a_float_table() {
    let (m, _) = stripped(
        r#"<ir_version: 8, opset_import: ["" : 17]>
        g (int64[2] i) => (float[2, 2] y) <uint8[2, 2] t = {1, 2, 3, 4}, float s = {0.5}, uint8 z = {1}>
        {
            r = Gather(t, i)
            y = DequantizeLinear(r, s, z)
        }"#,
    );
    assert_eq!(ops(&m), ["Gather"]);
    assert_eq!(constant(&m, "t_float"), [0.0, 0.5, 1.0, 1.5]);
}
