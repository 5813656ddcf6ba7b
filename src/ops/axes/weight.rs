//! Weights: constants, and what is computed from constants alone.

use crate::ir::{Graph, ValueId};

/// Most ops between a weight and its constants.
const MAX_STEPS: usize = 8;

/// Operators through which a weight is still a weight.
const THROUGH: [&str; 9] = [
    "Cast",
    "Constant",
    "DequantizeLinear",
    "Identity",
    "QuantizeLinear",
    "Reshape",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

/// The value is a constant, or is computed from constants by operators that keep or rescale elements.
pub fn is_weight(g: &Graph, value: ValueId) -> bool {
    within(g, value, MAX_STEPS)
}

fn within(g: &Graph, value: ValueId, steps: usize) -> bool {
    if g.const_tensor(value).is_some() {
        return true;
    }
    let (Some(steps), Some((op, 0))) = (steps.checked_sub(1), g.producer(value)) else {
        return false;
    };
    let node = g.op(op);
    node.domain.is_empty()
        && THROUGH.contains(&node.op_type.as_str())
        && (0..node.arity()).filter_map(|i| g.operand(op, i)).all(|v| within(g, v, steps))
}
