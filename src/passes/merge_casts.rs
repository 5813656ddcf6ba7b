//! # merge-casts
//!
//! ## What it does
//! Merges two Casts in a row where the first loses nothing, and removes them when the second undoes
//! it.
//!
//! ## Before/after
//! ```text
//! a = Cast <to = 1> (x)    y = Cast <to = 11> (x)     x is float16
//! y = Cast <to = 11> (a)
//! ```
//!
//! ## When it applies
//! The type in the middle holds every value of the type at the start.
//!
//! ## What it preserves
//! Names of the last result; a Cast in the middle that others read stays for them.
//!
//! ## Limits
//! Casts to and from strings and float types of 8 bits and less stay.

use super::pattern::{maker, operand};
use crate::ir::{DType, Graph, Miss, OpId, Patch};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct MergeCasts;

static INFO: PassInfo = PassInfo {
    name: "merge-casts",
    summary: "merge a Cast with a widening Cast before it",
    semantics: Semantics::Exact,
    source: include_str!("merge_casts.rs"),
};

impl Rewrite for MergeCasts {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Cast"]
    }

    fn plan(&self, g: &Graph, at: OpId, _: &Site) -> Result<Patch, Miss> {
        let middle = operand(g, at, 0)?;
        let before = maker(g, middle, "Cast").ok_or("no Cast makes the operand")?;
        let source = operand(g, before, 0)?;
        let known = |v| g.value(v).dtype().ok_or("the element type is not known");
        let (from, via) = (known(source)?, known(middle)?);
        let to = g.op(at).int("to").and_then(|c| DType::from_code(i32::try_from(c).ok()?));
        let to = to.ok_or("its type is not known")?;
        if to == DType::Str || to.is_small_float() || !widens(from, via) {
            return Err("the Cast before may lose something".into());
        }
        let mut patch = Patch::at(at);
        if from == to && patch.bypass(g, at, source).is_ok() {
            return Ok(patch);
        }
        let mut patch = Patch::at(at);
        patch.set_operand(at, 0, Some(source.into()));
        Ok(patch)
    }
}

/// Every value of type `from` is one of type `to`.
fn widens(from: DType, to: DType) -> bool {
    use DType::*;
    match from {
        Bool => matches!(to, U8 | I8 | U16 | I16 | U32 | I32 | U64 | I64 | F16 | F32 | F64),
        U8 => matches!(to, U16 | I16 | U32 | I32 | U64 | I64 | F32 | F64),
        I8 => matches!(to, I16 | I32 | I64 | F32 | F64),
        U16 => matches!(to, U32 | I32 | U64 | I64 | F32 | F64),
        I16 => matches!(to, I32 | I64 | F32 | F64),
        U32 => matches!(to, U64 | I64 | F64),
        I32 => matches!(to, I64 | F64),
        F16 | BF16 => matches!(to, F32 | F64),
        F32 => to == F64,
        _ => false,
    }
}
