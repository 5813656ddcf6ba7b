//! N6, N7, N10: Concat, pools and nearest Resize between quantized ops.

use super::walk::{is_nearest_resize, may_be_f32};
use super::{Plan, Rules, scales};
use crate::ir::{Graph, OpId, ValueId};
use crate::ops::is_shape_arithmetic;

/// N7. MaxPool commutes with Q/DQ: when its input and output have pairs, they share a scale and the
/// pool reads INT8. Average pools do not: they compute on INT8 when they stand between a quantized
/// op and one that reads only their quantized result, and nothing else wants their input in float.
pub(super) fn pools(g: &Graph, plan: &mut Plan, _: &Rules) {
    for op in g.order() {
        let node = g.op(op);
        let (Some(x), Some(y)) = (g.operand(op, 0), g.result(op, 0)) else { continue };
        if plan.float.contains(&op) {
            continue;
        }
        if node.is("MaxPool") && plan.has_pair(y) && plan.has_pair(x) {
            plan.read(x, op, 0, "N7");
            plan.same_scale.push((x, y));
        } else if (node.is("GlobalAveragePool") || node.is("AveragePool"))
            && feeds_quantized(g, plan, y)
            && plan.follows_quantized(g, x)
            && may_be_f32(g, x)
            && only_reader_in_float(g, plan, x, op)
        {
            plan.read(x, op, 0, "N7");
        }
    }
}

/// All readers of the value, looking through data movement, read pairs.
fn feeds_quantized(g: &Graph, plan: &Plan, value: ValueId) -> bool {
    if plan.all_readers_quantized(g, value) {
        return true;
    }
    let Some((op, _)) = g.sole_use(value) else { return false };
    super::walk::moves_data(g, op)
        && g.result(op, 0).is_some_and(|moved| feeds_quantized(g, plan, moved))
}

/// Every reader but `op` reads the pair of `value`.
fn only_reader_in_float(g: &Graph, plan: &Plan, value: ValueId, op: OpId) -> bool {
    let readers = plan.pairs.get(&value);
    let others = readers.map_or(0, |r| r.keys().filter(|k| **k != (op, 0)).count());
    !g.is_output(value) && g.use_count(value) == others + 1
}

/// N6. The inputs of a Concat that only quantized ops read get pairs, all of them and the output of
/// one scale; so does, N10, the input of a nearest Resize in front of it. Last Concat first, since a
/// Concat may feed another.
pub(super) fn concat_and_resize(g: &Graph, plan: &mut Plan, rules: &Rules) {
    for op in g.order().into_iter().rev() {
        let Some(y) = g.result(op, 0) else { continue };
        if !plan.all_readers_quantized(g, y) {
            continue;
        }
        if plan.float.contains(&op) {
            continue;
        }
        if g.op(op).is("Concat") && rules.on("N6") {
            join(g, plan, op, y, rules);
        } else if is_nearest_resize(g, op) && rules.on("N10") {
            let Some(x) = g.operand(op, 0) else { continue };
            if plan.follows_quantized(g, x) && may_be_f32(g, x) {
                plan.read(x, op, 0, "N10");
                plan.same_scale.push((x, y));
            }
        }
    }
}

fn join(g: &Graph, plan: &mut Plan, op: OpId, y: ValueId, rules: &Rules) {
    let inputs: Vec<ValueId> = g.operands(op).into_iter().flatten().collect();
    let fits = |v: &ValueId| !g.is_const(*v) && may_be_f32(g, *v) && !is_shape_arithmetic(g, *v);
    if inputs.len() < 2 || !inputs.iter().all(fits) {
        return;
    }
    for (slot, v) in inputs.iter().enumerate() {
        plan.read(*v, op, slot, "N6");
        plan.same_scale.push((*v, y));
    }
    // A pool whose input or output only now got a pair keeps the scale as well.
    for v in inputs.into_iter().filter(|_| rules.on("N7")) {
        scales::across_pool(g, plan, v);
    }
}
