//! # merge-concats
//!
//! ## What it does
//! Puts the operands of a Concat that another Concat alone reads into that one, and drops operands
//! without elements.
//!
//! ## Before/after
//! ```text
//! a = Concat <axis = 1> (x, z)         y = Concat <axis = 1> (x, z, w)
//! y = Concat <axis = 1> (a, w)
//! ```
//!
//! ## When it applies
//! Both join along the same axis.
//!
//! ## What it preserves
//! The order of the operands and the name of the result.
//!
//! ## Limits
//! An operand counts as empty only when its size along the axis is known to be 0 and another operand
//! is left.

use super::pattern::{result, sole_maker};
use crate::ir::{Dim, Graph, Miss, Op, OpId, Patch, Ref, ValueId};
use crate::ops::normalize_axis;
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct MergeConcats;

static INFO: PassInfo = PassInfo {
    name: "merge-concats",
    summary: "merge nested Concat ops and drop empty operands",
    semantics: Semantics::Exact,
    source: include_str!("merge_concats.rs"),
};

impl Rewrite for MergeConcats {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Concat"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if site.opset < 4 {
            return Err("before opset 4 the axis may be missing".into());
        }
        let axis = g.op(at).int("axis").ok_or("it has no axis")?;
        let rank = g.value(result(g, at)?).rank();
        let position = |axis: i64| rank.and_then(|r| normalize_axis(axis, r));
        let same_axis = |other: Option<i64>| {
            other == Some(axis)
                || (position(axis).is_some() && other.map(position) == Some(position(axis)))
        };
        let given: Vec<ValueId> = g.operands(at).into_iter().flatten().collect();
        let mut flat: Vec<ValueId> = Vec::with_capacity(given.len());
        for &v in &given {
            match sole_maker(g, v, &["Concat"]).filter(|op| same_axis(g.op(*op).int("axis"))) {
                Some(inner) => flat.extend(g.operands(inner).into_iter().flatten()),
                None => flat.push(v),
            }
        }
        let is_empty = |v: &ValueId| {
            let shape = g.value(*v).shape().filter(|s| Some(s.len()) == rank);
            shape.zip(position(axis)).is_some_and(|(s, a)| s[a] == Dim::Known(0))
        };
        let full: Vec<ValueId> = flat.iter().copied().filter(|v| !is_empty(v)).collect();
        let flat = if full.is_empty() { flat } else { full };
        if flat == given {
            return Err("there is nothing to merge".into());
        }
        let mut patch = Patch::at(at);
        let mut op = Op::new("Concat").named(g.op(at).name.clone());
        op.attrs.clone_from(&g.op(at).attrs);
        patch.replace(g, at, op, flat.into_iter().map(|v| Some(Ref::Old(v))).collect());
        Ok(patch)
    }
}
