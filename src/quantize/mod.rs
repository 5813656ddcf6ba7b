//! Static INT8 quantization for TensorRT: symmetric Q/DQ pairs on activations, weights stored as
//! INT8 behind DequantizeLinear.
//!
//! [`quantize`] plans where pairs go ([`placement`]), calibrates their ranges on data ([`observe`],
//! [`calibrate`]) and writes them ([`insert`]). What it writes passes
//! [`check_qdq`]. The model should be simplified before, so that
//! batch normalization is folded; constant folding behind it leaves DequantizeLinear alone.

mod bias;
pub mod cache;
pub mod calibrate;
mod collect;
mod cost;
mod dynamic;
pub mod insert;
pub mod inverse;
pub mod observe;
mod options;
mod payload;
pub mod placement;
mod recover;
mod report;
mod sensitivity;
mod weight_only;

use std::collections::BTreeMap;
use std::time::Instant;

pub use calibrate::Method;
pub(crate) use collect::observe_ranges;
pub use options::{ConvTransposeAxis, Profile, QuantizeOptions};
pub use payload::Payload;
pub use placement::{Decision, Plan, plan};
pub use recover::{Equalize, LayerNoise, Metric, Recovery, Search, noise_by_layer};
pub use report::{QuantizeReport, TensorReport};
pub use weight_only::{WeightAlgorithm, WeightType};

use crate::convert::{OpsetError, raise_opset};
use crate::data::Source;
use crate::engine::{Engine, Progress, RunError};
use crate::ir::{Graph, Model, OpId, ValueId};
use crate::target::{Finding, tensorrt::check_qdq};
use calibrate::Threshold;
use collect::{Channels, Collector, Stats, Taps};

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
    Opset(#[from] OpsetError),
    /// There is nothing to calibrate on.
    #[error("calibration needs at least one sample")]
    NoSamples,
    /// The model cannot run on the data.
    #[error(transparent)]
    Run(#[from] RunError),
    /// An activation had no finite element.
    #[error("tensor {0:?} holds no finite number on the calibration data")]
    NotFinite(String),
    /// Ranges cannot be read or written.
    #[error(transparent)]
    Ranges(#[from] cache::CacheError),
    /// The file of ranges lacks some.
    #[error("there is no range for {} tensors, such as {:?}; give --data to calibrate", .0.len(), .0[0])]
    NoRange(Vec<String>),
    /// Dynamic quantization was asked for TensorRT.
    #[error(
        "TensorRT has no DynamicQuantizeLinear, MatMulInteger or ConvInteger: quantize statically \
         with --data, which gives Q/DQ that it runs in INT8; for a CPU, add --profile onnxruntime-cpu"
    )]
    DynamicForTensorRt,
    /// UINT4 was asked for TensorRT.
    #[error(
        "TensorRT has no UINT4 and no zero points: use --weights int4; for a CPU, add --profile \
         onnxruntime-cpu"
    )]
    AsymmetricForTensorRt,
    /// The block size makes no sense.
    #[error("blocks of {0}: the size is a power of two and at least 16")]
    Block(usize),
    /// There is nothing to take apart.
    #[error("the model is not quantized")]
    NotQuantized,
    /// A goal for accuracy, but no scores.
    #[error("the first output is no matrix of scores [N, C]; --metric sqnr or cosine needs none")]
    NoScores,
    /// What was written breaks TensorRT's rules: a bug in Lapidary.
    #[error("the quantized model breaks rule {} at {} ({}); please report this with the model", .0.id, .0.node, .0.why)]
    Illegal(Box<Finding>),
}

/// Quantizes the main graph of a model in place, in the way that the options ask for: statically, by
/// ranges from a file or from the model itself, dynamically, weights only, or backwards. `progress` is
/// told how many runs of [`QuantizeOptions::passes`] over the data are done.
///
/// # Errors
/// As [`quantize`]; and where an option does not go with the profile or needs `data`.
pub fn apply(
    m: &mut Model,
    o: &QuantizeOptions,
    engine: &dyn Engine,
    data: Option<&dyn Source>,
    progress: Progress,
) -> Result<QuantizeReport, QuantizeError> {
    if o.dynamic {
        return dynamic::quantize(m, o);
    }
    if let Some(ty) = o.weights {
        let samples = data.map(|data| weight_only::Samples { engine, data, progress });
        return weight_only::quantize(m, o, ty, samples.as_ref());
    }
    if o.strip || o.from_quantized {
        let bytes_before = cost::constant_bytes(&m.graph);
        let found = inverse::strip(m);
        if found.ops == 0 {
            return Err(QuantizeError::NotQuantized);
        }
        if o.strip {
            let bytes_after = cost::constant_bytes(&m.graph);
            return Ok(QuantizeReport { bytes_before, bytes_after, ..QuantizeReport::default() });
        }
        let by_name = found.ranges.iter().map(|(v, a)| (m.graph.value(*v).name().to_owned(), *a));
        let ranges = by_name.collect();
        return quantize_static(m, o, &Calibration::Known(&ranges), Fallback::Observed);
    }
    if let Some(path) = &o.ranges {
        let ranges = cache::read(path)?;
        return quantize_static(m, o, &Calibration::Known(&ranges), Fallback::Refuse);
    }
    quantize(m, o, engine, data.ok_or(QuantizeError::NoSamples)?, progress)
}

