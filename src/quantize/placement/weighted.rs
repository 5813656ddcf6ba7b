//! W1–W4, W9: what the linear operators are and along which axis their weights get scales.

use super::super::options::ConvTransposeAxis;
use crate::ir::{DType, Graph, OpId, Slot, ValueId};

/// A linear op with its operands told apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Linear {
    /// The op.
    pub op: OpId,
    /// Slot of the activation.
    pub input_slot: usize,
    /// The activation.
    pub input: ValueId,
    /// Slot of the weight.
    pub weight_slot: usize,
    /// The weight; constant unless the op multiplies two activations.
    pub weight: ValueId,
    /// Id of the rule that quantizes it.
    pub rule: &'static str,
}

/// The op as a linear op: Conv (W1), ConvTranspose (W2), Gemm (W3), MatMul with a constant operand
/// (W4) or of two activations (W5).
pub fn linear(g: &Graph, op: OpId) -> Option<Linear> {
    let node = g.op(op);
    if !node.domain.is_empty() {
        return None;
    }
    let rule = match node.op_type.as_str() {
        "Conv" => "W1",
        "ConvTranspose" => "W2",
        "Gemm" => "W3",
        "MatMul" => "W4",
        _ => return None,
    };
    let (a, b) = (g.operand(op, 0)?, g.operand(op, 1)?);
    let with = |input_slot, input, weight_slot, weight, rule| {
        Some(Linear { op, input_slot, input, weight_slot, weight, rule })
    };
    match (rule, g.is_const(a), g.is_const(b)) {
        (_, false, true) | ("W1" | "W2", ..) | ("W3", ..) => with(0, a, 1, b, rule),
        ("W4", true, false) => with(1, b, 0, a, rule),
        ("W4", ..) => with(0, a, 1, b, "W5"),
        _ => None,
    }
}

/// W9. A stored matrix that a linear op reads through a Transpose.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transposed {
    /// The Transpose.
    pub op: OpId,
    /// What is stored.
    pub value: ValueId,
    pub rank: usize,
}

/// The stored float32 matrix in front of the Transpose that makes the weight, when nothing else reads
/// that Transpose and no subgraph or output the matrix.
pub(super) fn transposed(g: &Graph, l: &Linear) -> Option<Transposed> {
    let op = g.producer_op(l.weight).filter(|op| g.op(*op).is("Transpose"))?;
    g.sole_use(l.weight)?;
    let value = g.operand(op, 0)?;
    let tensor = g.const_tensor(value)?;
    let captured = g.uses(value).iter().any(|(_, s)| matches!(s, Slot::Capture(_)));
    let fits = tensor.rank() == 2 && tensor.dtype() == DType::F32 && tensor.raw().is_some();
    let swaps = g.op(op).ints("perm").is_none_or(|p| p == [1, 0]);
    let matrix = matches!(l.rule, "W3" | "W5") && fits && swaps;
    (matrix && !captured && !g.is_output(value)).then_some(Transposed { op, value, rank: 2 })
}

impl Transposed {
    /// The axis of what is stored that becomes this axis of the weight.
    pub fn axis(&self, of_weight: Option<usize>) -> Option<usize> {
        of_weight.map(|a| self.rank - 1 - a)
    }
}

impl Linear {
    /// Axis of the weight along which it gets scales; `None` for one scale.
    pub fn axis(&self, g: &Graph, convtranspose: ConvTransposeAxis) -> Option<usize> {
        self.stored_axis(g, g.const_tensor(self.weight)?.rank(), convtranspose)
    }

    /// The same for a weight of this rank.
    pub(super) fn stored_axis(
        &self,
        g: &Graph,
        rank: usize,
        convtranspose: ConvTransposeAxis,
    ) -> Option<usize> {
        let axis = match (self.rule, convtranspose) {
            ("W1", _) | ("W2", ConvTransposeAxis::Input) => 0,
            ("W2", ConvTransposeAxis::Output) => 1,
            ("W3", _) => usize::from(g.op(self.op).int_or("transB", 0) == 0),
            ("W4" | "W5", _) if rank == 2 => usize::from(self.weight_slot == 1),
            _ => return None,
        };
        Some(axis).filter(|a| *a < rank)
    }

    /// Channels of the result and, for each of them, of the operand; rows summed over, for MatMul
    /// and Gemm.
    pub fn channels(&self, g: &Graph) -> Option<(usize, usize)> {
        let dims = g.const_tensor(self.weight)?.dims();
        let rank = dims.len();
        if rank < 2 {
            return None;
        }
        Some(match self.rule {
            "W1" => (dims[0], dims[1]),
            "W2" => (dims[1], dims[0]),
            "W3" if g.op(self.op).int_or("transB", 0) != 0 => (dims[0], dims[1]),
            _ if self.weight_slot == 0 => (dims[rank - 2], dims[rank - 1]),
            _ => (dims[rank - 1], dims[rank - 2]),
        })
    }
}
