//! # fuse-conv-bn
//!
//! ## What it does
//! Folds a BatchNormalization into the Conv or ConvTranspose before it.
//!
//! ## Before/after
//! ```text
//! c = Conv (x, w, b)                           y = Conv (x, w', b')
//! y = BatchNormalization (c, s, t, mean, var)
//! ```
//! with `w' = w * k`, `b' = (b - mean) * k + t` and `k = s / sqrt(var + epsilon)` per channel.
//!
//! ## When it applies
//! Weights, bias and statistics are constant, nothing else reads the convolution, and the
//! normalization runs in inference mode with one result.
//!
//! ## What it preserves
//! The name of the result, and of weights that nothing else reads. Weights are computed in double
//! precision and rounded once.
//!
//! ## Limits
//! It does not fire where a new weight would be infinite or not a number (a variance of zero without
//! an epsilon, a product beyond the range of half precision), nor where weights that others read too
//! would have to be copied beyond the growth limit.

use super::linear::{CONVS, GEMMS, Linear};
use super::pattern::{free_operands, operand, result};
use crate::ir::{Graph, Miss, OpId, Patch};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct FuseConvBn;

static INFO: PassInfo = PassInfo {
    name: "fuse-conv-bn",
    summary: "fold a BatchNormalization into the convolution before it",
    semantics: Semantics::Reassociates,
    source: include_str!("fuse_conv_bn.rs"),
};

impl Rewrite for FuseConvBn {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["BatchNormalization"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        plan_norm(g, at, site, CONVS)
    }
}

/// Plans to fold the normalization at `at` into a linear op of one of the types before it.
pub(super) fn plan_norm(
    g: &Graph,
    at: OpId,
    site: &Site,
    types: &'static [&'static str],
) -> Result<Patch, Miss> {
    debug_assert!(types == CONVS || types == GEMMS);
    let (scale, shift) = affine_of(g, at, site.opset)?;
    let linear = Linear::making(g, operand(g, at, 0)?, types, site.opset)?;
    if scale.len() != linear.channels {
        return Err("the statistics are not one number per channel".into());
    }
    let mut patch = Patch::at(linear.op);
    linear.plan_affine(g, &mut patch, Some(&scale), Some(&shift), result(g, at)?)?;
    free_operands(g, at, &mut patch);
    patch.remove(at);
    Ok(patch)
}

/// The normalization as one factor and one summand per channel.
fn affine_of(g: &Graph, at: OpId, opset: i64) -> Result<(Vec<f64>, Vec<f64>), Miss> {
    let op = g.op(at);
    let inference = match opset {
        ..7 => op.int_or("is_test", 0) != 0,
        7..14 => true,
        _ => op.int_or("training_mode", 0) == 0,
    };
    if !inference {
        return Err("it runs in training mode".into());
    }
    if op.int_or("spatial", 1) == 0 {
        return Err("it normalizes each element on its own".into());
    }
    if g.results(at).iter().skip(1).any(Option::is_some) {
        return Err("it hands out statistics".into());
    }
    let statistic = |i: usize| -> Result<Vec<f64>, Miss> {
        let t = g.const_operand(at, i).ok_or("its statistics are no constants")?;
        t.to_f64().ok_or_else(|| "its statistics are not numeric".into())
    };
    let (gamma, beta) = (statistic(1)?, statistic(2)?);
    let (mean, var) = (statistic(3)?, statistic(4)?);
    let n = gamma.len();
    if beta.len() != n || mean.len() != n || var.len() != n {
        return Err("its statistics have different lengths".into());
    }
    let epsilon = f64::from(op.float_or("epsilon", 1e-5));
    let scale: Vec<f64> = gamma.iter().zip(&var).map(|(g, v)| g / (v + epsilon).sqrt()).collect();
    let shift: Vec<f64> = beta.iter().zip(&mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
    if scale.iter().chain(&shift).any(|v| !v.is_finite()) {
        return Err("its statistics make infinite weights".into());
    }
    Ok((scale, shift))
}
