//! What may stand in the way of pruning.

use super::verify::Misfit;
use crate::engine::RunError;
use crate::recover::RecoverError;

/// Why a model was not pruned.
#[derive(Debug, thiserror::Error)]
pub enum PruneError {
    /// A pattern is no glob.
    #[error("bad pattern {pattern:?}: {why}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// A ratio makes no sense.
    #[error("ratio {0} is not between 0 and 1")]
    Ratio(f64),
    /// A weight cannot be ranked.
    #[error("weight {name:?} is not a float tensor whose channels can be ranked")]
    Weight {
        /// Its name.
        name: String,
    },
    /// A weight holds NaN.
    #[error("weight {name:?} holds NaN; its channels have no order")]
    NotANumber {
        /// Its name.
        name: String,
    },
    /// A constant could not be cut.
    #[error("constant {name:?} could not be cut; please report this with the model")]
    Cut {
        /// Its name.
        name: String,
    },
    /// The cut left lengths that do not fit: a bug in Lapidary.
    #[error("the pruned model does not fit together ({0}); please report this with the model")]
    Misfit(Misfit),
    /// Recovery was asked for without anything to recover from.
    #[error("--recover needs calibration data: give --data PATH")]
    NoData,
    /// An importance that looks at activations, without data.
    #[error("this importance looks at activations: give calibration data with --data PATH")]
    ImportanceData,
    /// A goal for outputs, without samples to judge them on.
    #[error("--max-drop needs calibration data: give --data PATH")]
    GoalData,
    /// A goal for outputs, for channels.
    #[error(
        "--max-drop is for single weights (--mode 2:4, unstructured); channels have --target-macs"
    )]
    GoalMode,
    /// The goal is accuracy, but the model gives no scores.
    #[error("--metric top1 needs a first output of shape [N, classes]")]
    GoalScores,
    /// The model does not run.
    #[error(transparent)]
    Run(#[from] RunError),
    /// Single weights are recovered by reconstruction only.
    #[error("for single weights --recover is none or reconstruct")]
    Update,
    /// The goal cannot be measured.
    #[error("{what} cannot be measured: {why}")]
    Measure {
        /// What was to be measured.
        what: &'static str,
        /// Why not.
        why: String,
    },
    /// The goal is out of reach.
    #[error(
        "the goal of {goal:.3} of the {what} is out of reach: {least:.3} are left when all that may \
         be cut is cut"
    )]
    Unreachable {
        /// What the goal is about.
        what: &'static str,
        /// The share that was asked for.
        goal: f64,
        /// The least share found.
        least: f64,
    },
    /// Recovery failed.
    #[error(transparent)]
    Recover(#[from] RecoverError),
}
