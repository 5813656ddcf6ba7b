//! N11: the one pair in front of a normalization.
//!
//! Conv → data movement → LayerNormalization: a pair on the input of the normalization lets the
//! Conv write INT8. Everything else about softmax, normalization and reductions stays float.

use super::walk::{may_be_f32, unmoved};
use super::{Plan, Rules};
use crate::ir::Graph;

pub(super) fn apply(g: &Graph, plan: &mut Plan, _: &Rules) {
    for op in g.order() {
        if !g.op(op).is("LayerNormalization") {
            continue;
        }
        let Some(x) = g.operand(op, 0).filter(|x| g.sole_use(*x).is_some()) else { continue };
        let Some(conv) = g.producer_op(unmoved(g, x)) else { continue };
        if g.op(conv).is("Conv") && plan.is_quantized(conv) && may_be_f32(g, x) {
            plan.read(x, op, 0, "N11");
        }
    }
}
