//! N1, N2, N9: what follows a linear op and fuses with it.
//!
//! TensorRT takes the type of a kernel's result from the QuantizeLinear of whoever reads it, so
//! nothing is placed behind a linear op or in front of what fuses with it. For ONNX Runtime's CPU
//! provider N1 is off: it makes integer convolutions only where the result is quantized as well. Its
//! integer matrix products give floats: pairs behind them would cost accuracy and gain nothing. For a
//! DLA, N1 is off as well.

use std::collections::BTreeSet;

use super::walk::{is_activation, may_be_f32, moves_data, normalizes_rows, other_than_constant};
use super::{Plan, Rules};
use crate::ir::{Graph, OpId, Slot, ValueId};

/// N1 off: the result of a linear op, or that of the Relu or Clip behind it, gets a pair for all that
/// read it. Where codes are UINT8, for ONNX Runtime, only convolutions do; with N5 on, not those with
/// which a residual stream begins that LayerNorm reads.
pub(super) fn results(g: &Graph, plan: &mut Plan, rules: &Rules) {
    if rules.on("N1") {
        return;
    }
    for op in plan.quantized.clone() {
        let Some(mut v) = g.result(op, 0).filter(|_| !plan.uint8 || is_convolution(g, op)) else {
            continue;
        };
        if let Some((next, 0)) = g.sole_use(v)
            && (g.op(next).is("Relu") || g.op(next).is("Clip"))
        {
            v = g.result(next, 0).unwrap_or(v);
        }
        let uses = g.uses(v);
        let operands = uses.iter().all(|(_, s)| matches!(s, Slot::Operand(_)));
        if uses.is_empty() || !operands || g.is_output(v) || !may_be_f32(g, v) {
            continue;
        }
        if plan.uint8 && rules.on("N5") && begins_stream(g, v) {
            continue;
        }
        for (op, slot) in uses {
            if let Slot::Operand(i) = slot {
                plan.read(v, op, i as usize, "N1");
            }
        }
    }
}

fn is_convolution(g: &Graph, op: OpId) -> bool {
    g.op(op).is("Conv") || g.op(op).is("ConvTranspose")
}

/// Data movement and arithmetic with constants, such as positions, make of the value what both a sum
/// of two activations and a normalization of rows read.
fn begins_stream(g: &Graph, value: ValueId) -> bool {
    let mut stack = vec![value];
    let mut seen = BTreeSet::new();
    while let Some(v) = stack.pop().filter(|_| seen.len() < 64) {
        let uses = || g.uses(v).into_iter().map(|u| u.0);
        let sum = |op| g.op(op).is("Add") && other_than_constant(g, op).is_none();
        if uses().any(sum) && uses().any(|op| normalizes_rows(g, op)) {
            return true;
        }
        let moved =
            uses().filter(|op| moves_data(g, *op) || other_than_constant(g, *op) == Some(v));
        stack.extend(moved.filter_map(|op| g.result(op, 0)).filter(|v| seen.insert(*v)));
    }
    false
}

/// N2 off: BatchNormalization and arithmetic with constants behind a quantized op read pairs; N9 off:
/// so do activation functions.
pub(super) fn inside(g: &Graph, plan: &mut Plan, rules: &Rules) {
    for op in g.order() {
        let Some((v, slot, rule)) = fuses(g, op).filter(|f| !rules.on(f.2)) else { continue };
        if plan.follows_quantized(g, v) && may_be_f32(g, v) {
            plan.read(v, op, slot, rule);
        }
    }
}

/// The activation that the op reads, its slot and the rule about it, when the op fuses with what is
/// before it.
fn fuses(g: &Graph, op: OpId) -> Option<(ValueId, usize, &'static str)> {
    if g.op(op).is("BatchNormalization") {
        return Some((g.operand(op, 0)?, 0, "N2"));
    }
    if is_activation(g, op) {
        return Some((g.operand(op, 0)?, 0, "N9"));
    }
    let v = other_than_constant(g, op)?;
    Some((v, usize::from(g.operand(op, 1) == Some(v)), "N2"))
}
