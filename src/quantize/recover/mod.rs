//! Accuracy recovery without training: rewrites of the float model that make it lose less when it
//! is quantized. Each is tried on a few samples and kept if the SQNR of the outputs on others grows.

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

use super::placement::{Plan, plan};
use super::{QuantizeError, QuantizeOptions};
use crate::data::Source;
use crate::engine::Engine;
use crate::ir::{Model, ValueId};
use channels::ChannelStats;
use equalize::Site;
use trial::{CALIBRATED, JUDGED, Judge};

pub(super) use rounding::round_weights;
pub(super) use search::meet_goal;
pub use search::{LayerNoise, Metric, Search, noise_by_layer};

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

/// Decibels that a method must gain to be kept.
const GAIN: f64 = 0.02;

/// Equalizes the model, as far as its outputs lose less by quantization then. The plan is made
/// again for what has become of it.
///
/// # Errors
/// When the model does not run on the data.
pub(super) fn recover(
    m: &mut Model,
    plan: &mut Plan,
    o: &QuantizeOptions,
    engine: &dyn Engine,
    data: &dyn Source,
) -> Result<Vec<Recovery>, QuantizeError> {
    if o.equalize == Equalize::Off || data.is_empty() || data.is_synthetic() {
        return Ok(Vec::new());
    }
    let judge = Judge::new(m, engine, data, JUDGED, CALIBRATED)?;
    let (plain, corrected) = judge.quantized(m, plan, o)?;
    let mut steps = Vec::new();
    let best = corrected.unwrap_or(plain).max(plain);
    let mut run = Run { judge, m, plan, o, best, steps: &mut steps };
    let all = [("equalize", false), ("smooth", true)];
    let wanted = if run.o.equalize == Equalize::Fold { &all[..1] } else { &all[..] };
    for (method, insert) in wanted {
        run.equalize(method, *insert)?;
    }
    if let Some(corrected) = corrected {
        steps.push(Recovery {
            method: "bias-correction",
            sites: plan.weights.len(),
            sqnr_before: plain,
            sqnr_after: corrected,
            kept: true,
            seconds: 0.0,
        });
    }
    Ok(steps)
}

/// A model with factors at some sites.
struct Variant {
    model: Model,
    plan: Plan,
    changed: usize,
    /// SQNR in decibels.
    after: f64,
}

/// A model on its way to the best variant.
struct Run<'a> {
    judge: Judge<'a>,
    m: &'a mut Model,
    plan: &'a mut Plan,
    o: &'a QuantizeOptions,
    best: f64,
    steps: &'a mut Vec<Recovery>,
}

impl Run<'_> {
    fn equalize(&mut self, method: &'static str, insert: bool) -> Result<(), QuantizeError> {
        let start = Instant::now();
        let mut sites = equalize::sites(&self.m.graph, self.plan, insert);
        sites.retain(|s| s.insert_behind.is_some() == insert);
        let values: BTreeMap<ValueId, usize> = sites.iter().flat_map(|s| s.observed()).collect();
        if values.is_empty() {
            return Ok(());
        }
        let part = self.judge.calibration;
        let stats = channels::observe(self.m, &values, self.judge.engine, &part, &|_| {})?;
        let all: Vec<&Site> = sites.iter().collect();
        let free: Vec<&Site> = sites.iter().filter(|s| s.is_free()).collect();
        let mut best: Option<Variant> = None;
        for chosen in [&all, &free] {
            if (chosen.len() == all.len() && best.is_some()) || chosen.is_empty() {
                continue;
            }
            let variant = self.variant(chosen, &stats)?;
            let better = |v: &Variant| best.as_ref().is_none_or(|b| v.after > b.after);
            best = variant.filter(better).or(best);
        }
        let Some(Variant { model: new, plan: new_plan, changed, after }) = best else {
            return Ok(());
        };
        let kept = after > self.best + GAIN;
        self.steps.push(Recovery {
            method,
            sites: changed,
            sqnr_before: self.best,
            sqnr_after: after,
            kept,
            seconds: start.elapsed().as_secs_f64(),
        });
        if kept {
            (*self.m, *self.plan, self.best) = (new, new_plan, after);
        }
        Ok(())
    }

    /// The model with factors for these sites, judged; `None` when nothing is worth it.
    fn variant(
        &self,
        sites: &[&Site],
        stats: &BTreeMap<ValueId, ChannelStats>,
    ) -> Result<Option<Variant>, QuantizeError> {
        let mut model = self.m.clone();
        let mut changed = 0;
        for site in sites {
            // The weights of two spaces may be the same: each sees what the others left.
            let Some((s, _, _)) = equalize::factors(&model.graph, site, stats) else { continue };
            changed += usize::from(equalize::apply(&mut model.graph, site, &s));
        }
        if changed == 0 {
            return Ok(None);
        }
        let opset = model.default_opset();
        crate::pass::infer_graph(&mut model.graph, opset, &mut |_, _| {});
        let plan = plan(&model.graph, self.o)?;
        let after = self.judge.corrected(&model, &plan, self.o)?.sqnr_db;
        Ok(Some(Variant { model, plan, changed, after }))
    }
}
