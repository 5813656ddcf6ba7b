//! What the user may choose.

use serde::{Deserialize, Serialize};

use super::calibrate::Method;

/// Which ops are quantized by default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Profile {
    /// All placement rules: what TensorRT turns into INT8 kernels.
    #[default]
    Tensorrt,
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
    /// Switch placement rules off, by id: N3, W7, …
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    pub disable_rule: Vec<String>,
    /// Axis along which weights of ConvTranspose get scales
    #[arg(long, value_enum, default_value_t = ConvTransposeAxis::None)]
    pub convtranspose_axis: ConvTransposeAxis,
    /// Do not correct biases for the mean error of rounded weights
    #[arg(long)]
    pub no_bias_correction: bool,
}

impl Default for QuantizeOptions {
    fn default() -> QuantizeOptions {
        QuantizeOptions {
            method: Method::Auto,
            percentile: 99.99,
            profile: Profile::Tensorrt,
            include: Vec::new(),
            exclude: Vec::new(),
            skip_first: 0,
            skip_last: 0,
            disable_rule: Vec::new(),
            convtranspose_axis: ConvTransposeAxis::None,
            no_bias_correction: false,
        }
    }
}

impl QuantizeOptions {
    /// Passes over the calibration data.
    pub fn passes(&self) -> usize {
        if self.method == Method::Minmax { 1 } else { 2 }
    }
}
