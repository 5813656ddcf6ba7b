//! Scores from the weights that make a channel.

use rayon::prelude::*;

use super::super::derived;
use super::super::groups::Groups;
use super::super::lanes::Lane;
use super::super::options::PruneOptions;
use super::super::{ChannelNorms, PruneError};
use super::Importance;
use crate::ir::{DType, Graph, OpId, Tensor, ValueId};
use crate::recover::linalg::Mat;

/// For each class, its score in its group, out of the scores of the channel in each of the group's
/// sources. Classes of pinned groups score 0.
///
/// # Errors
/// When a weight is not a float tensor or holds NaN.
pub(super) fn scores(
    g: &Graph,
    groups: &Groups,
    kind: Importance,
    o: &PruneOptions,
) -> Result<Vec<f64>, PruneError> {
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
        .map(|&(lane, op)| lane_scores(g, groups.opset, groups.lanes.get(lane), op, kind))
        .collect::<Result<_, _>>()?;
    let mut parts: Vec<Vec<f64>> = vec![Vec::new(); groups.class_count];
    for (k, group) in (0u32..).zip(&groups.groups).filter(|(_, group)| group.pinned.is_none()) {
        for at in &group.sources {
            let Ok(i) = lanes.binary_search(at) else { continue };
            let atoms = super::atoms(groups, k, groups.classes(at.0));
            let sum = |a: &Vec<usize>| a.iter().map(|j| norms[i][*j]).sum::<f64>();
            let mut own: Vec<f64> = atoms.iter().map(|(_, a)| sum(a)).collect();
            if kind != Importance::Lamp {
                o.normalize.apply(&mut own);
            }
            for ((class, _), score) in atoms.iter().zip(own) {
                parts[*class as usize].push(score);
            }
        }
    }
    Ok(parts.iter().map(|p| o.aggregate.of(p)).collect())
}

/// Norms of the channels of a layer that loses some, and its name.
pub(in crate::prune) fn channel_norms(
    before: &Graph,
    after: &Graph,
    (lane, op, kept): &(Lane, OpId, Vec<bool>),
    kind: Importance,
) -> Option<ChannelNorms> {
    let norm = Norm::of(kind);
    let name = before.value(lane.value).name();
    let layer = &before.op(*op).name;
    let of = |g: &Graph, v: ValueId| norms(g.const_tensor(v)?, lane, norm);
    let narrow = |norms: Vec<f64>| norms.into_iter().map(|n| n as f32).collect();
    let left = after.find_value(name).and_then(|v| of(after, v));
    Some(ChannelNorms {
        layer: if layer.is_empty() { name } else { layer }.to_owned(),
        norm: norm.name(),
        before: narrow(of(before, lane.value)?),
        kept: kept.clone(),
        after: left.map(narrow).unwrap_or_default(),
    })
}

fn lane_scores(
    g: &Graph,
    opset: i64,
    lane: &Lane,
    op: OpId,
    kind: Importance,
) -> Result<Vec<f64>, PruneError> {
    let mut norms = lane_norms(g, opset, lane, op, Norm::of(kind))?;
    match kind {
        Importance::BnScale => {
            if let Some(scales) = bn_scales(g, op, norms.len()) {
                return Ok(scales);
            }
        }
        Importance::Lamp => lamp(&mut norms),
        Importance::Fpgm => {
            if let Some(distances) = g.const_tensor(lane.value).and_then(|t| distances(t, lane)) {
                return Ok(distances);
            }
        }
        _ => {}
    }
    Ok(norms)
}

/// Magnitudes of the scales of the `BatchNormalization` that alone reads the result.
fn bn_scales(g: &Graph, op: OpId, len: usize) -> Option<Vec<f64>> {
    let (next, slot) = g.sole_use(g.result(op, 0)?)?;
    if slot != 0 || !g.op(next).is("BatchNormalization") {
        return None;
    }
    let scale = g.const_operand(next, 1)?.to_f64()?;
    (scale.len() == len).then(|| scale.iter().map(|s| s.abs()).collect())
}

fn lamp(norms: &mut [f64]) {
    let mut order: Vec<usize> = (0..norms.len()).collect();
    order.sort_by(|a, b| norms[*b].total_cmp(&norms[*a]));
    let mut sum = 0.0;
    for i in order {
        let square = norms[i] * norms[i];
        sum += square;
        norms[i] = if sum > 0.0 { square / sum } else { 0.0 };
    }
}

