//! Ranges of all float32 activations of the main graph.

use std::collections::BTreeMap;

use super::{Observation, PrecisionError, Ranges};
use crate::ir::{DType, Graph, Model, OpId, Tensor, ValueId};
use crate::ops::{self, Quant};
use crate::quantize::observe::Range;
use crate::quantize::observe_ranges;

/// Runs the samples and observes every activation that is computed; what is only moved has the range
/// of where it comes from. Tensors are seen one by one, so memory depends neither on their number nor
/// on that of the samples.
pub(super) fn observe(m: &Model, seen: &Observation) -> Result<Ranges, PrecisionError> {
    let g = &m.graph;
    let values = computed(g);
    if seen.data.is_empty() || values.is_empty() {
        return Ok(BTreeMap::new());
    }
    let mut ranges = observe_ranges(m, &values, seen.engine, seen.data, seen.progress)?;
    for op in g.order().into_iter().filter(|op| only_moves(g, *op)) {
        let mut range = Range::default();
        for v in g.operands(op).into_iter().flatten() {
            if let Some(known) = ranges.get(&v) {
                range.merge(known);
            } else if let Some(data) = g.const_tensor(v).and_then(Tensor::to_f32) {
                range.observe(&data);
            }
        }
        for v in g.results(op).into_iter().flatten().filter(|_| range.count > 0) {
            ranges.insert(v, range.clone());
        }
    }
    Ok(ranges)
}

fn computed(g: &Graph) -> Vec<ValueId> {
    let float = |v: &ValueId| g.value(*v).dtype() == Some(DType::F32) && !g.is_const(*v);
    let made = |v: &ValueId| match g.producer_op(*v) {
        Some(op) => !only_moves(g, op),
        None => g.is_input(*v),
    };
    let mut values: Vec<ValueId> = g.values().filter(|v| float(v) && made(v)).collect();
    values.sort_unstable();
    values
}

/// The op makes nothing that is not among its operands.
fn only_moves(g: &Graph, op: OpId) -> bool {
    ops::schema(g.op(op)).is_some_and(|s| s.quant == Quant::PassThrough)
}
