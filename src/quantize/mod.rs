//! Static INT8 quantization for TensorRT: symmetric Q/DQ pairs on activations, weights stored as
//! INT8 behind DequantizeLinear.
//!
//! [`quantize`] plans where pairs go ([`placement`]), calibrates their ranges on data ([`observe`],
//! [`calibrate`]) and writes them ([`insert`]). What it writes passes
//! [`check_qdq`]. The model should be simplified before, so that
//! batch normalization is folded; constant folding behind it leaves DequantizeLinear alone.

mod bias;
pub mod calibrate;
mod collect;
mod cost;
pub mod insert;
pub mod observe;
mod options;
pub mod placement;
mod report;
mod sensitivity;

use std::collections::BTreeMap;
use std::time::Instant;

pub use calibrate::Method;
pub(crate) use collect::observe_ranges;
pub use options::{ConvTransposeAxis, Profile, QuantizeOptions};
pub(crate) use placement::is_shape_arithmetic;
pub use placement::{Decision, Plan, plan};
pub use report::{QuantizeReport, TensorReport};

use crate::data::Source;
use crate::engine::{Engine, Progress, RunError};
use crate::ir::{Graph, Model, OpId, ValueId};
use crate::pass::{RaiseError, raise_opset};
use crate::target::{Finding, tensorrt::check_qdq};
use calibrate::Threshold;
use collect::{Channels, Collector, Stats, Taps};

/// Oldest operator set with scales along an axis.
const MIN_OPSET: i64 = 13;

