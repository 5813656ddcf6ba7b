//! Ways to quantize besides static INT8: FP8, dynamic, weights only, ranges from files, and back.

use lapidary::data::{DataError, Source};
use lapidary::engine::{Engine, Feeds, TractEngine};
use lapidary::ir::{DType, Model, Tensor};
use lapidary::quantize::inverse::strip;
use lapidary::quantize::{
    Method, Payload, Profile, QuantizeError, QuantizeOptions, QuantizeReport, WeightAlgorithm,
    WeightType, apply,
};
use lapidary::target::{Severity, check};

use super::model;

/// Seeded samples for the input `x`, channels of different strength that follow a common factor.
pub(super) struct Rows(pub(super) Vec<usize>);

impl Source for Rows {
    fn len(&self) -> usize {
        16
    }

    fn get(&self, i: usize) -> Result<Feeds, DataError> {
        let mut random = fastrand::Rng::with_seed(i as u64);
        let n: usize = self.0.iter().product();
        let last = *self.0.last().unwrap();
        let mut base = 0.0;
        let mut element = |k: usize| {
            if k.is_multiple_of(last) {
                base = random.f32() - 0.5;
            }
            (base + 0.4 * (random.f32() - 0.5)) * (0.2 + (k % last % 7) as f32)
        };
        let data: Vec<f32> = (0..n).map(&mut element).collect();
        Ok(vec![("x".to_owned(), Tensor::of(&self.0, &data))])
    }
}

pub(super) const LINEAR: &str =
    "g (float[8, 64] x, float[64, 64] w0, float[32, 64] w1, float[32] wb) => (float[8, 32] y) {
    a = MatMul(x, w0)
    b = Relu(a)
    y = Gemm<transB = 1>(b, w1, wb)
}";

pub(super) fn rows() -> Rows {
    Rows(vec![8, 64])
}

pub(super) fn quantized(
    text: &str,
    o: &QuantizeOptions,
    data: &Rows,
) -> Result<(Model, Model, QuantizeReport), QuantizeError> {
    let float = model(text);
    let mut m = float.clone();
    let report =
        apply(&mut m, o, &TractEngine, o.needs_data().then_some(data as &dyn Source), &|_| {})?;
    m.graph.check().unwrap();
    Ok((float, m, report))
}

pub(super) fn ops(m: &Model) -> Vec<String> {
    m.graph.order().into_iter().map(|op| m.graph.op(op).op_type.clone()).collect()
}

pub(super) fn sqnr(a: &Model, b: &Model, data: &Rows) -> f64 {
    let run = |m: &Model, i: usize| {
        let session = TractEngine.prepare(m, &[]).unwrap();
        session.run(&data.get(i).unwrap(), &mut |_, _| {}).unwrap()[0].to_f32().unwrap()
    };
    let (mut signal, mut noise): (f64, f64) = (0.0, 1e-30);
    for i in 100..104 {
        for (p, q) in run(a, i).into_iter().zip(run(b, i)) {
            signal += f64::from(p).powi(2);
            noise += f64::from(p - q).powi(2);
        }
    }
    10.0 * (signal / noise).log10()
}

pub(super) fn errors(m: &Model, target: &str) -> Vec<&'static str> {
    let found = check(m, target.parse().unwrap());
    found.into_iter().filter(|f| f.severity == Severity::Error).map(|f| f.id).collect()
}

#[test]
fn dynamic_is_for_cpus() {
    let dynamic = QuantizeOptions { dynamic: true, ..QuantizeOptions::default() };
    let refused = quantized(LINEAR, &dynamic, &rows()).map(|_| ());
    assert!(matches!(refused, Err(QuantizeError::DynamicForTensorRt)));
    let cpu = QuantizeOptions { profile: Profile::OnnxruntimeCpu, ..dynamic };
    let (float, m, report) = quantized(LINEAR, &cpu, &rows()).unwrap();
    assert_eq!(report.quantized_ops, 2);
    let count = |t: &str| ops(&m).iter().filter(|o| *o == t).count();
    assert_eq!((count("MatMulInteger"), count("DynamicQuantizeLinear"), count("Add")), (2, 2, 1));
    assert!(errors(&m, "onnxruntime-cpu").is_empty());
    assert!(errors(&m, "tensorrt").contains(&"L12"));
    let mut back = m.clone();
    strip(&mut back);
    assert_eq!(ops(&back), ["MatMul", "Relu", "MatMul", "Add"]);
    assert!(sqnr(&float, &back, &rows()) > 35.0);
}

