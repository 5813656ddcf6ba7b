//! Conversion to 16-bit floats: islands, casts, special operands, subgraphs.

use lapidary::engine::TractEngine;
use lapidary::ir::{DType, Model, Tensor, count_nodes};
use lapidary::precision::{Observation, PrecisionOptions, PrecisionReport, convert};
use lapidary::{data, onnx};

fn converted(text: &str, o: &PrecisionOptions, samples: usize) -> (Model, PrecisionReport) {
    let text = format!("<ir_version: 8, opset_import: [\"\" : 17]>\n{text}");
    let mut m = onnx::text::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let options = data::DataOptions { random: Some(samples), ..Default::default() };
    let source = data::open(&options, &m, 0).unwrap();
    let observation =
        Observation { engine: &TractEngine, data: source.as_ref(), progress: &|_| {} };
    let report = convert(&mut m, o, (samples > 0).then_some(&observation)).unwrap();
    m.graph.check().unwrap();
    (m, report)
}

fn fp16() -> PrecisionOptions {
    PrecisionOptions { fp16: true, ..PrecisionOptions::default() }
}

fn dtype(m: &Model, name: &str) -> Option<DType> {
    m.graph.value(m.graph.find_value(name).unwrap_or_else(|| panic!("{name}"))).dtype()
}

/// Operators of the main graph in order.
fn ops(m: &Model) -> Vec<String> {
    m.graph.order().into_iter().map(|op| m.graph.op(op).op_type.clone()).collect()
}

const CHAIN: &str = "g (float[2, 4] x) => (float[2, 4] y)
<float[4, 4] w = {1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}, float[4] b = {0.5, 0.5, 0.5, 0.5}> {
    a = MatMul(x, w)
    c = Add(a, b)
    d = Relu(c)
    y = MatMul(d, w)
}";

#[test]
fn inputs_and_outputs_stay_float_and_one_cast_stands_at_each_end() {
    let (m, report) = converted(CHAIN, &fp16(), 2);
    assert_eq!(ops(&m), ["Cast", "MatMul", "Add", "Relu", "MatMul", "Cast"]);
    assert_eq!((dtype(&m, "x"), dtype(&m, "y")), (Some(DType::F32), Some(DType::F32)));
    assert_eq!((dtype(&m, "w"), dtype(&m, "d")), (Some(DType::F16), Some(DType::F16)));
    assert_eq!((report.converted, report.casts, report.constants), (4, 2, 2));
    assert!(report.kept.is_empty());
}

#[test]
fn io_types_leave_no_cast() {
    let (m, _) = converted(CHAIN, &PrecisionOptions { io_types: true, ..fp16() }, 2);
    assert_eq!(ops(&m), ["MatMul", "Add", "Relu", "MatMul"]);
    assert_eq!((dtype(&m, "x"), dtype(&m, "y")), (Some(DType::F16), Some(DType::F16)));
}

#[test]
fn bfloat16_raises_the_operator_set_only_where_it_must() {
    let bf16 = PrecisionOptions { bf16: true, ..PrecisionOptions::default() };
    let (m, report) = converted(CHAIN, &bf16, 0);
    assert_eq!((m.default_opset(), report.raised_to), (17, None));
    assert_eq!(dtype(&m, "d"), Some(DType::BF16));
    let conv = "g (float[1, 2, 4, 4] x) => (float[1, 1, 4, 4] y) <float[1, 2, 1, 1] w = {1, 2}> {
        y = Conv(x, w) }";
    let (m, report) = converted(conv, &bf16, 0);
    assert_eq!((m.default_opset(), report.raised_to), (22, Some(22)));
    assert_eq!(report.converted, 1);
}

