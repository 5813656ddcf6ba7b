//! # fuse-rms-norm
//!
//! ## What it does
//! Recognizes RMSNormalization: divide by the root of the mean square, and scale.
//!
//! ## Before/after
//! ```text
//! s = Pow (x, two)                         y = RMSNormalization <axis = -1> (x, scale)
//! m = ReduceMean <axes = [-1]> (s)
//! n = Div (x, Sqrt (Add (m, epsilon)))
//! y = Mul (n, scale)
//! ```
//!
//! ## When it applies
//! From opset 23 on, which has RMSNormalization. The mean is over the last axes; the scale has
//! exactly the shape of those, and a missing one becomes ones. Half-precision models that cast to
//! float32 for the norm and back before the scale lose both casts: the operator computes so.
//!
//! ## What it preserves
//! The name of the result.
//!
//! ## Limits
//! Norms over other axes, or of doubles, stay.

use super::norm::{Normalized, follower, normalized, normalized_shape, ones};
use super::pattern::{maker, operand, result};
use crate::ir::{DType, Graph, Miss, Op, OpId, Patch, Ref, ValueId};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct FuseRmsNorm;

static INFO: PassInfo = PassInfo {
    name: "fuse-rms-norm",
    summary: "recognize RMSNormalization (from opset 23 on)",
    semantics: Semantics::Reassociates,
    source: include_str!("fuse_rms_norm.rs"),
};

impl Rewrite for FuseRmsNorm {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Div", "Mul"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if site.opset < 23 {
            return Err("the operator set has no RMSNormalization".into());
        }
        let Normalized { x, axis, epsilon, .. } =
            normalized(g, at).ok_or("it is no normalization")?;
        let (x, at_end) = through_casts(g, x, at)?;
        if !matches!(g.value(x).dtype(), Some(DType::F32 | DType::F16 | DType::BF16)) {
            return Err("the elements are no floats of 16 or 32 bits".into());
        }
        let shape = normalized_shape(g, x, axis).ok_or("its rank is not known")?;
        let mut patch = Patch::at(at);
        let (last, scale) = match follower(g, at_end, "Mul", shape) {
            Ok((mul, scale)) => (mul, Ref::Old(scale)),
            Err(_) => (at_end, ones(g, x, shape, &mut patch)?),
        };
        let op = Op::new("RMSNormalization")
            .named(g.op(at).name.clone())
            .with("axis", axis)
            .with("epsilon", epsilon as f32);
        let y = result(g, last)?;
        patch.op_into(op, vec![Some(x.into()), Some(scale)], vec![Some(y.into())]);
        patch.remove(last);
        Ok(patch)
    }
}

/// What is normalized and the op that ends the norm, with a Cast to float32 before it and one back
/// after it as part of it.
fn through_casts(g: &Graph, x: ValueId, at: OpId) -> Result<(ValueId, OpId), Miss> {
    let plain = Ok((x, at));
    let Some(cast) = maker(g, x, "Cast").filter(|_| g.value(x).dtype() == Some(DType::F32)) else {
        return plain;
    };
    let narrow = operand(g, cast, 0)?;
    let dtype = g.value(narrow).dtype();
    let Some((back, _)) = g.sole_use(result(g, at)?).filter(|(op, _)| g.op(*op).is("Cast")) else {
        return plain;
    };
    let returns = g.value(result(g, back)?).dtype() == dtype;
    match dtype {
        Some(DType::F16 | DType::BF16) if returns => Ok((narrow, back)),
        _ => plain,
    }
}
