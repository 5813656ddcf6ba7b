//! Masking: the original with zeros where the removed channels are consumed. What is left computes
//! what the pruned model computes, which is how cuts are proven.

use super::groups::Groups;
use super::lanes::{Lane, LaneId};
use crate::ir::{DType, Graph, Op, OpId, Slot, Tensor};
use crate::ops::axes::AxisRef;

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
            && let Some(t) = zeroed(t, lane, &dead)
        {
            g.set_data(lane.value, t);
        }
    }
}

/// Fills what makes the marked classes with zeros: weights, biases, scales of normalizations. The
/// channels are zero then, and those that read them read nothing, as long as what lies between keeps
/// zero (an activation with f(0) = 0, a gate that is multiplied).
pub(super) fn mask_makers(g: &mut Graph, groups: &Groups, gone: &[bool]) {
    let sources: Vec<LaneId> = groups.groups.iter().flat_map(|g| &g.sources).map(|s| s.0).collect();
    let sinks: Vec<LaneId> = groups.sinks.iter().map(|s| s.0).collect();
    for id in groups.lanes.ids() {
        let lane = groups.lanes.get(id);
        let makes = sources.contains(&id) || (!sinks.contains(&id) && shifts(g, lane));
        let Some(t) = g.const_tensor(lane.value).filter(|t| makes && t.dtype().is_float()) else {
            continue;
        };
        let dead: Vec<bool> = groups.classes(id).iter().map(|c| gone[*c as usize]).collect();
        if !dead.contains(&true) {
            continue;
        }
        let Some(data) = zeroed(t, lane, &dead) else { continue };
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
            "Conv" | "ConvTranspose" | "Gemm" => slot == 2,
            "BatchNormalization" => (1..4).contains(&slot),
            "InstanceNormalization" | "GroupNormalization" | "LayerNormalization" => slot > 0,
            "RMSNormalization" => slot > 0,
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

/// Multiplies computed operands that meet the marked classes in a sum with zeros there.
pub(super) fn mask_pairs(g: &mut Graph, groups: &Groups, gone: &[bool]) {
    let mut pairs = groups.pairs.clone();
    pairs.sort_unstable();
    pairs.dedup();
    for (lane, op, at) in pairs {
        let AxisRef::Operand(slot, axis) = at else { continue };
        let factor = |c: &u32| if gone[*c as usize] { 0.0 } else { 1.0f32 };
        let mask: Vec<f32> = groups.classes(lane).iter().map(factor).collect();
        let Some(value) = g.operand(op, slot) else { continue };
        let Some(rank) = g.value(value).rank() else { continue };
        if !mask.contains(&0.0) || g.value(value).dtype() != Some(DType::F32) {
            continue;
        }
        let mut dims = vec![1; rank - axis];
        dims[0] = mask.len();
        let mask = g.add_const("mask", Tensor::of(&dims, &mask));
        let masked = g.add_named("masked");
        g.add_op(Op::new("Mul"), &[Some(value), Some(mask)], &[Some(masked)], Some(op));
        g.set_operand(op, slot, Some(masked));
    }
}

fn zeroed(t: &Tensor, lane: &Lane, dead: &[bool]) -> Option<Tensor> {
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
            slice.fill(0);
        }
    }
    Tensor::new(t.dtype(), t.dims().to_vec(), bytes.into()).ok()
}
