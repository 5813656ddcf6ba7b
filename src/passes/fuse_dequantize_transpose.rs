//! # fuse-dequantize-transpose
//!
//! ## What it does
//! Stores quantized weights as a Transpose of the dequantized ones would arrange them, so that the
//! DequantizeLinear stands right before its reader, where runtimes look for it.
//!
//! ## Before/after
//! ```text
//! b = DequantizeLinear <axis = 0> (w, s)   y = DequantizeLinear <axis = 1> (v, s)
//! y = Transpose <perm = [1,0]> (b)
//! ```
//!
//! ## When it applies
//! The weights are constant integers, or constant floats that a QuantizeLinear reads, and nothing else
//! reads them on the way; one scale for all or one for each index of an axis.
//!
//! ## What it preserves
//! Elements: dequantizing and moving them commute. Names of results.
//!
//! ## Limits
//! Scales for blocks, and elements of 4 bits, stay.

use super::pattern::{is_private, operand, result, sole_maker};
use crate::ir::{Graph, Miss, Op, OpId, Patch, Ref, Tensor, ValueId};
use crate::ops::{self, EvalCx, normalize_axis};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct FuseDequantizeTranspose;

static INFO: PassInfo = PassInfo {
    name: "fuse-dequantize-transpose",
    summary: "store quantized weights as the Transpose after them would arrange them",
    semantics: Semantics::Exact,
    source: include_str!("fuse_dequantize_transpose.rs"),
};

impl Rewrite for FuseDequantizeTranspose {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Transpose"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        let dq = sole_maker(g, operand(g, at, 0)?, &["DequantizeLinear"]);
        let dq = dq.ok_or("no DequantizeLinear before it alone")?;
        let quantize = sole_maker(g, operand(g, dq, 0)?, &["QuantizeLinear"]);
        let chain: Vec<OpId> = quantize.into_iter().chain([dq]).collect();
        let weights = operand(g, chain[0], 0)?;
        let data = g.const_tensor(weights).filter(|_| is_private(g, weights));
        let data = data.ok_or("the weights are not constant, or something else reads them")?;
        if data.dtype().bits() < 8 {
            return Err("elements share bytes".into());
        }
        let perm = permutation(g, at, data.rank()).ok_or("a wrong permutation")?;
        let moved = transposed(g.op(at), data, site).ok_or("nothing transposes the weights")?;
        let mut patch = Patch::at(at);
        patch.frees(g, weights);
        let mut v = patch.constant(g.value(weights).name(), moved);
        for (i, op) in chain.iter().enumerate() {
            let last = i + 1 == chain.len();
            let target = if last { result(g, at)? } else { result(g, *op)? };
            v = copy(g, *op, v, target, &perm, last, &mut patch)?;
        }
        patch.remove(at);
        Ok(patch)
    }
}

/// The permutation of a Transpose, as indices.
fn permutation(g: &Graph, at: OpId, rank: usize) -> Option<Vec<usize>> {
    match g.op(at).ints("perm") {
        None => Some((0..rank).rev().collect()),
        Some(perm) if perm.len() == rank => {
            perm.iter().map(|&p| usize::try_from(p).ok().filter(|p| *p < rank)).collect()
        }
        Some(_) => None,
    }
}

fn transposed(op: &Op, data: &Tensor, site: &Site) -> Option<Tensor> {
    let eval = ops::schema(op)?.eval?;
    let operands = [Some(data)];
    let cx = EvalCx { op, opset: site.opset, operands: &operands, max_bytes: data.byte_len() };
    eval(&cx)?.into_iter().next()
}

/// Plans the same Q or DQ op of transposed data, along the axis where its scales are now.
fn copy(
    g: &Graph,
    old: OpId,
    data: Ref,
    target: ValueId,
    perm: &[usize],
    last: bool,
    patch: &mut Patch,
) -> Result<Ref, Miss> {
    let mut op = g.op(old).clone();
    let scale: ValueId = operand(g, old, 1)?;
    let single = match g.value(scale).shape().map(Vec::as_slice) {
        Some([]) => true,
        Some([one]) => one.size() == Some(1),
        _ => false,
    };
    let per_axis = g.value(scale).rank() == Some(1) && op.int_or("block_size", 0) == 0;
    if !single {
        let axis = normalize_axis(op.int_or("axis", 1), perm.len()).filter(|_| per_axis);
        let axis = axis.ok_or("the scales are for blocks")?;
        let moved = perm.iter().position(|p| *p == axis).ok_or("a wrong permutation")?;
        op.set_attr("axis", moved as i64);
    }
    op.captures.clear();
    let mut operands = vec![Some(data)];
    operands.extend(g.operands(old).into_iter().skip(1).map(|v| v.map(Ref::Old)));
    let made = if last { target.into() } else { patch.value(g.value(target).name(), None) };
    patch.op_into(op, operands, vec![Some(made)]);
    Ok(made)
}
