//! Which layers lose most, and the fewest that must stay in float to meet a goal.

use std::collections::BTreeSet;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::super::placement::{Plan, plan, plan_except};
use super::super::{QuantizeError, QuantizeOptions, calibrate_plan, insert, prepare};
use super::rounding;
use super::trial::{CALIBRATED, JUDGED, Judge, Score, written};
use crate::data::Source;
use crate::engine::Engine;
use crate::ir::{Model, OpId};

/// What a goal is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Accuracy on labels, or agreement with the float model where there are none, in points.
    Top1,
    /// Noise of the outputs in percent of their magnitude: 1 is an SQNR of 40 dB, 10 of 20 dB.
    #[default]
    Sqnr,
    /// What the cosine of the outputs lacks to 1, in percent.
    Cosine,
}

/// A linear op quantized alone.
#[derive(Clone, Debug, Serialize)]
pub struct LayerNoise {
    /// Label of the op.
    pub node: String,
    /// Its operator.
    pub op_type: String,
    /// SQNR of the outputs in decibels.
    pub sqnr_db: f64,
    /// Their cosine to those of the float model.
    pub cosine: f64,
    /// Accuracy on labels, or agreement with the float model where there are none; `None` when the
    /// first output is no matrix of scores.
    pub top1: Option<f64>,
    #[serde(skip)]
    op: OpId,
}

/// How a goal was met.
#[derive(Clone, Debug, Serialize)]
pub struct Search {
    /// What the goal is about.
    pub metric: Metric,
    /// The goal: the drop that is allowed.
    pub max_drop: f64,
    /// The drop with all layers quantized.
    pub drop_before: f64,
    /// The drop with these layers in float, on samples that trials were not calibrated on.
    pub drop_after: f64,
    /// The goal is met.
    pub met: bool,
    /// Labels of the layers that stay in float, the one that loses most first.
    pub float: Vec<String>,
    /// Each layer quantized alone, the most sensitive first; empty when the goal was met at once.
    pub ranking: Vec<LayerNoise>,
    /// Variants tried.
    pub tried: usize,
    /// Seconds it took.
    pub seconds: f64,
}

/// Samples that judge accuracy, which is coarse.
const JUDGED_BY_LABELS: usize = 256;

