//! # fuse-instance-norm
//!
//! ## What it does
//! Recognizes InstanceNormalization: each channel of each sample minus its mean, divided by its
//! deviation, scaled and shifted.
//!
//! ## Before/after
//! ```text
//! m = ReduceMean <axes = [2,3]> (x)        y = InstanceNormalization (x, scale, shift)
//! d = Sub (x, m)
//! v = ReduceMean <axes = [2,3]> (Mul (d, d))
//! n = Div (d, Sqrt (Add (v, epsilon)))
//! y = Add (Mul (n, scale), shift)
//! ```
//!
//! ## When it applies
//! Mean and variance are over all axes but batch and channels, of which there is a known number.
//! Scale and shift are constants with one element for each channel. What is missing becomes ones
//! or zeros, when `x` has two such axes or more.
//!
//! ## What it preserves
//! The name of the result.
//!
//! ## Limits
//! Doubles and bfloat16 stay.

use super::norm::{Centered, centered};
use super::pattern::{operand, result, with_const};
use crate::ir::{DType, Graph, Miss, Op, OpId, Patch, Tensor};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct FuseInstanceNorm;

static INFO: PassInfo = PassInfo {
    name: "fuse-instance-norm",
    summary: "recognize InstanceNormalization",
    semantics: Semantics::Reassociates,
    source: include_str!("fuse_instance_norm.rs"),
};

impl Rewrite for FuseInstanceNorm {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Div", "Mul"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if site.opset < 7 {
            return Err("broadcasting before opset 7 is by attributes".into());
        }
        let Centered { x, axis, epsilon } = centered(g, at)?;
        let dtype = g.value(x).dtype().filter(|d| matches!(d, DType::F32 | DType::F16));
        let dtype = dtype.ok_or("the elements are no floats of 16 or 32 bits")?;
        let shape = g.value(x).shape().ok_or("its rank is not known")?;
        let inner = shape.len().saturating_sub(2);
        if inner == 0 || axis != -(inner as i64) {
            return Err("it is not over all axes but batch and channels".into());
        }
        let channels = shape[1].size().ok_or("the number of channels is not known")?;
        let scaled = follower(g, at, "Mul", channels, inner);
        let last = scaled.as_ref().map_or(at, |(op, _)| *op);
        let shifted = follower(g, last, "Add", channels, inner);
        if scaled.is_err() && inner < 2 {
            return Err("it may be a LayerNormalization".into());
        }
        let last = shifted.as_ref().map_or(last, |(op, _)| *op);
        let stem = g.value(result(g, last)?).name();
        let mut patch = Patch::at(at);
        let mut constant = |found: Result<(OpId, Tensor), Miss>, missing: f32, name: &str| {
            let made = || Tensor::from_f32(dtype, &[channels], &vec![missing; channels]);
            let data = found.ok().map(|(_, t)| t).or_else(made).ok_or("no such tensor")?;
            Ok::<_, Miss>(Some(patch.constant(format!("{stem}_{name}"), data)))
        };
        let operands =
            vec![Some(x.into()), constant(scaled, 1.0, "scale")?, constant(shifted, 0.0, "shift")?];
        let op = Op::new("InstanceNormalization")
            .named(g.op(at).name.clone())
            .with("epsilon", epsilon as f32);
        patch.op_into(op, operands, vec![Some(result(g, last)?.into())]);
        patch.remove(last);
        Ok(patch)
    }
}

/// The op of this type that alone reads the result of `at`, and its constant, which has one element for
/// each channel, as a vector.
fn follower(
    g: &Graph,
    at: OpId,
    op_type: &str,
    channels: usize,
    inner: usize,
) -> Result<(OpId, Tensor), Miss> {
    let (op, _) = g.sole_use(result(g, at)?).ok_or("the result has several readers")?;
    if !g.op(op).is(op_type) {
        return Err("it is not scaled".into());
    }
    let data = with_const(g, op)?.data;
    let dims = data.dims();
    let per_channel = dims.len() > inner
        && dims.len() <= inner + 2
        && dims[dims.len() - inner - 1] == channels
        && data.len() == channels;
    let same_type = g.value(operand(g, at, 0)?).dtype() == Some(data.dtype());
    let vector = data.reshaped(vec![channels]).filter(|_| per_channel && same_type);
    vector.map(|t| (op, t)).ok_or_else(|| "it has not one element for each channel".into())
}
