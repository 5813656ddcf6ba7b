//! # fuse-input-scale
//!
//! ## What it does
//! Folds a constant factor on the input of a Conv, Gemm or MatMul into its weights.
//!
//! ## Before/after
//! ```text
//! a = Mul (x, k)           y = Conv (x, w')
//! y = Conv (a, w)
//! ```
//! with `w' = w * k` per input channel. Padding stays right, since zero times anything is zero.
//!
//! ## When it applies
//! Weights and factor are constant, the factor is one number for each input channel or one for all,
//! and nothing else reads the product.
//!
//! ## What it preserves
//! The name of the result, and of weights that nothing else reads.
//!
//! ## Limits
//! It does not fire where a weight would leave the range of its type.

use super::linear::Linear;
use super::pattern::{broadcasts_into, free_operands, operand, sole_maker, with_const};
use crate::ir::{Graph, Miss, OpId, Patch};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct FuseInputScale;

static INFO: PassInfo = PassInfo {
    name: "fuse-input-scale",
    summary: "fold a constant factor into the weights of the linear op after it",
    semantics: Semantics::Reassociates,
    source: include_str!("fuse_input_scale.rs"),
};

impl Rewrite for FuseInputScale {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Conv", "Gemm", "MatMul"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if site.opset < 7 {
            return Err("broadcasting before opset 7 is by attributes".into());
        }
        let before = sole_maker(g, operand(g, at, 0)?, &["Mul", "Div"]);
        let before = before.ok_or("no product before it alone")?;
        let pair = with_const(g, before)?;
        let divides = g.op(before).is("Div");
        if divides && pair.slot == 1 {
            return Err("the tensor is the divisor".into());
        }
        if !broadcasts_into(pair.data.dims(), g.value(pair.other)) {
            return Err("the factor may make the tensor larger by broadcasting".into());
        }
        let linear = Linear::of(g, at, site.opset)?;
        let mut scale = linear.per_input_channel(g, pair.data)?;
        if divides {
            scale.iter_mut().for_each(|v| *v = 1.0 / *v);
        }
        if scale.iter().any(|v| !v.is_finite()) {
            return Err("a factor is not finite".into());
        }
        let mut patch = Patch::at(at);
        linear.plan_input_scale(g, &mut patch, &scale)?;
        free_operands(g, before, &mut patch);
        patch.set_operand(at, 0, Some(pair.other.into()));
        Ok(patch)
    }
}
