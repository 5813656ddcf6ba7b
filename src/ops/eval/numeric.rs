//! Elementwise kernels.

use std::cmp::Ordering;

use super::number::{Binary, Number, Unary, with_number};
use super::{Results, Strided, assemble, broadcast_dims, room};
use crate::ir::{DType, Op, Tensor};
use crate::ops::EvalCx;

fn binary_of(op: &Op) -> Option<Binary> {
    Some(match op.op_type.as_str() {
        "Add" | "Sum" => Binary::Add,
        "Sub" => Binary::Sub,
        "Mul" => Binary::Mul,
        "Div" => Binary::Div,
        "Pow" => Binary::Pow,
        "Mod" if op.int_or("fmod", 0) == 0 => Binary::Mod,
        "Mod" => Binary::Fmod,
        "Min" => Binary::Min,
        "Max" => Binary::Max,
        "BitwiseAnd" => Binary::And,
        "BitwiseOr" => Binary::Or,
        "BitwiseXor" => Binary::Xor,
        "BitShift" if op.str("direction") == Some("LEFT") => Binary::ShiftLeft,
        "BitShift" => Binary::ShiftRight,
        _ => return None,
    })
}

/// Kernel of the operators of two operands.
pub(in crate::ops) fn binary(cx: &EvalCx) -> Results {
    let (a, b) = (cx.operand(0)?, cx.operand(1)?);
    // Before opset 7 broadcasting had to be asked for and had an axis of its own.
    if cx.opset < 7 && a.dims() != b.dims() {
        return None;
    }
    let result = match binary_of(cx.op) {
        Some(op) => arithmetic(cx, op, a, b),
        None => logic(cx, a, b),
    };
    Some(vec![result?])
}

fn arithmetic(cx: &EvalCx, op: Binary, a: &Tensor, b: &Tensor) -> Option<Tensor> {
    let dims = broadcast_dims(a.dims(), b.dims())?;
    room(cx, a.dtype(), &dims)?;
    let dtype = a.dtype();
    if op == Binary::Pow && b.dtype() != dtype {
        let b = power_as(b, dtype)?;
        return arithmetic(cx, op, a, &b);
    }
    if b.dtype() != dtype {
        return None;
    }
    if matches!(dtype, DType::F16 | DType::BF16) {
        // One operation in single precision, rounded again, is the correctly rounded one.
        let (x, y) = (a.to_f32()?, b.to_f32()?);
        let out = zip(&x, a.dims(), &y, b.dims(), &dims, |x, y| f32::binary(op, x, y))?;
        return Tensor::from_f32(dtype, &dims, &out);
    }
    with_number!(dtype, arithmetic_as(op, a, b, &dims))
}

fn arithmetic_as<T: Number>(op: Binary, a: &Tensor, b: &Tensor, dims: &[usize]) -> Option<Tensor> {
    let (x, y) = (a.to_vec::<T>()?, b.to_vec::<T>()?);
    let out = zip(&x, a.dims(), &y, b.dims(), dims, |x, y| T::binary(op, x, y))?;
    Some(Tensor::of(dims, &out))
}

/// An exponent in the type of its base, when that loses nothing.
fn power_as(b: &Tensor, dtype: DType) -> Option<Tensor> {
    let whole: Vec<i64> = match b.to_i64() {
        Some(v) => v,
        None => {
            let v = b.to_f64()?;
            let fits = |v: &f64| v.fract() == 0.0 && v.abs() < 1e15;
            v.iter().map(|v| fits(v).then_some(*v as i64)).collect::<Option<_>>()?
        }
    };
    super::cast::from_ints(dtype, b.dims(), &whole)
}

fn zip<T: Copy, U>(
    a: &[T],
    a_dims: &[usize],
    b: &[T],
    b_dims: &[usize],
    dims: &[usize],
    f: impl Fn(T, T) -> Option<U>,
) -> Option<Vec<U>> {
    if a_dims == b_dims {
        return a.iter().zip(b).map(|(x, y)| f(*x, *y)).collect();
    }
    let (i, j) = (Strided::broadcast(a_dims, dims)?, Strided::broadcast(b_dims, dims)?);
    i.zip(j).map(|(i, j)| f(*a.get(i)?, *b.get(j)?)).collect()
}

fn bools(dims: Vec<usize>, values: Vec<u8>) -> Option<Tensor> {
    Tensor::new(DType::Bool, dims, values.into()).ok()
}

fn logic(cx: &EvalCx, a: &Tensor, b: &Tensor) -> Option<Tensor> {
    let dims = broadcast_dims(a.dims(), b.dims())?;
    room(cx, DType::Bool, &dims)?;
    let out = match (a.dtype(), b.dtype()) {
        (DType::Bool, DType::Bool) => {
            let (x, y) = (a.raw()?.to_vec(), b.raw()?.to_vec());
            zip(&x, a.dims(), &y, b.dims(), &dims, |x, y| truth(cx.op, x != 0, y != 0))?
        }
        (x, y) if x != y => return None,
        (DType::F16 | DType::BF16, _) => compare(cx.op, &a.to_f32()?, a, &b.to_f32()?, b, &dims)?,
        (dtype, _) => with_number!(dtype, compare_as(cx.op, a, b, &dims))?,
    };
    bools(dims, out)
}

fn truth(op: &Op, x: bool, y: bool) -> Option<u8> {
    Some(u8::from(match op.op_type.as_str() {
        "And" => x && y,
        "Or" => x || y,
        "Xor" => x != y,
        "Equal" => x == y,
        _ => return None,
    }))
}

