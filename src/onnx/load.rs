//! Files to models.

use std::collections::HashMap;
use std::path::Path;

use bytes::Bytes;
use prost::Message;

use super::external::{ExternalFiles, map_file};
use super::{Format, LoadError, decode, pb, reflect, tensor, text};
use crate::ir::{Attr, Function, Graph, Model, Notes, Op, OpId, Tensor, Type, Value, ValueId};

/// Reads a model from a file of the format that its extension names. A binary file is mapped, not
/// read: weights stay slices of the map.
///
/// # Errors
/// When the file is no valid ONNX model, or its external data are missing or outside its folder.
pub fn load(path: &Path) -> Result<Model, LoadError> {
    let bytes =
        map_file(path).map_err(|source| LoadError::Read { path: path.to_owned(), source })?;
    let folder = match path.parent() {
        Some(p) if p.as_os_str().is_empty() => Some(Path::new(".")),
        other => other,
    };
    if bytes.is_empty() {
        return Err(LoadError::Empty { path: path.to_owned() });
    }
    let not_onnx = |what| LoadError::NotOnnx { path: path.to_owned(), what };
    match Format::of(path) {
        Format::Binary => decode_model(bytes, folder, path),
        _ if bytes.starts_with(LFS_POINTER) => Err(LoadError::LfsPointer { path: path.to_owned() }),
        Format::OnnxText => text::from_bytes(&bytes, folder).map_err(|e| match e {
            LoadError::Text { .. } => not_onnx(e.to_string()),
            other => other,
        }),
        Format::TextProto => model_of(&reflect::from_text(&bytes).map_err(not_onnx)?, folder),
        Format::Json => model_of(&reflect::from_json(&bytes).map_err(not_onnx)?, folder),
    }
}

const LFS_POINTER: &[u8] = b"version https://git-lfs";

/// The model that a message describes; external data are looked for in `folder`.
pub(super) fn model_of(m: &pb::ModelProto, folder: Option<&Path>) -> Result<Model, LoadError> {
    let graph = m.graph.as_ref().ok_or(LoadError::NoGraph)?;
    model(m, graph, &mut ExternalFiles::in_folder(folder))
}

/// Reads a model from memory; external data are looked for in `folder`.
///
/// # Errors
/// As [`load`].
pub fn from_bytes(bytes: Bytes, folder: Option<&Path>) -> Result<Model, LoadError> {
    decode_model(bytes, folder, Path::new("<memory>"))
}

fn decode_model(bytes: Bytes, folder: Option<&Path>, path: &Path) -> Result<Model, LoadError> {
    let path = || path.to_owned();
    if bytes.is_empty() {
        return Err(LoadError::Empty { path: path() });
    }
    if bytes.starts_with(LFS_POINTER) {
        return Err(LoadError::LfsPointer { path: path() });
    }
    // Every exporter writes `ir_version` first.
    let plausible = bytes.len() > 2 && bytes[0] == 0x08 && (1..=64).contains(&bytes[1]);
    let m = pb::ModelProto::decode(bytes).map_err(|e| match plausible {
        true => LoadError::Damaged { path: path(), what: e.to_string() },
        false => LoadError::NotOnnx { path: path(), what: e.to_string() },
    })?;
    let Some(graph) = &m.graph else {
        let what = "it holds no graph".to_owned();
        return Err(match plausible {
            true => LoadError::Damaged { path: path(), what },
            false => LoadError::NotOnnx { path: path(), what },
        });
    };
    model(&m, graph, &mut ExternalFiles::in_folder(folder))
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
    let mut no_bodies = Vec::new();
    let mut no_graph = |_: &pb::GraphProto, _: &mut ExternalFiles| Ok(Graph::default());
    let defaults = f.attribute_proto.iter();
    Ok(Function {
        domain: decode::domain(f.domain()),
        name: f.name().to_owned(),
        overload: f.overload().to_owned(),
        graph,
        attr_names: f.attribute.clone(),
        attr_defaults: defaults
            .map(|a| decode::attr(a, f.name(), files, &mut no_bodies, &mut no_graph))
            .collect::<Result<Vec<Attr>, _>>()?,
        opsets: decode::opsets(&f.opset_import),
        doc: f.doc_string().to_owned(),
        metadata: decode::pairs(&f.metadata_props),
    })
}

/// A name that a graph reads but does not define, and its value there.
type Free = (String, ValueId);

fn no_free(graph: &Graph, free: &[Free]) -> Result<(), LoadError> {
    let Some((name, value)) = free.first() else { return Ok(()) };
    match graph.uses(*value).first() {
        Some((op, _)) => {
            Err(LoadError::UnknownInput { node: graph.label(*op), name: name.clone() })
        }
        None => Err(LoadError::UnknownOutput(name.clone())),
    }
}

/// Builds one graph and, through recursion, the graphs inside it.
struct GraphReader {
    graph: Graph,
    by_name: HashMap<String, ValueId>,
    free: Vec<Free>,
}

impl GraphReader {
    fn read(
        p: &pb::GraphProto,
        files: &mut ExternalFiles,
    ) -> Result<(Graph, Vec<Free>), LoadError> {
        let mut r =
            GraphReader { graph: Graph::new(p.name()), by_name: HashMap::new(), free: Vec::new() };
        r.graph.notes.doc = p.doc_string().to_owned();
        r.graph.notes.metadata = decode::pairs(&p.metadata_props);
        for info in &p.input {
            let id = r.graph.add_input(value_of(info));
            r.define(info.name(), id)?;
        }
        r.initializers(p, files)?;
        for name in p.node.iter().flat_map(|n| &n.output).filter(|n| !n.is_empty()) {
            let id = r.graph.add_value(Value::new(name, None));
            r.define(name, id)?;
        }
        for node in &p.node {
            r.node(node, files)?;
        }
        r.outputs_and_infos(p);
        r.graph.take_touched();
        r.graph.sorted().map_err(|c| LoadError::Cycle(c.0))?;
        Ok((r.graph, r.free))
    }

