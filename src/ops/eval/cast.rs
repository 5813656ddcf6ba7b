//! Conversion between element types.

use super::{Results, room};
use crate::ir::{DType, Tensor};
use crate::ops::EvalCx;
use crate::ops::elementwise::cast_target;

/// Elements on their way from one type to another, without loss.
enum Wide {
    Ints(Vec<i128>),
    Floats(Vec<f64>),
}

/// `Cast`.
pub(in crate::ops) fn cast(cx: &EvalCx) -> Results {
    convert(cx, cast_target(cx.op)?)
}

/// `CastLike`.
pub(in crate::ops) fn cast_like(cx: &EvalCx) -> Results {
    convert(cx, cx.operand(1)?.dtype())
}

fn convert(cx: &EvalCx, to: DType) -> Results {
    let a = cx.operand(0)?;
    room(cx, to, a.dims())?;
    if a.dtype() == to {
        return Some(vec![a.clone()]);
    }
    let bytes = match widen(a)? {
        Wide::Ints(v) => ints_to(to, &v)?,
        Wide::Floats(v) => floats_to(to, &v)?,
    };
    Some(vec![Tensor::new(to, a.dims().to_vec(), bytes.into()).ok()?])
}

fn widen(t: &Tensor) -> Option<Wide> {
    if t.dtype() == DType::U64 {
        return Some(Wide::Ints(t.to_vec::<u64>()?.into_iter().map(i128::from).collect()));
    }
    match t.to_i64() {
        Some(v) => Some(Wide::Ints(v.into_iter().map(i128::from).collect())),
        None => t.to_f64().map(Wide::Floats),
    }
}

/// A tensor of `dtype` with these elements, when all fit.
pub(super) fn from_ints(dtype: DType, dims: &[usize], values: &[i64]) -> Option<Tensor> {
    let wide: Vec<i128> = values.iter().copied().map(i128::from).collect();
    let bytes = ints_to(dtype, &wide)?;
    Tensor::new(dtype, dims.to_vec(), bytes.into()).ok()
}

macro_rules! bytes_of {
    ($values:expr, $t:ty) => {
        $values.iter().flat_map(|&v| (v as $t).to_le_bytes()).collect()
    };
}

/// Integers wrap around, as in C; below 8 bits they must fit.
fn ints_to(to: DType, v: &[i128]) -> Option<Vec<u8>> {
    Some(match to {
        DType::F32 => bytes_of!(v, f32),
        DType::F64 => bytes_of!(v, f64),
        DType::F16 | DType::BF16 => {
            // Beyond this a detour over f64 rounds twice.
            let exact = v.iter().all(|v| v.unsigned_abs() <= 1 << 53);
            let floats: Vec<f64> = v.iter().map(|&v| v as f64).collect();
            return exact.then(|| floats_to(to, &floats)).flatten();
        }
        DType::Bool => v.iter().map(|&v| u8::from(v != 0)).collect(),
        DType::I8 => bytes_of!(v, i8),
        DType::I16 => bytes_of!(v, i16),
        DType::I32 => bytes_of!(v, i32),
        DType::I64 => bytes_of!(v, i64),
        DType::U8 => bytes_of!(v, u8),
        DType::U16 => bytes_of!(v, u16),
        DType::U32 => bytes_of!(v, u32),
        DType::U64 => bytes_of!(v, u64),
        DType::U4 => pack(v, 4, 0..=15)?,
        DType::I4 => pack(v, 4, -8..=7)?,
        DType::U2 => pack(v, 2, 0..=3)?,
        DType::I2 => pack(v, 2, -2..=1)?,
        _ => return None,
    })
}

fn pack(v: &[i128], bits: usize, range: std::ops::RangeInclusive<i128>) -> Option<Vec<u8>> {
    let per_byte = 8 / bits;
    let mut out = vec![0u8; v.len().div_ceil(per_byte)];
    for (i, value) in v.iter().enumerate() {
        if !range.contains(value) {
            return None;
        }
        let code = (*value as u8) & ((1 << bits) - 1);
        out[i / per_byte] |= code << (i % per_byte * bits);
    }
    Some(out)
}

/// Floats round to nearest even; to integers they are cut off and must be in range.
fn floats_to(to: DType, v: &[f64]) -> Option<Vec<u8>> {
    let half16 = |v: &f64| half::f16::from_f64(*v).to_bits().to_le_bytes();
    let bhalf16 = |v: &f64| half::bf16::from_f64(*v).to_bits().to_le_bytes();
    Some(match to {
        DType::F64 => bytes_of!(v, f64),
        DType::F32 => bytes_of!(v, f32),
        DType::F16 => v.iter().flat_map(half16).collect(),
        DType::BF16 => v.iter().flat_map(bhalf16).collect(),
        DType::Bool => v.iter().map(|&v| u8::from(v != 0.0)).collect(),
        _ if to.is_int() => {
            let (lo, hi) = float_range(to);
            let cut = |v: &f64| {
                let whole = v.trunc();
                (whole >= lo && whole < hi).then_some(whole as i128)
            };
            let whole: Option<Vec<i128>> = v.iter().map(cut).collect();
            return ints_to(to, &whole?);
        }
        _ => return None,
    })
}

/// Least value of an integer type, and the first above it, as exact floats.
fn float_range(to: DType) -> (f64, f64) {
    let bits = to.bits() as i32;
    let signed =
        matches!(to, DType::I8 | DType::I16 | DType::I32 | DType::I64 | DType::I4 | DType::I2);
    let half = 2f64.powi(bits - 1);
    if signed { (-half, half) } else { (0.0, half * 2.0) }
}
