//! Pruning from start to end: choice, cut, recovery, and these in several steps.

use super::importance::Importance;
use super::options::Measure;
use super::select::{Patterns, check_ratio};
use super::{
    Analysis, Choice, Cuts, GoalReport, GroupReport, PruneError, PruneOptions, PruneReport,
    outcome, params, target,
};
use crate::ir::Model;
use crate::recover::{self, Calibration, Kept, Recover, RecoverError, RecoveryReport};

/// Float parameters above which recovery only rescales unless asked: least squares over the layers of
/// larger models take minutes.
const LARGE: usize = 10_000_000;
/// Channels that kernels take at a time.
const ALIGNED: usize = 8;

/// Prunes the main graph of a model in place, without calibration data. When nothing is cut, nothing
/// changes.
///
/// # Errors
/// Before anything was changed.
pub fn prune(m: &mut Model, o: &PruneOptions) -> Result<PruneReport, PruneError> {
    prune_with(m, o, None, &[])
}

/// As [`prune`]; chooses by the calibration data and wins accuracy back from them: by reconstruction,
/// or in models of over ten million parameters by rescaling, unless the options say otherwise. `dims`
/// are sizes of open dims, for counting.
///
/// # Errors
/// Before anything was changed.
pub fn prune_with(
    m: &mut Model,
    o: &PruneOptions,
    data: Option<Calibration>,
    dims: &[(String, i64)],
) -> Result<PruneReport, PruneError> {
    if o.max_drop.is_some() {
        return Err(PruneError::GoalMode);
    }
    let real = data.is_some_and(|c| !c.source.is_synthetic());
    let method = match (o.recover, data) {
        (None, Some(_)) if real && params(&m.graph) > LARGE => Recover::Affine,
        (None, Some(_)) if real => Recover::Reconstruct,
        (None | Some(Recover::None), _) => Recover::None,
        (Some(_), None) => return Err(PruneError::NoData),
        (Some(method), Some(_)) => method,
    };
    let default = real.then_some(Importance::Reconstruction);
    let options = PruneOptions { importance: o.importance.or(default), ..o.clone() };
    let mut run = Run { options, method, data, dims, original: None, kept: Kept::new() };
    let mut report = PruneReport { params_before: params(&m.graph), ..PruneReport::default() };
    let mut model = m.clone();
    let steps = o.iterations.max(1);
    for step in 1..=steps {
        let part = step as f64 / steps as f64;
        run.step(&mut model, part, steps, &mut report)?;
    }
    if report.groups.iter().any(|g| g.after < g.before) {
        *m = model;
    }
    report.goal = run.reached(m)?;
    report.channels_before = report.groups.iter().map(|g| g.before).sum();
    report.channels_after = report.groups.iter().map(|g| g.after).sum();
    report.params_after = params(&m.graph);
    report.warnings.extend(odd_widths(&report.groups));
    Ok(report)
}

/// What to say of widths that kernels of any runtime are slow at.
fn odd_widths(groups: &[GroupReport]) -> Option<String> {
    let whole = |n: usize| n.is_multiple_of(ALIGNED);
    let odd = groups.iter().filter(|g| whole(g.before) && !whole(g.after)).count();
    (odd > 0).then(|| {
        format!(
            "{odd} of {} groups are left with widths that are no multiples of {ALIGNED}, which can cost more time \
             than the cut saves; --round-to {ALIGNED} keeps to them",
            groups.len()
        )
    })
}

struct Run<'a> {
    options: PruneOptions,
    method: Recover,
    data: Option<Calibration<'a>>,
    dims: &'a [(String, i64)],
    /// The model before the first step, as the analysis has it.
    original: Option<Model>,
    /// What stays of its axes.
    kept: Kept,
}

