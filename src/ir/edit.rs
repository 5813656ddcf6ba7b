//! Primitive edits. They keep the invariants of the graph and are the only way to change it.

use petgraph::Direction::{Incoming, Outgoing};
use petgraph::stable_graph::EdgeIndex;
use petgraph::visit::EdgeRef;

use super::graph::Node;
use super::{Graph, Op, OpId, Slot, Tensor, Type, Value, ValueId};

impl Graph {
    /// Adds a value. When its name is taken it gets a suffix.
    pub fn add_value(&mut self, value: Value) -> ValueId {
        let birth = self.next_birth();
        let wish = value.name.clone();
        let index = self.g.add_node(Node::Value(birth, Box::new(value)));
        let name = self.names.take(&wish, index);
        let id = ValueId { birth, index };
        self.value_mut_quiet(id).name = name;
        self.revision += 1;
        id
    }

    /// Adds a value without a type.
    pub fn add_named(&mut self, name: &str) -> ValueId {
        self.add_value(Value::new(name, None))
    }

    /// Adds a constant.
    pub fn add_const(&mut self, name: &str, data: Tensor) -> ValueId {
        let id = self.add_value(Value::new(name, None));
        self.set_data(id, data);
        id
    }

    /// Adds a graph input after the others.
    pub fn add_input(&mut self, value: Value) -> ValueId {
        let id = self.add_value(value);
        self.value_mut_quiet(id).is_input = true;
        self.inputs.push(id);
        id
    }

    /// Inside a body: adds a value that comes from the graph around it. The caller connects it
    /// with [`Graph::add_capture`] on the op that holds the body.
    pub fn add_captured(&mut self, value: Value) -> ValueId {
        let id = self.add_value(value);
        self.value_mut_quiet(id).is_capture = true;
        id
    }

    /// Adds an op. It stands in the order of the file where `anchor` stands, or last.
    pub fn add_op(
        &mut self,
        mut op: Op,
        operands: &[Option<ValueId>],
        results: &[Option<ValueId>],
        anchor: Option<OpId>,
    ) -> OpId {
        let birth = self.next_birth();
        op.arity = slot_index(operands.len());
        op.results = slot_index(results.len());
        op.rank = anchor.map_or(birth, |a| self.op(a).rank);
        let index = self.g.add_node(Node::Op(birth, Box::new(op)));
        let id = OpId { birth, index };
        for (i, v) in operands.iter().enumerate() {
            if let Some(v) = v {
                self.g.add_edge(v.index, index, Slot::Operand(slot_index(i)));
            }
        }
        for (i, v) in results.iter().enumerate() {
            if let Some(v) = v {
                self.set_result(id, i, Some(*v));
            }
        }
        self.touch(id);
        id
    }

    /// Removes an op. Results that nothing reads and that are no graph outputs go with it; the
    /// others stay, without a producer.
    pub fn remove_op(&mut self, op: OpId) {
        let results = self.results(op);
        for v in self.reads(op).collect::<Vec<_>>() {
            self.touch_producer(v);
        }
        self.g.remove_node(op.index);
        self.revision += 1;
        for v in results.into_iter().flatten() {
            self.touch_uses(v);
            self.remove_value_if_unused(v);
        }
    }

    /// Removes a value that nothing makes or reads and that is neither input nor output.
    pub fn remove_value_if_unused(&mut self, value: ValueId) -> bool {
        let v = self.value(value);
        let loose = !v.is_input && v.outputs == 0 && !v.is_capture;
        if !loose || self.g.edges_directed(value.index, Incoming).next().is_some() {
            return false;
        }
        if self.g.edges_directed(value.index, Outgoing).next().is_some() {
            return false;
        }
        let name = self.value(value).name.clone();
        self.names.release(&name, value.index);
        self.g.remove_node(value.index);
        self.revision += 1;
        true
    }

    /// Puts `value` into operand slot `i`, growing the op as needed.
    pub fn set_operand(&mut self, op: OpId, i: usize, value: Option<ValueId>) {
        let slot = Slot::Operand(slot_index(i));
        if let Some(edge) = self.edge_at(op, Incoming, slot) {
            let old = self.g.edge_endpoints(edge).map(|e| self.value_at(e.0));
            self.g.remove_edge(edge);
            if let Some(old) = old {
                self.touch_producer(old);
                self.touch_uses(old);
            }
        }
        if let Some(v) = value {
            self.g.add_edge(v.index, op.index, slot);
        }
        let node = self.op_mut(op);
        node.arity = node.arity.max(slot_index(i + 1));
        self.touch(op);
    }

