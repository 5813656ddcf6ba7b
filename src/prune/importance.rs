//! How much each channel matters: norms of the weights that make it.

use rayon::prelude::*;

use super::groups::Groups;
use super::lanes::{Lane, LaneId};
use super::{ChannelNorms, Norm, PruneError};
use crate::ir::{DType, Graph, OpId, Tensor, ValueId};

/// For each class, its score in its group: the mean over the group's sources of the norm of the
/// channel's weights relative to the mean norm in that source. Classes of pinned groups score 0.
///
/// # Errors
/// When a weight is not a float tensor or holds NaN.
pub(super) fn scores(g: &Graph, groups: &Groups, norm: Norm) -> Result<Vec<f64>, PruneError> {
    let mut lanes: Vec<_> = groups
        .groups
        .iter()
        .filter(|group| group.pinned.is_none())
        .flat_map(|group| group.sources.iter().copied())
        .collect();
    lanes.sort_unstable();
    lanes.dedup();
    let norms: Vec<Vec<f64>> = lanes
        .par_iter()
        .map(|&(lane, op)| lane_norms(g, groups.lanes.get(lane), op, norm))
        .collect::<Result<_, _>>()?;
    let mut out = vec![0.0; groups.class_count];
    for (k, group) in (0u32..).zip(&groups.groups).filter(|(_, group)| group.pinned.is_none()) {
        for at in &group.sources {
            if let Ok(i) = lanes.binary_search(at) {
                let atoms = groups.classes(at.0).iter().copied().zip(norms[i].iter().copied());
                let inside = atoms.filter(|(c, _)| groups.group_of[*c as usize] == k);
                add_relative(inside, 1.0 / group.sources.len() as f64, &mut out);
            }
        }
    }
    Ok(out)
}

/// Norms of the channels of every layer that loses some, in the order of the graph.
pub(super) fn channel_norms(
    before: &Graph,
    after: &Graph,
    groups: &Groups,
    gone: &[bool],
    norm: Norm,
) -> Vec<ChannelNorms> {
    let lost = |lane| groups.classes(lane).iter().any(|c| gone[*c as usize]);
    let mut sources: Vec<_> =
        groups.groups.iter().flat_map(|g| &g.sources).filter(|(lane, _)| lost(*lane)).collect();
    sources.sort_unstable_by_key(|(lane, op)| (*op, *lane));
    sources.dedup();
    let picture = |(id, op): &&(LaneId, OpId)| {
        let lane = groups.lanes.get(*id);
        let name = before.value(lane.value).name();
        let layer = &before.op(*op).name;
        let of = |g: &Graph, v: ValueId| norms(g.const_tensor(v)?, lane, norm);
        let narrow = |norms: Vec<f64>| norms.into_iter().map(|n| n as f32).collect();
        Some(ChannelNorms {
            layer: if layer.is_empty() { name } else { layer }.to_owned(),
            norm: norm.name(),
            before: narrow(of(before, lane.value)?),
            kept: groups.classes(*id).iter().map(|c| !gone[*c as usize]).collect(),
            after: after
                .find_value(name)
                .and_then(|v| of(after, v))
                .map(narrow)
                .unwrap_or_default(),
        })
    };
    sources.par_iter().filter_map(picture).collect()
}

/// Adds `weight` times the norms relative to their mean.
fn add_relative(norms: impl Iterator<Item = (u32, f64)> + Clone, weight: f64, out: &mut [f64]) {
    let (sum, count) = norms.clone().fold((0.0, 0u32), |(s, n), (_, v)| (s + v, n + 1));
    let mean = sum / f64::from(count.max(1));
    if mean > 0.0 {
        norms.for_each(|(class, v)| out[class as usize] += v / mean * weight);
    }
}

/// Norm of the weights behind each atom of a source lane, with the scale of a batch normalization
/// that follows at once.
fn lane_norms(g: &Graph, lane: &Lane, op: OpId, norm: Norm) -> Result<Vec<f64>, PruneError> {
    let name = || g.value(lane.value).name().to_owned();
    let tensor = g.const_tensor(lane.value).ok_or_else(|| PruneError::Weight { name: name() })?;
    let values = norms(tensor, lane, norm).ok_or_else(|| PruneError::Weight { name: name() })?;
    let scale = following_scale(g, op, values.len());
    let values: Vec<f64> = match scale {
        Some(scale) => values.iter().zip(scale).map(|(v, s)| v * s).collect(),
        None => values,
    };
    if values.iter().any(|v| v.is_nan()) {
        return Err(PruneError::NotANumber { name: name() });
    }
    Ok(values)
}

