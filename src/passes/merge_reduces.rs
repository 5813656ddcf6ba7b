//! # merge-reduces
//!
//! ## What it does
//! Merges two Reduce ops of one kind in a row.
//!
//! ## Before/after
//! ```text
//! a = ReduceMean <axes = [3]> (x)      y = ReduceMean <axes = [2,3]> (x)
//! y = ReduceMean <axes = [2]> (a)
//! ```
//!
//! ## When it applies
//! ReduceSum, ReduceMean, ReduceMax, ReduceMin, ReduceProd, ReduceL1 and ReduceLogSumExp, over
//! constant axes, both with or both without keepdims. Nothing else reads what lies between.
//!
//! ## What it preserves
//! The name of the result. Sums may add up in another order.
//!
//! ## Limits
//! A Reduce that names no axes stays.

use super::pattern::{ints_at, operand, result, sole_maker, sorted_axes};
use crate::ir::{Graph, Miss, OpId, Patch, Tensor};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct MergeReduces;

static INFO: PassInfo = PassInfo {
    name: "merge-reduces",
    summary: "merge Reduce ops of one kind in a row",
    semantics: Semantics::Reassociates,
    source: include_str!("merge_reduces.rs"),
};

impl Rewrite for MergeReduces {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &[
            "ReduceSum",
            "ReduceMean",
            "ReduceMax",
            "ReduceMin",
            "ReduceProd",
            "ReduceL1",
            "ReduceLogSumExp",
        ]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        let op_type = g.op(at).op_type.as_str();
        let before = sole_maker(g, operand(g, at, 0)?, &[op_type]);
        let before = before.ok_or("no Reduce of its kind before it alone")?;
        let keeps = |op: OpId| g.op(op).int_or("keepdims", 1) != 0;
        if keeps(at) != keeps(before) {
            return Err("only one of them keeps its axes".into());
        }
        let source = operand(g, before, 0)?;
        let rank = g.value(source).rank().ok_or("the rank is not known")?;
        let named = |op: OpId, rank: usize| -> Result<Vec<usize>, Miss> {
            let axes = ints_at(g, op, "axes", 1)?.filter(|a| !a.is_empty());
            let axes = axes.ok_or("it names no axes")?;
            sorted_axes(&axes, rank).ok_or_else(|| "an axis is out of range".into())
        };
        let first = named(before, rank)?;
        let kept: Vec<usize> = match keeps(at) {
            true => (0..rank).collect(),
            false => (0..rank).filter(|a| !first.contains(a)).collect(),
        };
        let mut axes: Vec<i64> = first.iter().map(|&a| a as i64).collect();
        axes.extend(named(at, kept.len())?.into_iter().map(|a| kept[a] as i64));
        axes.sort_unstable();
        axes.dedup();
        let mut patch = Patch::at(at);
        patch.set_operand(at, 0, Some(source.into()));
        if site.opset >= 18 || (site.opset >= 13 && op_type == "ReduceSum") {
            let name = format!("{}_axes", g.value(result(g, at)?).name());
            let axes = patch.constant(name, Tensor::vector(&axes));
            patch.set_operand(at, 1, Some(axes));
        } else {
            patch.set_attr(at, "axes", axes);
        }
        Ok(patch)
    }
}
