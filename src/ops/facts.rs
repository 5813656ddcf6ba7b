//! Small questions about shapes that cost rules ask of a graph.

use crate::ir::{Dim, Graph, OpId, Shape};

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
