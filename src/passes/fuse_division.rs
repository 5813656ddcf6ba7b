//! # fuse-division
//!
//! ## What it does
//! Makes one Div of a product with a reciprocal.
//!
//! ## Before/after
//! ```text
//! a = Div (one, x)         y = Div (z, x)
//! y = Mul (a, z)
//! ```
//!
//! ## When it applies
//! The reciprocal is a Div of a constant 1, or a Reciprocal, of floats, and nothing else reads it.
//!
//! ## What it preserves
//! The name of the result. It is rounded once, not twice.
//!
//! ## Limits
//! A numerator other than 1 stays.

use super::pattern::{broadcasts_into, is_plain_float, operand, scalar, sole_maker};
use crate::ir::{Graph, Miss, Op, OpId, Patch, ValueId};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct FuseDivision;

static INFO: PassInfo = PassInfo {
    name: "fuse-division",
    summary: "make a division of a product with a reciprocal",
    semantics: Semantics::Reassociates,
    source: include_str!("fuse_division.rs"),
};

impl Rewrite for FuseDivision {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Mul"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if site.opset < 7 {
            return Err("broadcasting before opset 7 is by attributes".into());
        }
        let (a, b) = (operand(g, at, 0)?, operand(g, at, 1)?);
        let (divisor, numerator) = match (divisor(g, a), divisor(g, b)) {
            (Some(d), _) => (d, b),
            (None, Some(d)) => (d, a),
            (None, None) => return Err("no operand is a reciprocal that it alone reads".into()),
        };
        if !g.value(numerator).dtype().is_some_and(is_plain_float) {
            return Err("the elements are not known to be plain floats".into());
        }
        let mut patch = Patch::at(at);
        let op = Op::new("Div").named(g.op(at).name.clone());
        patch.replace(g, at, op, vec![Some(numerator.into()), Some(divisor.into())]);
        Ok(patch)
    }
}

/// What a value is the reciprocal of, shape and all.
fn divisor(g: &Graph, value: ValueId) -> Option<ValueId> {
    let op = sole_maker(g, value, &["Div", "Reciprocal"])?;
    if g.op(op).is("Reciprocal") {
        return g.operand(op, 0);
    }
    let (one, x) = (g.operand(op, 0)?, g.operand(op, 1)?);
    let plain =
        scalar(g, one) == Some(1.0) && broadcasts_into(g.const_tensor(one)?.dims(), g.value(x));
    plain.then_some(x)
}