    /// Drops operand slots from `n` on.
    pub fn truncate_operands(&mut self, op: OpId, n: usize) {
        for i in n..self.op(op).arity() {
            self.set_operand(op, i, None);
        }
        let node = self.op_mut(op);
        node.arity = node.arity.min(slot_index(n));
    }

    /// Makes `value` the result of `op` in slot `i`. A producer that it had loses it; the value
    /// that stood in the slot stays without a producer.
    pub fn set_result(&mut self, op: OpId, i: usize, value: Option<ValueId>) {
        let slot = Slot::Result(slot_index(i));
        if let Some(edge) = self.edge_at(op, Outgoing, slot) {
            self.g.remove_edge(edge);
        }
        if let Some(v) = value {
            self.detach(v);
            self.value_mut_quiet(v).data = None;
            self.g.add_edge(op.index, v.index, slot);
            self.touch_uses(v);
        }
        let node = self.op_mut(op);
        node.results = node.results.max(slot_index(i + 1));
        self.touch(op);
    }

    /// Takes the value from the op that makes it.
    pub fn detach(&mut self, value: ValueId) {
        let edge = self.g.edges_directed(value.index, Incoming).next().map(|e| e.id());
        if let Some(edge) = edge {
            self.touch_producer(value);
            self.g.remove_edge(edge);
            self.revision += 1;
        }
    }

    /// Makes every op that reads `old` read `new` instead, captures included. Graph outputs stay.
    pub fn replace_uses(&mut self, old: ValueId, new: ValueId) {
        if old == new {
            return;
        }
        for (op, slot) in self.uses(old) {
            if let Some(edge) =
                self.g.edges_directed(op.index, Incoming).find(|e| *e.weight() == slot)
            {
                let id = edge.id();
                self.g.remove_edge(id);
            }
            self.g.add_edge(new.index, op.index, slot);
            if let Slot::Capture(k) = slot {
                self.refresh_capture(op, k as usize);
            }
            self.touch(op);
        }
        self.touch_producer(old);
        self.touch_producer(new);
        self.revision += 1;
    }

    /// Gives the value data and takes it from its producer: it is a constant from now on, or, when
    /// it is a graph input, has a default.
    pub fn set_data(&mut self, value: ValueId, data: Tensor) {
        self.detach(value);
        let dims = data.dims().iter().map(|&d| d.into()).collect();
        let v = self.value_mut_quiet(value);
        if !v.is_input {
            match v.ty.as_mut().and_then(Type::as_tensor_mut) {
                Some(t) => (t.dtype, t.shape) = (Some(data.dtype()), Some(dims)),
                None => v.ty = Some(Type::tensor(data.dtype(), Some(dims))),
            }
        }
        v.data = Some(data);
        for (op, slot) in self.uses(value) {
            if let Slot::Capture(k) = slot {
                self.refresh_capture(op, k as usize);
            }
            self.touch(op);
        }
        self.revision += 1;
    }

    /// Takes the data from a graph input, which then must be fed.
    pub fn clear_default(&mut self, value: ValueId) {
        if self.value(value).is_input {
            self.value_mut_quiet(value).data = None;
            self.revision += 1;
        }
    }

    /// Turns a graph input into an ordinary value: a constant when it has a default.
    pub fn remove_input(&mut self, value: ValueId) {
        self.inputs.retain(|v| *v != value);
        self.value_mut_quiet(value).is_input = false;
        self.touch_uses(value);
        self.revision += 1;
    }

    /// Sets the graph inputs. Ops that made one of them lose it. One that is an input no longer is
    /// an ordinary value then: a constant when it has a default, else for the caller to remove.
    pub fn set_inputs(&mut self, inputs: Vec<ValueId>) {
        for v in std::mem::take(&mut self.inputs) {
            self.value_mut_quiet(v).is_input = false;
            self.touch_uses(v);
        }
        for v in &inputs {
            self.detach(*v);
            self.value_mut_quiet(*v).is_input = true;
            self.touch_uses(*v);
        }
        self.inputs = inputs;
        self.revision += 1;
    }

