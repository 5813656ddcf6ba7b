//! # merge-reshapes
//!
//! ## What it does
//! Merges chains of Reshape, Flatten, Squeeze, Unsqueeze, and Transpose that only moves axes of size
//! 1, into one Reshape, or into nothing when the shape at the end is the one at the start.
//!
//! ## Before/after
//! ```text
//! a = Reshape (x, s)       y = Reshape (x, t)
//! y = Reshape (a, t)
//! ```
//!
//! ## When it applies
//! The shape at the end can be written as a constant: at most one axis is dynamic, not counting
//! those that keep their place.
//!
//! ## What it preserves
//! Names of the last result; a reshape in the middle that others read stays for them.
//!
//! ## Limits
//! Needs opset 5, where the shape became an operand. Tensors without elements stay as they are.

use super::pattern::{operand, same_shape};
use super::reshape::{moves_units, plan_reshape, regrouped, shapes, target};
use crate::ir::{Graph, Miss, OpId, Patch};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct MergeReshapes;

static INFO: PassInfo = PassInfo {
    name: "merge-reshapes",
    summary: "merge chains of Reshape, Flatten, Squeeze and Unsqueeze",
    semantics: Semantics::Exact,
    source: include_str!("merge_reshapes.rs"),
};

impl Rewrite for MergeReshapes {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if site.opset < 5 {
            return Err("before opset 5 the shape is an attribute".into());
        }
        if g.op(at).is("Transpose") && !moves_units(g, at) {
            return Err("it changes the order of the elements".into());
        }
        let (before, source) = regrouped(g, at)?;
        let (from, to) = shapes(g, source, at)?;
        let y = super::pattern::result(g, at)?;
        if same_shape(g.value(source), g.value(y)) {
            let mut patch = Patch::at(at);
            if patch.bypass(g, at, source).is_ok() {
                return Ok(patch);
            }
        }
        let middle = operand(g, at, 0)?;
        if g.sole_use(middle).is_none() && !g.op(before).is("Reshape") {
            return Err("the reshape in the middle stays for others".into());
        }
        Ok(plan_reshape(g, at, source, &target(from, to)?))
    }
}
