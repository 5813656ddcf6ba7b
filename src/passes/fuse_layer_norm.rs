//! # fuse-layer-norm
//!
//! ## What it does
//! Recognizes LayerNormalization: subtract the mean, divide by the deviation, scale and shift.
//!
//! ## Before/after
//! ```text
//! m = ReduceMean <axes = [-1]> (x)         y = LayerNormalization <axis = -1> (x, scale, shift)
//! d = Sub (x, m)
//! v = ReduceMean <axes = [-1]> (Pow (d, two))
//! n = Div (d, Sqrt (Add (v, epsilon)))
//! y = Add (Mul (n, scale), shift)
//! ```
//!
//! ## When it applies
//! From opset 17 on, which has LayerNormalization. Mean and variance are over the last axis; scale
//! and shift have one element for each index of it.
//!
//! ## What it preserves
//! The name of the result.
//!
//! ## Limits
//! Norms over several axes, without scale, or with values that something else reads stay.

use super::factors::shifted;
use super::pattern::{ints_at, is_plain_float, operand, result, scalar, sole_maker, with_const};
use crate::ir::{Graph, Miss, Op, OpId, Patch, Ref, ValueId};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct FuseLayerNorm;

static INFO: PassInfo = PassInfo {
    name: "fuse-layer-norm",
    summary: "recognize LayerNormalization (from opset 17 on)",
    semantics: Semantics::Reassociates,
    source: include_str!("fuse_layer_norm.rs"),
};

impl Rewrite for FuseLayerNorm {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Div"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if site.opset < 17 {
            return Err("the operator set has no LayerNormalization".into());
        }
        let (x, epsilon) = normalized(g, at)?;
        let size = g.value(x).shape().and_then(|s| s.last()).and_then(|d| d.size());
        let size = size.ok_or("the size of the last axis is not known")?;
        let (mul, scale) = follower(g, at, "Mul", size)?;
        let (last, shift) = match follower(g, mul, "Add", size) {
            Ok((add, shift)) => (add, Some(Ref::Old(shift))),
            Err(_) => (mul, None),
        };
        let op = Op::new("LayerNormalization")
            .named(g.op(at).name.clone())
            .with("axis", -1i64)
            .with("epsilon", epsilon as f32);
        let mut patch = Patch::at(at);
        let mut operands = vec![Some(x.into()), Some(Ref::Old(scale))];
        operands.extend(shift.map(Some));
        patch.op_into(op, operands, vec![Some(result(g, last)?.into())]);
        patch.remove(last);
        Ok(patch)
    }
}

/// What the Div normalizes, and its epsilon.
fn normalized(g: &Graph, at: OpId) -> Result<(ValueId, f64), Miss> {
    let no = || Miss::from("it is no normalization");
    let centered = operand(g, at, 0)?;
    let root = sole_maker(g, operand(g, at, 1)?, &["Sqrt"]).ok_or_else(no)?;
    let (variance, epsilon) = shifted(g, operand(g, root, 0)?).ok_or_else(no)?;
    let mean_square = sole_maker(g, variance, &["ReduceMean"]).ok_or_else(no)?;
    let square = sole_maker(g, operand(g, mean_square, 0)?, &["Pow", "Mul"]).ok_or_else(no)?;
    let other = operand(g, square, 1)?;
    let squares = match g.op(square).is("Pow") {
        true => scalar(g, other) == Some(2.0),
        false => other == centered,
    };
    let sub = super::pattern::maker(g, centered, "Sub").ok_or_else(no)?;
    let x = operand(g, sub, 0)?;
    let mean = sole_maker(g, operand(g, sub, 1)?, &["ReduceMean"]).ok_or_else(no)?;
    // The difference is read by the square, once or twice, and by the Div.
    let readers = if g.op(square).is("Pow") { 2 } else { 3 };
    let fits = squares
        && operand(g, square, 0)? == centered
        && operand(g, mean, 0)? == x
        && g.use_count(centered) == readers
        && !g.is_output(centered)
        && g.value(x).dtype().is_some_and(is_plain_float)
        && over_last(g, mean)
        && over_last(g, mean_square);
    if fits { Ok((x, epsilon)) } else { Err(no()) }
}

fn over_last(g: &Graph, reduce: OpId) -> bool {
    let rank = g.operand(reduce, 0).and_then(|v| g.value(v).rank());
    let axes = ints_at(g, reduce, "axes", 1).ok().flatten();
    let last = |a: i64| a == -1 || rank.is_some_and(|r| a + 1 == r as i64);
    g.op(reduce).int_or("keepdims", 1) != 0 && matches!(axes.as_deref(), Some([a]) if last(*a))
}

/// The op of this type that alone reads the result of `at`, and its other operand: a constant with
/// one element for each index of the last axis.
fn follower(g: &Graph, at: OpId, op_type: &str, size: usize) -> Result<(OpId, ValueId), Miss> {
    let (op, slot) = g.sole_use(result(g, at)?).ok_or("the result has several readers")?;
    if !g.op(op).is(op_type) {
        return Err("it is not scaled".into());
    }
    let pair = with_const(g, op)?;
    if pair.data.dims() != [size] {
        return Err("its scale or shift does not follow the last axis".into());
    }
    Ok((op, operand(g, op, 1 - slot)?))
}
