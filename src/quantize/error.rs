//! Why a model cannot be quantized.

use super::cache;
use crate::convert::OpsetError;
use crate::engine::RunError;
use crate::target::Finding;

/// Why a model cannot be quantized.
#[derive(Debug, thiserror::Error)]
pub enum QuantizeError {
    /// A pattern is no glob.
    #[error("bad pattern: {0}")]
    Glob(#[from] globset::Error),
    /// There is no such rule.
    #[error("no placement rule is called {name:?}; the rules are: {valid}")]
    UnknownRule {
        /// The name given.
        name: String,
        /// All ids.
        valid: String,
    },
    /// The percentile makes no sense.
    #[error("percentile {0} is not in (0, 100]")]
    Percentile(f64),
    /// A goal that nothing can be measured against.
    #[error("--max-drop {0} is no drop: give a number from 0 on")]
    MaxDrop(f64),
    /// The model has Q/DQ or integer operators.
    #[error(
        "the model is quantized already: {0}; `quantize --from-quantized` takes over its ranges, `--strip` makes \
         it float again"
    )]
    AlreadyQuantized(String),
    /// The operator set is older than scales along an axis, and the model cannot be converted.
    #[error(transparent)]
    Opset(#[from] OpsetError),
    /// There is nothing to calibrate on.
    #[error("calibration needs at least one sample")]
    NoSamples,
    /// The model cannot run on the data.
    #[error(transparent)]
    Run(#[from] RunError),
    /// An activation had no finite element.
    #[error("tensor {0:?} holds no finite number on the calibration data")]
    NotFinite(String),
    /// Ranges cannot be read or written.
    #[error(transparent)]
    Ranges(#[from] cache::CacheError),
    /// The file of ranges lacks some.
    #[error("there is no range for {} tensors, such as {:?}; give --data to calibrate", .0.len(), .0[0])]
    NoRange(Vec<String>),
    /// Dynamic quantization was asked for TensorRT.
    #[error(
        "TensorRT has no DynamicQuantizeLinear, MatMulInteger or ConvInteger: quantize statically \
         with --data, which gives Q/DQ that it runs in INT8; for a CPU, add --profile onnxruntime-cpu"
    )]
    DynamicForTensorRt,
    /// UINT4 was asked for TensorRT.
    #[error(
        "TensorRT has no UINT4 and no zero points: use --weights int4; for a CPU, add --profile \
         onnxruntime-cpu"
    )]
    AsymmetricForTensorRt,
    /// A type that DLAs lack.
    #[error(
        "a DLA computes in INT8 and FP16 only: use --type int8, or --profile tensorrt for a GPU"
    )]
    NotOnDla,
    /// The block size makes no sense.
    #[error("blocks of {0}: the size is a power of two and at least 16")]
    Block(usize),
    /// There is nothing to take apart.
    #[error("the model is not quantized")]
    NotQuantized,
    /// A goal for accuracy, but no scores.
    #[error("the first output is no matrix of scores [N, C]; --metric sqnr or cosine needs none")]
    NoScores,
    /// What was written breaks TensorRT's rules: a bug in Lapidary.
    #[error("the quantized model breaks rule {} at {} ({}); please report this with the model", .0.id, .0.node, .0.why)]
    Illegal(Box<Finding>),
}
