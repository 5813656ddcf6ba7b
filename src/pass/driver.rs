//! The worklist driver: an edit queues its neighbourhood again, not the whole graph.

use std::collections::VecDeque;
use std::time::Instant;

use super::{Cx, Limits, PassError, PassStats, Rewrite, Site, infer_op};
use crate::ir::{Graph, OpId};
use crate::maps::{Map, Set};

/// Ops that a sweep begins with.
pub(super) enum Scope {
    /// All of the graph.
    All,
    /// Those about ops that changed since the rewrites came to rest.
    Near(Set<OpId>),
}

/// Applies rewrites in the graph and all its bodies until none of them fires.
///
/// # Errors
/// When a rewrite breaks the graph.
pub fn run_rewrites(
    g: &mut Graph,
    opset: i64,
    rewrites: &[&dyn Rewrite],
    cx: &mut Cx,
) -> Result<(), PassError> {
    run_rewrites_from(g, opset, rewrites, Scope::All, cx).map(|_| ())
}

/// The same, beginning with `scope`. Returns the ops that they touched, each perhaps more than
/// once.
///
/// # Errors
/// When a rewrite breaks the graph.
pub(super) fn run_rewrites_from(
    g: &mut Graph,
    opset: i64,
    rewrites: &[&dyn Rewrite],
    mut scope: Scope,
    cx: &mut Cx,
) -> Result<Vec<OpId>, PassError> {
    let enabled: Vec<&dyn Rewrite> =
        rewrites.iter().copied().filter(|r| cx.selection.allows(r.info().name)).collect();
    let mut driver = Driver::new(opset, &enabled, cx.limits.clone());
    let mut touched = Vec::new();
    // Patterns reach further than the neighbourhood that an edit queues: sweep until quiet.
    while cx.may_go_on() {
        let mut patches_left = PATCHES_PER_OP * g.op_count() + PATCHES_PER_OP;
        let queue = match scope {
            Scope::All => g.sorted()?,
            Scope::Near(ops) if ops.len() > g.op_count() / MANY => g.sorted()?,
            Scope::Near(ops) => g.near(ops, REACH),
        };
        driver.refused = false;
        let fired = driver.sweep(g, queue, cx, &mut patches_left)?;
        let since = std::mem::take(&mut driver.touched);
        touched.extend(&since);
        if fired == 0 {
            break;
        }
        if patches_left == 0 {
            cx.exhausted = true;
            break;
        }
        // What there was no room for may fit now, wherever it is.
        let all = driver.refused || g.ops().any(|op| !g.op(op).bodies.is_empty());
        scope = if all { Scope::All } else { Scope::Near(since.into_iter().collect()) };
    }
    driver.report(cx);
    if cx.explain {
        driver.explain(g, cx);
    }
    Ok(touched)
}

/// Ops away from an edit at which a pattern may fire because of it: further than any pattern reads.
const REACH: usize = 32;

/// Beyond this part of the ops, one in so many, finding what is near them costs more than it saves.
const MANY: usize = 8;

/// A sweep that fires more often than this many times per op is taken for an endless one.
const PATCHES_PER_OP: usize = 100;

/// Growth that is no reason to refuse a patch: the ops that it removes take more in a file.
const SMALL: i64 = 128;

/// Index into `Driver::rewrites`.
type RewriteIndex = usize;

struct Driver<'a> {
    opset: i64,
    limits: Limits,
    rewrites: Vec<&'a dyn Rewrite>,
    stats: Vec<PassStats>,
    /// What to try at ops of each type of the default domain, and at all others.
    by_root: Map<&'static str, Vec<RewriteIndex>>,
    anywhere: Vec<RewriteIndex>,
    /// Ops of the outermost graph that patches touched.
    touched: Vec<OpId>,
    /// A patch was refused because constants may not grow so much.
    refused: bool,
}

