//! Arithmetic on the symbolic elements of small integer tensors.

use super::InferCx;
use crate::ir::{DType, Dim};

/// An elementwise function of two elements.
pub(super) type Fn2 = fn(&Dim, &Dim) -> Dim;

/// Sets the elements of result 0 to `f` of those of operands `a` and `b`, broadcast.
pub(super) fn zip_ints(cx: &mut InferCx, a: usize, b: usize, f: Fn2) {
    let (Some(x), Some(y)) = (cx.ints(a), cx.ints(b)) else { return };
    let n = x.len().max(y.len());
    if [x.len(), y.len()].iter().any(|&l| l != n && l != 1) || x.is_empty() || y.is_empty() {
        return;
    }
    let at = |v: &[Dim], i: usize| if v.len() == 1 { v[0].clone() } else { v[i].clone() };
    cx.set_ints(0, (0..n).map(|i| f(&at(&x, i), &at(&y, i))).collect());
}

/// Sets the elements of result 0 to `f` of those of operand 0.
pub(super) fn map_ints(cx: &mut InferCx, f: impl Fn(&Dim) -> Dim) {
    if let Some(x) = cx.ints(0) {
        cx.set_ints(0, x.iter().map(f).collect());
    }
}

pub(super) fn add(a: &Dim, b: &Dim) -> Dim {
    a + b
}

pub(super) fn sub(a: &Dim, b: &Dim) -> Dim {
    a - b
}

pub(super) fn mul(a: &Dim, b: &Dim) -> Dim {
    a * b
}

/// ONNX division of integers: rounds towards zero.
pub(super) fn div(a: &Dim, b: &Dim) -> Dim {
    match (a.known(), b.known()) {
        (_, Some(0)) => Dim::Unknown,
        (Some(x), Some(y)) => x.checked_div(y).map_or(Dim::Unknown, Dim::Known),
        _ if a.at_least(0) && b.at_least(0) => a.floor_div(b),
        _ => a.div_exact(b).unwrap_or(Dim::Unknown),
    }
}

/// Remainder with the sign of the divisor.
pub(super) fn modulo(a: &Dim, b: &Dim) -> Dim {
    a.modulo(b)
}

/// Remainder with the sign of the dividend.
pub(super) fn fmod(a: &Dim, b: &Dim) -> Dim {
    match (a.known(), b.known()) {
        (Some(x), Some(y)) => x.checked_rem(y).map_or(Dim::Unknown, Dim::Known),
        _ if a.at_least(0) && b.at_least(0) => a.modulo(b),
        _ => Dim::Unknown,
    }
}

pub(super) fn pow(a: &Dim, b: &Dim) -> Dim {
    match b.known() {
        Some(n @ 0..=8) => (0..n).fold(Dim::Known(1), |p, _| &p * a),
        _ => Dim::Unknown,
    }
}

pub(super) fn smaller(a: &Dim, b: &Dim) -> Dim {
    a.smaller(b)
}

pub(super) fn larger(a: &Dim, b: &Dim) -> Dim {
    a.larger(b)
}

/// A truth value as an element.
fn truth(value: Option<bool>) -> Dim {
    value.map_or(Dim::Unknown, |v| Dim::Known(i64::from(v)))
}

/// `a < b`, where that is provable or refutable.
fn is_less(a: &Dim, b: &Dim) -> Option<bool> {
    if (b - a).at_least(1) {
        Some(true)
    } else if (a - b).at_least(0) {
        Some(false)
    } else {
        None
    }
}

pub(super) fn equal(a: &Dim, b: &Dim) -> Dim {
    match (is_less(a, b), is_less(b, a)) {
        (Some(false), Some(false)) => truth(Some(true)),
        (Some(true), _) | (_, Some(true)) => truth(Some(false)),
        _ => Dim::Unknown,
    }
}

pub(super) fn less(a: &Dim, b: &Dim) -> Dim {
    truth(is_less(a, b))
}

pub(super) fn greater(a: &Dim, b: &Dim) -> Dim {
    truth(is_less(b, a))
}

pub(super) fn less_or_equal(a: &Dim, b: &Dim) -> Dim {
    truth(is_less(b, a).map(|v| !v))
}

pub(super) fn greater_or_equal(a: &Dim, b: &Dim) -> Dim {
    truth(is_less(a, b).map(|v| !v))
}

pub(super) fn and(a: &Dim, b: &Dim) -> Dim {
    match (a.known(), b.known()) {
        (Some(0), _) | (_, Some(0)) => Dim::Known(0),
        (Some(_), Some(_)) => Dim::Known(1),
        _ => Dim::Unknown,
    }
}

pub(super) fn or(a: &Dim, b: &Dim) -> Dim {
    match (a.known(), b.known()) {
        (Some(0), Some(0)) => Dim::Known(0),
        (Some(x), _) | (_, Some(x)) if x != 0 => Dim::Known(1),
        _ => Dim::Unknown,
    }
}

pub(super) fn xor(a: &Dim, b: &Dim) -> Dim {
    truth(a.known().zip(b.known()).map(|(a, b)| (a != 0) != (b != 0)))
}

pub(super) fn not(a: &Dim) -> Dim {
    truth(a.known().map(|v| v == 0))
}

pub(super) fn abs(a: &Dim) -> Dim {
    let minus = &Dim::Known(0) - a;
    if a.at_least(0) {
        a.clone()
    } else if minus.at_least(0) {
        minus
    } else {
        Dim::Unknown
    }
}

pub(super) fn sign(a: &Dim) -> Dim {
    match a.known() {
        Some(n) => Dim::Known(n.signum()),
        None if a.at_least(1) => Dim::Known(1),
        None => Dim::Unknown,
    }
}

/// The element as type `to` holds it; unknown where it may not fit.
pub(super) fn cast(a: &Dim, to: DType) -> Dim {
    match (a.known(), to) {
        (Some(n), DType::Bool) => Dim::Known(i64::from(n != 0)),
        (None, DType::Bool) if a.at_least(1) => Dim::Known(1),
        (None, DType::Bool) => Dim::Unknown,
        (Some(n), _) if int_range(to).is_some_and(|(lo, hi)| (lo..=hi).contains(&n)) => a.clone(),
        (None, DType::I64 | DType::I32) => a.clone(),
        _ => Dim::Unknown,
    }
}

/// Smallest and largest integer of a type that an `i64` holds as well.
fn int_range(dtype: DType) -> Option<(i64, i64)> {
    let bits = u32::try_from(dtype.bits()).ok().filter(|_| dtype.is_int())?;
    let signed =
        matches!(dtype, DType::I64 | DType::I32 | DType::I16 | DType::I8 | DType::I4 | DType::I2);
    Some(match (signed, bits) {
        (true, _) => (i64::MIN >> (64 - bits), i64::MAX >> (64 - bits)),
        (false, 64) => (0, i64::MAX),
        (false, _) => (0, (1 << bits) - 1),
    })
}
