//! Samples to what a model's input takes.

use std::path::Path;

use super::DataError;
use crate::engine::InputSpec;
use crate::ir::{DType, Dim, Tensor};

/// Samples that the model takes at once: the first axis of its inputs, when that is fixed.
pub(super) fn batch_of(specs: &[InputSpec]) -> usize {
    let firsts: Vec<Option<usize>> =
        specs.iter().map(|s| s.shape.as_ref()?.first()?.size()).collect();
    match firsts.first() {
        Some(Some(n)) if firsts.iter().all(|f| *f == Some(*n)) => (*n).max(1),
        _ => 1,
    }
}

/// Gives samples, one after the other in `samples`, the type, rank and sizes that the input takes.
pub(super) fn fit(samples: &[Tensor], spec: &InputSpec, path: &Path) -> Result<Tensor, DataError> {
    let first = &samples[0];
    let wrong = |got: &Tensor| DataError::Shape {
        input: spec.name.clone(),
        want: spec.describe(),
        got: format!("samples of {}{:?}", got.dtype(), got.dims()),
        path: path.to_owned(),
    };
    let rank = spec.shape.as_ref().map(Vec::len);
    let joined = match rank {
        Some(r) if r == first.rank() && samples.len() == 1 => first.clone(),
        Some(r) if r != first.rank() + 1 => return Err(wrong(first)),
        _ => stack(samples).ok_or_else(|| wrong(first))?,
    };
    let fits = |(dim, &n): (&Dim, &usize)| dim.size().is_none_or(|d| d == n);
    if spec.shape.as_ref().is_some_and(|s| !s.iter().zip(joined.dims()).all(fits)) {
        return Err(wrong(first));
    }
    match spec.dtype {
        Some(want) if want != joined.dtype() => convert(&joined, want).ok_or_else(|| wrong(first)),
        _ => Ok(joined),
    }
}

/// Equal tensors along a new first axis.
fn stack(samples: &[Tensor]) -> Option<Tensor> {
    let first = &samples[0];
    let mut dims = vec![samples.len()];
    dims.extend_from_slice(first.dims());
    if samples.len() == 1 {
        return first.reshaped(dims);
    }
    let mut bytes = Vec::with_capacity(first.byte_len() * samples.len());
    for s in samples {
        if s.dims() != first.dims() {
            return None;
        }
        bytes.extend_from_slice(s.raw()?);
    }
    Tensor::new(first.dtype(), dims, bytes.into()).ok()
}

/// Another element type, where numbers keep their meaning: between floats, between integers, and
/// integers to floats.
fn convert(t: &Tensor, to: DType) -> Option<Tensor> {
    if to.is_float() {
        let numbers: Vec<f32> = match t.dtype().is_float() {
            true => t.to_f32()?,
            false => t.to_i64()?.into_iter().map(|v| v as f32).collect(),
        };
        return Tensor::from_f32(to, t.dims(), &numbers);
    }
    if t.dtype().is_float() {
        return None;
    }
    fn narrow<T: crate::ir::Element + TryFrom<i64>>(dims: &[usize], v: &[i64]) -> Option<Tensor> {
        let v: Option<Vec<T>> = v.iter().map(|&x| T::try_from(x).ok()).collect();
        Some(Tensor::of(dims, &v?))
    }
    let (dims, v) = (t.dims(), t.to_i64()?);
    match to {
        DType::I64 => narrow::<i64>(dims, &v),
        DType::I32 => narrow::<i32>(dims, &v),
        DType::I16 => narrow::<i16>(dims, &v),
        DType::I8 => narrow::<i8>(dims, &v),
        DType::U64 => narrow::<u64>(dims, &v),
        DType::U32 => narrow::<u32>(dims, &v),
        DType::U16 => narrow::<u16>(dims, &v),
        DType::U8 => narrow::<u8>(dims, &v),
        DType::Bool => {
            let bytes: Vec<u8> = v.iter().map(|&x| u8::from(x != 0)).collect();
            Tensor::new(DType::Bool, dims.to_vec(), bytes.into()).ok()
        }
        _ => None,
    }
}
