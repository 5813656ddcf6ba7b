//! Operators that older versions lack, composed of those that they have.

use super::super::step::{Step, Why};
use crate::ir::{AttrValue, DType, Dim, Op, Tensor};

/// `x · sigmoid(alpha · x)`.
pub(super) fn swish(s: &mut Step) -> Result<(), Why> {
    s.own_attr("alpha")?;
    let x = s.operand(0)?;
    let alpha = s.node().float_or("alpha", 1.0);
    let mut inner = x;
    if alpha != 1.0 {
        let alpha = s.scalar_like(0, "alpha", alpha)?;
        inner = s.add(Op::new("Mul"), &[x, alpha], "scaled");
    }
    let gate = s.add(Op::new("Sigmoid"), &[inner], "gate");
    s.finish(Op::new("Mul"), &[x, gate])
}

/// `x / 2 · (1 + erf(x / √2))`, or its approximation by `tanh`.
pub(super) fn gelu(s: &mut Step) -> Result<(), Why> {
    s.own_attr("approximate")?;
    let x = s.operand(0)?;
    let one = s.scalar_like(0, "one", 1.0)?;
    let half = s.scalar_like(0, "half", 0.5)?;
    let curve = if s.node().str("approximate") == Some("tanh") {
        let cubic = s.scalar_like(0, "cubic", 0.044_715)?;
        let factor = s.scalar_like(0, "factor", (2.0 / std::f32::consts::PI).sqrt())?;
        let square = s.add(Op::new("Mul"), &[x, x], "square");
        let cube = s.add(Op::new("Mul"), &[square, x], "cube");
        let small = s.add(Op::new("Mul"), &[cube, cubic], "small");
        let sum = s.add(Op::new("Add"), &[x, small], "sum");
        let scaled = s.add(Op::new("Mul"), &[sum, factor], "scaled");
        s.add(Op::new("Tanh"), &[scaled], "tanh")
    } else {
        let root = s.scalar_like(0, "root", std::f32::consts::FRAC_1_SQRT_2)?;
        let scaled = s.add(Op::new("Mul"), &[x, root], "scaled");
        s.add(Op::new("Erf"), &[scaled], "erf")
    };
    let above = s.add(Op::new("Add"), &[curve, one], "above");
    let product = s.add(Op::new("Mul"), &[x, above], "product");
    s.finish(Op::new("Mul"), &[product, half])
}

/// `x · tanh(softplus(x))`.
pub(super) fn mish(s: &mut Step) -> Result<(), Why> {
    let x = s.operand(0)?;
    let soft = s.add(Op::new("Softplus"), &[x], "softplus");
    let gate = s.add(Op::new("Tanh"), &[soft], "tanh");
    s.finish(Op::new("Mul"), &[x, gate])
}

/// `x · clip(x / 6 + 1/2, 0, 1)`.
pub(super) fn hard_swish(s: &mut Step) -> Result<(), Why> {
    let x = s.operand(0)?;
    let gate = Op::new("HardSigmoid").with("alpha", 1.0 / 6.0f32).with("beta", 0.5f32);
    let gate = s.add(gate, &[x], "gate");
    s.finish(Op::new("Mul"), &[x, gate])
}

/// `alpha · elu(x / alpha)`.
pub(super) fn celu(s: &mut Step) -> Result<(), Why> {
    s.own_attr("alpha")?;
    let x = s.operand(0)?;
    let alpha = s.node().float_or("alpha", 1.0);
    let alpha = s.scalar_like(0, "alpha", alpha)?;
    let scaled = s.add(Op::new("Div"), &[x, alpha], "scaled");
    let elu = s.add(Op::new("Elu"), &[scaled], "elu");
    s.finish(Op::new("Mul"), &[elu, alpha])
}

/// Greater or equal, the one or the other: not the opposite of less, which `NaN` is not.
pub(super) fn or_equal(s: &mut Step) -> Result<(), Why> {
    let (a, b) = (s.operand(0)?, s.operand(1)?);
    let strict = if s.node().op_type == "GreaterOrEqual" { "Greater" } else { "Less" };
    let strict = s.add(Op::new(strict), &[a, b], "strict");
    let equal = s.add(Op::new("Equal"), &[a, b], "equal");
    s.finish(Op::new("Or"), &[strict, equal])
}

/// `Cast` to the type that the second operand is known to have.
pub(super) fn cast_like(s: &mut Step) -> Result<(), Why> {
    let x = s.operand(0)?;
    let dtype = s.dtype(1).ok_or("the element type of its second operand is not known")?;
    s.finish(Op::new("Cast").with("to", i64::from(dtype.code())), &[x])
}

