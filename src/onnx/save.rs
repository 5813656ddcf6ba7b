//! Models to files: streamed, atomic, weights never copied.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use bytes::Bytes;
use prost::Message;

use super::load::{CONFIGURATION, TRAINING_INFO};
use super::rope::{self, Rope};
use super::text::{self, PrintOptions};
use super::{Format, SaveError, encode, pb, reflect, tensor};
use crate::ir::{Function, Graph, Model, Op, Tensor, TensorData, Value, ValueId};

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

pub(super) fn encode_model(model: &Model) -> Result<(pb::ModelProto, SavedNames), SaveError> {
    let constant_nodes = model.ir_version < FREE_INITIALIZERS;
    let mut writer = GraphWriter { constant_nodes, ..GraphWriter::default() };
    let (graph, names) = writer.graph(&model.graph, &HashMap::new())?;
    fn opaque<M: Message + Default>(model: &Model, field: u32) -> Vec<M> {
        let mine = model.extra.iter().filter(|(f, _)| *f == field);
        mine.map(|(_, b)| M::decode(b.clone()).unwrap_or_default()).collect()
    }
    let proto = pb::ModelProto {
        ir_version: Some(model.ir_version),
        opset_import: encode::opsets(&model.opsets),
        producer_name: encode::text(&model.producer_name),
        producer_version: encode::text(&model.producer_version),
        domain: encode::text(&model.domain),
        model_version: model.model_version,
        doc_string: encode::text(&model.doc),
        graph: Some(graph),
        metadata_props: encode::pairs(&model.metadata),
        training_info: opaque(model, TRAINING_INFO),
        functions: model.functions.iter().map(function).collect::<Result<_, _>>()?,
        configuration: opaque(model, CONFIGURATION),
    };
    Ok((proto, names))
}

fn function(f: &Function) -> Result<pb::FunctionProto, SaveError> {
    let (g, _) = GraphWriter::default().graph(&f.graph, &HashMap::new())?;
    let mut no_graph = |_| pb::GraphProto::default();
    let names = |infos: Vec<pb::ValueInfoProto>| {
        infos.into_iter().filter_map(|i| i.name).collect::<Vec<String>>()
    };
    // A function has no initializers: constants that passes made become `Constant` nodes.
    let constants = g.initializer.into_iter().map(constant);
    Ok(pb::FunctionProto {
        name: encode::text(&f.name),
        input: names(g.input),
        output: names(g.output),
        attribute: f.attr_names.clone(),
        attribute_proto: f.attr_defaults.iter().map(|a| encode::attr(a, &mut no_graph)).collect(),
        node: constants.chain(g.node).collect(),
        doc_string: encode::text(&f.doc),
        opset_import: encode::opsets(&f.opsets),
        domain: encode::text(&f.domain),
        overload: encode::text(&f.overload),
        value_info: g.value_info,
        metadata_props: encode::pairs(&f.metadata),
    })
}

fn constant(t: pb::TensorProto) -> pb::NodeProto {
    pb::NodeProto {
        output: vec![t.name().to_owned()],
        op_type: Some("Constant".to_owned()),
        attribute: vec![pb::AttributeProto {
            name: Some("value".to_owned()),
            r#type: Some(pb::attribute_proto::AttributeType::Tensor as i32),
            t: Some(t),
            ..Default::default()
        }],
        ..Default::default()
    }
}

/// Before this version of the format every initializer has to be a graph input.
const FREE_INITIALIZERS: i64 = 4;

/// Writes graphs; inside bodies it keeps names apart from those of the graphs around.
#[derive(Default)]
struct GraphWriter {
    outer: Vec<HashSet<String>>,
    /// Constants that passes made become `Constant` nodes.
    constant_nodes: bool,
}

impl GraphWriter {
    fn graph(
        &mut self,
        g: &Graph,
        captured: &HashMap<ValueId, String>,
    ) -> Result<(pb::GraphProto, SavedNames), SaveError> {
        let names = self.names(g, captured);
        let order = g.sorted().map_err(|c| SaveError::Cycle(c.0))?;
        let mut out = pb::GraphProto {
            name: Some(g.name.clone()),
            doc_string: encode::text(&g.notes.doc),
            metadata_props: encode::pairs(&g.notes.metadata),
            ..Default::default()
        };
        let scope: HashSet<String> = if g.ops().any(|op| !g.op(op).bodies.is_empty()) {
            names.values().cloned().collect()
        } else {
            HashSet::new()
        };
        self.outer.push(scope);
        for id in order {
            let bodies = self.bodies(g, id, &names)?;
            out.node.push(node(g, id, &names, bodies));
        }
        self.outer.pop();
        let io = |v: &ValueId| {
            let value = g.value(*v);
            info(value, &names[v], value.file_ty.as_ref().or(value.ty.as_ref()))
        };
        out.input = g.inputs().iter().map(io).collect();
        out.output = g.outputs().iter().map(io).collect();
        self.values(g, &names, &mut out);
        Ok((out, names))
    }

