//! Weights rounded layer after layer, so that each makes good what the quantized layers before it
//! have lost.

use std::collections::BTreeMap;
use std::time::Instant;

use super::super::placement::Plan;
use super::super::ranges::Calibrated;
use super::super::{Payload, QuantizeError, QuantizeOptions, insert};
use super::trial::written;
use super::{GAIN, Recovery};
use crate::data::Source;
use crate::engine::Engine;
use crate::ir::{Model, ValueId};
use crate::recover::grid::{Quantized, recover_rounded};
use crate::recover::layer::Layer;
use crate::recover::{Calibration, RecoverError, Rounding};
use crate::verify::judge::{CALIBRATED, JUDGED, Judge};

/// The options ask for more than rounding to nearest, and there is something to fit to.
pub(super) fn is_wanted(o: &QuantizeOptions, data: &dyn Source) -> bool {
    let wanted = o.rounding != Rounding::Nearest && o.payload == Payload::Int8;
    wanted && !data.is_empty() && !data.is_synthetic()
}

/// Rounds the weights of a calibrated model as the options ask, if its outputs gain by it, and returns
/// the scales of those that now lie on their grid. What it did goes to the steps. `judge` is one that
/// there is already.
///
/// # Errors
/// When the model does not run on the data.
pub(in super::super) fn round_weights(
    m: &mut Model,
    plan: &Plan,
    o: &QuantizeOptions,
    c: &Calibrated,
    (engine, data): (&dyn Engine, &dyn Source),
    judge: Option<Judge>,
    steps: &mut Vec<Recovery>,
) -> Result<BTreeMap<ValueId, Vec<f32>>, QuantizeError> {
    if !is_wanted(o, data) {
        return Ok(BTreeMap::new());
    }
    let start = Instant::now();
    let judge = match judge {
        Some(judge) => judge,
        None => Judge::new(m, engine, data, JUDGED, CALIBRATED)?,
    };
    let correct = !o.no_bias_correction;
    let sqnr_before = judge.score(&written(m, plan, o, c, correct))?.sqnr_db;
    let (new, with) = rounded(m, plan, o, c, &judge)?;
    let sqnr_after = judge.score(&written(&new, plan, o, &with, correct))?.sqnr_db;
    let kept = judge.gains(sqnr_before, sqnr_after, GAIN);
    steps.push(Recovery {
        method: "rounding",
        sites: with.weight_scales.len(),
        sqnr_before,
        sqnr_after,
        kept,
        seconds: start.elapsed().as_secs_f64(),
    });
    if !kept {
        return Ok(BTreeMap::new());
    }
    *m = new;
    Ok(with.weight_scales)
}

/// The float model with weights on their grids and biases to them, and the ranges with the scales.
///
/// # Errors
/// When the model does not run on the samples.
pub(super) fn rounded(
    m: &Model,
    plan: &Plan,
    o: &QuantizeOptions,
    c: &Calibrated,
    judge: &Judge,
) -> Result<(Model, Calibrated), QuantizeError> {
    let mut cut = m.clone();
    let mut pairs = plan.clone();
    pairs.weights.clear();
    insert::insert(&mut cut.graph, &pairs, c, o);
    let per_row = |op| plan.weights.iter().any(|w| w.op == op && w.axis.is_some());
    let quantized = Quantized { ops: &per_row, rounding: o.rounding };
    let source = &judge.calibration;
    let calibration = Calibration { engine: judge.engine, source, progress: &|_, _, _| {} };
    let report = recover_rounded(m, &mut cut, &quantized, calibration).map_err(|e| match e {
        RecoverError::NoSamples => QuantizeError::NoSamples,
        RecoverError::Run(e) => QuantizeError::Run(e),
    })?;
    let (mut new, mut scales) = (m.clone(), BTreeMap::new());
    for (op, fitted) in report.layers.into_iter().filter_map(|l| l.written) {
        let Some(layer) = Layer::of(&new.graph, op) else { continue };
        if layer.write(&mut new.graph, &fitted.weights, &fitted.bias) && !fitted.scales.is_empty() {
            scales.insert(layer.weight, fitted.scales);
        }
    }
    Ok((new, Calibrated { weight_scales: scales, ..c.clone() }))
}
