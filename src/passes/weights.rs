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

/// The tensor with each block of `block` elements multiplied by the factor that `factor` gives for
/// the number of the block. `None` when a finite element leaves the range of the type.
pub(super) fn scale_blocks(
    t: &Tensor,
    block: usize,
    factor: impl Fn(usize) -> f64,
) -> Option<Tensor> {
    if t.is_empty() || block == 0 {
        return Some(t.clone());
    }
    if t.dtype() == DType::F64 {
        let mut data = t.to_vec::<f64>()?;
        for (i, chunk) in data.chunks_mut(block).enumerate() {
            let by = factor(i);
            for v in chunk {
                let scaled = *v * by;
                if v.is_finite() && !scaled.is_finite() {
                    return None;
                }
                *v = scaled;
            }
        }
        return Some(Tensor::of(t.dims(), &data));
    }
    let limit = match t.dtype() {
        DType::F16 => f64::from(half::f16::MAX),
        DType::BF16 => f64::from(half::bf16::MAX),
        _ => f64::from(f32::MAX),
    };
    let mut data = t.to_f32()?;
    for (i, chunk) in data.chunks_mut(block).enumerate() {
        let by = factor(i);
        for v in chunk {
            let scaled = f64::from(*v) * by;
            if v.is_finite() && (scaled.is_nan() || scaled.abs() > limit) {
                return None;
            }
            *v = scaled as f32;
        }
    }
    Tensor::from_f32(t.dtype(), t.dims(), &data)
}