#[test]
fn one_activation_is_quantized_once_and_conv_only_on_request() {
    let text = "g (float[1, 16, 8, 8] x, float[16, 16, 3, 3] w0, float[16, 16, 3, 3] w1, float[16] wb) => (float[1, 16, 6, 6] y, float[1, 16, 6, 6] z) {
        y = Conv(x, w0, wb)
        z = Conv(x, w1)
    }";
    let mut o = QuantizeOptions {
        dynamic: true,
        profile: Profile::OnnxruntimeCpu,
        ..QuantizeOptions::default()
    };
    let data = Rows(vec![1, 16, 8, 8]);
    let (_, m, report) = quantized(text, &o, &data).unwrap();
    assert_eq!((report.quantized_ops, ops(&m).len()), (0, 2));
    o.include = vec!["Conv".into()];
    let (_, m, report) = quantized(text, &o, &data).unwrap();
    assert_eq!(report.quantized_ops, 2);
    assert_eq!(ops(&m).iter().filter(|t| *t == "DynamicQuantizeLinear").count(), 1);
}

fn weights(ty: WeightType, block: Option<usize>, algorithm: WeightAlgorithm) -> QuantizeOptions {
    let profile = if ty == WeightType::Uint4 { Profile::OnnxruntimeCpu } else { Profile::Tensorrt };
    QuantizeOptions { weights: Some(ty), block, algorithm, profile, ..QuantizeOptions::default() }
}

#[test]
fn weights_in_few_bits() {
    let cases = [
        (WeightType::Int8, None, 13, 40.0),
        (WeightType::Int8, Some(32), 21, 40.0),
        (WeightType::Int4, Some(64), 21, 15.0),
        (WeightType::Uint4, Some(32), 21, 17.0),
    ];
    for (ty, block, opset, least) in cases {
        let o = weights(ty, block, WeightAlgorithm::Rtn);
        let (float, mut m, report) = quantized(LINEAR, &o, &rows()).unwrap();
        assert_eq!(report.quantized_weights, 2, "{ty:?}");
        assert!(report.bytes_after < report.bytes_before / 3, "{ty:?}");
        assert_eq!(m.default_opset(), opset.max(17), "{ty:?}");
        if ty != WeightType::Uint4 {
            assert!(errors(&m, "tensorrt").is_empty(), "{ty:?}: {:?}", errors(&m, "tensorrt"));
        }
        strip(&mut m);
        let got = sqnr(&float, &m, &rows());
        assert!(got > least, "{ty:?} {block:?}: {got}");
    }
}

#[test]
fn a_weight_that_ops_share_is_stored_once() {
    let text = "g (float[8, 64] x, float[64, 64] w) => (float[8, 64] y) {
        a = MatMul(x, w)
        b = Relu(a)
        y = MatMul(b, w)
    }";
    let o = weights(WeightType::Int8, None, WeightAlgorithm::Rtn);
    let (_, m, report) = quantized(text, &o, &rows()).unwrap();
    assert_eq!(ops(&m), ["DequantizeLinear", "MatMul", "Relu", "MatMul"]);
    assert!(report.bytes_after < report.bytes_before / 3);
    // Scales along another axis need codes of their own.
    let gemm = text.replace("y = MatMul(b, w)", "y = Gemm<transB = 1>(b, w)");
    let (_, m, _) = quantized(&gemm, &o, &rows()).unwrap();
    assert_eq!(ops(&m).iter().filter(|t| *t == "DequantizeLinear").count(), 2);
}

#[test]
fn weights_that_blocks_do_not_divide_stay_float_and_uint4_is_not_for_tensorrt() {
    let (_, _, report) =
        quantized(LINEAR, &weights(WeightType::Int4, Some(128), WeightAlgorithm::Rtn), &rows())
            .unwrap();
    assert!(report.ops.iter().all(|d| !d.quantized && d.reason.contains("divide")));
    let uint4 = QuantizeOptions { weights: Some(WeightType::Uint4), ..QuantizeOptions::default() };
    assert!(matches!(
        quantized(LINEAR, &uint4, &rows()).map(|_| ()),
        Err(QuantizeError::AsymmetricForTensorRt)
    ));
    let odd = weights(WeightType::Int4, Some(48), WeightAlgorithm::Rtn);
    assert!(matches!(quantized(LINEAR, &odd, &rows()).map(|_| ()), Err(QuantizeError::Block(48))));
}

