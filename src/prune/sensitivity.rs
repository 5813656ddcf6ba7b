//! Sensitivity: what each group costs when it alone is cut, and the ratios of all groups that cost
//! least together.

use serde::{Deserialize, Serialize};

use super::importance::{self, Importance};
use super::options::Measure;
use super::select::{self, Plan, check_ratio};
use super::target::Goal;
use super::{Analysis, Choice, LayerRatio, PruneError, PruneOptions, outcome};
use crate::ir::Model;
use crate::recover::{self, Calibration, Recover};

/// Options of the measurement.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
#[command(next_help_heading = "Sensitivity")]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct SensitivityOptions {
    /// Shares of a group's channels to remove
    #[arg(long, value_name = "RATIO", value_delimiter = ',', default_values_t = [0.25, 0.5, 0.75])]
    pub ratios: Vec<f64>,
    /// Fit ratios of all groups that leave this share of the multiply-accumulates
    #[arg(long, value_name = "SHARE")]
    pub target_macs: Option<f64>,
    /// How channels are ranked inside a group [default: reconstruction with --data, else l2]
    #[arg(long, alias = "norm", value_enum, value_name = "HOW")]
    pub importance: Option<Importance>,
    /// Also cut channels that a normalization takes statistics over
    #[arg(long)]
    pub approximate: bool,
    /// Cut all groups together at each ratio: the trade-off of the whole model
    #[arg(long, conflicts_with = "target_macs")]
    pub together: bool,
    /// Together, rank the channels of all layers together instead of layer by layer
    #[arg(long, requires = "together")]
    pub global: bool,
    /// Recover before measuring: slower, and closer to what pruning with recovery gives
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Recover::None)]
    pub recover: Recover,
    /// Measure only layers whose name or weight matches one of these globs
    #[arg(id = "sensitivity-include", long = "include", value_name = "GLOB")]
    pub include: Vec<String>,
    /// Leave layers out whose name or weight matches one of these globs
    #[arg(id = "sensitivity-exclude", long = "exclude", value_name = "GLOB")]
    pub exclude: Vec<String>,
}

impl Default for SensitivityOptions {
    fn default() -> SensitivityOptions {
        SensitivityOptions {
            ratios: vec![0.25, 0.5, 0.75],
            target_macs: None,
            importance: None,
            approximate: false,
            together: false,
            global: false,
            recover: Recover::None,
            include: Vec::new(),
            exclude: Vec::new(),
        }
    }
}

/// One group cut at one ratio.
#[derive(Clone, Debug, Serialize)]
pub struct Point {
    /// Ratio asked for.
    pub ratio: f64,
    /// Choices that go.
    pub removed: usize,
    /// Channels left.
    pub channels: usize,
    /// Share of the model's multiply-accumulates that is left.
    pub macs: f64,
    /// Ratio of signal to difference of the outputs in decibels; none when nothing differs.
    pub sqnr_db: Option<f64>,
    /// Share of the samples whose largest output stays.
    pub agreement: Option<f64>,
}

/// One group.
#[derive(Clone, Debug, Serialize)]
pub struct GroupSensitivity {
    /// Its first source layer.
    pub name: String,
    /// Channels.
    pub channels: usize,
    /// What it costs to cut it, least first.
    pub points: Vec<Point>,
}

