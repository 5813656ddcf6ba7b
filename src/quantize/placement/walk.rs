//! Ways through the graph that placement rules ask about.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::ir::{DType, Graph, OpId, ValueId};
use crate::ops::{self, Quant};

/// The op only moves the elements of its first operand: a Q/DQ pair means the same before and after
/// it. Concat, which moves several, and pools, which choose, have rules of their own.
pub(super) fn moves_data(g: &Graph, op: OpId) -> bool {
    let node = g.op(op);
    let special = ["Concat", "MaxPool", "GlobalMaxPool"].iter().any(|t| node.is(t));
    let passes = ops::schema(node).is_some_and(|s| s.quant == Quant::PassThrough);
    (passes && !special) || is_nearest_resize(g, op)
}

/// A Resize that copies elements.
pub(super) fn is_nearest_resize(g: &Graph, op: OpId) -> bool {
    let node = g.op(op);
    (node.is("Resize") || node.is("Upsample")) && node.str("mode").unwrap_or("nearest") == "nearest"
}

/// Operators of one operand that kernels apply on their way out.
fn is_epilogue(g: &Graph, op: OpId) -> bool {
    g.op(op).is("BatchNormalization") || is_activation(g, op)
}

/// An activation function that fuses with a linear op before it.
pub(super) fn is_activation(g: &Graph, op: OpId) -> bool {
    const ACTIVATIONS: [&str; 15] = [
        "Celu",
        "Clip",
        "Elu",
        "Gelu",
        "HardSigmoid",
        "HardSwish",
        "LeakyRelu",
        "Mish",
        "PRelu",
        "Relu",
        "Selu",
        "Sigmoid",
        "Softplus",
        "Swish",
        "Tanh",
    ];
    let node = g.op(op);
    node.domain.is_empty() && ACTIVATIONS.contains(&node.op_type.as_str())
}

/// The operand that is not constant, for elementwise arithmetic with one constant operand.
pub(super) fn other_than_constant(g: &Graph, op: OpId) -> Option<ValueId> {
    let node = g.op(op);
    if !["Add", "Sub", "Mul", "Div"].iter().any(|t| node.is(t)) {
        return None;
    }
    let (a, b) = (g.operand(op, 0)?, g.operand(op, 1)?);
    match (g.is_const(a), g.is_const(b)) {
        (false, true) => Some(a),
        (true, false) => Some(b),
        _ => None,
    }
}

/// For `x * gate(x)`, the gate being a chain of pointwise ops on `x` alone (SiLU, hard-swish,
/// Mish): `x`.
fn self_gated(g: &Graph, op: OpId) -> Option<ValueId> {
    if !g.op(op).is("Mul") {
        return None;
    }
    let (a, b) = (g.operand(op, 0)?, g.operand(op, 1)?);
    if derives(g, b, a) {
        Some(a)
    } else if derives(g, a, b) {
        Some(b)
    } else {
        None
    }
}

/// `value` is a chain of at most six pointwise ops on `origin`, read by nothing else.
fn derives(g: &Graph, mut value: ValueId, origin: ValueId) -> bool {
    for _ in 0..6 {
        if value == origin {
            return true;
        }
        let Some(op) = g.producer_op(value).filter(|_| g.sole_use(value).is_some()) else {
            return false;
        };
        let before = if is_epilogue(g, op) { g.operand(op, 0) } else { other_than_constant(g, op) };
        let Some(before) = before else { return false };
        value = before;
    }
    value == origin
}

/// Where a value comes from, when it is a linear op followed by what fuses with it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Backbone {
    /// The linear op.
    pub op: OpId,
    /// Nothing outside the chain reads any value on the way, the last one included.
    pub private: bool,
}

/// The linear op that `value` comes from through activations, batch normalization, arithmetic with
/// constants, self-gating, MaxPool and data movement.
pub(super) fn backbone(
    g: &Graph,
    mut value: ValueId,
    linear: &dyn Fn(OpId) -> bool,
) -> Option<Backbone> {
    let mut private = true;
    let mut readers = 1;
    loop {
        private &= g.use_count(value) <= readers && !g.is_output(value);
        readers = 1;
        let op = g.producer_op(value)?;
        if linear(op) {
            return Some(Backbone { op, private });
        }
        value = if is_epilogue(g, op) || g.op(op).is("MaxPool") || moves_data(g, op) {
            g.operand(op, 0)?
        } else if let Some(x) = other_than_constant(g, op) {
            x
        } else {
            readers = 2;
            self_gated(g, op)?
        };
    }
}

/// Linear ops with a stored weight that have no other one between them and an output, ways around a
/// residual branch not counted.
pub(super) fn heads(g: &Graph) -> BTreeSet<OpId> {
    let mut found = BTreeSet::new();
    let mut seen: BTreeSet<ValueId> = g.outputs().iter().copied().collect();
    let mut stack: Vec<ValueId> = g.outputs().to_vec();
    while let Some(v) = stack.pop() {
        let Some(op) = g.producer_op(v) else { continue };
        if super::linear(g, op).is_some_and(|l| g.is_const(l.weight)) {
            found.insert(op);
            continue;
        }
        let around = shortcut_of(g, op);
        stack.extend(g.reads(op).filter(|v| Some(*v) != around && seen.insert(*v)));
    }
    found
}

