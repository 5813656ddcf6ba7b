//! What deployment targets accept.

pub mod tensorrt;
mod trtexec;

pub use trtexec::{ParseVersionError, Version, trtexec_line};
