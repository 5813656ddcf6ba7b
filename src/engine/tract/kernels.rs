//! Ops that tract computes slowly, computed otherwise.

use anyhow::Context;
use tract_onnx::prelude::*;
use tract_onnx::tract_core;
use tract_onnx::tract_core::internal::{EvalContext, OpState};
use tract_onnx::tract_core::ops::array::{Pad, PadMode};
use tract_onnx::tract_core::ops::cnn::OptMaxPool;
use tract_onnx::tract_core::ops::{downsample::Downsample, nn::Softmax};

use super::{softmax, strided};

/// What an op computes.
pub(super) fn eval(
    context: &EvalContext,
    state: Option<&mut (dyn OpState + 'static)>,
    node: &TypedNode,
    mut inputs: TVec<TValue>,
) -> TractResult<TVec<TValue>> {
    if let (Some(op), [input]) = (node.op_as::<Softmax>(), &inputs[..])
        && let Some(groups) = softmax::Groups::of(op, input)
    {
        let output = softmax::softmax(inputs.remove(0).into_tensor(), groups);
        return Ok(tvec!(output.with_context(|| format!("Evaluating {node}"))?.into_tvalue()));
    }
    if let [input] = &inputs[..]
        && let Some(made) = of_one(node, input)
    {
        return Ok(tvec!(made.into_tvalue()));
    }
    tract_core::plan::eval(context, state, node, inputs)
}

/// What an op of one input computes; `None` where that is left to tract.
fn of_one(node: &TypedNode, input: &Tensor) -> Option<Tensor> {
    if let Some(op) = node.op_as::<Pad>() {
        return padded(op, input);
    }
    if let Some(op) = node.op_as::<Downsample>() {
        return strided::downsampled(op, input);
    }
    strided::pooled(node.op_as::<OptMaxPool>()?, input)
}

/// The elements of a float32 tensor in their order.
pub(super) fn floats(tensor: &Tensor) -> Option<&[f32]> {
    let plain = tensor.datum_type() == DatumType::F32
        && tensor.is_plain_ram()
        && *tensor.strides() == *Tensor::natural_strides(tensor.shape());
    bytemuck::try_cast_slice(plain.then(|| tensor.as_bytes())?).ok()
}

/// Float32 with a constant around it, row by row; `None` for other types and modes.
fn padded(op: &Pad, input: &Tensor) -> Option<Tensor> {
    let PadMode::Constant(value) = &op.mode else { return None };
    let (dims, rank) = (input.shape(), op.pads.len());
    let from = floats(input).filter(|from| !from.is_empty() && rank == dims.len())?;
    let &(before, _) = op.pads.last()?;
    let value = value.cast_to_scalar::<f32>().ok()?;
    let wide: Vec<usize> = dims.iter().zip(&op.pads).map(|(d, (a, b))| d + a + b).collect();
    let mut out = Tensor::zero::<f32>(&wide).ok()?;
    let mut plain = out.try_as_plain_ram_mut().ok()?;
    let to = plain.as_slice_mut::<f32>().ok()?;
    if value != 0.0 {
        to.fill(value);
    }
    let row = dims[rank - 1];
    for (i, elements) in from.chunks_exact(row).enumerate() {
        let (mut rest, mut at, mut stride) = (i, before, wide[rank - 1]);
        for axis in (0..rank - 1).rev() {
            at += (rest % dims[axis] + op.pads[axis].0) * stride;
            (rest, stride) = (rest / dims[axis], stride * wide[axis]);
        }
        to[at..at + row].copy_from_slice(elements);
    }
    Some(out)
}
