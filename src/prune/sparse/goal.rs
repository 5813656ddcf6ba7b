//! The fewest layers that must keep all their weights for a goal.

use std::time::Instant;

use super::{Cut, PruneError};
use crate::ir::Model;
use crate::recover::Calibration;
use crate::recover::sparse::recover_sparse;
use crate::verify::judge::{Judge, Score, fewest};
use crate::verify::{LayerNoise, Metric, Search};

/// Keeps the weights of as few layers as bisection finds, in an order made by cutting each alone, so
/// that the metric drops by `max_drop` at most. A part of the samples judges, and what is tried is
/// fitted to others.
pub(super) fn meet(
    cut: &mut Cut,
    max_drop: f64,
    metric: Metric,
    c: Calibration,
) -> Result<Search, PruneError> {
    let start = Instant::now();
    let judge = Judge::for_goal(&cut.dense, c.engine, c.source, metric == Metric::Top1)?;
    let mut trials = Trials { cut, judge, metric, c, tried: 0 };
    let drop_before = trials.drop(&[])?;
    let mut found = Search::begun(metric, max_drop, drop_before);
    let mut stay = Vec::new();
    if !found.met {
        let ranked = trials.rank()?;
        let of = |ranks: &[usize]| ranks.iter().map(|i| ranked[*i].1).collect::<Vec<_>>();
        let (_, ranks, drop) = fewest(ranked.len(), max_drop, 0, |ranks| {
            Ok::<_, PruneError>(((), trials.drop(&of(ranks))?))
        })?;
        stay = of(&ranks);
        found.settle(ranked.into_iter().map(|r| r.0).collect(), &ranks, drop);
    }
    found.tried = trials.tried;
    for k in stay {
        (cut.masks[k], cut.plan[k]) = (None, Err("the goal needs all its weights".into()));
    }
    found.seconds = start.elapsed().as_secs_f64();
    Ok(found)
}

struct Trials<'a> {
    cut: &'a Cut<'a>,
    judge: Judge<'a>,
    metric: Metric,
    c: Calibration<'a>,
    tried: usize,
}

impl Trials<'_> {
    /// How near the outputs are with these weights cut, the others making up for what goes: in these
    /// layers, or if `further` in all behind them, too.
    fn score(&self, chosen: &dyn Fn(usize) -> bool, further: bool) -> Result<Score, PruneError> {
        let mut model: Model = self.cut.masked(chosen);
        let kinds = self.cut.kinds(chosen);
        if self.cut.update.is_some() && !kinds.is_empty() {
            let c =
                Calibration { source: &self.judge.calibration, progress: &|_, _, _| {}, ..self.c };
            recover_sparse(&self.cut.dense, &mut model, &kinds, further, c)?;
        }
        Ok(self.judge.score(&model)?)
    }

    /// What is lost where these sites stay as they are.
    fn drop(&mut self, stay: &[usize]) -> Result<f64, PruneError> {
        self.tried += 1;
        // Bisection takes no more.
        let most = self.cut.sites.len().max(1).ilog2() as usize + 3;
        (self.c.progress)("try", self.tried, most);
        let open = |k: usize| self.cut.masks[k].is_some() && !stay.contains(&k);
        if !(0..self.cut.sites.len()).any(open) {
            return Ok(0.0);
        }
        let score = self.score(&open, true)?;
        self.judge.drop(&score, self.metric).ok_or(PruneError::GoalScores)
    }

    /// Each site cut alone, the one that costs most first, and its number.
    fn rank(&self) -> Result<Vec<(LayerNoise, usize)>, PruneError> {
        let g = &self.cut.dense.graph;
        let open: Vec<usize> =
            (0..self.cut.sites.len()).filter(|k| self.cut.masks[*k].is_some()).collect();
        let mut ranked = Vec::new();
        for (done, &k) in open.iter().enumerate() {
            (self.c.progress)("rank", done, open.len());
            let Some(&(op, _)) = self.cut.sites[k].readers.first() else { continue };
            let Score { sqnr_db, cosine, top1 } = self.score(&|other| other == k, false)?;
            let (node, op_type) = (g.label(op), g.op(op).full_type());
            ranked.push((LayerNoise { node, op_type, sqnr_db, cosine, top1, op }, k));
        }
        ranked.sort_by(|a, b| a.0.sqnr_db.total_cmp(&b.0.sqnr_db));
        Ok(ranked)
    }
}
