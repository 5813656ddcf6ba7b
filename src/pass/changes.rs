//! What changed since inference and each list of rewrites last looked, so that a further round costs
//! what was edited and not what the model holds.

use std::collections::{BTreeMap, VecDeque};

use super::infer_op;
use crate::ir::{Graph, OpId};
use crate::maps::Set;

/// Ops that changed since somebody last looked.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen(Option<Set<OpId>>);

impl Seen {
    /// What changed since the last call, or `None` when all must be looked at.
    pub fn take(&mut self) -> Option<Set<OpId>> {
        self.0.replace(Set::default())
    }

    fn add(&mut self, ops: &[OpId]) {
        if let Some(set) = &mut self.0 {
            set.extend(ops);
        }
    }

    fn forget(&mut self) {
        self.0 = None;
    }
}

/// Changes of the main graph, for each of those that look at it round after round. A model with
/// subgraphs or local functions is looked at as a whole: edits within them are not told outside.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    pub(super) inference: Seen,
    pub(super) simplify: Seen,
    pub(super) late: Seen,
    /// Times that inference found something new.
    facts: u64,
    /// Passes over the whole model that last found nothing to do: at which revision, and at which
    /// count of facts.
    settled: BTreeMap<&'static str, (u64, u64)>,
}

impl Changes {
    /// Notes what edits touched since the last call.
    pub(super) fn note(&mut self, g: &mut Graph) {
        let touched = g.take_touched();
        self.add(&touched);
    }

    pub(super) fn add(&mut self, touched: &[OpId]) {
        self.all().for_each(|seen| seen.add(touched));
    }

    /// From here on everything counts as changed.
    pub(super) fn forget(&mut self) {
        self.all().for_each(Seen::forget);
        self.facts += 1;
    }

    fn all(&mut self) -> impl Iterator<Item = &mut Seen> {
        [&mut self.inference, &mut self.simplify, &mut self.late].into_iter()
    }

    /// The pass found nothing to do in a model of this revision, of which the same was known.
    pub(super) fn is_settled(&self, pass: &str, revision: u64) -> bool {
        self.settled.get(pass) == Some(&(revision, self.facts))
    }

    /// Notes whether a pass found something to do.
    pub(super) fn settle(&mut self, pass: &'static str, revision: u64, changed: bool) {
        if changed {
            self.settled.remove(pass);
        } else {
            self.settled.insert(pass, (revision, self.facts));
        }
    }

    /// Infers the ops that changed, and what reads a result of which more or something else is known
    /// now. Returns false when that took longer than inferring everything would.
    pub(super) fn infer(
        &mut self,
        g: &mut Graph,
        stale: Set<OpId>,
        opset: i64,
        report: &mut dyn FnMut(String, String),
    ) -> bool {
        let mut queue: VecDeque<OpId> = g.order_within(&stale).into();
        let mut queued = stale;
        let mut left = g.op_count();
        while let Some(op) = queue.pop_front() {
            queued.remove(&op);
            if left == 0 {
                return false;
            }
            left -= 1;
            let facts = |g: &Graph| -> Vec<_> {
                let results = g.results(op).into_iter().flatten();
                results.map(|v| (v, g.value(v).ty.clone(), g.value(v).sym.clone())).collect()
            };
            let before = facts(g);
            if let Err(what) = infer_op(g, op, opset, report) {
                report(g.label(op), what.to_string());
            }
            for (old, new) in before.iter().zip(facts(g)) {
                if *old == new {
                    continue;
                }
                self.facts += 1;
                let readers: Vec<OpId> = g.uses(new.0).into_iter().map(|u| u.0).collect();
                self.simplify.add(&[op]);
                self.simplify.add(&readers);
                self.late.add(&[op]);
                self.late.add(&readers);
                queue.extend(readers.into_iter().filter(|r| queued.insert(*r)));
            }
        }
        true
    }
}
