//! # fuse-gemm-transpose
//!
//! ## What it does
//! Folds the Transpose of a matrix into the flags of the Gemm that reads it.
//!
//! ## Before/after
//! ```text
//! a = Transpose <perm = [1,0]> (x)         y = Gemm <transA = 1> (x, w, b)
//! y = Gemm (a, w, b)
//! ```
//!
//! ## When it applies
//! The Gemm alone reads the Transpose.
//!
//! ## What it preserves
//! The name of the result.
//!
//! ## Limits
//! A MatMul has no flags and stays.

use super::pattern::{operand, sole_maker};
use crate::ir::{Graph, Miss, OpId, Patch};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct FuseGemmTranspose;

static INFO: PassInfo = PassInfo {
    name: "fuse-gemm-transpose",
    summary: "fold a Transpose into the flags of a Gemm",
    semantics: Semantics::Exact,
    source: include_str!("fuse_gemm_transpose.rs"),
};

impl Rewrite for FuseGemmTranspose {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Gemm"]
    }

    fn plan(&self, g: &Graph, at: OpId, _: &Site) -> Result<Patch, Miss> {
        for (slot, flag) in ["transA", "transB"].into_iter().enumerate() {
            let v = operand(g, at, slot)?;
            let Some(transpose) = sole_maker(g, v, &["Transpose"]) else { continue };
            // The operand of a Gemm is a matrix, so any permutation but the identity swaps.
            if g.op(transpose).ints("perm").is_some_and(|p| p != [1, 0]) {
                continue;
            }
            let mut patch = Patch::at(at);
            patch.set_operand(at, slot, Some(operand(g, transpose, 0)?.into()));
            match g.op(at).int_or(flag, 0) {
                0 => patch.set_attr(at, flag, 1i64),
                _ => patch.remove_attr(at, flag),
            }
            return Ok(patch);
        }
        Err("no operand is made by a Transpose that it alone reads".into())
    }
}
