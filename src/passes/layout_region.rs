//! Which ops of a region work on stored operands so that the fewest Transposes are left.
//!
//! A region holds values with a layout each and the ops that can work on all of their values as
//! stored. Every op is on (it works on stored values) or off. A Transpose stands where a value is
//! needed otherwise than it is made. With costs for these, the best choice is a minimum cut: the
//! "project selection" network of Hochbaum and others, one auxiliary node where several readers
//! share a Transpose.

use std::collections::{HashMap, HashSet, VecDeque};

use petgraph::Graph as Network;
use petgraph::graph::NodeIndex;
use petgraph::visit::EdgeRef;

use super::layout::{Moved, Perm, Port, composed, is_identity, moved, permutation};
use super::pattern::sole_maker;
use super::reshape::{REGROUPING, target};
use crate::ir::{Dim, Graph, OpId, Slot, ValueId};

/// Ops after which a region grows no further.
const MAX_OPS: usize = 1000;

/// What a symbol counts for when sizes are compared.
const NOMINAL: i64 = 64;

/// What makes a value.
#[derive(Debug)]
pub(super) enum Source {
    /// The op of the region with this number.
    Op(usize),
    /// A Transpose of that value; whether it gives the value as stored is for the layouts to say.
    Transposed(ValueId, Perm),
    /// Something else.
    Fixed,
}

/// A value that has a layout, and who makes and reads it.
#[derive(Debug)]
pub(super) struct Flow {
    pub value: ValueId,
    pub layout: Perm,
    pub source: Source,
    /// Ops of the region that read it by its layout.
    pub readers: Vec<usize>,
    /// Something reads it as it is: another op, a body, a graph output.
    pub fixed: bool,
    /// Transposes that read it.
    pub transposes: Vec<(OpId, Perm)>,
    elements: u64,
    /// Nothing should come between it and its readers: it is quantized.
    sealed: bool,
}

impl Flow {
    /// A Transpose of the value that is there already makes what would be stored.
    pub(super) fn stored_by(&self) -> Option<OpId> {
        self.transposes.iter().find(|(_, perm)| *perm == self.layout).map(|(op, _)| *op)
    }

    /// What is stored is what a Transpose before the value reads.
    pub(super) fn stored_before(&self) -> Option<ValueId> {
        match &self.source {
            Source::Transposed(from, perm) if is_identity(&composed(perm, &self.layout)) => {
                Some(*from)
            }
            _ => None,
        }
    }

    /// Transposes around the value, when its producer is on or off.
    fn count(&self, on: &[bool]) -> usize {
        let any_on = self.readers.iter().any(|&r| on[r]);
        let any_off = self.fixed || self.readers.iter().any(|&r| !on[r]);
        let stored = self.transposes.iter().filter(|(_, perm)| *perm == self.layout).count();
        let others = self.transposes.len() - stored;
        let single = |b: bool| usize::from(b);
        match self.source {
            Source::Op(p) if on[p] => others + single(any_off),
            Source::Op(_) | Source::Fixed => others + single(stored > 0 || any_on),
            Source::Transposed(..) => {
                let remakes = any_on && self.stored_before().is_none() && stored == 0;
                let kept = any_off || !self.transposes.is_empty();
                self.transposes.len() + single(kept) + single(remakes)
            }
        }
    }
}

/// Transposes, and Reshapes that could go with them, and the elements that Transposes move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Cost {
    pub transposes: usize,
    pub elements: u64,
}

impl Cost {
    /// Nothing is worse than in `other`, and something is better.
    pub(super) fn beats(&self, other: &Cost) -> bool {
        self.transposes <= other.transposes && self.elements <= other.elements && self != other
    }
}

/// Values and ops that can be stored in another layout together.
#[derive(Debug, Default)]
pub(super) struct Region {
    pub flows: Vec<Flow>,
    pub ops: Vec<(OpId, Moved)>,
    /// Reshapes that merge with the one before the Transpose before them when they are on.
    merging: Vec<usize>,
}

impl Region {
    /// Ops around the region that it does not hold, other than Transposes.
    pub(super) fn ends(&self, g: &Graph) -> Vec<OpId> {
        let mut seen: HashSet<OpId> = self.ops.iter().map(|(op, _)| *op).collect();
        let beside = |f: &Flow| {
            let readers = g.uses(f.value).into_iter().map(|(op, _)| op);
            g.producer_op(f.value).into_iter().chain(readers).collect::<Vec<_>>()
        };
        let beside = self.flows.iter().flat_map(beside);
        beside.filter(|op| seen.insert(*op) && !g.op(*op).is("Transpose")).collect()
    }

