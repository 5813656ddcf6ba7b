//! T2: GELU and LayerNorm that the exporter spelled out.
//!
//! Their arithmetic reads one tensor several times, so it looks like arithmetic of activations that
//! could share a pair. It computes one function, in float.

use std::collections::BTreeSet;

use super::walk::{is_activation, other_than_constant};
use crate::ir::{Graph, OpId, ValueId};

/// Ops inside such functions that read two activations.
pub(super) fn interiors(g: &Graph) -> BTreeSet<OpId> {
    g.ops().filter(|op| is_gelu_product(g, *op) || is_norm(g, *op)).collect()
}

fn pair(g: &Graph, op: OpId) -> Option<(ValueId, ValueId)> {
    let (a, b) = (g.operand(op, 0)?, g.operand(op, 1)?);
    (!g.is_const(a) && !g.is_const(b)).then_some((a, b))
}

/// `x * f(x)` or `x + c x^3`, the other side being made of `x` and constants alone, with Erf, Tanh or
/// a power on the way.
fn is_gelu_product(g: &Graph, op: OpId) -> bool {
    if !(g.op(op).is("Mul") || g.op(op).is("Add")) {
        return false;
    }
    pair(g, op).is_some_and(|(a, b)| {
        let (a, b) = (unscaled(g, a), unscaled(g, b));
        gates(g, b, a, 12) || gates(g, a, b, 12)
    })
}

/// Behind one multiplication by a constant, as in `(x / 2) * (1 + erf(x / √2))`.
fn unscaled(g: &Graph, v: ValueId) -> ValueId {
    let scaled = g.producer_op(v).filter(|op| g.op(*op).is("Mul") || g.op(*op).is("Div"));
    scaled.and_then(|op| other_than_constant(g, op)).unwrap_or(v)
}

/// `value` is computed from `origin` and constants, through Erf, Tanh, Pow or a product of `origin`
/// with itself.
fn gates(g: &Graph, value: ValueId, origin: ValueId, depth: usize) -> bool {
    let (mut curved, mut v) = (false, value);
    for _ in 0..depth {
        if v == origin {
            return curved && v != value;
        }
        let Some(op) = g.producer_op(v) else { return false };
        let node = g.op(op);
        curved |= ["Erf", "Tanh", "Pow"].iter().any(|t| node.is(t));
        let before = match node.op_type.as_str() {
            "Erf" | "Pow" => g.operand(op, 0),
            _ if is_activation(g, op) => g.operand(op, 0),
            _ => other_than_constant(g, op).or_else(|| {
                // x + c x^3 and x * x^2: either side leads back.
                let (a, b) = pair(g, op)?;
                curved |= a == b;
                Some(if a == origin { b } else { a })
            }),
        };
        match before {
            Some(before) => v = before,
            None => return false,
        }
    }
    false
}

/// `x - mean(x)`, its square, or its division by the deviation.
fn is_norm(g: &Graph, op: OpId) -> bool {
    let made_by = |v: ValueId, t: &str| g.producer_op(v).is_some_and(|op| g.op(op).is(t));
    let node = g.op(op);
    let Some((a, b)) = pair(g, op) else { return false };
    let centered = |v: ValueId| {
        g.producer_op(v).is_some_and(|op| {
            g.op(op).is("Sub") && g.operand(op, 1).is_some_and(|m| made_by(m, "ReduceMean"))
        })
    };
    (node.is("Sub") && made_by(b, "ReduceMean"))
        || (node.is("Mul") && a == b && centered(a))
        || (node.is("Div") && centered(a) && made_by(b, "Sqrt"))
        || (node.is("Mul") && [a, b].iter().any(|v| centered(*v)))
}
