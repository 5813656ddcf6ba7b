//! # inline-if
//!
//! ## What it does
//! Puts the branch of an If that is always taken in its place.
//!
//! ## Before/after
//! ```text
//! y = If (true) <                          y = Relu (x)
//!   then_branch = t () => (a) { a = Relu (x) },
//!   else_branch = e () => (b) { b = Abs (x) }
//! >
//! ```
//!
//! ## When it applies
//! The condition is constant, or both branches compute the same. Inside a branch the condition itself
//! is known, so an If in it that asks again is decided.
//!
//! ## What it preserves
//! Names of results. Names inside the branch, unless they are taken outside.
//!
//! ## Limits
//! A branch that hands out an outer value, a constant or the same value twice as a graph output gets
//! an Identity for it. Branches are compared op by op in their order, and not when they hold an If
//! or a loop. Inside a body that may never run, an If stays where the branch taken gives a rank that
//! a reader contradicts: a runtime would refuse the model, and not only that body.

use std::collections::HashMap;

use super::bodies::{body_index, captured, truth};
use super::merge_common::same_attrs;
use crate::ir::{DType, Graph, Model, OpId, Tensor, ValueId};
use crate::ops;
use crate::pass::{Cx, Pass, PassError, PassInfo, Semantics, infer_graph, visit_model_and_tell};

pub(crate) struct InlineIf;

static INFO: PassInfo = PassInfo {
    name: "inline-if",
    summary: "inline the branch of an If that is always taken, or one of two equal ones",
    semantics: Semantics::Exact,
    source: include_str!("inline_if.rs"),
};

impl Pass for InlineIf {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, model: &mut Model, _: &mut Cx) -> Result<(), PassError> {
        visit_model_and_tell(model, &mut |g, opset, is_body| {
            inline(g, Some(opset).filter(|_| is_body));
        });
        Ok(())
    }
}

/// `within` is the operator set of a body that may never run.
fn inline(g: &mut Graph, within: Option<i64>) {
    let ifs: Vec<OpId> = g.ops().filter(|op| g.op(*op).is("If")).collect();
    for op in ifs {
        let branches = [body_index(g, op, "then_branch"), body_index(g, op, "else_branch")];
        let [Some(yes), Some(no)] = branches else { continue };
        if g.op(op).has_ref_attrs() {
            continue;
        }
        let taken = match truth(g, g.operand(op, 0)) {
            Some(true) => yes,
            Some(false) => no,
            None if same_branches(g, op, yes, no) => yes,
            None => {
                tell_condition(g, op, yes, true);
                tell_condition(g, op, no, false);
                continue;
            }
        };
        let contradicts =
            || within.is_some_and(|v| contradicts(g, op, [taken, yes + no - taken], v));
        if g.op(op).bodies[taken].outputs().len() >= g.op(op).result_count() && !contradicts() {
            g.inline_body(op, taken, &[]);
        }
    }
}

/// Ops around the If contradict the rank that the first of its two branches gives, and the other
/// does not.
fn contradicts(g: &Graph, op: OpId, [taken, other]: [usize; 2], opset: i64) -> bool {
    let ranks = |branch: usize| -> Vec<Option<usize>> {
        let body = &g.op(op).bodies[branch];
        body.outputs().iter().map(|v| body.value(*v).rank()).collect()
    };
    let (a, b) = (ranks(taken), ranks(other));
    if a == b && a.iter().all(Option::is_some) {
        return false;
    }
    let contradictions = |g: &mut Graph| {
        let mut count = 0;
        infer_graph(g, opset, &mut |_, _| count += 1);
        count
    };
    let (mut before, mut after) = (g.clone(), g.clone());
    after.inline_body(op, taken, &[]);
    contradictions(&mut after) > contradictions(&mut before)
}

/// Makes a constant of the condition where the branch reads it.
fn tell_condition(g: &mut Graph, op: OpId, branch: usize, holds: bool) {
    let Some(condition) = g.operand(op, 0) else { return };
    let inner = captured(g, op, branch).into_iter().find(|(_, outer)| *outer == condition);
    let Some((inner, _)) = inner.filter(|(v, _)| !g.op(op).bodies[branch].uses(*v).is_empty())
    else {
        return;
    };
    let dims = g.value(condition).sizes();
    let dims = dims.filter(|d| d.iter().product::<usize>() == 1).unwrap_or_default();
    let Ok(known) = Tensor::new(DType::Bool, dims, vec![u8::from(holds)].into()) else { return };
    let body = &mut g.bodies_mut(op)[branch];
    let constant = body.add_const("condition", known);
    body.replace_uses(inner, constant);
    g.prune_captures(op);
}

/// Both branches hold the same ops on the same values.
fn same_branches(g: &Graph, op: OpId, yes: usize, no: usize) -> bool {
    let (a, b) = (&g.op(op).bodies[yes], &g.op(op).bodies[no]);
    let (x, y) = (a.order(), b.order());
    let counts_fit = x.len() == y.len() && a.outputs().len() == b.outputs().len();
    if !counts_fit {
        return false;
    }
    let mut pairs =
        Pairs { a, b, outer: [outer(g, op, yes), outer(g, op, no)], made: HashMap::new() };
    x.into_iter().zip(y).all(|(x, y)| pairs.same_op(x, y))
        && a.outputs().iter().zip(b.outputs()).all(|(v, w)| pairs.same_value(*v, *w))
}

fn outer(g: &Graph, op: OpId, branch: usize) -> HashMap<ValueId, ValueId> {
    captured(g, op, branch).into_iter().collect()
}

/// Values of two branches that are known to be equal.
struct Pairs<'a> {
    a: &'a Graph,
    b: &'a Graph,
    outer: [HashMap<ValueId, ValueId>; 2],
    made: HashMap<ValueId, ValueId>,
}

impl Pairs<'_> {
    fn same_value(&self, v: ValueId, w: ValueId) -> bool {
        if self.made.get(&v) == Some(&w) {
            return true;
        }
        let outside = (self.outer[0].get(&v), self.outer[1].get(&w));
        if let (Some(v), Some(w)) = outside {
            return v == w;
        }
        match (self.a.const_tensor(v), self.b.const_tensor(w)) {
            (Some(s), Some(t)) => {
                s.dtype() == t.dtype() && s.dims() == t.dims() && s.data() == t.data()
            }
            _ => false,
        }
    }

    /// Notes that the results of two equal ops are equal.
    fn same_op(&mut self, x: OpId, y: OpId) -> bool {
        let (p, q) = (self.a.op(x), self.b.op(y));
        let known = ops::schema(p).is_some_and(|s| s.deterministic);
        let (r, s) = (self.a.operands(x), self.b.operands(y));
        let same = |(v, w): (&Option<ValueId>, &Option<ValueId>)| match (v, w) {
            (Some(v), Some(w)) => self.same_value(*v, *w),
            (v, w) => v.is_none() && w.is_none(),
        };
        let fits = known
            && p.op_type == q.op_type
            && p.domain == q.domain
            && p.bodies.is_empty()
            && same_attrs(p, q)
            && r.len() == s.len()
            && r.iter().zip(&s).all(same);
        if fits {
            let results = self.a.results(x).into_iter().zip(self.b.results(y));
            self.made.extend(results.filter_map(|(v, w)| Some((v?, w?))));
        }
        fits
    }
}
