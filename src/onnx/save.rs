//! Models to files: streamed, atomic, weights never copied.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;

use bytes::Bytes;
use prost::Message;

use super::output::{self, Pending, Target};
use super::rope::{self, Rope};
use super::text::{self, PrintOptions};
use super::write_graph::encode_model;
use super::{Format, SaveError, encode, pb, reflect, tensor};
use crate::ir::{Model, ValueId};
use crate::maps::Map;

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
pub type SavedNames = Map<ValueId, String>;

/// The largest protobuf message that every reader accepts, less room for a few more fields.
const PROTOBUF_LIMIT: usize = (1 << 31) - (1 << 20);

/// With automatic external data, tensors below this many bytes stay in the model.
const EXTERNAL_FROM: usize = 1024;

/// Where tensors start in a data file: large ones at pages, so that runtimes can map them.
const ALIGN: usize = 4096;
const ALIGN_SMALL: usize = 64;
const LARGE: usize = 1 << 16;

/// Writes a model in the format that the extension of `path` names. The file, and the one with
/// external data, are written under other names in the same folder and get their own when both are
/// complete; models may therefore be written over the files that they were read from.
///
/// # Errors
/// When a file cannot be written; the old files, if any, are untouched then.
pub fn save(model: &Model, path: &Path, options: SaveOptions) -> Result<SavedNames, SaveError> {
    let target = Target::of(path)?;
    let (mut proto, names) = encode_model(model)?;
    let threshold = match (options.external_data, &target) {
        (_, Target::Stream(_)) => None,
        (ExternalData::Above(n), _) => Some(n),
        (ExternalData::Auto, _) => (proto.encoded_len() > PROTOBUF_LIMIT).then_some(EXTERNAL_FROM),
    };
    let mut data = None;
    if let (Some(from), Target::File(path)) = (threshold, &target) {
        let file = path.file_name().unwrap_or_default().to_string_lossy().into_owned() + ".data";
        let segments = externalize(&mut proto, &file, from);
        if !segments.is_empty() {
            data = Some((path.with_file_name(&file), segments));
        }
    }
    let bytes = proto.encoded_len();
    if bytes > PROTOBUF_LIMIT {
        return Err(SaveError::TooLarge { bytes });
    }
    let segments = match Format::of(path) {
        Format::Binary => to_rope(&proto).into_segments(),
        Format::OnnxText => vec![text::print_proto(&proto, &PrintOptions::default()).into()],
        Format::TextProto => vec![reflect::to_text(&proto)?.into()],
        Format::Json => vec![reflect::to_json(&proto)?.into()],
    };
    let fill = |out: &mut BufWriter<&mut File>| rope::write_all(&segments, out);
    let path = match target {
        Target::Stream(path) => {
            output::stream(&path, &fill)?;
            return Ok(names);
        }
        Target::File(path) => path,
    };
    let file = Pending::write(path, length(&segments), &fill)?;
    match data {
        None => file.finish()?,
        Some((path, segments)) => {
            let fill = |out: &mut BufWriter<&mut File>| rope::write_all(&segments, out);
            Pending::finish_both(Pending::write(path, length(&segments), &fill)?, file)?;
        }
    }
    Ok(names)
}

fn length(segments: &[Bytes]) -> usize {
    segments.iter().map(Bytes::len).sum()
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

/// Moves elements of at least `from` bytes out of initializers, those of subgraphs included;
/// returns the data file's pieces.
fn externalize(proto: &mut pb::ModelProto, file: &str, from: usize) -> Vec<Bytes> {
    let mut out = DataFile { name: file, from: from.max(1), segments: Vec::new(), end: 0 };
    if let Some(graph) = &mut proto.graph {
        out.take_graph(graph);
    }
    proto.functions.iter_mut().for_each(|f| out.take_bodies(&mut f.node));
    out.segments
}

/// A file of external data under construction.
struct DataFile<'a> {
    name: &'a str,
    from: usize,
    segments: Vec<Bytes>,
    end: usize,
}

impl DataFile<'_> {
    fn take_graph(&mut self, graph: &mut pb::GraphProto) {
        graph.initializer.iter_mut().for_each(|t| self.take(t));
        self.take_bodies(&mut graph.node);
    }

    fn take_bodies(&mut self, nodes: &mut [pb::NodeProto]) {
        for a in nodes.iter_mut().flat_map(|n| &mut n.attribute) {
            a.g.as_deref_mut().into_iter().chain(&mut a.graphs).for_each(|g| self.take_graph(g));
        }
    }

    fn take(&mut self, t: &mut pb::TensorProto) {
        let Some(raw) = tensor::take_bytes(t, self.from) else { return };
        let align = if raw.len() >= LARGE { ALIGN } else { ALIGN_SMALL };
        let offset = self.end.next_multiple_of(align);
        if offset > self.end {
            self.segments.push(vec![0; offset - self.end].into());
        }
        let place = [
            ("location".to_owned(), self.name.to_owned()),
            ("offset".to_owned(), offset.to_string()),
            ("length".to_owned(), raw.len().to_string()),
        ];
        t.external_data = encode::pairs(&place);
        t.data_location = Some(pb::tensor_proto::DataLocation::External as i32);
        self.end = offset + raw.len();
        self.segments.push(raw);
    }
}
