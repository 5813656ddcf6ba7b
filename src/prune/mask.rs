//! Masking: the original with zeros where the removed channels are consumed. What is left computes
//! what the pruned model computes, which is how cuts are proven.

use super::groups::Groups;
use super::lanes::{Lane, LaneId, Reader};
use crate::engine::eval_op;
use crate::ir::{DType, Graph, Op, OpId, Slot, Tensor, ValueId};
use crate::ops;
use crate::ops::axes::{Axes, AxisRef};

/// Fills the slices that consume the marked classes with zeros: the model that cutting them must
/// equal.
pub(super) fn mask_consumers(g: &mut Graph, groups: &Groups, gone: &[bool]) {
    let mut sinks: Vec<LaneId> = groups.sinks.iter().map(|s| s.0).collect();
    sinks.sort_unstable();
    sinks.dedup();
    for id in sinks {
        let lane = groups.lanes.get(id);
        let (Some(t), classes) = (g.const_tensor(lane.value), groups.classes(id)) else { continue };
        let dead: Vec<bool> = classes.iter().map(|c| gone[*c as usize]).collect();
        if dead.contains(&true)
            && let Some(t) = zeroed(t, lane, &dead, zero_byte(g, lane))
        {
            g.set_data(lane.value, t);
        }
    }
}

/// Lanes of the marked classes whose maker makes something else of zero channels: it adds a constant to
/// all channels, or is an activation with f(0) ≠ 0. With these zeroed as well, besides what
/// [`mask_makers`] zeroes, the channels are zero wherever they go, and what reads them reads nothing.
pub(super) fn shifted(g: &Graph, groups: &Groups, gone: &[bool]) -> Vec<LaneId> {
    let lost = |id| groups.classes(id).iter().any(|c| gone[*c as usize]);
    groups.lanes.ids().filter(|id| lost(*id) && !keeps_zero(g, groups, *id)).collect()
}

/// Multiplies the values of lanes with zeros for the marked classes.
pub(super) fn mask_lanes(
    g: &mut Graph,
    groups: &Groups,
    lanes: impl Iterator<Item = LaneId>,
    gone: &[bool],
) {
    for id in lanes {
        let lane = groups.lanes.get(id);
        let Some(maker) = g.producer_op(lane.value) else { continue };
        let Some((mask, masked)) = mask(g, groups, id, lane.value, lane.axis, gone) else {
            continue;
        };
        let uses = g.uses(lane.value).into_iter();
        let divides = |(op, slot): &(OpId, Slot)| g.op(*op).is("Div") && *slot == Slot::Operand(1);
        let quotients: Vec<OpId> = uses.filter(divides).map(|u| u.0).collect();
        g.replace_uses(lane.value, masked);
        // Zero divided by what it was stays zero; by zero it would be no number.
        for op in quotients {
            g.set_operand(op, 1, Some(lane.value));
        }
        g.add_op(Op::new("Mul"), &[Some(lane.value), Some(mask)], &[Some(masked)], Some(maker));
    }
}

/// What makes the lane gives zeros for channels whose makers are zero.
fn keeps_zero(g: &Graph, groups: &Groups, id: LaneId) -> bool {
    let lane = groups.lanes.get(id);
    let Some(op) = g.producer_op(lane.value) else { return true };
    let node = g.op(op);
    match (ops::any_schema(node).map(|s| s.axes), node.op_type.as_str()) {
        (Some(Axes::Elementwise), "Mul" | "Div" | "PRelu") => true,
        (Some(Axes::Elementwise), _) => at_zero(g, groups, op, lane),
        (
            _,
            "Gemm" | "FusedGemm" | "Conv" | "FusedConv" | "ConvTranspose" | "LayerNormalization",
        ) => g.operand(op, 2).is_none_or(|summand| runs_along(g, groups, id, (op, 2), summand)),
        (_, "Softmax" | "LogSoftmax" | "ReduceLogSum" | "ReduceLogSumExp") => false,
        (_, "Pad") => {
            node.str("mode").is_some_and(|m| m != "constant") || g.operand(op, 2).is_none()
        }
        _ => true,
    }
}

