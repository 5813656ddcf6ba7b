//! # hoist-invariants
//!
//! ## What it does
//! Moves ops out of the body of a Loop or Scan that compute the same in every run.
//!
//! ## Before/after
//! ```text
//! y = Loop (n, c, x) <                     w = Neg (v)
//!   body = b (i, d, s) => (d, t)           y = Loop (n, c, x) <
//!     { w = Neg (v)  t = Add (s, w) }        body = b (i, d, s) => (d, t) { t = Add (s, w) }
//! >                                        >
//! ```
//!
//! ## When it applies
//! The body surely runs once, at least, so that no op runs that did not run before. The operator is
//! known and deterministic, and its operands come from outside.
//!
//! ## What it preserves
//! Names, unless they are taken outside.
//!
//! ## Limits
//! Ops that make an output of the body, and ops with bodies of their own, stay. Nothing is moved out of
//! the branches of an If, of which only one runs.

use super::bodies::{capture, captured, holders, states, trips};
use crate::ir::{Graph, Model, OpId, Value, ValueId};
use crate::ops;
use crate::pass::{Cx, Pass, PassError, PassInfo, Semantics, visit_model};

pub(crate) struct HoistInvariants;

static INFO: PassInfo = PassInfo {
    name: "hoist-invariants",
    summary: "move ops out of loops that compute the same in every run",
    semantics: Semantics::Exact,
    source: include_str!("hoist_invariants.rs"),
};

impl Pass for HoistInvariants {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, model: &mut Model, _: &mut Cx) -> Result<(), PassError> {
        visit_model(model, &mut |g, opset| {
            for op in holders(g) {
                let Some(states) = states(g, op, opset) else { continue };
                if trips(g, op, &states).some {
                    hoist_all(g, op, states.body);
                }
            }
        });
        Ok(())
    }
}

fn hoist_all(g: &mut Graph, op: OpId, body: usize) {
    let mut moved = false;
    for inner in g.op(op).bodies[body].order() {
        if is_invariant(&g.op(op).bodies[body], inner) {
            hoist(g, op, body, inner);
            moved = true;
        }
    }
    if moved {
        g.prune_captures(op);
    }
}

fn is_invariant(body: &Graph, op: OpId) -> bool {
    let node = body.op(op);
    let deterministic = ops::schema(node).is_some_and(|s| s.deterministic);
    if !deterministic || node.is("Constant") || !node.bodies.is_empty() || node.has_ref_attrs() {
        return false;
    }
    let operands: Vec<ValueId> = body.operands(op).into_iter().flatten().collect();
    let from_outside = |v: &ValueId| body.is_capture(*v);
    operands.iter().any(from_outside)
        && operands.iter().all(|v| from_outside(v) || body.is_const(*v))
        && !body.results(op).into_iter().flatten().any(|v| body.is_output(v))
}

fn hoist(g: &mut Graph, holder: OpId, body: usize, op: OpId) {
    let known = captured(g, holder, body);
    let inner = &g.op(holder).bodies[body];
    let mut node = inner.op(op).clone();
    node.captures.clear();
    let results = inner.results(op);
    let made: Vec<Option<Value>> = results
        .iter()
        .map(|v| v.map(|v| inner.value(v)).map(|v| Value::new(v.name(), v.ty.clone())))
        .collect();
    let mut operands: Vec<Option<ValueId>> = Vec::new();
    for v in inner.operands(op) {
        let outside = known.iter().find(|(i, _)| Some(*i) == v).map(|(_, outer)| *outer);
        let inner = &g.op(holder).bodies[body];
        let constant = v.filter(|_| outside.is_none());
        let constant = constant
            .and_then(|v| Some((inner.value(v).name().to_owned(), inner.const_tensor(v)?.clone())));
        operands.push(outside.or_else(|| constant.map(|(name, data)| g.add_const(&name, data))));
    }
    let mut outer_results = Vec::with_capacity(made.len());
    for value in made {
        outer_results.push(value.map(|v| g.add_value(v)));
    }
    g.add_op(node, &operands, &outer_results, Some(holder));
    for (old, new) in results.into_iter().zip(outer_results) {
        if let (Some(old), Some(new)) = (old, new) {
            let inner = capture(g, holder, body, new);
            g.bodies_mut(holder)[body].replace_uses(old, inner);
        }
    }
    let body = &mut g.bodies_mut(holder)[body];
    let read = body.reads(op).filter(|v| !body.is_capture(*v)).collect();
    body.remove_op(op);
    body.remove_dead(read);
}
