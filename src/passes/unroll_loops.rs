//! # unroll-loops
//!
//! ## What it does
//! Puts the body of a Loop or Scan in its place, once for each of a known number of runs.
//!
//! ## Before/after
//! ```text
//! y, all = Loop (two, true, x) <           t = Neg (x)
//!   body = b (i, c, s) => (c, t, t)        y = Neg (t)
//!     { t = Neg (s) }                      all = Concat <axis = 0> (Unsqueeze (t), Unsqueeze (y))
//! >
//! ```
//!
//! ## When it applies
//! A Loop has a constant trip count and a condition that stays true; a Scan has sequences of known
//! length. The ops that come out, at most 1024, take less room in a file than the growth limit
//! leaves. Constants of the body are shared by all runs.
//!
//! ## What it preserves
//! Names of results. Names inside the body; those of later runs get a number.
//!
//! ## Limits
//! A Loop that runs never but collects something stays, as does a Scan of opset 8.

use super::bodies::{captured, size, states, trips};
use crate::ir::{DType, Graph, Model, Op, OpId, Tensor, Value, ValueId};
use crate::pass::{Cx, Pass, PassError, PassInfo, Semantics, visit_model};

pub(crate) struct UnrollLoops;

static INFO: PassInfo = PassInfo {
    name: "unroll-loops",
    summary: "put the body of a Loop or Scan in its place, once for each run",
    semantics: Semantics::Exact,
    source: include_str!("unroll_loops.rs"),
};

/// Ops that one loop may become.
const MOST_OPS: usize = 1024;

impl Pass for UnrollLoops {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, model: &mut Model, cx: &mut Cx) -> Result<(), PassError> {
        visit_model(model, &mut |g, opset| {
            let loops: Vec<OpId> = g.ops().filter(|op| !g.op(*op).bodies.is_empty()).collect();
            for op in loops {
                if let Some(plan) = plan(g, op, opset, cx.room) {
                    cx.room -= plan.bytes;
                    unroll(g, op, &plan, opset);
                }
            }
        });
        Ok(())
    }
}

/// One axis of a sequence that a Scan takes apart or puts together.
#[derive(Clone, Copy)]
struct Axis {
    index: i64,
    reversed: bool,
}

struct Plan {
    body: usize,
    count: usize,
    /// Initial values of what one run hands to the next.
    initial: Vec<ValueId>,
    /// Sequences that the runs read.
    scanned: Vec<(ValueId, Axis)>,
    /// How the results that collect something are put together.
    stacks: Vec<Axis>,
    is_loop: bool,
    /// Bytes that the ops take in a file, about.
    bytes: i64,
}

fn plan(g: &Graph, op: OpId, opset: i64, room: i64) -> Option<Plan> {
    let states = states(g, op, opset)?;
    let count = trips(g, op, &states).exact?;
    let node = g.op(op);
    let inner = &node.bodies[states.body];
    let used = |k: usize| g.result(op, k).is_some_and(|v| !g.is_unused(v));
    let collects = (states.count..states.count + states.stacks).any(used);
    let (ops, bytes) = size(inner);
    let ops = count.checked_mul(ops + states.stacks)?;
    let bytes = i64::try_from(count.saturating_sub(1).checked_mul(bytes)?).ok()?;
    if (count == 0 && collects) || ops > MOST_OPS || count > MOST_OPS || bytes > room.max(0) {
        return None;
    }
    let axis = |kind: &str, k: usize| {
        let at = |name: String| node.ints(&name).and_then(|v| v.get(k)).copied().unwrap_or(0);
        let reversed = at(format!("scan_{kind}_directions")) != 0;
        Axis { index: at(format!("scan_{kind}_axes")), reversed }
    };
    let operand = |i: usize| g.operand(op, i);
    let slots = states.operand..states.operand + states.count;
    let scans = if node.is("Loop") { node.arity() } else { states.count };
    let scanned = (scans..node.arity()).map(|i| Some((operand(i)?, axis("input", i - scans))));
    Some(Plan {
        body: states.body,
        count,
        initial: slots.map(operand).collect::<Option<_>>()?,
        scanned: scanned.collect::<Option<_>>()?,
        stacks: (0..states.stacks).map(|k| axis("output", k)).collect(),
        is_loop: node.is("Loop"),
        bytes,
    })
}