    /// Final names: captures take the outer one; others get a suffix where a graph around has it.
    fn names(&self, g: &Graph, captured: &HashMap<ValueId, String>) -> SavedNames {
        let taken = |name: &str| self.outer.iter().any(|scope| scope.contains(name));
        let mut ids: Vec<ValueId> = g.values().collect();
        ids.sort_unstable();
        let mut names = SavedNames::with_capacity(ids.len());
        let mut fresh = HashSet::new();
        for v in ids {
            let own = g.value(v).name();
            let name = match captured.get(&v) {
                Some(outer) => outer.clone(),
                None if taken(own) => (1..)
                    .map(|k| format!("{own}_{k}"))
                    .find(|n| !taken(n) && g.find_value(n).is_none() && !fresh.contains(n))
                    .expect("invariant: some suffix is free"),
                None => own.to_owned(),
            };
            fresh.insert(name.clone());
            names.insert(v, name);
        }
        names
    }

    fn bodies(
        &mut self,
        g: &Graph,
        id: crate::ir::OpId,
        names: &SavedNames,
    ) -> Result<Vec<pb::GraphProto>, SaveError> {
        let op = g.op(id);
        let outer = if op.captures.is_empty() { Vec::new() } else { g.captures(id) };
        let mut out = Vec::with_capacity(op.bodies.len());
        for (i, body) in op.bodies.iter().enumerate() {
            let captured = op.captures.iter().zip(&outer).filter(|((b, _), _)| *b == i);
            let captured = captured.map(|((_, inner), v)| (*inner, names[v].clone())).collect();
            out.push(self.graph(body, &captured)?.0);
        }
        Ok(out)
    }

    /// Initializers, `value_info` and annotations.
    fn values(&self, g: &Graph, names: &SavedNames, out: &mut pb::GraphProto) {
        let mut initializers: Vec<(u32, ValueId, &Tensor)> = Vec::new();
        let mut infos: Vec<(u32, ValueId)> = Vec::new();
        let mut notes: Vec<ValueId> = Vec::new();
        for v in g.values().filter(|v| !g.is_capture(*v)) {
            let value = g.value(v);
            if let Some(data) = g.initializer(v) {
                initializers.push((value.init_rank, v, data));
            }
            if let Some(rank) = value.declared {
                infos.push((rank, v));
            }
            if value.notes.as_ref().is_some_and(|n| !n.quant.is_empty()) {
                notes.push(v);
            }
        }
        initializers.sort_unstable_by_key(|(rank, v, _)| (*rank, *v));
        infos.sort_unstable();
        notes.sort_unstable();
        let mut constants = Vec::new();
        for (rank, v, data) in initializers {
            match data.data() {
                TensorData::Sparse(_) => {
                    out.sparse_initializer.push(tensor::write_sparse(data, Some(&names[&v])));
                }
                _ if self.constant_nodes && rank == u32::MAX && !g.is_input(v) => {
                    constants.push(constant(tensor::write(data, &names[&v])));
                }
                _ => out.initializer.push(tensor::write(data, &names[&v])),
            }
        }
        out.node.splice(0..0, constants);
        for (_, v) in infos {
            let value = g.value(v);
            out.value_info.push(info(value, &names[&v], value.ty.as_ref()));
        }
        for v in notes {
            let quant = g.value(v).notes.as_ref().map(|n| n.quant.clone()).unwrap_or_default();
            out.quantization_annotation.push(pb::TensorAnnotation {
                tensor_name: Some(names[&v].clone()),
                quant_parameter_tensor_names: encode::pairs(&quant),
            });
        }
    }
}

fn info(value: &Value, name: &str, ty: Option<&crate::ir::Type>) -> pb::ValueInfoProto {
    let notes = value.notes.as_deref().cloned().unwrap_or_default();
    pb::ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: ty.and_then(encode::ty),
        doc_string: encode::text(&notes.doc),
        metadata_props: encode::pairs(&notes.metadata),
    }
}

fn node(
    g: &Graph,
    id: crate::ir::OpId,
    names: &SavedNames,
    bodies: Vec<pb::GraphProto>,
) -> pb::NodeProto {
    let op: &Op = g.op(id);
    let mut bodies: Vec<Option<pb::GraphProto>> = bodies.into_iter().map(Some).collect();
    let mut body = |i: usize| bodies[i].take().unwrap_or_default();
    let name = |v: Option<ValueId>| v.map(|v| names[&v].clone()).unwrap_or_default();
    pb::NodeProto {
        input: g.operands(id).into_iter().map(name).collect(),
        output: g.results(id).into_iter().map(name).collect(),
        name: encode::text(&op.name),
        op_type: encode::text(&op.op_type),
        domain: encode::text(&op.domain),
        overload: encode::text(&op.overload),
        attribute: op.attrs.iter().map(|a| encode::attr(a, &mut body)).collect(),
        doc_string: encode::text(&op.doc),
        metadata_props: encode::pairs(&op.metadata),
        device_configurations: op
            .extra
            .iter()
            .map(|b| Message::decode(b.clone()).unwrap_or_default())
            .collect(),
    }
}
