//! # merge-transposes
//!
//! ## What it does
//! Merges two Transpose ops in a row, or removes them when they cancel.
//!
//! ## Before/after
//! ```text
//! a = Transpose <perm = [1,2,0]> (x)       y = Transpose <perm = [2,0,1]> (x)
//! y = Transpose <perm = [1,2,0]> (a)
//! ```
//!
//! ## When it applies
//! The permutations are known.
//!
//! ## What it preserves
//! The name of the last result; a Transpose in the middle that others read stays for them.
//!
//! ## Limits
//! Other ops between two Transposes are the business of `move-transposes`.

use super::layout::{composed, is_identity, permutation};
use super::pattern::{maker, operand};
use crate::ir::{Graph, Miss, OpId, Patch};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct MergeTransposes;

static INFO: PassInfo = PassInfo {
    name: "merge-transposes",
    summary: "merge or cancel Transpose ops",
    semantics: Semantics::Exact,
    source: include_str!("merge_transposes.rs"),
};

impl Rewrite for MergeTransposes {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Transpose"]
    }

    fn plan(&self, g: &Graph, at: OpId, _: &Site) -> Result<Patch, Miss> {
        let x = operand(g, at, 0)?;
        let outer = permutation(g, at).ok_or("its permutation is not known")?;
        let before = maker(g, x, "Transpose").ok_or("no Transpose before it")?;
        merge(g, at, &outer, before)
    }
}

fn merged(g: &Graph, outer: &[usize], inner: OpId) -> Result<Vec<usize>, Miss> {
    let inner = permutation(g, inner).filter(|p| p.len() == outer.len());
    let inner = inner.ok_or("the permutation before is not known")?;
    Ok(composed(&inner, outer))
}

fn merge(g: &Graph, at: OpId, outer: &[usize], before: OpId) -> Result<Patch, Miss> {
    let perm = merged(g, outer, before)?;
    let source = operand(g, before, 0)?;
    let mut patch = Patch::at(at);
    if is_identity(&perm) && patch.bypass(g, at, source).is_ok() {
        return Ok(patch);
    }
    let mut patch = Patch::at(at);
    patch.set_operand(at, 0, Some(source.into()));
    patch.set_attr(at, "perm", perm.iter().map(|&p| p as i64).collect::<Vec<i64>>());
    Ok(patch)
}
