//! Division by the root of the mean square: what LayerNormalization and RMSNormalization share.

use super::factors::shifted;
use super::pattern::{
    ints_at, keeps_rank, maker, operand, result, scalar, sole_maker, sorted_axes,
};
use crate::ir::{Dim, Graph, Miss, OpId, Patch, Ref, Tensor, ValueId};

/// `x / sqrt (mean (x²) + epsilon)`, the mean over the axes from `axis` on.
pub(super) struct Normalized {
    /// What is divided.
    pub x: ValueId,
    /// First of the axes, counted from the end: -1 for the last alone.
    pub axis: i64,
    /// What keeps the divisor from being zero.
    pub epsilon: f64,
    /// Slots of the pattern that read `x`.
    pub readers: usize,
}

/// Takes a Div or Mul apart that divides a value by the root of its mean square.
pub(super) fn normalized(g: &Graph, at: OpId) -> Option<Normalized> {
    let (a, b) = (operand(g, at, 0).ok()?, operand(g, at, 1).ok()?);
    let found = if g.op(at).is("Div") {
        let root = sole_maker(g, b, &["Sqrt"])?;
        by_mean_square(g, a, operand(g, root, 0).ok()?)
    } else {
        [(a, b), (b, a)]
            .into_iter()
            .find_map(|(x, inverse)| by_mean_square(g, x, inverse_root(g, inverse)?))
    };
    // The epsilon and the exponent may have axes of their own.
    found.filter(|n| keeps_rank(g, n.x, at).is_ok())
}

/// The `v` of `1 / sqrt (v)`.
fn inverse_root(g: &Graph, value: ValueId) -> Option<ValueId> {
    let op = sole_maker(g, value, &["Reciprocal", "Div", "Pow"])?;
    let (first, second) = (operand(g, op, 0).ok()?, g.operand(op, 1));
    let root = match g.op(op).op_type.as_str() {
        "Reciprocal" => first,
        "Div" if scalar(g, first) == Some(1.0) => second?,
        "Pow" if second.and_then(|e| scalar(g, e)) == Some(-0.5) => return Some(first),
        _ => return None,
    };
    operand(g, sole_maker(g, root, &["Sqrt"])?, 0).ok()
}

fn by_mean_square(g: &Graph, x: ValueId, shifted_mean: ValueId) -> Option<Normalized> {
    let (mean, epsilon) = shifted(g, shifted_mean)?;
    let mean = sole_maker(g, mean, &["ReduceMean"])?;
    let square = sole_maker(g, operand(g, mean, 0).ok()?, &["Pow", "Mul"])?;
    let other = operand(g, square, 1).ok()?;
    let power = g.op(square).is("Pow");
    let squares = if power { scalar(g, other) == Some(2.0) } else { other == x };
    if !squares || operand(g, square, 0).ok()? != x || epsilon < 0.0 {
        return None;
    }
    let axis = trailing(g, mean)?;
    Some(Normalized { x, axis, epsilon, readers: if power { 2 } else { 3 } })
}

/// `(x - mean (x)) / sqrt (variance (x) + epsilon)`, over the axes from `axis` on.
pub(super) struct Centered {
    pub x: ValueId,
    /// First of the axes, counted from the end.
    pub axis: i64,
    pub epsilon: f64,
}

/// Takes a Div or Mul apart that divides a value less its mean by its deviation, when nothing else
/// reads what is computed on the way.
pub(super) fn centered(g: &Graph, at: OpId) -> Result<Centered, Miss> {
    let Normalized { x: difference, axis, epsilon, readers } =
        normalized(g, at).ok_or("it is no normalization")?;
    let sub = maker(g, difference, "Sub").ok_or("no mean is subtracted")?;
    let x = operand(g, sub, 0)?;
    let mean = sole_maker(g, operand(g, sub, 1)?, &["ReduceMean"]);
    let mean = mean.ok_or("no mean is subtracted")?;
    let fits = operand(g, mean, 0)? == x
        && trailing(g, mean) == Some(axis)
        && g.use_count(difference) == readers
        && !g.is_output(difference);
    if fits { Ok(Centered { x, axis, epsilon }) } else { Err("the mean is another's".into()) }
}

/// The first axis of a Reduce that keeps its axes and reduces the last ones, counted from the end.
pub(super) fn trailing(g: &Graph, reduce: OpId) -> Option<i64> {
    let axes = ints_at(g, reduce, "axes", 1).ok().flatten()?;
    if g.op(reduce).int_or("keepdims", 1) == 0 {
        return None;
    }
    if axes[..] == [-1] {
        return Some(-1);
    }
    let rank = g.value(operand(g, reduce, 0).ok()?).rank()?;
    let axes = sorted_axes(&axes, rank)?;
    let first = rank.checked_sub(axes.len()).filter(|_| !axes.is_empty())?;
    let last_ones = axes.iter().copied().eq(first..rank);
    last_ones.then(|| -(axes.len() as i64))
}

/// Sizes of the axes of `x` from `axis` on, which counts from the end.
pub(super) fn normalized_shape(g: &Graph, x: ValueId, axis: i64) -> Option<&[Dim]> {
    let shape = g.value(x).shape()?;
    let first = shape.len().checked_sub(usize::try_from(-axis).ok()?)?;
    Some(&shape[first..])
}

/// The op of this type that alone reads the result of `at`, and its other operand: something of
/// exactly the shape that is normalized.
pub(super) fn follower(
    g: &Graph,
    at: OpId,
    op_type: &str,
    shape: &[Dim],
) -> Result<(OpId, ValueId), Miss> {
    let (op, slot) = g.sole_use(result(g, at)?).ok_or("the result has several readers")?;
    if !g.op(op).is(op_type) || g.op(op).arity() != 2 {
        return Err("it is not scaled".into());
    }
    let other = operand(g, op, 1 - slot)?;
    let of = g.value(other).shape().ok_or("its scale is of unknown shape")?;
    match of.len() == shape.len() && of.iter().zip(shape).all(|(a, b)| a.same(b)) {
        true => Ok((op, other)),
        false => Err("its scale or shift does not follow the axes".into()),
    }
}

/// A scale of ones for a norm of `x` that has none.
pub(super) fn ones(g: &Graph, x: ValueId, shape: &[Dim], patch: &mut Patch) -> Result<Ref, Miss> {
    let sizes = crate::ir::known_sizes(shape).ok_or("the sizes of the axes are not known")?;
    let count = crate::ir::element_count(&sizes).filter(|n| *n <= 1 << 16);
    let count = count.ok_or("the axes are huge")?;
    let dtype = g.value(x).dtype().ok_or("the type is not known")?;
    let ones = Tensor::from_f32(dtype, &sizes, &vec![1.0; count]);
    Ok(patch.constant("ones", ones.ok_or("the elements are no plain floats")?))
}
