//! Constants that are stored in forms which tract lacks or is slow to read, as plain tensors: sparse ones,
//! and what DequantizeLinear reads, for types of four bits, FP8 and blocks, too.

use super::tensor;
use crate::ir::{Graph, Model, Op, OpId, Tensor, TensorData};
use crate::ops::dequantized;
use crate::pass::visit_model;
use crate::passes::lift_constants;

/// There are such constants.
pub(super) fn any(g: &Graph) -> bool {
    has_sparse(g) || g.ops().any(|op| is_foreign(g.op(op)) || quantized(g, op).is_some())
}

/// Gives them their data.
pub(super) fn unpack(m: &mut Model) {
    if has_sparse(&m.graph) {
        densify(m);
    }
    if m.graph.ops().any(|op| is_foreign(m.graph.op(op))) {
        lift_constants::lift(&mut m.graph);
    }
    dequantize(&mut m.graph);
}

/// A Constant of a type that tract lacks: as an initializer, it goes with those that read it.
fn is_foreign(op: &Op) -> bool {
    op.is("Constant") && op.tensor("value").is_some_and(|t| tensor::datum_type(t.dtype()).is_none())
}

fn has_sparse(g: &Graph) -> bool {
    let sparse = |t: &Tensor| matches!(t.data(), TensorData::Sparse(_));
    let of_op =
        |op: &Op| op.tensor("sparse_value").is_some_and(sparse) || op.bodies.iter().any(has_sparse);
    g.values().any(|v| g.initializer(v).is_some_and(sparse)) || g.ops().any(|op| of_op(g.op(op)))
}

/// Bytes that all sparse tensors of a model may take as dense ones.
const MAX_DENSE: usize = 1 << 31;

fn densify(m: &mut Model) {
    let mut room = MAX_DENSE;
    visit_model(m, &mut |g, _| {
        lift_constants::lift(g);
        for v in g.values().collect::<Vec<_>>() {
            if let Some(dense) = g.initializer(v).and_then(|t| t.to_dense(room)) {
                room -= dense.byte_len();
                g.set_data(v, dense);
            }
        }
    });
}

fn dequantize(g: &mut Graph) {
    for op in g.order() {
        let Some((data, scale, zero)) = quantized(g, op) else { continue };
        let node = g.op(op);
        let (axis, block) = (node.int_or("axis", 1), node.int_or("block_size", 0));
        let wide = dequantized(data, scale, zero, axis, block);
        let Some((y, wide)) = g.result(op, 0).zip(wide) else { continue };
        let read = g.reads(op).collect();
        g.set_data(y, wide);
        g.remove_op(op);
        g.remove_dead(read);
    }
}

/// Data, scale and zero point of a DequantizeLinear, all constant.
fn quantized(g: &Graph, op: OpId) -> Option<(&Tensor, &Tensor, Option<&Tensor>)> {
    let node = g.op(op);
    let known = node.op_type == "DequantizeLinear"
        && ["", "com.microsoft"].contains(&&node.domain[..])
        && node.attr("output_dtype").is_none()
        && !g.is_output(g.result(op, 0)?);
    let (data, scale) = (g.const_operand(op, 0).filter(|_| known)?, g.const_operand(op, 1)?);
    match g.operand(op, 2) {
        None => Some((data, scale, None)),
        Some(zero) => Some((data, scale, Some(g.const_tensor(zero)?))),
    }
}
