//! Trials: what a variant of a model loses by quantization, calibrated on a few samples and judged
//! on others.

use std::collections::BTreeMap;

use super::super::collect::Observed;
use super::super::placement::Plan;
use super::super::ranges::{choose, observe_plan};
use super::super::{
    Calibrated, Payload, QuantizeError, QuantizeOptions, calibrate_plan, correct_biases, insert,
};
use crate::ir::{Model, ValueId};
use crate::verify::judge::{Judge, Score};

impl Judge<'_> {
    /// What the planned activations are on the few samples, and the channels of values along axes.
    ///
    /// # Errors
    /// When the model does not run.
    pub(super) fn observe(
        &self,
        m: &Model,
        plan: &Plan,
        o: &QuantizeOptions,
        axes: &BTreeMap<ValueId, usize>,
    ) -> Result<Observed, QuantizeError> {
        observe_plan(m, plan, o, axes, (self.engine, &self.calibration, &|_| {}))
    }

    /// The model quantized by the plan and what was seen, biases corrected or not.
    ///
    /// # Errors
    /// When the model does not run.
    pub(super) fn quantized(
        &self,
        m: &Model,
        plan: &Plan,
        o: &QuantizeOptions,
        seen: &Observed,
        correct: bool,
    ) -> Result<Score, QuantizeError> {
        Ok(self.score(&written(m, plan, o, &choose(&m.graph, plan, o, seen), correct))?)
    }

    /// The model quantized by the plan, calibrated on a few samples, biases corrected unless that is
    /// off.
    ///
    /// # Errors
    /// When the model does not run.
    pub(super) fn corrected(
        &self,
        m: &Model,
        plan: &Plan,
        o: &QuantizeOptions,
    ) -> Result<Score, QuantizeError> {
        let c = calibrate_plan(m, plan, o, self.engine, &self.calibration, &|_| {})?;
        Ok(self.score(&written(m, plan, o, &c, corrects(o)))?)
    }
}

/// Biases are corrected.
pub(super) fn corrects(o: &QuantizeOptions) -> bool {
    !o.no_bias_correction && o.payload == Payload::Int8
}

/// The model quantized by the plan, biases corrected if `correct`.
pub(super) fn written(
    m: &Model,
    plan: &Plan,
    o: &QuantizeOptions,
    c: &Calibrated,
    correct: bool,
) -> Model {
    let mut m = m.clone();
    if correct {
        correct_biases(&mut m.graph, plan, c);
    }
    insert::insert(&mut m.graph, plan, c, o);
    m
}