    fn define(&mut self, name: &str, id: ValueId) -> Result<(), LoadError> {
        match self.by_name.insert(name.to_owned(), id) {
            None => Ok(()),
            Some(_) => Err(LoadError::Duplicate(name.to_owned())),
        }
    }

    fn initializers(
        &mut self,
        p: &pb::GraphProto,
        files: &mut ExternalFiles,
    ) -> Result<(), LoadError> {
        let dense = p.initializer.iter().map(|t| (t.name(), Ok(t)));
        let sparse = p
            .sparse_initializer
            .iter()
            .map(|t| (t.values.as_ref().map_or("", |v| v.name()), Err(t)));
        for (rank, (name, t)) in dense.chain(sparse).enumerate() {
            let data: Tensor = match t {
                Ok(t) => tensor::read(t, files)?,
                Err(t) => tensor::read_sparse(t, files)?,
            };
            let id = match self.by_name.get(name) {
                // Files of IR version 3 and older list initializers among the inputs, too.
                Some(id) if self.graph.initializer(*id).is_none() => *id,
                Some(_) => return Err(LoadError::Duplicate(name.to_owned())),
                None => {
                    let id = self.graph.add_value(Value::new(name, None));
                    self.define(name, id)?;
                    id
                }
            };
            self.graph.set_data(id, data);
            self.graph.facts_mut(id).init_rank = rank as u32;
        }
        Ok(())
    }

    /// The value that `name` means here; one of the graph around when nothing here has the name.
    fn resolve(&mut self, name: &str) -> ValueId {
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        let id = self.graph.add_captured(Value::new(name, None));
        self.by_name.insert(name.to_owned(), id);
        self.free.push((name.to_owned(), id));
        id
    }

    fn node(&mut self, n: &pb::NodeProto, files: &mut ExternalFiles) -> Result<(), LoadError> {
        let mut op = Op::new(n.op_type()).named(n.name());
        op.domain = decode::domain(n.domain());
        op.overload = n.overload().to_owned();
        op.doc = n.doc_string().to_owned();
        op.metadata = decode::pairs(&n.metadata_props);
        op.extra = decode::opaque(&n.device_configurations);
        let mut free_in_bodies: Vec<Vec<Free>> = Vec::new();
        let label = format!("{} ({})", n.name(), n.op_type());
        for a in &n.attribute {
            let mut body = |g: &pb::GraphProto, files: &mut ExternalFiles| {
                let (graph, free) = GraphReader::read(g, files)?;
                free_in_bodies.push(free);
                Ok(graph)
            };
            let attr = decode::attr(a, &label, files, &mut op.bodies, &mut body)?;
            op.attrs.push(attr);
        }
        let operands: Vec<_> =
            n.input.iter().map(|name| (!name.is_empty()).then(|| self.resolve(name))).collect();
        let results: Vec<_> = n.output.iter().map(|name| self.by_name.get(name).copied()).collect();
        let id: OpId = self.graph.add_op(op, &operands, &results, None);
        for (body, free) in free_in_bodies.into_iter().enumerate() {
            for (name, inner) in free {
                let outer = self.resolve(&name);
                self.graph.add_capture(id, body, inner, outer);
            }
        }
        Ok(())
    }

    fn outputs_and_infos(&mut self, p: &pb::GraphProto) {
        let mut outputs = Vec::new();
        for info in &p.output {
            let id = self.resolve(info.name());
            outputs.push(id);
            self.describe(id, info);
            let declared = info.r#type.as_ref().map(decode::ty);
            self.graph.facts_mut(id).file_ty = declared;
        }
        self.graph.set_outputs(outputs);
        for (rank, info) in p.value_info.iter().enumerate() {
            if let Some(&id) = self.by_name.get(info.name()) {
                self.describe(id, info);
                self.graph.facts_mut(id).declared = Some(rank as u32);
            }
        }
        for note in &p.quantization_annotation {
            if let Some(&id) = self.by_name.get(note.tensor_name()) {
                let notes = self.graph.facts_mut(id).notes.get_or_insert_default();
                notes.quant = decode::pairs(&note.quant_parameter_tensor_names);
            }
        }
    }

    /// Adds what a `ValueInfoProto` says, where nothing better is known.
    fn describe(&mut self, id: ValueId, info: &pb::ValueInfoProto) {
        let ty = info.r#type.as_ref().map(|t| decode::trusted(decode::ty(t)));
        let v = self.graph.facts_mut(id);
        if v.ty.is_none() || v.ty == Some(Type::Unspecified) {
            v.ty = ty;
        }
        if v.notes.is_none() {
            v.notes = notes_of(info);
        }
    }
}

fn notes_of(info: &pb::ValueInfoProto) -> Option<Box<Notes>> {
    let notes = Notes {
        doc: info.doc_string().to_owned(),
        metadata: decode::pairs(&info.metadata_props),
        quant: Vec::new(),
    };
    (notes != Notes::default()).then(|| Box::new(notes))
}

fn value_of(info: &pb::ValueInfoProto) -> Value {
    let declared = info.r#type.as_ref().map(decode::ty);
    let mut value = Value::new(info.name(), declared.clone().map(decode::trusted));
    value.file_ty = declared;
    value.notes = notes_of(info);
    value
}
