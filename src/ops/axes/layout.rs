//! Operators that only move elements.

use super::AxisRef::{Operand, Result as Out};
use super::{
    AxisLink, InferCx, Place, Refusal, axis_attr, carry, len, offset, out_rank, rank, same_dim,
};
use crate::ops::normalize_axis;

/// `Transpose`.
///
/// # Errors
/// When the rank is not known.
pub fn transpose(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let rank = rank(cx, 0)?;
    let source = |k: usize| match cx.op().ints("perm") {
        Some(perm) => perm.get(k).and_then(|&p| normalize_axis(p, rank)),
        None => Some(rank - 1 - k),
    };
    (0..rank)
        .map(|k| {
            let from = source(k).ok_or("its permutation does not fit the rank")?;
            Ok(AxisLink::Same(vec![Operand(0, from), Out(0, k)]))
        })
        .collect()
}

/// `Concat`: along its axis at offsets, along the others index by index.
///
/// # Errors
/// When the rank is not known.
pub fn concat(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let rank = out_rank(cx)?;
    let axis = axis_attr(cx, "axis", 1, rank)?;
    let mut links = Vec::new();
    for k in (0..rank).filter(|k| *k != axis) {
        let mut refs = vec![Out(0, k)];
        refs.extend((0..cx.arity()).map(|i| Operand(i, k)));
        links.push(AxisLink::Same(refs));
    }
    let mut at = 0;
    for i in 0..cx.arity() {
        let Some(n) = len(cx, i, axis) else { break };
        links.push(offset(Operand(i, axis), Out(0, axis), at, n));
        at = at.saturating_add(n);
    }
    Ok(links)
}

/// `Split`: the reverse of `Concat`.
///
/// # Errors
/// When the rank is not known.
pub fn split(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let rank = rank(cx, 0)?;
    let axis = axis_attr(cx, "axis", 0, rank)?;
    let count = cx.op().result_count();
    let mut links = Vec::new();
    for k in (0..rank).filter(|k| *k != axis) {
        let mut refs = vec![Operand(0, k)];
        refs.extend((0..count).filter(|j| cx.result(*j).is_some()).map(|j| Out(j, k)));
        links.push(AxisLink::Same(refs));
    }
    if (0..count).any(|j| cx.result(j).is_none()) {
        return Ok(links);
    }
    if cx.opset() >= 13 && cx.has(1) && cx.tensor(1).is_none() {
        links.push(AxisLink::Fixed(Operand(0, axis), "the sizes of the pieces are computed"));
        return Ok(links);
    }
    let mut at = 0;
    for j in 0..count {
        let size = cx.result(j).and_then(|v| v.shape()?.get(axis)?.size());
        let size = size.ok_or("the sizes of the pieces are not known")?;
        links.push(offset(Out(j, axis), Operand(0, axis), at, size));
        at = at.saturating_add(size);
    }
    let at = if cx.opset() >= 13 { Place::Operand(1) } else { Place::Attr("split") };
    links.push(AxisLink::Lengths { of: (0..count).map(|j| Out(j, axis)).collect(), at });
    Ok(links)
}

/// `Slice`: constant bounds; step 1 along axes that change.
///
/// # Errors
/// When the bounds are not constant.
pub fn slice(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    const COMPUTED: &str = "its bounds are not constant";
    let rank = rank(cx, 0)?;
    let list = |slot: usize, name: &str| match cx.op().ints(name) {
        Some(list) => Some(list.to_vec()),
        None => cx.known_ints(slot),
    };
    let (starts, ends) = (list(1, "starts"), list(2, "ends"));
    let old = cx.op().ints("starts").is_some();
    let count = || starts.as_ref().map(Vec::len).or_else(|| cx.shape(1)?.first()?.size());
    let axes = match cx.op().ints("axes") {
        Some(axes) => axes.to_vec(),
        None if cx.has(3) && !old => cx.known_ints(3).ok_or(COMPUTED)?,
        None => {
            let n = count().filter(|n| *n <= rank).ok_or(COMPUTED)?;
            (0..n as i64).collect()
        }
    };
    let steps = match cx.has(4) {
        true => cx.known_ints(4),
        false => Some(vec![1; axes.len()]),
    };
    let at = |list: &Option<Vec<i64>>, e: usize| list.as_ref().and_then(|l| l.get(e).copied());
    let mut links = Vec::new();
    let mut cut = vec![false; rank];
    for (e, &axis) in axes.iter().enumerate() {
        let axis = normalize_axis(axis, rank).ok_or("its axis is out of range")?;
        cut[axis] = true;
        let place = |slot, name| if old { Place::Attr(name) } else { Place::Operand(slot) };
        let bounds = (at(&starts, e), at(&ends, e), at(&steps, e), len(cx, 0, axis));
        let (Some(start), Some(end), Some(step), Some(n)) = bounds else {
            links.push(AxisLink::Fixed(Operand(0, axis), COMPUTED));
            continue;
        };
        if step != 1 {
            links.push(AxisLink::Fixed(Operand(0, axis), "it takes every so many channels"));
            continue;
        }
        let (start, end) = (bound(start, n), bound(end, n));
        let kept = end.saturating_sub(start);
        links.push(offset(Out(0, axis), Operand(0, axis), start, kept));
        for at in [place(1, "starts"), place(2, "ends")] {
            links.push(AxisLink::Bound { on: Operand(0, axis), at, element: e });
        }
    }
    links.extend(carry(rank, |a| cut[a]));
    Ok(links)
}