/// The channels of the lane run along an axis of the operand.
fn runs_along(g: &Graph, groups: &Groups, id: LaneId, reader: Reader, value: ValueId) -> bool {
    let Some(class) = groups.classes(id).first() else { return false };
    let axes = 0..g.value(value).rank().unwrap_or(0);
    let mut lanes = axes.filter_map(|axis| groups.lanes.find(g, value, axis, Some(reader)));
    lanes.any(|lane| groups.classes(lane).contains(class))
}

/// An elementwise op of zeros and single constants is zero.
fn at_zero(g: &Graph, groups: &Groups, op: OpId, lane: &Lane) -> bool {
    let Some(rank) = g.value(lane.value).rank() else { return false };
    let operand = |slot: usize| -> Option<Option<Tensor>> {
        let Some(value) = g.operand(op, slot) else { return Some(None) };
        let axis = g.value(value).rank().and_then(|own| (lane.axis + own).checked_sub(rank));
        let with = axis.and_then(|axis| groups.lanes.find(g, value, axis, Some((op, slot))));
        let zero = match (with, g.const_tensor(value)) {
            (Some(id), Some(_)) => shifts(g, groups.lanes.get(id)),
            (with, _) => with.is_some(),
        };
        let one = match g.const_tensor(value) {
            _ if zero => Tensor::from_f32(g.value(value).dtype()?, &[], &[0.0])?,
            Some(t) if t.len() == 1 => Tensor::new(t.dtype(), vec![], t.raw()?.clone()).ok()?,
            _ => return None,
        };
        Some(Some(one))
    };
    let Some(operands) = (0..g.op(op).arity()).map(operand).collect::<Option<Vec<_>>>() else {
        return false;
    };
    let operands: Vec<Option<&Tensor>> = operands.iter().map(Option::as_ref).collect();
    let results = eval_op(g.op(op), groups.opset, &operands, usize::MAX);
    let zero = |t: &Tensor| t.to_f64().is_some_and(|v| v.iter().all(|x| *x == 0.0));
    results.is_some_and(|all| all.iter().all(zero))
}

/// Fills what makes the marked classes with zeros: weights, biases, scales of normalizations.
pub(super) fn mask_makers(g: &mut Graph, groups: &Groups, gone: &[bool]) {
    let sources: Vec<LaneId> = groups.groups.iter().flat_map(|g| &g.sources).map(|s| s.0).collect();
    let sinks: Vec<LaneId> = groups.sinks.iter().map(|s| s.0).collect();
    for id in groups.lanes.ids() {
        let lane = groups.lanes.get(id);
        let makes = sources.contains(&id) || (!sinks.contains(&id) && shifts(g, lane));
        let Some(t) = g.const_tensor(lane.value).filter(|_| makes) else { continue };
        let dead: Vec<bool> = groups.classes(id).iter().map(|c| gone[*c as usize]).collect();
        if !dead.contains(&true) {
            continue;
        }
        let Some(data) = zeroed(t, lane, &dead, zero_byte(g, lane)) else { continue };
        match lane.reader {
            Some((op, slot)) if g.sole_use(lane.value).is_none() => {
                let name = g.value(lane.value).name().to_owned();
                let copy = g.add_const(&name, data);
                g.set_operand(op, slot, Some(copy));
            }
            _ => g.set_data(lane.value, data),
        }
    }
}

/// Whatever reads the constant adds it, or scales with it, channel by channel.
fn shifts(g: &Graph, lane: &Lane) -> bool {
    let reads = |op: OpId, slot: usize| {
        let kind = g.op(op).op_type.as_str();
        match kind {
            "Conv" | "ConvTranspose" | "Gemm" | "FusedConv" | "FusedGemm" | "Attention" => {
                slot == 2
            }
            "DeformConv" | "MultiHeadAttention" => slot == 3,
            "BiasGelu" | "FastGelu" => slot == 1,
            "SkipLayerNormalization" | "SkipSimplifiedLayerNormalization" => slot > 1,
            "BatchNormalization" => (1..4).contains(&slot),
            "InstanceNormalization" | "GroupNormalization" | "LayerNormalization" => slot > 0,
            "RMSNormalization" => slot > 0,
            "DequantizeLinear" => slot == 1,
            "LSTM" | "GRU" | "RNN" => matches!(slot, 2 | 3 | 5 | 6 | 7),
            "Add" | "Sub" | "Concat" => true,
            _ => false,
        }
    };
    match lane.reader {
        Some((op, slot)) => reads(op, slot),
        None => g.uses(lane.value).into_iter().all(|(op, slot)| match slot {
            Slot::Operand(slot) => reads(op, slot as usize),
            _ => false,
        }),
    }
}