    /// Everything that follows from storing `seed` as `layout`.
    pub(super) fn grow(g: &Graph, opset: i64, seed: ValueId, layout: Perm) -> Region {
        let mut growth = Growth { g, opset, layouts: HashMap::new(), order: vec![], ops: vec![] };
        growth.layouts.insert(seed, layout);
        growth.order.push(seed);
        let mut tried: HashSet<OpId> = HashSet::new();
        let mut next = 0;
        while next < growth.order.len() && growth.ops.len() < MAX_OPS {
            let value = growth.order[next];
            next += 1;
            let made = g.producer(value).map(|(op, j)| (op, Port::Result(j)));
            let read = g.uses(value).into_iter().filter_map(|(op, slot)| match slot {
                Slot::Operand(i) => Some((op, Port::Operand(i as usize))),
                _ => None,
            });
            for (op, port) in made.into_iter().chain(read) {
                if !g.op(op).is("Transpose") && tried.insert(op) {
                    growth.admit(op, port, value);
                }
            }
        }
        growth.finish()
    }

    /// The cost when these ops are on.
    pub(super) fn cost(&self, on: &[bool]) -> Cost {
        let mut cost = Cost { transposes: 0, elements: 0 };
        for flow in &self.flows {
            let n = flow.count(on) * if flow.sealed { 1000 } else { 1 };
            cost.transposes += n;
            cost.elements = cost.elements.saturating_add(flow.elements.saturating_mul(n as u64));
        }
        cost.transposes += self.merging.iter().filter(|r| !on[**r]).count();
        cost
    }

    /// Which ops are on in the best choice, when it beats what is there.
    pub(super) fn best(&self) -> Option<Vec<bool>> {
        let before = self.cost(&vec![false; self.ops.len()]);
        let by_count = |elements: u64| (1 << 32) + elements.min(1 << 31);
        let by_elements = |elements: u64| elements.min(1 << 36) * 4096 + 1;
        let choices = [self.cut(&by_count), self.cut(&by_elements)];
        choices.into_iter().find(|on| self.cost(on).beats(&before))
    }

    /// The minimum cut with these weights of Transposes.
    fn cut(&self, weight: &dyn Fn(u64) -> u64) -> Vec<bool> {
        const ALWAYS: u64 = 1 << 60;
        let mut net: Network<(), u64> = Network::new();
        let (on, off) = (net.add_node(()), net.add_node(()));
        let ops: Vec<NodeIndex> = self.ops.iter().map(|_| net.add_node(())).collect();
        for flow in &self.flows {
            let w = weight(flow.elements) * if flow.sealed { 1000 } else { 1 };
            let stored = flow.stored_by().is_some();
            // One Transpose back to what the value was, if any reader is off.
            let needs_back = |net: &mut Network<(), u64>, from: NodeIndex| {
                if flow.fixed {
                    net.add_edge(from, off, w);
                } else if !flow.readers.is_empty() {
                    let shared = net.add_node(());
                    net.add_edge(from, shared, w);
                    for &r in &flow.readers {
                        net.add_edge(shared, ops[r], ALWAYS);
                    }
                }
            };
            // One Transpose to what is stored, if any reader is on.
            let needs_forth = |net: &mut Network<(), u64>, to: NodeIndex| {
                let shared = net.add_node(());
                net.add_edge(shared, to, w);
                for &r in &flow.readers {
                    net.add_edge(ops[r], shared, ALWAYS);
                }
            };
            match flow.source {
                Source::Op(p) => {
                    needs_back(&mut net, ops[p]);
                    if stored {
                        net.add_edge(on, ops[p], w);
                    } else {
                        needs_forth(&mut net, ops[p]);
                    }
                }
                Source::Transposed(..) => {
                    if !flow.fixed && flow.transposes.is_empty() {
                        needs_back(&mut net, on);
                    }
                    if flow.stored_before().is_none() && !stored {
                        needs_forth(&mut net, off);
                    }
                }
                Source::Fixed if !stored => needs_forth(&mut net, off),
                Source::Fixed => {}
            }
        }
        for &r in &self.merging {
            net.add_edge(on, ops[r], weight(0));
        }
        let reached = source_side(&net, on, off);
        ops.iter().map(|n| reached[n.index()]).collect()
    }
}

/// The nodes on the source's side of the minimum cut that has the fewest there.
fn source_side(net: &Network<(), u64>, source: NodeIndex, sink: NodeIndex) -> Vec<bool> {
    let (_, flows) = petgraph::algo::dinics(net, source, sink);
    let mut reached = vec![false; net.node_count()];
    reached[source.index()] = true;
    let mut queue = VecDeque::from([source]);
    while let Some(n) = queue.pop_front() {
        let forth = net.edges_directed(n, petgraph::Outgoing);
        let forth = forth.filter(|e| flows[e.id().index()] < *e.weight()).map(|e| e.target());
        let back = net.edges_directed(n, petgraph::Incoming);
        let back = back.filter(|e| flows[e.id().index()] > 0).map(|e| e.source());
        for m in forth.chain(back).collect::<Vec<_>>() {
            if !std::mem::replace(&mut reached[m.index()], true) {
                queue.push_back(m);
            }
        }
    }
    reached
}

struct Growth<'a> {
    g: &'a Graph,
    opset: i64,
    layouts: HashMap<ValueId, Perm>,
    order: Vec<ValueId>,
    ops: Vec<(OpId, Moved)>,
}

