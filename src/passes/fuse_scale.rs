//! # fuse-scale
//!
//! ## What it does
//! Multiplies the weights of a Conv, ConvTranspose, Gemm or MatMul by a constant factor that its
//! result is multiplied or divided by.
//!
//! ## Before/after
//! ```text
//! c = Conv (x, w, b)       y = Conv (x, w', b')
//! y = Mul (c, k)
//! ```
//! with `w' = w * k` and `b' = b * k` per output channel.
//!
//! ## When it applies
//! Weights, bias and factor are constant, the factor is one number for each output channel or one
//! for all, and nothing else reads the result of the linear op.
//!
//! ## What it preserves
//! The name of the result, and of weights that nothing else reads. Weights are computed in double
//! precision and rounded once.
//!
//! ## Limits
//! It does not fire where a weight would leave the range of its type, nor for `Div (k, c)`.

use super::linear::{CONVS, Linear};
use super::pattern::{free_operands, result, with_const};
use crate::ir::{Graph, Miss, OpId, Patch};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct FuseScale;

static INFO: PassInfo = PassInfo {
    name: "fuse-scale",
    summary: "fold a constant factor into the weights of the linear op before it",
    semantics: Semantics::Reassociates,
    source: include_str!("fuse_scale.rs"),
};

impl Rewrite for FuseScale {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Mul", "Div"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if site.opset < 7 {
            return Err("broadcasting before opset 7 is by attributes".into());
        }
        let pair = with_const(g, at)?;
        let divides = g.op(at).is("Div");
        if divides && pair.slot == 1 {
            return Err("the linear op is the divisor".into());
        }
        let types = [CONVS, &["Gemm", "MatMul"]].concat();
        let linear = Linear::making(g, pair.other, &types, site.opset)?;
        let mut scale = linear.per_channel(g, pair.data)?;
        if divides {
            scale.iter_mut().for_each(|v| *v = 1.0 / *v);
        }
        if scale.iter().any(|v| !v.is_finite()) {
            return Err("a factor is not finite".into());
        }
        let mut patch = Patch::at(linear.op);
        linear.plan_affine(g, &mut patch, Some(&scale), None, result(g, at)?)?;
        free_operands(g, at, &mut patch);
        patch.remove(at);
        Ok(patch)
    }
}
