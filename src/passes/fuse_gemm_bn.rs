//! # fuse-gemm-bn
//!
//! ## What it does
//! Folds a BatchNormalization into the Gemm or MatMul before it. A MatMul becomes a Gemm, since it
//! gets a bias.
//!
//! ## Before/after
//! ```text
//! c = Gemm (x, w, b)                           y = Gemm (x, w', b')
//! y = BatchNormalization (c, s, t, mean, var)
//! ```
//! with `w' = w * k`, `b' = (b - mean) * k + t` and `k = s / sqrt(var + epsilon)` per column.
//!
//! ## When it applies
//! As `fuse-conv-bn`; both operands are matrices.
//!
//! ## What it preserves
//! The name of the result, and of weights that nothing else reads.
//!
//! ## Limits
//! Those of `fuse-conv-bn`.

use super::fuse_conv_bn::plan_norm;
use super::linear::GEMMS;
use crate::ir::{Graph, Miss, OpId, Patch};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct FuseGemmBn;

static INFO: PassInfo = PassInfo {
    name: "fuse-gemm-bn",
    summary: "fold a BatchNormalization into the matrix product before it",
    semantics: Semantics::Reassociates,
    source: include_str!("fuse_gemm_bn.rs"),
};

impl Rewrite for FuseGemmBn {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["BatchNormalization"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        plan_norm(g, at, site, GEMMS)
    }
}