/// Quantizes each linear op alone; the one that costs most comes first. `progress` is told how many
/// ops are done.
///
/// # Errors
/// As [`quantize`](super::super::quantize).
pub fn noise_by_layer(
    m: &Model,
    o: &QuantizeOptions,
    engine: &dyn Engine,
    data: &dyn Source,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<LayerNoise>, QuantizeError> {
    if data.is_empty() {
        return Err(QuantizeError::NoSamples);
    }
    let mut m = m.clone();
    prepare(&mut m, o)?;
    let plan = plan(&m.graph, o)?;
    let most = if data.labels().is_some() { JUDGED_BY_LABELS } else { JUDGED };
    let judge = Judge::new(&m, engine, data, most, CALIBRATED)?;
    rank(&m, &plan, o, &judge, progress)
}

fn rank(
    m: &Model,
    plan: &Plan,
    o: &QuantizeOptions,
    judge: &Judge,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> Result<Vec<LayerNoise>, QuantizeError> {
    let mut layers = Vec::new();
    if plan.weights.is_empty() {
        return Ok(layers);
    }
    let c = calibrate_plan(m, plan, o, judge.engine, &judge.calibration, &|_| {})?;
    for (i, site) in plan.weights.iter().enumerate() {
        let mut alone = m.clone();
        insert::insert(&mut alone.graph, &plan.only(site.op), &c, o);
        let Score { sqnr_db, cosine, top1 } = judge.score(&alone)?;
        let (node, op_type) = (m.graph.label(site.op), m.graph.op(site.op).full_type());
        layers.push(LayerNoise { node, op_type, sqnr_db, cosine, top1, op: site.op });
        progress(i + 1, plan.weights.len());
    }
    layers.sort_by(|a, b| a.sqnr_db.total_cmp(&b.sqnr_db));
    Ok(layers)
}

/// Plans so that the drop is at most what the options allow, with as few ops in float as bisection
/// over the ranking finds, each of which is then tried without.
///
/// # Errors
/// When the model does not run.
pub(in super::super) fn meet_goal(
    m: &Model,
    full: &mut Plan,
    o: &QuantizeOptions,
    engine: &dyn Engine,
    data: &dyn Source,
) -> Result<Option<Search>, QuantizeError> {
    let Some(max_drop) = o.max_drop else { return Ok(None) };
    let start = Instant::now();
    let most = if o.metric == Metric::Top1 { JUDGED_BY_LABELS } else { JUDGED };
    let judge = Judge::new(m, engine, data, most, CALIBRATED)?;
    let mut goal = Goal { m, o, judge, max_drop, tried: 0 };
    let drop_before = goal.drop_at_best(full)?;
    let mut found = Search {
        metric: o.metric,
        max_drop,
        drop_before,
        drop_after: drop_before,
        met: drop_before <= max_drop,
        float: Vec::new(),
        ranking: Vec::new(),
        tried: 0,
        seconds: 0.0,
    };
    if !found.met {
        let ranked = rank(m, full, o, &goal.judge, &|_, _| {})?;
        let (plan, kept, drop) = goal.fewest(&ranked)?;
        found.float = kept.iter().map(|i| ranked[*i].node.clone()).collect();
        (found.drop_after, found.met, *full) = (drop, drop <= max_drop, plan);
        found.ranking = ranked;
    }
    found.tried = goal.tried;
    found.seconds = start.elapsed().as_secs_f64();
    Ok(Some(found))
}

struct Goal<'a> {
    m: &'a Model,
    o: &'a QuantizeOptions,
    judge: Judge<'a>,
    max_drop: f64,
    tried: usize,
}

/// A plan, the ranks of the ops that it keeps in float, and the drop.
type Variant = (Plan, Vec<usize>, f64);

impl Goal<'_> {
    fn drop(&mut self, plan: &Plan) -> Result<f64, QuantizeError> {
        self.tried += 1;
        if plan.pairs.is_empty() {
            return Ok(0.0);
        }
        let score = self.judge.corrected(self.m, plan, self.o)?;
        self.drop_of(&score)
    }

    /// The drop of the plan, weights rounded as the options ask where the goal needs it.
    fn drop_at_best(&mut self, plan: &Plan) -> Result<f64, QuantizeError> {
        let drop = self.drop(plan)?;
        if drop <= self.max_drop || !rounding::is_wanted(self.o, &self.judge.calibration) {
            return Ok(drop);
        }
        self.tried += 1;
        let (m, o, judge) = (self.m, self.o, &self.judge);
        let c = calibrate_plan(m, plan, o, judge.engine, &judge.calibration, &|_| {})?;
        let (m, c) = rounding::rounded(m, plan, o, &c, judge)?;
        let score = judge.score(&written(&m, plan, o, &c, !o.no_bias_correction))?;
        Ok(self.drop_of(&score)?.min(drop))
    }

    fn drop_of(&self, s: &Score) -> Result<f64, QuantizeError> {
        Ok(match self.o.metric {
            Metric::Sqnr => 100.0 * 10f64.powf(-s.sqnr_db / 20.0),
            Metric::Cosine => 100.0 * (1.0 - s.cosine),
            Metric::Top1 => match (self.judge.float_top1(), s.top1) {
                (Some(a), Some(b)) => 100.0 * (a - b),
                _ => return Err(QuantizeError::NoScores),
            },
        })
    }

    fn without(
        &mut self,
        ranked: &[LayerNoise],
        kept: Vec<usize>,
    ) -> Result<Variant, QuantizeError> {
        let float: BTreeSet<OpId> = kept.iter().map(|i| ranked[*i].op).collect();
        let plan = plan_except(&self.m.graph, self.o, &float)?;
        let drop = self.drop(&plan)?;
        Ok((plan, kept, drop))
    }

    /// Bisection over how many of the first in the ranking stay in float; then each of them, from the
    /// one that costs least, is quantized after all where the goal holds.
    fn fewest(&mut self, ranked: &[LayerNoise]) -> Result<Variant, QuantizeError> {
        /// Ops that are tried again, one by one.
        const AGAIN: usize = 12;
        let (mut low, mut high) = (0, ranked.len());
        let mut best = self.without(ranked, (0..high).collect())?;
        while high - low > 1 {
            let middle = low.midpoint(high);
            let variant = self.without(ranked, (0..middle).collect())?;
            if variant.2 <= self.max_drop {
                (high, best) = (middle, variant);
            } else {
                low = middle;
            }
        }
        // The last one is needed: without it bisection went up.
        for i in best.1.clone().into_iter().rev().skip(1).take(AGAIN) {
            let kept: Vec<usize> = best.1.iter().copied().filter(|k| *k != i).collect();
            let variant = self.without(ranked, kept)?;
            if variant.2 <= self.max_drop {
                best = variant;
            }
        }
        Ok(best)
    }
}
