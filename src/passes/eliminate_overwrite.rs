//! # eliminate-overwrite
//!
//! ## What it does
//! Removes a ScatterND that replaces every slice of its operand, in order: the result is what it puts
//! there.
//!
//! ## Before/after
//! ```text
//! a = ScatterND (x, {{0},{1}}, z)      y = Relu (z)        x and z are float[2,N]
//! y = Relu (a)
//! ```
//!
//! ## When it applies
//! The indices are the constants 0, 1, 2, … for all of the first axis, and both tensors have the same
//! shape.
//!
//! ## What it preserves
//! Names of graph outputs.
//!
//! ## Limits
//! Other orders of the indices, and reductions, stay.

use super::pattern::{operand, result, same_shape};
use crate::ir::{Graph, Miss, OpId, Patch};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct EliminateOverwrite;

static INFO: PassInfo = PassInfo {
    name: "eliminate-overwrite",
    summary: "remove a ScatterND that replaces everything",
    semantics: Semantics::Exact,
    source: include_str!("eliminate_overwrite.rs"),
};

impl Rewrite for EliminateOverwrite {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["ScatterND"]
    }

    fn plan(&self, g: &Graph, at: OpId, _: &Site) -> Result<Patch, Miss> {
        if g.op(at).str("reduction").is_some_and(|r| r != "none") {
            return Err("it combines old and new elements".into());
        }
        let (x, updates) = (operand(g, at, 0)?, operand(g, at, 2)?);
        let indices = g.const_operand(at, 1).ok_or("its indices are not constant")?;
        let rows = g.value(x).shape().and_then(|s| s.first()?.size());
        let rows = rows.ok_or("the number of slices is not known")?;
        let list = indices.to_i64().ok_or("its indices are no integers")?;
        let in_order = list.iter().zip(0i64..).all(|(&i, k)| i == k);
        if indices.dims() != [rows, 1] || !in_order {
            return Err("it does not replace every slice in order".into());
        }
        if !same_shape(g.value(updates), g.value(result(g, at)?)) {
            return Err("the shapes are not known to be the same".into());
        }
        let mut patch = Patch::at(at);
        patch.bypass(g, at, updates)?;
        Ok(patch)
    }
}
