//! # move-transposes
//!
//! ## What it does
//! Moves Transposes through other ops, where fewer are left or they move fewer elements: they cancel,
//! or meet other Transposes, constants, or smaller tensors. The ops in between work on other axes.
//!
//! ## Before/after
//! ```text
//! a = Transpose <perm = [0,2,3,1]> (x)         s = Softmax <axis = 1> (x)
//! s = Softmax <axis = 3> (a)                   y = Relu (s)
//! r = Relu (s)
//! y = Transpose <perm = [0,3,1,2]> (r)
//! ```
//!
//! ## When it applies
//! Between the Transposes stand elementwise ops (constants that broadcast are permuted), Softmax and
//! its like, Reduce ops, ArgMax, ArgMin, TopK, Concat, Split, Slice, Pad, Gather, GatherElements,
//! ScatterElements, Tile, Expand, CumSum, Squeeze, Unsqueeze, QuantizeLinear and DequantizeLinear,
//! MatMul and LayerNormalization where their own axes keep their place, Reshape where it splits and
//! joins axes that stay side by side, and Resize towards the layout that has the channels second. The choice of ops is a minimum cut over the whole neighbourhood.
//!
//! ## What it preserves
//! Neither the elements that Transposes move nor their number, with the Reshapes that merge once no
//! Transpose is between them, ever rises. Names of values that
//! are still computed as they were. Sums may add up in another order.
//!
//! ## Limits
//! An op stays when it treats its axes in a way that the table does not know. Symbols count as 64
//! when sizes are compared. Nothing moves between a QuantizeLinear and what reads it.

use std::collections::HashMap;

use super::layout::{Perm, composed, inverse, is_identity, permutation, permuted_operand};
use super::layout_region::{Flow, Region, Source};
use crate::ir::{Graph, Miss, Model, Op, OpId, Patch, Ref, Type, ValueId};
use crate::pass::{Cx, Pass, PassError, PassInfo, Semantics, visit_model};

pub(crate) struct MoveTransposes;

static INFO: PassInfo = PassInfo {
    name: "move-transposes",
    summary: "move Transposes to where they cancel",
    semantics: Semantics::Reassociates,
    source: include_str!("move_transposes.rs"),
};

impl Pass for MoveTransposes {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, model: &mut Model, cx: &mut Cx) -> Result<(), PassError> {
        let mut misses = Vec::new();
        visit_model(model, &mut |g, opset| {
            let stayed = run(g, opset, &mut cx.room, cx.explain);
            let why = |(op, why): (OpId, String)| (INFO.name, g.label(op), Miss::from(why));
            misses.extend(stayed.into_iter().map(why));
        });
        cx.misses.append(&mut misses);
        Ok(())
    }
}

/// Growth that is no reason to refuse a change.
const SMALL: i64 = 128;

/// Moves what pays. With `explain`, returns Transposes that stay, and why.
fn run(g: &mut Graph, opset: i64, room: &mut i64, explain: bool) -> Vec<(OpId, String)> {
    let mut stayed = Vec::new();
    // Each change lowers the number of Transposes or of elements moved, so this ends.
    let mut changed = true;
    while changed {
        changed = false;
        stayed.clear();
        let mut seen: HashMap<(ValueId, Perm), String> = HashMap::new();
        let transposes: Vec<OpId> =
            g.order().into_iter().filter(|o| g.op(*o).is("Transpose")).collect();
        for (op, after) in transposes.into_iter().flat_map(|op| [(op, true), (op, false)]) {
            let Some((seed, layout)) = seed(g, op, after) else { continue };
            if let Some(why) = seen.get(&(seed, layout.clone())) {
                stayed.extend(explain.then(|| (op, why.clone())));
                continue;
            }
            let region = Region::grow(g, opset, seed, layout);
            let Some(on) = region.best() else {
                let why = if explain { reason(g, &region) } else { String::new() };
                seen.extend(region.flows.into_iter().map(|f| ((f.value, f.layout), why.clone())));
                stayed.extend(explain.then_some((op, why)));
                continue;
            };
            let patch = Change::new(g, &region, &on).and_then(Change::plan);
            if let Some(patch) = patch.filter(|p| p.growth() <= (*room).max(SMALL)) {
                *room -= patch.growth();
                g.apply(patch);
                changed = true;
            }
        }
    }
    stayed
}

