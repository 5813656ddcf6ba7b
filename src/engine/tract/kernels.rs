//! Ops that tract computes slowly, computed otherwise.

use anyhow::Context;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::{EvalContext, OpState};
use tract_onnx::tract_core::{self, ops::array::Pad, ops::array::PadMode, ops::nn::Softmax};

use super::softmax;

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
    if let (Some(op), [input]) = (node.op_as::<Pad>(), &inputs[..])
        && let Some(padded) = padded(op, input)
    {
        return Ok(tvec!(padded.into_tvalue()));
    }
    tract_core::plan::eval(context, state, node, inputs)
}

/// Float32 with a constant around it, row by row; `None` for other types and modes.
fn padded(op: &Pad, input: &Tensor) -> Option<Tensor> {
    let PadMode::Constant(value) = &op.mode else { return None };
    let (dims, rank) = (input.shape(), op.pads.len());
    let float = input.datum_type() == DatumType::F32 && rank == dims.len();
    let &(before, _) = op.pads.last().filter(|_| float && input.len() > 0)?;
    let value = value.cast_to_scalar::<f32>().ok()?;
    let wide: Vec<usize> = dims.iter().zip(&op.pads).map(|(d, (a, b))| d + a + b).collect();
    let mut out = Tensor::zero::<f32>(&wide).ok()?;
    let (from, mut plain) = (input.as_bytes(), out.try_as_plain_ram_mut().ok()?);
    let (from, to) = (bytemuck::try_cast_slice(from).ok()?, plain.as_slice_mut::<f32>().ok()?);
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