fn compare_as<T: Number>(op: &Op, a: &Tensor, b: &Tensor, dims: &[usize]) -> Option<Vec<u8>> {
    compare(op, &a.to_vec::<T>()?, a, &b.to_vec::<T>()?, b, dims)
}

fn compare<T: Copy + PartialOrd>(
    op: &Op,
    x: &[T],
    a: &Tensor,
    y: &[T],
    b: &Tensor,
    dims: &[usize],
) -> Option<Vec<u8>> {
    let holds: fn(Ordering) -> bool = match op.op_type.as_str() {
        "Equal" => Ordering::is_eq,
        "Less" => Ordering::is_lt,
        "LessOrEqual" => Ordering::is_le,
        "Greater" => Ordering::is_gt,
        "GreaterOrEqual" => Ordering::is_ge,
        _ => return None,
    };
    let test = |x: T, y: T| Some(u8::from(x.partial_cmp(&y).is_some_and(holds)));
    zip(x, a.dims(), y, b.dims(), dims, test)
}

/// Kernel of the operators that fold any number of operands.
pub(in crate::ops) fn variadic(cx: &EvalCx) -> Results {
    let op = binary_of(cx.op)?;
    let mut total = cx.operand(0)?.clone();
    if cx.opset < 8 && cx.operands.iter().flatten().any(|t| t.dims() != total.dims()) {
        return None;
    }
    // A longer float sum rounds differently in every order.
    if op == Binary::Add && cx.operands.len() > 2 && total.dtype().is_float() {
        return None;
    }
    for i in 1..cx.operands.len() {
        total = arithmetic(cx, op, &total, cx.operand(i)?)?;
    }
    Some(vec![total])
}

/// Kernel of the operators of one operand.
pub(in crate::ops) fn unary(cx: &EvalCx) -> Results {
    let a = cx.operand(0)?;
    room(cx, a.dtype(), a.dims())?;
    let op = match cx.op.op_type.as_str() {
        "Abs" => Unary::Abs,
        "Neg" => Unary::Neg,
        "Sign" => Unary::Sign,
        "Floor" => Unary::Floor,
        "Ceil" => Unary::Ceil,
        "Round" => Unary::Round,
        "Sqrt" => Unary::Sqrt,
        "Reciprocal" => Unary::Reciprocal,
        "Relu" => Unary::Relu,
        "BitwiseNot" => Unary::BitwiseNot,
        _ => return Some(vec![test(cx.op, a)?]),
    };
    if matches!(a.dtype(), DType::F16 | DType::BF16) {
        let out: Option<Vec<f32>> = a.to_f32()?.into_iter().map(|v| f32::unary(op, v)).collect();
        return Some(vec![Tensor::from_f32(a.dtype(), a.dims(), &out?)?]);
    }
    Some(vec![with_number!(a.dtype(), unary_as(op, a))?])
}

fn unary_as<T: Number>(op: Unary, a: &Tensor) -> Option<Tensor> {
    let out: Option<Vec<T>> = a.to_vec::<T>()?.into_iter().map(|v| T::unary(op, v)).collect();
    Some(Tensor::of(a.dims(), &out?))
}

/// `Not`, `IsNaN` and `IsInf`.
fn test(op: &Op, a: &Tensor) -> Option<Tensor> {
    let float = || a.to_f64().filter(|_| a.dtype().is_float());
    let (up, down) = (op.int_or("detect_positive", 1) != 0, op.int_or("detect_negative", 1) != 0);
    let infinite = |v: &f64| v.is_infinite() && if *v > 0.0 { up } else { down };
    let out: Vec<u8> = match op.op_type.as_str() {
        "Not" if a.dtype() == DType::Bool => a.raw()?.iter().map(|&b| u8::from(b == 0)).collect(),
        "IsNaN" => float()?.iter().map(|v| u8::from(v.is_nan())).collect(),
        "IsInf" => float()?.iter().map(|v| u8::from(infinite(v))).collect(),
        _ => return None,
    };
    bools(a.dims().to_vec(), out)
}

/// `Clip`.
pub(in crate::ops) fn clip(cx: &EvalCx) -> Results {
    let mut out = cx.operand(0)?.clone();
    let bound = |attr: &str, slot: usize| match (cx.op.float(attr), cx.operand(slot)) {
        (Some(v), _) => Some(Some(Tensor::from_f32(out.dtype(), &[], &[v])?)),
        (None, Some(t)) => (t.len() == 1).then(|| t.reshaped(Vec::new())),
        (None, None) => Some(None),
    };
    let (lo, hi) = (bound("min", 1)?, bound("max", 2)?);
    if let Some(lo) = lo {
        out = arithmetic(cx, Binary::Max, &out, &lo)?;
    }
    if let Some(hi) = hi {
        out = arithmetic(cx, Binary::Min, &out, &hi)?;
    }
    Some(vec![out])
}

/// `Where`.
pub(in crate::ops) fn select(cx: &EvalCx) -> Results {
    let (c, a, b) = (cx.operand(0)?, cx.operand(1)?, cx.operand(2)?);
    let dims = broadcast_dims(c.dims(), &broadcast_dims(a.dims(), b.dims())?)?;
    let cond = c.raw().filter(|_| c.dtype() == DType::Bool)?;
    let walk = |t: &Tensor| Strided::broadcast(t.dims(), &dims);
    let sources = walk(c)?.zip(walk(a)?).zip(walk(b)?);
    let pick = |((c, i), j): ((usize, usize), usize)| match cond.get(c) {
        Some(&0) | None => (b, j),
        Some(_) => (a, i),
    };
    Some(vec![assemble(cx, a.dtype(), dims.clone(), sources.map(pick))?])
}