/// A bound of `Slice` as a position from 0 to `n`.
fn bound(v: i64, n: usize) -> usize {
    let n = i64::try_from(n).unwrap_or(i64::MAX);
    let v = if v < 0 { v.saturating_add(n) } else { v };
    usize::try_from(v.clamp(0, n)).unwrap_or(0)
}

/// `Gather` of constant indices.
///
/// # Errors
/// When a rank is not known.
pub fn gather(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let (rank, indices) = (rank(cx, 0)?, rank(cx, 1)?);
    let axis = axis_attr(cx, "axis", 0, rank)?;
    let mut links = Vec::new();
    for a in (0..rank).filter(|a| *a != axis) {
        let out = if a < axis { a } else { a + indices - 1 };
        links.push(match cx.tensor(0) {
            Some(_) => AxisLink::Source { weight: Operand(0, a), result: Out(0, out) },
            None => AxisLink::Same(vec![Operand(0, a), Out(0, out)]),
        });
    }
    for a in 0..indices {
        links.push(AxisLink::Same(vec![Operand(1, a), Out(0, axis + a)]));
    }
    let table = cx.tensor(1).filter(|t| t.rank() == 1).and_then(|t| t.to_i64());
    match (table, len(cx, 0, axis)) {
        (Some(table), Some(n)) => {
            links.retain(|l| !matches!(l, AxisLink::Same(r) if r[0] == Operand(1, 0)));
            let pairs: Option<Vec<(u32, u32)>> = (0u32..)
                .zip(&table)
                .map(|(j, &i)| Some((normalize_axis(i, n)? as u32, j)))
                .collect();
            let pairs = pairs.ok_or("an index is out of range")?;
            links.push(AxisLink::Map(Operand(0, axis), Out(0, axis), pairs));
            let (on, result) = (Operand(0, axis), Out(0, axis));
            links.push(AxisLink::Indices { on, slot: 1, result });
        }
        _ => links.push(AxisLink::Fixed(Operand(0, axis), "it picks channels by number")),
    }
    Ok(links)
}

/// `Expand`: broadcast to a shape.
///
/// # Errors
/// When a rank is not known.
pub fn expand(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let (own, rank) = (rank(cx, 0)?, out_rank(cx)?);
    let given = cx.shape(1).and_then(|s| s.first()?.size()).ok_or("its shape is not known")?;
    if given > rank || own > rank {
        return Err("the ranks do not fit".into());
    }
    let mut links = Vec::new();
    for k in 0..rank {
        let mut refs = vec![Out(0, k)];
        if k + own >= rank {
            refs.push(Operand(0, k + own - rank));
        }
        links.push(AxisLink::Broadcast(refs));
    }
    let of = (rank - given..rank).map(|k| Out(0, k)).collect();
    links.push(AxisLink::Lengths { of, at: Place::Operand(1) });
    Ok(links)
}

/// `Tile`: repeats.
///
/// # Errors
/// When the repeats are not constant.
pub fn tile(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let rank = rank(cx, 0)?;
    let repeats = cx.known_ints(1).ok_or("its repeats are not constant")?;
    if repeats.len() != rank {
        return Err("its repeats do not fit the rank".into());
    }
    let mut links = carry(rank, |a| repeats[a] != 1);
    for (a, &times) in repeats.iter().enumerate().filter(|(_, r)| **r != 1) {
        let (Some(n), Ok(times)) = (len(cx, 0, a), usize::try_from(times)) else { continue };
        if n.saturating_mul(times) > super::MAX_PAIRS {
            continue;
        }
        let pairs = (0..n * times).map(|j| ((j % n) as u32, j as u32)).collect();
        links.push(AxisLink::Map(Operand(0, a), Out(0, a), pairs));
    }
    Ok(links)
}

