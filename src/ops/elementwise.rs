//! Elementwise operators: arithmetic, comparison, logic, casts.

use super::arith::{self, Fn2, map_ints, zip_ints};
use super::eval::{cast as eval_cast, numeric};
use super::{Axes, InferCx, InferError, OpSchema, broadcast};
use crate::ir::{DType, Dim, Shape};

type Inferred = Result<(), InferError>;

const fn unary(op_type: &'static str) -> OpSchema {
    OpSchema { infer: infer_same, axes: Axes::Elementwise, ..OpSchema::new(op_type) }
}

const fn exact_unary(op_type: &'static str) -> OpSchema {
    OpSchema { eval: Some(numeric::unary), ..unary(op_type) }
}

const fn binary(op_type: &'static str, infer: fn(&mut InferCx) -> Inferred) -> OpSchema {
    OpSchema {
        infer,
        axes: Axes::Elementwise,
        eval: Some(numeric::binary),
        ..OpSchema::new(op_type)
    }
}

const fn commutative(op_type: &'static str, infer: fn(&mut InferCx) -> Inferred) -> OpSchema {
    OpSchema { commutative: true, ..binary(op_type, infer) }
}

const fn idempotent(schema: OpSchema) -> OpSchema {
    OpSchema { idempotent: true, ..schema }
}

pub(super) static SCHEMAS: &[OpSchema] = &[
    idempotent(OpSchema { infer: |cx| infer_map(cx, arith::abs), ..exact_unary("Abs") }),
    unary("Acos"),
    unary("Acosh"),
    commutative("Add", |cx| infer_arith(cx, arith::add)),
    commutative("And", |cx| infer_logic(cx, arith::and)),
    unary("Asin"),
    unary("Asinh"),
    unary("Atan"),
    unary("Atanh"),
    binary("BitShift", infer_broadcast),
    commutative("BitwiseAnd", infer_broadcast),
    exact_unary("BitwiseNot"),
    commutative("BitwiseOr", infer_broadcast),
    commutative("BitwiseXor", infer_broadcast),
    OpSchema { infer: infer_cast, eval: Some(eval_cast::cast), ..unary("Cast") },
    OpSchema {
        infer: |cx| {
            cx.set(0, cast_target(cx.op()), cx.shape(0).cloned());
            Ok(())
        },
        ..unary("BitCast")
    },
    OpSchema {
        infer: infer_cast_like,
        axes: Axes::Pinned,
        eval: Some(eval_cast::cast_like),
        ..unary("CastLike")
    },
    idempotent(exact_unary("Ceil")),
    OpSchema { infer: infer_clip, eval: Some(numeric::clip), idempotent: true, ..unary("Clip") },
    unary("Cos"),
    unary("Cosh"),
    binary("Div", |cx| infer_arith(cx, arith::div)),
    commutative("Equal", |cx| infer_logic(cx, arith::equal)),
    unary("Erf"),
    unary("Exp"),
    idempotent(exact_unary("Floor")),
    binary("Greater", |cx| infer_logic(cx, arith::greater)),
    binary("GreaterOrEqual", |cx| infer_logic(cx, arith::greater_or_equal)),
    OpSchema { infer: infer_test, ..exact_unary("IsInf") },
    OpSchema { infer: infer_test, ..exact_unary("IsNaN") },
    binary("Less", |cx| infer_logic(cx, arith::less)),
    binary("LessOrEqual", |cx| infer_logic(cx, arith::less_or_equal)),
    unary("Log"),
    variadic("Max", |cx| infer_variadic(cx, Some(arith::larger))),
    OpSchema { eval: None, ..variadic("Mean", |cx| infer_variadic(cx, None)) },
    variadic("Min", |cx| infer_variadic(cx, Some(arith::smaller))),
    binary("Mod", infer_mod),
    commutative("Mul", |cx| infer_arith(cx, arith::mul)),
    OpSchema { infer: |cx| infer_map(cx, |a| &Dim::Known(0) - a), ..exact_unary("Neg") },
    OpSchema { infer: infer_not, ..exact_unary("Not") },
    commutative("Or", |cx| infer_logic(cx, arith::or)),
    binary("Pow", |cx| infer_arith(cx, arith::pow)),
    exact_unary("Reciprocal"),
    idempotent(exact_unary("Round")),
    idempotent(OpSchema { infer: |cx| infer_map(cx, arith::sign), ..exact_unary("Sign") }),
    unary("Sin"),
    unary("Sinh"),
    exact_unary("Sqrt"),
    binary("Sub", |cx| infer_arith(cx, arith::sub)),
    variadic("Sum", |cx| infer_variadic(cx, Some(arith::add))),
    unary("Tan"),
    unary("Tanh"),
    OpSchema {
        infer: infer_where,
        axes: Axes::Elementwise,
        eval: Some(numeric::select),
        ..OpSchema::new("Where")
    },
    commutative("Xor", |cx| infer_logic(cx, arith::xor)),
];

const fn variadic(op_type: &'static str, infer: fn(&mut InferCx) -> Inferred) -> OpSchema {
    OpSchema { commutative: true, eval: Some(numeric::variadic), ..binary(op_type, infer) }
}

/// The result has the type of operand 0.
pub(super) fn infer_same(cx: &mut InferCx) -> Inferred {
    cx.copy_type(0, 0);
    Ok(())
}