impl<'a> Driver<'a> {
    fn new(opset: i64, rewrites: &[&'a dyn Rewrite], limits: Limits) -> Driver<'a> {
        let rewrites = rewrites.to_vec();
        let anywhere: Vec<RewriteIndex> =
            (0..rewrites.len()).filter(|i| rewrites[*i].roots().is_empty()).collect();
        let mut by_root: Map<&'static str, Vec<RewriteIndex>> = Map::default();
        for (i, r) in rewrites.iter().enumerate() {
            for root in r.roots() {
                by_root.entry(root).or_insert_with(|| anywhere.clone()).push(i);
            }
        }
        let stats = vec![PassStats::default(); rewrites.len()];
        Driver {
            opset,
            limits,
            rewrites,
            stats,
            by_root,
            anywhere,
            touched: Vec::new(),
            refused: false,
        }
    }

    fn rewrites_at(&self, g: &Graph, op: OpId) -> &[RewriteIndex] {
        let node = g.op(op);
        let rooted = self.by_root.get(node.op_type.as_str()).filter(|_| node.domain.is_empty());
        rooted.unwrap_or(&self.anywhere)
    }

    /// One visit of every op of the queue, and again of the neighbourhood of every edit.
    fn sweep(
        &mut self,
        g: &mut Graph,
        queue: Vec<OpId>,
        cx: &mut Cx,
        left: &mut usize,
    ) -> Result<usize, PassError> {
        let mut fired = 0;
        let mut queue: VecDeque<OpId> = queue.into();
        let mut queued: Set<OpId> = queue.iter().copied().collect();
        while let Some(op) = queue.pop_front() {
            queued.remove(&op);
            if !g.has_op(op) {
                continue;
            }
            if !g.op(op).bodies.is_empty() {
                fired += self.sweep_bodies(g, op, cx, left)?;
            }
            while *left > 0 && cx.may_go_on() && g.has_op(op) && self.fire_at(g, op, cx)? {
                fired += 1;
                *left -= 1;
                let touched = g.take_touched();
                for t in &touched {
                    self.infer_new(g, *t, cx);
                }
                queue.extend(touched.iter().copied().filter(|t| queued.insert(*t)));
                self.touched.extend(touched);
            }
        }
        Ok(fired)
    }

    fn sweep_bodies(
        &mut self,
        g: &mut Graph,
        op: OpId,
        cx: &mut Cx,
        left: &mut usize,
    ) -> Result<usize, PassError> {
        g.refresh_captures(op);
        let mut fired = 0;
        for i in 0..g.op(op).bodies.len() {
            let mut body = std::mem::take(&mut g.op_facts_mut(op).bodies[i]);
            let outside = std::mem::take(&mut self.touched);
            body.take_touched();
            let result = body.sorted().map_err(PassError::from);
            let result = result.and_then(|queue| self.sweep(&mut body, queue, cx, left));
            self.touched = outside;
            g.op_facts_mut(op).bodies[i] = body;
            fired += result?;
        }
        if fired > 0 {
            g.bodies_mut(op);
            g.prune_captures(op);
        }
        Ok(fired)
    }

    fn fire_at(&mut self, g: &mut Graph, op: OpId, cx: &mut Cx) -> Result<bool, PassError> {
        if g.op(op).has_ref_attrs() {
            return Ok(false);
        }
        let mut start = Instant::now();
        for k in 0..self.rewrites_at(g, op).len() {
            let i = self.rewrites_at(g, op)[k];
            let site = Site { opset: self.opset, limits: &self.limits, room: cx.room };
            self.stats[i].tried += 1;
            let patch = self.rewrites[i].plan(g, op, &site).ok();
            let patch = patch.filter(|p| !p.is_empty());
            self.refused |= patch.as_ref().is_some_and(|p| p.growth() > cx.room.max(SMALL));
            let patch = patch.filter(|p| p.growth() <= cx.room.max(SMALL));
            let fires = patch.is_some();
            if let Some(patch) = patch {
                cx.room -= patch.growth();
                if cx.stop_after.is_some() {
                    cx.last = Some((self.rewrites[i].info().name, Some(g.label(op))));
                }
                g.apply(patch);
                cx.applied += 1;
                self.stats[i].fired += 1;
            }
            let now = Instant::now();
            self.stats[i].time += now - start;
            start = now;
            if fires {
                if cx.check {
                    let pass = self.rewrites[i].info().name;
                    g.check().map_err(|violation| PassError::Broken { pass, violation })?;
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

    fn report(&self, cx: &mut Cx) {
        for (rewrite, stats) in self.rewrites.iter().zip(&self.stats) {
            let sum = cx.stats.entry(rewrite.info().name).or_default();
            sum.fired += stats.fired;
            sum.tried += stats.tried;
            sum.time += stats.time;
        }
    }

    fn explain(&self, g: &Graph, cx: &mut Cx) {
        for op in g.ops() {
            for body in &g.op(op).bodies {
                self.explain(body, cx);
            }
            for &i in self.rewrites_at(g, op) {
                let r = self.rewrites[i];
                if r.roots().is_empty() {
                    continue;
                }
                let site = Site { opset: self.opset, limits: &self.limits, room: cx.room };
                match r.plan(g, op, &site) {
                    Err(miss) => cx.misses.push((r.info().name, g.label(op), miss)),
                    Ok(p) if p.growth() > cx.room.max(SMALL) => {
                        let miss = "the file would grow beyond the limit".into();
                        cx.misses.push((r.info().name, g.label(op), miss));
                    }
                    Ok(_) => {}
                }
            }
        }
    }
}
