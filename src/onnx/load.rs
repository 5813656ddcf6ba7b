//! Files to models.

use std::path::Path;

use bytes::Bytes;
use prost::Message;

use super::external::{ExternalFiles, map_file};
use super::read_graph::{GraphReader, no_free};
use super::spelling::{self, blank};
use super::{Format, LoadError, budget, decode, pb, reflect, text};
use crate::ir::{Attr, Function, Model};

/// Reads a model from a file of the format that its extension names. A binary file is mapped, not
/// read: weights stay slices of the map.
///
/// # Errors
/// When the file is no valid ONNX model, or its external data are missing or outside its folder.
pub fn load(path: &Path) -> Result<Model, LoadError> {
    let folder = match path.parent() {
        Some(p) if p.as_os_str().is_empty() => Some(Path::new(".")),
        other => other,
    };
    model_of(&read_proto(path)?, folder)
}

/// Reads a model from memory; external data are looked for in `folder`.
///
/// # Errors
/// As [`load`].
pub fn from_bytes(bytes: Bytes, folder: Option<&Path>) -> Result<Model, LoadError> {
    model_of(&decode_proto(bytes, Format::Binary, Path::new("<memory>"))?, folder)
}

/// The message in a file, whatever its format.
pub(super) fn read_proto(path: &Path) -> Result<pb::ModelProto, LoadError> {
    let bytes =
        map_file(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
    decode_proto(bytes, Format::of(path), path)
}

fn decode_proto(bytes: Bytes, format: Format, path: &Path) -> Result<pb::ModelProto, LoadError> {
    let path = || path.to_owned();
    let not_onnx = |what| LoadError::NotOnnx { path: path(), what };
    if bytes.is_empty() {
        return Err(LoadError::Empty { path: path() });
    }
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(LoadError::LfsPointer { path: path() });
    }
    match format {
        Format::Binary => {}
        Format::OnnxText => return text::parse_proto(&bytes).map_err(|e| not_onnx(e.to_string())),
        Format::TextProto => return reflect::from_text(&bytes).map_err(not_onnx),
        Format::Json => return reflect::from_json(&bytes).map_err(not_onnx),
    }
    // Every exporter writes `ir_version` first.
    let plausible = bytes.len() > 2 && bytes[0] == 0x08 && (1..=64).contains(&bytes[1]);
    let fail = |what| match plausible {
        true => LoadError::Damaged { path: path(), what },
        false => LoadError::NotOnnx { path: path(), what },
    };
    if let Some(need) = budget::excess(&bytes) {
        return Err(fail(format!("to read it would take {} MB of memory", need >> 20)));
    }
    let proto = pb::ModelProto::decode(bytes).map_err(|e| fail(e.to_string()))?;
    match proto.graph {
        Some(_) => Ok(proto),
        None => Err(fail("it holds no graph".to_owned())),
    }
}

/// The model that a message describes; external data are looked for in `folder`.
pub(super) fn model_of(m: &pb::ModelProto, folder: Option<&Path>) -> Result<Model, LoadError> {
    let graph = m.graph.as_ref().ok_or(LoadError::NoGraph)?;
    model(m, graph, &mut ExternalFiles::in_folder(folder))
}

fn model(
    m: &pb::ModelProto,
    graph: &pb::GraphProto,
    files: &mut ExternalFiles,
) -> Result<Model, LoadError> {
    let (graph, free) = GraphReader::read(graph, files)?;
    no_free(&graph, &free)?;
    let extra = decode::opaque(&m.training_info).into_iter().map(|b| (TRAINING_INFO, b));
    let devices = decode::opaque(&m.configuration).into_iter().map(|b| (CONFIGURATION, b));
    Ok(Model {
        ir_version: m.ir_version(),
        opsets: decode::opsets(&m.opset_import),
        producer_name: m.producer_name().to_owned(),
        producer_version: m.producer_version().to_owned(),
        domain: m.domain().to_owned(),
        model_version: m.model_version,
        doc: m.doc_string().to_owned(),
        metadata: decode::pairs(&m.metadata_props),
        graph,
        functions: m.functions.iter().map(|f| function(f, files)).collect::<Result<_, _>>()?,
        extra: extra.chain(devices).collect(),
        spelling: spelling::of_opsets(&m.opset_import)
            .with(spelling::PRODUCER_NAME, blank(&m.producer_name))
            .with(spelling::PRODUCER_VERSION, blank(&m.producer_version))
            .with(spelling::DOMAIN, blank(&m.domain))
            .with(spelling::DOC, blank(&m.doc_string))
            .with(spelling::NO_IR_VERSION, m.ir_version.is_none()),
    })
}

/// Field numbers of what [`Model::extra`] carries.
pub(super) const TRAINING_INFO: u32 = 20;
pub(super) const CONFIGURATION: u32 = 26;

fn function(f: &pb::FunctionProto, files: &mut ExternalFiles) -> Result<Function, LoadError> {
    let named =
        |name: &String| pb::ValueInfoProto { name: Some(name.clone()), ..Default::default() };
    let as_graph = pb::GraphProto {
        node: f.node.clone(),
        name: f.name.clone(),
        input: f.input.iter().map(named).collect(),
        output: f.output.iter().map(named).collect(),
        value_info: f.value_info.clone(),
        ..Default::default()
    };
    let (graph, free) = GraphReader::read(&as_graph, files)?;
    no_free(&graph, &free)?;
    let mut attr_bodies = Vec::new();
    let mut body = |g: &pb::GraphProto, files: &mut ExternalFiles| {
        let (graph, free) = GraphReader::read(g, files)?;
        no_free(&graph, &free).map(|()| graph)
    };
    let defaults = f.attribute_proto.iter();
    let attr_defaults = defaults
        .map(|a| decode::attr(a, f.name(), files, &mut attr_bodies, &mut body))
        .collect::<Result<Vec<Attr>, _>>()?;
    let domain = spelling::of_domain(&f.domain);
    let opsets = spelling::of_opsets(&f.opset_import);
    Ok(Function {
        domain: decode::domain(f.domain()),
        name: f.name().to_owned(),
        overload: f.overload().to_owned(),
        graph,
        attr_names: f.attribute.clone(),
        attr_defaults,
        attr_bodies,
        opsets: decode::opsets(&f.opset_import),
        doc: f.doc_string().to_owned(),
        metadata: decode::pairs(&f.metadata_props),
        spelling: opsets
            .and(domain)
            .with(spelling::OVERLOAD, blank(&f.overload))
            .with(spelling::DOC, blank(&f.doc_string)),
    })
}
