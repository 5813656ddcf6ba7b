//! Topological order that keeps the order of the file wherever it can.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use petgraph::Direction::{Incoming, Outgoing};
use petgraph::visit::{EdgeRef, NodeIndexable};

use super::{Graph, OpId};

/// Ops that wait for each other.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("the graph has a cycle through {0}")]
pub struct Cycle(pub String);

impl Graph {
    /// All ops, producers before readers; among those that are ready, the one that stands first
    /// in the file, then the oldest (Kahn's algorithm over a heap on `(rank, birth)`).
    ///
    /// # Errors
    /// When the graph has a cycle.
    pub fn sorted(&self) -> Result<Vec<OpId>, Cycle> {
        // By place of the op in the graph: how many values it waits for.
        let mut missing = vec![0usize; self.g.node_bound()];
        let mut ready = BinaryHeap::new();
        let mut total = 0;
        for op in self.ops() {
            total += 1;
            let operands = self.g.edges_directed(op.index, Incoming);
            let made = |v| self.g.edges_directed(v, Incoming).next().is_some();
            let n = operands.filter(|e| made(e.source())).count();
            missing[op.index.index()] = n;
            if n == 0 {
                ready.push(Reverse((self.op(op).rank, op)));
            }
        }
        let mut order = Vec::with_capacity(total);
        while let Some(Reverse((_, op))) = ready.pop() {
            order.push(op);
            for result in self.g.edges_directed(op.index, Outgoing) {
                for user in self.g.edges_directed(result.target(), Outgoing) {
                    let n = &mut missing[user.target().index()];
                    *n -= 1;
                    if *n == 0 {
                        let user = self.op_at(user.target());
                        ready.push(Reverse((self.op(user).rank, user)));
                    }
                }
            }
        }
        if order.len() == total {
            return Ok(order);
        }
        let stuck = self.ops().find(|op| missing[op.index.index()] > 0);
        Err(Cycle(stuck.map(|op| self.label(op)).unwrap_or_default()))
    }

    /// As [`Graph::sorted`], for graphs that are known to be acyclic: all that `load` accepts and
    /// `check` approves.
    pub fn order(&self) -> Vec<OpId> {
        self.sorted().expect("invariant: the graph is acyclic")
    }
}
