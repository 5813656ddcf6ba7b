//! `quantize` as a whole: what is written, and that it computes nearly the same.

use lapidary::data::{DataError, Source};
use lapidary::engine::{Engine, Feeds, TractEngine};
use lapidary::ir::{DType, Graph, Model, Tensor, ValueId};
use lapidary::quantize::{Method, QuantizeError, QuantizeOptions, QuantizeReport, quantize};
use lapidary::target::tensorrt::check_qdq;
use lapidary::{onnx, pass};

use super::{is_float, model};

/// Seeded normal-ish samples for the input `x`.
struct Random {
    dims: Vec<usize>,
    samples: usize,
}

impl Source for Random {
    fn len(&self) -> usize {
        self.samples
    }

    fn get(&self, i: usize) -> Result<Feeds, DataError> {
        let mut random = fastrand::Rng::with_seed(i as u64);
        let n = self.dims.iter().product();
        let data: Vec<f32> = (0..n).map(|_| (0..4).map(|_| random.f32() - 0.5).sum()).collect();
        Ok(vec![("x".to_owned(), Tensor::of(&self.dims, &data))])
    }
}

const BLOCK: &str = "g (float[n, 16, 8, 8] x, float[16, 16, 3, 3] w0, float[16, 16, 3, 3] w1, float[16, 16, 3, 3] w2, float[16] wb, float[16, 32] wm) => (float[n, 32] y) {
    a = Conv<pads = [1, 1, 1, 1]>(x, w0, wb)
    b = Relu(a)
    c = Conv<pads = [1, 1, 1, 1]>(b, w1)
    d = Relu(c)
    e = Conv<pads = [1, 1, 1, 1]>(d, w2, wb)
    f = Add(e, b)
    h = Relu(f)
    p = GlobalAveragePool(h)
    r = Flatten(p)
    y = Gemm(r, wm)
}";

fn data() -> Random {
    Random { dims: vec![1, 16, 8, 8], samples: 24 }
}

fn quantized(text: &str, o: &QuantizeOptions) -> (Model, Model, QuantizeReport) {
    let float = model(text);
    let mut m = float.clone();
    let report = quantize(&mut m, o, &TractEngine, &data(), &|_| {}).unwrap();
    m.graph.check().unwrap();
    (float, m, report)
}

fn bytes(m: &Model) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.onnx");
    onnx::save(m, &path, onnx::SaveOptions::default()).unwrap();
    std::fs::read(path).unwrap()
}

fn value(g: &Graph, name: &str) -> ValueId {
    g.find_value(name).unwrap_or_else(|| panic!("no value {name}"))
}

fn run(m: &Model, i: usize) -> Vec<f32> {
    let session = TractEngine.prepare(m, &[]).unwrap();
    let feeds = data().get(i).unwrap();
    session.run(&feeds, &mut |_, _| {}).unwrap()[0].to_f32().unwrap()
}

fn sqnr(a: &Model, b: &Model) -> f64 {
    let (mut signal, mut noise) = (0.0, 0.0);
    for i in 100..110 {
        for (p, q) in run(a, i).into_iter().zip(run(b, i)) {
            signal += f64::from(p).powi(2);
            noise += f64::from(p - q).powi(2);
        }
    }
    10.0 * (signal / noise).log10()
}

#[test]
fn what_is_written() {
    let (_, m, report) = quantized(BLOCK, &QuantizeOptions::default());
    let g = &m.graph;
    assert!(check_qdq(&m).is_empty());
    let count = |t: &str| g.ops().filter(|op| g.op(*op).is(t)).count();
    // x, b (three readers but one pair), d, h for the pool, r.
    assert_eq!((count("QuantizeLinear"), count("DequantizeLinear")), (5, 5 + 4));
    assert_eq!((report.quantized_ops, report.weighted_ops, report.quantized_weights), (4, 4, 4));
    let weight = g.const_tensor(value(g, "w0_q")).unwrap();
    assert_eq!((weight.dtype(), weight.dims()), (DType::I8, &[16, 16, 3, 3][..]));
    let scale = g.const_tensor(value(g, "w0_s")).unwrap();
    assert_eq!((scale.dtype(), scale.dims()), (DType::F32, &[16][..]));
    let dequantize = g.uses(value(g, "w0_q"))[0].0;
    let zero = g.const_tensor(g.operand(dequantize, 2).unwrap()).unwrap();
    assert_eq!((zero.dtype(), zero.to_i64().unwrap()), (DType::I8, vec![0; 16]));
    assert!(g.find_value("w0").is_none(), "the float weight is gone");
    let scale = g.const_tensor(value(g, "x_s")).unwrap();
    assert!(scale.rank() == 0 && scale.to_f32().unwrap()[0] > 0.0);
    for op in g.ops().filter(|op| g.op(*op).op_type.ends_with("quantizeLinear")) {
        assert!(g.op(op).int("axis").is_some());
    }
    for op in g.ops().filter(|op| g.op(*op).is("Conv")) {
        let bias = g.operand(op, 2).map(|b| g.value(b).dtype());
        assert!(bias.is_none_or(|d| d == Some(DType::F32)));
    }
    let y = g.outputs()[0];
    assert!(is_float(g.value(y).ty.as_ref()) && g.op(g.producer_op(y).unwrap()).is("Gemm"));
    assert_eq!(report.mac_share, Some(1.0));
    assert!(report.bytes_after * 10 < report.bytes_before * 4);
    let d = report.tensors.iter().find(|t| t.name == "d").unwrap();
    assert_eq!((d.seen.count, d.seen.min), (24 * 1024, 0.0));
    assert!((d.scale - d.amax / 127.0).abs() < 1e-9);
}

