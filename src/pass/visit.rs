//! Visits to every graph of a model, for passes that work on whole graphs.

use crate::ir::{Graph, Model, opset_of};

/// Calls `f` on every body in the graph and then on the graph itself, innermost first. A change in
/// a body counts as an edit of the graph around it, and captures that it no longer reads go.
pub fn visit_graphs(g: &mut Graph, f: &mut dyn FnMut(&mut Graph)) {
    visit(g, false, &mut |g, _| f(g));
}

fn visit(g: &mut Graph, is_body: bool, f: &mut dyn FnMut(&mut Graph, bool)) {
    let holders: Vec<_> = g.ops().filter(|op| !g.op(*op).bodies.is_empty()).collect();
    for op in holders {
        g.refresh_captures(op);
        let mut bodies = std::mem::take(&mut g.op_facts_mut(op).bodies);
        let mut changed = false;
        for body in &mut bodies {
            let before = body.revision();
            visit(body, true, f);
            changed |= body.revision() != before;
        }
        g.op_facts_mut(op).bodies = bodies;
        if changed {
            g.bodies_mut(op);
            g.prune_captures(op);
        }
    }
    f(g, is_body);
}

/// Calls `f` on every graph of the model: the bodies of local functions, the main graph and all
/// subgraphs, innermost first, each with its version of the default operator set.
pub fn visit_model(m: &mut Model, f: &mut dyn FnMut(&mut Graph, i64)) {
    visit_model_and_tell(m, &mut |g, opset, _| f(g, opset));
}

/// The same; `f` is told, too, whether the graph is the body of an op.
pub(crate) fn visit_model_and_tell(m: &mut Model, f: &mut dyn FnMut(&mut Graph, i64, bool)) {
    let opset = m.default_opset();
    for function in &mut m.functions {
        let opset = opset_of(&function.opsets, "").unwrap_or(opset);
        visit(&mut function.graph, false, &mut |g, is_body| f(g, opset, is_body));
    }
    visit(&mut m.graph, false, &mut |g, is_body| f(g, opset, is_body));
}