/// Quantizes the main graph of a model statically, in place. `progress` is told how many runs of
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
    quantize_static(m, o, &Calibration::Data { engine, data, progress }, Fallback::Refuse)
}

/// Where the ranges of activations come from.
enum Calibration<'a> {
    Data { engine: &'a dyn Engine, data: &'a dyn Source, progress: Progress<'a> },
    Known(&'a BTreeMap<String, f32>),
}

/// What happens to activations without a known range.
#[derive(Clone, Copy, PartialEq)]
enum Fallback {
    /// It is an error.
    Refuse,
    /// Only what has a range is quantized.
    Observed,
}

fn quantize_static(
    m: &mut Model,
    o: &QuantizeOptions,
    calibration: &Calibration,
    fallback: Fallback,
) -> Result<QuantizeReport, QuantizeError> {
    prepare(m, o)?;
    let before = check_qdq(m);
    let mut plan = plan(&m.graph, o)?;
    if let (Calibration::Known(ranges), Fallback::Observed) = (calibration, fallback) {
        plan.keep_only(&m.graph, &|v| ranges.contains_key(m.graph.value(v).name()));
    }
    let mut report = QuantizeReport {
        ops: plan.decisions.clone(),
        others: plan.others.clone(),
        quantized_ops: plan.quantized_count(),
        weighted_ops: plan.decisions.iter().filter(|d| d.weighted || d.quantized).count(),
        mac_share: None,
        bytes_before: cost::constant_bytes(&m.graph),
        ..QuantizeReport::default()
    };
    if plan.pairs.is_empty() {
        report.bytes_after = report.bytes_before;
        report.warnings.push("no op is quantized; --explain tells why".into());
        return Ok(report);
    }
    let calibrated = match calibration {
        Calibration::Data { engine, data, progress } => {
            recover(m, &mut plan, o, &mut report, (*engine, *data))?;
            report.mac_share = cost::mac_share(&m.graph, &plan, *data);
            if plan.pairs.is_empty() {
                report.bytes_after = report.bytes_before;
                return Ok(report);
            }
            let start = Instant::now();
            let calibrated = calibrate_plan(m, &plan, o, *engine, *data, progress)?;
            report.calibration_seconds = start.elapsed().as_secs_f64();
            report.samples = data.len() * data.batch();
            if data.is_synthetic() {
                report.warnings.push("calibrated on random numbers: ranges mean nothing".into());
            }
            calibrated
        }
        Calibration::Known(ranges) => known(&m.graph, &plan, ranges)?,
    };
    fill_tensors(&mut report, &m.graph, &plan, &calibrated, o.payload)?;
    if !o.no_bias_correction && o.payload == Payload::Int8 {
        report.corrected_biases = correct_biases(&mut m.graph, &plan, &calibrated.stats);
    }
    let amax = calibrated.thresholds.iter().map(|(v, t)| (*v, t.amax)).collect();
    if let Some(path) = &o.save_ranges {
        let name = |v: &ValueId| m.graph.value(*v).name().to_owned();
        let by_name = calibrated.thresholds.iter().map(|(v, t)| (name(v), t.amax)).collect();
        cache::write(path, &by_name)?;
    }
    report.quantized_weights = insert::insert(&mut m.graph, &plan, &amax, o);
    report.bytes_after = cost::constant_bytes(&m.graph);
    finish(m, o, report, &before)
}

/// Rewrites model and plan so that less is lost, and tells of it in the report.
fn recover(
    m: &mut Model,
    plan: &mut Plan,
    o: &QuantizeOptions,
    report: &mut QuantizeReport,
    (engine, data): (&dyn Engine, &dyn Source),
) -> Result<(), QuantizeError> {
    // Ranges in a file are for the model as it is.
    if o.payload == Payload::Int8 && o.save_ranges.is_none() {
        report.recovery = recover::recover(m, plan, o, engine, data)?;
        report.recovery_seconds = report.recovery.iter().map(|r| r.seconds).sum();
    }
    report.search = recover::meet_goal(m, plan, o, engine, data)?;
    report.ops.clone_from(&plan.decisions);
    report.quantized_ops = plan.quantized_count();
    if report.search.as_ref().is_some_and(|s| !s.met) {
        report.warnings.push("the goal of --max-drop is not met".into());
    }
    if plan.pairs.is_empty() {
        report.warnings.push("nothing can be quantized within --max-drop".into());
    }
    Ok(())
}

/// Nothing is written that the linter rejects, unless it is for another runtime or was so `before`.
fn finish(
    m: &Model,
    o: &QuantizeOptions,
    report: QuantizeReport,
    before: &[Finding],
) -> Result<QuantizeReport, QuantizeError> {
    let rules = placement::Rules::of(o)?;
    let mut found = check_qdq(m).into_iter().filter(|f| rules.on(f.id) && !before.contains(f));
    match found.next().filter(|_| o.profile != Profile::OnnxruntimeCpu) {
        Some(finding) => Err(QuantizeError::Illegal(Box::new(finding))),
        None => Ok(report),
    }
}

/// Thresholds of a file of ranges; groups of one scale have the largest of theirs.
fn known(
    g: &Graph,
    plan: &Plan,
    ranges: &BTreeMap<String, f32>,
) -> Result<Calibrated, QuantizeError> {
    let mut thresholds = BTreeMap::new();
    let mut missing = Vec::new();
    for v in plan.pairs.keys() {
        let name = g.value(*v).name();
        let amax = plan.fixed.get(v).or(ranges.get(name)).copied();
        match amax {
            Some(amax) => {
                let t = Threshold { amax, method: Method::Minmax, mse: 0.0, clipped: 0.0 };
                thresholds.insert(*v, t);
            }
            None => missing.push(name.to_owned()),
        }
    }
    if !missing.is_empty() {
        return Err(QuantizeError::NoRange(missing));
    }
    for group in &plan.scale_groups {
        let all =
            group.iter().filter_map(|v| thresholds.get(v)).map(|t| t.amax).fold(0.0, f32::max);
        for v in group {
            if let Some(t) = thresholds.get_mut(v) {
                t.amax = all;
            }
        }
    }
    Ok(Calibrated { stats: BTreeMap::new(), thresholds, histograms: BTreeMap::new() })
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
    raise_to(m, o.payload.min_opset())
}

/// Raises the operator set to at least `version` and infers types.
fn raise_to(m: &mut Model, version: i64) -> Result<(), QuantizeError> {
    if m.default_opset() < version {
        let mut raised = m.clone();
        raise_opset(&mut raised, version)?;
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
    let of = |s: &Stats| match o.range_method() {
        Method::MovingAverage => s.mean_amax(),
        _ => s.range.amax(),
    };
    let mut amax: BTreeMap<ValueId, f32> = stats.iter().map(|(v, s)| (*v, of(s))).collect();
    for group in &plan.scale_groups {
        let all = group.iter().filter_map(|v| amax.get(v)).fold(0.0f32, |a, b| a.max(*b));
        amax.extend(group.iter().map(|v| (*v, all)));
    }
    let method = match o.range_method() {
        Method::MovingAverage => Method::MovingAverage,
        _ => Method::Minmax,
    };
    let as_seen = |amax: f32| Threshold { amax, method, mse: 0.0, clipped: 0.0 };
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
            (*v, calibrate::choose(h, method_for(&m.graph, *v, o.range_method()), o.percentile))
        });
        thresholds.extend(chosen.collect::<Vec<_>>());
        coarse.extend(all.iter().map(|(v, h)| (*v, (h.amax(), h.coarse(SHOWN_BINS)))));
    }
    for (v, amax) in &plan.fixed {
        thresholds.insert(*v, as_seen(*amax));
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
    payload: Payload,
) -> Result<(), QuantizeError> {
    for (v, t) in &c.thresholds {
        let name = g.value(*v).name().to_owned();
        let seen = c.stats.get(v).map(|s| s.range.clone()).unwrap_or_default();
        if seen.count > 0 && seen.nan + seen.inf == seen.count {
            return Err(QuantizeError::NotFinite(name));
        }
        if seen.nan + seen.inf > 0 {
            let n = seen.nan + seen.inf;
            report.warnings.push(format!("tensor {name:?}: {n} elements are not finite"));
        }
        if seen.count > 0 && seen.amax() == 0.0 {
            report.warnings.push(format!("tensor {name:?} was always zero; its scale is a guess"));
        }
        let shared = plan.scale_groups.iter().find(|s| s.contains(v)).map_or(1, Vec::len);
        let coarse = c.histograms.get(v);
        let histogram = |x: f64| coarse.map(|_| x);
        report.tensors.push(TensorReport {
            name,
            scale: insert::activation_scale(t.amax, payload),
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