/// Ratios that cost least together, as far as the groups' errors add up.
#[derive(Clone, Debug, Serialize)]
pub struct FittedPlan {
    /// Share of the multiply-accumulates that is left.
    pub macs: f64,
    /// A ratio for each group that loses channels, for `prune --ratio 0 --layer …`.
    pub layers: Vec<LayerRatio>,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct SensitivityReport {
    /// The groups that may be cut.
    pub groups: Vec<GroupSensitivity>,
    /// The fitted ratios, where a share was asked for.
    pub plan: Option<FittedPlan>,
    /// Samples used.
    pub samples: usize,
}

/// Cuts each group alone at each ratio and compares the outputs with the original's.
///
/// # Errors
/// Patterns and ratios that make no sense, weights that cannot be ranked, models that do not run,
/// a share that is out of reach.
pub fn sensitivity(
    model: &Model,
    o: &SensitivityOptions,
    data: Calibration,
    dims: &[(String, i64)],
) -> Result<SensitivityReport, PruneError> {
    for ratio in &o.ratios {
        check_ratio(*ratio)?;
    }
    let default = (!data.source.is_synthetic()).then_some(Importance::Reconstruction);
    let options = PruneOptions {
        importance: o.importance.or(default),
        include: o.include.clone(),
        exclude: o.exclude.clone(),
        ..PruneOptions::default()
    };
    let analysis = Analysis::with(model, o.approximate);
    let moments = analysis.moments(options.importance(), Some(data))?;
    let (g, groups) = (analysis.graph(), &analysis.groups);
    let scores = importance::scores(g, groups, &options, moments.as_ref())?;
    let plans = analysis.choose_scored(&options, &scores)?.plans;
    let share = o.target_macs.unwrap_or(0.0);
    let goal =
        Goal { measure: Measure::Macs, share, original: &analysis.model, data: Some(data), dims };
    let m = Measuring { analysis: &analysis, scores: &scores, plans: &plans, goal: &goal, data };
    let open: Vec<usize> = (0..plans.len()).filter(|k| m.is_open(*k)).collect();
    let mut found = Vec::new();
    for (i, &k) in open.iter().enumerate() {
        (data.progress)("sensitivity", i, open.len());
        found.push(m.group(k, o)?);
    }
    let plan = match o.target_macs {
        Some(share) => Some(m.fit(&open, &found, check_ratio(share)?)?),
        None => None,
    };
    let samples = data.source.len() * data.source.batch();
    Ok(SensitivityReport { groups: found, plan, samples })
}

struct Measuring<'a> {
    analysis: &'a Analysis,
    scores: &'a [f64],
    /// Which groups may be cut.
    plans: &'a [Plan],
    goal: &'a Goal<'a>,
    data: Calibration<'a>,
}

