//! What recovery did.

use serde::Serialize;

use super::Recover;
use crate::ir::OpId;

/// What recovery did to one layer.
#[derive(Clone, Debug, Serialize)]
pub struct LayerRecovery {
    /// Its name.
    pub name: String,
    /// Rows it was fitted to.
    pub rows: usize,
    /// Ratio of signal to error in decibels behind its activation before, given the layers before it
    /// as fitted.
    pub db_before: f64,
    /// The same after.
    pub db_after: f64,
    /// The layer, and the scales of its rows where they were rounded.
    #[serde(skip)]
    pub(crate) written: Option<(OpId, Written)>,
}

/// Weights and bias of a fitted layer.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub weights: Vec<f32>,
    pub bias: Vec<f32>,
    pub scales: Vec<f32>,
}

/// What recovery did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RecoveryReport {
    /// The method.
    pub method: Recover,
    /// Layers in the order in which they were fitted.
    pub layers: Vec<LayerRecovery>,
    /// Layers that were left as they are, with the reason.
    pub skipped: Vec<(String, String)>,
    /// Samples used.
    pub samples: usize,
    /// Seconds it took.
    pub seconds: f64,
    /// Ratio of signal to difference of the outputs in decibels, as cut.
    pub sqnr_before: Option<f64>,
    /// The same after recovery.
    pub sqnr_after: Option<f64>,
    /// Accuracy as cut, where it was measured.
    pub top1_before: Option<f64>,
}
