//! Ops that read every other element, row by row: tract goes from one element to the next.

use multiversion::multiversion;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::cnn::{OptMaxPool, PaddingSpec};
use tract_onnx::tract_core::ops::downsample::Downsample;
use tract_onnx::tract_core::ops::nn::DataFormat;

use super::kernels::floats;

/// Float32 of which every few indices of an axis stay; `None` for what is left to tract.
pub(super) fn downsampled(op: &Downsample, input: &Tensor) -> Option<Tensor> {
    let (dims, stride) = (input.shape(), usize::try_from(op.stride).ok().filter(|s| *s > 0)?);
    let (from, &dim) = (floats(input).filter(|x| !x.is_empty())?, dims.get(op.axis)?);
    let kept = dim.checked_sub(op.modulo)?.div_ceil(stride);
    let inner: usize = dims[op.axis + 1..].iter().product();
    let mut shape = dims.to_vec();
    shape[op.axis] = kept;
    let mut out = Tensor::zero::<f32>(&shape).ok()?;
    let mut to = out.try_as_plain_ram_mut().ok()?;
    let to = to.as_slice_mut::<f32>().ok()?;
    if kept > 0 {
        let rows = from.chunks_exact(dim * inner).zip(to.chunks_exact_mut(kept * inner));
        rows.for_each(|(from, to)| pick(&from[op.modulo * inner..], inner, stride, to));
    }
    Some(out)
}

/// Every few runs of `inner` elements, from the first on.
fn pick(from: &[f32], inner: usize, stride: usize, to: &mut [f32]) {
    if inner == 1 {
        return to.iter_mut().enumerate().for_each(|(i, x)| *x = from[i * stride]);
    }
    for (i, run) in to.chunks_exact_mut(inner).enumerate() {
        run.copy_from_slice(&from[i * stride * inner..][..inner]);
    }
}

/// Maxima of squares of two by two pixels side by side, of float32 with the channels first; `None` for
/// what is left to tract.
pub(super) fn pooled(op: &OptMaxPool, input: &Tensor) -> Option<Tensor> {
    let spec = &op.pool_spec;
    let two = |sizes: &[usize]| *sizes == [2, 2];
    let unpadded = match &spec.padding {
        PaddingSpec::Valid => true,
        PaddingSpec::Explicit(before, after)
        | PaddingSpec::ExplicitOnnxPool(before, after, false) => {
            before.iter().chain(after).all(|pad| *pad == 0)
        }
        _ => false,
    };
    let apart = two(&spec.kernel_shape) && spec.strides.as_deref().is_some_and(two);
    let dense = spec.dilations.iter().flatten().all(|d| *d == 1);
    let plain = spec.data_format == DataFormat::NCHW && op.with_index_outputs.is_none();
    let &[n, channels, height, width] = input.shape() else { return None };
    let from = floats(input).filter(|_| unpadded && apart && dense && plain)?;
    let (rows, columns) = (height / 2, width / 2);
    let mut out = Tensor::zero::<f32>(&[n, channels, rows, columns]).ok()?;
    let mut to = out.try_as_plain_ram_mut().ok()?;
    let to = to.as_slice_mut::<f32>().ok()?;
    if !to.is_empty() {
        let planes = from.chunks_exact(height * width).zip(to.chunks_exact_mut(rows * columns));
        planes.for_each(|(from, to)| pool(from, width, to));
    }
    Some(out)
}

/// Pools a plane of rows of `width` pixels.
#[multiversion(targets = "simd")]
fn pool(from: &[f32], width: usize, to: &mut [f32]) {
    let columns = width / 2;
    for (pair, to) in from.chunks_exact(2 * width).zip(to.chunks_exact_mut(columns)) {
        let (above, below) = pair.split_at(width);
        let (above, below) =
            (&above.as_chunks::<2>().0[..columns], &below.as_chunks::<2>().0[..columns]);
        for i in 0..to.len() {
            // As tract has it, NaN is not larger than anything.
            let [a, b, c, d] = [above[i][0], above[i][1], below[i][0], below[i][1]];
            let larger = |most: f32, x: f32| if most < x { x } else { most };
            to[i] = [a, b, c, d].into_iter().fold(f32::MIN, larger);
        }
    }
}