impl Measuring<'_> {
    fn is_open(&self, k: usize) -> bool {
        let group = &self.analysis.groups()[k];
        group.pinned.is_none() && self.plans[k].skipped.is_none()
    }

    /// The choice that takes so many choices from each group.
    fn choice(&self, remove: impl Fn(usize) -> usize) -> Choice {
        let plan = |(k, p): (usize, &Plan)| Plan { remove: remove(k), ..p.clone() };
        let plans: Vec<Plan> = self.plans.iter().enumerate().map(plan).collect();
        self.analysis.choose_counts(self.scores, &plans)
    }

    fn group(&self, k: usize, o: &SensitivityOptions) -> Result<GroupSensitivity, PruneError> {
        let group = &self.analysis.groups()[k];
        let n = group.choices();
        let mut ratios = o.ratios.clone();
        ratios.sort_by(f64::total_cmp);
        let mut points: Vec<Point> = Vec::new();
        for ratio in ratios {
            let removed = n - select::kept(n, select::removed(n, ratio), 1, 1);
            if removed > points.last().map_or(0, |p| p.removed) {
                points.push(self.point(k, ratio, removed, o.recover)?);
            }
        }
        Ok(GroupSensitivity { name: group.name.clone(), channels: group.channels(), points })
    }

    fn point(
        &self,
        k: usize,
        ratio: f64,
        removed: usize,
        method: Recover,
    ) -> Result<Point, PruneError> {
        let choice = self.choice(|i| if i == k { removed } else { 0 });
        let mut cut = self.analysis.cut(&choice)?;
        let original = &self.analysis.model;
        let quiet = Calibration { progress: &|_, _, _| {}, ..self.data };
        if method != Recover::None {
            recover::recover(original, &mut cut, &self.analysis.kept(&choice), method, quiet)?;
        }
        let found = outcome::measure(original, &cut, quiet);
        let group = &self.analysis.groups()[k];
        Ok(Point {
            ratio,
            removed,
            channels: group.channels() - removed * group.cells.len(),
            macs: self.goal.share_of(&cut)?,
            sqnr_db: found.sqnr_db,
            agreement: found.agreement,
        })
    }

    /// Takes single choices, those first that add the least error for the multiplications they save,
    /// until the share is reached.
    fn fit(
        &self,
        open: &[usize],
        found: &[GroupSensitivity],
        share: f64,
    ) -> Result<FittedPlan, PruneError> {
        let mut steps: Vec<(f64, usize)> = Vec::new();
        for (&k, group) in open.iter().zip(found) {
            steps.extend(slopes(&group.points).into_iter().map(|s| (s, k)));
        }
        steps.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        let attempt = |count: usize| -> Result<(Choice, f64), PruneError> {
            let taken = &steps[..count];
            let choice = self.choice(|k| taken.iter().filter(|s| s.1 == k).count());
            let left = self.goal.share_of(&self.analysis.cut(&choice)?)?;
            Ok((choice, left))
        };
        let (mut low, mut high) = (0, steps.len());
        let (mut best, mut macs) = attempt(high)?;
        if macs > share {
            let what = "multiply-accumulates";
            return Err(PruneError::Unreachable { what, goal: share, least: macs });
        }
        while high - low > 1 {
            let middle = low.midpoint(high);
            let (choice, left) = attempt(middle)?;
            if left <= share {
                (best, macs, high) = (choice, left, middle);
            } else {
                low = middle;
            }
        }
        let ratio = |k: &usize| {
            let group = &self.analysis.groups()[*k];
            let ratio = best.plans[*k].remove as f64 / group.choices() as f64;
            let pattern = globset::escape(&group.name);
            (ratio > 0.0).then_some(LayerRatio { pattern, ratio })
        };
        Ok(FittedPlan { macs, layers: open.iter().filter_map(ratio).collect() })
    }
}

/// For each single choice up to the last point the error that it adds for the share of the
/// multiplications that it saves: along the lower hull of the points, so that slopes grow.
fn slopes(points: &[Point]) -> Vec<f64> {
    let error = |p: &Point| p.sqnr_db.map_or(0.0, |db| 10f64.powf(-db / 10.0));
    let mut hull: Vec<(usize, f64, f64)> = vec![(0, 0.0, 0.0)];
    let slope = |a: (usize, f64, f64), b: (usize, f64, f64)| (b.2 - a.2) / (b.1 - a.1).max(1e-9);
    for p in points {
        let next = (p.removed, 1.0 - p.macs, error(p).max(hull[hull.len() - 1].2));
        while hull.len() > 1
            && slope(hull[hull.len() - 2], hull[hull.len() - 1])
                >= slope(hull[hull.len() - 1], next)
        {
            hull.pop();
        }
        hull.push(next);
    }
    let pieces = hull.windows(2).map(|w| (w[1].0 - w[0].0, slope(w[0], w[1])));
    pieces.flat_map(|(count, slope)| std::iter::repeat_n(slope, count)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(removed: usize, macs: f64, sqnr_db: f64) -> Point {
        let (ratio, channels) = (0.0, 0);
        Point { ratio, removed, channels, macs, sqnr_db: Some(sqnr_db), agreement: None }
    }

    #[test]
    fn slopes_grow() {
        let points = [point(2, 0.9, 20.0), point(4, 0.8, 10.0), point(6, 0.7, 9.0)];
        let slopes = slopes(&points);
        assert_eq!(slopes.len(), 6);
        assert!(slopes.windows(2).all(|w| w[0] <= w[1] + 1e-12), "{slopes:?}");
    }
}
