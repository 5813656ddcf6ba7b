//! What the user may choose.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::calibrate::Method;
use super::payload::Payload;
use super::recover::Equalize;
use super::weight_only::{WeightAlgorithm, WeightType};
use crate::recover::Rounding;
use crate::verify::Metric;

/// Which ops are quantized by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// All placement rules: what TensorRT turns into INT8 kernels.
    #[default]
    Tensorrt,
    /// As `tensorrt`, but ops of any size and the results of linear ops as well: a DLA (deep
    /// learning accelerator of Jetson and DRIVE) leaves INT8 where a tensor has no scale.
    TensorrtDla,
    /// Pairs on inputs and results of linear operators of any size, as the CPU kernels of ONNX
    /// Runtime want them.
    OnnxruntimeCpu,
    /// Inputs and weights of linear operators only, whatever their size.
    Minimal,
}

/// Along which axis the weights of ConvTranspose get scales.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ConvTransposeAxis {
    /// One scale for the whole weight.
    #[default]
    None,
    /// One scale for each input channel.
    #[value(name = "0")]
    #[serde(rename = "0")]
    Input,
    /// One scale for each output channel of a group.
    #[value(name = "1")]
    #[serde(rename = "1")]
    Output,
}

/// Options of static INT8 quantization.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
#[command(next_help_heading = "Quantize")]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct QuantizeOptions {
    /// The 8-bit type of activations and weights
    #[arg(id = "payload", long = "type", value_enum, default_value_t = Payload::Int8)]
    #[serde(rename = "type")]
    pub payload: Payload,
    /// How the range of an activation is chosen
    #[arg(long, value_enum, default_value_t = Method::Auto)]
    pub method: Method,
    /// Percent of the magnitudes that method `percentile` keeps
    #[arg(long, default_value_t = 99.99, value_name = "PERCENT")]
    pub percentile: f64,
    /// Which ops are quantized
    #[arg(long, value_enum, default_value_t = Profile::Tensorrt)]
    pub profile: Profile,
    /// Quantize only ops whose name or type matches one of these globs
    #[arg(id = "quantize-include", long = "include", value_name = "GLOB")]
    pub include: Vec<String>,
    /// Leave ops whose name or type matches one of these globs in float
    #[arg(id = "quantize-exclude", long = "exclude", value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Leave the first N linear ops in float
    #[arg(long, value_name = "N", default_value_t = 0, default_missing_value = "1", num_args = 0..=1, require_equals = true)]
    pub skip_first: usize,
    /// Leave the last N linear ops in float
    #[arg(long, value_name = "N", default_value_t = 0, default_missing_value = "1", num_args = 0..=1, require_equals = true)]
    pub skip_last: usize,
    /// Leave the last linear op before each output in float
    #[arg(long)]
    pub skip_head: bool,
    /// Quantize both products of attention as well: INT8 up to 512 tokens; FP8 does so anyway
    #[arg(long)]
    pub attention: bool,
    /// Switch placement rules on or off: -W7,+N1; `lapidary explain rules` lists them
    #[arg(long, value_name = "±RULE", value_delimiter = ',', allow_hyphen_values = true)]
    pub rules: Vec<String>,
    /// The GPU's compute capability, such as 8.6: what it has no kernels for stays in float
    #[arg(long, value_name = "X.Y")]
    pub compute_capability: Option<f32>,
    /// Axis along which weights of ConvTranspose get scales
    #[arg(long, value_enum, default_value_t = ConvTransposeAxis::None)]
    pub convtranspose_axis: ConvTransposeAxis,
    /// Rescale channels of activations, so that the quiet ones keep more levels; kept only if the
    /// outputs on calibration data gain by it
    #[arg(long, value_enum, default_value_t = Equalize::Insert)]
    pub equalize: Equalize,
    /// How weights are rounded, layer after layer on what the quantized layers before give; kept only
    /// if the outputs on calibration data gain by it
    #[arg(long, value_enum, default_value_t = Rounding::Auto)]
    pub rounding: Rounding,
    /// Keep the fewest layers in float that let the metric drop by at most X
    #[arg(long, value_name = "X")]
    pub max_drop: Option<f64>,
    /// What --max-drop is about
    #[arg(long, value_enum, default_value_t = Metric::Sqnr)]
    pub metric: Metric,
    /// Do not correct biases for the mean error of rounded weights
    #[arg(long)]
    pub no_bias_correction: bool,
    /// Write weights in float with QuantizeLinear and DequantizeLinear, as TensorRT 8 wants them
    #[arg(long)]
    pub float_weights: bool,
    /// Take ranges from a file instead of data: JSON, a calibration cache of TensorRT, or a quantized
    /// model
    #[arg(long, value_name = "FILE")]
    pub ranges: Option<PathBuf>,
    /// Write the ranges: JSON where the name ends in .json, else a calibration cache of TensorRT
    #[arg(long, value_name = "FILE")]
    pub save_ranges: Option<PathBuf>,
    /// The model is quantized: keep its ranges, and write what TensorRT takes
    #[arg(long, conflicts_with_all = ["ranges", "strip", "dynamic", "weights"])]
    pub from_quantized: bool,
    /// The model is quantized: make it float
    #[arg(long, conflicts_with_all = ["ranges", "dynamic", "weights"])]
    pub strip: bool,
    /// Quantize activations while the model runs, for CPUs; needs --profile onnxruntime-cpu
    #[arg(long, conflicts_with_all = ["ranges", "weights"])]
    pub dynamic: bool,
    /// With --dynamic: weights of 7 bits, for CPUs whose 8-bit products saturate (no VNNI)
    #[arg(long, requires = "dynamic")]
    pub reduce_range: bool,
    /// Quantize weights only, to this type
    #[arg(long, value_enum, value_name = "TYPE")]
    pub weights: Option<WeightType>,
    /// With --weights: elements that share a scale [default: all of a channel, 128 for 4 bits]
    #[arg(long, value_name = "N", requires = "weights")]
    pub block: Option<usize>,
    /// With --weights: how weights are rounded
    #[arg(long, value_enum, default_value_t = WeightAlgorithm::Rtn)]
    pub algorithm: WeightAlgorithm,
    /// Store tables of embeddings in the type of the weights as well; --profile onnxruntime-cpu does so
    /// anyway, unless --rules +N12 says otherwise
    #[arg(long)]
    pub embeddings: bool,
}

