//! Bodies of `If`, `Loop` and `Scan` laid out in the graph around them, so that channels are followed
//! into and out of them as through any other op.
//!
//! Where a value enters or leaves a body stands an op of the domain [`DOMAIN`] whose rule says which
//! axis is which: the results of both branches are the result of an `If`, and a value that a loop
//! carries is the same before, between and after its runs. By induction over the runs a channel that
//! no weight reads in one of them is read in none. The flat graph is never saved or run: what is
//! changed in it is written back.

use std::collections::{BTreeMap, HashMap};

use crate::ir::{Graph, Op, OpId, Type, Value, ValueId};
use crate::ops::axes::AxisRef::{Operand, Result as Out};
use crate::ops::axes::{self, AxisLink, Refusal};
use crate::ops::{self, InferCx};

/// Domain of the ops at the borders of bodies.
const DOMAIN: &str = "lapidary.bodies";

/// From the outermost graph inwards, the op that holds a body and the body's number.
type Path = Vec<(OpId, usize)>;

/// A graph without bodies, and where each of its parts comes from. Ids of the outer graph are the same
/// in both.
pub(super) struct Flat {
    pub graph: Graph,
    /// Where an op is, its id there and in the flat graph.
    ops: Vec<(Path, OpId, OpId)>,
    /// The same for values; captured values stand for themselves outside only.
    values: Vec<(Path, ValueId, ValueId)>,
    opset: i64,
}

/// For each value of a graph that is laid out, the one in the flat graph.
type Map = HashMap<ValueId, ValueId>;

/// The links of an op, those at the borders of bodies included.
///
/// # Errors
/// The reason why nothing is known.
pub(super) fn links(g: &Graph, op: OpId, opset: i64) -> Result<Vec<AxisLink>, Refusal> {
    let cx = InferCx::new(g, op, opset);
    match g.op(op).domain == DOMAIN {
        true => border(&cx),
        false => axes::links(ops::any_schema(g.op(op)), &cx),
    }
}

/// What enters or leaves a body keeps its axes, except the one that the body runs along.
fn border(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let unknown = || Refusal::from("a subgraph reads or makes it, of unknown rank");
    let out = cx.result(0).and_then(Value::rank);
    match cx.op().op_type.as_str() {
        "Join" => {
            let rank = cx.rank(0).ok_or_else(unknown)?;
            let ranks = (0..cx.arity()).map(|i| cx.rank(i)).chain(cx.result(0).map(|_| out));
            if ranks.into_iter().any(|r| r != Some(rank)) {
                return Err("a subgraph gives it a rank of its own".into());
            }
            let of = |a| {
                let mut all: Vec<_> = (0..cx.arity()).map(|i| Operand(i, a)).collect();
                all.extend(cx.result(0).map(|_| Out(0, a)));
                AxisLink::Same(all)
            };
            Ok((0..rank).map(of).collect())
        }
        side @ ("Take" | "Stack") => {
            let take = side == "Take";
            let whole = if take { cx.rank(0) } else { out }.ok_or_else(unknown)?;
            let axis = ops::normalize_axis(cx.op().int_or("axis", 0), whole).ok_or_else(unknown)?;
            let why = "a subgraph runs along it";
            let fixed = if take { Operand(0, axis) } else { Out(0, axis) };
            let of = |a: usize| {
                let part = a - usize::from(a > axis);
                let (from, to) = if take { (a, part) } else { (part, a) };
                AxisLink::Same(vec![Operand(0, from), Out(0, to)])
            };
            let mut links: Vec<_> = (0..whole).filter(|a| *a != axis).map(of).collect();
            links.push(AxisLink::Fixed(fixed, why));
            Ok(links)
        }
        _ => Err("a subgraph reads or makes it".into()),
    }
}

impl Flat {
    /// Lays out every body; `None` when there is none. Types must be up to date.
    pub fn of(g: &Graph, opset: i64) -> Option<Flat> {
        let holders: Vec<OpId> =
            g.order().into_iter().filter(|op| !g.op(*op).bodies.is_empty()).collect();
        if holders.is_empty() {
            return None;
        }
        let (graph, ops, values) = (g.clone(), Vec::new(), Vec::new());
        let mut flat = Flat { graph, ops, values, opset };
        let same: Map = g.values().map(|v| (v, v)).collect();
        for op in holders.into_iter().filter(|op| fits(g, *op, opset)) {
            g.results(op).into_iter().flatten().for_each(|v| flat.graph.detach(v));
            flat.lay_out(g, op, &Path::new(), &same, op);
            flat.graph.remove_op(op);
        }
        let kept = g.ops().filter(|op| flat.graph.has_op(*op));
        flat.ops.extend(kept.map(|op| (Path::new(), op, op)));
        let kept = g.values().filter(|v| flat.graph.has_value(*v));
        flat.values.extend(kept.map(|v| (Path::new(), v, v)));
        Some(flat)
    }

