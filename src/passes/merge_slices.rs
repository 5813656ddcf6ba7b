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
//! Starts, ends, axes and steps of both are constant, and only Slices read what lies between. Where
//! both cut the same axis, they step forwards, and the size of the axis is known or no bound counts
//! from its end.
//!
//! ## What it preserves
//! The name of the result.
//!
//! ## Limits
//! Needs opset 10, where the bounds became operands.

use super::pattern::{bounds_are_operands, ints_at, maker, operand, result};
use crate::ir::{Dim, Graph, Miss, OpId, Patch, Ref, Slot, Tensor};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct MergeSlices;

static INFO: PassInfo = PassInfo {
    name: "merge-slices",
    summary: "merge slices in a row",
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
        bounds_are_operands(site)?;
        let middle = operand(g, at, 0)?;
        let before = maker(g, middle, "Slice").ok_or("no Slice before it")?;
        let slices = |(op, slot): (OpId, Slot)| g.op(op).is("Slice") && slot == Slot::Operand(0);
        if g.is_output(middle) || !g.uses(middle).into_iter().all(slices) {
            return Err("something else reads the Slice before".into());
        }
        let rank = g.value(middle).rank().ok_or("the rank is not known")?;
        let (mut cuts, second) = (cuts(g, before, rank)?, cuts(g, at, rank)?);
        let source = operand(g, before, 0)?;
        let shape = g.value(source).shape().ok_or("the rank is not known")?;
        for cut in second {
            match cuts.iter_mut().find(|c| c[2] == cut[2]) {
                Some(first) => {
                    let size = shape.get(cut[2] as usize).and_then(Dim::known);
                    *first = joined(*first, cut, size).ok_or("both cut the same axis otherwise")?;
                }
                None => cuts.push(cut),
            }
        }
        let mut patch = Patch::at(at);
        patch.set_operand(at, 0, Some(source.into()));
        let name = g.value(result(g, at)?).name().to_owned();
        for (slot, what) in ["starts", "ends", "axes", "steps"].into_iter().enumerate() {
            let column: Vec<i64> = cuts.iter().map(|c| c[slot]).collect();
            let made: Ref = patch.constant(format!("{name}_{what}"), Tensor::vector(&column));
            patch.set_operand(at, slot + 1, Some(made));
        }
        Ok(patch)
    }
}

/// One cut for two of the same axis, which has this size.
fn joined(first: [i64; 4], second: [i64; 4], size: Option<i64>) -> Option<[i64; 4]> {
    let [start, end, axis, step] = from_front(first, size)?;
    let middle = size.map(|_| ((end - start).max(0) + step - 1) / step);
    let [skip, until, _, every] = from_front(second, middle)?;
    let last = until.checked_sub(1)?.checked_mul(step).and_then(|n| n.checked_add(start + 1));
    let start = skip.checked_mul(step)?.checked_add(start)?;
    let end = last.map_or(end, |last| last.min(end)).max(start);
    Some([start, end, axis, step.checked_mul(every)?])
}

/// The cut with bounds that count from the front, for steps forwards.
fn from_front([start, end, axis, step]: [i64; 4], size: Option<i64>) -> Option<[i64; 4]> {
    let bound = |v: i64| match size {
        Some(n) => Some(if v < 0 { v.saturating_add(n) } else { v }.clamp(0, n)),
        None => (v >= 0).then_some(v),
    };
    (step > 0).then_some(())?;
    Some([bound(start)?, bound(end)?, axis, step])
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
