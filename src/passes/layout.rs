//! What an op becomes when its operands are stored with permuted axes.
//!
//! A layout of a value `v` is a permutation `p`: what is stored is `Transpose(v, perm = p)`, so axis
//! `i` of what is stored is axis `p[i]` of `v`. Operators that treat their axes alike, or name the
//! axes that they treat apart, compute the stored results from the stored operands.

use super::layout_rules::View;
use crate::ir::{AttrValue, Graph, OpId, Tensor};
use crate::ops::{self, EvalCx};

/// A permutation of axes.
pub(super) type Perm = Vec<usize>;

/// An op that works on stored operands: which layout each operand and result has there (`None`: it
/// stays as it is), and how attributes and constant operands change.
#[derive(Debug, Default)]
pub(super) struct Moved {
    pub operands: Vec<Option<Perm>>,
    pub results: Vec<Option<Perm>>,
    pub attrs: Vec<(&'static str, AttrValue)>,
    pub constants: Vec<(usize, Tensor)>,
}

/// A port of an op.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Port {
    Operand(usize),
    Result(usize),
}

/// `Transpose(Transpose(x, first), then)` as one permutation.
pub(super) fn composed(first: &[usize], then: &[usize]) -> Perm {
    then.iter().map(|&p| first[p]).collect()
}

/// The permutation that undoes this one.
pub(super) fn inverse(perm: &[usize]) -> Perm {
    let mut inverse = vec![0; perm.len()];
    perm.iter().enumerate().for_each(|(i, &p)| inverse[p] = i);
    inverse
}

/// It moves nothing.
pub(super) fn is_identity(perm: &[usize]) -> bool {
    perm.iter().enumerate().all(|(i, &p)| i == p)
}

/// The permutation of a Transpose, when it is known and valid.
pub(super) fn permutation(g: &Graph, at: OpId) -> Option<Perm> {
    let op = g.op(at);
    if !op.is("Transpose") || op.has_ref_attrs() {
        return None;
    }
    let perm = match op.ints("perm") {
        Some(perm) => perm.iter().map(|&p| usize::try_from(p).ok()).collect::<Option<Vec<_>>>()?,
        None => (0..g.value(g.operand(at, 0)?).rank()?).rev().collect(),
    };
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    is_identity(&sorted).then_some(perm)
}

/// The constant with permuted axes; `None` for types that no kernel moves.
pub(super) fn permuted(t: &Tensor, perm: &[usize]) -> Option<Tensor> {
    let perm: Vec<i64> = perm.iter().map(|&p| p as i64).collect();
    let op = crate::ir::Op::new("Transpose").with("perm", perm);
    let cx = EvalCx { op: &op, opset: 13, operands: &[Some(t)], max_bytes: t.byte_len() };
    ops::schema(&op)?.eval.and_then(|eval| eval(&cx))?.pop()
}

/// A constant that broadcasts to something of the layout's rank, stored in that layout.
pub(super) fn permuted_operand(t: &Tensor, perm: &[usize]) -> Option<Tensor> {
    if t.len() == 1 && t.rank() <= perm.len() {
        return Some(t.clone());
    }
    let missing = perm.len().checked_sub(t.rank())?;
    let dims: Vec<usize> = vec![1; missing].into_iter().chain(t.dims().iter().copied()).collect();
    let moved = permuted(&t.reshaped(dims)?, perm)?;
    let ones = moved.dims().iter().take_while(|d| **d == 1).count().min(missing);
    let dims = moved.dims()[ones..].to_vec();
    moved.reshaped(dims)
}

/// What the op becomes when the value at `port` is stored as `perm`; `None` when it does not allow
/// it.
pub(super) fn moved(g: &Graph, op: OpId, opset: i64, port: Port, perm: &[usize]) -> Option<Moved> {
    let node = g.op(op);
    let schema = ops::schema(node)?;
    if !schema.deterministic || node.has_ref_attrs() || !node.bodies.is_empty() {
        return None;
    }
    let view = View { g, op, opset };
    let mut moved = view.moved(schema.axes, port, perm)?;
    moved.operands.resize(node.arity(), None);
    moved.results.resize(node.result_count(), None);
    let at = match port {
        Port::Operand(i) => &moved.operands[i],
        Port::Result(j) => &moved.results[j],
    };
    (at.as_deref() == Some(perm)).then_some(())?;
    for list in [&mut moved.operands, &mut moved.results] {
        let moves = |p: &Perm| !is_identity(p);
        list.iter_mut().for_each(|p| *p = p.take().filter(moves));
    }
    for (i, slot) in moved.operands.iter_mut().enumerate() {
        if g.operand(op, i).is_none() {
            *slot = None;
        }
    }
    for (j, slot) in moved.results.iter_mut().enumerate() {
        if g.result(op, j).is_none() {
            *slot = None;
        }
    }
    Some(moved)
}
