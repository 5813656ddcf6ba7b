//! Models to files: streamed, atomic, weights never copied.

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use bytes::Bytes;
use prost::Message;

use super::rope::{self, Rope};
use super::text::{self, PrintOptions};
use super::write_graph::encode_model;
use super::{Format, SaveError, encode, pb, reflect};
use crate::ir::{Model, ValueId};

/// Where weights go.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum ExternalData {
    /// Into the model file, or, when it would exceed protobuf's limit, into one file beside it.
    #[default]
    Auto,
    /// Tensors of at least this many bytes go into one file beside the model.
    Above(usize),
}

/// How a model is written.
#[derive(Clone, Copy, Debug, Default)]
pub struct SaveOptions {
    /// Where weights go.
    pub external_data: ExternalData,
}

/// Names that values of the main graph got in the file.
pub type SavedNames = HashMap<ValueId, String>;

/// The largest protobuf message that every reader accepts, less room for a few more fields.
const PROTOBUF_LIMIT: usize = (1 << 31) - (1 << 20);

/// With automatic external data, tensors below this many bytes stay in the model.
const EXTERNAL_FROM: usize = 1024;

/// Where tensors start in a data file, so that runtimes can map them.
const ALIGN: usize = 4096;

/// Writes a model in the format that the extension of `path` names: to a temporary file in the
/// same folder, which then takes the name.
///
/// # Errors
/// When a file cannot be written; the old file, if any, is untouched then.
pub fn save(model: &Model, path: &Path, options: SaveOptions) -> Result<SavedNames, SaveError> {
    let (mut proto, names) = encode_model(model)?;
    let threshold = match options.external_data {
        ExternalData::Above(n) => Some(n),
        ExternalData::Auto if proto.encoded_len() > PROTOBUF_LIMIT => Some(EXTERNAL_FROM),
        ExternalData::Auto => None,
    };
    if let Some(from) = threshold {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned() + ".data";
        let data = path.with_file_name(&file);
        let segments = externalize(&mut proto, &file, from);
        if !segments.is_empty() {
            write_atomically(&data, |out| rope::write_all(&segments, out))?;
        }
    }
    let bytes = proto.encoded_len();
    if bytes > PROTOBUF_LIMIT {
        return Err(SaveError::TooLarge { bytes });
    }
    let text = match Format::of(path) {
        Format::Binary => {
            let rope = to_rope(&proto);
            write_atomically(path, |out| rope.write_to(out))?;
            return Ok(names);
        }
        Format::OnnxText => text::print_proto(&proto, &PrintOptions::default()),
        Format::TextProto => reflect::to_text(&proto)?,
        Format::Json => reflect::to_json(&proto)?,
    };
    write_atomically(path, |out| out.write_all(text.as_bytes()))?;
    Ok(names)
}

/// The model as the bytes of a file, all weights inside.
///
/// # Errors
/// When the graph has a cycle.
pub fn to_bytes(model: &Model) -> Result<(Bytes, SavedNames), SaveError> {
    let (proto, names) = encode_model(model)?;
    Ok((to_rope(&proto).into_bytes(), names))
}

pub(super) fn to_rope(proto: &pb::ModelProto) -> Rope {
    let mut rope = Rope::default();
    proto.encode(&mut rope).expect("invariant: a rope grows as needed");
    rope
}

fn write_atomically(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<&mut File>) -> std::io::Result<()>,
) -> Result<(), SaveError> {
    let fail = |source| SaveError::Write { path: path.to_owned(), source };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    builder.prefix(".lapidary-");
    // Temporary files are private by default; a model is an ordinary file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    let mut temp = builder.tempfile_in(folder).map_err(fail)?;
    let mut out = BufWriter::new(temp.as_file_mut());
    fill(&mut out).and_then(|()| out.flush()).map_err(fail)?;
    drop(out);
    temp.persist(path).map_err(|e| fail(e.error))?;
    Ok(())
}

/// Moves raw data of at least `from` bytes out of initializers; returns the data file's pieces.
fn externalize(proto: &mut pb::ModelProto, file: &str, from: usize) -> Vec<Bytes> {
    let (mut segments, mut offset) = (Vec::new(), 0usize);
    let graph = proto.graph.get_or_insert_default();
    for t in &mut graph.initializer {
        let Some(raw) = t.raw_data.take_if(|raw| raw.len() >= from.max(1)) else { continue };
        let padding = offset.next_multiple_of(ALIGN) - offset;
        if padding > 0 {
            segments.push(vec![0; padding].into());
            offset += padding;
        }
        let place = [
            ("location".to_owned(), file.to_owned()),
            ("offset".to_owned(), offset.to_string()),
            ("length".to_owned(), raw.len().to_string()),
        ];
        t.external_data = encode::pairs(&place);
        t.data_location = Some(pb::tensor_proto::DataLocation::External as i32);
        offset += raw.len();
        segments.push(raw);
    }
    segments
}