/// The operand of an Add that the other one is computed from through a linear op.
fn shortcut_of(g: &Graph, op: OpId) -> Option<ValueId> {
    let (a, b) = (g.operand(op, 0)?, g.operand(op, 1)?);
    if !g.op(op).is("Add") || a == b {
        return None;
    }
    let around = |branch: ValueId, shortcut: ValueId| {
        let before = ancestors(g, branch);
        let linear = |v: &ValueId| {
            g.producer_op(*v)
                .and_then(|op| super::linear(g, op))
                .is_some_and(|l| g.is_const(l.weight))
        };
        before.contains_key(&shortcut) && before.keys().any(linear)
    };
    match (around(a, b), around(b, a)) {
        (true, false) => Some(b),
        (false, true) => Some(a),
        _ => None,
    }
}

/// Follows data movement backwards from `value` to the value it moves.
pub(super) fn unmoved(g: &Graph, value: ValueId) -> ValueId {
    moved_from(g, value).pop().unwrap_or(value)
}

/// The values that data movement makes `value` of, nearest first.
pub(super) fn moved_from(g: &Graph, mut value: ValueId) -> Vec<ValueId> {
    let mut before = Vec::new();
    while let Some(op) = g.producer_op(value).filter(|op| moves_data(g, *op)) {
        let Some(v) = g.operand(op, 0).filter(|v| !g.is_const(*v)) else { break };
        before.push(v);
        value = v;
    }
    before
}

/// Largest number of ops from each common ancestor of the two producers, for the nearest one:
/// `(from it to a, from it to b)`; `None` without a common ancestor.
pub(super) fn distances_from_fork(g: &Graph, a: ValueId, b: ValueId) -> Option<(usize, usize)> {
    let (from_a, from_b) = (ancestors(g, a), ancestors(g, b));
    let common = from_a.iter().filter_map(|(v, da)| from_b.get(v).map(|db| (*da, *db)));
    common.min_by_key(|(da, db)| da + db)
}

/// Ancestors of a value up to some 500 of them, with their distance.
fn ancestors(g: &Graph, value: ValueId) -> BTreeMap<ValueId, usize> {
    const LIMIT: usize = 500;
    let mut seen = BTreeMap::from([(value, 0)]);
    let mut queue = VecDeque::from([(value, 0)]);
    while let Some((v, distance)) = queue.pop_front().filter(|_| seen.len() < LIMIT) {
        let Some(op) = g.producer_op(v) else { continue };
        for before in g.operands(op).into_iter().flatten().filter(|v| !g.is_const(*v)) {
            seen.entry(before).or_insert_with(|| {
                queue.push_back((before, distance + 1));
                distance + 1
            });
        }
    }
    seen
}

/// The value may be float32: it is, or its type is not known.
pub(super) fn may_be_f32(g: &Graph, value: ValueId) -> bool {
    g.value(value).dtype().is_none_or(|d| d == DType::F32)
}

/// The graph normalizes rows as transformers do: by LayerNormalization and its kin, or by the ops
/// that make it up (`x - mean(x)`, squared, averaged, under a root).
pub(super) fn has_layer_norm(g: &Graph) -> bool {
    g.ops().any(|op| is_norm(g, op) || (g.op(op).is("Sqrt") && is_deviation(g, op)))
}

fn is_norm(g: &Graph, op: OpId) -> bool {
    const NORMS: [&str; 6] = [
        "LayerNormalization",
        "RMSNormalization",
        "SimplifiedLayerNormalization",
        "SkipLayerNormalization",
        "SkipSimplifiedLayerNormalization",
        "EmbedLayerNormalization",
    ];
    NORMS.contains(&g.op(op).op_type.as_str())
}

/// The op normalizes rows of what it reads, or is the `x - mean(x)` that begins this.
pub(super) fn normalizes_rows(g: &Graph, op: OpId) -> bool {
    let mean = || Some(g.op(g.producer_op(g.operand(op, 1)?)?).is("ReduceMean"));
    is_norm(g, op) || (g.op(op).is("Sub") && mean() == Some(true))
}

/// `sqrt(mean((x - mean(x))^2) [+ eps])`.
fn is_deviation(g: &Graph, sqrt: OpId) -> bool {
    let before = |op: OpId| g.operand(op, 0).and_then(|v| g.producer_op(v));
    let mut at = before(sqrt);
    if let Some(add) = at.filter(|op| g.op(*op).is("Add")) {
        at = other_than_constant(g, add).and_then(|v| g.producer_op(v));
    }
    let Some(mean) = at.filter(|op| g.op(*op).is("ReduceMean")) else { return false };
    let Some(square) = before(mean).filter(|op| g.op(*op).is("Pow") || g.op(*op).is("Mul")) else {
        return false;
    };
    let Some(sub) = before(square).filter(|op| g.op(*op).is("Sub")) else { return false };
    g.operand(sub, 1).and_then(|v| g.producer_op(v)).is_some_and(|op| g.op(op).is("ReduceMean"))
}
