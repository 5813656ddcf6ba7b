//! Ranges of planned activations: from data or from a file.

use std::collections::BTreeMap;

use super::calibrate::{self, Method, Threshold};
use super::collect::{Channels, Collector, Stats, Taps};
use super::observe::Histogram;
use super::placement::Plan;
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
    /// Upper end and counts in wide bins.
    pub histograms: BTreeMap<ValueId, (f32, Vec<u64>)>,
    /// For weights that lie on their grid already, the scales.
    pub weight_scales: BTreeMap<ValueId, Vec<f32>>,
}

impl Calibrated {
    /// The largest magnitude of each activation that is not clipped.
    pub fn amax(&self) -> BTreeMap<ValueId, f32> {
        self.thresholds.iter().map(|(v, t)| (*v, t.amax)).collect()
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
    Ok(Calibrated { stats, thresholds, histograms: coarse, weight_scales: BTreeMap::new() })
}

/// A graph input keeps its whole range under [`Method::Auto`]: images have bounds, and what is
/// clipped of them, such as white areas, is no noise that averages out.
fn method_for(g: &Graph, v: ValueId, method: Method) -> Method {
    if method == Method::Auto && g.is_input(v) { Method::Minmax } else { method }
}

/// Gives every tensor of a group the sum of their histograms.
fn share_histogram(histograms: &mut BTreeMap<ValueId, Histogram>, group: &[ValueId]) {
    let mut members = group.iter().filter_map(|v| histograms.get(v));
    let Some(mut sum) = members.next().cloned() else { return };
    members.for_each(|h| sum.merge(h));
    histograms.extend(group.iter().map(|v| (*v, sum.clone())));
}

/// Values to observe, with their channels where linear ops read them.
fn tapped(g: &Graph, plan: &Plan) -> BTreeMap<ValueId, Option<Channels>> {
    plan.pairs.iter().map(|(v, readers)| (*v, sensitivity::channels(g, readers.keys()))).collect()
}

/// Thresholds of a file of ranges; groups of one scale have the largest of theirs.
pub(super) fn known(
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
    Ok(Calibrated { thresholds, ..Calibrated::default() })
}
