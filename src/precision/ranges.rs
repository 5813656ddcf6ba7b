//! Ranges of all float32 activations of the main graph.

use std::collections::BTreeMap;

use super::{Observation, PrecisionError, Ranges};
use crate::ir::{DType, Graph, Model, ValueId};
use crate::quantize::observe_ranges;

/// Runs the samples and observes every activation. Tensors are seen one by one, so memory depends
/// neither on their number nor on that of the samples.
pub(super) fn observe(m: &Model, seen: &Observation) -> Result<Ranges, PrecisionError> {
    let values = activations(&m.graph);
    if seen.data.is_empty() || values.is_empty() {
        return Ok(BTreeMap::new());
    }
    Ok(observe_ranges(m, &values, seen.engine, seen.data, seen.progress)?)
}

fn activations(g: &Graph) -> Vec<ValueId> {
    let float = |v: &ValueId| g.value(*v).dtype() == Some(DType::F32) && !g.is_const(*v);
    let made = |v: &ValueId| g.is_input(*v) || g.producer_op(*v).is_some();
    let mut values: Vec<ValueId> = g.values().filter(|v| float(v) && made(v)).collect();
    values.sort_unstable();
    values
}