impl Default for QuantizeOptions {
    fn default() -> QuantizeOptions {
        QuantizeOptions {
            payload: Payload::Int8,
            method: Method::Auto,
            percentile: 99.99,
            profile: Profile::Tensorrt,
            include: Vec::new(),
            exclude: Vec::new(),
            skip_first: 0,
            skip_last: 0,
            skip_head: false,
            attention: false,
            rules: Vec::new(),
            compute_capability: None,
            convtranspose_axis: ConvTransposeAxis::None,
            equalize: Equalize::Insert,
            rounding: Rounding::Auto,
            max_drop: None,
            metric: Metric::Sqnr,
            no_bias_correction: false,
            float_weights: false,
            ranges: None,
            save_ranges: None,
            from_quantized: false,
            strip: false,
            dynamic: false,
            reduce_range: false,
            weights: None,
            block: None,
            algorithm: WeightAlgorithm::Rtn,
            embeddings: false,
        }
    }
}

impl QuantizeOptions {
    /// The method, `auto` being the whole range for FP8: rounding errors are relative there.
    pub(super) fn range_method(&self) -> Method {
        match (self.payload, self.method) {
            (Payload::Fp8, Method::Auto) => Method::Minmax,
            (_, method) => method,
        }
    }

    /// Samples are needed.
    pub fn needs_data(&self) -> bool {
        let without = self.strip
            || self.dynamic
            || self.from_quantized
            || self.ranges.is_some()
            || (self.weights.is_some() && self.algorithm == WeightAlgorithm::Rtn);
        !without
    }
}
