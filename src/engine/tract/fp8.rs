//! FP8 activations, which tract has no type for: a QuantizeLinear to E4M3 and the DequantizeLinear behind
//! it become a division, a rounding in float32, and a product. That is what they are for ONNX Runtime, too.

use std::collections::BTreeSet;

use tract_onnx::Onnx;
use tract_onnx::tract_core::{self, internal::*};
use tract_onnx::tract_hir::ops::element_wise::ElementWiseIntoHir;

use crate::ir::{DType, Graph, Op, OpId, Slot, Value, ValueId, e4m3};

/// The domain of the rounding.
pub(super) const DOMAIN: &str = "ai.lapidary.engine";
/// The operator that rounds.
pub(super) const ROUND: &str = "RoundToE4M3";

tract_core::element_wise!(round_to_e4m3, RoundToE4M3,
    [f32] => |_, xs| {
        xs.iter_mut().for_each(|x| *x = e4m3::decode(e4m3::encode(*x)));
        Ok(())
    };
    prefix: "lapidary."
);

/// Adds the rounding to a front end.
pub(super) fn register(onnx: &mut Onnx) {
    onnx.op_register.insert(ROUND, |_, _| Ok((round_to_e4m3().into_hir(), vec![])));
}

/// A QuantizeLinear and what reads it.
struct Pair {
    quantize: OpId,
    scale: ValueId,
    readers: BTreeSet<OpId>,
}

/// There are such pairs.
pub(super) fn any(g: &Graph) -> bool {
    g.ops().any(|op| pair(g, op).is_some())
}

/// Writes them in float32.
pub(super) fn widen(g: &mut Graph) {
    let pairs: Vec<Pair> = g.order().into_iter().filter_map(|op| pair(g, op)).collect();
    for Pair { quantize, scale, readers } in pairs {
        let Some(x) = g.operand(quantize, 0) else { continue };
        let (ty, name) = (g.value(x).ty.clone(), g.value(x).name().to_owned());
        let mut value = |what: &str| g.add_value(Value::new(format!("{name}_{what}"), ty.clone()));
        let (divided, rounded) = (value("divided"), value("e4m3"));
        let at = Some(quantize);
        g.add_op(Op::new("Div"), &[Some(x), Some(scale)], &[Some(divided)], at);
        let mut round = Op::new(ROUND);
        round.domain = DOMAIN.to_owned();
        g.add_op(round, &[Some(divided)], &[Some(rounded)], at);
        let mut read: Vec<ValueId> = g.reads(quantize).collect();
        for dequantize in readers {
            let y = g.result(dequantize, 0);
            read.extend(g.reads(dequantize));
            g.remove_op(dequantize);
            g.add_op(Op::new("Mul"), &[Some(rounded), Some(scale)], &[y], at);
        }
        g.remove_op(quantize);
        g.remove_dead(read);
    }
}

fn pair(g: &Graph, quantize: OpId) -> Option<Pair> {
    let plain =
        |op: OpId, op_type: &str| g.op(op).is(op_type) && g.op(op).attr("output_dtype").is_none();
    // Symmetric, per tensor, of float32.
    let scale = |op: OpId| {
        let (scale, zero) = (g.operand(op, 1)?, g.const_operand(op, 2)?);
        let value = g.const_tensor(scale)?;
        let symmetric = zero.dtype() == DType::F8E4M3FN && zero.raw()?.iter().all(|b| *b == 0);
        let by = value.single().filter(|_| symmetric && value.dtype() == DType::F32)?;
        Some((scale, by))
    };
    let saturates = plain(quantize, "QuantizeLinear") && g.op(quantize).int_or("saturate", 1) == 1;
    saturates.then_some(())?;
    let (scale_value, by) = scale(quantize)?;
    let (x, q) = (g.operand(quantize, 0)?, g.result(quantize, 0)?);
    let float = g.value(x).dtype().is_none_or(|d| d == DType::F32) && !g.is_output(q);
    // A scale of one dim would give a scalar one.
    let rank = g.const_tensor(scale_value)?.rank();
    let same = rank == 0 || (rank == 1 && g.value(x).rank() != Some(0));
    let fits = |op: OpId, slot: Slot| {
        slot == Slot::Operand(0)
            && plain(op, "DequantizeLinear")
            && scale(op).is_some_and(|s| s.1 == by)
    };
    let uses = g.uses(q);
    let all = float && same && !uses.is_empty() && uses.iter().all(|(op, slot)| fits(*op, *slot));
    let readers = uses.iter().map(|u| u.0).collect();
    all.then_some(Pair { quantize, scale: scale_value, readers })
}
