//! The linear ops: pairs on what they read, unless a veto keeps one in float.

use std::collections::BTreeSet;

use super::super::options::QuantizeOptions;
use super::veto::{Case, Globs, veto};
use super::walk::{self, may_be_f32};
use super::weighted::{Linear, Transposed, linear, transposed};
use super::{Decision, Plan, Rules, WeightSite};
use crate::ir::{Graph, OpId};

/// Decides on every linear op and places pairs on the inputs of those that are quantized.
pub(super) fn apply(
    g: &Graph,
    o: &QuantizeOptions,
    rules: &Rules,
    globs: &Globs,
    float: &BTreeSet<OpId>,
    plan: &mut Plan,
) {
    let ops: Vec<Linear> = g.order().into_iter().filter_map(|op| linear(g, op)).collect();
    let behind = |op: &Linear| transposed(g, op).filter(|_| rules.on("W9"));
    let is_layer = |op: &Linear| op.rule != "W5" || behind(op).is_some();
    // MatMuls of two activations are no layers: the first and last N are counted without them.
    let layers = ops.iter().filter(|op| is_layer(op)).count();
    let heads = if o.skip_head { walk::heads(g) } else { BTreeSet::new() };
    let mut layer = 0;
    for op in &ops {
        let stored = behind(op);
        let at = (layer, layers);
        let case = Case { g, op, stored, at, heads: &heads, options: o, globs, rules };
        let accuracy = || ("accuracy", "kept in float to meet --max-drop".to_owned());
        let vetoed = veto(&case).or_else(|| float.contains(&op.op).then(accuracy));
        layer += usize::from(is_layer(op));
        let quantized = vetoed.is_none();
        if quantized {
            place(g, op, stored, o, plan);
        }
        let (rule, reason) = vetoed.unwrap_or_else(|| accepted(op, stored, g, o));
        let (node, op_type, weighted) = (g.label(op.op), g.op(op.op).full_type(), is_layer(op));
        plan.decisions.push(Decision { node, op_type, weighted, quantized, rule, reason });
    }
}

fn place(g: &Graph, op: &Linear, stored: Option<Transposed>, o: &QuantizeOptions, plan: &mut Plan) {
    plan.quantized.insert(op.op);
    plan.read(op.input, op.op, op.input_slot, op.rule);
    if let Some(t) = stored {
        let axis = t.axis(op.stored_axis(g, t.rank, o.convtranspose_axis));
        plan.behind.insert(t.op, op.op);
        plan.weights.push(WeightSite { op: t.op, slot: 0, value: t.value, axis });
    } else if g.is_const(op.weight) {
        let axis = op.axis(g, o.convtranspose_axis);
        plan.weights.push(WeightSite { op: op.op, slot: op.weight_slot, value: op.weight, axis });
    } else if may_be_f32(g, op.weight) {
        plan.read(op.weight, op.op, op.weight_slot, op.rule);
    }
}

fn accepted(
    op: &Linear,
    stored: Option<Transposed>,
    g: &Graph,
    o: &QuantizeOptions,
) -> (&'static str, String) {
    if stored.is_some() {
        return ("W9", "input per tensor, its matrix in front of the Transpose".into());
    }
    let how = match op.axis(g, o.convtranspose_axis) {
        _ if !g.is_const(op.weight) => "both operands per tensor".into(),
        Some(axis) => format!("input per tensor, weight per channel of axis {axis}"),
        None => "input and weight per tensor".into(),
    };
    (op.rule, how)
}
