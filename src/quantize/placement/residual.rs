//! N3, N5: residual additions.
//!
//! In `conv(…) + shortcut` a pair goes on the shortcut only. The branch stays float, so that
//! TensorRT runs Conv, Add and activation as one INT8 kernel, whose type the shortcut decides. Which
//! side is the branch: the one that comes from a quantized linear op through nothing that others
//! read; of two such, the one farther from where they part. In networks with LayerNorm the residual
//! stream stays float (N5): its range is what breaks them.

use super::walk::{backbone, distances_from_fork, has_layer_norm, may_be_f32};
use super::{Plan, Rules, linear};
use crate::ir::{Graph, OpId, ValueId};
use crate::ops::is_shape_arithmetic;

pub(super) fn apply(g: &Graph, plan: &mut Plan, rules: &Rules) {
    if rules.on("N5") && has_layer_norm(g) {
        return;
    }
    for op in g.order() {
        let found = shortcut(g, plan, op).filter(|_| !plan.float.contains(&op));
        if let Some((value, slot)) = found {
            plan.read(value, op, slot, "N3");
            plan.fused.insert(op);
        }
    }
}

/// The operand of a residual Add that gets the pair, and its slot.
fn shortcut(g: &Graph, plan: &Plan, add: OpId) -> Option<(ValueId, usize)> {
    if !g.op(add).is("Add") {
        return None;
    }
    let sides = [g.operand(add, 0)?, g.operand(add, 1)?];
    let [a, b] = sides;
    if a == b || sides.iter().any(|v| g.is_const(*v) || !may_be_f32(g, *v)) || !same_shape(g, a, b)
    {
        return None;
    }
    let is_linear = |op| linear(g, op).is_some();
    let fuses = sides
        .map(|v| backbone(g, v, &is_linear).is_some_and(|b| b.private && plan.is_quantized(b.op)));
    let branch = match fuses {
        [true, false] => 0,
        [false, true] => 1,
        [true, true] => {
            let (from_a, from_b) = distances_from_fork(g, a, b)?;
            usize::from(from_b > from_a)
        }
        [false, false] => return None,
    };
    let slot = 1 - branch;
    let value = sides[slot];
    (!is_shape_arithmetic(g, value) && !g.is_input(value)).then_some((value, slot))
}

/// As far as it is known, neither side is broadcast.
fn same_shape(g: &Graph, a: ValueId, b: ValueId) -> bool {
    match (g.value(a).shape(), g.value(b).shape()) {
        (Some(a), Some(b)) => a.len() == b.len() && a.iter().zip(b).all(|(x, y)| !x.differs(y)),
        _ => true,
    }
}
