//! # eliminate-identity
//!
//! ## What it does
//! Removes Identity ops and Dropout ops that run in inference mode.
//!
//! ## Before/after
//! ```text
//! a = Relu (x)             a = Relu (x)
//! b = Identity (a)         y = Abs (a)
//! y = Abs (b)
//! ```
//!
//! ## When it applies
//! The mask of the Dropout is not used, and training mode is off or the ratio is zero.
//!
//! ## What it preserves
//! Names of graph outputs: the op before takes over the name.
//!
//! ## Limits
//! An Identity between a graph input, a constant or another graph output and a graph output stays.

use super::pattern::{operand, scalar};
use crate::ir::{Graph, Miss, OpId, Patch};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct EliminateIdentity;

static INFO: PassInfo = PassInfo {
    name: "eliminate-identity",
    summary: "remove Identity and inference-mode Dropout",
    semantics: Semantics::Exact,
    source: include_str!("eliminate_identity.rs"),
};

impl Rewrite for EliminateIdentity {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Identity", "Dropout"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if g.op(at).is("Dropout") && !is_inference(g, at, site.opset) {
            return Err("it may drop elements".into());
        }
        let mut patch = Patch::at(at);
        patch.bypass(g, at, operand(g, at, 0)?)?;
        Ok(patch)
    }
}

fn is_inference(g: &Graph, at: OpId, opset: i64) -> bool {
    if opset < 7 {
        return g.op(at).int_or("is_test", 0) != 0;
    }
    if opset < 12 {
        return true;
    }
    let training = match g.operand(at, 2) {
        None => false,
        Some(v) => g.const_tensor(v).and_then(crate::ir::Tensor::single) != Some(0.0),
    };
    !training || g.operand(at, 1).is_some_and(|ratio| scalar(g, ratio) == Some(0.0))
}
