//! What quantization did, for tables and JSON.

use serde::Serialize;

use super::calibrate::Method;
use super::observe::Range;
use super::placement::Decision;
use super::recover::Recovery;
use crate::verify::Search;

/// One activation that got a Q/DQ pair.
#[derive(Clone, Debug, Serialize)]
pub struct TensorReport {
    /// Name of the tensor.
    pub name: String,
    /// Scale of its pair.
    pub scale: f32,
    /// Its zero point: 0 for INT8 and FP8; for the CPU profile, UINT8, what the range makes it.
    pub zero_point: i16,
    /// Largest magnitude that is not clipped.
    pub amax: f32,
    /// The method that chose it.
    pub method: Method,
    /// Share of the elements that are clipped; `None` without a histogram.
    pub clipped: Option<f64>,
    /// Expected squared error of one element; `None` without a histogram.
    pub mse: Option<f64>,
    /// What calibration saw.
    pub seen: Range,
    /// Tensors that share the scale, this one included.
    pub shared: usize,
    /// How many magnitudes fell into equal bins from 0 to this one, for pictures; `None` without a
    /// histogram.
    #[serde(skip)]
    pub histogram: Option<(f32, Vec<u64>)>,
}

/// What quantization did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct QuantizeReport {
    /// Activations with a pair, oldest first.
    pub tensors: Vec<TensorReport>,
    /// What was decided for each linear op, in graph order.
    pub ops: Vec<Decision>,
    /// What was decided for every other op that holds weights.
    pub others: Vec<Decision>,
    /// Linear ops that compute on INT8.
    pub quantized_ops: usize,
    /// All linear ops with a stored weight, and products of attention that compute on INT8.
    pub weighted_ops: usize,
    /// Their share of the multiply-accumulates of all linear ops, dynamic sizes being
    /// those of the first sample; `None` where some stay unknown.
    pub mac_share: Option<f64>,
    /// Weights stored as INT8.
    pub quantized_weights: usize,
    /// Bytes of constants before.
    pub bytes_before: usize,
    /// Bytes of constants after.
    pub bytes_after: usize,
    /// Biases corrected for the rounding of weights.
    pub corrected_biases: usize,
    /// What each method of recovery gained.
    pub recovery: Vec<Recovery>,
    /// How the goal for accuracy was met, where there is one.
    pub search: Option<Search>,
    /// Seconds that recovery took.
    pub recovery_seconds: f64,
    /// Calibration samples used.
    pub samples: usize,
    /// Seconds that calibration took.
    pub calibration_seconds: f64,
    /// What the user should know.
    pub warnings: Vec<String>,
}
