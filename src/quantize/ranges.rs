//! Ranges of planned activations: from data or from a file.

use std::borrow::Cow;
use std::collections::BTreeMap;

use super::calibrate::{self, Method, Threshold};
use super::collect::{Observed, Stats, Taps, Wanted, observe};
use super::grid::{self, Codes, Grid};
use super::payload::Payload;
use super::placement::Plan;
use super::recorder::Recorder;
use super::{QuantizeError, QuantizeOptions, sensitivity};
use crate::data::Source;
use crate::engine::{Engine, Progress};
use crate::ir::{Graph, Model, ValueId};

/// Bins of the histograms in reports.
const SHOWN_BINS: usize = 128;

/// Ranges of activations, and scales of weights where they are known before the weights are stored.
#[derive(Clone, Default)]
pub(super) struct Calibrated {
    pub stats: BTreeMap<ValueId, Stats>,
    pub thresholds: BTreeMap<ValueId, Threshold>,
    /// How the activations are coded.
    pub codes: BTreeMap<ValueId, Codes>,
    /// Upper end and counts in wide bins.
    pub histograms: BTreeMap<ValueId, (f32, Vec<u64>)>,
    /// For weights that lie on their grid already, the scales.
    pub weight_scales: BTreeMap<ValueId, Vec<f32>>,
}

impl Calibrated {
    /// The grid of an activation.
    pub fn grid(&self, v: ValueId, payload: Payload) -> Grid {
        let codes = self.codes.get(&v).copied().unwrap_or(Codes::Symmetric(payload));
        codes.grid(self.thresholds.get(&v).map_or(0.0, |t| t.amax))
    }
}

/// Chooses the range of every planned activation from data.
///
/// # Errors
/// When there are no samples or the model does not run.
pub(super) fn calibrate_plan(
    m: &Model,
    plan: &Plan,
    o: &QuantizeOptions,
    engine: &dyn Engine,
    data: &dyn Source,
    progress: Progress,
) -> Result<Calibrated, QuantizeError> {
    let seen = observe_plan(m, plan, o, &BTreeMap::new(), (engine, data, progress))?;
    Ok(choose(&m.graph, plan, o, &seen))
}

/// What the planned activations were on data, and the channels of values along axes.
///
/// # Errors
/// When there are no samples or the model does not run.
pub(super) fn observe_plan(
    m: &Model,
    plan: &Plan,
    o: &QuantizeOptions,
    axes: &BTreeMap<ValueId, usize>,
    (engine, data, progress): (&dyn Engine, &dyn Source, Progress),
) -> Result<Observed, QuantizeError> {
    let mut wanted = tapped(&m.graph, plan);
    for (v, axis) in axes {
        wanted.entry(*v).or_default().axis = Some(*axis);
    }
    let counted = !matches!(o.range_method(), Method::Minmax | Method::MovingAverage);
    observe(m, &Taps::new(&m.graph, &wanted, counted), engine, data, progress)
}

/// Chooses the range of every planned activation from what was seen of it.
pub(super) fn choose(g: &Graph, plan: &Plan, o: &QuantizeOptions, seen: &Observed) -> Calibrated {
    let planned = || plan.pairs.keys().filter_map(|v| Some((*v, seen.0.get(v)?)));
    let stats: BTreeMap<ValueId, Stats> = planned().map(|(v, s)| (v, s.stats.clone())).collect();
    let (method, of): (_, fn(&Stats) -> f32) = match o.range_method() {
        Method::MovingAverage => (Method::MovingAverage, Stats::mean_amax),
        _ => (Method::Minmax, |s| s.range.amax()),
    };
    let mut amax: BTreeMap<ValueId, f32> = stats.iter().map(|(v, s)| (*v, of(s))).collect();
    for group in &plan.scale_groups {
        let all = group.iter().filter_map(|v| amax.get(v)).fold(0.0f32, |a, b| a.max(*b));
        amax.extend(group.iter().map(|v| (*v, all)));
    }
    let as_seen = |amax: f32| Threshold { amax, method, mse: 0.0, clipped: 0.0 };
    let codes = grid::codes(plan, o.payload, &|v| Some(&seen.0.get(&v)?.stats.range));
    let mut thresholds: BTreeMap<ValueId, Threshold> =
        amax.iter().map(|(v, a)| (*v, as_seen(*a))).collect();
    let mut coarse = BTreeMap::new();
    if !matches!(o.range_method(), Method::Minmax | Method::MovingAverage) {
        use rayon::prelude::*;
        let all: Vec<_> = planned().collect();
        let chosen = all.par_iter().map(|(v, s)| {
            let group = plan.scale_groups.iter().find(|group| group.contains(v));
            let group = group.map_or(std::slice::from_ref(v), Vec::as_slice);
            let h = shared(seen, group, &s.recorder).histogram();
            let method = method_for(g, group, o.range_method());
            (*v, calibrate::choose(&h, method, o.percentile, codes[v]), h.coarse(SHOWN_BINS))
        });
        for (v, threshold, shown) in chosen.collect::<Vec<_>>() {
            thresholds.insert(v, threshold);
            coarse.insert(v, shown);
        }
    }
    for (v, amax) in &plan.fixed {
        thresholds.insert(*v, as_seen(*amax));
    }
    Calibrated { stats, thresholds, codes, histograms: coarse, weight_scales: BTreeMap::new() }
}

/// A graph input, and what shares its scale, keeps its whole range under [`Method::Auto`]: images have bounds, and what is
/// clipped of them, such as white areas, is no noise that averages out.
fn method_for(g: &Graph, group: &[ValueId], method: Method) -> Method {
    let whole = method == Method::Auto && group.iter().any(|v| g.is_input(*v));
    if whole { Method::Minmax } else { method }
}

/// The counts of a tensor, its `own`, or of the group that shares its scale.
fn shared<'a>(seen: &Observed, group: &[ValueId], own: &'a Recorder) -> Cow<'a, Recorder> {
    if group.len() < 2 {
        return Cow::Borrowed(own);
    }
    let mut all = Recorder::default();
    group.iter().filter_map(|v| seen.0.get(v)).for_each(|s| all.merge(&s.recorder));
    Cow::Owned(all)
}

/// Values to observe, with their channels where linear ops read them.
pub(super) fn tapped(g: &Graph, plan: &Plan) -> BTreeMap<ValueId, Wanted> {
    let wanted = |readers: &BTreeMap<_, _>| Wanted {
        is_scaled: true,
        channels: sensitivity::channels(g, readers.keys()),
        axis: None,
    };
    plan.pairs.iter().map(|(v, readers)| (*v, wanted(readers))).collect()
}

/// Thresholds of a file of ranges; groups of one scale have the largest of theirs.
pub(super) fn known(
    g: &Graph,
    plan: &Plan,
    payload: Payload,
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
    let codes = grid::codes(plan, payload, &|_| None);
    Ok(Calibrated { thresholds, codes, ..Calibrated::default() })
}
