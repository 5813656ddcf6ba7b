//! What can be wrong with data.

use std::path::PathBuf;

/// Why data cannot be read, or do not fit the model.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum DataError {
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path} is not a {kind} file: {what}")]
    Format { path: PathBuf, kind: &'static str, what: String },
    #[error(
        "{path} is neither .npy, .npz, .safetensors, .csv, .parquet, an idx file nor a folder of images"
    )]
    UnknownKind { path: PathBuf },
    #[error("{path} holds no images (.jpg, .jpeg, .png, .bmp)")]
    NoImages { path: PathBuf },
    #[error(
        "{path}: this build reads no Parquet files; build with `--features parquet`, or list samples as CSV"
    )]
    NoParquet { path: PathBuf },
    #[error("cannot decode {path}: {what}")]
    Image { path: PathBuf, what: String },
    #[error("{path} holds no array {name:?}; it holds {have}")]
    NoArray { path: PathBuf, name: String, have: String },
    #[error("the model has no input {name:?}; it has {inputs}")]
    UnknownInput { name: String, inputs: String },
    #[error("no data for input {name:?}; the model takes {inputs}")]
    MissingInput { name: String, inputs: String },
    #[error(
        "the model has more than one input ({inputs}): say which one {path} is for, as NAME={path}"
    )]
    WhichInput { path: PathBuf, inputs: String },
    #[error("input {input:?}: the model takes {want}, but {path} holds {got}")]
    Shape { input: String, want: String, got: String, path: PathBuf },
    #[error("{first} holds {n} samples, but {second} holds {m}")]
    Lengths { first: PathBuf, n: usize, second: PathBuf, m: usize },
    #[error("{path} holds {labels} labels for {samples} samples")]
    LabelCount { path: PathBuf, labels: usize, samples: usize },
    #[error("{path} holds no samples")]
    Empty { path: PathBuf },
    #[error("cannot make random data for input {name:?}: {what}")]
    Synthetic { name: String, what: String },
    #[error("{option} {value:?}: {what}")]
    Option { option: &'static str, value: String, what: &'static str },
}
