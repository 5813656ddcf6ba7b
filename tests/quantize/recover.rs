//! Accuracy recovery: what it gains, and that it holds its goals.

use std::sync::Arc;

use lapidary::data::{DataError, Source};
use lapidary::engine::{Engine, EngineError, Feeds, Session, TractEngine};
use lapidary::ir::{Model, Tensor};
use lapidary::quantize::{Equalize, QuantizeOptions, QuantizeReport, noise_by_layer, quantize};
use lapidary::recover::Rounding;
use lapidary::verify::Metric;

use super::model;

struct Random(&'static [usize]);

impl Source for Random {
    fn len(&self) -> usize {
        36
    }

    fn get(&self, i: usize) -> Result<Feeds, DataError> {
        let mut random = fastrand::Rng::with_seed(i as u64);
        let n = self.0.iter().product();
        let data: Vec<f32> = (0..n).map(|_| (0..4).map(|_| random.f32() - 0.5).sum()).collect();
        Ok(vec![("x".to_owned(), Tensor::of(self.0, &data))])
    }
}

/// Multiplies part `c` along the axis of a constant by a factor that grows to 64 with `c`, or shrinks.
fn uneven(m: &mut Model, name: &str, axis: usize, grows: bool) {
    let v = m.graph.find_value(name).unwrap();
    let t = m.graph.const_tensor(v).unwrap().clone();
    let (n, inner) = (t.dims()[axis], t.dims()[axis + 1..].iter().product::<usize>());
    let factor = |i: usize| 2f32.powf((i / inner % n * 6) as f32 / n as f32);
    let data = t.to_f32().unwrap();
    let all = data.iter().enumerate();
    let new: Vec<f32> =
        all.map(|(i, x)| if grows { x * factor(i) } else { x / factor(i) }).collect();
    m.graph.set_data(v, Tensor::of(t.dims(), &new));
}

fn quantized(m: &Model, dims: &'static [usize], o: &QuantizeOptions) -> (Model, QuantizeReport) {
    let mut m = m.clone();
    let report = quantize(&mut m, o, &TractEngine, &Random(dims), &|_| {}).unwrap();
    m.graph.check().unwrap();
    (m, report)
}

const CHAIN: &str = "g (float[n, 16, 8, 8] x, float[32, 16, 3, 3] w0, float[32, 32, 3, 3] w1, float[32, 32, 1, 1] w2) => (float[n, 32, 8, 8] y)
<float low = {0.0}, float high = {6.0}>
{
    a = Conv<pads = [1, 1, 1, 1]>(x, w0)
    b = Relu(a)
    c = Conv<pads = [1, 1, 1, 1]>(b, w1)
    d = Clip(c, low, high)
    y = Conv(d, w2)
}";
const IMAGE: &[usize] = &[1, 16, 8, 8];

fn chain() -> Model {
    let mut m = model(CHAIN);
    uneven(&mut m, "w0", 0, true);
    uneven(&mut m, "w1", 1, false);
    m
}

#[test]
fn equalization_pays() {
    let (_, report) = quantized(&chain(), IMAGE, &QuantizeOptions::default());
    let step = report.recovery.iter().find(|r| r.method == "equalize").unwrap();
    assert!(step.kept && step.sqnr_after > step.sqnr_before + 3.0, "{step:?}");
    let off = QuantizeOptions {
        equalize: Equalize::Off,
        rounding: Rounding::Nearest,
        ..QuantizeOptions::default()
    };
    assert!(quantized(&chain(), IMAGE, &off).1.recovery.is_empty());
}

/// Two convolutions, with the second padded or not and something between, the first of a high bias.
fn high_bias(pads: usize, middle: &str) -> Model {
    let mut m = model(&format!(
        "g (float[n, 16, 8, 8] x, float[32, 16, 3, 3] w0, float[32] wb, float[32, 32, {k}, {k}] w1)
        => (float[n, 32, a, b] y) <float low = {{0.0}}, float high = {{9.0}}> {{
            a = Conv(x, w0, wb)
            {middle}
            y = Conv<pads = [{pads}, {pads}, {pads}, {pads}]>(b, w1)
        }}",
        k = 2 * pads + 1
    ));
    let v = m.graph.find_value("wb").unwrap();
    // The results of some channels lie far above zero, those of others are cut off.
    let bias: Vec<f32> = (0..32).map(|c| if c % 4 == 0 { 0.0 } else { 30.0 }).collect();
    m.graph.set_data(v, Tensor::vector(&bias));
    m
}

#[test]
fn high_biases_are_absorbed_where_nothing_pads() {
    let step = |m: &Model, o: &QuantizeOptions| {
        let (_, report) = quantized(m, IMAGE, o);
        report.recovery.into_iter().find(|r| r.method == "absorb")
    };
    let fold = QuantizeOptions {
        equalize: Equalize::Fold,
        rounding: Rounding::Nearest,
        ..QuantizeOptions::default()
    };
    let relu = high_bias(0, "b = Relu(a)");
    let found = step(&relu, &fold).unwrap();
    assert!(found.kept && found.sites == 1, "{found:?}");
    assert!(found.sqnr_after > found.sqnr_before + 1.0, "{found:?}");
    let off = QuantizeOptions { equalize: Equalize::Off, ..fold.clone() };
    assert!(step(&relu, &off).is_none());
    for (pads, middle) in [
        (1, "b = Relu(a)"),
        (0, "b = Sigmoid(a)"),
        (0, "b = LeakyRelu(a)"),
        (0, "s = Relu(a) t = Sigmoid(s) b = Add(s, t)"),
        (0, "b = Clip(a, low, high)"), // All high channels go beyond it.
    ] {
        assert!(step(&high_bias(pads, middle), &fold).is_none(), "{pads} {middle}");
    }
}

#[test]
fn smoothing_adds_a_mul_before_a_matrix() {
    let mut m = model(
        "g (float[n, 8, 32] x, float[32, 64] w0, float[64, 32] w1) => (float[n, 8, 32] y) {
            a = MatMul(x, w0)
            b = Softplus(a)
            y = MatMul(b, w1)
        }",
    );
    uneven(&mut m, "w0", 1, true);
    uneven(&mut m, "w1", 0, false);
    const DIMS: &[usize] = &[1, 8, 32];
    let count = |m: &Model| m.graph.ops().filter(|op| m.graph.op(*op).is("Mul")).count();
    let (smooth, report) = quantized(&m, DIMS, &QuantizeOptions::default());
    let step = report.recovery.iter().find(|r| r.method == "smooth").unwrap();
    assert!(step.kept && count(&smooth) == 1, "{step:?}");
    let fold = QuantizeOptions { equalize: Equalize::Fold, ..QuantizeOptions::default() };
    assert_eq!(count(&quantized(&m, DIMS, &fold).0), 0);
}

