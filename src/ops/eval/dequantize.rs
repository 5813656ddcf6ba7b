//! Quantized constants in float.

use crate::ir::{DType, Tensor, e4m3};

/// `(data - zero) * scale`, one scale for all, for each index of an axis or for each block along it.
pub(crate) fn dequantized(
    data: &Tensor,
    scale: &Tensor,
    zero: Option<&Tensor>,
    axis: i64,
    block: i64,
) -> Option<Tensor> {
    let codes = codes(data)?;
    let scales = scale.to_f32()?;
    let zeros = match zero {
        Some(z) => self::codes(z)?,
        None => vec![0.0],
    };
    let dims = data.dims();
    let at: Box<dyn Fn(usize) -> usize> = if scales.len() == 1 {
        Box::new(|_| 0)
    } else {
        let axis = usize::try_from(if axis < 0 { axis + dims.len() as i64 } else { axis }).ok()?;
        let (size, inner) = (*dims.get(axis)?, dims[axis + 1..].iter().product::<usize>().max(1));
        let block = usize::try_from(block).ok()?;
        if block == 0 {
            if scales.len() != size {
                return None;
            }
            Box::new(move |i| i / inner % size)
        } else {
            let blocks = size.div_ceil(block);
            let outer = codes.len() / (size * inner).max(1);
            if scales.len() != outer * blocks * inner {
                return None;
            }
            Box::new(move |i| {
                let (o, k, n) = (i / inner / size, i / inner % size, i % inner);
                (o * blocks + k / block) * inner + n
            })
        }
    };
    if zeros.len() != 1 && zeros.len() != scales.len() {
        return None;
    }
    let value = |(i, q): (usize, &f32)| {
        let k = at(i);
        (q - zeros[if zeros.len() == 1 { 0 } else { k }]) * scales[k]
    };
    let wide: Vec<f32> = codes.iter().enumerate().map(value).collect();
    Tensor::from_f32(scale.dtype(), dims, &wide)
}

/// Integers and FP8 numbers as they are.
pub(crate) fn codes(t: &Tensor) -> Option<Vec<f32>> {
    match t.dtype() {
        DType::F8E4M3FN => Some(t.raw()?.iter().map(|b| e4m3::decode(*b)).collect()),
        DType::I8 => Some(t.raw()?.iter().map(|b| f32::from(b.cast_signed())).collect()),
        d if d.is_int() => Some(t.to_i64()?.into_iter().map(|v| v as f32).collect()),
        _ => None,
    }
}
