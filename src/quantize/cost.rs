//! What the quantized part of a model amounts to.

use super::placement::{Plan, linear};
use crate::data::Source;
use crate::ir::{Atom, Dim, Graph, OpId, Tensor};

/// Bytes of all constants.
pub(super) fn constant_bytes(g: &Graph) -> usize {
    g.values().filter_map(|v| g.initializer(v)).map(Tensor::byte_len).sum()
}

/// Bytes of the tables of embeddings that Gather reads in float.
pub(super) fn table_bytes(g: &Graph) -> usize {
    let gathers = g.ops().filter(|op| g.op(*op).is("Gather"));
    let mut tables: Vec<_> = gathers.filter_map(|op| g.operand(op, 0)).collect();
    tables.sort_unstable();
    tables.dedup();
    let floats = tables.into_iter().filter_map(|v| g.const_tensor(v));
    floats.filter(|t| t.dtype().is_float() && t.rank() == 2).map(Tensor::byte_len).sum()
}

/// Share of the multiply-accumulates of all linear ops that the quantized ones do, dynamic sizes
/// being those of the first calibration sample; `None` where sizes stay unknown.
pub(super) fn mac_share(g: &Graph, plan: &Plan, data: &dyn Source) -> Option<f64> {
    let sizes = symbol_sizes(g, data);
    let bind = |a: &Atom| sizes.iter().find(|(s, _)| s == a).map(|(_, n)| Dim::Known(*n));
    let macs = |op: OpId| {
        let macs = crate::ops::schema(g.op(op))?.macs;
        macs(g, op)?.substitute(&bind).known()
    };
    let (mut quantized, mut all) = (0.0, 0.0);
    for op in g.ops().filter(|op| linear(g, *op).is_some()) {
        let n = macs(op)? as f64;
        all += n;
        quantized += if plan.is_quantized(op) { n } else { 0.0 };
    }
    (all > 0.0).then(|| quantized / all)
}

/// The symbols that are whole dims of graph inputs, with what they are in the first sample.
fn symbol_sizes(g: &Graph, data: &dyn Source) -> Vec<(Atom, i64)> {
    let mut sizes = Vec::new();
    for (name, tensor) in data.get(0).unwrap_or_default() {
        let shape = g.find_value(&name).and_then(|v| g.value(v).shape());
        for (dim, &size) in shape.into_iter().flatten().zip(tensor.dims()) {
            let Ok(size) = i64::try_from(size) else { continue };
            dim.for_each_symbol(&mut |a| {
                let alone = |other: &Atom| (other == a).then_some(Dim::Known(size));
                if dim.substitute(&alone).known() == Some(size) {
                    sizes.push((a.clone(), size));
                }
            });
        }
    }
    sizes
}
