//! Topological order that keeps the order of the file wherever it can.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use petgraph::Direction::{Incoming, Outgoing};
use petgraph::visit::{EdgeRef, NodeIndexable};

use super::edit::POPULAR;
use super::{Graph, OpId, ValueId};
use crate::maps::{Map, Set};

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

    /// Ops of a set that are alive, each after those of the set that make what it reads, else in
    /// the order of the file. Paths that leave the set do not count.
    pub(crate) fn order_within(&self, set: &Set<OpId>) -> Vec<OpId> {
        let mut missing: Map<OpId, usize> = Map::default();
        let mut ready = BinaryHeap::new();
        for &op in set.iter().filter(|op| self.has_op(**op)) {
            let made = self.reads(op).filter_map(|v| self.producer_op(v));
            let n = made.filter(|p| set.contains(p)).count();
            missing.insert(op, n);
            if n == 0 {
                ready.push(Reverse((self.op(op).rank, op)));
            }
        }
        let mut order = Vec::with_capacity(missing.len());
        while let Some(Reverse((_, op))) = ready.pop() {
            order.push(op);
            for v in self.results(op).into_iter().flatten() {
                for (reader, _) in self.uses(v) {
                    let Some(n) = missing.get_mut(&reader) else { continue };
                    *n -= 1;
                    if *n == 0 {
                        ready.push(Reverse((self.op(reader).rank, reader)));
                    }
                }
            }
        }
        order
    }

    /// The ops that are at most `steps` ops away from some, over what they read and make, in the
    /// order of [`Graph::order_within`]. A value with very many readers is no way between them.
    pub(crate) fn near(&self, from: Set<OpId>, steps: usize) -> Vec<OpId> {
        let mut found: Set<OpId> = from.into_iter().filter(|op| self.has_op(*op)).collect();
        let mut edge: Vec<OpId> = found.iter().copied().collect();
        for _ in 0..steps {
            let mut next = Vec::new();
            for op in edge {
                for v in self.reads(op) {
                    next.extend(self.around(v).filter(|op| found.insert(*op)));
                }
                for v in self.results(op).into_iter().flatten() {
                    next.extend(self.around(v).filter(|op| found.insert(*op)));
                }
            }
            if next.is_empty() {
                break;
            }
            edge = next;
        }
        self.order_within(&found)
    }

    /// The op that makes a value and those that read it, if they are not very many.
    fn around(&self, v: ValueId) -> impl Iterator<Item = OpId> + '_ {
        let readers = || self.g.edges_directed(v.index, Outgoing);
        let few = readers().nth(POPULAR).is_none();
        let readers = readers().filter(move |_| few).map(|e| self.op_at(e.target()));
        self.producer_op(v).into_iter().chain(readers)
    }
}
