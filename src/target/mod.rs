//! What deployment targets accept, and the check of a model against one.

pub mod engine;
mod finding;
mod flags;
mod onnxruntime;
pub mod rules;
mod sarif;
pub mod tensorrt;
mod trtexec;
mod version;

use std::str::FromStr;

pub use finding::{Finding, Severity};
pub use flags::{RemovedFlag, removed_flag};
pub use sarif::sarif;
pub use trtexec::{Exports, LineOptions, shell_line, trtexec_args, trtexec_line};
pub use version::{ParseVersionError, Version};

use crate::ir::Model;

/// What a model is to run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A version of TensorRT.
    TensorRt(Version),
    /// A version of TensorRT that builds for a deep learning accelerator (DLA) of Jetson or DRIVE.
    Dla(Version),
    /// The CPU provider of ONNX Runtime.
    OnnxRuntimeCpu,
}

/// The text names no target.
#[derive(Debug, thiserror::Error)]
pub enum ParseTargetError {
    /// No such runtime.
    #[error(
        "no target is called {0:?}; there are tensorrt, tensorrt-VERSION (such as tensorrt-8.6, \
         tensorrt-10, tensorrt-11, tensorrt-11-dla) and onnxruntime-cpu"
    )]
    Unknown(String),
    /// No such version.
    #[error(transparent)]
    Version(#[from] ParseVersionError),
}

impl FromStr for Target {
    type Err = ParseTargetError;

    fn from_str(text: &str) -> Result<Target, ParseTargetError> {
        match text.split_once('-') {
            None if text == "tensorrt" => Ok(Target::TensorRt(Version::default())),
            Some(("tensorrt", version)) => Ok(match version.strip_suffix("-dla") {
                Some(version) => Target::Dla(version.parse()?),
                None => Target::TensorRt(version.parse()?),
            }),
            Some(("onnxruntime", "cpu")) => Ok(Target::OnnxRuntimeCpu),
            _ => Err(ParseTargetError::Unknown(text.to_owned())),
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Target::TensorRt(version) => write!(f, "tensorrt-{version}"),
            Target::Dla(version) => write!(f, "tensorrt-{version}-dla"),
            Target::OnnxRuntimeCpu => f.write_str("onnxruntime-cpu"),
        }
    }
}

/// Everything about a model that the target rejects, reads differently or is slow at: errors first,
/// otherwise in the order of the graph.
pub fn check(m: &Model, target: Target) -> Vec<Finding> {
    let mut m = m.clone();
    crate::pass::infer_model(&mut m, &mut |_, _| {});
    let mut findings = match target {
        Target::TensorRt(version) => tensorrt::check(&m, version),
        Target::Dla(version) => tensorrt::check_for_dla(&m, version),
        Target::OnnxRuntimeCpu => onnxruntime::check(&m),
    };
    findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
    findings
}
