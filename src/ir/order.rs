//! Topological order that keeps the order of the file wherever it can.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

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
        let mut missing: HashMap<OpId, usize> = HashMap::new();
        let mut ready = BinaryHeap::new();
        let mut total = 0;
        for op in self.ops() {
            total += 1;
            let n = self.reads(op).filter(|v| self.producer(*v).is_some()).count();
            if n == 0 {
                ready.push(Reverse((self.op(op).rank, op)));
            } else {
                missing.insert(op, n);
            }
        }
        let mut order = Vec::with_capacity(total);
        while let Some(Reverse((_, op))) = ready.pop() {
            order.push(op);
            for v in self.results(op).into_iter().flatten() {
                for (user, _) in self.uses(v) {
                    let n = missing.get_mut(&user).expect("invariant: a reader waits");
                    *n -= 1;
                    if *n == 0 {
                        ready.push(Reverse((self.op(user).rank, user)));
                    }
                }
            }
        }
        if order.len() == total {
            return Ok(order);
        }
        let stuck = self.ops().find(|op| missing.get(op).is_some_and(|&n| n > 0));
        Err(Cycle(stuck.map(|op| self.label(op)).unwrap_or_default()))
    }

    /// As [`Graph::sorted`], for graphs that are known to be acyclic: all that `load` accepts and
    /// `check` approves.
    pub fn order(&self) -> Vec<OpId> {
        self.sorted().expect("invariant: the graph is acyclic")
    }
}
