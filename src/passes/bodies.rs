//! Ops with bodies, taken apart.

use crate::ir::{AttrValue, Graph, OpId, ValueId, for_each_graph};

/// The body in this attribute.
pub(super) fn body_index(g: &Graph, op: OpId, attr: &str) -> Option<usize> {
    match g.op(op).attr(attr)? {
        AttrValue::Graph(i) => Some(*i).filter(|i| *i < g.op(op).bodies.len()),
        _ => None,
    }
}

/// Ops of the graph that have bodies.
pub(super) fn holders(g: &Graph) -> Vec<OpId> {
    g.ops().filter(|op| !g.op(*op).bodies.is_empty()).collect()
}

/// Pairs of what a body captures: the value inside, and outside.
pub(super) fn captured(g: &Graph, op: OpId, body: usize) -> Vec<(ValueId, ValueId)> {
    let captures = g.op(op).captures.iter().zip(g.captures(op));
    captures.filter(|((b, _), _)| *b == body).map(|((_, inner), outer)| (*inner, outer)).collect()
}

/// The value of a constant condition.
pub(super) fn truth(g: &Graph, condition: Option<ValueId>) -> Option<bool> {
    let tensor = g.const_tensor(condition?)?;
    tensor.single().map(|v| v != 0.0)
}

/// Lets body `body` of `op` read the outer value `outer`. Returns what it is inside.
pub(super) fn capture(g: &mut Graph, op: OpId, body: usize, outer: ValueId) -> ValueId {
    let known = captured(g, op, body).into_iter().find(|(_, o)| *o == outer);
    if let Some((inner, _)) = known {
        return inner;
    }
    let value = g.value(outer);
    let value = crate::ir::Value::new(value.name(), value.ty.clone());
    let inner = g.bodies_mut(op)[body].add_captured(value);
    g.add_capture(op, body, inner, outer);
    inner
}

/// Makes an op like `old`, with its bodies and what these capture, of other operands and results; `old`
/// goes.
pub(super) fn rebuild(
    g: &mut Graph,
    old: OpId,
    operands: &[Option<ValueId>],
    results: &[Option<ValueId>],
) -> OpId {
    let outer = g.captures(old);
    let mut op = g.op(old).clone();
    let captures = std::mem::take(&mut op.captures);
    let new = g.add_op(op, operands, results, Some(old));
    for ((body, inner), outer) in captures.into_iter().zip(outer) {
        g.add_capture(new, body, inner, outer);
    }
    let read = g.reads(old).collect();
    g.remove_op(old);
    g.remove_dead(read);
    new
}

/// Where Loop and Scan keep the values that one run of the body hands to the next.
pub(super) struct States {
    /// Which body runs.
    pub body: usize,
    /// How many values are handed on.
    pub count: usize,
    /// Operand slot of the first initial value.
    pub operand: usize,
    /// Index of the first such input of the body.
    pub input: usize,
    /// Index of the first such output of the body.
    pub output: usize,
    /// What the body collects: outputs after the states.
    pub stacks: usize,
}

/// The states of a well-formed Loop, or Scan of opset 9 or later.
pub(super) fn states(g: &Graph, op: OpId, opset: i64) -> Option<States> {
    let node = g.op(op);
    let body = body_index(g, op, "body")?;
    let (inputs, outputs) = (node.bodies[body].inputs().len(), node.bodies[body].outputs().len());
    let (before, out, count) = if node.is("Loop") {
        (2, 1, node.arity().checked_sub(2).filter(|n| n + 2 == inputs)?)
    } else if node.is("Scan") && opset >= 9 && node.arity() == inputs {
        (0, 0, inputs.checked_sub(usize::try_from(node.int("num_scan_inputs")?).ok()?)?)
    } else {
        return None;
    };
    let stacks = outputs.checked_sub(out + count)?;
    let initial_given = (before..before + count).all(|i| g.operand(op, i).is_some());
    let fits = initial_given && node.result_count() <= count + stacks && !node.has_ref_attrs();
    fits.then_some(States { body, count, operand: before, input: before, output: out, stacks })
}

/// What an inner value is a copy of, looking through Identity ops.
pub(super) fn copied(body: &Graph, mut v: ValueId) -> ValueId {
    while let Some(op) = super::pattern::maker(body, v, "Identity") {
        match body.operand(op, 0) {
            Some(from) => v = from,
            None => break,
        }
    }
    v
}

/// How often the body of a Loop or Scan runs, when that is known: exactly, or at least.
pub(super) struct Trips {
    /// The number, when it is known.
    pub exact: Option<usize>,
    /// It runs once, at least.
    pub some: bool,
}

/// What is known about the number of runs.
pub(super) fn trips(g: &Graph, op: OpId, states: &States) -> Trips {
    let count = |n: i64| usize::try_from(n.max(0)).ok();
    if g.op(op).is("Scan") {
        let axis = g.op(op).ints("scan_input_axes").and_then(|a| a.first()).copied().unwrap_or(0);
        let shape = g.operand(op, states.count).and_then(|v| g.value(v).shape());
        let dim = shape.and_then(|s| s.get(crate::ops::normalize_axis(axis, s.len())?));
        let exact = dim.and_then(crate::ir::Dim::size);
        return Trips { exact, some: dim.is_some_and(|d| d.at_least(1)) };
    }
    let starts = g.operand(op, 1).map_or(Some(true), |v| truth(g, Some(v)));
    let bound = g.operand(op, 0).map(|v| super::pattern::known_ints(g, v));
    let bound = bound.map(|known| known.and_then(|n| count(*n.first()?)));
    match (starts, bound) {
        (Some(false), _) | (_, Some(Some(0))) => Trips { exact: Some(0), some: false },
        (Some(true), None) => Trips { exact: None, some: true },
        (Some(true), Some(Some(n))) => {
            let goes_on = n == 1 || crate::ops::loop_goes_on(&g.op(op).bodies[states.body]);
            Trips { exact: Some(n).filter(|_| goes_on), some: true }
        }
        _ => Trips { exact: None, some: false },
    }
}

/// Number of ops in the graph and its subgraphs, and about how many bytes they take in a file.
pub(super) fn size(graph: &Graph) -> (usize, usize) {
    let (mut ops, mut bytes) = (0, 0);
    for_each_graph(graph, &mut |g| {
        ops += g.op_count();
        bytes += g.ops().map(|op| op_bytes(g, op)).sum::<usize>();
    });
    (ops, bytes)
}

fn op_bytes(g: &Graph, op: OpId) -> usize {
    let node = g.op(op);
    let names = g.operands(op).into_iter().chain(g.results(op)).flatten();
    let names: usize = names.map(|v| g.value(v).name().len() + 4).sum();
    names + node.name.len() + node.op_type.len() + 24 * node.attrs.len() + 12
}
