//! T4, T5: the two products of attention.
//!
//! `softmax(q kᵀ [* scale] [+ mask]) v`: pairs on both operands of both products, so that TensorRT
//! fuses the whole in 8 bits. Both or none (T6): the head size must be known, more than 8 and at most
//! 256 for FP8 (T5), on by default there; for INT8 (T4), on request, the sequence must be known and
//! at most 512 long. Probabilities lie in [0, 1], so their range is not observed.

use super::Plan;
use super::walk::may_be_f32;
use crate::ir::{Graph, OpId, ValueId};

/// Plans pairs for every attention. `fp8` chooses the conditions.
pub(super) fn apply(g: &Graph, plan: &mut Plan, fp8: bool) {
    for op in g.order() {
        if let Some(a) = attention(g, op).filter(|a| a.fits(g, fp8)) {
            let rule = if fp8 { "T5" } else { "T4" };
            for (product, slot) in [(a.first, 0), (a.first, 1), (a.second, 0), (a.second, 1)] {
                if let Some(v) = g.operand(product, slot) {
                    plan.read(v, product, slot, rule);
                }
            }
            plan.fixed.insert(a.probabilities, 1.0);
            plan.quantized.insert(a.first);
            plan.quantized.insert(a.second);
            for d in &mut plan.decisions {
                if d.node == g.label(a.first) || d.node == g.label(a.second) {
                    (d.quantized, d.rule) = (true, rule);
                    d.reason = "a product of attention".into();
                }
            }
        }
    }
}

struct Attention {
    first: OpId,
    second: OpId,
    probabilities: ValueId,
}

/// The attention whose second product is `op`.
fn attention(g: &Graph, op: OpId) -> Option<Attention> {
    let product = |op: OpId| {
        g.op(op).is("MatMul")
            && [0, 1]
                .iter()
                .all(|i| g.operand(op, *i).is_some_and(|v| !g.is_const(v) && may_be_f32(g, v)))
    };
    if !product(op) {
        return None;
    }
    let probabilities = g.operand(op, 0)?;
    let mut at = g.producer_op(probabilities)?;
    while g.op(at).is("Cast") || g.op(at).is("Dropout") || g.op(at).is("Identity") {
        at = g.producer_op(g.operand(at, 0)?)?;
    }
    if !g.op(at).is("Softmax") {
        return None;
    }
    let mut v = g.operand(at, 0)?;
    // Scale and mask, in either order.
    for _ in 0..4 {
        let before = g.producer_op(v)?;
        let node = g.op(before);
        if node.is("MatMul") {
            return product(before).then_some(Attention {
                first: before,
                second: op,
                probabilities,
            });
        }
        if !(node.is("Mul") || node.is("Div") || node.is("Add") || node.is("Where")) {
            return None;
        }
        // The side that leads on to the product, over arithmetic alone.
        let sides = g.operands(before).into_iter().flatten().filter(|v| !g.is_const(*v));
        v = sides.into_iter().find(|v| leads_to_product(g, *v, 3))?;
    }
    None
}

fn leads_to_product(g: &Graph, v: ValueId, depth: usize) -> bool {
    let Some(op) = g.producer_op(v) else { return false };
    let node = g.op(op);
    node.is("MatMul")
        || (depth > 0
            && (node.is("Mul") || node.is("Div") || node.is("Add"))
            && g.operands(op).into_iter().flatten().any(|v| leads_to_product(g, v, depth - 1)))
}

impl Attention {
    fn fits(&self, g: &Graph, fp8: bool) -> bool {
        let shape =
            |slot: usize| g.operand(self.first, slot).and_then(|v| g.value(v).shape().cloned());
        let (Some(q), Some(k)) = (shape(0), shape(1)) else { return false };
        let head = q.last().and_then(|d| d.size());
        let sequence = k.last().and_then(|d| d.size());
        if fp8 {
            return head.is_some_and(|h| h > 8 && h <= 256);
        }
        sequence.is_some_and(|n| n <= 512)
    }
}