#[test]
fn gptq_and_awq_beat_rounding() {
    let mut got = Vec::new();
    for algorithm in [WeightAlgorithm::Rtn, WeightAlgorithm::Gptq, WeightAlgorithm::Awq] {
        let o = weights(WeightType::Int4, Some(32), algorithm);
        let (float, mut m, _) = quantized(LINEAR, &o, &rows()).unwrap();
        strip(&mut m);
        got.push(sqnr(&float, &m, &rows()));
    }
    assert!(got[1] > got[0] + 1.0 && got[2] > got[0], "{got:?}");
}

#[test]
fn embeddings_on_request() {
    let text = "g (int64[4] i, float[64, 32] w) => (float[4, 32] y) { y = Gather(w, i) }";
    let mut o = weights(WeightType::Int8, None, WeightAlgorithm::Rtn);
    assert_eq!(quantized(text, &o, &rows()).unwrap().2.quantized_weights, 0);
    o.embeddings = true;
    let (_, m, report) = quantized(text, &o, &rows()).unwrap();
    assert_eq!(report.quantized_weights, 1);
    assert_eq!(ops(&m), ["DequantizeLinear", "Gather"]);
    o.profile = Profile::OnnxruntimeCpu;
    let (_, m, report) = quantized(text, &o, &rows()).unwrap();
    assert_eq!(report.quantized_weights, 1);
    assert_eq!(ops(&m), ["Gather", "Cast", "Gather", "Mul"], "the whole table is not dequantized");
}

#[test]
fn a_dla_has_int8_only() {
    let dla = QuantizeOptions { profile: Profile::TensorrtDla, ..QuantizeOptions::default() };
    assert!(quantized(LINEAR, &dla, &rows()).is_ok());
    let fp8 = QuantizeOptions { payload: Payload::Fp8, ..dla.clone() };
    let int8_weights = QuantizeOptions { weights: Some(WeightType::Int8), ..dla };
    for o in [fp8, int8_weights] {
        let refused = quantized(LINEAR, &o, &rows());
        assert!(matches!(refused, Err(QuantizeError::NotOnDla)), "{o:?}");
    }
}

#[test]
fn fp8_pairs_have_scales_of_448() {
    let o = QuantizeOptions { payload: Payload::Fp8, ..QuantizeOptions::default() };
    let (_, m, report) = quantized(LINEAR, &o, &rows()).unwrap();
    assert_eq!(m.default_opset(), 19);
    assert!(errors(&m, "tensorrt").is_empty());
    let t = &report.tensors[0];
    assert_eq!(t.method, Method::Minmax);
    assert!((t.scale * 448.0 - t.amax).abs() < 1e-6 * t.amax);
    let g = &m.graph;
    let codes = g.find_value("w0_q").unwrap();
    assert_eq!(g.value(codes).dtype(), Some(DType::F8E4M3FN));
    let (float, mut m, _) = quantized(LINEAR, &o, &rows()).unwrap();
    assert!(sqnr(&float, &m, &rows()) > 25.0);
    strip(&mut m);
    assert!(sqnr(&float, &m, &rows()) > 25.0);
}

const ATTENTION: &str = "g (float[2, 16, 64] x, float[64, 64] w0, float[64, 64] w1, float[64, 64] w2, float[64, 64] w3) => (float[2, 16, 64] y)
<float s = {0.125}> {
    q = MatMul(x, w0)
    k = MatMul(x, w1)
    v = MatMul(x, w2)
    kt = Transpose<perm = [0, 2, 1]>(k)
    qk = MatMul(q, kt)
    scaled = Mul(qk, s)
    p = Softmax(scaled)
    o = MatMul(p, v)
    y = MatMul(o, w3)
}";

