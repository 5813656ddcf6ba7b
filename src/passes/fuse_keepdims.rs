//! # fuse-keepdims
//!
//! ## What it does
//! Lets a Reduce keep the axes that an Unsqueeze after it restores, or drop those that a Squeeze
//! after it drops.
//!
//! ## Before/after
//! ```text
//! a = ReduceMean <keepdims = 0> (x, {2})       y = ReduceMean <keepdims = 1> (x, {2})
//! y = Unsqueeze (a, {2})
//! ```
//!
//! ## When it applies
//! Both name the same axes as constants, and nothing else reads what lies between. ArgMax and ArgMin
//! count.
//!
//! ## What it preserves
//! The name of the result.
//!
//! ## Limits
//! A Reduce over all axes by default stays.

use super::pattern::{ints_at, operand, result, sole_maker, sorted_axes};
use crate::ir::{Graph, Miss, OpId, Patch};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct FuseKeepdims;

static INFO: PassInfo = PassInfo {
    name: "fuse-keepdims",
    summary: "fold an Unsqueeze or Squeeze into the Reduce before it",
    semantics: Semantics::Exact,
    source: include_str!("fuse_keepdims.rs"),
};

const REDUCING: &[&str] = &[
    "ReduceSum",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceSumSquare",
    "ArgMax",
    "ArgMin",
];

impl Rewrite for FuseKeepdims {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Unsqueeze", "Squeeze"]
    }

    fn plan(&self, g: &Graph, at: OpId, _: &Site) -> Result<Patch, Miss> {
        let middle = operand(g, at, 0)?;
        let reduce = sole_maker(g, middle, REDUCING).ok_or("no Reduce before it alone")?;
        let restores = g.op(at).is("Unsqueeze");
        if (g.op(reduce).int_or("keepdims", 1) == 0) != restores {
            return Err("the Reduce does the same already".into());
        }
        let rank = g.value(operand(g, reduce, 0)?).rank().ok_or("the rank is not known")?;
        let reduced = if g.op(reduce).op_type.starts_with("Arg") {
            vec![g.op(reduce).int_or("axis", 0)]
        } else {
            ints_at(g, reduce, "axes", 1)?.filter(|a| !a.is_empty()).ok_or("it names no axes")?
        };
        let named = ints_at(g, at, "axes", 1)?.ok_or("it names no axes")?;
        let sorted = |axes: &[i64]| sorted_axes(axes, rank).ok_or("an axis is out of range");
        if sorted(&reduced)? != sorted(&named)? {
            return Err("the axes differ".into());
        }
        let mut patch = Patch::at(reduce);
        patch.set_attr(reduce, "keepdims", i64::from(restores));
        patch.set_result(reduce, 0, result(g, at)?);
        patch.remove(at);
        Ok(patch)
    }
}