/// For each slice along the axis of a lane the sum of its distances to the others.
fn distances(t: &Tensor, lane: &Lane) -> Option<Vec<f64>> {
    if lane.part.is_some() {
        return None;
    }
    let (data, dims) = (t.to_f32()?, t.dims());
    let n = *dims.get(lane.axis)?;
    let inner: usize = dims[lane.axis + 1..].iter().product();
    let outer: usize = dims[..lane.axis].iter().product();
    let mut rows = Vec::with_capacity(data.len());
    for i in 0..n {
        for o in 0..outer {
            let at = (o * n + i) * inner;
            rows.extend_from_slice(&data[at..at + inner]);
        }
    }
    let rows = Mat::new(&rows, outer * inner);
    let products = rows.times_transposed(rows, &[]);
    let at = |i: usize, j: usize| f64::from(products[i * n + j]);
    let distance = |i: usize, j: usize| (at(i, i) + at(j, j) - 2.0 * at(i, j)).max(0.0).sqrt();
    Some((0..n).map(|i| (0..n).map(|j| distance(i, j)).sum()).collect())
}

/// Runs of elements of one channel that are shorter than this are not summed by themselves.
const SHORT: usize = 32;

#[derive(Clone, Copy, PartialEq)]
enum Norm {
    L1,
    L2,
    Linf,
}

impl Norm {
    /// The norm that an importance is made of, L2 for those that are made of none.
    fn of(kind: Importance) -> Norm {
        match kind {
            Importance::L1 => Norm::L1,
            Importance::Linf => Norm::Linf,
            _ => Norm::L2,
        }
    }

    /// What it is called in pictures.
    fn name(self) -> &'static str {
        match self {
            Norm::L1 => "L1",
            Norm::L2 => "L2",
            Norm::Linf => "L∞",
        }
    }

    /// The running sum (or maximum) with the elements of `bytes` taken in.
    fn add(self, so_far: f64, bytes: &[u8]) -> f64 {
        match self {
            Norm::L1 => so_far + sum(bytes, f32::abs),
            Norm::L2 => so_far + sum(bytes, |v| v * v),
            Norm::Linf => floats(bytes).fold(so_far, |m, v| larger(m, f64::from(v.abs()))),
        }
    }

    /// Takes each element into the running sum (or maximum) in its place.
    fn add_each(self, so_far: &mut [f64], bytes: &[u8]) {
        let all = so_far.iter_mut().zip(floats(bytes));
        match self {
            Norm::L1 => all.for_each(|(s, v)| *s += f64::from(v.abs())),
            Norm::L2 => all.for_each(|(s, v)| *s += f64::from(v) * f64::from(v)),
            Norm::Linf => all.for_each(|(s, v)| *s = larger(*s, f64::from(v.abs()))),
        }
    }

    /// One of several running sums (or maxima).
    fn join(self, parts: &[f64]) -> f64 {
        match self {
            Norm::Linf => parts.iter().copied().fold(0.0, larger),
            _ => parts.iter().sum(),
        }
    }
}

/// Norm of the weights behind each atom of a source lane, with the scale of a batch normalization
/// that follows at once.
fn lane_norms(
    g: &Graph,
    opset: i64,
    lane: &Lane,
    op: OpId,
    norm: Norm,
) -> Result<Vec<f64>, PruneError> {
    let name = || g.value(lane.value).name().to_owned();
    let tensor = derived::weight(g, opset, op, lane.value);
    let values = tensor.and_then(|t| norms(&t, lane, norm));
    let values = values.ok_or_else(|| PruneError::Weight { name: name() })?;
    let scale = following_scale(g, op, values.len())
        .or_else(|| derived::channel_scales(g, op, lane.value, values.len()));
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
    let short = inner < SHORT;
    let mut row = vec![0.0; if short { n * inner } else { 0 }];
    for o in 0..outer {
        let block = if groups > 1 { o / (outer / groups) } else { 0 };
        let bytes = &raw[o * n * inner * 4..(o + 1) * n * inner * 4];
        if short {
            norm.add_each(&mut row, bytes);
            if o + 1 == outer || (groups > 1 && (o + 1) % (outer / groups) == 0) {
                for (slot, part) in out[block * n..].iter_mut().zip(row.chunks(inner.max(1))) {
                    *slot = norm.join(part);
                }
                row.fill(0.0);
            }
            continue;
        }
        for (slot, part) in out[block * n..].iter_mut().zip(bytes.chunks(inner * 4)) {
            *slot = norm.add(*slot, part);
        }
    }
    if norm == Norm::L2 {
        out.iter_mut().for_each(|v| *v = v.sqrt());
    }
    Some(out)
}

/// The larger of the two, NaN if the second is.
fn larger(m: f64, v: f64) -> f64 {
    if v > m || v.is_nan() { v } else { m }
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
