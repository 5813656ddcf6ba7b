//! # fuse-mish
//!
//! ## What it does
//! Recognizes Mish: `x * tanh (softplus (x))`.
//!
//! ## Before/after
//! ```text
//! a = Softplus (x)         y = Mish (x)
//! b = Tanh (a)
//! y = Mul (x, b)
//! ```
//!
//! ## When it applies
//! From opset 18 on, which has Mish.
//!
//! ## What it preserves
//! The name of the result.
//!
//! ## Limits
//! A Softplus that is written out as a logarithm stays: it overflows where Softplus does not.

use super::pattern::{operand, sole_maker};
use crate::ir::{DType, Graph, Miss, Op, OpId, Patch, ValueId};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct FuseMish;

static INFO: PassInfo = PassInfo {
    name: "fuse-mish",
    summary: "recognize Mish (from opset 18 on)",
    semantics: Semantics::Reassociates,
    source: include_str!("fuse_mish.rs"),
};

impl Rewrite for FuseMish {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Mul"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if site.opset < 18 {
            return Err("the operator set has no Mish".into());
        }
        let (a, b) = (operand(g, at, 0)?, operand(g, at, 1)?);
        let found = [(a, b), (b, a)].into_iter().find(|(x, gate)| gates(g, *x, *gate));
        let (x, _) = found.ok_or("it is no Mish")?;
        // TensorRT has it for these.
        if !matches!(g.value(x).dtype(), Some(DType::F32 | DType::F16)) {
            return Err("the elements are no floats of 16 or 32 bits".into());
        }
        let mut patch = Patch::at(at);
        let mish = Op::new("Mish").named(g.op(at).name.clone());
        patch.replace(g, at, mish, vec![Some(x.into())]);
        Ok(patch)
    }
}

/// `gate` is `tanh (softplus (x))`.
fn gates(g: &Graph, x: ValueId, gate: ValueId) -> bool {
    let inner = |v, op_type| sole_maker(g, v, &[op_type]).and_then(|op| operand(g, op, 0).ok());
    inner(gate, "Tanh").and_then(|v| inner(v, "Softplus")) == Some(x)
}
