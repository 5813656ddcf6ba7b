//! # merge-pads
//!
//! ## What it does
//! Merges a Pad into the Pad after it.
//!
//! ## Before/after
//! ```text
//! a = Pad (x, {0,1,0,1})       y = Pad (x, {2,1,2,1})
//! y = Pad (a, {2,0,2,0})
//! ```
//!
//! ## When it applies
//! Both fill with the same constant, or repeat the edge; all widths are constant and none is
//! negative; nothing else reads what lies between.
//!
//! ## What it preserves
//! The name of the result.
//!
//! ## Limits
//! Needs opset 11, where the widths became an operand. Reflections stay.

use super::pattern::{known_ints, operand, result, sole_maker};
use crate::ir::{Graph, Miss, Op, OpId, Patch, Tensor};
use crate::ops::normalize_axis;
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct MergePads;

static INFO: PassInfo = PassInfo {
    name: "merge-pads",
    summary: "merge Pad ops in a row",
    semantics: Semantics::Exact,
    source: include_str!("merge_pads.rs"),
};

impl Rewrite for MergePads {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Pad"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if site.opset < 11 {
            return Err("before opset 11 the widths are attributes".into());
        }
        let before = sole_maker(g, operand(g, at, 0)?, &["Pad"]).ok_or("no Pad before it alone")?;
        let mode = |op: OpId| g.op(op).str("mode").unwrap_or("constant").to_owned();
        let filling = mode(at);
        if mode(before) != filling || !matches!(filling.as_str(), "constant" | "edge") {
            return Err("the modes do not go together".into());
        }
        if filling == "constant" && !same_filling(g, before, at) {
            return Err("they fill with different constants".into());
        }
        let source = operand(g, before, 0)?;
        let rank = g.value(source).rank().ok_or("the rank is not known")?;
        let first = widths(g, before, rank).ok_or("the widths are not known")?;
        let second = widths(g, at, rank).ok_or("the widths are not known")?;
        if first.iter().chain(&second).any(|&w| w < 0) {
            return Err("a width is negative".into());
        }
        let sum: Vec<i64> = first.iter().zip(&second).map(|(a, b)| a.saturating_add(*b)).collect();
        let mut patch = Patch::at(at);
        let name = format!("{}_pads", g.value(result(g, at)?).name());
        let pads = patch.constant(name, Tensor::vector(&sum));
        let mut op = Op::new("Pad").named(g.op(at).name.clone());
        op.attrs.clone_from(&g.op(at).attrs);
        let mut operands = vec![Some(source.into()), Some(pads)];
        operands.extend(g.operand(at, 2).map(|v| Some(v.into())));
        patch.replace(g, at, op, operands);
        Ok(patch)
    }
}

/// Widths at the start of every axis, then at the end of every axis.
fn widths(g: &Graph, at: OpId, rank: usize) -> Option<Vec<i64>> {
    let pads = known_ints(g, g.operand(at, 1)?)?;
    let axes: Vec<i64> = match g.operand(at, 3) {
        Some(axes) => known_ints(g, axes)?,
        None => (0..rank as i64).collect(),
    };
    let mut widths = vec![0; 2 * rank];
    for (i, &axis) in axes.iter().enumerate() {
        let axis = normalize_axis(axis, rank)?;
        widths[axis] += *pads.get(i)?;
        widths[rank + axis] += *pads.get(axes.len() + i)?;
    }
    (pads.len() == 2 * axes.len()).then_some(widths)
}

fn same_filling(g: &Graph, a: OpId, b: OpId) -> bool {
    let filling = |op: OpId| match g.operand(op, 2) {
        None => Some(0f64.to_bits()),
        Some(v) => g.const_tensor(v)?.single().map(f64::to_bits),
    };
    let (a_value, b_value) = (g.operand(a, 2), g.operand(b, 2));
    (a_value.is_some() && a_value == b_value) || filling(a).is_some_and(|f| Some(f) == filling(b))
}
