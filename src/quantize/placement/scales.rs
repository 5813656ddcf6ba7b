//! N8, N15 and the sets of tensors that share a scale.

use std::collections::BTreeMap;

use super::walk::{moved_from, unmoved};
use super::{Plan, Rules};
use crate::ir::{Graph, ValueId};

/// N8, N15. Tensors with pairs that hold the same elements moved share a scale, so that TensorRT can
/// move the pair through the ops between them: one that is made of another (N8), or both of a third
/// that has none (N15), as where parallel layers each transpose their input.
pub(super) fn across_moves(g: &Graph, plan: &mut Plan, rules: &Rules) {
    let mut first: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    for v in plan.pairs.keys().copied().collect::<Vec<_>>() {
        if rules.on("N8")
            && let Some(before) = moved_from(g, v).into_iter().find(|b| plan.has_pair(*b))
        {
            plan.same_scale.push((v, before));
        }
        let root = unmoved(g, v);
        if rules.on("N15") && !plan.has_pair(root) {
            let other = *first.entry(root).or_insert(v);
            if other != v {
                plan.same_scale.push((v, other));
            }
        }
    }
}

/// A MaxPool that makes `value` from a tensor with a pair reads that pair and keeps its scale.
pub(super) fn across_pool(g: &Graph, plan: &mut Plan, value: ValueId) {
    let Some(op) = g.producer_op(value).filter(|op| g.op(*op).is("MaxPool")) else { return };
    let Some(x) = g.operand(op, 0).filter(|x| plan.has_pair(*x)) else { return };
    plan.read(x, op, 0, "N7");
    plan.same_scale.push((x, value));
}

/// Sets of two or more tensors that share a scale, oldest first.
pub(super) fn groups(plan: &Plan) -> Vec<Vec<ValueId>> {
    let mut parent: BTreeMap<ValueId, ValueId> = BTreeMap::new();
    fn root(parent: &BTreeMap<ValueId, ValueId>, mut v: ValueId) -> ValueId {
        while let Some(p) = parent.get(&v).filter(|p| **p != v) {
            v = *p;
        }
        v
    }
    for (a, b) in &plan.same_scale {
        if plan.has_pair(*a) && plan.has_pair(*b) {
            let (a, b) = (root(&parent, *a), root(&parent, *b));
            if a != b {
                parent.insert(a.max(b), a.min(b));
            }
        }
    }
    let mut sets: BTreeMap<ValueId, Vec<ValueId>> = BTreeMap::new();
    for v in plan.pairs.keys() {
        sets.entry(root(&parent, *v)).or_default().push(*v);
    }
    sets.into_values().filter(|s| s.len() > 1).collect()
}