impl Run<'_> {
    /// One step of several; `part` of the way is done after it.
    fn step(
        &mut self,
        model: &mut Model,
        part: f64,
        steps: usize,
        report: &mut PruneReport,
    ) -> Result<(), PruneError> {
        let analysis = Analysis::with(model, self.options.approximate);
        let original = self.original.get_or_insert_with(|| analysis.model.clone()).clone();
        let choice = self.choose(&analysis, &original, part, steps)?;
        if report.groups.is_empty() {
            let names: Vec<&[String]> = analysis.groups().iter().map(|g| &g.names[..]).collect();
            report.warnings = Patterns::of(&self.options)?.unmatched(&names);
        }
        merge(&mut report.groups, analysis.report(&choice));
        if !choice.gone.contains(&true) {
            return Ok(());
        }
        let mut cut = analysis.cut(&choice)?;
        if steps == 1 {
            let (before, groups) = (analysis.graph(), &analysis.groups);
            let kind = self.options.importance();
            let cuts = Cuts::new(before, &cut.graph, groups, &choice.gone, kind);
            report.cuts = Some(Box::new(cuts));
        }
        then(&mut self.kept, analysis.kept(&choice));
        if let Some(c) = self.data.filter(|_| self.method != Recover::None) {
            report.as_cut.get_or_insert_with(|| Box::new(cut.clone()));
            let recovery = self.recover(&original, &mut cut, c)?;
            let before = report.recovery.take().and_then(|r| r.sqnr_before);
            let sqnr_before = before.or(recovery.sqnr_before);
            report.recovery = Some(RecoveryReport { sqnr_before, ..recovery });
        }
        *model = cut;
        Ok(())
    }

    fn choose(
        &self,
        analysis: &Analysis,
        original: &Model,
        part: f64,
        steps: usize,
    ) -> Result<Choice, PruneError> {
        let o = &self.options;
        let moments = analysis.moments(o.importance(), self.data)?;
        match o.target() {
            None => {
                let ratio = 1.0 - (1.0 - o.ratio).powf(1.0 / steps as f64);
                let ratio = if steps == 1 { o.ratio } else { ratio };
                analysis.choose_by(&PruneOptions { ratio, ..o.clone() }, moments.as_ref())
            }
            Some((measure, share)) => {
                let share = check_ratio(share)?.powf(part);
                self.goal(measure, share, original).search(analysis, o, moments.as_ref())
            }
        }
    }

    fn goal<'g>(&'g self, measure: Measure, share: f64, original: &'g Model) -> target::Goal<'g> {
        target::Goal { measure, share, original, data: self.data, dims: self.dims }
    }

    /// What a goal asked for, and what is left in the result.
    fn reached(&self, result: &Model) -> Result<Option<GoalReport>, PruneError> {
        let (Some((measure, share)), Some(original)) = (self.options.target(), &self.original)
        else {
            return Ok(None);
        };
        let goal = self.goal(measure, share, original);
        let left = goal.share_of(result)?;
        Ok(Some(GoalReport { what: goal.what(), goal: share, left }))
    }

    /// Fits the cut model to the original.
    fn recover(
        &self,
        original: &Model,
        cut: &mut Model,
        c: Calibration,
    ) -> Result<RecoveryReport, RecoverError> {
        let sqnr_before = outcome::measure(original, cut, c).sqnr_db;
        let report = recover::recover(original, cut, &self.kept, self.method, c)?;
        let sqnr_after = outcome::measure(original, cut, c).sqnr_db;
        Ok(RecoveryReport { sqnr_before, sqnr_after, ..report })
    }
}

/// Takes up what a later step did to the groups.
fn merge(groups: &mut Vec<GroupReport>, later: Vec<GroupReport>) {
    if groups.is_empty() {
        *groups = later;
        return;
    }
    for group in later {
        if let Some(known) = groups.iter_mut().find(|g| g.name == group.name) {
            known.after = known.after.min(group.after);
        }
    }
}

/// What stays after a cut of what has stayed so far.
fn then(kept: &mut Kept, next: Kept) {
    for (at, next) in next {
        match kept.get_mut(&at) {
            Some(so_far) => {
                *so_far = next.iter().filter_map(|i| so_far.get(*i as usize).copied()).collect();
            }
            None => {
                kept.insert(at, next);
            }
        }
    }
}
