//! Edits of captures: what bodies read of the graph around them.

use petgraph::Direction::Incoming;
use petgraph::visit::EdgeRef;

use super::edit::slot_index;
use super::{Graph, OpId, Slot, ValueId};

impl Graph {
    /// Connects outer value `outer` with value `inner` of body `body` of `op`.
    pub fn add_capture(&mut self, op: OpId, body: usize, inner: ValueId, outer: ValueId) {
        let (ty, data) = (self.value(outer).ty.clone(), self.const_tensor(outer).cloned());
        let node = self.op_mut(op);
        node.captures.push((body, inner));
        let slot = Slot::Capture(slot_index(node.captures.len() - 1));
        let graph = &mut node.bodies[body];
        graph.value_mut_quiet(inner).ty = ty;
        if let Some(data) = data {
            graph.set_data(inner, data);
        }
        self.g.add_edge(outer.index, op.index, slot);
        self.touch(op);
    }

    /// Drops capture slots whose inner value nothing reads any more.
    pub fn prune_captures(&mut self, op: OpId) {
        let node = self.op(op);
        let dead = |(body, inner): &(usize, ValueId)| node.bodies[*body].is_unused(*inner);
        if !node.captures.iter().any(dead) {
            return;
        }
        let outer = self.captures(op);
        let node = self.op_mut(op);
        let pairs: Vec<_> = std::mem::take(&mut node.captures).into_iter().zip(outer).collect();
        let mut kept = Vec::new();
        for ((body, inner), outer) in pairs {
            if node.bodies[body].is_unused(inner) {
                node.bodies[body].value_mut_quiet(inner).is_capture = false;
                node.bodies[body].remove_value_if_unused(inner);
            } else {
                node.captures.push((body, inner));
                kept.push(outer);
            }
        }
        while let Some(edge) = self
            .g
            .edges_directed(op.index, Incoming)
            .find(|e| matches!(e.weight(), Slot::Capture(_)))
            .map(|e| e.id())
        {
            let from = self.g.edge_endpoints(edge).map(|e| self.value_at(e.0));
            self.g.remove_edge(edge);
            if let Some(v) = from {
                self.touch_producer(v);
            }
        }
        for (k, v) in kept.into_iter().enumerate() {
            self.g.add_edge(v.index, op.index, Slot::Capture(slot_index(k)));
        }
        self.touch(op);
    }

    /// Copies type, symbolic elements and data of every captured value into the bodies of `op`.
    pub fn refresh_captures(&mut self, op: OpId) {
        for k in 0..self.op(op).captures.len() {
            self.refresh_capture(op, k);
        }
    }

    pub(super) fn refresh_capture(&mut self, op: OpId, k: usize) {
        let Some(outer) = self.capture(op, k) else { return };
        let data = self.const_tensor(outer).cloned();
        let v = self.value(outer);
        let (ty, sym) = (v.ty.clone(), v.sym.clone());
        let node = self.op_mut(op);
        let (body, inner) = node.captures[k];
        let graph = &mut node.bodies[body];
        if !graph.has_value(inner) {
            return;
        }
        let v = graph.value_mut_quiet(inner);
        (v.ty, v.sym) = (ty, sym);
        match data {
            Some(data) if !v.data.as_ref().is_some_and(|d| d.same_storage(&data)) => {
                graph.set_data(inner, data);
            }
            Some(_) => {}
            None => v.data = None,
        }
    }
}
