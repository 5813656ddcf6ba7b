//! The worklist driver: an edit queues its neighbourhood again, not the whole graph.

use std::collections::{HashMap, HashSet, VecDeque};
use std::time::Instant;

use super::{Cx, Limits, PassError, Rewrite, Site, infer_op};
use crate::ir::{Graph, OpId};

/// Applies rewrites in the graph and all its bodies until none of them fires. Returns how often
/// any fired.
///
/// # Errors
/// When a rewrite breaks the graph.
pub fn run_rewrites(
    g: &mut Graph,
    opset: i64,
    rewrites: &[&dyn Rewrite],
    cx: &mut Cx,
) -> Result<usize, PassError> {
    let enabled: Vec<&dyn Rewrite> =
        rewrites.iter().copied().filter(|r| cx.selection.allows(r.info().name)).collect();
    let mut driver = Driver::new(opset, &enabled, cx.limits.clone());
    let mut total = 0;
    // Patterns reach further than the neighbourhood that an edit queues: sweep until quiet.
    while cx.may_go_on() {
        let fired = driver.sweep(g, cx)?;
        total += fired;
        if fired == 0 {
            break;
        }
    }
    if cx.explain {
        driver.explain(g, cx);
    }
    Ok(total)
}

struct Driver<'a> {
    opset: i64,
    limits: Limits,
    by_root: HashMap<&'static str, Vec<&'a dyn Rewrite>>,
    anywhere: Vec<&'a dyn Rewrite>,
}

impl<'a> Driver<'a> {
    fn new(opset: i64, rewrites: &[&'a dyn Rewrite], limits: Limits) -> Driver<'a> {
        let mut by_root: HashMap<&'static str, Vec<&'a dyn Rewrite>> = HashMap::new();
        for r in rewrites {
            for root in r.roots() {
                by_root.entry(root).or_default().push(*r);
            }
        }
        let anywhere = rewrites.iter().copied().filter(|r| r.roots().is_empty()).collect();
        Driver { opset, limits, by_root, anywhere }
    }

    fn rewrites_at(&self, g: &Graph, op: OpId) -> impl Iterator<Item = &'a dyn Rewrite> + '_ {
        let node = g.op(op);
        let rooted = self.by_root.get(node.op_type.as_str()).filter(|_| node.domain.is_empty());
        self.anywhere.iter().chain(rooted.into_iter().flatten()).copied()
    }

    /// One visit of every op, and again of the neighbourhood of every edit.
    fn sweep(&mut self, g: &mut Graph, cx: &mut Cx) -> Result<usize, PassError> {
        let mut fired = 0;
        g.take_touched();
        let mut queue: VecDeque<OpId> = g.sorted()?.into();
        let mut queued: HashSet<OpId> = queue.iter().copied().collect();
        while let Some(op) = queue.pop_front() {
            queued.remove(&op);
            if !g.has_op(op) {
                continue;
            }
            if !g.op(op).bodies.is_empty() {
                fired += self.sweep_bodies(g, op, cx)?;
            }
            while cx.may_go_on() && g.has_op(op) && self.fire_at(g, op, cx)? {
                fired += 1;
                let touched = g.take_touched();
                for t in &touched {
                    self.infer_new(g, *t, cx);
                }
                queue.extend(touched.into_iter().filter(|t| queued.insert(*t)));
            }
        }
        Ok(fired)
    }

    fn sweep_bodies(&mut self, g: &mut Graph, op: OpId, cx: &mut Cx) -> Result<usize, PassError> {
        g.refresh_captures(op);
        let mut fired = 0;
        for i in 0..g.op(op).bodies.len() {
            let mut body = std::mem::take(&mut g.op_facts_mut(op).bodies[i]);
            let result = self.sweep(&mut body, cx);
            g.op_facts_mut(op).bodies[i] = body;
            fired += result?;
        }
        if fired > 0 {
            g.bodies_mut(op);
            g.prune_captures(op);
        }
        Ok(fired)
    }

    fn fire_at(&self, g: &mut Graph, op: OpId, cx: &mut Cx) -> Result<bool, PassError> {
        let rewrites: Vec<&dyn Rewrite> = self.rewrites_at(g, op).collect();
        for r in rewrites {
            let start = Instant::now();
            let site = Site { opset: self.opset, limits: &self.limits };
            let plan = r.plan(g, op, &site);
            let info = r.info();
            let fires = match plan {
                Ok(patch) if patch.is_empty() => false,
                Ok(patch) => {
                    g.apply(patch);
                    true
                }
                Err(_) => false,
            };
            let stats = cx.stats.entry(info.name).or_default();
            stats.time += start.elapsed();
            if fires {
                stats.fired += 1;
                cx.applied += 1;
                if cx.check {
                    g.check()
                        .map_err(|violation| PassError::Broken { pass: info.name, violation })?;
                }
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Types of results that a patch made without saying what they are.
    fn infer_new(&self, g: &mut Graph, op: OpId, cx: &mut Cx) {
        let untyped = g.results(op).into_iter().flatten().any(|v| g.value(v).ty.is_none());
        if untyped {
            let findings = &mut cx.findings;
            let _ = infer_op(g, op, self.opset, &mut |op, what| findings.push((op, what)));
        }
    }

    fn explain(&self, g: &Graph, cx: &mut Cx) {
        for op in g.ops() {
            for body in &g.op(op).bodies {
                self.explain(body, cx);
            }
            for r in self.rewrites_at(g, op).filter(|r| !r.roots().is_empty()) {
                let site = Site { opset: self.opset, limits: &self.limits };
                if let Err(miss) = r.plan(g, op, &site) {
                    cx.misses.push((r.info().name, g.label(op), miss));
                }
            }
        }
    }
}
