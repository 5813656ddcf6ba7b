//! Accuracy recovery without training: rewrites of the float model that make it lose less when it
//! is quantized. Each is tried on a few samples and kept if the SQNR of the outputs on others grows.

mod absorb;
mod channels;
mod equalize;
mod rounding;
mod search;
mod space;
#[cfg(test)]
mod tests;
mod trial;

use std::collections::BTreeMap;
use std::time::Instant;

use serde::{Deserialize, Serialize};

use super::collect::Observed;
use super::placement::{Plan, plan};
use super::{FEW, QuantizeError, QuantizeOptions};
use crate::data::Source;
use crate::engine::Engine;
use crate::ir::{Model, ValueId};
use crate::verify::judge::{CALIBRATED, JUDGED, Judge};
use equalize::Site;
use trial::corrects;

pub(super) use channels::ChannelStats;
pub(super) use rounding::round_weights;
pub(super) use search::meet_goal;
pub use search::noise_by_layer;

/// How channels of activations are evened out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Equalize {
    /// Not at all.
    Off,
    /// Where weights on both sides take the factors in.
    Fold,
    /// As `fold`; and before matrices a Mul is added where nothing else takes the factors in.
    #[default]
    Insert,
}

/// What one method of recovery did.
#[derive(Clone, Debug, Serialize)]
pub struct Recovery {
    /// The method.
    pub method: &'static str,
    /// Places where it changed something.
    pub sites: usize,
    /// SQNR of the outputs in decibels, quantized without it, on calibration samples that trials
    /// were not calibrated on.
    pub sqnr_before: f64,
    /// The same with it.
    pub sqnr_after: f64,
    /// It helped, and so was kept.
    pub kept: bool,
    /// Seconds it took.
    pub seconds: f64,
}

/// Decibels that a method must gain to be kept, beyond what chance makes.
const GAIN: f64 = 0.02;
/// The same for what leaves the float model as it is on what calibration saw alone.
const GAIN_AT_A_RISK: f64 = 0.2;

/// What trials leave to go on with.
pub(super) struct Trials<'a> {
    /// What each method did.
    pub steps: Vec<Recovery>,
    /// Judges by the outputs of the float model.
    pub judge: Judge<'a>,
    /// What was seen of the model as it is now.
    pub seen: Observed,
    /// Correcting biases helps.
    pub corrects: bool,
}

/// Equalizes the model, as far as its outputs lose less by quantization then. The plan is made
/// again for what has become of it. `None` where nothing is to be tried.
///
/// # Errors
/// When the model does not run on the data.
pub(super) fn recover<'a>(
    m: &mut Model,
    plan: &mut Plan,
    o: &QuantizeOptions,
    engine: &'a dyn Engine,
    data: &'a dyn Source,
) -> Result<Option<Trials<'a>>, QuantizeError> {
    // A single sample would judge what is fitted to it.
    if o.equalize == Equalize::Off || data.len() < 2 || data.is_synthetic() {
        return Ok(None);
    }
    let judge = Judge::new(m, engine, data, JUDGED, CALIBRATED)?;
    let seen = judge.observe(m, plan, o, &observed(m, plan, &[false, true]))?;
    let best = judge.quantized(m, plan, o, &seen, corrects(o))?.sqnr_db;
    let mut run = Run { judge, m, plan, o, best, seen, steps: Vec::new() };
    let all = [("equalize", false), ("smooth", true)];
    let wanted = if run.o.equalize == Equalize::Fold { &all[..1] } else { &all[..] };
    for (method, insert) in wanted {
        run.equalize(method, *insert)?;
    }
    // What few samples never fell short of, others do.
    if data.len() * data.batch() >= FEW {
        run.absorb()?;
    }
    let corrects = corrects(o) && run.correction_helps()?;
    Ok(Some(Trials { steps: run.steps, judge: run.judge, seen: run.seen, corrects }))
}

/// Sites of factors: those that weights take in, or those that need a Mul.
fn sites(m: &Model, plan: &Plan, insert: bool) -> Vec<Site> {
    let mut sites = equalize::sites(&m.graph, plan, insert);
    sites.retain(|s| s.insert_behind.is_some() == insert);
    sites
}

/// The values that factors, and what biases absorb, are found from, with the axes of their channels.
fn observed(m: &Model, plan: &Plan, inserts: &[bool]) -> BTreeMap<ValueId, usize> {
    let all = inserts.iter().flat_map(|insert| sites(m, plan, *insert));
    let absorbed = absorb::sites(&m.graph, plan).into_iter().map(|s| s.before);
    all.flat_map(|s| s.observed().collect::<Vec<_>>()).chain(absorbed).collect()
}

