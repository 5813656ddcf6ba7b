//! T3 to T8: the two products of attention.
//!
//! `softmax(q kᵀ [* scale] [+ mask]) v`: pairs on both operands of both products, so that TensorRT
//! fuses the whole in 8 bits. Both or none (T6): the head size must be known, more than 8 and at most
//! 256 for FP8 (T5), on by default there; for INT8 (T4), on request, the sequence must be known and
//! at most 512 long. Probabilities lie in [0, 1], so their range is not observed. Attention on a cache
//! of keys and values stays float (T8).

use std::collections::BTreeSet;

use super::walk::{may_be_f32, unmoved};
use super::{Decision, Plan, Rules};
use crate::ir::{Graph, OpId, ValueId};

const HEADS: &str = "its heads are not known to have 9 to 256 channels";
const TOKENS: &str =
    "its sequence is not known to be at most 512 long; --set-dim of `edit` fixes it";

/// Plans pairs for every attention. `fp8` chooses the conditions.
pub(super) fn apply(g: &Graph, plan: &mut Plan, rules: &Rules, fp8: bool) {
    let rule = if fp8 { "T5" } else { "T4" };
    for op in g.order() {
        if g.op(op).is("Attention") && g.op(op).domain.is_empty() {
            whole(g, plan, rules, op, fp8);
        }
        let Some(a) = attention(g, op) else { continue };
        let refusals = [a.first, a.second].map(|op| match a.refused(g, fp8, op) {
            _ if plan.float.contains(&op) => Some(("user", "excluded by pattern")),
            _ if rules.on("T8") && a.reads_cache(g) => Some(("T8", "attention on a cache")),
            why => why.map(|why| (rule, why)),
        });
        let both = rules.on("T6") && refusals.iter().any(Option::is_some);
        let mut chosen = Vec::new();
        for (product, why) in [a.first, a.second].into_iter().zip(refusals) {
            match why {
                _ if plan.is_quantized(product) => {} // W5 is off.
                Some((rule, why)) => decide(g, plan, product, false, rule, why),
                None if both => {
                    let why = "the other product of its attention stays float";
                    decide(g, plan, product, false, "T6", why);
                }
                None => chosen.push(product),
            }
        }
        for product in chosen {
            for slot in [0, 1] {
                if let Some(v) = g.operand(product, slot) {
                    plan.read(v, product, slot, rule);
                }
            }
            plan.quantized.insert(product);
            decide(g, plan, product, true, rule, "a product of attention");
        }
        if plan.has_pair(a.probabilities) {
            plan.fixed.insert(a.probabilities, 1.0);
        }
    }
}

fn decide(g: &Graph, plan: &mut Plan, op: OpId, quantized: bool, rule: &'static str, why: &str) {
    let label = g.label(op);
    for d in plan.decisions.iter_mut().filter(|d| d.node == label && d.rule != "user") {
        (d.quantized, d.rule, d.reason) = (quantized, rule, why.to_owned());
    }
}

/// T7. Attention of operator set 23: pairs on query, key and value.
fn whole(g: &Graph, plan: &mut Plan, rules: &Rules, op: OpId, fp8: bool) {
    let excluded = plan.float.contains(&op);
    let why = match refused(g, op, fp8) {
        _ if excluded => Some("excluded by pattern"),
        _ if !rules.on("T7") => Some("T7 is off"),
        other => other,
    };
    if why.is_none() {
        for slot in 0..3 {
            if let Some(v) = g.operand(op, slot) {
                plan.read(v, op, slot, "T7");
            }
        }
    }
    plan.others.push(Decision {
        node: g.label(op),
        op_type: g.op(op).full_type(),
        weighted: false,
        quantized: why.is_none(),
        rule: if excluded { "user" } else { "T7" },
        reason: why.unwrap_or("query, key and value per tensor").to_owned(),
    });
}

/// Why TensorRT does not compute the Attention in 8 bits.
fn refused(g: &Graph, op: OpId, fp8: bool) -> Option<&'static str> {
    let shape = |i: usize| g.operand(op, i).and_then(|v| g.value(v).shape().cloned());
    let shapes = [shape(0), shape(1), shape(2)];
    let floats = (0..3).all(|i| g.operand(op, i).is_some_and(|v| may_be_f32(g, v)));
    if !floats || shapes.iter().any(|s| s.as_ref().is_none_or(|s| s.len() != 4)) {
        return Some("query, key and value are not known to be 4-D float32");
    }
    if (4..6).any(|i| g.operand(op, i).is_some()) || (1..3).any(|i| g.result(op, i).is_some()) {
        return Some("it has past keys and values");
    }
    let size = |i: usize, axis: usize| shapes[i].as_ref().and_then(|s| s[axis].size());
    match fp8 {
        true => {
            let fits = size(0, 3).is_some_and(|h| h > 8 && h <= 256);
            (!fits).then_some(HEADS)
        }
        false => {
            let fits = size(1, 2).is_some_and(|n| n <= 512);
            (!fits).then_some(TOKENS)
        }
    }
}

