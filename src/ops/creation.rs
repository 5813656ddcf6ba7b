//! Operators that make tensors from sizes and attributes.

use super::eval::create;
use super::{Axes, InferCx, InferError, MAX_SYM, OpSchema, axes};
use crate::ir::{AttrValue, DType, Dim, Shape, Tensor};

type Inferred = Result<(), InferError>;

pub(super) static SCHEMAS: &[OpSchema] = &[
    OpSchema { infer: infer_constant, eval: Some(create::constant), ..OpSchema::new("Constant") },
    OpSchema {
        infer: infer_constant_of_shape,
        eval: Some(create::constant_of_shape),
        ..OpSchema::new("ConstantOfShape")
    },
    OpSchema { infer: infer_eye_like, eval: Some(create::eye_like), ..OpSchema::new("EyeLike") },
    OpSchema { infer: infer_range, eval: Some(create::range), ..OpSchema::new("Range") },
    OpSchema {
        infer: infer_shape,
        axes: Axes::Rule(axes::shape),
        eval: Some(create::shape),
        ..OpSchema::new("Shape")
    },
    OpSchema { infer: infer_size, eval: Some(create::size), ..OpSchema::new("Size") },
];

/// The tensor that a `Constant` holds; sparse ones stay as they are.
pub(super) fn constant_tensor(op: &crate::ir::Op) -> Option<Tensor> {
    let attr = op.attrs.iter().find(|a| a.name.starts_with("value"))?;
    Some(match &attr.value {
        AttrValue::Tensor(t) => t.clone(),
        AttrValue::Int(v) => Tensor::scalar(*v),
        AttrValue::Ints(v) => Tensor::vector(v),
        AttrValue::Float(v) => Tensor::scalar(*v),
        AttrValue::Floats(v) => Tensor::vector(v),
        AttrValue::Str(v) => Tensor::strings(Vec::new(), vec![v.clone()]).ok()?,
        AttrValue::Strs(v) => Tensor::strings(vec![v.len()], v.to_vec()).ok()?,
        _ => return None,
    })
}

fn infer_constant(cx: &mut InferCx) -> Inferred {
    let sparse = cx.op().tensor("sparse_value").cloned();
    let Some(t) = constant_tensor(cx.op()).or(sparse) else { return Ok(()) };
    cx.set(0, Some(t.dtype()), Some(dims_of(&t)));
    let small = t.rank() <= 1 && t.len() <= MAX_SYM && t.raw().is_some();
    if let Some(v) = t.to_i64().filter(|_| small) {
        cx.set_ints(0, v.into_iter().map(Dim::Known).collect());
    }
    Ok(())
}

fn dims_of(t: &Tensor) -> Shape {
    t.dims().iter().map(|&d| d.into()).collect()
}

/// The shape that the elements of a shape operand describe; sizes of their own for unknown ones.
pub(super) fn shape_from(cx: &InferCx, slot: usize) -> Option<Shape> {
    let sized = |d: Dim| if d.is_some() { d } else { Dim::fresh() };
    match cx.ints(slot) {
        Some(v) => Some(v.into_iter().map(sized).collect()),
        None => {
            let rank = cx.shape(slot)?.first()?.size().filter(|&r| r <= MAX_SYM)?;
            Some((0..rank).map(|_| Dim::fresh()).collect())
        }
    }
}

fn infer_constant_of_shape(cx: &mut InferCx) -> Inferred {
    let zero = Tensor::vector(&[0f32]);
    let value = cx.op().tensor("value").unwrap_or(&zero);
    let (dtype, fill) = (value.dtype(), value.to_i64());
    let shape = shape_from(cx, 0);
    let count = match shape.as_deref() {
        Some([]) => Some(1),
        Some([n]) => n.size(),
        _ => None,
    };
    cx.set(0, Some(dtype), shape);
    if let (Some(n), Some([v])) = (count.filter(|&n| n <= MAX_SYM), fill.as_deref()) {
        cx.set_ints(0, vec![Dim::Known(*v); n]);
    }
    Ok(())
}

fn infer_eye_like(cx: &mut InferCx) -> Inferred {
    let given = cx.op().int("dtype").and_then(|c| DType::from_code(i32::try_from(c).ok()?));
    cx.set(0, given.or(cx.dtype(0)), cx.shape(0).cloned());
    Ok(())
}

fn infer_range(cx: &mut InferCx) -> Inferred {
    let dtype = (0..3).find_map(|i| cx.dtype(i));
    let one = |i: usize| match cx.ints(i).as_deref() {
        Some([v]) => Some(v.clone()),
        _ => None,
    };
    let float = |i: usize| cx.tensor(i).and_then(Tensor::single);
    let (mut count, mut elements) = (Dim::Unknown, None);
    if let (Some(start), Some(limit), Some(delta)) = (one(0), one(1), one(2)) {
        count = int_count(&start, &limit, &delta);
        if let Some(n) = count.size().filter(|&n| n <= MAX_SYM) {
            let at = |i: usize| &start + &(&delta * &Dim::from(i));
            elements = Some((0..n).map(at).collect());
        }
    } else if let (Some(start), Some(limit), Some(delta)) = (float(0), float(1), float(2)) {
        count = create::float_count(start, limit, delta).map_or(Dim::Unknown, Dim::from);
    }
    let count = if count.is_some() { count } else { Dim::fresh() };
    cx.set(0, dtype, Some(vec![count]));
    if let Some(elements) = elements {
        cx.set_ints(0, elements);
    }
    Ok(())
}

fn int_count(start: &Dim, limit: &Dim, delta: &Dim) -> Dim {
    let span = limit - start;
    let count = match delta.known() {
        Some(1) => span,
        Some(d) if d > 1 => span.ceil_div(delta),
        Some(d) if d < 0 => (&Dim::Known(0) - &span).ceil_div(&(&Dim::Known(0) - delta)),
        _ => return Dim::Unknown,
    };
    count.larger(&Dim::Known(0))
}

/// Clamps `start` and `end` of `Shape` as its version 15 says.
pub(super) fn shape_window(op: &crate::ir::Op, rank: usize) -> std::ops::Range<usize> {
    let clamp = |v: i64| {
        let rank = i64::try_from(rank).unwrap_or(i64::MAX);
        (if v < 0 { v.saturating_add(rank) } else { v }).clamp(0, rank) as usize
    };
    let start = clamp(op.int_or("start", 0));
    start..clamp(op.int_or("end", i64::MAX)).max(start)
}

fn infer_shape(cx: &mut InferCx) -> Inferred {
    let Some(shape) = cx.shape(0) else {
        cx.set(0, Some(DType::I64), Some(vec![Dim::fresh()]));
        return Ok(());
    };
    let part = shape[shape_window(cx.op(), shape.len())].to_vec();
    cx.set(0, Some(DType::I64), Some(vec![part.len().into()]));
    cx.set_ints(0, part);
    Ok(())
}

fn infer_size(cx: &mut InferCx) -> Inferred {
    cx.set(0, Some(DType::I64), Some(Vec::new()));
    if let Some(shape) = cx.shape(0) {
        let total = Dim::product(shape);
        cx.set_ints(0, vec![total]);
    }
    Ok(())
}
