//! # merge-transposes
//!
//! ## What it does
//! Merges two Transpose ops in a row, or removes them when they cancel. Elementwise ops of one operand
//! between two that cancel do not stand in the way.
//!
//! ## Before/after
//! ```text
//! a = Transpose <perm = [0,2,1]> (x)       y = Relu (x)
//! b = Relu (a)
//! y = Transpose <perm = [0,2,1]> (b)
//! ```
//!
//! ## When it applies
//! The permutations are known. Across elementwise ops, nothing else reads what lies between.
//!
//! ## What it preserves
//! The name of the last result; a Transpose in the middle that others read stays for them.
//!
//! ## Limits
//! Across elementwise ops only pairs that cancel are removed; moving a Transpose alone gains nothing.

use super::pattern::{maker, operand, result, sole_maker};
use crate::ir::{Graph, Miss, Op, OpId, Patch, Ref};
use crate::ops::{self, Axes};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct MergeTransposes;

static INFO: PassInfo = PassInfo {
    name: "merge-transposes",
    summary: "merge or cancel Transpose ops",
    semantics: Semantics::Exact,
    source: include_str!("merge_transposes.rs"),
};

/// Ops between two Transposes that the search walks over.
const MAX_WALK: usize = 16;

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
        match maker(g, x, "Transpose") {
            Some(before) => merge(g, at, &outer, before),
            None => cancel_across(g, at, &outer),
        }
    }
}

fn permutation(g: &Graph, at: OpId) -> Option<Vec<usize>> {
    let perm = match g.op(at).ints("perm") {
        Some(perm) => perm.iter().map(|&p| usize::try_from(p).ok()).collect::<Option<Vec<_>>>()?,
        None => (0..g.value(g.operand(at, 0)?).rank()?).rev().collect(),
    };
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    sorted.iter().enumerate().all(|(i, &p)| i == p).then_some(perm)
}

fn composed(g: &Graph, outer: &[usize], inner: OpId) -> Result<Vec<usize>, Miss> {
    let inner = permutation(g, inner).filter(|p| p.len() == outer.len());
    let inner = inner.ok_or("the permutation before is not known")?;
    Ok(outer.iter().map(|&p| inner[p]).collect())
}

fn is_identity(perm: &[usize]) -> bool {
    perm.iter().enumerate().all(|(i, &p)| i == p)
}

fn merge(g: &Graph, at: OpId, outer: &[usize], before: OpId) -> Result<Patch, Miss> {
    let perm = composed(g, outer, before)?;
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

fn cancel_across(g: &Graph, at: OpId, outer: &[usize]) -> Result<Patch, Miss> {
    let mut chain = Vec::new();
    let mut value = operand(g, at, 0)?;
    let first = loop {
        if let Some(first) = maker(g, value, "Transpose").filter(|_| !chain.is_empty()) {
            break first;
        }
        let step = g.sole_use(value).and_then(|_| g.producer_op(value));
        let step = step.filter(|op| is_unary(g, *op) && chain.len() < MAX_WALK);
        let step = step.ok_or("no Transpose before it that it could cancel")?;
        chain.push(step);
        value = operand(g, step, 0)?;
    };
    if !is_identity(&composed(g, outer, first)?) {
        return Err("it does not cancel the Transpose before".into());
    }
    sole_maker(g, value, &["Transpose"]).ok_or("the Transpose before has other readers")?;
    let mut patch = Patch::at(at);
    let mut source: Ref = operand(g, first, 0)?.into();
    for (i, &step) in chain.iter().enumerate().rev() {
        let op: Op = g.op(step).clone();
        let rest = g.operands(step).into_iter().skip(1).map(|v| v.map(Ref::Old));
        let operands = std::iter::once(Some(source)).chain(rest).collect();
        let made = match i {
            0 => result(g, at)?.into(),
            _ => patch.value(g.value(result(g, step)?).name(), None),
        };
        patch.op_into(op, operands, vec![Some(made)]);
        source = made;
    }
    patch.remove(at);
    Ok(patch)
}

/// Works on each element of its first operand alone; further operands are single constants.
fn is_unary(g: &Graph, op: OpId) -> bool {
    let node = g.op(op);
    let elementwise = ops::schema(node).is_some_and(|s| matches!(s.axes, Axes::Elementwise));
    let rest_single = g
        .operands(op)
        .into_iter()
        .skip(1)
        .all(|v| v.is_none_or(|v| g.const_tensor(v).is_some_and(|t| t.rank() == 0)));
    elementwise
        && rest_single
        && node.result_count() == 1
        && node.bodies.is_empty()
        && node.attr("axis").is_none()
        && !node.has_ref_attrs()
}
