//! What ops cost: multiply-accumulates, weights and precision.

use std::collections::BTreeSet;

use super::stored::{constant, is_param, stands_for_floats};
use crate::ir::{Dim, Graph, OpId, Tensor, ValueId};
use crate::ops::{self, Quant};

/// Cost of one op that multiplies or has weights.
pub(super) struct OpCost {
    pub name: String,
    pub op: String,
    /// Sizes of the constant factor, if there is one.
    pub weight: Option<Vec<usize>>,
    pub params: usize,
    pub bytes: usize,
    pub macs: Option<Dim>,
    pub precision: String,
    pub output: String,
}

/// Costs of a graph and the subgraphs in it.
pub(super) struct Costs {
    pub ops: Vec<OpCost>,
    /// Sum over all ops for which it is known.
    pub macs: Dim,
    /// The part of it that is done in 8-bit integers.
    pub int8: Dim,
    /// Ops for which it is not known.
    pub unknown: usize,
}

/// Costs of all ops. Of the branches of an `If` the dearer one counts; the body of a loop counts
/// once.
pub(super) fn costs(g: &Graph) -> Costs {
    let mut all = Costs { ops: Vec::new(), macs: Dim::Known(0), int8: Dim::Known(0), unknown: 0 };
    for id in g.order() {
        let bodies: Vec<Costs> = g.op(id).bodies.iter().map(costs).collect();
        let dearest = bodies.iter().map(|b| b.macs.known().unwrap_or(i64::MAX)).max();
        for body in bodies {
            if Some(body.macs.known().unwrap_or(i64::MAX)) == dearest || !g.op(id).is("If") {
                all.macs = &all.macs + &body.macs;
                all.int8 = &all.int8 + &body.int8;
            }
            all.unknown += body.unknown;
            all.ops.extend(body.ops);
        }
        add(g, id, &mut all);
    }
    all
}

fn add(g: &Graph, id: OpId, all: &mut Costs) {
    let op = g.op(id);
    let Some(schema) = ops::any_schema(op) else { return };
    let macs = (schema.macs)(g, id).filter(Dim::is_some);
    let multiplies = macs.as_ref().is_none_or(|m| *m != Dim::Known(0));
    if !multiplies && matches!(schema.quant, Quant::Never) {
        return;
    }
    let precision = precision(g, id);
    match &macs {
        Some(m) => {
            all.macs = &all.macs + m;
            if precision == "int8" {
                all.int8 = &all.int8 + m;
            }
        }
        None => all.unknown += 1,
    }
    if !multiplies {
        return;
    }
    let weight = weight(g, id);
    let result = g.results(id).into_iter().flatten().next();
    let ty = result.and_then(|v| g.value(v).ty.as_ref());
    let stored = weights(g, id);
    all.ops.push(OpCost {
        name: g.short_name(id),
        op: op.full_type(),
        weight: weight.map(|t| t.dims().to_vec()),
        params: stored.iter().map(|t| t.len()).sum(),
        bytes: stored.iter().map(|t| t.byte_len()).sum(),
        macs,
        precision,
        output: ty.map_or("?".to_owned(), |t| t.to_string()),
    });
}

/// Slots of the two factors.
fn factors(g: &Graph, id: OpId) -> [usize; 2] {
    match g.op(id).op_type.as_str() {
        "QLinearConv" | "QLinearMatMul" => [0, 3],
        _ => [0, 1],
    }
}

/// The constant factor.
fn weight(g: &Graph, id: OpId) -> Option<&Tensor> {
    let [a, b] = factors(g, id);
    [b, a].into_iter().find_map(|slot| {
        let (from, _) = source(g, g.operand(id, slot)?);
        constant(g, from)
    })
}

/// All weights that the op reads, quantized or not.
fn weights(g: &Graph, id: OpId) -> Vec<&Tensor> {
    let operands: BTreeSet<ValueId> =
        g.operands(id).into_iter().flatten().map(|v| source(g, v).0).collect();
    operands.into_iter().filter(|v| is_param(g, *v)).filter_map(|v| constant(g, v)).collect()
}

/// Where a value comes from behind ops that only move or dequantize data, and whether something is
/// dequantized on the way.
fn source(g: &Graph, mut v: ValueId) -> (ValueId, bool) {
    let mut dequantized = false;
    for _ in 0..8 {
        let Some((op, 0)) = g.producer(v) else { break };
        let moves = match g.op(op).op_type.as_str() {
            _ if !g.op(op).domain.is_empty() => false,
            "DequantizeLinear" if dequantized => false,
            "DequantizeLinear" => {
                dequantized = true;
                true
            }
            "Transpose" | "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" | "Identity" => true,
            "Cast" | "Mul" | "Sub" if !dequantized => match by_hand(g, op) {
                Some(from) => return (from, true),
                None => false,
            },
            _ => false,
        };
        match g.operand(op, 0).filter(|_| moves) {
            Some(from) => v = from,
            None => break,
        }
    }
    (v, dequantized)
}

/// The narrow integers behind `Cast`, or `Cast` and a constant `Sub` and `Mul`: weights that were
/// quantized by hand.
fn by_hand(g: &Graph, mut op: OpId) -> Option<ValueId> {
    for outer in ["Mul", "Sub"] {
        if g.op(op).is(outer) {
            constant(g, g.operand(op, 1)?)?;
            op = g.producer_op(g.operand(op, 0)?)?;
        }
    }
    let from = g.operand(op, 0).filter(|_| g.op(op).is("Cast"))?;
    let t = constant(g, from)?;
    stands_for_floats(g, op, t).then_some(from)
}

/// What the op computes in: `int8`, `float16`, …; `int4 weights` when only those are quantized.
fn precision(g: &Graph, id: OpId) -> String {
    let name = |v: ValueId| match g.value(v).dtype().map(|d| d.name()) {
        Some("int8" | "uint8") => "int8".to_owned(),
        Some(name) => name.to_owned(),
        None => "?".to_owned(),
    };
    match g.op(id).op_type.as_str() {
        "ConvInteger" | "MatMulInteger" | "QLinearConv" | "QLinearMatMul" => return "int8".into(),
        _ => {}
    }
    let [a, b] = factors(g, id);
    let (Some(a), Some(b)) = (g.operand(id, a), g.operand(id, b)) else { return "?".into() };
    match (source(g, a), source(g, b)) {
        ((x, true), (y, true)) if name(x) == name(y) => name(y),
        ((x, true), (y, true)) => format!("{} x {}", name(x), name(y)),
        ((x, true), _) if constant(g, x).is_some() => format!("{} weights", name(x)),
        (_, (y, true)) if constant(g, y).is_some() => format!("{} weights", name(y)),
        _ => name(a),
    }
}
