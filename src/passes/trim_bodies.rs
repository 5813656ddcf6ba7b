//! # trim-bodies
//!
//! ## What it does
//! Drops results of If, Loop and Scan that nothing reads, and values that a loop hands from run to run
//! although nothing needs them or they never change.
//!
//! ## Before/after
//! ```text
//! y, z = Loop (n, c, x, w) <               y = Loop (n, c, x) <
//!   body = b (i, d, s, v) => (d, t, v)       body = b (i, d, s) => (d, t)
//!     { t = Mul (s, v) }                       { t = Mul (s, w) }
//! >                                        >
//! ```
//!
//! ## When it applies
//! Always; a value that never changes is read from outside instead.
//!
//! ## What it preserves
//! Names of the results that stay. A value that never changes stays as a result when it is a graph
//! output.
//!
//! ## Limits
//! Sequences that a Scan collects along axes that it names stay.

use super::bodies::{States, body_index, capture, copied, holders, rebuild, states};
use crate::ir::{Graph, Model, OpId, ValueId};
use crate::pass::{Cx, Pass, PassError, PassInfo, Semantics, visit_model};

pub(crate) struct TrimBodies;

static INFO: PassInfo = PassInfo {
    name: "trim-bodies",
    summary: "drop results and carried values of If, Loop and Scan that nothing needs",
    semantics: Semantics::Exact,
    source: include_str!("trim_bodies.rs"),
};

impl Pass for TrimBodies {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, model: &mut Model, _: &mut Cx) -> Result<(), PassError> {
        visit_model(model, &mut |g, opset| {
            for op in holders(g) {
                if !g.has_op(op) || g.op(op).has_ref_attrs() {
                    continue;
                }
                if g.op(op).is("If") {
                    trim_if(g, op);
                } else if let Some(states) = states(g, op, opset) {
                    read_from_outside(g, op, &states);
                    trim_loop(g, op, &states);
                }
            }
        });
        Ok(())
    }
}

fn is_used(g: &Graph, v: Option<ValueId>) -> bool {
    v.is_some_and(|v| !g.is_unused(v))
}

fn trim_if(g: &mut Graph, op: OpId) {
    let results = g.results(op);
    let used: Vec<bool> = results.iter().map(|v| is_used(g, *v)).collect();
    let branches = [body_index(g, op, "then_branch"), body_index(g, op, "else_branch")];
    let [Some(yes), Some(no)] = branches else { return };
    let fits = |b: usize| g.op(op).bodies[b].outputs().len() == results.len();
    if used.iter().all(|u| *u) || !used.contains(&true) || !fits(yes) || !fits(no) {
        return;
    }
    for b in [yes, no] {
        keep_outputs(&mut g.bodies_mut(op)[b], &used);
    }
    let kept: Vec<_> = kept(&results, &used);
    let operands = g.operands(op);
    rebuild(g, op, &operands, &kept);
}

fn kept<T: Copy>(all: &[T], keep: &[bool]) -> Vec<T> {
    all.iter().zip(keep).filter(|(_, keep)| **keep).map(|(v, _)| *v).collect()
}

/// Keeps these outputs of the body, and what they need.
fn keep_outputs(body: &mut Graph, keep: &[bool]) {
    body.set_outputs(kept(body.outputs(), keep));
    let unused: Vec<ValueId> = body.values().filter(|v| body.is_unused(*v)).collect();
    body.remove_dead(unused);
}

/// Values that every run hands on as it got them are read from outside.
fn read_from_outside(g: &mut Graph, op: OpId, states: &States) {
    for k in 0..states.count {
        let inner = &g.op(op).bodies[states.body];
        let input = inner.inputs()[states.input + k];
        let output = inner.outputs()[states.output + k];
        let Some(initial) = g.operand(op, states.operand + k) else { continue };
        if copied(inner, output) != input {
            continue;
        }
        if let Some(result) = g.result(op, k).filter(|r| !g.is_output(*r) && !g.is_unused(*r)) {
            g.replace_uses(result, initial);
        }
        let inner = &g.op(op).bodies[states.body];
        if !inner.uses(input).is_empty() {
            let outer = capture(g, op, states.body, initial);
            g.bodies_mut(op)[states.body].replace_uses(input, outer);
        }
    }
}

fn trim_loop(g: &mut Graph, op: OpId, states: &States) {
    let results = g.results(op);
    let result_used = |k: usize| is_used(g, results.get(k).copied().flatten());
    let body = &g.op(op).bodies[states.body];
    let all = states.output + states.count + states.stacks;
    let named = ["scan_output_axes", "scan_output_directions"];
    let stacks_stay = named.iter().any(|a| g.op(op).attr(a).is_some());
    let mut live: Vec<bool> = (0..all)
        .map(|i| match i.checked_sub(states.output) {
            None => true,
            Some(k) => result_used(k) || (stacks_stay && k >= states.count),
        })
        .collect();
    loop {
        let reached = reached(body, &kept(body.outputs(), &live));
        let mut grew = false;
        for k in 0..states.count {
            let needed = reached.contains(&body.inputs()[states.input + k]);
            if needed && !live[states.output + k] {
                live[states.output + k] = true;
                grew = true;
            }
        }
        if !grew {
            break;
        }
    }
    let of_results = &live[states.output..];
    let none_left = !of_results.contains(&true);
    if live.iter().all(|l| *l) || (none_left && !(0..results.len()).any(result_used)) {
        return;
    }
    let state_live = &of_results[..states.count];
    let mut results = results;
    results.resize(states.count + states.stacks, None);
    let results = kept(&results, of_results);
    let is_dead = |i: usize| {
        let k = i.checked_sub(states.operand).filter(|k| *k < states.count);
        k.is_some_and(|k| !state_live[k])
    };
    let operands: Vec<_> = g.operands(op).into_iter().enumerate().collect();
    let operands: Vec<_> =
        operands.into_iter().filter(|(i, _)| !is_dead(*i)).map(|(_, v)| v).collect();
    let body = &mut g.bodies_mut(op)[states.body];
    let gone: Vec<ValueId> = (0..states.count)
        .filter(|k| !state_live[*k])
        .map(|k| body.inputs()[states.input + k])
        .collect();
    keep_outputs(body, &live);
    for v in gone {
        body.remove_input(v);
        body.remove_value_if_unused(v);
    }
    rebuild(g, op, &operands, &results);
}

/// All values that these ones depend on.
fn reached(body: &Graph, from: &[ValueId]) -> std::collections::HashSet<ValueId> {
    let mut seen: std::collections::HashSet<ValueId> = from.iter().copied().collect();
    let mut open = from.to_vec();
    while let Some(v) = open.pop() {
        if let Some(op) = body.producer_op(v) {
            open.extend(body.reads(op).filter(|r| seen.insert(*r)));
        }
    }
    seen
}
