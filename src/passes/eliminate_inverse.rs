//! # eliminate-inverse
//!
//! ## What it does
//! Removes two ops in a row that undo each other: Neg∘Neg, Not∘Not, BitwiseNot∘BitwiseNot, and swaps
//! the branches of a Where whose condition is a Not.
//!
//! ## Before/after
//! ```text
//! a = Neg (x)              y = Relu (x)        n = Not (c)             y = Where (c, b, a)
//! b = Neg (a)                                  y = Where (n, a, b)
//! y = Relu (b)
//! ```
//!
//! ## When it applies
//! Always.
//!
//! ## What it preserves
//! Names of graph outputs.
//!
//! ## Limits
//! Reciprocal∘Reciprocal rounds twice and stays.

use super::pattern::{maker, operand};
use crate::ir::{Graph, Miss, OpId, Patch};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct EliminateInverse;

static INFO: PassInfo = PassInfo {
    name: "eliminate-inverse",
    summary: "remove pairs of ops that undo each other",
    semantics: Semantics::Exact,
    source: include_str!("eliminate_inverse.rs"),
};

impl Rewrite for EliminateInverse {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Neg", "Not", "BitwiseNot", "Where"]
    }

    fn plan(&self, g: &Graph, at: OpId, _: &Site) -> Result<Patch, Miss> {
        let op = g.op(at);
        let mut patch = Patch::at(at);
        if op.is("Where") {
            let not = maker(g, operand(g, at, 0)?, "Not").ok_or("its condition is no Not")?;
            let (a, b) = (operand(g, at, 1)?, operand(g, at, 2)?);
            patch.set_operand(at, 0, Some(operand(g, not, 0)?.into()));
            patch.set_operand(at, 1, Some(b.into()));
            patch.set_operand(at, 2, Some(a.into()));
            return Ok(patch);
        }
        let before = maker(g, operand(g, at, 0)?, &op.op_type);
        let before = before.ok_or("the operand is made by another op")?;
        patch.bypass(g, at, operand(g, before, 0)?)?;
        Ok(patch)
    }
}
