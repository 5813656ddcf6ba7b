//! Masking: the original with zeros where the removed channels are consumed. What is left computes
//! what the pruned model computes, which is how cuts are proven.

use super::groups::Groups;
use super::lanes::{Lane, LaneId};
use crate::ir::{DType, Graph, Op, Tensor};
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
