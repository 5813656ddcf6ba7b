//! What matching and comparison ask of one graph.

use std::collections::HashMap;
use std::hash::{Hash, Hasher};

use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use crate::ir::{AttrValue, Graph, Op, OpId, Tensor, TensorData, ValueId};

/// Where an operand comes from.
#[derive(Clone, Copy, Debug)]
pub(super) enum Source<'a> {
    /// An optional that is not there.
    Missing,
    /// Stored elements: an initializer, or what a `Constant` holds.
    Constant(&'a Tensor),
    /// An input that a caller feeds.
    Input,
    /// A value of the graph around.
    Outer,
    /// A result of an op.
    Made(OpId, usize),
}

/// Where the value comes from.
pub(super) fn source(g: &Graph, v: Option<ValueId>) -> Source<'_> {
    let Some(v) = v else { return Source::Missing };
    if let Some(t) = g.initializer(v) {
        return Source::Constant(t);
    }
    match g.producer(v) {
        Some((op, slot)) => match stored(g.op(op)) {
            Some(t) => Source::Constant(t),
            None => Source::Made(op, slot),
        },
        None if g.is_capture(v) => Source::Outer,
        None => Source::Input,
    }
}

/// The tensor of a `Constant` that holds one; such ops count as weights, not as nodes.
fn stored(op: &Op) -> Option<&Tensor> {
    Some(op).filter(|op| op.is("Constant"))?.tensor("value")
}

/// The ops of a graph with what they are matched by.
pub(super) struct Facts {
    /// Ops in order, without stored `Constant`s.
    pub order: Vec<OpId>,
    /// Place in `order`.
    pub index: HashMap<OpId, usize>,
    /// Hash of operator and everything above, wiring included; attributes and weights are not.
    pub up: Vec<u64>,
    /// The same for what lies below.
    pub down: Vec<u64>,
    /// As `up`, with the details of all nodes.
    pub exact_up: Vec<u64>,
    /// As `down`, with the details of all nodes.
    pub exact_down: Vec<u64>,
    /// Hash of attributes, and of types and first bytes of constant operands.
    pub detail: Vec<u64>,
}

/// Bytes of a weight that tell it from others, well enough for a guess.
const FINGERPRINT: usize = 256;

impl Facts {
    /// `name` numbers inputs and outer values; those of two graphs that correspond get the same.
    pub(super) fn of(g: &Graph, name: &dyn Fn(ValueId) -> u64) -> Facts {
        let order: Vec<OpId> =
            g.order().into_iter().filter(|op| stored(g.op(*op)).is_none()).collect();
        let index: HashMap<OpId, usize> =
            order.iter().enumerate().map(|(i, op)| (*op, i)).collect();
        let detail: Vec<u64> = order.iter().map(|op| detail(g, *op)).collect();
        let plain = vec![0; order.len()];
        Facts {
            up: upward(g, &order, &index, name, &plain),
            down: downward(g, &order, &index, &plain),
            exact_up: upward(g, &order, &index, name, &detail),
            exact_down: downward(g, &order, &index, &detail),
            order,
            index,
            detail,
        }
    }
}

fn upward(
    g: &Graph,
    order: &[OpId],
    index: &HashMap<OpId, usize>,
    name: &dyn Fn(ValueId) -> u64,
    detail: &[u64],
) -> Vec<u64> {
    let mut up: Vec<u64> = Vec::with_capacity(order.len());
    for (op, detail) in order.iter().zip(detail) {
        let mut h = Xxh3::new();
        (g.op(*op).full_type(), detail).hash(&mut h);
        for v in g.operands(*op).into_iter().chain(g.captures(*op).into_iter().map(Some)) {
            match source(g, v) {
                Source::Missing => h.write_u8(0),
                Source::Constant(t) => (1u8, t.dtype()).hash(&mut h),
                Source::Input | Source::Outer => (2u8, v.map(name)).hash(&mut h),
                Source::Made(from, slot) => (3u8, up[index[&from]], slot).hash(&mut h),
            }
        }
        up.push(h.finish());
    }
    up
}

fn downward(g: &Graph, order: &[OpId], index: &HashMap<OpId, usize>, detail: &[u64]) -> Vec<u64> {
    let mut down = vec![0u64; order.len()];
    for (i, op) in order.iter().enumerate().rev() {
        let mut h = Xxh3::new();
        (g.op(*op).full_type(), detail[i]).hash(&mut h);
        for (slot, v) in g.results(*op).into_iter().enumerate() {
            let Some(v) = v else { continue };
            if let Some(n) = g.outputs().iter().position(|o| *o == v) {
                (1u8, n).hash(&mut h);
            }
            // Readers stand in no order that means anything.
            let mut readers: Vec<u64> = g
                .uses(v)
                .into_iter()
                .map(|(reader, at)| {
                    let mut r = Xxh3::new();
                    (index.get(&reader).map(|r| down[*r]), at).hash(&mut r);
                    r.finish()
                })
                .collect();
            readers.sort_unstable();
            (slot, readers).hash(&mut h);
        }
        down[i] = h.finish();
    }
    down
}

fn detail(g: &Graph, op: OpId) -> u64 {
    let mut h = Xxh3::new();
    let node = g.op(op);
    let mut attrs: Vec<(&str, u64)> =
        node.attrs.iter().map(|a| (&a.name[..], attr_hash(&a.value))).collect();
    attrs.sort_unstable();
    attrs.hash(&mut h);
    for v in g.operands(op) {
        if let Source::Constant(t) = source(g, v) {
            (t.dtype(), t.dims()).hash(&mut h);
            if let TensorData::Raw(raw) = t.data() {
                xxh3_64(&raw[..raw.len().min(FINGERPRINT)]).hash(&mut h);
            }
        }
    }
    h.finish()
}

fn attr_hash(value: &AttrValue) -> u64 {
    let mut h = Xxh3::new();
    match value {
        AttrValue::Float(v) => v.to_bits().hash(&mut h),
        AttrValue::Int(v) => v.hash(&mut h),
        AttrValue::Str(v) => v.hash(&mut h),
        AttrValue::Floats(v) => v.iter().for_each(|v| v.to_bits().hash(&mut h)),
        AttrValue::Ints(v) => v.hash(&mut h),
        AttrValue::Strs(v) => v.hash(&mut h),
        _ => {}
    }
    h.finish()
}
