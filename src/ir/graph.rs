//! The graph: op nodes and value nodes on petgraph, read access.

use bytes::Bytes;
use petgraph::Direction::{Incoming, Outgoing};
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;

use super::names::Names;
use super::{Notes, Op, Tensor, Value};

/// An op of a [`Graph`]. Ordered by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OpId {
    pub(super) birth: u32,
    pub(super) index: NodeIndex,
}

/// A value of a [`Graph`]. Ordered by age.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId {
    pub(super) birth: u32,
    pub(super) index: NodeIndex,
}

/// The place of an edge at its op. Slots give order; edge order never does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Slot {
    /// Result of the op with this index.
    Result(u32),
    /// Operand of the op with this index.
    Operand(u32),
    /// A value that a body of the op reads from outside: index into [`Op::captures`].
    Capture(u32),
}

#[derive(Clone, Debug)]
pub(super) enum Node {
    Op(u32, Box<Op>),
    Value(u32, Box<Value>),
}

/// A graph of ops and values: the main graph of a model, a subgraph or the body of a function.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Its name.
    pub name: String,
    /// Notes that the file carries on the graph itself.
    pub notes: Notes,
    /// Encoded fields that Lapidary carries but does not read, each with its field number and its
    /// rank among those: what the file says of values that do not exist.
    pub extra: Vec<(u32, u32, Bytes)>,
    pub(super) g: StableDiGraph<Node, Slot>,
    pub(super) inputs: Vec<ValueId>,
    pub(super) outputs: Vec<ValueId>,
    pub(super) births: u32,
    pub(super) revision: u64,
    pub(super) names: Names,
    pub(super) touched: Vec<OpId>,
}

impl Graph {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Graph {
        Graph { name: name.into(), ..Graph::default() }
    }

    /// The op, which must be alive.
    pub fn op(&self, id: OpId) -> &Op {
        match &self.g[id.index] {
            Node::Op(birth, op) if *birth == id.birth => op,
            _ => panic!("invariant: op is alive"),
        }
    }

    /// The value, which must be alive.
    pub fn value(&self, id: ValueId) -> &Value {
        match &self.g[id.index] {
            Node::Value(birth, value) if *birth == id.birth => value,
            _ => panic!("invariant: value is alive"),
        }
    }

    /// The op is still in the graph.
    pub fn has_op(&self, id: OpId) -> bool {
        matches!(self.g.node_weight(id.index), Some(Node::Op(birth, _)) if *birth == id.birth)
    }

    /// The value is still in the graph.
    pub fn has_value(&self, id: ValueId) -> bool {
        matches!(self.g.node_weight(id.index), Some(Node::Value(birth, _)) if *birth == id.birth)
    }

