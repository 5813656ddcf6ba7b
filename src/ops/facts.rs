//! Small questions about shapes that rules ask of a graph.

use std::collections::BTreeSet;

use crate::ir::{Dim, Graph, OpId, Shape, ValueId};

/// Shape of the operand in slot `i`, when its rank is known.
pub fn operand_shape(g: &Graph, op: OpId, i: usize) -> Option<&Shape> {
    g.operand(op, i).and_then(|v| g.value(v).shape())
}

/// Shape of the result in slot `i`, when its rank is known.
pub fn result_shape(g: &Graph, op: OpId, i: usize) -> Option<&Shape> {
    g.result(op, i).and_then(|v| g.value(v).shape())
}

/// Product of the dims, when it is known.
pub(super) fn count<'a>(dims: impl IntoIterator<Item = &'a Dim>) -> Option<Dim> {
    let n = Dim::product(dims);
    n.is_some().then_some(n)
}

/// The value is computed from shapes and constants alone.
pub(crate) fn is_shape_arithmetic(g: &Graph, value: ValueId) -> bool {
    const LIMIT: usize = 200;
    let mut seen = BTreeSet::from([value]);
    let mut stack = vec![value];
    while let Some(v) = stack.pop() {
        if g.is_const(v) {
            continue;
        }
        let Some(op) = g.producer_op(v) else { return false };
        if g.op(op).is("Shape") || g.op(op).is("Size") {
            continue;
        }
        if g.op(op).arity() == 0 && !g.op(op).is("Constant") || seen.len() > LIMIT {
            return false;
        }
        stack.extend(g.reads(op).filter(|v| seen.insert(*v)));
    }
    true
}
