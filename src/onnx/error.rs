//! What can go wrong between files and models.

use std::path::PathBuf;

use crate::ir::TensorError;

/// Why a model cannot be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum LoadError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} is empty")]
    Empty { path: PathBuf },
    #[error("{path} is a Git LFS pointer, not a model; fetch the file with `git lfs pull`")]
    LfsPointer { path: PathBuf },
    #[error("{path} is not an ONNX model: {what}")]
    NotOnnx { path: PathBuf, what: String },
    #[error("{path} is truncated or damaged: {what}")]
    Damaged { path: PathBuf, what: String },
    #[error("the model holds no graph")]
    NoGraph,
    #[error("line {line}: {what}")]
    Text { line: usize, what: String },
    #[error("tensor {name:?}: {why}")]
    Tensor { name: String, why: TensorError },
    #[error("tensor {name:?} has {what}")]
    TensorField { name: String, what: String },
    #[error("external data of tensor {name:?}: {what}")]
    External { name: String, what: String },
    #[error("node {node} reads {name:?}, which nothing makes before it")]
    UnknownInput { node: String, name: String },
    #[error("graph output {0:?} is not made by any node")]
    UnknownOutput(String),
    #[error("{0:?} is defined twice; every value must have one source")]
    Duplicate(String),
    #[error("the graph has a cycle through {0}")]
    Cycle(String),
    #[error("node {node}: attribute {attr:?} {what}")]
    Attribute { node: String, attr: String, what: &'static str },
}

/// Why a model cannot be written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum SaveError {
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: std::io::Error },
    #[error("the graph has a cycle through {0}")]
    Cycle(String),
    #[error(
        "the model takes {bytes} bytes without its weights, more than a protobuf file can hold"
    )]
    TooLarge { bytes: usize },
    #[error("cannot write as {format}: {what}")]
    Format { format: &'static str, what: String },
}
