//! Weights as numbers: also those that are stored quantized or computed from constants.

use crate::engine::eval_op;
use crate::ir::{DType, Graph, OpId, Tensor, ValueId};
use crate::ops::axes;

/// Most ops between a weight and its constants.
const MAX_STEPS: usize = 8;

/// The weight that `op` reads, as floats. Integers are taken without their zero point, and without
/// their scale.
pub(super) fn weight(g: &Graph, opset: i64, op: OpId, value: ValueId) -> Option<Tensor> {
    let t = match g.const_tensor(value) {
        Some(t) => t.clone(),
        None if axes::is_weight(g, value) => computed(g, opset, value, MAX_STEPS)?,
        None => return None,
    };
    if t.dtype() == DType::F32 {
        return Some(t);
    }
    let mut data = t.to_f32().or_else(|| Some(t.to_i64()?.iter().map(|i| *i as f32).collect()))?;
    if let Some(zero) = zero_point(g, op, value) {
        data.iter_mut().for_each(|v| *v -= zero);
    }
    Tensor::from_f32(DType::F32, t.dims(), &data)
}

fn computed(g: &Graph, opset: i64, value: ValueId, steps: usize) -> Option<Tensor> {
    if let Some(t) = g.const_tensor(value) {
        return Some(t.clone());
    }
    let steps = steps.checked_sub(1)?;
    let (op, slot) = g.producer(value)?;
    let mut operands = Vec::new();
    for i in 0..g.op(op).arity() {
        operands.push(match g.operand(op, i) {
            Some(v) => Some(computed(g, opset, v, steps)?),
            None => None,
        });
    }
    let operands: Vec<Option<&Tensor>> = operands.iter().map(Option::as_ref).collect();
    eval_op(g.op(op), opset, &operands, usize::MAX)?.into_iter().nth(slot)
}

/// The zero point that stands for all of an integer weight: in `QLinearConv`, `ConvInteger` and their
/// like two slots after it.
fn zero_point(g: &Graph, op: OpId, value: ValueId) -> Option<f32> {
    let slot = (0..g.op(op).arity()).find(|i| g.operand(op, *i) == Some(value))?;
    let all = g.const_operand(op, slot + 2)?.to_i64()?;
    let first = *all.first()?;
    all.iter().all(|z| *z == first).then_some(first as f32)
}

/// Scales of the channels of an integer weight: in `QLinearConv` and `QLinearMatMul` one slot after it.
pub(super) fn channel_scales(g: &Graph, op: OpId, value: ValueId, len: usize) -> Option<Vec<f64>> {
    if !matches!(g.op(op).op_type.as_str(), "QLinearConv" | "QLinearMatMul") {
        return None;
    }
    let slot = (0..g.op(op).arity()).find(|i| g.operand(op, *i) == Some(value))?;
    g.const_operand(op, slot + 1)?.to_f64().filter(|s| s.len() == len)
}