    fn lay_out(&mut self, g: &Graph, op: OpId, path: &Path, at: &Map, anchor: OpId) {
        let node = g.op(op);
        let outside = |v: Option<ValueId>| v.and_then(|v| at.get(&v).copied());
        let operands: Vec<_> = g.operands(op).into_iter().map(outside).collect();
        let results: Vec<_> = g.results(op).into_iter().map(outside).collect();
        let mut inner: Vec<Map> = vec![Map::new(); node.bodies.len()];
        for (k, (body, value)) in node.captures.iter().enumerate() {
            if let Some(v) = outside(g.capture(op, k)) {
                inner[*body].insert(*value, v);
            }
        }
        let kind = node.op_type.as_str();
        for (b, (body, map)) in node.bodies.iter().zip(&mut inner).enumerate() {
            let mut path = path.clone();
            path.push((op, b));
            self.add_values(body, &path, map);
            for (i, v) in body.inputs().iter().enumerate() {
                let from = operands.get(i).copied().flatten();
                let scanned = (kind == "Scan").then(|| i.checked_sub(states(node, body))).flatten();
                let (side, axis) = match scanned {
                    Some(k) => ("Take", axis_of(node, "scan_input_axes", k)),
                    None if from.is_some() && (kind != "Loop" || i > 1) => ("Join", 0),
                    None => ("Start", 0),
                };
                let from = if side == "Start" { None } else { from };
                self.border(side, axis, &[from], map.get(v).copied(), anchor);
            }
            self.add_ops(body, &path, map, anchor);
        }
        let output =
            |b: usize, k: usize| inner.get(b)?.get(node.bodies.get(b)?.outputs().get(k)?).copied();
        for (k, result) in results.iter().copied().enumerate() {
            if kind == "If" {
                self.border("Join", 0, &[output(0, k), output(1, k)], result, anchor);
                continue;
            }
            let body = &node.bodies[0];
            // A loop has its number of runs and condition first, and its condition comes out first.
            let (skip, out) = if kind == "Loop" { (2, k + 1) } else { (0, k) };
            let states = if kind == "Loop" { node.arity().max(2) - 2 } else { states(node, body) };
            if k < states {
                let start = operands.get(k + skip).copied().flatten();
                let run = body.inputs().get(k + skip).and_then(|v| inner[0].get(v).copied());
                self.border("Join", 0, &[start, run, output(0, out)], result, anchor);
            } else {
                let axis = match kind {
                    "Scan" => axis_of(node, "scan_output_axes", k - states),
                    _ => 0,
                };
                self.border("Stack", axis, &[output(0, out)], result, anchor);
            }
        }
    }

    fn border(
        &mut self,
        side: &str,
        axis: i64,
        operands: &[Option<ValueId>],
        result: Option<ValueId>,
        anchor: OpId,
    ) {
        let mut op = Op::new(side);
        op.domain = DOMAIN.to_owned();
        op.set_attr("axis", crate::ir::AttrValue::Int(axis));
        self.graph.add_op(op, operands, &[result], Some(anchor));
    }

    /// Adds the values of a body that do not come from outside.
    fn add_values(&mut self, body: &Graph, path: &Path, map: &mut Map) {
        for v in body.values() {
            if map.contains_key(&v) {
                continue;
            }
            let value = body.value(v);
            let new = self.graph.add_value(Value::new(value.name(), value.ty.clone()));
            match body.const_tensor(v) {
                Some(data) => self.graph.set_data(new, data.clone()),
                None => self.graph.facts_mut(new).sym = value.sym.clone(),
            }
            map.insert(v, new);
            self.values.push((path.clone(), v, new));
        }
    }

    fn add_ops(&mut self, body: &Graph, path: &Path, map: &Map, anchor: OpId) {
        let at = |v: Option<ValueId>| v.and_then(|v| map.get(&v).copied());
        for op in body.order() {
            let node = body.op(op);
            if !node.bodies.is_empty() && fits(body, op, self.opset) {
                self.lay_out(body, op, path, map, anchor);
                continue;
            }
            let results: Vec<_> = body.results(op).into_iter().map(at).collect();
            if node.bodies.is_empty() {
                let operands: Vec<_> = body.operands(op).into_iter().map(at).collect();
                let new = self.graph.add_op(node.clone(), &operands, &results, Some(anchor));
                self.ops.push((path.clone(), op, new));
            } else {
                let mut closed = Op::new(&node.op_type);
                closed.domain = DOMAIN.to_owned();
                let operands: Vec<_> = body.reads(op).map(|v| at(Some(v))).collect();
                self.graph.add_op(closed, &operands, &results, Some(anchor));
            }
        }
    }

