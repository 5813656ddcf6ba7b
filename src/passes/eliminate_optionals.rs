//! # eliminate-optionals
//!
//! ## What it does
//! Takes what an Optional holds without making it, and answers whether it holds anything.
//!
//! ## Before/after
//! ```text
//! o = Optional (x)                         y = Relu (x)
//! h = OptionalHasElement (o)               h = true
//! e = OptionalGetElement (o)
//! y = Relu (e)
//! ```
//!
//! ## When it applies
//! The op that makes the optional is known, or its operand is no optional at all. TensorRT has none
//! of these operators.
//!
//! ## What it preserves
//! Names of results.
//!
//! ## Limits
//! Optionals that are inputs or outputs, or that a branch or loop hands on, stay.

use super::eliminate_sequences::stand_in;
use super::pattern::{known_result, maker};
use crate::ir::{DType, Graph, Miss, OpId, Patch, Tensor, Type, ValueId};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct EliminateOptionals;

static INFO: PassInfo = PassInfo {
    name: "eliminate-optionals",
    summary: "take what known optionals hold without making these",
    semantics: Semantics::Exact,
    source: include_str!("eliminate_optionals.rs"),
};

impl Rewrite for EliminateOptionals {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["OptionalGetElement", "OptionalHasElement"]
    }

    fn plan(&self, g: &Graph, at: OpId, _: &Site) -> Result<Patch, Miss> {
        let held = match g.operand(at, 0) {
            None => None,
            Some(v) => held(g, v).ok_or("what it holds is not known")?,
        };
        let mut patch = Patch::at(at);
        if g.op(at).is("OptionalHasElement") {
            let has = Tensor::new(DType::Bool, vec![], vec![u8::from(held.is_some())].into());
            known_result(g, at, has.map_err(|_| "no such tensor")?, &mut patch)?;
        } else {
            stand_in(g, at, held.ok_or("it holds nothing")?, &mut patch);
        }
        Ok(patch)
    }
}

/// What the optional holds, if anything; `None` when that is not known.
fn held(g: &Graph, v: ValueId) -> Option<Option<ValueId>> {
    if let Some(op) = maker(g, v, "Optional") {
        return Some(g.operand(op, 0));
    }
    match g.value(v).ty.as_ref()? {
        Type::Tensor(_) | Type::Sequence(_) => Some(Some(v)),
        _ => None,
    }
}
