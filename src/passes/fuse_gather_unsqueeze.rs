//! # fuse-gather-unsqueeze
//!
//! ## What it does
//! Lets a Gather by a single index keep the axis that an Unsqueeze after it restores.
//!
//! ## Before/after
//! ```text
//! a = Gather (x, one)              y = Gather (x, {1})      one = 1
//! y = Unsqueeze (a, {0})
//! ```
//!
//! ## When it applies
//! The index is a constant scalar, the Unsqueeze inserts the axis that the Gather took, and nothing
//! else reads what lies between.
//!
//! ## What it preserves
//! The name of the result.
//!
//! ## Limits
//! Unsqueezes of more than one axis stay.

use super::pattern::{ints_at, operand, result, sole_maker};
use crate::ir::{Graph, Miss, OpId, Patch};
use crate::ops::normalize_axis;
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct FuseGatherUnsqueeze;

static INFO: PassInfo = PassInfo {
    name: "fuse-gather-unsqueeze",
    summary: "fold an Unsqueeze into the Gather before it",
    semantics: Semantics::Exact,
    source: include_str!("fuse_gather_unsqueeze.rs"),
};

impl Rewrite for FuseGatherUnsqueeze {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Unsqueeze"]
    }

    fn plan(&self, g: &Graph, at: OpId, _: &Site) -> Result<Patch, Miss> {
        let gather = sole_maker(g, operand(g, at, 0)?, &["Gather"]);
        let gather = gather.ok_or("no Gather before it alone")?;
        let index = operand(g, gather, 1)?;
        let scalar = g.const_tensor(index).filter(|t| t.rank() == 0);
        let index_data =
            scalar.and_then(|t| t.reshaped(vec![1])).ok_or("its index is no scalar")?;
        let rank = g.value(operand(g, gather, 0)?).rank().ok_or("the rank is not known")?;
        let axes = ints_at(g, at, "axes", 1)?.ok_or("it names no axes")?;
        let [restored] = axes[..] else { return Err("it inserts several axes".into()) };
        let taken = normalize_axis(g.op(gather).int_or("axis", 0), rank);
        if taken.is_none() || normalize_axis(restored, rank) != taken {
            return Err("it inserts another axis".into());
        }
        let mut patch = Patch::at(gather);
        let name = format!("{}_1d", g.value(index).name());
        let index = patch.constant(name, index_data);
        patch.set_operand(gather, 1, Some(index));
        patch.set_result(gather, 0, result(g, at)?);
        patch.remove(at);
        Ok(patch)
    }
}
