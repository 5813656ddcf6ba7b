//! # eliminate-noop
//!
//! ## What it does
//! Removes ops whose result is their first operand: a Cast to the same type, a Reshape, Expand, Tile,
//! Flatten, Squeeze or Unsqueeze to the same shape, a Transpose that moves nothing, a Pad by nothing,
//! a Slice that takes everything, a Concat, Sum, Max, Min or Mean of one operand, a Split into one, a
//! Resize to the same size, a Clip without bounds, a Reduce over nothing or over axes of size 1, a
//! pooling of single elements.
//!
//! ## Before/after
//! ```text
//! a = Cast <to = 1> (x)    y = Abs (x)         x is float
//! y = Abs (a)
//! ```
//!
//! ## When it applies
//! Shape inference proves that the shapes are equal, for dynamic axes too.
//!
//! ## What it preserves
//! Names of graph outputs: the op before takes over the name.
//!
//! ## Limits
//! Where the op joins a graph input, a constant or another graph output with a graph output it stays.

use super::pattern::{ints_at, operand, result, same_shape};
use crate::ir::{Dim, Graph, Miss, OpId, Patch};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct EliminateNoop;

static INFO: PassInfo = PassInfo {
    name: "eliminate-noop",
    summary: "remove casts, reshapes, slices, pads and other ops that change nothing",
    semantics: Semantics::Exact,
    source: include_str!("eliminate_noop.rs"),
};

impl Rewrite for EliminateNoop {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &[
            "Cast",
            "CastLike",
            "Reshape",
            "Flatten",
            "Squeeze",
            "Unsqueeze",
            "Expand",
            "Tile",
            "Transpose",
            "Pad",
            "Slice",
            "Concat",
            "Sum",
            "Max",
            "Min",
            "Mean",
            "Split",
            "Resize",
            "Upsample",
            "Clip",
            "ReduceSum",
            "ReduceMean",
            "ReduceMax",
            "ReduceMin",
            "ReduceProd",
            "AveragePool",
            "MaxPool",
            "LpPool",
            "GlobalAveragePool",
            "GlobalMaxPool",
        ]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        check(g, at, site.opset)?;
        let mut patch = Patch::at(at);
        patch.bypass(g, at, operand(g, at, 0)?)?;
        Ok(patch)
    }
}

fn check(g: &Graph, at: OpId, opset: i64) -> Result<(), Miss> {
    let op = g.op(at);
    let does_nothing = match op.op_type.as_str() {
        "Cast" | "CastLike" => keeps_dtype(g, at)?,
        "Reshape" | "Flatten" | "Squeeze" | "Unsqueeze" | "Expand" | "Tile" => keeps_shape(g, at)?,
        "Transpose" => keeps_order(g, at)?,
        "Pad" => pads_nothing(g, at, opset)?,
        "Slice" => (keeps_shape(g, at)? || takes_all(g, at)?) && steps_forward(g, at, opset)?,
        "Concat" | "Sum" | "Max" | "Min" | "Mean" => op.arity() == 1,
        "Split" => op.result_count() == 1 && keeps_shape(g, at)?,
        "Resize" | "Upsample" => keeps_shape(g, at)? && samples_plainly(g, at, opset)?,
        "Clip" => {
            let bounds = op.attr("min").is_some() || op.attr("max").is_some();
            !bounds && g.operand(at, 1).is_none() && g.operand(at, 2).is_none() && opset >= 11
        }
        "GlobalAveragePool" | "GlobalMaxPool" => {
            let shape = g.value(operand(g, at, 0)?).shape().ok_or("the rank is not known")?;
            shape.iter().skip(2).all(|d| *d == Dim::Known(1))
        }
        "AveragePool" | "MaxPool" | "LpPool" => pools_nothing(g, at)?,
        _ => reduces_nothing(g, at, opset)?,
    };
    if does_nothing { Ok(()) } else { Err("it does something, or may".into()) }
}

fn keeps_dtype(g: &Graph, at: OpId) -> Result<bool, Miss> {
    let from = g.value(operand(g, at, 0)?).dtype().ok_or("the element type is not known")?;
    if g.op(at).is("Cast") {
        return Ok(g.op(at).int("to") == Some(i64::from(from.code())));
    }
    Ok(g.value(operand(g, at, 1)?).dtype() == Some(from))
}