#[test]
fn rounding_pays_and_stores_what_it_found() {
    let m = chain();
    let with = |rounding| {
        let o = QuantizeOptions { equalize: Equalize::Off, rounding, ..Default::default() };
        quantized(&m, IMAGE, &o)
    };
    let (rounded, report) = with(Rounding::Auto);
    let step = report.recovery.iter().find(|r| r.method == "rounding").unwrap();
    // Most of the noise here is that of activations, which no rounding of weights takes out.
    assert!(step.kept && step.sqnr_after > step.sqnr_before, "{step:?}");
    assert_eq!(step.sites, 3);
    let (nearest, report) = with(Rounding::Nearest);
    assert!(report.recovery.iter().all(|r| r.method != "rounding"));
    let codes = |m: &Model| {
        let v = m.graph.find_value("w1_q").unwrap();
        m.graph.const_tensor(v).unwrap().clone()
    };
    assert_ne!(codes(&rounded), codes(&nearest));
}

#[test]
fn a_goal_is_a_number_from_zero_on() {
    for drop in [-1.0, f64::NAN, f64::INFINITY] {
        let o = QuantizeOptions { max_drop: Some(drop), ..Default::default() };
        let error = quantize(&mut chain(), &o, &TractEngine, &Random(IMAGE), &|_| {}).unwrap_err();
        assert!(error.to_string().contains("--max-drop"), "{error}");
    }
}

