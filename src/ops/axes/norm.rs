//! Normalisations, reductions, pools and what works along one axis.

use super::AxisRef::{Operand, Result as Out};
use super::{AxisLink, InferCx, Refusal, axes_list, axis_attr, carry, len, out_rank, rank};

const STATISTICS: &str = "its running statistics are in use";

/// Batch and channel axis carry over; what happens along the others is not followed. Pools,
/// `LRN`-like operators excepted.
///
/// # Errors
/// When more than the first result is in use: positions in it depend on the number of channels.
pub fn channels(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let g = cx.graph();
    let more = g.results(cx.id()).into_iter().skip(1).flatten();
    if more.into_iter().any(|v| !g.is_unused(v)) {
        return Err("its second result counts elements across channels".into());
    }
    Ok(carry(rank(cx, 0)?.min(2), |_| false))
}

/// Only the channel axis of the first operand carries over: what samples places that other operands
/// name.
///
/// # Errors
/// Never.
pub fn sampled_channels(_: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    Ok(vec![AxisLink::Same(vec![Operand(0, 1), Out(0, 1)])])
}

/// `BatchNormalization` in inference.
///
/// # Errors
/// In training form.
pub fn batch_norm(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let g = cx.graph();
    let used = |j| g.result(cx.id(), j).is_some_and(|v| !g.is_unused(v));
    if cx.op().int_or("training_mode", 0) != 0 || (1..5).any(used) {
        return Err(STATISTICS.into());
    }
    let mut links = carry(rank(cx, 0)?, |a| a == 1);
    let mut same = vec![Operand(0, 1), Out(0, 1)];
    same.extend((1..5).map(|i| Operand(i, 0)));
    links.push(AxisLink::Same(same));
    Ok(links)
}

/// `InstanceNormalization`: statistics of each channel by itself.
///
/// # Errors
/// When the rank is not known.
pub fn instance_norm(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let mut links = carry(rank(cx, 0)?.min(1), |_| false);
    links.push(AxisLink::Same(vec![Operand(0, 1), Out(0, 1), Operand(1, 0), Operand(2, 0)]));
    Ok(links)
}

/// `GroupNormalization`: channels by themselves when each is a group of its own, else groups as a
/// whole.
///
/// # Errors
/// When the rank or the number of channels is not known.
pub fn group_norm(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let channels = len(cx, 0, 1).ok_or("the number of channels is not known")?;
    let groups = usize::try_from(cx.op().int_or("num_groups", 1)).unwrap_or(0);
    if groups == 0 || !channels.is_multiple_of(groups) {
        return Err("its number of groups does not fit".into());
    }
    let mut links = carry(rank(cx, 0)?.min(1), |_| false);
    links.push(AxisLink::BlockCount(Operand(0, 1), "num_groups"));
    let mut refs = vec![Operand(0, 1), Out(0, 1)];
    let (each, by_channel) = (channels / groups, cx.opset() >= 21 || channels == groups);
    if by_channel {
        refs.extend([Operand(1, 0), Operand(2, 0)]);
    }
    links.push(AxisLink::Same(refs));
    match by_channel {
        _ if each == 1 => {}
        true => links.push(AxisLink::Statistics(Operand(0, 1), groups)),
        // Scales of groups leave no way to cut a part of one.
        false => {
            links.push(AxisLink::Whole(Operand(0, 1), groups));
            let pairs: Vec<_> = (0..groups).map(|k| (k as u32, (k * each) as u32)).collect();
            links.push(AxisLink::Map(Operand(1, 0), Operand(0, 1), pairs.clone()));
            links.push(AxisLink::Map(Operand(2, 0), Operand(0, 1), pairs));
        }
    }
    Ok(links)
}

/// `LayerNormalization` and its like: statistics over `axis` and all axes after it.
///
/// # Errors
/// When the rank is not known.
pub fn layer_norm(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let rank = rank(cx, 0)?;
    let axis = axis_attr(cx, "axis", -1, rank)?;
    let mut links = carry(rank, |a| a >= axis);
    for a in axis..rank {
        let mut refs = vec![Operand(0, a), Out(0, a)];
        for slot in [1, 2] {
            if let Some(own) = cx.rank(slot).filter(|own| a + own >= rank) {
                refs.push(Operand(slot, a + own - rank));
            }
        }
        links.push(AxisLink::Broadcast(refs));
        links.push(AxisLink::Statistics(Operand(0, a), 1));
    }
    Ok(links)
}

/// Operators that work along `axis` and keep the shape: `Softmax`, `LpNormalization`, `CumSum`, …
/// Before version 13 `Softmax` took every axis from `axis` on.
///
/// # Errors
/// When the rank is not known.
pub fn along_axis(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let rank = rank(cx, 0)?;
    let softmax = matches!(cx.op().op_type.as_str(), "Softmax" | "LogSoftmax" | "Hardmax");
    let old = softmax && cx.opset() < 13;
    let axis = match cx.op().op_type.as_str() {
        "LRN" => 1,
        "CumSum" => cx
            .known_ints(1)
            .and_then(|v| super::normalize_axis(*v.first()?, rank))
            .ok_or("its axis is not constant")?,
        _ => axis_attr(cx, "axis", if old { 1 } else { -1 }, rank)?,
    };
    let mixes = |a| if old { a >= axis } else { a == axis };
    let mut links = carry(rank, mixes);
    links.extend((0..rank).filter(|a| mixes(*a)).map(|a| AxisLink::Mixed(Operand(0, a))));
    Ok(links)
}

/// Reductions over `axes`; others carry over.
///
/// # Errors
/// When the axes are not constant.
pub fn reduce(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let rank = rank(cx, 0)?;
    let arg = matches!(cx.op().op_type.as_str(), "ArgMax" | "ArgMin");
    let axes = if arg {
        vec![axis_attr(cx, "axis", 0, rank)?]
    } else {
        match axes_list(cx, 1, rank)? {
            Some(axes) if !axes.is_empty() => axes,
            _ if cx.op().int_or("noop_with_empty_axes", 0) != 0 => vec![],
            _ => (0..rank).collect(),
        }
    };
    let keep = cx.op().int_or("keepdims", 1) != 0;
    let mut links = Vec::new();
    let mut out = 0;
    for a in 0..rank {
        if axes.contains(&a) {
            links.push(match cx.op().is("ReduceMean") {
                true => AxisLink::Statistics(Operand(0, a), 1),
                false => AxisLink::Mixed(Operand(0, a)),
            });
            out += usize::from(keep);
        } else {
            links.push(AxisLink::Same(vec![Operand(0, a), Out(0, out)]));
            out += 1;
        }
    }
    Ok(links)
}

/// `QuantizeLinear` and `DequantizeLinear`: scale and zero point follow their axis.
///
/// # Errors
/// With blocks.
pub fn quantize(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    if cx.op().int_or("block_size", 0) != 0 {
        return Err("it quantizes in blocks".into());
    }
    let rank = out_rank(cx)?;
    let per_axis =
        cx.rank(1).ok_or("the rank of its scale is not known")? == 1 && len(cx, 1, 0) != Some(1);
    let axis = if per_axis { Some(axis_attr(cx, "axis", 1, rank)?) } else { None };
    let mut links = carry(rank, |a| Some(a) == axis);
    if let Some(axis) = axis {
        let mut refs = vec![Operand(0, axis), Out(0, axis), Operand(1, 0)];
        refs.extend(cx.has(2).then_some(Operand(2, 0)));
        links.push(AxisLink::Same(refs));
    }
    Ok(links)
}