fn keeps_shape(g: &Graph, at: OpId) -> Result<bool, Miss> {
    let (x, y) = (g.value(operand(g, at, 0)?), g.value(result(g, at)?));
    Ok(same_shape(x, y))
}

/// A permutation that is the identity, or moves only axes of size 1 past one another.
fn keeps_order(g: &Graph, at: OpId) -> Result<bool, Miss> {
    let x = g.value(operand(g, at, 0)?);
    if let Some(perm) = g.op(at).ints("perm") {
        if perm.iter().enumerate().all(|(i, &p)| p == i as i64) {
            return Ok(true);
        }
        return Ok(super::reshape::moves_units(g, at) && keeps_shape(g, at)?);
    }
    Ok(x.rank().is_some_and(|r| r <= 1))
}

fn pads_nothing(g: &Graph, at: OpId, opset: i64) -> Result<bool, Miss> {
    let attr = if opset < 2 { "paddings" } else { "pads" };
    let pads = ints_at(g, at, attr, 1)?.ok_or("it has no pads")?;
    Ok(pads.iter().all(|&p| p == 0))
}

/// From the first to the last element of axes of any size.
fn takes_all(g: &Graph, at: OpId) -> Result<bool, Miss> {
    let (starts, ends) = (ints_at(g, at, "starts", 1)?, ints_at(g, at, "ends", 2)?);
    let steps = ints_at(g, at, "steps", 4)?;
    let all = |list: Option<Vec<i64>>, n: i64| list.is_none_or(|l| l.iter().all(|&v| v == n));
    Ok(starts.is_some() && all(starts, 0) && all(ends, i64::MAX) && all(steps, 1))
}

fn steps_forward(g: &Graph, at: OpId, opset: i64) -> Result<bool, Miss> {
    if opset < 10 {
        return Ok(true);
    }
    let steps = ints_at(g, at, "steps", 4)?;
    Ok(steps.is_none_or(|steps| steps.iter().all(|&s| s > 0)))
}

/// Sampling at scale 1 hits every element exactly in all modes but cropping.
fn samples_plainly(g: &Graph, at: OpId, opset: i64) -> Result<bool, Miss> {
    let op = g.op(at);
    if op.str("coordinate_transformation_mode") == Some("tf_crop_and_resize") {
        return Ok(false);
    }
    if opset < 10 {
        return Ok(true);
    }
    // Equal sizes do not mean scale 1 when the scales are given: 10 * 1.05 rounds to 10.
    let scales = g.operand(at, if op.is("Resize") && opset >= 11 { 2 } else { 1 });
    Ok(match scales.map(|v| g.const_tensor(v).and_then(crate::ir::Tensor::to_f64)) {
        None => true,
        Some(Some(scales)) => scales.iter().all(|&s| s == 1.0),
        Some(None) => false,
    })
}

fn pools_nothing(g: &Graph, at: OpId) -> Result<bool, Miss> {
    let op = g.op(at);
    let all = |name: &str, n: i64| op.ints(name).is_none_or(|v| v.iter().all(|&v| v == n));
    let single = op.ints("kernel_shape").is_some_and(|k| k.iter().all(|&k| k == 1));
    Ok(single && !op.is("LpPool") && all("strides", 1) && all("pads", 0))
}

fn reduces_nothing(g: &Graph, at: OpId, opset: i64) -> Result<bool, Miss> {
    let op = g.op(at);
    let axes = ints_at(g, at, "axes", 1)?;
    if axes.as_ref().is_none_or(Vec::is_empty) {
        let by_operand = opset >= 18 || (opset >= 13 && op.is("ReduceSum"));
        if by_operand && op.int_or("noop_with_empty_axes", 0) != 0 {
            return Ok(true);
        }
    }
    if op.int_or("keepdims", 1) == 0 {
        return Ok(false);
    }
    let shape = g.value(operand(g, at, 0)?).shape().ok_or("the rank is not known")?;
    let axes = match axes {
        Some(axes) if !axes.is_empty() => super::pattern::sorted_axes(&axes, shape.len()),
        _ => Some((0..shape.len()).collect()),
    };
    Ok(axes.ok_or("its axes are out of range")?.into_iter().all(|a| shape[a] == Dim::Known(1)))
}
