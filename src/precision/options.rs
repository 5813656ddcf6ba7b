//! What the user may choose.

use serde::{Deserialize, Serialize};

use crate::ir::DType;

/// Options of the conversion to 16-bit floats.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
#[command(next_help_heading = "Precision")]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct PrecisionOptions {
    /// Compute in float16 what is not quantized
    #[arg(long, conflicts_with = "bf16")]
    pub fp16: bool,
    /// Compute in bfloat16 what is not quantized
    #[arg(long)]
    pub bf16: bool,
    /// Give float32 inputs and outputs of the model the 16-bit type as well
    #[arg(long)]
    pub io_types: bool,
    /// With --fp16: keep ops in float32 that read or make magnitudes beyond this; float16 ends at
    /// 65504
    #[arg(long, default_value_t = 8192.0, value_name = "X")]
    pub max_activation: f32,
    /// Keep ops in float32 whose name or type matches one of these globs
    #[arg(long, value_name = "GLOB")]
    pub keep_float: Vec<String>,
}

impl Default for PrecisionOptions {
    fn default() -> PrecisionOptions {
        PrecisionOptions {
            fp16: false,
            bf16: false,
            io_types: false,
            max_activation: 8192.0,
            keep_float: Vec::new(),
        }
    }
}

impl PrecisionOptions {
    /// One of the types is asked for.
    pub fn is_asked(&self) -> bool {
        self.fp16 || self.bf16
    }

    /// The element type; float16 where none is asked for.
    pub fn half(&self) -> DType {
        if self.bf16 { DType::BF16 } else { DType::F16 }
    }

    pub(super) fn keep_globs(&self) -> Result<globset::GlobSet, globset::Error> {
        let mut set = globset::GlobSetBuilder::new();
        for pattern in &self.keep_float {
            set.add(globset::Glob::new(pattern)?);
        }
        set.build()
    }
}