/// |scale| / sqrt(variance + epsilon) of the `BatchNormalization` that alone reads the result.
fn following_scale(g: &Graph, op: OpId, len: usize) -> Option<Vec<f64>> {
    let (next, slot) = g.sole_use(g.result(op, 0)?)?;
    if slot != 0 || !g.op(next).is("BatchNormalization") {
        return None;
    }
    let (scale, variance) =
        (g.const_operand(next, 1)?.to_f64()?, g.const_operand(next, 4)?.to_f64()?);
    let epsilon = f64::from(g.op(next).float_or("epsilon", 1e-5));
    let pairs = scale.iter().zip(&variance);
    let factors: Vec<f64> = pairs.map(|(s, v)| s.abs() / (v + epsilon).sqrt()).collect();
    (factors.len() == len).then_some(factors)
}

/// Norms of the slices of a float tensor along the axis of a lane.
fn norms(t: &Tensor, lane: &Lane, norm: Norm) -> Option<Vec<f64>> {
    let part = lane.part.map_or((lane.axis, 1), |p| (p.rows, p.groups));
    let dims = t.dims();
    let n = *dims.get(lane.axis)?;
    let inner: usize = dims[lane.axis + 1..].iter().product();
    let outer: usize = dims[..lane.axis].iter().product();
    let groups = part.1;
    if groups > 1 && (part.0 != 0 || lane.axis == 0 || !outer.is_multiple_of(groups)) {
        return None;
    }
    let mut out = vec![0.0; n * groups];
    let raw = match t.dtype() {
        DType::F32 => t.raw()?.clone(),
        d if d.is_float() => Tensor::from_f32(DType::F32, dims, &t.to_f32()?)?.raw()?.clone(),
        _ => return None,
    };
    for o in 0..outer {
        let block = if groups > 1 { o / (outer / groups) } else { 0 };
        for i in 0..n {
            let at = (o * n + i) * inner * 4;
            let slot = &mut out[block * n + i];
            *slot = norm.add(*slot, &raw[at..at + inner * 4]);
        }
    }
    if norm == Norm::L2 {
        out.iter_mut().for_each(|v| *v = v.sqrt());
    }
    Some(out)
}

impl Norm {
    /// What it is called in pictures.
    fn name(self) -> &'static str {
        match self {
            Norm::L1 | Norm::Random => "L1",
            Norm::L2 => "L2",
            Norm::Linf => "L∞",
        }
    }

    /// The running sum (or maximum) with the elements of `bytes` taken in.
    fn add(self, so_far: f64, bytes: &[u8]) -> f64 {
        match self {
            Norm::L1 | Norm::Random => so_far + sum(bytes, f32::abs),
            Norm::L2 => so_far + sum(bytes, |v| v * v),
            Norm::Linf => floats(bytes).fold(so_far, |m, v| {
                let v = f64::from(v.abs());
                if v > m || v.is_nan() { v } else { m }
            }),
        }
    }
}

fn floats(bytes: &[u8]) -> impl Iterator<Item = f32> {
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
}

/// Sum in eight running parts of at most 64 elements each, so that it is fast and exact enough.
fn sum(bytes: &[u8], f: impl Fn(f32) -> f32) -> f64 {
    let mut total = 0.0;
    for chunk in bytes.chunks(8 * 64 * 4) {
        let mut parts = [0f32; 8];
        let mut lanes = chunk.chunks_exact(8 * 4);
        for lane in lanes.by_ref() {
            let lane: [f32; 8] = bytemuck::pod_read_unaligned(lane);
            for k in 0..8 {
                parts[k] += f(lane[k]);
            }
        }
        total += parts.iter().map(|p| f64::from(*p)).sum::<f64>();
        total += floats(lanes.remainder()).map(|v| f64::from(f(v))).sum::<f64>();
    }
    total
}
