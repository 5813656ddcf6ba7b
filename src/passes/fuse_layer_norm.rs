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

use super::norm::{Centered, centered, follower, normalized_shape, ones};
use super::pattern::result;
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
        let Centered { x, axis, epsilon } = centered(g, at)?;
        if !matches!(g.value(x).dtype(), Some(DType::F32 | DType::F16 | DType::BF16)) {
            return Err("the elements are no floats of 16 or 32 bits".into());
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