#[test]
fn layers_are_ranked() {
    let m = chain();
    let o = QuantizeOptions::default();
    let layers = noise_by_layer(&m, &o, &TractEngine, &Random(IMAGE), &|_, _| {}).unwrap();
    assert_eq!(layers.len(), 3);
    assert!(layers.windows(2).all(|l| l[0].sqnr_db <= l[1].sqnr_db));
    assert!(layers.iter().all(|l| l.cosine > 0.9 && l.top1.is_none()));
}

#[test]
fn a_goal_keeps_the_fewest_layers_in_float() {
    let m = chain();
    let with = |max_drop, metric| {
        let equalize = Equalize::Off;
        let o =
            QuantizeOptions { max_drop: Some(max_drop), metric, equalize, ..Default::default() };
        quantized(&m, IMAGE, &o).1
    };
    let free = with(50.0, Metric::Sqnr);
    let search = free.search.unwrap();
    assert!(search.met && search.kept.is_empty() && free.quantized_ops == 3);
    let goal = search.drop_before / 2.0;
    let half = with(goal, Metric::Sqnr);
    let search = half.search.unwrap();
    assert!(search.met && search.drop_after <= goal, "{search:?}");
    assert_eq!(search.kept.len() + half.quantized_ops, 3);
    assert!((1..3).contains(&search.kept.len()), "{search:?}");
    let kept = half.ops.iter().filter(|d| d.rule == "accuracy").map(|d| &d.node);
    assert!(kept.clone().all(|n| search.kept.contains(n)) && kept.count() == search.kept.len());
    let all = with(0.0, Metric::Cosine);
    assert_eq!((all.quantized_weights, all.search.unwrap().met), (0, true));
    let o = QuantizeOptions { max_drop: Some(0.0), metric: Metric::Top1, ..Default::default() };
    assert!(quantize(&mut m.clone(), &o, &TractEngine, &Random(IMAGE), &|_| {}).is_err());
}

/// An engine that refuses a model after it has prepared so many.
struct Failing {
    left: std::sync::atomic::AtomicUsize,
}

impl Engine for Failing {
    fn name(&self) -> &'static str {
        "failing"
    }

    fn prepare(&self, m: &Model, taps: &[String]) -> Result<Arc<dyn Session>, EngineError> {
        let one_less = |n: usize| n.checked_sub(1);
        let order = std::sync::atomic::Ordering::Relaxed;
        match self.left.fetch_update(order, order, one_less) {
            Ok(_) => TractEngine.prepare(m, taps),
            Err(_) => Err(EngineError::Missing("out of order".to_owned())),
        }
    }
}

#[test]
fn an_error_in_any_trial_leaves_the_model_as_it_was() {
    for max_drop in [None, Some(0.5)] {
        let o = QuantizeOptions { max_drop, ..QuantizeOptions::default() };
        let before = lapidary::onnx::to_bytes(&chain()).unwrap().0;
        let mut failed = 0;
        for prepared in 0.. {
            let (mut m, left) = (chain(), prepared.into());
            let engine = Failing { left };
            match quantize(&mut m, &o, &engine, &Random(IMAGE), &|_| {}) {
                Ok(_) => break,
                Err(_) => assert_eq!(lapidary::onnx::to_bytes(&m).unwrap().0, before, "{prepared}"),
            }
            failed += 1;
        }
        assert!(failed > 8, "{failed}");
    }
}
