//! # merge-splits
//!
//! ## What it does
//! Removes a Split and a Concat that undo each other, in either order, and merges a Split into the
//! Split before it.
//!
//! ## Before/after
//! ```text
//! a, b = Split <axis = 1> (x, {2,3})       y = Concat <axis = 1> (x, z)
//! y = Concat <axis = 1> (a, b, z)
//! ```
//!
//! ## When it applies
//! The axes are the same. A Concat reads all pieces of the Split in order; a Split cuts what a Concat
//! joined at its seams, and the sizes are known to be the same; of two Splits, the second alone reads
//! a piece of the first, and the sizes of all pieces are known.
//!
//! ## What it preserves
//! Names of graph outputs.
//!
//! ## Limits
//! A Split of a Concat stays where a piece is a graph output.

use super::pattern::{maker, operand, result};
use crate::ir::{Dim, Graph, Miss, Op, OpId, Patch, Ref, Tensor, ValueId};
use crate::ops::normalize_axis;
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct MergeSplits;

static INFO: PassInfo = PassInfo {
    name: "merge-splits",
    summary: "remove Split and Concat ops that undo each other, and merge Splits",
    semantics: Semantics::Exact,
    source: include_str!("merge_splits.rs"),
};

impl Rewrite for MergeSplits {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Concat", "Split"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if site.opset < 4 {
            return Err("before opset 4 the axis may be missing".into());
        }
        if g.op(at).is("Concat") {
            return join(g, at);
        }
        match maker(g, operand(g, at, 0)?, "Concat") {
            Some(concat) => separate(g, at, concat),
            None => merge(g, at, site.opset),
        }
    }
}

/// The axis of a Split or Concat, counted from the front.
fn axis(g: &Graph, op: OpId) -> Option<usize> {
    let rank = g.value(g.operand(op, 0)?).rank()?;
    normalize_axis(g.op(op).int_or("axis", 0), rank)
}

/// A Concat of all pieces of a Split.
fn join(g: &Graph, at: OpId) -> Result<Patch, Miss> {
    let along = axis(g, at).ok_or("its axis is not known")?;
    let given = g.operands(at);
    let mut joined: Vec<ValueId> = Vec::new();
    let mut found = false;
    let mut i = 0;
    while i < given.len() {
        let v = given[i].ok_or("an operand is missing")?;
        let split = maker(g, v, "Split").filter(|op| axis(g, *op) == Some(along));
        let pieces = split.map(|op| g.results(op)).unwrap_or_default();
        match split.filter(|_| pieces.len() > 1 && given[i..].starts_with(&pieces)) {
            Some(split) => {
                joined.push(operand(g, split, 0)?);
                i += pieces.len();
                found = true;
            }
            None => {
                joined.push(v);
                i += 1;
            }
        }
    }
    if !found {
        return Err("it does not join all pieces of a Split".into());
    }
    let mut patch = Patch::at(at);
    if let [source] = joined[..] {
        patch.bypass(g, at, source)?;
        return Ok(patch);
    }
    let mut op = Op::new("Concat").named(g.op(at).name.clone());
    op.attrs.clone_from(&g.op(at).attrs);
    patch.replace(g, at, op, joined.into_iter().map(|v| Some(Ref::Old(v))).collect());
    Ok(patch)
}

/// A Split at the seams of a Concat.
fn separate(g: &Graph, at: OpId, concat: OpId) -> Result<Patch, Miss> {
    let along = axis(g, at).ok_or("its axis is not known")?;
    if axis(g, concat) != Some(along) {
        return Err("the Concat before joins along another axis".into());
    }
    let (parts, pieces) = (g.operands(concat), g.results(at));
    let size = |v: Option<ValueId>| g.value(v?).shape()?.get(along).filter(|d| d.is_some());
    let fits =
        |(a, b): (&Option<ValueId>, &Option<ValueId>)| size(*a).is_some() && size(*a) == size(*b);
    if parts.len() != pieces.len() || !parts.iter().zip(&pieces).all(fits) {
        return Err("it cuts elsewhere than at the seams of the Concat".into());
    }
    let mut patch = Patch::at(at);
    for (part, piece) in parts.into_iter().flatten().zip(pieces.into_iter().flatten()) {
        if g.is_output(piece) {
            return Err("a piece is a graph output".into());
        }
        patch.replace_uses(piece, part);
    }
    patch.remove(at);
    Ok(patch)
}

/// A Split of a piece of a Split.
fn merge(g: &Graph, at: OpId, opset: i64) -> Result<Patch, Miss> {
    let piece = operand(g, at, 0)?;
    let (before, slot) = g.producer(piece).ok_or("no Split before it")?;
    if !g.op(before).is("Split") || g.op(before).has_ref_attrs() || g.sole_use(piece).is_none() {
        return Err("no Split before it alone".into());
    }
    let along = axis(g, at).ok_or("its axis is not known")?;
    if axis(g, before) != Some(along) {
        return Err("the Split before cuts another axis".into());
    }
    let mut results = g.results(before);
    results.splice(slot..=slot, g.results(at));
    let size = |v: &Option<ValueId>| g.value((*v)?).shape()?.get(along).and_then(Dim::known);
    let sizes: Option<Vec<i64>> = results.iter().map(size).collect();
    let sizes = sizes.ok_or("the size of a piece is not known")?;
    let mut patch = Patch::at(before);
    let mut op = Op::new("Split").named(g.op(before).name.clone()).with("axis", along as i64);
    let mut operands = vec![Some(operand(g, before, 0)?.into())];
    if opset >= 13 {
        let name = format!("{}_sizes", g.value(result(g, at)?).name());
        operands.push(Some(patch.constant(name, Tensor::vector(&sizes))));
    } else {
        op.set_attr("split", sizes);
    }
    let results = results.into_iter().map(|v| v.map(Ref::Old)).collect();
    patch.op_into(op, operands, results);
    patch.remove(at);
    patch.remove(before);
    Ok(patch)
}