/// `Pad`: follows axes without padding.
///
/// # Errors
/// When the pads are not constant.
pub fn pad(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let rank = rank(cx, 0)?;
    let pads = match cx.op().ints("pads") {
        Some(pads) => pads.to_vec(),
        None => cx.known_ints(1).ok_or("its pads are not constant")?,
    };
    let axes: Vec<usize> = match cx.has(3) {
        true => super::axes_list(cx, 3, rank)?.unwrap_or_default(),
        false => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return Err("its pads do not fit the rank".into());
    }
    let mut padded = vec![false; rank];
    for (i, a) in axes.iter().enumerate() {
        padded[*a] |= pads[i] != 0 || pads[i + axes.len()] != 0;
    }
    let mut links = carry(rank, |a| padded[a]);
    let fixed = |a| AxisLink::Fixed(Operand(0, a), "it pads the channels");
    links.extend((0..rank).filter(|a| padded[*a]).map(fixed));
    Ok(links)
}

/// `Resize` and `Upsample`: follow axes that keep their length.
///
/// # Errors
/// When the ranks do not fit.
pub fn resize(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let rank = rank(cx, 0)?;
    if out_rank(cx)? != rank {
        return Err("the ranks do not fit".into());
    }
    let out = cx.result(0).and_then(|v| v.shape());
    let scaled =
        |a: usize| !same_dim(cx.shape(0).and_then(|s| s.get(a)), out.and_then(|s| s.get(a)));
    let mut links = carry(rank, scaled);
    if cx.has(3) {
        let axes = match cx.op().ints("axes") {
            Some(axes) => axes.iter().filter_map(|&a| normalize_axis(a, rank)).collect(),
            None => (0..rank).collect::<Vec<_>>(),
        };
        let of = axes.into_iter().map(|a| Out(0, a)).collect();
        links.push(AxisLink::Lengths { of, at: Place::Operand(3) });
    }
    Ok(links)
}

/// `DepthToSpace`: all positions of a block are one channel.
///
/// # Errors
/// When the number of channels is not known.
pub fn depth_to_space(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let crd = cx.op().str("mode") == Some("CRD");
    blocks(cx, len(cx, 0, 1), |c, k, n, block| if crd { c * block + k } else { k * n + c })
}

/// `SpaceToDepth`: the reverse.
///
/// # Errors
/// When the number of channels is not known.
pub fn space_to_depth(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let links =
        blocks(cx, cx.result(0).and_then(|v| v.shape()?.get(1)?.size()), |c, k, n, _| k * n + c)?;
    let flip = |l| match l {
        AxisLink::Map(_, _, pairs) => AxisLink::Map(
            Operand(0, 1),
            Out(0, 1),
            pairs.into_iter().map(|(a, b)| (b, a)).collect(),
        ),
        l => l,
    };
    Ok(links.into_iter().map(flip).collect())
}

/// Pairs `(deep, flat)` of channels, by the deep index of channel `c` and place `k` of a block.
fn blocks(
    cx: &InferCx,
    deep: Option<usize>,
    index: impl Fn(usize, usize, usize, usize) -> usize,
) -> Result<Vec<AxisLink>, Refusal> {
    let block = usize::try_from(cx.op().int_or("blocksize", 0)).ok().and_then(|b| b.checked_mul(b));
    let block = block.filter(|b| *b > 0).ok_or("its block size is out of range")?;
    let deep = deep
        .filter(|d| d % block == 0 && *d <= super::MAX_PAIRS)
        .ok_or("the number of channels is not known")?;
    let n = deep / block;
    let pairs = (0..n)
        .flat_map(|c| (0..block).map(move |k| (c, k)))
        .map(|(c, k)| (index(c, k, n, block) as u32, c as u32))
        .collect();
    let mut links = carry(1, |_| false);
    links.push(AxisLink::Map(Operand(0, 1), Out(0, 1), pairs));
    Ok(links)
}

/// `Shape`: its elements are lengths.
///
/// # Errors
/// When the rank is not known.
pub fn shape(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let rank = rank(cx, 0)?;
    let at = |name, default: i64| bound(cx.op().int_or(name, default), rank);
    let (start, end) = (at("start", 0), at("end", i64::MAX));
    let skipped = |a: &usize| *a < start || *a >= end;
    let mut links: Vec<AxisLink> =
        (start..end).map(|a| AxisLink::Measured(Operand(0, a), a - start)).collect();
    links.extend((0..rank).filter(skipped).map(|a| AxisLink::Same(vec![Operand(0, a)])));
    Ok(links)
}
