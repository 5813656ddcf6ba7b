//! Kernels that make tensors from sizes.

use super::number::{Binary, Number, with_number};
use super::{Results, room, take};
use crate::ir::{DType, Tensor};
use crate::ops::EvalCx;
use crate::ops::creation::{constant_tensor, shape_window};

/// `Constant`.
pub(in crate::ops) fn constant(cx: &EvalCx) -> Results {
    Some(vec![constant_tensor(cx.op)?])
}

fn sizes(t: &Tensor) -> Option<Vec<usize>> {
    t.to_i64()?.into_iter().map(|d| usize::try_from(d).ok()).collect()
}

/// `ConstantOfShape`.
pub(in crate::ops) fn constant_of_shape(cx: &EvalCx) -> Results {
    let zero = Tensor::vector(&[0f32]);
    let value = cx.op.tensor("value").unwrap_or(&zero);
    let dims = sizes(cx.operand(0)?)?;
    let n = room(cx, value.dtype(), &dims)?;
    if value.len() != 1 {
        return None;
    }
    Some(vec![take(cx, value, dims, std::iter::repeat_n(0, n))?])
}

/// `EyeLike`.
pub(in crate::ops) fn eye_like(cx: &EvalCx) -> Results {
    let like = cx.operand(0)?;
    let dtype = match cx.op.int("dtype") {
        Some(code) => DType::from_code(i32::try_from(code).ok()?)?,
        None => like.dtype(),
    };
    let [rows, columns] = *like.dims() else { return None };
    room(cx, DType::I64, like.dims())?;
    let k = i128::from(cx.op.int_or("k", 0));
    let on = |i: usize| i64::from((i % columns) as i128 - (i / columns) as i128 == k);
    let ones: Vec<i64> = (0..rows * columns).map(on).collect();
    Some(vec![super::cast::from_ints(dtype, like.dims(), &ones)?])
}

/// `Shape`.
pub(in crate::ops) fn shape(cx: &EvalCx) -> Results {
    let dims = cx.operand(0)?.dims();
    let part = &dims[shape_window(cx.op, dims.len())];
    let part: Option<Vec<i64>> = part.iter().map(|&d| i64::try_from(d).ok()).collect();
    Some(vec![Tensor::vector(&part?)])
}

/// `Size`.
pub(in crate::ops) fn size(cx: &EvalCx) -> Results {
    Some(vec![Tensor::scalar(i64::try_from(cx.operand(0)?.len()).ok()?)])
}

/// Number of elements of a float range.
pub(in crate::ops) fn float_count(start: f64, limit: f64, delta: f64) -> Option<usize> {
    let n = ((limit - start) / delta).ceil();
    (n.is_finite() && n < 1e15).then_some(n.max(0.0) as usize)
}

/// `Range` over integers.
pub(in crate::ops) fn range(cx: &EvalCx) -> Results {
    let (start, limit, delta) = (cx.operand(0)?, cx.operand(1)?, cx.operand(2)?);
    if !start.dtype().is_int() {
        return None;
    }
    let one = |t: &Tensor| t.to_i64().filter(|v| v.len() == 1).map(|v| i128::from(v[0]));
    let (s, l, d) = (one(start)?, one(limit)?, one(delta)?);
    let n = match d {
        0 => return None,
        d if d > 0 => (l - s + d - 1).div_euclid(d),
        d => (s - l - d - 1).div_euclid(-d),
    };
    let n = usize::try_from(n.max(0)).ok()?;
    room(cx, start.dtype(), &[n])?;
    Some(vec![with_number!(start.dtype(), steps(start, delta, n))?])
}

fn steps<T: Number>(start: &Tensor, delta: &Tensor, n: usize) -> Option<Tensor> {
    let (mut at, delta) = (*start.to_vec::<T>()?.first()?, *delta.to_vec::<T>()?.first()?);
    let mut out = Vec::with_capacity(n);
    for _ in 0..n {
        out.push(at);
        at = T::binary(Binary::Add, at, delta)?;
    }
    Some(Tensor::vector(&out))
}
