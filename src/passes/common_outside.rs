//! Ops of subgraphs that compute what an op around them computes.

use super::bodies::{capture, captured};
use super::content::same_elements;
use super::merge_common::{is_mergeable, same_attrs};
use crate::ir::{Graph, OpId, Slot, ValueId};

/// Readers of a value that are compared with an op.
const MOST_READERS: usize = 64;

/// Lets the subgraphs of `g` read results that ops of `g` compute anyway. An op that reads only what
/// a subgraph captures cannot depend on the op that holds the subgraph, so no cycle comes of it.
pub(super) fn read_results(g: &mut Graph) {
    let holders: Vec<OpId> = g.ops().filter(|op| !g.op(*op).bodies.is_empty()).collect();
    for holder in holders {
        for body in 0..g.op(holder).bodies.len() {
            for inner in g.op(holder).bodies[body].order() {
                if let Some(outer) = twin(g, holder, body, inner) {
                    replace(g, holder, body, inner, outer);
                }
            }
        }
        g.prune_captures(holder);
    }
}

/// An op of `g` with the operator, attributes and operands of an op in a body.
fn twin(g: &Graph, holder: OpId, body: usize, inner: OpId) -> Option<OpId> {
    let graph = &g.op(holder).bodies[body];
    let node = graph.op(inner);
    let made = graph.results(inner);
    let is_output = |v: &Option<ValueId>| v.is_some_and(|v| graph.is_output(v));
    if !is_mergeable(graph, inner) || node.has_ref_attrs() || made.iter().any(is_output) {
        return None;
    }
    let known = captured(g, holder, body);
    let outside = |v: ValueId| known.iter().find(|(i, _)| *i == v).map(|(_, outer)| *outer);
    let operands = graph.operands(inner);
    let (slot, first) =
        operands.iter().enumerate().find_map(|(i, v)| Some((i, outside((*v)?)?)))?;
    let same_operand = |(v, w): (&Option<ValueId>, &Option<ValueId>)| match (v, w) {
        (Some(v), Some(w)) => match (outside(*v), graph.const_tensor(*v), g.const_tensor(*w)) {
            (Some(outer), ..) => outer == *w,
            (None, Some(a), Some(b)) => {
                a.dtype() == b.dtype() && a.dims() == b.dims() && same_elements(a, b)
            }
            _ => false,
        },
        (v, w) => v.is_none() && w.is_none(),
    };
    let readers = g.uses(first).into_iter().take(MOST_READERS);
    let at_slot =
        readers.filter(|(_, s)| u32::try_from(slot).is_ok_and(|n| *s == Slot::Operand(n)));
    at_slot.map(|(op, _)| op).find(|&op| {
        let other = g.op(op);
        let theirs = g.operands(op);
        let has = |(i, v): (usize, &Option<ValueId>)| v.is_none() || g.result(op, i).is_some();
        op != holder
            && other.op_type == node.op_type
            && other.domain == node.domain
            && same_attrs(other, node)
            && theirs.len() == operands.len()
            && operands.iter().zip(&theirs).all(same_operand)
            && made.iter().enumerate().all(has)
    })
}

fn replace(g: &mut Graph, holder: OpId, body: usize, inner: OpId, outer: OpId) {
    let made = g.op(holder).bodies[body].results(inner);
    for (i, old) in made.into_iter().enumerate() {
        if let (Some(old), Some(result)) = (old, g.result(outer, i)) {
            let inside = capture(g, holder, body, result);
            g.bodies_mut(holder)[body].replace_uses(old, inside);
        }
    }
    let graph = &mut g.bodies_mut(holder)[body];
    let read = graph.reads(inner).filter(|v| !graph.is_capture(*v)).collect();
    graph.remove_op(inner);
    graph.remove_dead(read);
}
