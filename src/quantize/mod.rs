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
mod error;
pub mod grid;
pub mod insert;
pub mod inverse;
pub mod observe;
mod options;
mod payload;
pub mod placement;
mod ranges;
mod recorder;
mod recover;
mod report;
mod sensitivity;
mod tables;
pub mod weight;
mod weight_only;

use std::collections::BTreeMap;
use std::time::Instant;

pub use calibrate::Method;
pub(crate) use collect::observe_ranges;
pub use error::QuantizeError;
pub use options::{ConvTransposeAxis, Profile, QuantizeOptions};
pub use payload::Payload;
pub use placement::{Decision, Plan, plan};
pub use recover::{Equalize, Recovery, noise_by_layer};
pub use report::{QuantizeReport, TensorReport};
pub use weight_only::{WeightAlgorithm, WeightType};

use crate::convert::raise_opset;
use crate::data::Source;
use crate::engine::{Engine, Progress};
use crate::ir::{Graph, Model, OpId, ValueId};
use crate::target::{Finding, tensorrt::check_qdq};
use crate::verify::judge::Part;
use collect::Observed;
use ranges::{Calibrated, calibrate_plan, known};
use recover::Trials;

/// Quantizes the main graph of a model in place, in the way that the options ask for: statically, by
/// ranges from a file or from the model itself, dynamically, weights only, or backwards. `progress` is
/// told how many runs over the data are done.
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

/// Quantizes the main graph of a model statically, in place. `progress` is told how many runs over
/// the data are done.
///
/// # Errors
/// As [`QuantizeError`] lists them; the model is as it was then.
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
    model: &mut Model,
    o: &QuantizeOptions,
    calibration: &Calibration,
    fallback: Fallback,
) -> Result<QuantizeReport, QuantizeError> {
    let mut new = model.clone();
    let report = quantize_new(&mut new, o, calibration, fallback)?;
    *model = new;
    Ok(report)
}

fn quantize_new(
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
    let mut own = o.clone();
    let calibrated = match calibration {
        Calibration::Data { engine, data, progress } => {
            let trials = recover(m, &mut plan, o, &mut report, (*engine, *data))?;
            report.mac_share = cost::mac_share(&m.graph, &plan, *data);
            if plan.pairs.is_empty() {
                report.bytes_after = report.bytes_before;
                return Ok(report);
            }
            own.no_bias_correction |= trials.as_ref().is_some_and(|t| !t.corrects);
            let run = (*engine, *data, *progress);
            calibrate_and_round(m, &plan, &own, run, trials, &mut report)?
        }
        Calibration::Known(ranges) => known(&m.graph, &plan, o.payload, ranges)?,
    };
    fill_tensors(&mut report, &m.graph, &plan, &calibrated, o.payload)?;
    if !own.no_bias_correction && o.payload == Payload::Int8 {
        report.corrected_biases = correct_biases(&mut m.graph, &plan, &calibrated);
    }
    if let Some(path) = &o.save_ranges {
        let name = |v: &ValueId| m.graph.value(*v).name().to_owned();
        let by_name = calibrated.thresholds.iter().map(|(v, t)| (name(v), t.amax)).collect();
        cache::write(path, &by_name)?;
    }
    report.quantized_weights = insert::insert(&mut m.graph, &plan, &calibrated, o);
    report.bytes_after = cost::constant_bytes(&m.graph);
    let tables = cost::table_bytes(&m.graph);
    if tables > report.bytes_after / 4 {
        let share = 100 * tables / report.bytes_after;
        report.warnings.push(format!(
            "tables of embeddings in float are {share} % of the weight bytes; --embeddings stores them \
             as INT8 by row"
        ));
    }
    finish(m, o, report, &before)
}

/// Rewrites model and plan so that less is lost, and tells of it in the report.
fn recover<'a>(
    m: &mut Model,
    plan: &mut Plan,
    o: &QuantizeOptions,
    report: &mut QuantizeReport,
    (engine, data): (&'a dyn Engine, &'a dyn Source),
) -> Result<Option<Trials<'a>>, QuantizeError> {
    let mut trials = None;
    // Ranges in a file are for the model as it is.
    if o.payload == Payload::Int8 && o.save_ranges.is_none() {
        trials = recover::recover(m, plan, o, engine, data)?;
        report.recovery = trials.as_mut().map(|t| std::mem::take(&mut t.steps)).unwrap_or_default();
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
    Ok(trials)
}

