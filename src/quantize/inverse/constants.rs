//! What codes can stand for at most.

use crate::ir::{DType, Tensor};
use crate::ops::codes;

/// The largest magnitude that one scale and one zero point can stand for.
pub(super) fn largest(scale: &Tensor, zero: Option<&Tensor>) -> Option<f32> {
    let scale = scale.single()? as f32;
    let dtype = zero.map_or(DType::U8, Tensor::dtype);
    let (low, high) = match dtype {
        DType::U8 => (0.0, 255.0),
        DType::I8 => (-127.0, 127.0),
        DType::U16 => (0.0, 65535.0),
        DType::I16 => (-32767.0, 32767.0),
        DType::F8E4M3FN => (-448.0, 448.0),
        _ => return None,
    };
    let zero = match zero {
        Some(z) => *codes(z)?.first()?,
        None => 0.0,
    };
    Some(scale * (high - zero).abs().max((low - zero).abs()))
}

/// The largest value that can be stood for, where the smallest one is zero: the zero point is the
/// lowest code of an unsigned or asymmetric type.
pub(super) fn highest_from_zero(scale: &Tensor, zero: &Tensor) -> Option<f32> {
    let (low, high) = match zero.dtype() {
        DType::U8 => (0.0, 255.0),
        DType::I8 => (-128.0, 127.0),
        DType::U16 => (0.0, 65535.0),
        DType::I16 => (-32768.0, 32767.0),
        _ => return None,
    };
    let zero = *codes(zero)?.first()?;
    (zero == low).then_some(scale.single()? as f32 * (high - low))
}
