//! Arithmetic on weights, in double precision and rounded once.

use std::iter::repeat;

use multiversion::multiversion;
use rayon::prelude::*;

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

/// A finite number became one beyond the limit. Without a way out, one instruction tells of several.
#[inline(always)]
fn leaves(before: f64, after: f64, limit: f64) -> bool {
    before.is_finite() & (after.is_nan() | (after.abs() > limit))
}

/// As [`scale_blocks`], from little-endian elements; false when one of them left the range.
fn scale_f32(raw: &[u8], out: &mut [f32], block: usize, factors: &[f64]) -> bool {
    /// About so many elements are worth a task of their own.
    const TASK: usize = 1 << 16;
    let row = if block == 1 { factors.len() } else { block };
    let rows = (TASK / row).max(1);
    let scale = |(i, (from, to)): (usize, (&[[u8; 4]], &mut [f32]))| {
        let mut kept = true;
        for (j, (from, to)) in from.chunks(row).zip(to.chunks_mut(row)).enumerate() {
            kept &= match block {
                1 => scale_row(from, to, factors.iter().copied()),
                _ => scale_row(from, to, repeat(factors[(i * rows + j) % factors.len()])),
            };
        }
        kept
    };
    let (from, task) = (raw.as_chunks().0, rows * row);
    if from.len() <= task {
        return scale((0, (from, out)));
    }
    let tasks = from.par_chunks(task).zip(out.par_chunks_mut(task)).enumerate();
    tasks.map(scale).reduce(|| true, |a, b| a & b)
}

/// Scales a row by a factor for each element.
#[multiversion(targets = "simd")]
fn scale_row<I: Iterator<Item = f64>>(from: &[[u8; 4]], to: &mut [f32], factors: I) -> bool {
    let mut left = false;
    for ((from, to), by) in from.iter().zip(to).zip(factors) {
        let v = f64::from(f32::from_le_bytes(*from));
        let scaled = v * by;
        left |= leaves(v, scaled, f64::from(f32::MAX));
        *to = scaled as f32;
    }
    !left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_elements_are_scaled_as_few_are() {
        // More than a task, and its rows do not end with it.
        for (dims, block) in [([3, 40_000], 40_000), ([400, 301], 301), ([301, 400], 1)] {
            let len: usize = dims.iter().product();
            let data: Vec<f32> = (0..len).map(|i| (i % 1013) as f32 - 500.0).collect();
            let factors: Vec<f64> = (0..dims[usize::from(block == 1)])
                .map(|i| f64::from(u32::try_from(i).expect("few")) / 7.0)
                .collect();
            let scaled = scale_blocks(&Tensor::of(&dims, &data), block, &factors).expect("fits");
            let want =
                |(i, x): (usize, &f32)| (f64::from(*x) * factors[i / block % factors.len()]) as f32;
            let want: Vec<f32> = data.iter().enumerate().map(want).collect();
            assert_eq!(scaled.to_f32(), Some(want), "{dims:?}");
        }
    }

    #[test]
    fn only_finite_elements_must_stay_finite() {
        let mut data = vec![1.0f32; 200_000];
        (data[3], data[5]) = (f32::INFINITY, f32::NAN);
        assert!(scale_blocks(&Tensor::vector(&data), 200_000, &[2.0]).is_some());
        data[199_999] = f32::MAX;
        assert!(scale_blocks(&Tensor::vector(&data), 200_000, &[2.0]).is_none());
    }
}