/// A model rewritten at some sites.
struct Variant {
    model: Model,
    plan: Plan,
    changed: usize,
    seen: Observed,
    /// SQNR in decibels.
    after: f64,
}

/// A model on its way to the best variant.
struct Run<'a, 'b> {
    judge: Judge<'a>,
    m: &'b mut Model,
    plan: &'b mut Plan,
    o: &'b QuantizeOptions,
    best: f64,
    seen: Observed,
    steps: Vec<Recovery>,
}

impl Run<'_, '_> {
    /// Whether the model as it is now loses less with biases corrected, as `best` is, than without.
    fn correction_helps(&mut self) -> Result<bool, QuantizeError> {
        let start = Instant::now();
        let plain = self.judge.quantized(self.m, self.plan, self.o, &self.seen, false)?.sqnr_db;
        let kept = self.best > plain;
        self.steps.push(Recovery {
            method: "bias-correction",
            sites: self.plan.weights.len(),
            sqnr_before: plain,
            sqnr_after: self.best,
            kept,
            seconds: start.elapsed().as_secs_f64(),
        });
        Ok(kept)
    }

    fn equalize(&mut self, method: &'static str, insert: bool) -> Result<(), QuantizeError> {
        let start = Instant::now();
        let sites = sites(self.m, self.plan, insert);
        let all: Vec<&Site> = sites.iter().collect();
        let free: Vec<&Site> = sites.iter().filter(|s| s.is_free()).collect();
        let mut best: Option<Variant> = None;
        for chosen in [&all, &free] {
            if (chosen.len() == all.len() && best.is_some()) || chosen.is_empty() {
                continue;
            }
            let variant = self.variant(chosen, !insert)?;
            let better = |v: &Variant| best.as_ref().is_none_or(|b| v.after > b.after);
            best = variant.filter(better).or(best);
        }
        if let Some(variant) = best {
            self.keep_if_better(method, variant, GAIN, start);
        }
        Ok(())
    }

    fn absorb(&mut self) -> Result<(), QuantizeError> {
        let start = Instant::now();
        let mut model = self.m.clone();
        let sites = absorb::sites(&model.graph, self.plan);
        let absorbs = sites.iter().filter(|s| absorb::absorb(&mut model.graph, s, &self.seen));
        let changed = absorbs.count();
        if changed > 0 {
            let variant = self.judged(model, changed, None)?;
            self.keep_if_better("absorb", variant, GAIN_AT_A_RISK, start);
        }
        Ok(())
    }

    /// Notes what a variant gains, and goes on with it if that is enough.
    fn keep_if_better(
        &mut self,
        method: &'static str,
        variant: Variant,
        gain: f64,
        start: Instant,
    ) {
        let Variant { model, plan, changed, seen, after } = variant;
        let kept = self.judge.gains(self.best, after, gain);
        self.steps.push(Recovery {
            method,
            sites: changed,
            sqnr_before: self.best,
            sqnr_after: after,
            kept,
            seconds: start.elapsed().as_secs_f64(),
        });
        if kept {
            (*self.m, *self.plan, self.best, self.seen) = (model, plan, after, seen);
        }
    }

    /// The model with factors for these sites, judged; `None` when nothing is worth it. Where factors
    /// that need a Mul are tried `later`, their sites are observed too.
    fn variant(&self, sites: &[&Site], later: bool) -> Result<Option<Variant>, QuantizeError> {
        let mut model = self.m.clone();
        let mut changed = 0;
        for site in sites {
            // The weights of two spaces may be the same: each sees what the others left.
            let Some((s, _, _)) = equalize::factors(&model.graph, self.plan, site, &self.seen)
            else {
                continue;
            };
            changed += usize::from(equalize::apply(&mut model.graph, site, &s));
        }
        if changed == 0 {
            return Ok(None);
        }
        self.judged(model, changed, Some(if later { &[true] } else { &[] })).map(Some)
    }

    /// A rewritten model, planned anew and judged. What methods that are tried later are found from is
    /// observed: that of `absorb` and of these factors, or nothing.
    fn judged(
        &self,
        mut model: Model,
        changed: usize,
        later: Option<&[bool]>,
    ) -> Result<Variant, QuantizeError> {
        let opset = model.default_opset();
        crate::pass::infer_graph(&mut model.graph, opset, &mut |_, _| {});
        let plan = plan(&model.graph, self.o)?;
        let axes = later.map(|later| observed(&model, &plan, later)).unwrap_or_default();
        let seen = self.judge.observe(&model, &plan, self.o, &axes)?;
        let after = self.judge.quantized(&model, &plan, self.o, &seen, corrects(self.o))?.sqnr_db;
        Ok(Variant { model, plan, changed, seen, after })
    }
}
