//! # merge-slices
//!
//! ## What it does
//! Merges a Slice into the Slice after it.
//!
//! ## Before/after
//! ```text
//! a = Slice (x, {0}, {4}, {2}, {1})        y = Slice (x, {0,1}, {4,3}, {2,3}, {1,1})
//! y = Slice (a, {1}, {3}, {3}, {1})
//! ```
//!
//! ## When it applies
//! Starts, ends, axes and steps of both are constant, the two cut different axes, and only Slices
//! read what lies between.
//!
//! ## What it preserves
//! The name of the result.
//!
//! ## Limits
//! Needs opset 10, where the bounds became operands. Two cuts of one axis stay.

use super::pattern::{ints_at, maker, operand, result};
use crate::ir::{Graph, Miss, OpId, Patch, Ref, Slot, Tensor};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct MergeSlices;

static INFO: PassInfo = PassInfo {
    name: "merge-slices",
    summary: "merge slices of different axes",
    semantics: Semantics::Exact,
    source: include_str!("merge_slices.rs"),
};

impl Rewrite for MergeSlices {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Slice"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if site.opset < 10 {
            return Err("before opset 10 the bounds are attributes".into());
        }
        let middle = operand(g, at, 0)?;
        let before = maker(g, middle, "Slice").ok_or("no Slice before it")?;
        let slices = |(op, slot): (OpId, Slot)| g.op(op).is("Slice") && slot == Slot::Operand(0);
        if g.is_output(middle) || !g.uses(middle).into_iter().all(slices) {
            return Err("something else reads the Slice before".into());
        }
        let rank = g.value(middle).rank().ok_or("the rank is not known")?;
        let (mut cuts, second) = (cuts(g, before, rank)?, cuts(g, at, rank)?);
        if second.iter().any(|c| cuts.iter().any(|d| c[2] == d[2])) {
            return Err("both cut the same axis".into());
        }
        cuts.extend(second);
        let mut patch = Patch::at(at);
        patch.set_operand(at, 0, Some(operand(g, before, 0)?.into()));
        let name = g.value(result(g, at)?).name().to_owned();
        for (slot, what) in ["starts", "ends", "axes", "steps"].into_iter().enumerate() {
            let column: Vec<i64> = cuts.iter().map(|c| c[slot]).collect();
            let made: Ref = patch.constant(format!("{name}_{what}"), Tensor::vector(&column));
            patch.set_operand(at, slot + 1, Some(made));
        }
        Ok(patch)
    }
}

/// Start, end, axis and step for each axis that is cut.
fn cuts(g: &Graph, at: OpId, rank: usize) -> Result<Vec<[i64; 4]>, Miss> {
    let starts = ints_at(g, at, "starts", 1)?.ok_or("its starts are missing")?;
    let ends = ints_at(g, at, "ends", 2)?.ok_or("its ends are missing")?;
    let axes = ints_at(g, at, "axes", 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = ints_at(g, at, "steps", 4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return Err("its operands have different lengths".into());
    }
    let mut cuts = Vec::with_capacity(starts.len());
    for i in 0..starts.len() {
        let axis = crate::ops::normalize_axis(axes[i], rank).ok_or("an axis is out of range")?;
        cuts.push([starts[i], ends[i], axis as i64, steps[i]]);
    }
    Ok(cuts)
}
