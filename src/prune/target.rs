//! Goals: how far to prune, found by trying.

use std::collections::BTreeSet;
use std::time::Instant;

use super::groups::Groups;
use super::importance::{self, Moments};
use super::lanes::LaneId;
use super::options::Measure;
use super::{Analysis, Choice, PruneError, PruneOptions};
use crate::data::{Source, Synthetic};
use crate::engine::{Engine, TractEngine};
use crate::ir::{Dim, Graph, Model, OpId};
use crate::ops;
use crate::recover::Calibration;
use crate::report::inspect::summarize;

/// Tries of the search.
const TRIES: usize = 12;
/// Runs of each model for a latency.
const RUNS: usize = 7;

/// A share of the original that may be left.
pub(super) struct Goal<'a> {
    pub measure: Measure,
    pub share: f64,
    pub original: &'a Model,
    pub data: Option<Calibration<'a>>,
    pub dims: &'a [(String, i64)],
}

impl Goal<'_> {
    pub fn what(&self) -> &'static str {
        match self.measure {
            Measure::Macs => "multiply-accumulates",
            Measure::Params => "parameters",
            Measure::Bytes => "bytes",
            Measure::Latency => "latency",
        }
    }

    /// The choice with the least ratio that reaches the goal, by bisection.
    ///
    /// # Errors
    /// When the goal cannot be measured or is out of reach.
    pub fn search(
        &self,
        analysis: &Analysis,
        o: &PruneOptions,
        moments: Option<&Moments>,
    ) -> Result<Choice, PruneError> {
        let scores = importance::scores(analysis.graph(), &analysis.groups, o, moments)?;
        let attempt = |ratio: f64| -> Result<(Choice, f64), PruneError> {
            let choice = analysis.choose_scored(&PruneOptions { ratio, ..o.clone() }, &scores)?;
            let share = self.share_of(&analysis.cut(&choice)?)?;
            Ok((choice, share))
        };
        let (mut best, least) = attempt(1.0)?;
        if least > self.share {
            return Err(PruneError::Unreachable { what: self.what(), goal: self.share, least });
        }
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..TRIES {
            let middle = (low + high) / 2.0;
            let (choice, share) = attempt(middle)?;
            if share <= self.share {
                (best, high) = (choice, middle);
            } else {
                low = middle;
            }
        }
        self.give_back(analysis, o, &scores, best)
    }

    /// Leaves one choice more to each group, to those that lost most first, where the goal allows
    /// it.
    fn give_back(
        &self,
        analysis: &Analysis,
        o: &PruneOptions,
        scores: &[f64],
        mut best: Choice,
    ) -> Result<Choice, PruneError> {
        if self.measure == Measure::Latency || o.round_to > 1 {
            return Ok(best);
        }
        let mut order: Vec<usize> =
            (0..best.plans.len()).filter(|k| best.plans[*k].remove > 0).collect();
        order.sort_by(|a, b| best.plans[*b].remove.cmp(&best.plans[*a].remove).then(a.cmp(b)));
        for k in order {
            let mut plans = best.plans.clone();
            plans[k].remove -= 1;
            let choice = analysis.choose_counts(scores, &plans);
            if self.share_of(&analysis.cut(&choice)?)? <= self.share {
                best = choice;
            }
        }
        Ok(best)
    }

    /// What is left in `cut`.
    ///
    /// # Errors
    /// When it cannot be measured.
    pub fn share_of(&self, cut: &Model) -> Result<f64, PruneError> {
        if self.measure == Measure::Latency {
            return self.latency(cut);
        }
        let (before, after) = (self.amount(self.original)?, self.amount(cut)?);
        Ok(after / before.max(1.0))
    }

    fn amount(&self, m: &Model) -> Result<f64, PruneError> {
        let mut found = summarize(m, self.dims);
        if found.macs.is_none() && self.measure == Measure::Macs {
            // Sizes that nobody has given count as one: a batch.
            let mut dims = self.dims.to_vec();
            dims.extend(found.free.iter().map(|name| (name.clone(), 1)));
            found = summarize(m, &dims);
        }
        let macs = || found.macs.map(|n| n as f64);
        let unknown = || PruneError::Measure {
            what: self.what(),
            why: "sizes are not known; give them with --dim".to_owned(),
        };
        match self.measure {
            Measure::Macs => macs().ok_or_else(unknown),
            Measure::Params => Ok(found.params as f64),
            _ => Ok(found.weight_bytes as f64),
        }
    }

    /// Time of a run relative to one of the original, the least of several that take turns.
    fn latency(&self, cut: &Model) -> Result<f64, PruneError> {
        let fail = |why: String| PruneError::Measure { what: self.what(), why };
        let random;
        let (engine, source): (&dyn Engine, &dyn Source) = match &self.data {
            Some(c) => (c.engine, c.source),
            None => {
                random = Synthetic::new(self.original, 1, 0, self.dims)
                    .map_err(|e| fail(e.to_string()))?;
                (&TractEngine, &random)
            }
        };
        let feeds = source.get(0).map_err(|e| fail(e.to_string()))?;
        let mut least = [f64::INFINITY; 2];
        let prepare = |m| engine.prepare(m, &[]).map_err(|e| fail(e.to_string()));
        let sessions = [prepare(self.original)?, prepare(cut)?];
        for _ in 0..RUNS {
            for (session, least) in sessions.iter().zip(&mut least) {
                let start = Instant::now();
                session.run(&feeds, &mut |_, _| {}).map_err(|e| fail(e.to_string()))?;
                *least = least.min(start.elapsed().as_secs_f64());
            }
        }
        Ok(least[1] / least[0].max(1e-9))
    }
}

/// For each group the multiply-accumulates of the layers that make or read its channels, for one
/// choice; sizes that are open count as one.
pub(super) fn costs(g: &Graph, groups: &Groups) -> Vec<f64> {
    let macs = |op: OpId| {
        let schema = ops::any_schema(g.op(op))?;
        (schema.macs)(g, op)?.substitute(&|_| Some(Dim::Known(1))).known()
    };
    let one = |k: usize| {
        let on = |lane: LaneId| {
            groups.classes(lane).iter().any(|c| groups.group_of[*c as usize] as usize == k)
        };
        let sinks = groups.sinks.iter().filter(|s| on(s.0)).map(|s| s.1);
        let all: BTreeSet<OpId> =
            groups.groups[k].sources.iter().map(|s| s.1).chain(sinks).collect();
        let sum: i64 = all.into_iter().filter_map(macs).fold(0, i64::saturating_add);
        sum as f64 / groups.groups[k].choices().max(1) as f64
    };
    (0..groups.groups.len()).map(one).collect()
}
