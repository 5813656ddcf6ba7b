//! What a cut costs: outputs beside those of the original.

use crate::ir::Model;
use crate::pass::Semantics;
use crate::recover::Calibration;
use crate::verify;

/// How close the outputs stay over the samples, that of all outputs which is worst.
pub(super) struct Outcome {
    /// Ratio of signal to difference in decibels; none when nothing differs.
    pub sqnr_db: Option<f64>,
    /// Share of the samples whose largest element stays, where an output is of scores.
    pub agreement: Option<f64>,
}

/// Runs both models on all samples.
pub(super) fn measure(original: &Model, cut: &Model, c: Calibration) -> Outcome {
    let n = c.source.len();
    let progress = |done| (c.progress)("compare", done, n);
    let lossy = Semantics::Lossy;
    let found = verify::compare(original, cut, c.engine, c.source, n, lossy, &progress);
    let sqnr_db = Some(found.min_sqnr_db()).filter(|db| db.is_finite());
    Outcome { sqnr_db, agreement: found.min_top1() }
}