#[test]
fn t4_t5_attention_in_fp8_and_on_request_in_int8() {
    let data = Rows(vec![2, 16, 64]);
    let read = |o: &QuantizeOptions| {
        let (_, m, report) = quantized(ATTENTION, o, &data).unwrap();
        let g = &m.graph;
        let quantized = |name: &str| {
            let op = g.producer_op(g.find_value(name).unwrap()).unwrap();
            let both = |i| {
                let made = g.operand(op, i).and_then(|v| g.producer_op(v));
                made.is_some_and(|op| g.op(op).is("DequantizeLinear"))
            };
            both(0) && both(1)
        };
        (quantized("qk"), quantized("o"), report)
    };
    let fp8 = QuantizeOptions { payload: Payload::Fp8, ..QuantizeOptions::default() };
    let (first, second, report) = read(&fp8);
    assert!(first && second);
    let p = report.tensors.iter().find(|t| t.name == "p").unwrap();
    assert_eq!(p.scale, 1.0 / 448.0);
    let off = QuantizeOptions { rules: vec!["-T5".into()], ..fp8 };
    assert_eq!((read(&off).0, read(&off).1), (false, false));
    let int8 = QuantizeOptions::default();
    assert_eq!((read(&int8).0, read(&int8).1), (false, false));
    let asked = QuantizeOptions { attention: true, ..int8 };
    let (first, second, report) = read(&asked);
    assert!(first && second);
    assert!(report.tensors.iter().any(|t| t.name == "p" && t.scale == 1.0 / 127.0));
}

#[test]
fn attention_without_all_ranges_stays_float() {
    let pair =
        "xq = QuantizeLinear(x, xs, xz)\nxd = DequantizeLinear(xq, xs, xz)\nq = MatMul(xd, w0)";
    let text = ATTENTION
        .replace("<float s = {0.125}>", "<float s = {0.125}, float xs = {0.05}, int8 xz = {0}>")
        .replace("q = MatMul(x, w0)", pair)
        .replace("(x, w1)", "(xd, w1)")
        .replace("(x, w2)", "(xd, w2)");
    let o = QuantizeOptions { from_quantized: true, attention: true, ..QuantizeOptions::default() };
    let (_, m, report) = quantized(&text, &o, &Rows(vec![2, 16, 64])).unwrap();
    assert_eq!(report.quantized_ops, 3, "the projections of x");
    let pairs = ops(&m).iter().filter(|t| *t == "QuantizeLinear").count();
    assert_eq!(pairs, 1);
}

#[test]
fn attention_says_why_it_stays_float() {
    let why = |text: &str, o: &QuantizeOptions| {
        let m = model(text);
        let plan = lapidary::quantize::plan(&m.graph, o).unwrap();
        let label = m.graph.label(m.graph.producer_op(m.graph.find_value("qk").unwrap()).unwrap());
        let d = plan.decisions.into_iter().find(|d| d.node == label).unwrap();
        (d.rule, d.reason)
    };
    let asked = QuantizeOptions { attention: true, ..QuantizeOptions::default() };
    let open = ATTENTION.replace("[2, 16, 64]", "[2, s, 64]");
    let (rule, reason) = why(&open, &asked);
    assert!(rule == "T4" && reason.contains("512"), "{reason}");
    assert_eq!(why(&open, &QuantizeOptions::default()).0, "W5");
    let cached = ATTENTION
        .replace("x, float[64, 64] w0", "x, float[2, 4, 64] past, float[64, 64] w0")
        .replace(
            "kt = Transpose<perm = [0, 2, 1]>(k)",
            "kc = Concat<axis = 1>(past, k)\nkt = Transpose<perm = [0, 2, 1]>(kc)",
        )
        .replace("o = MatMul(p, v)", "vc = Concat<axis = 1>(past, v)\no = MatMul(p, vc)");
    assert_eq!(why(&cached, &asked).0, "T8");
    let forced = QuantizeOptions { rules: vec!["-T8".into()], ..asked.clone() };
    assert_eq!(why(&cached, &forced).0, "T4");
}