fn infer_map(cx: &mut InferCx, f: fn(&Dim) -> Dim) -> Inferred {
    cx.copy_type(0, 0);
    map_ints(cx, f);
    Ok(())
}

fn infer_not(cx: &mut InferCx) -> Inferred {
    infer_test(cx)?;
    map_ints(cx, arith::not);
    Ok(())
}

fn infer_test(cx: &mut InferCx) -> Inferred {
    cx.set(0, Some(DType::Bool), cx.shape(0).cloned());
    Ok(())
}

/// Shapes of operands 0 and 1 broadcast. Before opset 7 operand 1 only stretches to operand 0.
pub(super) fn broadcast_two(cx: &InferCx) -> Result<Option<Shape>, InferError> {
    if cx.opset() < 7 {
        return Ok(cx.shape(0).cloned());
    }
    match (cx.shape(0), cx.shape(1)) {
        (Some(a), Some(b)) => broadcast(a, b).map(Some),
        _ => Ok(None),
    }
}

/// The element type of operand 0, else of operand 1, and their shapes broadcast.
pub(super) fn infer_broadcast(cx: &mut InferCx) -> Inferred {
    let shape = broadcast_two(cx)?;
    let dtype = cx.dtype(0).or(cx.dtype(1).filter(|_| !cx.op().is("Pow")));
    cx.set(0, dtype, shape);
    Ok(())
}

fn infer_arith(cx: &mut InferCx, f: Fn2) -> Inferred {
    infer_broadcast(cx)?;
    zip_ints(cx, 0, 1, f);
    Ok(())
}

fn infer_mod(cx: &mut InferCx) -> Inferred {
    let f = if cx.op().int_or("fmod", 0) == 0 { arith::modulo } else { arith::fmod };
    infer_arith(cx, f)
}

fn infer_logic(cx: &mut InferCx, f: Fn2) -> Inferred {
    let shape = broadcast_two(cx)?;
    cx.set(0, Some(DType::Bool), shape);
    zip_ints(cx, 0, 1, f);
    Ok(())
}

fn infer_variadic(cx: &mut InferCx, f: Option<Fn2>) -> Inferred {
    let dtype = (0..cx.arity()).find_map(|i| cx.dtype(i));
    let mut shape = cx.shape(0).cloned();
    for i in 1..cx.arity() {
        shape = match (shape, cx.shape(i)) {
            (Some(a), Some(b)) => Some(broadcast(&a, b)?),
            _ => None,
        };
    }
    cx.set(0, dtype, shape);
    match (cx.arity(), f) {
        (1, Some(_)) => cx.copy_ints(0, 0),
        (2, Some(f)) => zip_ints(cx, 0, 1, f),
        _ => {}
    }
    Ok(())
}

fn infer_clip(cx: &mut InferCx) -> Inferred {
    cx.copy_type(0, 0);
    let bound = |i: usize| match cx.ints(i).as_deref() {
        Some([one]) => one.clone(),
        _ => Dim::Unknown,
    };
    let (lo, hi) = (bound(1), bound(2));
    let (has_lo, has_hi) = (cx.has(1), cx.has(2));
    if cx.opset() >= 11 {
        map_ints(cx, |a| {
            let a = if has_lo { a.larger(&lo) } else { a.clone() };
            if has_hi { a.smaller(&hi) } else { a }
        });
    }
    Ok(())
}

/// The element type that `Cast` makes.
pub(super) fn cast_target(op: &crate::ir::Op) -> Option<DType> {
    match op.str("to") {
        Some(name) => DType::from_name(&name.to_ascii_lowercase()),
        None => DType::from_code(i32::try_from(op.int("to")?).ok()?),
    }
}

fn infer_cast(cx: &mut InferCx) -> Inferred {
    let Some(to) = cast_target(cx.op()) else { return Err("no known element type".into()) };
    infer_cast_to(cx, Some(to))
}

fn infer_cast_like(cx: &mut InferCx) -> Inferred {
    infer_cast_to(cx, cx.dtype(1))
}

fn infer_cast_to(cx: &mut InferCx, to: Option<DType>) -> Inferred {
    cx.set(0, to, cx.shape(0).cloned());
    if let Some(to) = to.filter(|to| to.is_int() || *to == DType::Bool) {
        map_ints(cx, |a| arith::cast(a, to));
    }
    Ok(())
}

fn infer_where(cx: &mut InferCx) -> Inferred {
    let dtype = cx.dtype(1).or(cx.dtype(2));
    let shape = match (cx.shape(0), cx.shape(1), cx.shape(2)) {
        (Some(c), Some(a), Some(b)) => Some(broadcast(c, &broadcast(a, b)?)?),
        _ => None,
    };
    cx.set(0, dtype, shape);
    let (Some(c), Some(a), Some(b)) = (cx.ints(0), cx.ints(1), cx.ints(2)) else { return Ok(()) };
    let n = c.len().max(a.len()).max(b.len());
    if [&c, &a, &b].iter().any(|v| v.is_empty() || (v.len() != n && v.len() != 1)) {
        return Ok(());
    }
    let at = |v: &[Dim], i: usize| if v.len() == 1 { v[0].clone() } else { v[i].clone() };
    let pick = |i: usize| match at(&c, i).known() {
        Some(0) => at(&b, i),
        Some(_) => at(&a, i),
        None if at(&a, i).same(&at(&b, i)) => at(&a, i),
        None => Dim::Unknown,
    };
    cx.set_ints(0, (0..n).map(pick).collect());
    Ok(())
}
