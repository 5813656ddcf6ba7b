//! High-bias absorption (Nagel and others, arXiv 1906.04721, section 4.1.3): what a channel never falls
//! short of is taken out of it and added to the biases of what reads it.
//!
//! Equalization enlarges biases with the rows they belong to, and a channel that lies far above zero
//! behind its Relu wastes the codes below. Where `x >= c > 0` always, `relu(x) = relu(x - c) + c`, and
//! `W (x - c) + (b + W c) = W x + b`. The paper takes the mean less three deviations of
//! BatchNormalization for `c`; that is folded here, so `c` is the least that calibration saw of the
//! channel, for which nothing changes. Where an activation has a maximum, as `Clip(0, 6)`, `c` stays 0
//! for channels that went beyond it.
//!
//! Every reader must add `W c` everywhere: zero padding would miss it, so such readers forbid the
//! site, as does any op but data movement, pools without padding, Conv, Gemm and MatMul.

use super::super::bias::{self, Correction};
use super::super::collect::Observed;
use super::super::placement::{Linear, Plan, linear};
use super::space::drops_unit_axes;
use crate::ir::{Graph, OpId, Slot, Tensor, ValueId};

/// A linear op, the activation behind it, and all that reads it.
pub(super) struct Absorbable {
    producer: Linear,
    /// What the activation function reads, and the axis of its channels.
    pub before: (ValueId, usize),
    /// Where the activation function cuts off.
    max: f64,
    readers: Vec<Linear>,
}

/// The places in a planned graph where a pair would gain.
pub(super) fn sites(g: &Graph, plan: &Plan) -> Vec<Absorbable> {
    let ops = g.order().into_iter().filter_map(|op| linear(g, op));
    ops.filter_map(|l| site(g, plan, l)).collect()
}

fn site(g: &Graph, plan: &Plan, producer: Linear) -> Option<Absorbable> {
    let before = match producer.rule {
        "W1" | "W2" | "W3" => g.result(producer.op, 0)?,
        "W4" => g.result(bias::slot(g, &producer)?.0, 0)?,
        _ => return None,
    };
    let rank = g.value(before).rank()?;
    let axis = if matches!(producer.rule, "W1" | "W2") { 1 } else { rank.checked_sub(1)? };
    let (activation, max) = activation(g, before)?;
    let mut site = Absorbable { producer, before: (before, axis), max, readers: Vec::new() };
    let mut gains = false;
    let mut queue = vec![(g.result(activation, 0)?, axis)];
    while let Some((v, axis)) = queue.pop() {
        gains |= plan.has_pair(v);
        if g.is_output(v) || g.is_capture(v) {
            return None;
        }
        for (op, slot) in g.uses(v) {
            let Slot::Operand(0) = slot else { return None };
            match linear(g, op) {
                Some(l) => site.readers.push(reader(g, l, axis)?),
                None if shifts(g, op, axis) => queue.push((g.result(op, 0)?, axis)),
                None => return None,
            }
        }
    }
    (gains && !site.readers.is_empty()).then_some(site)
}

/// The Relu, or the Clip from 0, that alone reads a value, and its maximum.
fn activation(g: &Graph, v: ValueId) -> Option<(OpId, f64)> {
    let (op, _) = g.sole_use(v)?;
    let node = g.op(op);
    if node.is("Relu") {
        return Some((op, f64::INFINITY));
    }
    let low = g.const_operand(op, 1).filter(|_| node.is("Clip"))?.single()?;
    let max = match g.operand(op, 2) {
        None => f64::INFINITY,
        Some(max) => g.const_tensor(max)?.single()?,
    };
    (low == 0.0 && g.operand(op, 0) == Some(v)).then_some((op, max))
}

/// The op gives `y - c` for `x - c`, channel by channel.
fn shifts(g: &Graph, op: OpId, axis: usize) -> bool {
    let node = g.op(op);
    match node.op_type.as_str() {
        _ if !node.domain.is_empty() => false,
        "Identity" => true,
        "GlobalAveragePool" | "GlobalMaxPool" => axis == 1,
        // What pads a MaxPool is less than everything.
        "MaxPool" => axis == 1 && g.result(op, 1).is_none(),
        "AveragePool" => axis == 1 && is_unpadded(g, op) && node.int_or("ceil_mode", 0) == 0,
        "Flatten" | "Reshape" | "Squeeze" => axis == 1 && drops_unit_axes(g, op),
        _ => false,
    }
}

/// The linear op with a stored weight that adds `W c` to each of its results for channels along `axis`.
fn reader(g: &Graph, l: Linear, axis: usize) -> Option<Linear> {
    let last = g.value(l.input).rank()?.checked_sub(1)?;
    let fits = match l.rule {
        "W1" => axis == 1 && is_unpadded(g, l.op),
        "W3" => axis == last,
        "W4" => axis == last && l.weight_slot == 1,
        _ => false,
    };
    g.const_tensor(l.weight).filter(|_| fits)?;
    Some(l)
}

fn is_unpadded(g: &Graph, op: OpId) -> bool {
    let node = g.op(op);
    let pads = node.ints("pads").is_none_or(|p| p.iter().all(|p| *p == 0));
    pads && matches!(node.str("auto_pad"), None | Some("NOTSET" | "VALID"))
}

/// Takes what can be taken out of a site. False, and nothing changes, where that is nothing.
pub(super) fn absorb(g: &mut Graph, site: &Absorbable, seen: &Observed) -> bool {
    let Some(corrections) = corrections(g, site, seen) else { return false };
    corrections.into_iter().for_each(|c| c.apply(g));
    true
}

fn corrections(g: &Graph, site: &Absorbable, seen: &Observed) -> Option<Vec<Correction>> {
    let (v, axis) = site.before;
    let n = g.value(v).shape()?.get(axis)?.size()?;
    let ends = seen.by_channel(v, n)?.seen();
    let least = |(low, high): (f64, f64)| if high <= site.max { low.max(0.0) } else { 0.0 };
    let taken: Vec<f64> = ends.map(least).collect();
    let finite = taken.iter().all(|c| c.is_finite());
    (finite && taken.iter().any(|c| *c > 0.0)).then_some(())?;
    let mut all = vec![bias::lowered(g, &site.producer, &taken)?];
    let given: Vec<f64> = taken.iter().map(|c| -c).collect();
    for l in &site.readers {
        let weights: Vec<f64> =
            g.const_tensor(l.weight).and_then(Tensor::to_f32)?.into_iter().map(f64::from).collect();
        all.push(bias::lowered(g, l, &bias::shift(g, l, &weights, &given)?)?);
    }
    Some(all)
}
