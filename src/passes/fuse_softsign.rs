//! # fuse-softsign
//!
//! ## What it does
//! Recognizes Softsign: `x / (1 + |x|)`.
//!
//! ## Before/after
//! ```text
//! a = Abs (x)              y = Softsign (x)
//! b = Add (a, one)
//! y = Div (x, b)
//! ```
//!
//! ## When it applies
//! Always; x is of floats.
//!
//! ## What it preserves
//! The name of the result.
//!
//! ## Limits
//! The constant is a single one.

use super::factors::shifted;
use super::pattern::{is_plain_float, keeps_rank, operand, sole_maker};
use crate::ir::{DType, Graph, Miss, Op, OpId, Patch};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct FuseSoftsign;

static INFO: PassInfo = PassInfo {
    name: "fuse-softsign",
    summary: "recognize Softsign",
    semantics: Semantics::Reassociates,
    source: include_str!("fuse_softsign.rs"),
};

impl Rewrite for FuseSoftsign {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Div"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        let x = operand(g, at, 0)?;
        let shifted = shifted(g, operand(g, at, 1)?).filter(|(_, one)| *one == 1.0);
        let abs = shifted.and_then(|(v, _)| sole_maker(g, v, &["Abs"]));
        let of_x = abs.is_some_and(|op| g.operand(op, 0) == Some(x));
        let dtype = g.value(x).dtype().filter(|d| is_plain_float(*d));
        if !of_x || dtype.is_none_or(|d| d == DType::BF16 && site.opset < 22) {
            return Err("it is no Softsign".into());
        }
        keeps_rank(g, x, at)?;
        let mut patch = Patch::at(at);
        let softsign = Op::new("Softsign").named(g.op(at).name.clone());
        patch.replace(g, at, softsign, vec![Some(x.into())]);
        Ok(patch)
    }
}