#[test]
fn large_activations_and_weights_stay_in_float32() {
    let large = CHAIN.replace("float[4] b = {0.5,", "float[4] b = {9000.0,");
    let (m, report) = converted(&large, &fp16(), 2);
    let kept: Vec<&str> = report.kept.iter().map(|k| k.op_type.as_str()).collect();
    assert_eq!(kept, ["Add", "Relu", "MatMul"]);
    assert!(report.kept.iter().all(|k| k.rule == "F2"));
    assert_eq!(dtype(&m, "d"), Some(DType::F32));
    let huge = CHAIN.replace("w = {1,0", "w = {70000,0");
    let (_, report) = converted(&huge, &fp16(), 0);
    assert!(report.kept.iter().any(|k| k.rule == "F6" && k.reason.contains("overflow")));
    let tiny = CHAIN.replace("b = {0.5, 0.5, 0.5, 0.5}", "b = {1e-12, 1e-12, 1e-12, 1e-12}");
    let (_, report) = converted(&tiny, &fp16(), 0);
    assert!(report.kept.iter().any(|k| k.op_type == "Add" && k.rule == "F6"));
}

#[test]
fn masks_are_limited_to_the_range() {
    let text = "g (float[2, 4] x, float[2, 4] keep) => (float[2, 4] y)
    <float[4, 4] w = {1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}, float one = {1}, float low = {-3e38}> {
        s = MatMul(x, w)
        k = Sigmoid(keep)
        n = Sub(one, k)
        big = Mul(n, low)
        t = Add(s, big)
        p = Softmax(t)
        y = MatMul(p, w)
    }";
    let (m, report) = converted(text, &fp16(), 2);
    assert_eq!(report.limited, ["low"]);
    assert_eq!(dtype(&m, "t"), Some(DType::F16), "{:?}", report.kept);
    assert_eq!(dtype(&m, "p"), Some(DType::F16));
}

#[test]
fn scattered_sums_stay_in_float32() {
    let text = "g (float[4, 2] x, int64[4, 2] to) => (float[3, 2] y)
    <float[2, 2] w = {1, 2, 3, 4}, float[3, 2] zero = {0, 0, 0, 0, 0, 0}> {
        a = MatMul(x, w)
        y = ScatterElements<reduction = \"add\">(zero, to, a)
    }";
    let (m, report) = converted(text, &fp16(), 0);
    let kept: Vec<_> = report.kept.iter().map(|k| (k.op_type.as_str(), k.rule)).collect();
    assert_eq!(kept, [("ScatterElements", "F2")]);
    assert_eq!(ops(&m), ["Cast", "MatMul", "Cast", "ScatterElements"]);
    let (_, report) = converted(&text.replace("<reduction = \"add\">", ""), &fp16(), 0);
    assert!(report.kept.is_empty(), "{:?}", report.kept);
}

#[test]
fn special_operands_keep_their_types() {
    let text = "g (float[1, 2, 4, 4] x) => (float[1, 2, 8, 8] y, int64[k, 3] n)
    <float[2, 2, 1, 1] w = {1, 2, 3, 4}, float[4] scales = {1, 1, 2, 2}, float[1, 2, 4] boxes = {0,0,1,1, 0,0,2,2}, int64[3] to = {1, 2, 16}, int64[2] ax = {2, 3}> {
        a = Conv(x, w)
        y = Resize<mode = \"nearest\">(a, , scales)
        r = ReduceMax<keepdims = 0, axes = [2, 3]>(a)
        u = Unsqueeze(r, one)
        s = Transpose<perm = [0, 2, 1]>(u)
        n = NonMaxSuppression(boxes, s)
    }";
    let text = text
        .replace("int64[2] ax = {2, 3}", "int64[1] one = {1}")
        .replace("perm = [0, 2, 1]", "perm = [0, 1, 2]");
    let (m, report) = converted(&text, &fp16(), 0);
    assert_eq!(dtype(&m, "scales"), Some(DType::F32));
    assert_eq!(dtype(&m, "w"), Some(DType::F16));
    assert!(report.kept.iter().any(|k| k.op_type == "NonMaxSuppression" && k.rule == "F1"));
}

