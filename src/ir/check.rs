//! Verifies every invariant of a graph.

use petgraph::visit::{EdgeRef, IntoEdgeReferences};

use super::graph::Node;
use super::{AttrValue, Graph, Slot};

/// An invariant that does not hold.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("graph {graph:?}: {what}")]
pub struct Violation {
    /// Name of the graph.
    pub graph: String,
    /// What is wrong, with the names of the nodes.
    pub what: String,
}

impl Graph {
    /// Verifies that edges, slots, inputs, outputs, names and captures are as the other functions
    /// of this module assume, in this graph and in all bodies.
    ///
    /// # Errors
    /// The first invariant that does not hold.
    pub fn check(&self) -> Result<(), Violation> {
        let fail = |what: String| Err(Violation { graph: self.name.clone(), what });
        for edge in self.g.edge_references() {
            let ok = match (edge.weight(), &self.g[edge.source()], &self.g[edge.target()]) {
                (Slot::Result(i), Node::Op(_, op), Node::Value(..)) => *i < op.results,
                (Slot::Operand(i), Node::Value(..), Node::Op(_, op)) => *i < op.arity,
                (Slot::Capture(k), Node::Value(..), Node::Op(_, op)) => {
                    (*k as usize) < op.captures.len()
                }
                _ => false,
            };
            if !ok {
                return fail(format!("an edge {:?} joins the wrong nodes", edge.weight()));
            }
        }
        for v in self.values() {
            let value = self.value(v);
            let makers = self.g.edges_directed(v.index, petgraph::Incoming).count();
            let sources =
                makers + usize::from(value.is_input || value.data.is_some() || value.is_capture);
            let listed = self.outputs.iter().filter(|o| **o == v).count();
            if makers > 1 || (makers == 1 && sources > 1) {
                return fail(format!("value {:?} has {sources} sources", value.name));
            }
            if sources == 0 && (self.g.edges(v.index).next().is_some() || listed > 0) {
                return fail(format!("value {:?} is read but nothing makes it", value.name));
            }
            if listed != value.outputs as usize {
                return fail(format!("value {:?} miscounts its outputs", value.name));
            }
            if value.is_input != self.inputs.contains(&v) {
                return fail(format!("value {:?} and the input list disagree", value.name));
            }
            if self.names.get(&value.name) != Some(v.index) {
                return fail(format!("name {:?} leads to another value", value.name));
            }
        }
        for id in self.ops() {
            self.check_op(id)?;
        }
        if let Err(cycle) = self.sorted() {
            return fail(cycle.to_string());
        }
        Ok(())
    }

    fn check_op(&self, id: super::OpId) -> Result<(), Violation> {
        let op = self.op(id);
        let fail = |what: &str| {
            let what = format!("{}: {what}", self.label(id));
            Err(Violation { graph: self.name.clone(), what })
        };
        let mut slots: Vec<Slot> = self.g.edges(id.index).map(|e| *e.weight()).collect();
        slots.extend(self.g.edges_directed(id.index, petgraph::Incoming).map(|e| *e.weight()));
        let count = slots.len();
        slots.sort_unstable();
        slots.dedup();
        if slots.len() != count {
            return fail("two edges share a slot");
        }
        if slots.iter().filter(|s| matches!(s, Slot::Capture(_))).count() != op.captures.len() {
            return fail("a capture is not connected");
        }
        for (body, inner) in &op.captures {
            let inside = op.bodies.get(*body);
            if !inside.is_some_and(|g| g.has_value(*inner) && g.is_capture(*inner)) {
                return fail("a capture has no value inside");
            }
        }
        for attr in &op.attrs {
            let refs = match &attr.value {
                AttrValue::Graph(i) => std::slice::from_ref(i),
                AttrValue::Graphs(is) => is,
                _ => &[],
            };
            if refs.iter().any(|i| *i >= op.bodies.len()) {
                return fail("an attribute refers to a missing body");
            }
        }
        for body in &op.bodies {
            body.check()?;
        }
        Ok(())
    }
}