    /// All ops, in no order that means anything, but always the same.
    pub fn ops(&self) -> impl Iterator<Item = OpId> + '_ {
        self.g.node_indices().filter_map(|index| match &self.g[index] {
            Node::Op(birth, _) => Some(OpId { birth: *birth, index }),
            Node::Value(..) => None,
        })
    }

    /// All values, in no order that means anything, but always the same.
    pub fn values(&self) -> impl Iterator<Item = ValueId> + '_ {
        self.g.node_indices().filter_map(|index| match &self.g[index] {
            Node::Value(birth, _) => Some(ValueId { birth: *birth, index }),
            Node::Op(..) => None,
        })
    }

    /// Number of ops, subgraphs not included.
    pub fn op_count(&self) -> usize {
        self.ops().count()
    }

    /// Graph inputs in order.
    pub fn inputs(&self) -> &[ValueId] {
        &self.inputs
    }

    /// Graph outputs in order.
    pub fn outputs(&self) -> &[ValueId] {
        &self.outputs
    }

    /// Counts edits; equal revisions of one graph mean equal graphs.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// The value in operand slot `i`; `None` when the optional is missing.
    pub fn operand(&self, op: OpId, i: usize) -> Option<ValueId> {
        self.at_slot(op, Incoming, Slot::Operand(u32::try_from(i).ok()?))
    }

    /// The value in result slot `i`; `None` when the optional is missing.
    pub fn result(&self, op: OpId, i: usize) -> Option<ValueId> {
        self.at_slot(op, Outgoing, Slot::Result(u32::try_from(i).ok()?))
    }

    /// The outer value in capture slot `k`.
    pub fn capture(&self, op: OpId, k: usize) -> Option<ValueId> {
        self.at_slot(op, Incoming, Slot::Capture(u32::try_from(k).ok()?))
    }

    fn at_slot(&self, op: OpId, dir: petgraph::Direction, slot: Slot) -> Option<ValueId> {
        debug_assert!(self.has_op(op));
        let edge = self.g.edges_directed(op.index, dir).find(|e| *e.weight() == slot)?;
        let other = if dir == Incoming { edge.source() } else { edge.target() };
        Some(self.value_at(other))
    }

    /// All operand slots in order, missing optionals as `None`.
    pub fn operands(&self, op: OpId) -> Vec<Option<ValueId>> {
        let mut out = vec![None; self.op(op).arity()];
        for edge in self.g.edges_directed(op.index, Incoming) {
            if let Slot::Operand(i) = edge.weight() {
                out[*i as usize] = Some(self.value_at(edge.source()));
            }
        }
        out
    }

    /// All result slots in order, missing optionals as `None`.
    pub fn results(&self, op: OpId) -> Vec<Option<ValueId>> {
        let mut out = vec![None; self.op(op).result_count()];
        for edge in self.g.edges_directed(op.index, Outgoing) {
            if let Slot::Result(i) = edge.weight() {
                out[*i as usize] = Some(self.value_at(edge.target()));
            }
        }
        out
    }

    /// All capture slots in order.
    pub fn captures(&self, op: OpId) -> Vec<ValueId> {
        (0..self.op(op).captures.len())
            .map(|k| self.capture(op, k).expect("invariant: captures are connected"))
            .collect()
    }

    /// Everything that the op reads: operands and captures.
    pub fn reads(&self, op: OpId) -> impl Iterator<Item = ValueId> + '_ {
        self.g.edges_directed(op.index, Incoming).map(|e| self.value_at(e.source()))
    }

    /// The op that makes the value, and in which result slot.
    pub fn producer(&self, value: ValueId) -> Option<(OpId, usize)> {
        debug_assert!(self.has_value(value));
        let edge = self.g.edges_directed(value.index, Incoming).next()?;
        match edge.weight() {
            Slot::Result(i) => Some((self.op_at(edge.source()), *i as usize)),
            _ => None,
        }
    }

    /// The op that makes the value.
    pub fn producer_op(&self, value: ValueId) -> Option<OpId> {
        self.producer(value).map(|p| p.0)
    }

    /// Every op and slot that reads the value, oldest op first. Being a graph output is not a use.
    pub fn uses(&self, value: ValueId) -> Vec<(OpId, Slot)> {
        debug_assert!(self.has_value(value));
        let mut uses: Vec<(OpId, Slot)> = self
            .g
            .edges_directed(value.index, Outgoing)
            .map(|e| (self.op_at(e.target()), *e.weight()))
            .collect();
        uses.sort_unstable();
        uses
    }

    /// Number of slots that read the value.
    pub fn use_count(&self, value: ValueId) -> usize {
        self.g.edges_directed(value.index, Outgoing).count()
    }

    /// Nothing reads the value and it is not a graph output.
    pub fn is_unused(&self, value: ValueId) -> bool {
        !self.is_output(value) && self.g.edges_directed(value.index, Outgoing).next().is_none()
    }

    /// The only op and operand slot that reads the value; `None` also for graph outputs.
    pub fn sole_use(&self, value: ValueId) -> Option<(OpId, usize)> {
        if self.is_output(value) {
            return None;
        }
        let mut edges = self.g.edges_directed(value.index, Outgoing);
        let edge = edges.next()?;
        match (edges.next(), edge.weight()) {
            (None, Slot::Operand(i)) => Some((self.op_at(edge.target()), *i as usize)),
            _ => None,
        }
    }

    /// The value is an input of the graph.
    pub fn is_input(&self, value: ValueId) -> bool {
        self.value(value).is_input
    }

    /// The value is an output of the graph.
    pub fn is_output(&self, value: ValueId) -> bool {
        self.value(value).outputs > 0
    }

    /// Inside a body: the value comes from the graph around it.
    pub fn is_capture(&self, value: ValueId) -> bool {
        self.value(value).is_capture
    }

    /// The value never changes: it has data and no caller can override it.
    pub fn is_const(&self, value: ValueId) -> bool {
        let v = self.value(value);
        v.data.is_some() && !v.is_input
    }

    /// The data of a constant value.
    pub fn const_tensor(&self, value: ValueId) -> Option<&Tensor> {
        self.value(value).data.as_ref().filter(|_| self.is_const(value))
    }

    /// The data of a constant operand.
    pub fn const_operand(&self, op: OpId, i: usize) -> Option<&Tensor> {
        self.operand(op, i).and_then(|v| self.const_tensor(v))
    }

    /// The data that the value holds: of a constant, or the default of an input that has one.
    pub fn initializer(&self, value: ValueId) -> Option<&Tensor> {
        self.value(value).data.as_ref()
    }

    /// The value with this name.
    pub fn find_value(&self, name: &str) -> Option<ValueId> {
        let index = self.names.get(name)?;
        Some(self.value_at(index))
    }

    pub(super) fn value_at(&self, index: NodeIndex) -> ValueId {
        match &self.g[index] {
            Node::Value(birth, _) => ValueId { birth: *birth, index },
            Node::Op(..) => panic!("invariant: edges join an op and a value"),
        }
    }

    pub(super) fn op_at(&self, index: NodeIndex) -> OpId {
        match &self.g[index] {
            Node::Op(birth, _) => OpId { birth: *birth, index },
            Node::Value(..) => panic!("invariant: edges join an op and a value"),
        }
    }

    /// The name of the op, else that of its first result; empty when it has neither.
    pub fn short_name(&self, id: OpId) -> String {
        match self.op(id).name.as_str() {
            "" => {
                let result = self.results(id).into_iter().flatten().next();
                result.map(|v| self.value(v).name().to_owned()).unwrap_or_default()
            }
            name => name.to_owned(),
        }
    }

    /// How messages call the op: its name, else its type and first result.
    pub fn label(&self, id: OpId) -> String {
        let op = self.op(id);
        let result = || {
            self.results(id).into_iter().flatten().next().map(|v| self.value(v).name().to_owned())
        };
        match op.name.as_str() {
            "" => format!("{} -> {}", op.full_type(), result().unwrap_or_default()),
            name => format!("{name} ({})", op.full_type()),
        }
    }
}
