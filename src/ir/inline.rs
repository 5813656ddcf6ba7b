//! Inlining: the contents of a graph take the place of the op that stands for it.

use std::collections::HashMap;

use super::{Graph, Op, OpId, Value, ValueId};

impl Graph {
    /// Puts the contents of body `body` in the place of `op`, whose results they make from now on.
    /// `inputs` are what the inputs of the body are. Other bodies of the op go.
    pub fn inline_body(&mut self, op: OpId, body: usize, inputs: &[Option<ValueId>]) {
        let captured: Vec<(ValueId, ValueId)> = (0..self.op(op).captures.len())
            .filter(|k| self.op(op).captures[*k].0 == body)
            .filter_map(|k| Some((self.op(op).captures[k].1, self.capture(op, k)?)))
            .collect();
        let inner = std::mem::take(&mut self.op_mut(op).bodies[body]);
        self.inline(op, &inner, inputs, &captured);
        self.op_mut(op).bodies[body] = inner;
        let read = self.reads(op).collect();
        self.remove_op(op);
        self.remove_dead(read);
    }

    /// Copies the contents of `inner` to where `op` stands and gives them its results, in order.
    /// `captured` pairs values of `inner` that come from outside with what they are here. The op
    /// stays, without those results.
    pub fn inline(
        &mut self,
        op: OpId,
        inner: &Graph,
        inputs: &[Option<ValueId>],
        captured: &[(ValueId, ValueId)],
    ) {
        let mut here: HashMap<ValueId, ValueId> = captured.iter().copied().collect();
        for (v, outer) in inner.inputs().iter().zip(inputs) {
            if let Some(outer) = outer {
                here.insert(*v, *outer);
            }
        }
        for id in inner.order() {
            self.copy_op(op, inner, id, &mut here);
        }
        let results = self.results(op);
        let mut taken: Vec<ValueId> = Vec::new();
        for (v, result) in inner.outputs().iter().zip(results) {
            let Some(result) = result else { continue };
            let made = self.copy_value(inner, *v, &mut here);
            let producer = self.producer(made).filter(|(p, _)| *p != op);
            let is_new = !captured.iter().any(|c| c.1 == made) && !inputs.contains(&Some(made));
            match producer.filter(|_| is_new && !self.is_output(made) && !taken.contains(&made)) {
                Some((producer, slot)) => {
                    self.set_result(producer, slot, Some(result));
                    self.replace_uses(made, result);
                    self.remove_value_if_unused(made);
                    here.insert(*v, result);
                    taken.push(result);
                }
                None if self.is_output(result) => {
                    self.add_op(Op::new("Identity"), &[Some(made)], &[Some(result)], Some(op));
                }
                None => self.replace_uses(result, made),
            }
        }
    }

    fn copy_op(
        &mut self,
        anchor: OpId,
        inner: &Graph,
        id: OpId,
        here: &mut HashMap<ValueId, ValueId>,
    ) {
        let mut copied =
            |g: &mut Graph, v: Option<ValueId>| v.map(|v| g.copy_value(inner, v, here));
        let operands: Vec<_> = inner.operands(id).into_iter().map(|v| copied(self, v)).collect();
        let results: Vec<_> = inner.results(id).into_iter().map(|v| copied(self, v)).collect();
        let outer: Vec<_> = inner.captures(id).into_iter().map(|v| copied(self, Some(v))).collect();
        let mut op = inner.op(id).clone();
        let captures = std::mem::take(&mut op.captures);
        let new = self.add_op(op, &operands, &results, Some(anchor));
        for ((body, value), outer) in captures.into_iter().zip(outer) {
            if let Some(outer) = outer {
                self.add_capture(new, body, value, outer);
            }
        }
    }

    /// What a value of `inner` is here; copied when it is not here yet.
    fn copy_value(
        &mut self,
        inner: &Graph,
        value: ValueId,
        here: &mut HashMap<ValueId, ValueId>,
    ) -> ValueId {
        if let Some(v) = here.get(&value) {
            return *v;
        }
        let old = inner.value(value);
        let new = Value {
            sym: old.sym.clone(),
            notes: old.notes.clone(),
            ..Value::new(old.name(), old.ty.clone())
        };
        let id = self.add_value(new);
        if let Some(data) = inner.initializer(value) {
            self.set_data(id, data.clone());
        }
        here.insert(value, id);
        id
    }
}
