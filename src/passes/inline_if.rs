//! # inline-if
//!
//! ## What it does
//! Puts the branch of an If that is always taken in its place, and the body of a Loop that runs
//! exactly once or never.
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
//! The condition is constant. For a Loop: the trip count is 0, or the condition is false at the
//! start, and it collects nothing; or the trip count is 1, it surely starts, and collects nothing.
//!
//! ## What it preserves
//! Names of results. Names inside the branch, unless they are taken outside.
//!
//! ## Limits
//! A branch that hands out an outer value, a constant or the same value twice as a graph output gets
//! an Identity for it.

use crate::ir::{Graph, Model, OpId, ValueId};
use crate::pass::{Cx, Pass, PassError, PassInfo, Semantics, visit_model};

pub(crate) struct InlineIf;

static INFO: PassInfo = PassInfo {
    name: "inline-if",
    summary: "inline the branch of an If that is always taken, and loops that run once or never",
    semantics: Semantics::Exact,
    source: include_str!("inline_if.rs"),
};

impl Pass for InlineIf {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, model: &mut Model, _: &mut Cx) -> Result<(), PassError> {
        visit_model(model, &mut |g, _| inline(g));
        Ok(())
    }
}

fn inline(g: &mut Graph) {
    let holders: Vec<OpId> = g.ops().filter(|op| !g.op(*op).bodies.is_empty()).collect();
    for op in holders {
        if !g.has_op(op) || g.op(op).has_ref_attrs() {
            continue;
        }
        if g.op(op).is("If") {
            inline_if(g, op);
        } else if g.op(op).is("Loop") {
            inline_loop(g, op);
        }
    }
}

fn inline_if(g: &mut Graph, op: OpId) {
    let Some(taken) = truth(g, g.operand(op, 0)) else { return };
    let branch = if taken { "then_branch" } else { "else_branch" };
    let Some(body) = body_index(g, op, branch) else { return };
    if g.op(op).bodies[body].outputs().len() >= g.op(op).result_count() {
        g.inline_body(op, body, &[]);
    }
}

fn inline_loop(g: &mut Graph, op: OpId) {
    let Some(body) = body_index(g, op, "body") else { return };
    let carried = g.op(op).arity().saturating_sub(2);
    let shape_fits = g.op(op).result_count() == carried
        && g.op(op).bodies[body].inputs().len() == carried + 2
        && g.op(op).bodies[body].outputs().len() == carried + 1;
    let initial: Vec<Option<ValueId>> = g.operands(op).into_iter().skip(2).collect();
    if !shape_fits || initial.iter().any(Option::is_none) {
        return;
    }
    let trips = g.operand(op, 0).map(|v| g.const_tensor(v).and_then(|t| t.single()));
    let starts = g.operand(op, 1).map(|v| truth(g, Some(v)));
    let never = trips == Some(Some(0.0)) || starts == Some(Some(false));
    let once = trips == Some(Some(1.0)) && matches!(starts, None | Some(Some(true)));
    if never {
        let joins_output = |v: &Option<ValueId>| v.is_some_and(|v| g.is_output(v));
        if g.results(op).iter().any(joins_output) {
            return;
        }
        for (v, initial) in g.results(op).into_iter().zip(initial) {
            if let (Some(v), Some(initial)) = (v, initial) {
                g.replace_uses(v, initial);
            }
        }
        g.remove_op(op);
    } else if once {
        inline_once(g, op, body, initial);
    }
}

/// The body of a loop with the first iteration number and a true condition for its inputs.
fn inline_once(g: &mut Graph, op: OpId, body: usize, initial: Vec<Option<ValueId>>) {
    use crate::ir::{DType, Tensor};
    let Ok(yes) = Tensor::new(DType::Bool, vec![], vec![1].into()) else { return };
    let iteration = g.add_const("iteration", Tensor::scalar(0i64));
    let condition = g.add_const("condition", yes);
    let inputs: Vec<_> = [Some(iteration), Some(condition)].into_iter().chain(initial).collect();
    // The first output of the body says whether to go on.
    let mut inner = g.op(op).bodies[body].clone();
    let outputs = inner.outputs()[1..].to_vec();
    inner.set_outputs(outputs);
    g.bodies_mut(op)[body] = inner;
    g.inline_body(op, body, &inputs);
    g.remove_value_if_unused(iteration);
    g.remove_value_if_unused(condition);
}

fn truth(g: &Graph, condition: Option<ValueId>) -> Option<bool> {
    let tensor = g.const_tensor(condition?)?;
    tensor.single().map(|v| v != 0.0)
}

fn body_index(g: &Graph, op: OpId, attr: &str) -> Option<usize> {
    match g.op(op).attr(attr)? {
        crate::ir::AttrValue::Graph(i) => Some(*i),
        _ => None,
    }
}