/// Why a model cannot be quantized.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    /// A pattern is no glob.
    #[error("bad pattern: {0}")]
    Glob(#[from] globset::Error),
    /// There is no such rule.
    #[error("no placement rule is called {name:?}; the rules are: {valid}")]
    UnknownRule {
        /// The name given.
        name: String,
        /// All ids.
        valid: String,
    },
    /// The percentile makes no sense.
    #[error("percentile {0} is not in (0, 100]")]
    Percentile(f64),
    /// The model has Q/DQ or integer operators.
    #[error("the model is quantized already: {0}")]
    AlreadyQuantized(String),
    /// The operator set is older than scales along an axis, and the model cannot be converted.
    #[error(transparent)]
    Opset(#[from] RaiseError),
    /// There is nothing to calibrate on.
    #[error("calibration needs at least one sample")]
    NoSamples,
    /// The model cannot run on the data.
    #[error(transparent)]
    Run(#[from] RunError),
    /// An activation had no finite element.
    #[error("tensor {0:?} holds no finite number on the calibration data")]
    NotFinite(String),
    /// What was written breaks TensorRT's rules: a bug in Lapidary.
    #[error("the quantized model breaks rule {} at {} ({}); please report this with the model", .0.id, .0.node, .0.why)]
    Illegal(Box<Finding>),
}

/// Quantizes the main graph of a model in place. `progress` is told how many runs of
/// [`QuantizeOptions::passes`] over the data are done.
///
/// # Errors
/// Before anything was changed but the operator set, except for [`QuantizeError::Illegal`].
pub fn quantize(
    m: &mut Model,
    o: &QuantizeOptions,
    engine: &dyn Engine,
    data: &dyn Source,
    progress: Progress,
) -> Result<QuantizeReport, QuantizeError> {
    prepare(m, o)?;
    let plan = plan(&m.graph, o)?;
    let mut report = QuantizeReport {
        ops: plan.decisions.clone(),
        quantized_ops: plan.weights.len(),
        weighted_ops: plan.decisions.iter().filter(|d| d.rule != "W5").count(),
        mac_share: None,
        bytes_before: cost::constant_bytes(&m.graph),
        ..QuantizeReport::default()
    };
    if plan.pairs.is_empty() {
        report.bytes_after = report.bytes_before;
        report.warnings.push("no op is quantized; --explain tells why".into());
        return Ok(report);
    }
    report.mac_share = cost::mac_share(&m.graph, &plan, data);
    let start = Instant::now();
    let calibrated = calibrate_plan(m, &plan, o, engine, data, progress)?;
    report.calibration_seconds = start.elapsed().as_secs_f64();
    report.samples = data.len() * data.batch();
    if data.is_synthetic() {
        report.warnings.push("calibrated on random numbers: ranges mean nothing".into());
    }
    fill_tensors(&mut report, &m.graph, &plan, &calibrated)?;
    if !o.no_bias_correction {
        report.corrected_biases = correct_biases(&mut m.graph, &plan, &calibrated.stats);
    }
    let amax = calibrated.thresholds.iter().map(|(v, t)| (*v, t.amax)).collect();
    report.quantized_weights = insert::insert(&mut m.graph, &plan, &amax);
    report.bytes_after = cost::constant_bytes(&m.graph);
    match check_qdq(m).into_iter().next() {
        Some(finding) => Err(QuantizeError::Illegal(Box::new(finding))),
        None => Ok(report),
    }
}

/// Checks what can be known before a run, raises the operator set as far as needed and infers types.
fn prepare(m: &mut Model, o: &QuantizeOptions) -> Result<(), QuantizeError> {
    if !(o.percentile > 0.0 && o.percentile <= 100.0) {
        return Err(QuantizeError::Percentile(o.percentile));
    }
    let quantized = |op: &OpId| {
        let t = &m.graph.op(*op).op_type;
        t.starts_with("QLinear")
            || t.ends_with("QuantizeLinear")
            || t.ends_with("DequantizeLinear")
            || t.ends_with("Integer")
    };
    if let Some(op) = m.graph.order().into_iter().find(|op| quantized(op)) {
        return Err(QuantizeError::AlreadyQuantized(m.graph.label(op)));
    }
    if m.default_opset() < MIN_OPSET {
        let mut raised = m.clone();
        raise_opset(&mut raised, MIN_OPSET)?;
        *m = raised;
    }
    let opset = m.default_opset();
    crate::pass::infer_graph(&mut m.graph, opset, &mut |_, _| {});
    Ok(())
}

/// Bins of the histograms in reports.
const SHOWN_BINS: usize = 128;

struct Calibrated {
    stats: BTreeMap<ValueId, Stats>,
    thresholds: BTreeMap<ValueId, Threshold>,
    /// Upper end and counts in wide bins.
    histograms: BTreeMap<ValueId, (f32, Vec<u64>)>,
}

fn calibrate_plan(
    m: &Model,
    plan: &Plan,
    o: &QuantizeOptions,
    engine: &dyn Engine,
    data: &dyn Source,
    progress: Progress,
) -> Result<Calibrated, QuantizeError> {
    let taps = Taps::new(&m.graph, &tapped(&m.graph, plan));
    let run = Collector::new(m, engine, &taps, data, progress)?;
    let stats = run.stats()?;
    let mut amax: BTreeMap<ValueId, f32> =
        stats.iter().map(|(v, s)| (*v, s.range.amax())).collect();
    for group in &plan.scale_groups {
        let all = group.iter().filter_map(|v| amax.get(v)).fold(0.0f32, |a, b| a.max(*b));
        amax.extend(group.iter().map(|v| (*v, all)));
    }
    let as_seen = |amax: f32| Threshold { amax, method: Method::Minmax, mse: 0.0, clipped: 0.0 };
    let mut thresholds: BTreeMap<ValueId, Threshold> =
        amax.iter().map(|(v, a)| (*v, as_seen(*a))).collect();
    let mut coarse = BTreeMap::new();
    if o.passes() > 1 {
        let mut histograms = run.histograms(&amax)?;
        for group in &plan.scale_groups {
            share_histogram(&mut histograms, group);
        }
        use rayon::prelude::*;
        let all: Vec<_> = histograms.into_iter().collect();
        let chosen = all.par_iter().map(|(v, h)| {
            (*v, calibrate::choose(h, method_for(&m.graph, *v, o.method), o.percentile))
        });
        thresholds.extend(chosen.collect::<Vec<_>>());
        coarse.extend(all.iter().map(|(v, h)| (*v, (h.amax(), h.coarse(SHOWN_BINS)))));
    }
    Ok(Calibrated { stats, thresholds, histograms: coarse })
}

/// A graph input keeps its whole range under [`Method::Auto`]: images have bounds, and what is
/// clipped of them, such as white areas, is no noise that averages out.
fn method_for(g: &Graph, v: ValueId, method: Method) -> Method {
    if method == Method::Auto && g.is_input(v) { Method::Minmax } else { method }
}

/// Gives every tensor of a group the sum of their histograms.
fn share_histogram(histograms: &mut BTreeMap<ValueId, observe::Histogram>, group: &[ValueId]) {
    let mut members = group.iter().filter_map(|v| histograms.get(v));
    let Some(mut sum) = members.next().cloned() else { return };
    members.for_each(|h| sum.merge(h));
    histograms.extend(group.iter().map(|v| (*v, sum.clone())));
}

/// Values to observe, with their channels where linear ops read them.
fn tapped(g: &Graph, plan: &Plan) -> BTreeMap<ValueId, Option<Channels>> {
    plan.pairs.iter().map(|(v, readers)| (*v, sensitivity::channels(g, readers.keys()))).collect()
}

fn fill_tensors(
    report: &mut QuantizeReport,
    g: &Graph,
    plan: &Plan,
    c: &Calibrated,
) -> Result<(), QuantizeError> {
    for (v, t) in &c.thresholds {
        let name = g.value(*v).name().to_owned();
        let seen = c.stats[v].range.clone();
        if seen.count > 0 && seen.nan + seen.inf == seen.count {
            return Err(QuantizeError::NotFinite(name));
        }
        if seen.nan + seen.inf > 0 {
            let n = seen.nan + seen.inf;
            report.warnings.push(format!("tensor {name:?}: {n} elements are not finite"));
        }
        if seen.amax() == 0.0 {
            report.warnings.push(format!("tensor {name:?} was always zero; its scale is a guess"));
        }
        let shared = plan.scale_groups.iter().find(|s| s.contains(v)).map_or(1, Vec::len);
        let coarse = c.histograms.get(v);
        let histogram = |x: f64| coarse.map(|_| x);
        report.tensors.push(TensorReport {
            name,
            scale: insert::activation_scale(t.amax),
            amax: t.amax,
            method: t.method,
            clipped: histogram(t.clipped),
            mse: histogram(t.mse),
            seen,
            shared,
            histogram: coarse.cloned(),
        });
    }
    Ok(())
}

fn correct_biases(g: &mut Graph, plan: &Plan, stats: &BTreeMap<ValueId, Stats>) -> usize {
    let correction = |site: &placement::WeightSite| {
        let linear = placement::linear(g, site.op)?;
        bias::correction(g, &linear, site, &stats.get(&linear.input)?.means.means())
    };
    let all: Vec<_> = plan.weights.iter().filter_map(correction).collect();
    let count = all.len();
    all.into_iter().for_each(|c| c.apply(g));
    count
}
