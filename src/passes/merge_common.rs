//! # merge-common
//!
//! ## What it does
//! Keeps one of several ops that compute the same: same operator, attributes and operands (common
//! subexpression elimination).
//!
//! ## Before/after
//! ```text
//! a = Relu (x)             a = Relu (x)
//! b = Relu (x)             y = Add (a, a)
//! y = Add (a, b)
//! ```
//!
//! ## When it applies
//! The operator is known to be deterministic and has no subgraphs. Constant operands are the same
//! when they hold the same elements. Small integer tensors are also the same when shape inference
//! has the same expressions for all their elements, however they were computed. An op in a subgraph
//! that reads only what comes from outside gives way to an equal one there.
//!
//! ## What it preserves
//! Graph outputs: two ops that both make one stay.
//!
//! ## Limits
//! Ops with subgraphs stay apart.

use std::hash::{BuildHasher, Hash, Hasher};
use std::sync::Arc;

use super::common_outside;
use super::content::equal_constants;
use crate::ir::{Attr, AttrValue, DType, Dim, Graph, Model, Op, OpId, ValueId};
use crate::maps::Map;
use crate::ops;
use crate::pass::{Cx, Pass, PassError, PassInfo, Semantics, visit_model};

pub(crate) struct MergeCommon;

static INFO: PassInfo = PassInfo {
    name: "merge-common",
    summary: "keep one of several ops that compute the same",
    semantics: Semantics::Exact,
    source: include_str!("merge_common.rs"),
};

impl Pass for MergeCommon {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, model: &mut Model, cx: &mut Cx) -> Result<(), PassError> {
        visit_model(model, &mut |g, _| {
            merge(g, cx);
            common_outside::read_results(g);
        });
        Ok(())
    }
}

fn merge(g: &mut Graph, cx: &mut Cx) {
    let mut numbers: Map<ValueId, ValueId> = Map::default();
    for group in equal_constants(g, &mut cx.hashes, |g, v| !g.is_unused(v)) {
        numbers.extend(group.iter().map(|v| (*v, group[0])));
    }
    let mut seen: Map<u64, Vec<OpId>> = Map::default();
    let mut known: Map<Known, OpId> = Map::default();
    for op in g.order() {
        if !is_mergeable(g, op) {
            continue;
        }
        if let Some(elements) = known_elements(g, op) {
            match known.get(&elements).filter(|other| g.has_op(**other)) {
                Some(&other) if unite(g, other, op).is_some() => continue,
                Some(_) => {}
                // Perhaps again: the first may be gone, merged into one that makes an output.
                None => {
                    known.insert(elements, op);
                }
            }
        }
        let bucket = seen.entry(key(g, op, &numbers, known.hasher())).or_default();
        let twin = bucket.iter().position(|&other| same(g, other, op, &numbers));
        match twin.map(|i| (i, unite(g, bucket[i], op))) {
            Some((i, Some(kept))) => bucket[i] = kept,
            _ => bucket.push(op),
        }
    }
}

/// Type, rank and elements of a small integer tensor.
type Known = (DType, usize, Arc<[Dim]>);

fn known_elements(g: &Graph, op: OpId) -> Option<Known> {
    let v = g.result(op, 0).filter(|v| g.op(op).result_count() == 1 && !g.is_output(*v))?;
    let value = g.value(v);
    let elements = value.sym.as_ref().filter(|s| s.iter().all(Dim::is_some))?;
    Some((value.dtype()?, value.rank()?, elements.clone()))
}

pub(super) fn is_mergeable(g: &Graph, op: OpId) -> bool {
    let node = g.op(op);
    node.bodies.is_empty()
        && !node.is("Constant")
        && node.arity() > 0
        && ops::schema(node).is_some_and(|s| s.deterministic)
}

/// Operands by number, in a fixed order where the operator does not mind.
fn operands(g: &Graph, op: OpId, numbers: &Map<ValueId, ValueId>) -> Vec<Option<ValueId>> {
    let number = |v: ValueId| numbers.get(&v).copied().unwrap_or(v);
    let mut operands: Vec<_> = g.operands(op).into_iter().map(|v| v.map(number)).collect();
    while operands.last() == Some(&None) {
        operands.pop();
    }
    if operands.len() == 2 && ops::schema(g.op(op)).is_some_and(|s| s.commutative) {
        operands.sort_unstable();
    }
    operands
}

fn key(
    g: &Graph,
    op: OpId,
    numbers: &Map<ValueId, ValueId>,
    how: &foldhash::fast::RandomState,
) -> u64 {
    let node = g.op(op);
    let mut h = how.build_hasher();
    node.op_type.hash(&mut h);
    operands(g, op, numbers).hash(&mut h);
    for attr in &node.attrs {
        attr.name.hash(&mut h);
        match &attr.value {
            AttrValue::Float(v) => v.to_bits().hash(&mut h),
            AttrValue::Int(v) => v.hash(&mut h),
            AttrValue::Str(v) => v.hash(&mut h),
            AttrValue::Floats(v) => v.iter().for_each(|v| v.to_bits().hash(&mut h)),
            AttrValue::Ints(v) => v.hash(&mut h),
            _ => {}
        }
    }
    h.finish()
}

fn same(g: &Graph, a: OpId, b: OpId, numbers: &Map<ValueId, ValueId>) -> bool {
    let (x, y) = (g.op(a), g.op(b));
    x.op_type == y.op_type && same_attrs(x, y) && operands(g, a, numbers) == operands(g, b, numbers)
}

/// Both have equal attributes in the same order.
pub(super) fn same_attrs(x: &Op, y: &Op) -> bool {
    let same = |(p, q): (&Attr, &Attr)| p.name == q.name && same_value(&p.value, &q.value);
    x.attrs.len() == y.attrs.len() && x.attrs.iter().zip(&y.attrs).all(same)
}

/// Bit by bit for floats, so that zeros of different sign stay apart.
fn same_value(a: &AttrValue, b: &AttrValue) -> bool {
    let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
    match (a, b) {
        (AttrValue::Float(a), AttrValue::Float(b)) => a.to_bits() == b.to_bits(),
        (AttrValue::Floats(a), AttrValue::Floats(b)) => bits(a) == bits(b),
        (a, b) => a == b,
    }
}

/// Makes one of two equal ops serve for both and removes the other. `None` when both make graph
/// outputs, or the one misses a result that the other has.
fn unite(g: &mut Graph, first: OpId, second: OpId) -> Option<OpId> {
    let makes_output = |op| g.results(op).into_iter().flatten().any(|v| g.is_output(v));
    let (kept, gone) = match (makes_output(first), makes_output(second)) {
        (true, true) => return None,
        (false, true) => (second, first),
        _ => (first, second),
    };
    let (to, from) = (g.results(kept), g.results(gone));
    let to = |i: usize| to.get(i).copied().flatten();
    if from.iter().enumerate().any(|(i, v)| v.is_some() && to(i).is_none()) {
        return None;
    }
    for (i, v) in from.into_iter().enumerate() {
        if let (Some(v), Some(to)) = (v, to(i)) {
            g.replace_uses(v, to);
        }
    }
    g.remove_op(gone);
    Some(kept)
}