/// Ops that a reason names at most.
const NAMED: usize = 4;

/// Why a region stays as it is: where it ends.
fn reason(g: &Graph, region: &Region) -> String {
    let ends = region.ends(g);
    let mut names: Vec<String> = ends.iter().take(NAMED).map(|op| g.label(*op)).collect();
    match ends.len().saturating_sub(NAMED) {
        0 => {}
        more => names.push(format!("{more} more")),
    }
    let reach = match names.is_empty() {
        true => "the inputs and outputs of the graph".to_owned(),
        false => names.join(", "),
    };
    format!("moving it would save nothing: it could go as far as {reach}")
}

/// The result of a Transpose stored as its operand, or the operand stored as its result.
fn seed(g: &Graph, op: OpId, after: bool) -> Option<(ValueId, Perm)> {
    let perm = Some(op).filter(|op| g.has_op(*op)).and_then(|op| permutation(g, op))?;
    let (x, y) = (g.operand(op, 0)?, g.result(op, 0)?);
    if is_identity(&perm) || g.is_const(x) {
        return None;
    }
    Some(if after { (y, inverse(&perm)) } else { (x, perm) })
}

/// A choice of ops that work on stored values, on its way to a patch.
struct Change<'a> {
    g: &'a Graph,
    region: &'a Region,
    on: &'a [bool],
    flow_of: HashMap<ValueId, &'a Flow>,
    stored: HashMap<ValueId, Ref>,
    patch: Patch,
}

