//! The trade-off between what pruning saves and what it costs, for the whole model.

use serde::Serialize;

use super::options::Measure;
use super::sensitivity::SensitivityOptions;
use super::target::Goal;
use super::{PruneError, PruneOptions, outcome, prune_with, select};
use crate::ir::Model;
use crate::recover::Calibration;

/// The model pruned at one ratio.
#[derive(Clone, Debug, Serialize)]
pub struct CurvePoint {
    /// Share of the channels to remove that was asked for.
    pub ratio: f64,
    /// Share of the multiply-accumulates that is left.
    pub macs: f64,
    /// Share of the parameters that is left.
    pub params: f64,
    /// Ratio of signal to difference of the outputs in decibels; none when nothing differs.
    pub sqnr_db: Option<f64>,
    /// Share of the samples whose largest output stays.
    pub agreement: Option<f64>,
}

/// What was measured.
#[derive(Clone, Debug, Serialize)]
pub struct Curve {
    /// The points, those that lose least first.
    pub points: Vec<CurvePoint>,
    /// Samples used.
    pub samples: usize,
}

/// Prunes a copy of the model at each ratio, all groups together, recovers as the options say and
/// compares the outputs with the original's.
///
/// # Errors
/// As [`prune_with`], and models that cannot be counted.
pub fn curve(
    model: &Model,
    o: &SensitivityOptions,
    data: Calibration,
    dims: &[(String, i64)],
) -> Result<Curve, PruneError> {
    let mut ratios = o.ratios.clone();
    for ratio in &ratios {
        select::check_ratio(*ratio)?;
    }
    ratios.sort_by(f64::total_cmp);
    let goal = |measure| Goal { measure, share: 0.0, original: model, data: None, dims };
    let mut points = Vec::new();
    for (i, ratio) in ratios.iter().enumerate() {
        (data.progress)("trade-off", i, ratios.len());
        let options = PruneOptions {
            ratio: *ratio,
            importance: o.importance,
            approximate: o.approximate,
            global: o.global,
            include: o.include.clone(),
            exclude: o.exclude.clone(),
            recover: Some(o.recover),
            ..PruneOptions::default()
        };
        let mut cut = model.clone();
        let quiet = Calibration { progress: &|_, _, _| {}, ..data };
        prune_with(&mut cut, &options, Some(quiet), dims)?;
        let found = outcome::measure(model, &cut, quiet);
        points.push(CurvePoint {
            ratio: *ratio,
            macs: goal(Measure::Macs).share_of(&cut)?,
            params: goal(Measure::Params).share_of(&cut)?,
            sqnr_db: found.sqnr_db,
            agreement: found.agreement,
        });
    }
    Ok(Curve { points, samples: data.source.len() * data.source.batch() })
}
