//! # fuse-layer-norm
//!
//! ## What it does
//! Recognizes LayerNormalization: subtract the mean, divide by the deviation, scale and shift.
//!
//! ## Before/after
//! ```text
//! m = ReduceMean <axes = [-1]> (x)         y = LayerNormalization <axis = -1> (x, scale, shift)
//! d = Sub (x, m)
//! v = ReduceMean <axes = [-1]> (Pow (d, two))
//! n = Div (d, Sqrt (Add (v, epsilon)))
//! y = Add (Mul (n, scale), shift)
//! ```
//!
//! ## When it applies
//! From opset 17 on, which has LayerNormalization. Mean and variance are over the last axes; scale
//! and shift have exactly the shape of those. A missing scale becomes ones.
//!
//! ## What it preserves
//! The name of the result.
//!
//! ## Limits
//! Norms over other axes, of doubles, or with values that something else reads stay.

use super::norm::{Normalized, follower, normalized, normalized_shape, ones, trailing};
use super::pattern::{is_plain_float, maker, operand, result, sole_maker};
use crate::ir::{DType, Graph, Miss, Op, OpId, Patch, Ref};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct FuseLayerNorm;

static INFO: PassInfo = PassInfo {
    name: "fuse-layer-norm",
    summary: "recognize LayerNormalization (from opset 17 on)",
    semantics: Semantics::Reassociates,
    source: include_str!("fuse_layer_norm.rs"),
};

impl Rewrite for FuseLayerNorm {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Div", "Mul"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if site.opset < 17 {
            return Err("the operator set has no LayerNormalization".into());
        }
        let Normalized { x: centered, axis, epsilon, readers } =
            normalized(g, at).ok_or("it is no normalization")?;
        let sub = maker(g, centered, "Sub").ok_or("no mean is subtracted")?;
        let x = operand(g, sub, 0)?;
        let mean = sole_maker(g, operand(g, sub, 1)?, &["ReduceMean"]);
        let mean = mean.ok_or("no mean is subtracted")?;
        let fits = operand(g, mean, 0)? == x
            && trailing(g, mean) == Some(axis)
            && g.use_count(centered) == readers
            && !g.is_output(centered)
            && g.value(x).dtype().is_some_and(|d| is_plain_float(d) && d != DType::F64);
        if !fits {
            return Err("it is no LayerNormalization".into());
        }
        let shape = normalized_shape(g, x, axis).ok_or("its rank is not known")?;
        let mut patch = Patch::at(at);
        let (scaled, scale) = match follower(g, at, "Mul", shape) {
            Ok((mul, scale)) => (mul, Ref::Old(scale)),
            Err(_) => (at, ones(g, x, shape, &mut patch)?),
        };
        let mut operands = vec![Some(x.into()), Some(scale)];
        let shift = follower(g, scaled, "Add", shape).ok();
        operands.extend(shift.map(|(_, shift)| Some(shift.into())));
        let last = shift.map_or(scaled, |(add, _)| add);
        let op = Op::new("LayerNormalization")
            .named(g.op(at).name.clone())
            .with("axis", axis)
            .with("epsilon", epsilon as f32);
        patch.op_into(op, operands, vec![Some(result(g, last)?.into())]);
        patch.remove(last);
        Ok(patch)
    }
}