impl Growth<'_> {
    /// Takes the op in, if that fits what is in the region.
    fn admit(&mut self, op: OpId, port: Port, value: ValueId) {
        let g = self.g;
        let Some(moved) = moved(g, op, self.opset, port, &self.layouts[&value]) else { return };
        let operands = g.operands(op).into_iter().zip(&moved.operands);
        let results = g.results(op).into_iter().zip(&moved.results);
        let mut new: Vec<(ValueId, Perm)> = Vec::new();
        for (v, layout) in operands.chain(results) {
            let (Some(v), Some(layout)) = (v, layout) else { continue };
            if g.is_const(v) {
                continue;
            }
            let twin = new.iter().find(|(w, _)| *w == v).map(|(_, l)| l);
            match self.layouts.get(&v).or(twin) {
                Some(known) if known == layout => {}
                Some(_) => return,
                None if g.value(v).rank() != Some(layout.len()) => return,
                None => new.push((v, layout.clone())),
            }
        }
        // One value must not be stored as another, which is stored as something else.
        let taken = |v: &ValueId| self.layouts.contains_key(v) || new.iter().any(|(w, _)| w == v);
        if new.iter().any(|(v, _)| transposed_of(g, *v).iter().any(taken)) {
            return;
        }
        for (v, layout) in new {
            self.layouts.insert(v, layout);
            self.order.push(v);
        }
        self.ops.push((op, moved));
    }

    fn finish(mut self) -> Region {
        let index: HashMap<OpId, usize> =
            self.ops.iter().enumerate().map(|(i, (op, _))| (*op, i)).collect();
        let order = std::mem::take(&mut self.order);
        let flows: Vec<Flow> = order.into_iter().map(|v| self.flow(v, &index)).collect();
        let merging = flows.iter().filter_map(|f| self.merges(f)).collect();
        Region { flows, ops: self.ops, merging }
    }

    /// The Reshape that alone reads a Transpose, which alone reads another Reshape, when it could
    /// follow that one directly.
    fn merges(&self, flow: &Flow) -> Option<usize> {
        let (g, from) = (self.g, flow.stored_before()?);
        let [reader] = flow.readers[..] else { return None };
        let (op, moved) = &self.ops[reader];
        let sole = g.sole_use(from).is_some() && g.sole_use(flow.value).is_some();
        let before = sole_maker(g, from, REGROUPING).filter(|_| sole && g.op(*op).is("Reshape"))?;
        let source = g.value(g.operand(before, 0)?).shape()?;
        let to = g.value(g.result(*op, 0)?).shape()?;
        let to: Vec<Dim> = match &moved.results[0] {
            Some(layout) => layout.iter().map(|&p| to[p].clone()).collect(),
            None => to.clone(),
        };
        target(Some(source), &to).is_ok().then_some(reader)
    }

    fn flow(&self, value: ValueId, index: &HashMap<OpId, usize>) -> Flow {
        let g = self.g;
        let layout = self.layouts[&value].clone();
        let producer = g.producer(value);
        let source = match producer.map(|(op, j)| (op, j, index.get(&op))) {
            Some((_, j, Some(&i))) if self.ops[i].1.results[j].is_some() => Source::Op(i),
            Some((op, _, _)) => match permutation(g, op).zip(g.operand(op, 0)) {
                Some((perm, from)) => Source::Transposed(from, perm),
                None => Source::Fixed,
            },
            None => Source::Fixed,
        };
        let mut flow = Flow {
            value,
            layout,
            source,
            readers: Vec::new(),
            fixed: g.is_output(value),
            transposes: Vec::new(),
            elements: elements(g, value),
            sealed: producer.is_some_and(|(op, _)| g.op(op).is("QuantizeLinear")),
        };
        for (op, slot) in g.uses(value) {
            let by_layout = match (slot, index.get(&op)) {
                (Slot::Operand(s), Some(&i)) => {
                    self.ops[i].1.operands[s as usize].is_some().then_some(i)
                }
                _ => None,
            };
            match (by_layout, permutation(g, op)) {
                (Some(i), _) => flow.readers.push(i),
                (None, Some(perm)) => flow.transposes.push((op, perm)),
                (None, None) => flow.fixed = true,
            }
        }
        flow
    }
}

/// What a Transpose reads to make the value, and what Transposes make of it.
fn transposed_of(g: &Graph, value: ValueId) -> Vec<ValueId> {
    let before = g.producer_op(value).filter(|op| g.op(*op).is("Transpose"));
    let before = before.and_then(|op| g.operand(op, 0));
    let after = g.uses(value).into_iter().filter(|(op, _)| g.op(*op).is("Transpose"));
    before.into_iter().chain(after.filter_map(|(op, _)| g.result(op, 0))).collect()
}

/// How many elements the value has, more or less.
fn elements(g: &Graph, value: ValueId) -> u64 {
    let Some(shape) = g.value(value).shape() else { return 1 };
    let size = |d: &Dim| d.substitute(&|_| Some(Dim::Known(NOMINAL))).known().unwrap_or(NOMINAL);
    shape.iter().map(|d| size(d).max(1).unsigned_abs()).fold(1, u64::saturating_mul)
}
