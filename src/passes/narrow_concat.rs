//! # narrow-concat
//!
//! ## What it does
//! Lets a Slice or a Gather that takes something from one operand of a Concat read that operand.
//!
//! ## Before/after
//! ```text
//! c = Concat <axis = 1> (x, z)         y = Slice (z, {1}, {3}, {1})        x is float[N,4]
//! y = Slice (c, {5}, {7}, {1})
//! ```
//!
//! ## When it applies
//! It works along the axis that the Concat joins, by constant bounds or a single constant index, and
//! the sizes of the operands up to there are known.
//!
//! ## What it preserves
//! The name of the result; a Concat that others read stays for them.
//!
//! ## Limits
//! Slices of one axis with step 1. Needs opset 10.

use super::pattern::{ints_at, maker, operand, result};
use crate::ir::{DType, Dim, Graph, Miss, OpId, Patch, Tensor, ValueId};
use crate::ops::normalize_axis;
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct NarrowConcat;

static INFO: PassInfo = PassInfo {
    name: "narrow-concat",
    summary: "let a Slice or Gather read the operand of a Concat that it takes from",
    semantics: Semantics::Exact,
    source: include_str!("narrow_concat.rs"),
};

impl Rewrite for NarrowConcat {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Slice", "Gather"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if site.opset < 10 {
            return Err("before opset 10 the bounds are attributes".into());
        }
        let concat = maker(g, operand(g, at, 0)?, "Concat").ok_or("no Concat before it")?;
        let rank = g.value(operand(g, at, 0)?).rank().ok_or("the rank is not known")?;
        let joined = g.op(concat).int("axis").and_then(|a| normalize_axis(a, rank));
        let joined = joined.ok_or("the axis of the Concat is not known")?;
        if g.op(at).is("Gather") {
            gather(g, at, concat, joined)
        } else {
            slice(g, at, concat, joined)
        }
    }
}

/// The operand that holds elements `start..end` of the axis, and where it begins.
fn holder(g: &Graph, concat: OpId, axis: usize, start: i64, end: i64) -> Option<(ValueId, i64)> {
    let mut at = 0i64;
    for v in g.operands(concat) {
        let v = v?;
        let size = g.value(v).shape()?.get(axis).and_then(Dim::known)?;
        let next = at.checked_add(size)?;
        if start < next {
            return (start >= at && end <= next).then_some((v, at));
        }
        at = next;
    }
    None
}

fn slice(g: &Graph, at: OpId, concat: OpId, axis: usize) -> Result<Patch, Miss> {
    let rank = g.value(operand(g, at, 0)?).rank().ok_or("the rank is not known")?;
    let (starts, ends) = (ints_at(g, at, "starts", 1)?, ints_at(g, at, "ends", 2)?);
    let axes = ints_at(g, at, "axes", 3)?.unwrap_or_else(|| vec![0]);
    let steps = ints_at(g, at, "steps", 4)?.unwrap_or_else(|| vec![1]);
    let (Some([start]), Some([end]), [along], [1]) =
        (starts.as_deref(), ends.as_deref(), &axes[..], &steps[..])
    else {
        return Err("it does not take one piece of one axis".into());
    };
    if normalize_axis(*along, rank) != Some(axis) {
        return Err("it cuts another axis".into());
    }
    let size = g.value(operand(g, at, 0)?).shape().and_then(|s| s[axis].known());
    let bound = |v: i64| match size {
        Some(n) => Some(if v < 0 { v.saturating_add(n) } else { v }.clamp(0, n)),
        None => (v >= 0).then_some(v),
    };
    let (start, end) = bound(*start).zip(bound(*end)).ok_or("a bound counts from the end")?;
    if start >= end {
        return Err("it takes nothing".into());
    }
    let (part, begins) =
        holder(g, concat, axis, start, end).ok_or("no one operand holds what it takes")?;
    let mut patch = Patch::at(at);
    let name = g.value(result(g, at)?).name().to_owned();
    patch.set_operand(at, 0, Some(part.into()));
    let lists = [("starts", start - begins), ("ends", end - begins), ("axes", axis as i64)];
    for (i, (what, n)) in lists.into_iter().enumerate() {
        let list = patch.constant(format!("{name}_{what}"), Tensor::vector(&[n]));
        patch.set_operand(at, i + 1, Some(list));
    }
    patch.truncate_operands(at, 4);
    Ok(patch)
}

fn gather(g: &Graph, at: OpId, concat: OpId, axis: usize) -> Result<Patch, Miss> {
    let rank = g.value(operand(g, at, 0)?).rank().ok_or("the rank is not known")?;
    if normalize_axis(g.op(at).int_or("axis", 0), rank) != Some(axis) {
        return Err("it picks along another axis".into());
    }
    let index = g.const_operand(at, 1).filter(|t| t.len() == 1).ok_or("it picks several")?;
    let [picked] = index.to_i64().unwrap_or_default()[..] else {
        return Err("its index is not known".into());
    };
    let size = g.value(operand(g, at, 0)?).shape().and_then(|s| s[axis].known());
    let picked = match size {
        Some(n) if picked < 0 => picked + n,
        _ => picked,
    };
    let (part, begins) = holder(g, concat, axis, picked, picked.saturating_add(1))
        .filter(|_| picked >= 0)
        .ok_or("no one operand holds what it takes")?;
    let place = picked - begins;
    let moved = match index.dtype() {
        DType::I32 => {
            Tensor::of(index.dims(), &[i32::try_from(place).map_err(|_| "its index is huge")?])
        }
        _ => Tensor::of(index.dims(), &[place]),
    };
    let mut patch = Patch::at(at);
    let name = format!("{}_index", g.value(result(g, at)?).name());
    let index = patch.constant(name, moved);
    patch.set_operand(at, 0, Some(part.into()));
    patch.set_operand(at, 1, Some(index));
    Ok(patch)
}