impl<'a> Change<'a> {
    fn new(g: &'a Graph, region: &'a Region, on: &'a [bool]) -> Option<Change<'a>> {
        let first = on.iter().position(|on| *on)?;
        let flow_of = region.flows.iter().map(|f| (f.value, f)).collect();
        let patch = Patch::at(region.ops[first].0);
        Some(Change { g, region, on, flow_of, stored: HashMap::new(), patch })
    }

    fn plan(mut self) -> Option<Patch> {
        let region = self.region;
        let is_on = |f: &&Flow| matches!(f.source, Source::Op(p) if self.on[p]);
        let made: Vec<&Flow> = region.flows.iter().filter(is_on).collect();
        for flow in &made {
            self.make(flow);
        }
        for (i, (op, _)) in region.ops.iter().enumerate() {
            if self.on[i] {
                self.work(i, *op)?;
            }
        }
        for flow in &made {
            self.serve(flow);
        }
        let gone = region.ops.iter().zip(self.on).filter(|(_, on)| **on);
        gone.for_each(|((op, _), _)| self.patch.remove(*op));
        Some(self.patch)
    }

    /// The value that an op makes from now on in the place of the flow's: where a Transpose made
    /// just that for a graph output, it keeps the name.
    fn make(&mut self, flow: &Flow) {
        let outputs = flow.transposes.iter().filter(|(_, perm)| *perm == flow.layout);
        let outputs = outputs.filter_map(|(op, _)| self.g.result(*op, 0));
        let stored = match outputs.into_iter().find(|v| self.g.is_output(*v)) {
            Some(output) => Ref::Old(output),
            None => {
                let (name, ty) =
                    (format!("{}_moved", self.g.value(flow.value).name()), self.ty(flow));
                self.patch.value(name, ty)
            }
        };
        self.stored.insert(flow.value, stored);
    }

    fn ty(&self, flow: &Flow) -> Option<Type> {
        let ty = self.g.value(flow.value).tensor_type()?;
        let shape = ty.shape.as_ref()?;
        let shape: Vec<_> = flow.layout.iter().map(|&p| shape[p].clone()).collect();
        Some(Type::tensor(ty.dtype?, shape))
    }

    /// The value of the flow as it is stored, for a reader that is on.
    fn stored(&mut self, flow: &Flow) -> Ref {
        if let Some(stored) = self.stored.get(&flow.value) {
            return *stored;
        }
        let by_other = flow.stored_by().and_then(|op| self.g.result(op, 0));
        let stored = match (flow.stored_before().or(by_other), &flow.source) {
            (Some(v), _) => v.into(),
            (None, Source::Transposed(from, perm)) => {
                self.transpose(flow, (*from).into(), &composed(perm, &flow.layout))
            }
            (None, _) => self.transpose(flow, flow.value.into(), &flow.layout),
        };
        self.stored.insert(flow.value, stored);
        stored
    }

    fn transpose(&mut self, flow: &Flow, from: Ref, perm: &[usize]) -> Ref {
        let name = format!("{}_moved", self.g.value(flow.value).name());
        let made = self.patch.value(name, self.ty(flow));
        self.patch.op_into(transpose(perm), vec![Some(from)], vec![Some(made)]);
        made
    }

    /// The op on stored values.
    fn work(&mut self, i: usize, id: OpId) -> Option<()> {
        let (g, moved) = (self.g, &self.region.ops[i].1);
        let mut op: Op = g.op(id).clone();
        for (name, value) in &moved.attrs {
            op.set_attr(name, value.clone());
        }
        let mut operands: Vec<Option<Ref>> = Vec::new();
        for (i, v) in g.operands(id).into_iter().enumerate() {
            operands.push(match (v, &moved.operands[i]) {
                (Some(v), Some(layout)) => match g.const_tensor(v) {
                    Some(t) => {
                        let name = format!("{}_moved", g.value(v).name());
                        let data = permuted_operand(t, layout)?;
                        if super::pattern::is_private(g, v) {
                            self.patch.frees(g, v);
                        }
                        Some(self.patch.constant(name, data))
                    }
                    None => {
                        let flow = self.flow_of[&v];
                        Some(self.stored(flow))
                    }
                },
                (v, _) => v.map(Ref::Old),
            });
        }
        for (slot, data) in &moved.constants {
            let name = match g.operand(id, *slot) {
                Some(v) => format!("{}_moved", g.value(v).name()),
                None => format!("{}_axes", g.value(g.result(id, 0)?).name()),
            };
            let constant = self.patch.constant(name, data.clone());
            operands.resize(operands.len().max(slot + 1), None);
            operands[*slot] = Some(constant);
        }
        let results = g.results(id).into_iter().zip(&moved.results).map(|(v, layout)| {
            let v = v?;
            Some(if layout.is_some() { self.stored[&v] } else { v.into() })
        });
        let results = results.collect();
        self.patch.op_into(op, operands, results);
        Some(())
    }

    /// What readers need of a value that is made as stored from now on.
    fn serve(&mut self, flow: &Flow) {
        let stored = self.stored[&flow.value];
        let back = inverse(&flow.layout);
        for (op, perm) in &flow.transposes {
            let Some(result) = self.g.result(*op, 0) else { continue };
            let rest = composed(&back, perm);
            if stored == Ref::Old(result) {
            } else if !is_identity(&rest) {
                let op = transpose(&rest).named(self.g.op(*op).name.clone());
                self.patch.op_into(op, vec![Some(stored)], vec![Some(result.into())]);
            } else if self.g.is_output(result) {
                let op = Op::new("Identity");
                self.patch.op_into(op, vec![Some(stored)], vec![Some(result.into())]);
            } else {
                self.patch.replace_uses(result, stored);
            }
            self.patch.remove(*op);
        }
        if flow.fixed || flow.readers.iter().any(|&r| !self.on[r]) {
            let result = Some(flow.value.into());
            self.patch.op_into(transpose(&back), vec![Some(stored)], vec![result]);
        }
    }
}

fn transpose(perm: &[usize]) -> Op {
    let perm: Vec<i64> = perm.iter().map(|&p| p as i64).collect();
    Op::new("Transpose").with("perm", perm)
}