#[test]
fn casts_to_integers_stay_exact() {
    let text = "g (float[2, 4] x, float[1] n) => (float[2, 4] y, int64[1] k)
    <float[4, 4] w = {1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}, float two = {2}> {
        y = MatMul(x, w)
        m = Mul(n, two)
        f = Floor(m)
        k = Cast<to = 7>(f)
    }";
    let (m, report) = converted(text, &fp16(), 0);
    assert_eq!(dtype(&m, "f"), Some(DType::F32));
    assert_eq!(report.kept.len(), 3);
}

#[test]
fn light_ops_between_float_ops_are_left_alone() {
    let text = "g (float[2, 4] x) => (float[2, 4] y) { a = Neg(x) y = Relu(a) }";
    let (m, report) = converted(text, &fp16(), 2);
    assert_eq!(count_nodes(&m.graph), 2);
    assert!(report.kept.iter().all(|k| k.rule == "F7"));
}

#[test]
fn subgraphs_are_converted_inside() {
    let text = "g (bool c, float[2, 4] x) => (float[2, 4] y)
    <float[4, 4] w = {1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}> {
        h = MatMul(x, w)
        y = If <then_branch = t () => (float[2, 4] a) { a = MatMul(h, w) },
                else_branch = e () => (float[2, 4] b) { b = Relu(h) }> (c)
    }";
    let (m, report) = converted(text, &fp16(), 0);
    let op = m.graph.producer_op(m.graph.find_value("y").unwrap()).unwrap();
    let then = m.graph.op(op).body("then_branch").unwrap();
    let inside: Vec<String> =
        then.order().into_iter().map(|op| then.op(op).op_type.clone()).collect();
    assert_eq!(inside, ["Cast", "MatMul", "Cast"]);
    assert_eq!(then.value(then.outputs()[0]).dtype(), Some(DType::F32));
    assert!(report.kept.iter().any(|k| k.rule == "F4"));
    let bytes = onnx::to_bytes(&m).unwrap().0;
    onnx::from_bytes(bytes, None).unwrap();
}

#[test]
fn quantized_models_get_scales_of_16_bits() {
    let text = "g (float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] y)
    <float s = {0.1}, int8 z = {0}, int8[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2] ws = {0.1, 0.2}, int8[2] wz = {0, 0}>
    {
        q = QuantizeLinear<axis = 0>(x, s, z)
        d = DequantizeLinear<axis = 0>(q, s, z)
        wd = DequantizeLinear<axis = 0>(w, ws, wz)
        y = Conv(d, wd)
    }";
    let (m, report) = converted(text, &fp16(), 0);
    assert_eq!(report.raised_to, Some(19));
    assert_eq!((dtype(&m, "ws"), dtype(&m, "d")), (Some(DType::F16), Some(DType::F16)));
    let target = "tensorrt".parse().unwrap();
    let errors = lapidary::target::check(&m, target)
        .into_iter()
        .filter(|f| f.severity == lapidary::target::Severity::Error);
    assert_eq!(errors.count(), 0);
}

#[test]
fn emulation_rounds_as_the_types_do() {
    use lapidary::engine::Engine;
    let text = "g (float[2, 4] x) => (float[2, 4] y)
    <float[4, 4] w = {1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1}> { y = MatMul(x, w) }";
    let input: Vec<f32> = vec![1.0 / 3.0, 1e-3, 123.456, -7.7, 0.0, 1.0, 2.0, 3.0];
    let feeds = vec![("x".to_owned(), Tensor::of(&[2, 4], &input))];
    let bf16 = PrecisionOptions { bf16: true, ..PrecisionOptions::default() };
    let round = |x: f32, o: &PrecisionOptions| match o.bf16 {
        true => ::half::bf16::from_f32(x).to_f32(),
        false => ::half::f16::from_f32(x).to_f32(),
    };
    for o in [fp16(), bf16] {
        let (m, _) = converted(text, &o, 0);
        let wide = lapidary::precision::emulate(&m).unwrap();
        let session = TractEngine.prepare(&wide, &[]).unwrap();
        let got = session.run(&feeds, &mut |_, _| {}).unwrap()[0].to_f32().unwrap();
        let want: Vec<f32> = input.iter().map(|x| round(*x, &o)).collect();
        assert_eq!(got, want);
    }
}
