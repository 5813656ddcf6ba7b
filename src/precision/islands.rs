//! F7: no casts back and forth for ops that gain nothing.
//!
//! Converted ops that hang together without a heavy one among them gain only the bandwidth of what
//! they move. Where as many tensors must be cast for them as there are ops, they stay in float32.

use std::collections::{BTreeMap, BTreeSet};

use super::decide::{Plan, is_f32, is_heavy};
use crate::ir::{Graph, OpId, Slot, ValueId};

/// Gives islands of 16 bits up that cost more casts than they are worth.
pub(super) fn smooth(g: &Graph, plan: &mut Plan) {
    loop {
        let islands = islands(g, plan);
        let lost: Vec<OpId> = islands.into_iter().filter(|i| costs(g, plan, i)).flatten().collect();
        if lost.is_empty() {
            return;
        }
        for op in lost {
            plan.half.remove(&op);
            plan.kept.insert(op, ("F7", "casts around it would cost more than it gains".into()));
        }
    }
}

/// Converted ops that exchange float tensors.
fn islands(g: &Graph, plan: &Plan) -> Vec<BTreeSet<OpId>> {
    let mut seen: BTreeSet<OpId> = BTreeSet::new();
    let mut all = Vec::new();
    for &start in &plan.half {
        if !seen.insert(start) {
            continue;
        }
        let mut island = BTreeSet::from([start]);
        let mut stack = vec![start];
        while let Some(op) = stack.pop() {
            for next in neighbours(g, op).into_iter().filter(|n| plan.half.contains(n)) {
                if seen.insert(next) {
                    island.insert(next);
                    stack.push(next);
                }
            }
        }
        all.push(island);
    }
    all
}

fn neighbours(g: &Graph, op: OpId) -> Vec<OpId> {
    let operands = g.operands(op).into_iter().flatten().filter(|v| is_f32(g, *v));
    let before = operands.filter_map(|v| g.producer_op(v));
    let results = g.results(op).into_iter().flatten().filter(|v| is_f32(g, *v));
    let after = results.flat_map(|v| g.uses(v).into_iter().map(|u| u.0));
    before.chain(after).collect()
}

/// The island has no heavy op, and needs as many casts as it has ops.
fn costs(g: &Graph, plan: &Plan, island: &BTreeSet<OpId>) -> bool {
    if island.iter().any(|op| is_heavy(g, *op) || g.op(*op).is("DequantizeLinear")) {
        return false;
    }
    let mut casts: BTreeMap<ValueId, ()> = BTreeMap::new();
    for &op in island {
        for v in g.operands(op).into_iter().flatten() {
            let inside = g.producer_op(v).is_some_and(|p| plan.half.contains(&p));
            if is_f32(g, v) && !g.is_const(v) && !inside {
                casts.insert(v, ());
            }
        }
        for v in g.results(op).into_iter().flatten().filter(|v| is_f32(g, *v)) {
            let outside = |(user, slot): &(OpId, Slot)| {
                !plan.half.contains(user) || matches!(slot, Slot::Capture(_))
            };
            if g.is_output(v) || g.uses(v).iter().any(outside) {
                casts.insert(v, ());
            }
        }
    }
    casts.len() >= island.len()
}