    /// Writes into `g`, which this was laid out from, how `changed` differs from the flat graph:
    /// constants, attributes and types.
    pub fn write_back(&self, changed: &Graph, g: &mut Graph) {
        for (path, there, here) in &self.values {
            let (old, new) = (self.graph.const_tensor(*here), changed.const_tensor(*here));
            if let (Some(old), Some(new)) = (old, new)
                && !old.same_storage(new)
            {
                body_at(g, path).set_data(*there, new.clone());
            }
            let (old, new) = (&self.graph.value(*here).ty, &changed.value(*here).ty);
            if old != new {
                retype(body_at(g, path).facts_mut(*there), old.as_ref(), new.as_ref());
            }
        }
        let mut copies: BTreeMap<(&Path, ValueId), ValueId> = BTreeMap::new();
        for (path, there, here) in &self.ops {
            let (old, new) = (self.graph.op(*here), changed.op(*here));
            if old.attrs != new.attrs {
                body_at(g, path).edit_op(*there).attrs = new.attrs.clone();
            }
            for i in 0..new.arity() {
                let Some(v) = changed.operand(*here, i) else { continue };
                let data = changed.const_tensor(v);
                let Some(data) = data.filter(|_| self.graph.operand(*here, i) != Some(v)) else {
                    continue;
                };
                let target = body_at(g, path);
                let name = changed.value(v).name();
                let add = || target.add_const(name, data.clone());
                let copy = *copies.entry((path, v)).or_insert_with(add);
                target.set_operand(*there, i, Some(copy));
            }
        }
        drop_captures(g);
    }
}

/// The op is one whose bodies can be laid out.
fn fits(g: &Graph, op: OpId, opset: i64) -> bool {
    let node = g.op(op);
    let (bodies, results) = (&node.bodies, node.result_count());
    let outputs = |b: &Graph| b.outputs().len();
    match node.op_type.as_str() {
        _ if !node.domain.is_empty() => false,
        "If" => bodies.len() == 2 && bodies.iter().all(|b| outputs(b) == results),
        "Loop" => {
            let [body] = &bodies[..] else { return false };
            body.inputs().len() == node.arity().max(2) && outputs(body) == results + 1
        }
        "Scan" => {
            let [body] = &bodies[..] else { return false };
            let fits = body.inputs().len() == node.arity() && outputs(body) == results;
            opset >= 9 && fits && states(node, body) <= results
        }
        _ => false,
    }
}

/// Number of values that a `Scan` hands from run to run.
fn states(op: &Op, body: &Graph) -> usize {
    let scanned = usize::try_from(op.int_or("num_scan_inputs", 0)).unwrap_or(0);
    body.inputs().len().saturating_sub(scanned)
}

fn axis_of(op: &Op, attr: &str, k: usize) -> i64 {
    op.ints(attr).and_then(|a| a.get(k)).copied().unwrap_or(0)
}

fn body_at<'g>(g: &'g mut Graph, path: &Path) -> &'g mut Graph {
    path.iter().fold(g, |g, (op, body)| &mut g.bodies_mut(*op)[*body])
}

/// Gives the value its new type, and those dims that are new also as the file states them: a body states
/// the types of its inputs and outputs.
fn retype(value: &mut Value, old: Option<&Type>, new: Option<&Type>) {
    let shape = |ty: Option<&Type>| ty.and_then(Type::as_tensor).and_then(|t| t.shape.clone());
    if let (Some(old), Some(new)) = (shape(old), shape(new)) {
        let stated = value.file_ty.as_mut().and_then(Type::as_tensor_mut);
        let stated = stated.and_then(|t| t.shape.as_mut()).into_iter().flatten();
        let changed = |(dim, (old, new))| (old != new).then_some((dim, new));
        for (dim, new) in stated.zip(old.iter().zip(&new)).filter_map(changed) {
            *dim = new.clone();
        }
    }
    value.ty = new.cloned();
}

/// Drops captures that no body reads any more, innermost first.
fn drop_captures(g: &mut Graph) {
    let holders: Vec<OpId> = g.ops().filter(|op| !g.op(*op).bodies.is_empty()).collect();
    for op in holders {
        g.bodies_mut(op).iter_mut().for_each(drop_captures);
        g.prune_captures(op);
    }
}