/// Multiplies computed operands that meet the marked classes in a sum with zeros there; those in bodies
/// are left alone. `before` is the graph as it was.
pub(super) fn mask_pairs(g: &mut Graph, before: &Graph, groups: &Groups, gone: &[bool]) {
    let mut pairs = groups.pairs.clone();
    pairs.sort_unstable();
    pairs.dedup();
    for (lane, op, at) in pairs {
        let (AxisRef::Operand(slot, axis), true) = (at, before.has_op(op)) else { continue };
        let Some(value) = g.operand(op, slot) else { continue };
        let Some((mask, masked)) = mask(g, groups, lane, value, axis, gone) else { continue };
        g.add_op(Op::new("Mul"), &[Some(value), Some(mask)], &[Some(masked)], Some(op));
        g.set_operand(op, slot, Some(masked));
    }
}

/// A factor with zeros for the marked classes along `axis` of `value`, whose classes there are those of
/// the lane, and a value for the product; nothing when the value is no float or nothing is marked.
fn mask(
    g: &mut Graph,
    groups: &Groups,
    lane: LaneId,
    value: ValueId,
    axis: usize,
    gone: &[bool],
) -> Option<(ValueId, ValueId)> {
    let factor = |c: &u32| if gone[*c as usize] { 0.0 } else { 1.0f32 };
    let factors: Vec<f32> = groups.classes(lane).iter().map(factor).collect();
    let dtype: DType = g.value(value).dtype().filter(|d| d.is_float())?;
    let mut dims = vec![1; g.value(value).rank()?.checked_sub(axis)?];
    *dims.first_mut()? = factors.len();
    let factors = Tensor::from_f32(dtype, &dims, &factors).filter(|_| factors.contains(&0.0))?;
    Some((g.add_const("mask", factors), g.add_named("masked")))
}

/// What stands for zero in each byte of a constant: that of a quantized weight may be another.
fn zero_byte(g: &Graph, lane: &Lane) -> u8 {
    let readers = g.uses(lane.value).into_iter().filter_map(|(op, slot)| match slot {
        Slot::Operand(slot) => Some((op, slot as usize)),
        _ => None,
    });
    let mut zeros = readers.filter_map(|(op, slot)| {
        let quantized =
            ["DequantizeLinear", "MatMulInteger", "ConvInteger", "QLinearConv", "QLinearMatMul"];
        let known = quantized.contains(&g.op(op).op_type.as_str());
        let zero = g.const_operand(op, slot + 2).filter(|z| known && z.dtype().bits() == 8)?;
        zero.raw()?.first().copied()
    });
    match g.const_tensor(lane.value).map(Tensor::dtype) {
        Some(DType::I8 | DType::U8) => zeros.next().unwrap_or(0),
        _ => 0,
    }
}

fn zeroed(t: &Tensor, lane: &Lane, dead: &[bool], zero: u8) -> Option<Tensor> {
    let mut bytes = t.raw()?.to_vec();
    let width = t.dtype().bits() / 8;
    let n = t.dims()[lane.axis];
    let inner = t.dims()[lane.axis + 1..].iter().product::<usize>() * width;
    let outer: usize = t.dims()[..lane.axis].iter().product();
    let (rows, groups) = lane.part.map_or((0, 1), |p| (p.rows, p.groups));
    if inner == 0 || (groups > 1 && rows != 0) {
        return None;
    }
    for (at, slice) in bytes.chunks_mut(inner).enumerate() {
        let block = if groups > 1 { at / n / (outer / groups) } else { 0 };
        if dead[block * n + at % n] {
            slice.fill(zero);
        }
    }
    Tensor::new(t.dtype(), t.dims().to_vec(), bytes.into()).ok()
}