#[test]
fn it_computes_nearly_the_same() {
    for method in [Method::Minmax, Method::Percentile, Method::Mse, Method::Auto] {
        let o = QuantizeOptions { method, ..QuantizeOptions::default() };
        let (float, m, _) = quantized(BLOCK, &o);
        let got = sqnr(&float, &m);
        assert!(got > 30.0, "{method:?}: {got} dB");
    }
}

#[test]
fn two_runs_write_the_same_bytes() {
    let once = || bytes(&quantized(BLOCK, &QuantizeOptions::default()).1);
    assert_eq!(once(), once());
}

#[test]
fn simplifying_afterwards_keeps_the_pairs() {
    let (_, mut m, _) = quantized(BLOCK, &QuantizeOptions::default());
    pass::simplify(&mut m, &mut pass::Cx::default()).unwrap();
    let g = &m.graph;
    let pairs = g.ops().filter(|op| g.op(*op).is("DequantizeLinear")).count();
    assert_eq!(pairs, 9);
    assert!(check_qdq(&m).is_empty());
}

#[test]
fn n16_a_weight_of_two_axes_is_stored_twice_and_one_of_the_same_axis_once() {
    let two = "g (float[n, 32, 32] x, float[32, 32] w) => (float[n, 32, 32] y) {
        a = MatMul(x, w)
        y = MatMul(w, a)
    }";
    let o = QuantizeOptions::default();
    let stored = |text: &str| {
        let mut m = model(text);
        let data = Random { dims: vec![1, 32, 32], samples: 4 };
        quantize(&mut m, &o, &TractEngine, &data, &|_| {}).unwrap().quantized_weights
    };
    assert_eq!(stored(two), 2);
    assert_eq!(stored(&two.replace("MatMul(w, a)", "MatMul(a, w)")), 1);
}

#[test]
fn old_operator_sets_are_raised() {
    let mut m = model(BLOCK);
    m.opsets[0].1 = 11;
    quantize(&mut m, &QuantizeOptions::default(), &TractEngine, &data(), &|_| {}).unwrap();
    assert_eq!(m.default_opset(), 13);
    assert!(check_qdq(&m).is_empty());
}

#[test]
fn errors_come_before_changes() {
    let o = QuantizeOptions::default();
    let mut m = model(BLOCK);
    let before = bytes(&m);
    let none = Random { samples: 0, ..data() };
    let error = quantize(&mut m, &o, &TractEngine, &none, &|_| {});
    assert!(matches!(error, Err(QuantizeError::NoSamples)));
    let wrong = QuantizeOptions { percentile: 0.0, ..o.clone() };
    let error = quantize(&mut m, &wrong, &TractEngine, &data(), &|_| {});
    assert!(matches!(error, Err(QuantizeError::Percentile(_))));
    assert_eq!(bytes(&m), before);
    let (_, mut m, _) = quantized(BLOCK, &o);
    let error = quantize(&mut m, &o, &TractEngine, &data(), &|_| {});
    assert!(matches!(error, Err(QuantizeError::AlreadyQuantized(_))));
}

#[test]
fn constant_zero_and_infinite_activations_are_reported() {
    let text = "g (float[n, 16, 8, 8] x, float[16, 16, 1, 1] w0) => (float[n, 16, 8, 8] y) {
        z = Sub(x, x)
        i = Reciprocal(z)
        j = Max(i, x)
        y = Conv(j, w0)
    }";
    let mut m = model(text);
    let error = quantize(&mut m, &QuantizeOptions::default(), &TractEngine, &data(), &|_| {});
    assert!(matches!(error, Err(QuantizeError::NotFinite(_))), "{error:?}");
    let mut m = model(&text.replace("Conv(j", "Conv(z"));
    let report =
        quantize(&mut m, &QuantizeOptions::default(), &TractEngine, &data(), &|_| {}).unwrap();
    assert!(report.warnings.iter().any(|w| w.contains("always zero")));
}

#[test]
fn options_are_the_same_in_recipes_and_flags() {
    let o: QuantizeOptions =
        toml::from_str("method = \"percentile\"\nskip-first = 1\nexclude = [\"head/*\"]").unwrap();
    assert_eq!((o.method, o.skip_first, o.percentile), (Method::Percentile, 1, 99.99));
    assert!(toml::from_str::<QuantizeOptions>("methods = 1").is_err());
    let text = toml::to_string(&o).unwrap();
    assert_eq!(toml::to_string(&toml::from_str::<QuantizeOptions>(&text).unwrap()).unwrap(), text);
}
