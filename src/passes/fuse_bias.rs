//! # fuse-bias
//!
//! ## What it does
//! Makes a constant that is added to the result of a Conv, ConvTranspose, Gemm or MatMul the bias of
//! that op. A MatMul of two matrices becomes a Gemm.
//!
//! ## Before/after
//! ```text
//! c = Conv (x, w)          y = Conv (x, w, b)
//! y = Add (c, b)
//! ```
//! `Sub (c, b)` gives the bias `-b`; `Sub (b, c)` also changes the sign of the weights.
//!
//! ## When it applies
//! Weights, bias and summand are constant, the summand has one number for each output channel or one
//! for all, and nothing else reads the result of the linear op.
//!
//! ## What it preserves
//! The name of the result.
//!
//! ## Limits
//! A summand that makes the result larger by broadcasting, or varies over other axes than the
//! channels, stays. A MatMul of tensors of higher rank stays: it has no bias, and TensorRT fuses the
//! Add on its own.

use super::linear::{CONVS, Linear};
use super::pattern::{free_operands, result, with_const};
use crate::ir::{Graph, Miss, OpId, Patch};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct FuseBias;

static INFO: PassInfo = PassInfo {
    name: "fuse-bias",
    summary: "make a constant summand the bias of the linear op before it",
    semantics: Semantics::Reassociates,
    source: include_str!("fuse_bias.rs"),
};

impl Rewrite for FuseBias {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Add", "Sub"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if site.opset < 7 {
            return Err("broadcasting before opset 7 is by attributes".into());
        }
        let pair = with_const(g, at)?;
        let types = [CONVS, &["Gemm", "MatMul"]].concat();
        let linear = Linear::making(g, pair.other, &types, site.opset)?;
        let mut shift = linear.per_channel(g, pair.data)?;
        let mut scale = None;
        if g.op(at).is("Sub") {
            if pair.slot == 0 {
                shift.iter_mut().for_each(|v| *v = -*v);
            } else {
                scale = Some(vec![-1.0; linear.channels]);
            }
        }
        let mut patch = Patch::at(linear.op);
        linear.plan_affine(g, &mut patch, scale.as_deref(), Some(&shift), result(g, at)?)?;
        free_operands(g, at, &mut patch);
        patch.remove(at);
        Ok(patch)
    }
}