/// Part of a shape, cut out of the whole.
pub(super) fn shape_slice(s: &mut Step) -> Result<(), Why> {
    s.own_attr("start")?;
    s.own_attr("end")?;
    let (start, end) = (s.node().int("start"), s.node().int("end"));
    s.drop_attr("start")?;
    s.drop_attr("end")?;
    if start.unwrap_or(0) == 0 && end.is_none() {
        return Ok(());
    }
    let x = s.operand(0)?;
    let shape = s.add(Op::new("Shape"), &[x], "shape");
    let start = s.constant("start", Tensor::vector(&[start.unwrap_or(0)]));
    let end = s.constant("end", Tensor::vector(&[end.unwrap_or(i64::from(i32::MAX))]));
    let axes = s.constant("axes", Tensor::vector(&[0i64]));
    s.finish(Op::new("Slice"), &[shape, start, end, axes])
}

/// Largest mask that is written out.
const MAX_MASK: usize = 1 << 24;

/// A choice by a constant mask, where the last two sizes are known.
pub(super) fn trilu(s: &mut Step) -> Result<(), Why> {
    s.own_attr("upper")?;
    let x = s.operand(0)?;
    let dtype = s.dtype(0).ok_or("the element type of its input is not known")?;
    let shape = s.shape(0).ok_or("the shape of its input is not known")?;
    let sizes: Vec<usize> = shape.iter().rev().take(2).filter_map(Dim::size).collect();
    let &[columns, rows] = &sizes[..] else {
        return Err("its last two sizes are not known".into());
    };
    if rows.checked_mul(columns).is_none_or(|n| n > MAX_MASK) {
        return Err("its mask would be too large".into());
    }
    let k = match s.has(1) {
        true => s.ints(1).and_then(|k| k.first().copied()).ok_or("its k is not constant")?,
        false => 0,
    };
    let upper = s.node().int_or("upper", 1) != 0;
    let keeps = |i: usize| {
        let above = (i % columns) as i64 - (i / columns) as i64;
        if upper { above >= k } else { above <= k }
    };
    let mask: Vec<u8> = (0..rows * columns).map(|i| u8::from(keeps(i))).collect();
    let mask = Tensor::new(DType::Bool, vec![rows, columns], mask.into());
    let mask = s.constant("mask", mask.map_err(|e| Why::from(e.to_string()))?);
    let bytes = dtype.byte_len(1).ok_or("its type is no number")?;
    let zero = Tensor::new(dtype, vec![], vec![0u8; bytes].into());
    let zero = s.constant("zero", zero.map_err(|e| Why::from(e.to_string()))?);
    s.finish(Op::new("Where"), &[mask, x, zero])
}

/// `x` where it is above `alpha`, else 0.
pub(super) fn thresholded_relu(s: &mut Step) -> Result<(), Why> {
    s.own_attr("alpha")?;
    let x = s.operand(0)?;
    let alpha = s.node().float_or("alpha", 1.0);
    let alpha = s.scalar_like(0, "alpha", alpha)?;
    let zero = s.scalar_like(0, "zero", 0.0)?;
    let above = s.add(Op::new("Greater"), &[x, alpha], "above");
    s.finish(Op::new("Where"), &[above, x, zero])
}

/// A constant of a type that `Constant` could not have: it is stored in the graph.
pub(super) fn stored(s: &mut Step) -> Result<(), Why> {
    let result = s.g.result(s.op, 0).ok_or("it has no result")?;
    let Some(value) = s.node().tensor("value").cloned() else { return Ok(()) };
    if matches!(value.dtype(), DType::F16 | DType::F32 | DType::F64) {
        return Ok(());
    }
    if s.g.is_output(result) {
        return Err("it is an output, and could be no integer".into());
    }
    let op = s.op;
    s.g.set_data(result, value);
    s.g.remove_op(op);
    Ok(())
}

/// One element, spread.
pub(super) fn constant_of_shape(s: &mut Step) -> Result<(), Why> {
    let shape = s.operand(0)?;
    let value = match s.node().attr("value") {
        None => Tensor::vector(&[0f32]),
        Some(AttrValue::Tensor(t)) => t.clone(),
        Some(_) => return Err("its value is an attribute of the function around it".into()),
    };
    let value = value.reshaped(vec![]).ok_or("its value is no single element")?;
    let value = s.constant("value", value);
    s.finish(Op::new("Expand"), &[value, shape])
}

/// Until version 7 operands did not broadcast, but those of `Add` did.
pub(super) fn sum(s: &mut Step) -> Result<(), Why> {
    if super::arguments::same_shapes(s).is_ok() {
        return Ok(());
    }
    let operands: Option<Vec<_>> = s.g.operands(s.op).into_iter().collect();
    let operands = operands.ok_or("an operand is missing")?;
    let (last, rest) = operands.split_last().ok_or("it has no operand")?;
    let (first, rest) = rest.split_first().ok_or("its operands broadcast")?;
    let so_far = rest.iter().fold(*first, |sum, v| s.add(Op::new("Add"), &[sum, *v], "sum"));
    s.finish(Op::new("Add"), &[so_far, *last])
}
