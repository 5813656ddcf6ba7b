//! N4: arithmetic of two activations.
//!
//! An Add, Sub or Mul of two activations reads a pair only where its operand has one for a
//! quantized linear op anyway: the tensor then exists in INT8 alone. Arithmetic with a constant is
//! an epilogue and stays float, as do residual streams of networks with LayerNorm (N5).

use super::walk::{has_layer_norm, may_be_f32};
use super::{Plan, Rules};
use crate::ir::Graph;

pub(super) fn apply(g: &Graph, plan: &mut Plan, rules: &Rules) {
    if rules.on("N5") && has_layer_norm(g) {
        return;
    }
    for op in g.order() {
        let node = g.op(op);
        if !["Add", "Sub", "Mul"].iter().any(|t| node.is(t)) {
            continue;
        }
        let (Some(a), Some(b)) = (g.operand(op, 0), g.operand(op, 1)) else { continue };
        let float = [a, b].iter().all(|v| !g.is_const(*v) && may_be_f32(g, *v));
        let follows = [a, b].iter().any(|v| plan.follows_quantized(g, *v));
        let residual = [(a, 0), (b, 1)].iter().any(|(v, i)| {
            plan.pairs.get(v).is_some_and(|r| r.get(&(op, *i)).is_some_and(|rule| *rule == "N3"))
        });
        if !float || !follows || residual {
            continue;
        }
        for (v, slot) in [(a, 0), (b, 1)] {
            // The other operand fuses with this op when it comes straight from a linear op.
            if plan.has_pair(v) && !g.is_output(v) {
                plan.read(v, op, slot, "N4");
            }
        }
    }
}
