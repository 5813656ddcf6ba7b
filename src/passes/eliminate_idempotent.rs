//! # eliminate-idempotent
//!
//! ## What it does
//! Of two equal ops in a row whose second application changes nothing, removes one: Relu, Abs, Ceil,
//! Floor, Round, Sign and others whose schema says so; of Ceil, Floor and Round also two different.
//!
//! ## Before/after
//! ```text
//! a = Relu (x)             y = Relu (x)
//! y = Relu (a)
//! ```
//!
//! ## When it applies
//! Both have the same attributes and no further operands.
//!
//! ## What it preserves
//! Names of graph outputs.
//!
//! ## Limits
//! Only directly consecutive ops.

use super::pattern::{maker, maker_of, operand};
use crate::ir::{Graph, Miss, OpId, Patch, ValueId};
use crate::ops;
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct EliminateIdempotent;

static INFO: PassInfo = PassInfo {
    name: "eliminate-idempotent",
    summary: "remove the second of two equal ops where it changes nothing",
    semantics: Semantics::Exact,
    source: include_str!("eliminate_idempotent.rs"),
};

impl Rewrite for EliminateIdempotent {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Relu", "Abs", "Ceil", "Floor", "Round", "Sign", "Clip"]
    }

    fn plan(&self, g: &Graph, at: OpId, _: &Site) -> Result<Patch, Miss> {
        let op = g.op(at);
        let known = matches!(op.op_type.as_str(), "Relu" | "Abs" | "Ceil" | "Floor" | "Sign");
        if !known && !ops::schema(op).is_some_and(|s| s.idempotent) {
            return Err("applying it twice is not applying it once".into());
        }
        let x = operand(g, at, 0)?;
        if ROUNDING.contains(&op.op_type.as_str()) && maker_of(g, x, ROUNDING).is_some() {
            let mut patch = Patch::at(at);
            patch.bypass(g, at, x)?;
            return Ok(patch);
        }
        let before = maker(g, x, &op.op_type).ok_or("the operand is made by another op")?;
        let (ours, theirs) = (g.operands(at), g.operands(before));
        let same = |(a, b): (&Option<ValueId>, &Option<ValueId>)| {
            a == b || a.zip(*b).is_some_and(|(a, b)| same_constant(g, a, b))
        };
        let same_rest = ours.len() == theirs.len() && ours.iter().zip(&theirs).skip(1).all(same);
        if !same_rest || g.op(before).attrs != op.attrs {
            return Err("the two ops differ".into());
        }
        let mut patch = Patch::at(at);
        patch.bypass(g, at, x)?;
        Ok(patch)
    }
}

/// Operators that give whole numbers, and whole numbers back as they are.
const ROUNDING: &[&str] = &["Ceil", "Floor", "Round"];

/// Both are constants that hold the same.
fn same_constant(g: &Graph, a: ValueId, b: ValueId) -> bool {
    let parts = |v| g.const_tensor(v).map(|t| (t.dtype(), t.dims(), t.data()));
    parts(a).is_some_and(|a| parts(b) == Some(a))
}
