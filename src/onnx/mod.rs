//! Reading and writing models. The only module that names protobuf types.

mod budget;
mod decode;
mod encode;
mod error;
mod external;
mod format;
mod load;
mod output;
mod read_graph;
mod reflect;
mod rope;
mod save;
mod skeleton;
mod spelling;
mod tensor;
pub mod text;
mod write_graph;

pub(crate) use external::map_file;

pub use error::{LoadError, SaveError};
pub use external::external_files;
pub use format::Format;
pub use load::{from_bytes, load};
pub use output::write_whole;
pub use save::{ExternalData, SaveOptions, SavedNames, save, to_bytes};
pub use skeleton::{Skeleton, skeleton};

/// Since this operator set a `Constant` may hold a sparse value.
pub const SPARSE_CONSTANTS: i64 = 11;

/// Protobuf types by prost: `bytes` fields stay slices of the file.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
mod pb {
    include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
}
