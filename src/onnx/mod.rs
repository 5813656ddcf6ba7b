//! Reading and writing models. The only module that names protobuf types.

mod decode;
mod encode;
mod error;
mod external;
mod load;
mod rope;
mod save;
mod skeleton;
mod tensor;

pub use error::{LoadError, SaveError};
pub use load::{from_bytes, load};
pub use save::{ExternalData, SaveOptions, SavedNames, save, to_bytes};
pub use skeleton::{Skeleton, skeleton};

/// Protobuf types by prost: `bytes` fields stay slices of the file.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod pb {
    include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
}
