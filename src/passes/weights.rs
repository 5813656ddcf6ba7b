//! Arithmetic on weights, in double precision and rounded once.

use crate::ir::{DType, Tensor};

/// A float tensor with these elements, rounded to `dtype`; `None` when one of them is not finite
/// there or the type is no float of 16 to 64 bits.
pub(crate) fn float_tensor(dtype: DType, dims: &[usize], data: &[f64]) -> Option<Tensor> {
    let finite = |v: f64| match dtype {
        DType::F64 => v.is_finite(),
        DType::F16 => half::f16::from_f64(v).is_finite(),
        DType::BF16 => half::bf16::from_f64(v).is_finite(),
        _ => (v as f32).is_finite(),
    };
    if !data.iter().all(|&v| finite(v)) {
        return None;
    }
    match dtype {
        DType::F64 => Some(Tensor::of(dims, data)),
        _ => {
            let narrow: Vec<f32> = data.iter().map(|&v| v as f32).collect();
            Tensor::from_f32(dtype, dims, &narrow)
        }
    }
}

/// The tensor with block `i` of `block` elements multiplied by factor `i`; the factors start again
/// where they end. `None` when a finite element leaves the range of the type.
pub(super) fn scale_blocks(t: &Tensor, block: usize, factors: &[f64]) -> Option<Tensor> {
    if t.is_empty() || block == 0 || factors.is_empty() {
        return Some(t.clone());
    }
    if t.dtype() == DType::F32 {
        let (raw, mut in_range) = (t.raw()?, true);
        let scaled = Tensor::build(t.dims(), |out: &mut [f32]| {
            in_range = scale_f32(raw, out, block, factors);
        });
        return scaled.filter(|_| in_range);
    }
    let limit = match t.dtype() {
        DType::F16 => f64::from(half::f16::MAX),
        DType::BF16 => f64::from(half::bf16::MAX),
        _ => f64::MAX,
    };
    let mut data = t.to_f64().filter(|_| t.dtype().is_float())?;
    for (chunk, by) in data.chunks_mut(block).zip(factors.iter().cycle()) {
        for v in chunk {
            let scaled = *v * by;
            if leaves(*v, scaled, limit) {
                return None;
            }
            *v = scaled;
        }
    }
    if t.dtype() == DType::F64 {
        return Some(Tensor::of(t.dims(), &data));
    }
    let narrow: Vec<f32> = data.iter().map(|&v| v as f32).collect();
    Tensor::from_f32(t.dtype(), t.dims(), &narrow)
}

/// A finite number became one beyond the limit.
fn leaves(before: f64, after: f64, limit: f64) -> bool {
    before.is_finite() && (after.is_nan() || after.abs() > limit)
}

/// As [`scale_blocks`], from little-endian elements; false when one of them left the range.
fn scale_f32(raw: &[u8], out: &mut [f32], block: usize, factors: &[f64]) -> bool {
    const LIMIT: f64 = f32::MAX as f64;
    let mut left = false;
    let mut scale = |from: &[u8], to: &mut f32, by: f64| {
        let v = bytemuck::pod_read_unaligned::<f32>(from);
        let scaled = f64::from(v) * by;
        left |= v.is_finite() & (scaled.is_nan() | (scaled.abs() > LIMIT));
        *to = scaled as f32;
    };
    if block == 1 {
        let rows = raw.chunks(4 * factors.len()).zip(out.chunks_mut(factors.len()));
        for (from, to) in rows {
            let row = from.chunks_exact(4).zip(to).zip(factors);
            row.for_each(|((from, to), by)| scale(from, to, *by));
        }
    } else {
        let blocks = raw.chunks(4 * block).zip(out.chunks_mut(block));
        for ((from, to), by) in blocks.zip(factors.iter().cycle()) {
            from.chunks_exact(4).zip(to).for_each(|(from, to)| scale(from, to, *by));
        }
    }
    !left
}
