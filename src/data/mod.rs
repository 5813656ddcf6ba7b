//! Calibration and evaluation inputs: numpy, safetensors and idx files, folders and lists of images,
//! random tensors.
//!
//! A [`Source`] hands out one sample at a time, already in the shape and type that the model takes.

mod error;
mod fit;
mod idx;
mod image;
mod labels;
mod manifest;
mod npy;
mod options;
mod preprocess;
mod reader;
mod safetensors;
mod source;
mod synthetic;

pub use error::DataError;
pub use options::{Channels, Crop, DataOptions, Layout, Resize, Scale};
pub use source::{Source, Taken, observed_sizes, open};
pub use synthetic::Synthetic;