/// T3. Additions whose result goes into Softmax, through reshapes at most: of attention masks.
pub(super) fn mask_adds(g: &Graph) -> BTreeSet<OpId> {
    let softmax = g.ops().filter(|op| g.op(*op).is("Softmax"));
    let add = |op: OpId| {
        let before = g.producer_op(unmoved(g, g.operand(op, 0)?))?;
        (g.op(before).is("Add") && feeds_product(g, op)).then_some(before)
    };
    softmax.filter_map(add).collect()
}

/// The result goes into a MatMul, through casts and data movement.
fn feeds_product(g: &Graph, op: OpId) -> bool {
    let mut at = op;
    for _ in 0..4 {
        let Some((next, _)) = g.result(at, 0).and_then(|v| g.sole_use(v)) else { return false };
        if g.op(next).is("MatMul") {
            return true;
        }
        at = next;
    }
    false
}

struct Attention {
    first: OpId,
    second: OpId,
    probabilities: ValueId,
}

/// The attention whose second product is `op`.
fn attention(g: &Graph, op: OpId) -> Option<Attention> {
    let product = |op: OpId| {
        g.op(op).is("MatMul")
            && [0, 1]
                .iter()
                .all(|i| g.operand(op, *i).is_some_and(|v| !g.is_const(v) && may_be_f32(g, v)))
    };
    if !product(op) {
        return None;
    }
    let probabilities = g.operand(op, 0)?;
    let mut at = g.producer_op(probabilities)?;
    while g.op(at).is("Cast") || g.op(at).is("Dropout") || g.op(at).is("Identity") {
        at = g.producer_op(g.operand(at, 0)?)?;
    }
    if !g.op(at).is("Softmax") {
        return None;
    }
    let mut v = g.operand(at, 0)?;
    // Scale and mask, in either order.
    for _ in 0..4 {
        let before = g.producer_op(v)?;
        let node = g.op(before);
        if node.is("MatMul") {
            return product(before).then_some(Attention {
                first: before,
                second: op,
                probabilities,
            });
        }
        if !(node.is("Mul") || node.is("Div") || node.is("Add") || node.is("Where")) {
            return None;
        }
        // The side that leads on to the product, over arithmetic alone.
        let sides = g.operands(before).into_iter().flatten().filter(|v| !g.is_const(*v));
        v = sides.into_iter().find(|v| leads_to_product(g, *v, 3))?;
    }
    None
}

fn leads_to_product(g: &Graph, v: ValueId, depth: usize) -> bool {
    let Some(op) = g.producer_op(v) else { return false };
    let node = g.op(op);
    node.is("MatMul")
        || (depth > 0
            && (node.is("Mul") || node.is("Div") || node.is("Add"))
            && g.operands(op).into_iter().flatten().any(|v| leads_to_product(g, v, depth - 1)))
}

impl Attention {
    /// Why the product does not become one of 8 bits.
    fn refused(&self, g: &Graph, fp8: bool, product: OpId) -> Option<&'static str> {
        let shape =
            |slot: usize| g.operand(self.first, slot).and_then(|v| g.value(v).shape().cloned());
        let float = |i: &usize| g.operand(product, *i).is_some_and(|v| may_be_f32(g, v));
        if ![0, 1].iter().all(float) {
            return Some("it multiplies no float32");
        }
        let last = |slot| shape(slot).and_then(|s| s.last().and_then(|d| d.size()));
        match fp8 {
            true => {
                let fits = last(0).is_some_and(|head| head > 8 && head <= 256);
                (!fits).then_some(HEADS)
            }
            false => {
                let fits = last(1).is_some_and(|tokens| tokens <= 512);
                (!fits).then_some(TOKENS)
            }
        }
    }

    /// Keys or values are put together from an earlier run: an input of the graph, or an output.
    fn reads_cache(&self, g: &Graph) -> bool {
        [self.first, self.second].iter().any(|op| {
            let Some(v) = g.operand(*op, 1).map(|v| unmoved(g, v)) else { return false };
            let Some(concat) = g.producer_op(v).filter(|op| g.op(*op).is("Concat")) else {
                return g.is_output(v);
            };
            g.is_output(v)
                || g.operands(concat).into_iter().flatten().any(|v| g.is_input(unmoved(g, v)))
        })
    }
}