    /// Takes the data from a constant, which the caller makes an input or gives a producer.
    pub fn take_data(&mut self, value: ValueId) -> Option<Tensor> {
        self.revision += 1;
        self.value_mut_quiet(value).data.take()
    }

    /// Sets the graph outputs.
    pub fn set_outputs(&mut self, outputs: Vec<ValueId>) {
        for v in std::mem::take(&mut self.outputs) {
            self.value_mut_quiet(v).outputs -= 1;
        }
        for v in &outputs {
            self.value_mut_quiet(*v).outputs += 1;
        }
        self.outputs = outputs;
        self.revision += 1;
    }

    /// Renames a value; when the name is taken it gets a suffix.
    pub fn rename(&mut self, value: ValueId, wish: &str) {
        let old = self.value(value).name.clone();
        self.names.release(&old, value.index);
        let name = self.names.take(wish, value.index);
        self.value_mut_quiet(value).name = name;
        self.revision += 1;
    }

    /// The op for changes of attributes, name or notes; its readers are told.
    pub fn edit_op(&mut self, op: OpId) -> &mut Op {
        for v in self.results(op).into_iter().flatten() {
            self.touch_uses(v);
        }
        self.touch(op);
        self.op_mut(op)
    }

    /// Sets what is known of a value without counting as an edit: inference, not surgery.
    pub fn facts_mut(&mut self, value: ValueId) -> &mut Value {
        self.value_mut_quiet(value)
    }

    /// The op, for inference that descends into its bodies: no edit.
    pub fn op_facts_mut(&mut self, op: OpId) -> &mut Op {
        self.op_mut(op)
    }

    /// The bodies of an op, for passes that descend. Connections to outside stay as they are.
    pub fn bodies_mut(&mut self, op: OpId) -> &mut [Graph] {
        self.revision += 1;
        &mut self.op_mut(op).bodies
    }

    /// Ops that edits since the last call touched, each once, oldest first; gone ones left out.
    pub fn take_touched(&mut self) -> Vec<OpId> {
        let mut touched = std::mem::take(&mut self.touched);
        touched.sort_unstable();
        touched.dedup();
        touched.retain(|op| self.has_op(*op));
        touched
    }

    fn next_birth(&mut self) -> u32 {
        self.births = self.births.checked_add(1).expect("invariant: fewer than 2^32 nodes made");
        self.births
    }

    pub(super) fn op_mut(&mut self, id: OpId) -> &mut Op {
        match &mut self.g[id.index] {
            Node::Op(birth, op) if *birth == id.birth => op,
            _ => panic!("invariant: op is alive"),
        }
    }

    pub(super) fn value_mut_quiet(&mut self, id: ValueId) -> &mut Value {
        match &mut self.g[id.index] {
            Node::Value(birth, value) if *birth == id.birth => value,
            _ => panic!("invariant: value is alive"),
        }
    }

    fn edge_at(&self, op: OpId, dir: petgraph::Direction, slot: Slot) -> Option<EdgeIndex> {
        self.g.edges_directed(op.index, dir).find(|e| *e.weight() == slot).map(|e| e.id())
    }

    pub(super) fn touch(&mut self, op: OpId) {
        self.revision += 1;
        self.touched.push(op);
    }

    pub(super) fn touch_producer(&mut self, value: ValueId) {
        if let Some(op) = self.producer_op(value) {
            self.touched.push(op);
        }
    }

    /// Ops that read a value are told when its producer changes, unless it is a popular one: no
    /// pattern hangs on the producer of a value with very many readers.
    fn touch_uses(&mut self, value: ValueId) {
        let users = self.g.edges_directed(value.index, Outgoing).take(POPULAR);
        let users: Vec<OpId> = users.map(|e| self.op_at(e.target())).collect();
        self.touched.extend(users);
    }
}

/// Readers of a value that is so popular that no pattern hangs on what it has to do with them.
pub(super) const POPULAR: usize = 64;

pub(super) fn slot_index(i: usize) -> u32 {
    u32::try_from(i).expect("invariant: fewer than 2^32 slots")
}