/// Fewer samples get a warning, and no biases are absorbed for them.
const FEW: usize = 16;

/// Chooses ranges from data, and rounds the weights to what they leave.
fn calibrate_and_round(
    m: &mut Model,
    plan: &Plan,
    o: &QuantizeOptions,
    (engine, data, progress): (&dyn Engine, &dyn Source, Progress),
    trials: Option<Trials>,
    report: &mut QuantizeReport,
) -> Result<Calibrated, QuantizeError> {
    let start = Instant::now();
    let (judge, seen) = trials.map(|t| (t.judge, t.seen)).unzip();
    let begun = judge.as_ref().zip(seen).map(|(j, seen)| (j.calibration.len(), seen));
    let seen = observe_rest(m, plan, o, (engine, data, progress), begun)?;
    let mut calibrated = ranges::choose(&m.graph, plan, o, &seen);
    drop(seen);
    report.calibration_seconds = start.elapsed().as_secs_f64();
    report.samples = data.len() * data.batch();
    let steps = &mut report.recovery;
    calibrated.weight_scales =
        recover::round_weights(m, plan, o, &calibrated, (engine, data), judge, steps)?;
    report.recovery_seconds = steps.iter().map(|r| r.seconds).sum();
    if data.is_synthetic() {
        report.warnings.push("calibrated on random numbers: ranges mean nothing".into());
    } else if report.samples < FEW {
        report.warnings.push(format!(
            "few calibration samples ({}): ranges and recovery get better with a hundred that differ",
            report.samples
        ));
    }
    Ok(calibrated)
}

/// What the planned activations are on all samples, where it is known already for the first ones.
fn observe_rest(
    m: &Model,
    plan: &Plan,
    o: &QuantizeOptions,
    (engine, data, progress): (&dyn Engine, &dyn Source, Progress),
    begun: Option<(usize, Observed)>,
) -> Result<Observed, QuantizeError> {
    let none = BTreeMap::new();
    let Some((done, mut seen)) =
        begun.filter(|(_, seen)| seen.is_of(&ranges::tapped(&m.graph, plan)))
    else {
        return ranges::observe_plan(m, plan, o, &none, (engine, data, progress));
    };
    if done < data.len() {
        let rest = Part::new(data, done, data.len() - done);
        let progress = |n| progress(done + n);
        seen.merge(&ranges::observe_plan(m, plan, o, &none, (engine, &rest, &progress))?);
    }
    Ok(seen)
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

/// Checks what can be known before a run, raises the operator set as far as needed and infers types.
fn prepare(m: &mut Model, o: &QuantizeOptions) -> Result<(), QuantizeError> {
    check_types(o)?;
    if !(o.percentile > 0.0 && o.percentile <= 100.0) {
        return Err(QuantizeError::Percentile(o.percentile));
    }
    if let Some(drop) = o.max_drop.filter(|d| !(d.is_finite() && *d >= 0.0)) {
        return Err(QuantizeError::MaxDrop(drop));
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

/// The profile has the types that are asked for.
fn check_types(o: &QuantizeOptions) -> Result<(), QuantizeError> {
    let int8 = o.weights.is_none() && o.payload == Payload::Int8;
    match o.profile {
        Profile::TensorrtDla if !int8 => Err(QuantizeError::NotOnDla),
        _ => Ok(()),
    }
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
        let grid = c.grid(*v, payload);
        let histogram = |x: f64| coarse.map(|_| x);
        report.tensors.push(TensorReport {
            name,
            scale: grid.scale,
            zero_point: grid.zero_point,
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

/// Corrects the biases of linear ops for the rounding of their weights, but of those whose weights lie
/// on their grid: their biases were fitted with them.
fn correct_biases(g: &mut Graph, plan: &Plan, c: &Calibrated) -> usize {
    use rayon::prelude::*;
    let correction = |site: &placement::WeightSite| {
        if c.weight_scales.contains_key(&site.value) {
            return None;
        }
        let linear = placement::linear(g, site.op)?;
        bias::correction(g, &linear, site, &c.stats.get(&linear.input)?.means.means())
    };
    let all: Vec<_> = plan.weights.par_iter().filter_map(correction).collect();
    let count = all.len();
    all.into_iter().for_each(|c| c.apply(g));
    count
}