#[test]
fn foreign_quantization_becomes_legal() {
    let text = "g (float[1, 16, 8, 8] x, float[16, 16, 3, 3] w0) => (float[1, 16, 6, 6] y)
    <float xs = {0.02}, uint8 xz = {128}, float ws = {0.004}, uint8 wz = {0}> {
        q = QuantizeLinear(x, xs, xz)
        d = DequantizeLinear(q, xs, xz)
        c = Conv(d, w0)
        q2 = QuantizeLinear(c, xs, xz)
        y = DequantizeLinear(q2, xs, xz)
    }";
    let text = text.replace("float ws = {0.004}, uint8 wz = {0}", "float unused = {1}");
    assert!(errors(&model(&text), "tensorrt").contains(&"L1"));
    let o = QuantizeOptions { from_quantized: true, ..QuantizeOptions::default() };
    let (_, m, report) = quantized(&text, &o, &rows()).unwrap();
    assert!(errors(&m, "tensorrt").is_empty(), "{:?}", errors(&m, "tensorrt"));
    assert_eq!(report.quantized_ops, 1);
    assert!((report.tensors[0].amax - 2.56).abs() < 1e-4);
    let plain = quantized(LINEAR, &o, &rows()).map(|_| ());
    assert!(matches!(plain, Err(QuantizeError::NotQuantized)));
}

#[test]
fn stripping_gives_the_float_model_back() {
    let (float, mut m, _) = quantized(LINEAR, &QuantizeOptions::default(), &rows()).unwrap();
    let ranges = strip(&mut m).ranges;
    assert_eq!(ops(&m), ops(&float));
    assert_eq!(ranges.len(), 2);
    assert!(sqnr(&float, &m, &rows()) > 40.0);
}

#[test]
fn saved_ranges_give_the_same_pairs() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["r.json", "r.cache"] {
        let path = folder.path().join(name);
        let save = QuantizeOptions {
            save_ranges: Some(path.clone()),
            no_bias_correction: true,
            ..QuantizeOptions::default()
        };
        let (_, _, first) = quantized(LINEAR, &save, &rows()).unwrap();
        let load = QuantizeOptions { ranges: Some(path), ..QuantizeOptions::default() };
        let (_, _, second) = quantized(LINEAR, &load, &rows()).unwrap();
        for (a, b) in first.tensors.iter().zip(&second.tensors) {
            assert!((a.scale - b.scale).abs() <= 1e-6 * a.scale, "{name}");
        }
        let other = LINEAR.replace("b = Relu(a)", "c = Relu(a)").replace("(b, w1", "(c, w1");
        let refused = quantized(&other, &load, &rows()).map(|_| ());
        assert!(matches!(refused, Err(QuantizeError::NoRange(names)) if names == ["c"]));
    }
}

#[test]
fn tensorrt_8_gets_float_weights() {
    let o = QuantizeOptions { float_weights: true, ..QuantizeOptions::default() };
    let (float, m, _) = quantized(LINEAR, &o, &rows()).unwrap();
    assert!(errors(&m, "tensorrt-8.6").is_empty(), "{:?}", errors(&m, "tensorrt-8.6"));
    assert!(m.graph.find_value("w0").is_some_and(|v| m.graph.is_const(v)));
    assert!(sqnr(&float, &m, &rows()) > 25.0);
    let (_, m, _) = quantized(LINEAR, &QuantizeOptions::default(), &rows()).unwrap();
    assert_eq!(errors(&m, "tensorrt-8.6"), ["L13"]);
}

#[test]
fn n13_heads_stay_float_on_request() {
    let o = QuantizeOptions { skip_head: true, ..QuantizeOptions::default() };
    let (_, _, report) = quantized(LINEAR, &o, &rows()).unwrap();
    let decided: Vec<(bool, &str)> = report.ops.iter().map(|d| (d.quantized, d.rule)).collect();
    assert_eq!(decided, [(true, "W4"), (false, "N13")]);
}

#[test]
fn moving_average_is_the_mean_of_the_maxima() {
    let of = |method| {
        let o = QuantizeOptions { method, ..QuantizeOptions::default() };
        quantized(LINEAR, &o, &rows()).unwrap().2.tensors[0].amax
    };
    let maxima = (0..16).map(|i| {
        let x = rows().get(i).unwrap()[0].1.to_f32().unwrap();
        x.iter().fold(0f32, |a, b| a.max(b.abs()))
    });
    let mean = maxima.sum::<f32>() / 16.0;
    assert!((of(Method::MovingAverage) - mean).abs() < 1e-5);
    assert!(of(Method::Minmax) > mean);
}
