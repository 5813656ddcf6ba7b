//! # merge-unsqueezes
//!
//! ## What it does
//! Merges two Unsqueeze ops, or two Squeeze ops, in a row.
//!
//! ## Before/after
//! ```text
//! a = Unsqueeze (x, {0})   y = Unsqueeze (x, {0,2})
//! y = Unsqueeze (a, {2})
//! ```
//!
//! ## When it applies
//! The axes are constant and the rank is known. Where the shape is known, `merge-reshapes` was there
//! first.
//!
//! ## What it preserves
//! The name of the last result.
//!
//! ## Limits
//! A Squeeze that names no axes stays.

use super::pattern::{ints_at, operand, result, sole_maker, sorted_axes};
use crate::ir::{Graph, Miss, OpId, Patch, Tensor};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct MergeUnsqueezes;

static INFO: PassInfo = PassInfo {
    name: "merge-unsqueezes",
    summary: "merge Unsqueeze or Squeeze ops in a row",
    semantics: Semantics::Exact,
    source: include_str!("merge_unsqueezes.rs"),
};

impl Rewrite for MergeUnsqueezes {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Unsqueeze", "Squeeze"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        let op_type = g.op(at).op_type.as_str();
        let before = sole_maker(g, operand(g, at, 0)?, &[op_type]);
        let before = before.ok_or("no such op before it alone")?;
        let source = operand(g, before, 0)?;
        let rank = g.value(source).rank().ok_or("the rank is not known")?;
        let axes = |op| ints_at(g, op, "axes", 1)?.ok_or(Miss::from("it names no axes"));
        let (first, second) = (axes(before)?, axes(at)?);
        let merged = match op_type {
            "Unsqueeze" => unsqueezed(rank, &first, &second),
            _ => squeezed(rank, &first, &second),
        };
        let merged: Vec<i64> = merged.ok_or("an axis is out of range")?.collect();
        let mut patch = Patch::at(at);
        patch.set_operand(at, 0, Some(source.into()));
        if site.opset < 13 {
            patch.set_attr(at, "axes", merged);
        } else {
            let name = format!("{}_axes", g.value(result(g, at)?).name());
            let axes = patch.constant(name, Tensor::vector(&merged));
            patch.set_operand(at, 1, Some(axes));
        }
        Ok(patch)
    }
}

type Axes = std::vec::IntoIter<i64>;

/// Axes of the last result that both ops insert.
fn unsqueezed(rank: usize, first: &[i64], second: &[i64]) -> Option<Axes> {
    let middle = rank + first.len();
    let first = sorted_axes(first, middle)?;
    let second = sorted_axes(second, middle + second.len())?;
    let kept: Vec<usize> = (0..middle + second.len()).filter(|a| !second.contains(a)).collect();
    let mut all: Vec<i64> = first.iter().map(|&a| kept[a] as i64).collect();
    all.extend(second.iter().map(|&a| a as i64));
    all.sort_unstable();
    Some(all.into_iter())
}

/// Axes of the source that both ops drop.
fn squeezed(rank: usize, first: &[i64], second: &[i64]) -> Option<Axes> {
    let first = sorted_axes(first, rank)?;
    let kept: Vec<usize> = (0..rank).filter(|a| !first.contains(a)).collect();
    let second = sorted_axes(second, kept.len())?;
    let mut all: Vec<i64> = first.iter().map(|&a| a as i64).collect();
    all.extend(second.iter().map(|&a| kept[a] as i64));
    all.sort_unstable();
    Some(all.into_iter())
}
