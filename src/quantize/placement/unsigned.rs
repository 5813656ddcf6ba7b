//! Activations that are never negative, whatever the data are: where codes are UINT8, zero is their
//! least code, ranges from a file included. ONNX Runtime's optimizer drops a Relu or Clip in front of a
//! QuantizeLinear that clips at the same bound, which lets the op before it become an integer one.

use std::collections::BTreeSet;

use super::{Plan, walk};
use crate::ir::{Graph, OpId, Tensor, ValueId};

/// Values with pairs that are never negative.
pub(super) fn values(g: &Graph, plan: &Plan) -> BTreeSet<ValueId> {
    let mut never = BTreeSet::new();
    for op in g.order() {
        let results = g.results(op).into_iter().flatten();
        if gives_none(g, op) || keeps_none(g, op, &never) {
            never.extend(results);
        }
    }
    never.retain(|v| plan.pairs.contains_key(v));
    never
}

/// Results are not negative, whatever the operands are.
fn gives_none(g: &Graph, op: OpId) -> bool {
    let node = g.op(op);
    let known = ["Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs"];
    let bound = || match g.operand(op, 1) {
        Some(_) => g.const_operand(op, 1).and_then(Tensor::single),
        None => node.attr("min").map(|_| f64::from(node.float_or("min", -1.0))),
    };
    let clips = || node.is("Clip") && bound().is_some_and(|low| low >= 0.0);
    node.domain.is_empty() && (known.contains(&node.op_type.as_str()) || clips())
}

/// Results are not negative because no computed operand is.
fn keeps_none(g: &Graph, op: OpId, never: &BTreeSet<ValueId>) -> bool {
    let node = g.op(op);
    let first = ["MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "ReduceMean"];
    let of_first = walk::moves_data(g, op) || first.contains(&node.op_type.as_str());
    let of_all = ["Add", "Mul", "Concat"].contains(&node.op_type.as_str());
    let is_never = |v: ValueId| never.contains(&v);
    node.domain.is_empty()
        && ((of_first && g.operand(op, 0).is_some_and(is_never))
            || (of_all && g.operands(op).into_iter().flatten().all(is_never)))
}
