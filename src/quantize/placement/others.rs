//! W8, N11, N12, N18: ops that hold weights and are no linear layers.
//!
//! They stay float, and the plan says so of each; with W8, N12 or N18 off they store their weights in
//! 8 bits.

use super::walk::may_be_f32;
use super::{Decision, Plan, Rules, WeightSite, linear};
use crate::ir::{Graph, OpId, Slot, ValueId};

/// What is known of such an op.
struct Held {
    rule: &'static str,
    /// The activation that gets a pair with the rule off.
    input: Option<usize>,
    /// Slots of the weights, with the axis of their scales.
    weights: Vec<(usize, Option<usize>)>,
    /// Why it stays float.
    why: &'static str,
    /// How its weights are stored else.
    stored: &'static str,
}

pub(super) fn apply(g: &Graph, rules: &Rules, plan: &mut Plan) {
    for op in g.order() {
        if linear(g, op).is_some() {
            continue;
        }
        let Some(held) = held(g, op) else { continue };
        // N11 keeps normalization in float whether it is on or not.
        let excluded = plan.float.contains(&op);
        let some = held.input.is_some() || !held.weights.is_empty();
        let quantized = !rules.on(held.rule) && some && !excluded;
        if quantized {
            place(g, op, &held, plan);
        }
        let reason = match (excluded, quantized) {
            (true, _) => "excluded by pattern",
            (_, true) => held.stored,
            _ => held.why,
        };
        let op_type = g.op(op).full_type();
        let rule = if excluded { "user" } else { held.rule };
        let (node, reason) = (g.label(op), reason.to_owned());
        let weighted = true;
        plan.others.push(Decision { node, op_type, weighted, quantized, rule, reason });
    }
}

fn place(g: &Graph, op: OpId, held: &Held, plan: &mut Plan) {
    if let Some((slot, v)) = held.input.and_then(|i| Some((i, g.operand(op, i)?)))
        && may_be_f32(g, v)
        && !g.is_const(v)
    {
        plan.read(v, op, slot, held.rule);
    }
    for (slot, axis) in &held.weights {
        let Some(value) = g.operand(op, *slot).filter(|v| !g.is_output(*v)) else { continue };
        plan.weights.push(WeightSite { op, slot: *slot, value, axis: *axis });
    }
}

fn held(g: &Graph, op: OpId) -> Option<Held> {
    let node = g.op(op);
    if !node.domain.is_empty() {
        return None;
    }
    let stored = |slots: &[usize], axis: Option<usize>| -> Vec<(usize, Option<usize>)> {
        let matrix = |i: &usize| g.operand(op, *i).is_some_and(|v| is_matrix(g, v));
        slots.iter().copied().filter(matrix).map(|i| (i, axis)).collect()
    };
    let stored_as = "weights in 8 bits on request";
    let held =
        |rule, input, weights, why| Some(Held { rule, input, weights, why, stored: stored_as });
    match node.op_type.as_str() {
        "LSTM" | "GRU" | "RNN" => {
            held("W8", Some(0), stored(&[1, 2], None), "TensorRT has no INT8 recurrence")
        }
        "DeformConv" => held("W8", Some(0), stored(&[1], Some(0)), "no INT8 kernel"),
        "Einsum" => {
            let weights = stored(&[0, 1], None);
            let input = weights.first().map(|(i, _)| 1 - i)?;
            held("W8", Some(input), weights, "no INT8 kernel")
        }
        "GroupNormalization" | "InstanceNormalization" => {
            held("W8", Some(0), Vec::new(), "normalization computes in float")
        }
        "LayerNormalization" | "RMSNormalization" | "BatchNormalization" => {
            held("N11", None, Vec::new(), "normalization computes in float")
        }
        "Gather" if node.int_or("axis", 0) == 0 => {
            let table = stored(&[0], Some(0));
            let v = g.operand(op, 0).filter(|_| !table.is_empty())?;
            let small = g.const_tensor(v)?.dims()[0] < ROWS;
            let (weights, why) = match (small, only_gathered(g, v)) {
                (true, _) => (Vec::new(), "a small table"),
                (_, false) => (Vec::new(), "a table that others read too"),
                _ => (table, "a table of embeddings"),
            };
            let stored = "a table of embeddings, one scale for each row";
            Some(Held { rule: "N12", input: None, weights, why, stored })
        }
        "Add" | "Sub" | "Mul" | "Div" | "PRelu" => {
            let large = stored(&[0, 1], None);
            (!large.is_empty()).then_some(())?;
            held("N18", None, large, "a constant in arithmetic")
        }
        _ => None,
    }
}

/// Rows of a table that is worth storing in 8 bits.
const ROWS: usize = 16;

/// Nothing but Gathers of rows reads the table: it would have to be stored twice.
fn only_gathered(g: &Graph, table: ValueId) -> bool {
    let gathers = |op: OpId| g.op(op).is("Gather") && g.op(op).int_or("axis", 0) == 0;
    g.uses(table).iter().all(|(op, slot)| *slot == Slot::Operand(0) && gathers(*op))
}

/// A stored float32 tensor with two dims beyond 1, as tables and matrices have.
fn is_matrix(g: &Graph, v: ValueId) -> bool {
    g.const_tensor(v).is_some_and(|t| {
        let wide = t.dims().iter().filter(|d| **d > 1).count();
        wide >= 2 && t.is_finite_f32()
    })
}
