//! Which layers lose most, and the fewest that must stay in float to meet a goal.

use std::collections::BTreeSet;
use std::time::Instant;

use super::super::placement::{Plan, plan, plan_except};
use super::super::{QuantizeError, QuantizeOptions, calibrate_plan, insert, prepare};
use super::rounding;
use super::trial::written;
use crate::data::Source;
use crate::engine::Engine;
use crate::ir::{Model, OpId};
use crate::verify::judge::{Judge, Score, Variant, fewest};
use crate::verify::{LayerNoise, Metric, Search};

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
    let judge = Judge::for_goal(&m, engine, data, data.labels().is_some())?;
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
    let judge = Judge::for_goal(m, engine, data, o.metric == Metric::Top1)?;
    let mut goal = Goal { m, o, judge, max_drop, tried: 0 };
    let drop_before = goal.drop_at_best(full)?;
    let mut found = Search::begun(o.metric, max_drop, drop_before);
    if !found.met {
        let ranked = rank(m, full, o, &goal.judge, &|_, _| {})?;
        let (plan, kept, drop) = goal.fewest(&ranked)?;
        *full = plan;
        found.settle(ranked, &kept, drop);
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
        self.judge.drop(s, self.o.metric).ok_or(QuantizeError::NoScores)
    }

    fn fewest(&mut self, ranked: &[LayerNoise]) -> Result<Variant<Plan>, QuantizeError> {
        /// Ops that are tried again, one by one.
        const AGAIN: usize = 12;
        fewest(ranked.len(), self.max_drop, AGAIN, |kept| {
            let float: BTreeSet<OpId> = kept.iter().map(|i| ranked[*i].op).collect();
            let plan = plan_except(&self.m.graph, self.o, &float)?;
            let drop = self.drop(&plan)?;
            Ok((plan, drop))
        })
    }
}
