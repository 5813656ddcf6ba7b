//! Tensors that a model stores, and which of them are weights.

use std::collections::{BTreeMap, BTreeSet};

use crate::ir::{
    DType, Graph, Model, OpId, Slot, Tensor, TensorData, ValueId, attr_tensors, for_each_graph,
};

/// The data of a value: of a constant, of a `Constant`, or the default of an input.
pub(super) fn constant(g: &Graph, v: ValueId) -> Option<&Tensor> {
    let made = || g.producer_op(v).map(|op| g.op(op)).filter(|op| op.is("Constant"));
    let held = |name: &str| made()?.tensor(name);
    g.initializer(v).or_else(|| held("value")).or_else(|| held("sparse_value"))
}

/// The value is a weight: float data, or integers that stand for floats, read by some op as more
/// than the scale or zero point of a quantization.
pub(super) fn is_param(g: &Graph, v: ValueId) -> bool {
    let Some(t) = constant(g, v) else { return false };
    let float = t.dtype().is_float();
    g.uses(v).into_iter().any(|(op, slot)| {
        let Slot::Operand(i) = slot else { return float };
        match (g.op(op).op_type.as_str(), i) {
            ("DequantizeLinear", 0) | ("ConvInteger" | "MatMulInteger", 0 | 1) => true,
            ("QLinearConv" | "QLinearMatMul", 0 | 3) | ("QLinearConv", 8) => true,
            ("Cast", 0) => float || (t.len() > 1 && stands_for_floats(g, op, t)),
            ("DequantizeLinear" | "QuantizeLinear" | "QLinearConv" | "QLinearMatMul", 1..) => false,
            _ => float,
        }
    })
}

/// Narrow integers that a `Cast` turns into floats: weights that someone quantized by hand.
pub(super) fn stands_for_floats(g: &Graph, cast: OpId, t: &Tensor) -> bool {
    let to = g.op(cast).int("to").and_then(|to| i32::try_from(to).ok()).and_then(DType::from_code);
    t.dtype().is_int() && t.dtype().bits() <= 8 && to.is_some_and(DType::is_float)
}

pub(super) fn params(graph: &Graph) -> usize {
    let mut n: usize = 0;
    for_each_graph(graph, &mut |g| {
        for v in g.values().filter(|v| is_param(g, *v)) {
            n = n.saturating_add(constant(g, v).map_or(0, Tensor::len));
        }
    });
    n
}

/// Bytes of all stored tensors by element type; tensors that share storage count once.
pub(super) fn stored_bytes(model: &Model) -> BTreeMap<&'static str, usize> {
    let mut bytes = BTreeMap::new();
    let mut seen: BTreeSet<(usize, usize)> = BTreeSet::new();
    let mut add = |t: &Tensor| {
        if let TensorData::Raw(raw) = t.data()
            && !raw.is_empty()
            && !seen.insert((raw.as_ptr() as usize, raw.len()))
        {
            return;
        }
        *bytes.entry(t.dtype().name()).or_insert(0) += t.byte_len();
    };
    let mut visit = |g: &Graph| {
        g.values().filter_map(|v| g.initializer(v)).for_each(&mut add);
        for op in g.ops() {
            for attr in &g.op(op).attrs {
                attr_tensors(&attr.value).iter().for_each(&mut add);
            }
        }
    };
    for_each_graph(&model.graph, &mut visit);
    for f in &model.functions {
        for_each_graph(&f.graph, &mut visit);
    }
    bytes
}