fn unroll(g: &mut Graph, op: OpId, plan: &Plan, opset: i64) {
    let mut inner = g.op(op).bodies[plan.body].clone();
    if plan.is_loop {
        // The first output of the body only says whether to go on.
        inner.set_outputs(inner.outputs()[1..].to_vec());
    }
    let mut known = captured(g, op, plan.body);
    let constants: Vec<ValueId> = inner.values().filter(|v| inner.is_const(*v)).collect();
    for v in constants.into_iter().filter(|v| !inner.is_capture(*v)) {
        let Some(data) = inner.const_tensor(v).cloned() else { continue };
        known.push((v, g.add_const(inner.value(v).name(), data)));
    }
    let mut state = plan.initial.clone();
    let mut collected: Vec<Vec<ValueId>> = vec![Vec::new(); plan.stacks.len()];
    for k in 0..plan.count {
        let inputs = inputs(g, op, &inner, plan, k, &state);
        let outputs = run_once(g, op, &numbered(&inner, k), &inputs, &known);
        state = outputs[..state.len()].to_vec();
        for (all, v) in collected.iter_mut().zip(&outputs[state.len()..]) {
            all.push(*v);
        }
    }
    let results = g.results(op);
    let result = |k: usize| results.get(k).copied().flatten();
    for (k, v) in state.iter().enumerate() {
        match result(k) {
            Some(r) if g.is_output(r) => {
                g.add_op(Op::new("Identity"), &[Some(*v)], &[Some(r)], Some(op));
            }
            Some(r) => g.replace_uses(r, *v),
            None => {}
        }
    }
    for ((k, mut parts), axis) in collected.into_iter().enumerate().zip(&plan.stacks) {
        let Some(r) = result(state.len() + k).filter(|r| !g.is_unused(*r)) else { continue };
        if axis.reversed {
            parts.reverse();
        }
        stack(g, op, r, &parts, axis.index, opset);
    }
    let read = g.reads(op).chain(known.iter().map(|(_, outer)| *outer)).collect();
    g.remove_op(op);
    g.remove_dead(read);
}

/// What run `k` gets for the inputs of the body.
fn inputs(
    g: &mut Graph,
    op: OpId,
    inner: &Graph,
    plan: &Plan,
    k: usize,
    state: &[ValueId],
) -> Vec<Option<ValueId>> {
    let mut inputs = Vec::with_capacity(inner.inputs().len());
    if plan.is_loop {
        let needed = |v: ValueId| !inner.is_unused(v);
        let yes = Tensor::new(DType::Bool, vec![], vec![1].into());
        let heads = [("iteration", Some(Tensor::scalar(k as i64))), ("condition", yes.ok())];
        for ((name, data), v) in heads.into_iter().zip(inner.inputs()) {
            inputs.push(data.filter(|_| needed(*v)).map(|data| g.add_const(name, data)));
        }
    }
    inputs.extend(state.iter().map(|v| Some(*v)));
    for (x, axis) in &plan.scanned {
        let at = if axis.reversed { plan.count - 1 - k } else { k };
        let index = g.add_const("step", Tensor::scalar(at as i64));
        let name = format!("{}_{at}", g.value(*x).name());
        let part = g.add_value(Value::new(name, None));
        let gather = Op::new("Gather").with("axis", axis.index);
        g.add_op(gather, &[Some(*x), Some(index)], &[Some(part)], Some(op));
        inputs.push(Some(part));
    }
    inputs
}

/// The body with names for its ops that tell the runs apart.
fn numbered(inner: &Graph, k: usize) -> Graph {
    let mut body = inner.clone();
    let ops: Vec<OpId> = body.ops().collect();
    for op in ops.into_iter().filter(|_| k > 0) {
        let node = body.op_facts_mut(op);
        if !node.name.is_empty() {
            node.name = format!("{}_{k}", node.name);
        }
    }
    body
}

/// Copies the body to where `op` stands. Returns what its outputs are here.
fn run_once(
    g: &mut Graph,
    op: OpId,
    body: &Graph,
    inputs: &[Option<ValueId>],
    known: &[(ValueId, ValueId)],
) -> Vec<ValueId> {
    let outputs =
        body.outputs().iter().map(|v| Some(g.add_value(Value::new(body.value(*v).name(), None))));
    let outputs: Vec<Option<ValueId>> = outputs.collect();
    // An output may be what is there already: a reader of the new values learns what they became.
    let reader = g.add_op(Op::new("Identity"), &outputs, &[], Some(op));
    let maker = g.add_op(Op::new("Identity"), &[], &outputs, Some(op));
    g.inline(maker, body, inputs, known);
    let made = g.operands(reader).into_iter().flatten().collect();
    g.remove_op(reader);
    g.remove_op(maker);
    made
}

/// Makes `result` of the parts, put together along a new axis.
fn stack(g: &mut Graph, op: OpId, result: ValueId, parts: &[ValueId], axis: i64, opset: i64) {
    let axes = (opset >= 13).then(|| g.add_const("stack_axes", Tensor::vector(&[axis])));
    let single = parts.len() == 1;
    let mut wide = Vec::with_capacity(parts.len());
    for part in parts {
        let name = format!("{}_part", g.value(*part).name());
        let made = if single { result } else { g.add_value(Value::new(name, None)) };
        let unsqueeze = match axes {
            Some(_) => Op::new("Unsqueeze"),
            None => Op::new("Unsqueeze").with("axes", vec![axis]),
        };
        let operands: Vec<Option<ValueId>> =
            [Some(*part)].into_iter().chain(axes.map(Some)).collect();
        g.add_op(unsqueeze, &operands, &[Some(made)], Some(op));
        wide.push(Some(made));
    }
    if !single {
        let concat = Op::new("Concat").with("axis", axis);
        g.add_op(concat, &wide, &[Some(result)], Some(op));
    }
}
