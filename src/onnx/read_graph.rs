//! Graphs in files to graphs of the IR.

use prost::Message;

use super::external::ExternalFiles;
use super::spelling::{self, blank};
use super::{LoadError, decode, pb, tensor};
use crate::ir::{Graph, Notes, Op, OpId, Spelling, Tensor, Type, Value, ValueId};
use crate::maps::Map;

/// Field numbers of what [`Graph::extra`] carries.
pub(super) const VALUE_INFO: u32 = 13;
pub(super) const ANNOTATION: u32 = 14;

/// A name that a graph reads but does not define, and its value there.
pub(super) type Free = (String, ValueId);

pub(super) fn no_free(graph: &Graph, free: &[Free]) -> Result<(), LoadError> {
    let Some((name, value)) = free.first() else { return Ok(()) };
    match graph.uses(*value).first() {
        Some((op, _)) => {
            Err(LoadError::UnknownInput { node: graph.label(*op), name: name.clone() })
        }
        None => Err(LoadError::UnknownOutput(name.clone())),
    }
}

/// Builds one graph and, through recursion, the graphs inside it.
pub(super) struct GraphReader {
    graph: Graph,
    by_name: Map<String, ValueId>,
    free: Vec<Free>,
}

impl GraphReader {
    pub(super) fn read(
        p: &pb::GraphProto,
        files: &mut ExternalFiles,
    ) -> Result<(Graph, Vec<Free>), LoadError> {
        let mut r =
            GraphReader { graph: Graph::new(p.name()), by_name: Map::default(), free: Vec::new() };
        r.graph.notes.doc = p.doc_string().to_owned();
        r.graph.notes.metadata = decode::pairs(&p.metadata_props);
        r.graph.notes.spelling = Spelling::default()
            .with(spelling::DOC, blank(&p.doc_string))
            .with(spelling::NO_NAME, p.name.is_none());
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
        op.spelling = spelling::of_domain(&n.domain)
            .with(spelling::NAME, blank(&n.name))
            .with(spelling::OVERLOAD, blank(&n.overload))
            .with(spelling::DOC, blank(&n.doc_string));
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
        // An empty name is no result, even where something has no name.
        let result = |name: &String| self.by_name.get(name).copied().filter(|_| !name.is_empty());
        let results: Vec<_> = n.output.iter().map(result).collect();
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
            let declared = info.r#type.as_deref().map(decode::ty);
            // An output that is an input, too, has the type of the input.
            if !self.graph.is_input(id) {
                self.graph.facts_mut(id).file_ty = declared;
            }
        }
        self.graph.set_outputs(outputs);
        for (rank, info) in (0..).zip(&p.value_info) {
            match self.by_name.get(info.name()) {
                Some(&id) if self.graph.value(id).declared.is_none() => {
                    self.describe(id, info);
                    let v = self.graph.facts_mut(id);
                    v.declared = Some(rank);
                    if v.file_ty.is_none() {
                        v.file_ty = info.r#type.as_deref().map(decode::ty);
                    }
                }
                _ => self.graph.extra.push((VALUE_INFO, rank, info.encode_to_vec().into())),
            }
        }
        for (rank, note) in (0..).zip(&p.quantization_annotation) {
            match self.by_name.get(note.tensor_name()) {
                Some(&id) if !self.is_annotated(id) => {
                    let notes = self.graph.facts_mut(id).notes.get_or_insert_default();
                    notes.quant = decode::pairs(&note.quant_parameter_tensor_names);
                    notes.quant_rank = rank;
                }
                _ => self.graph.extra.push((ANNOTATION, rank, note.encode_to_vec().into())),
            }
        }
    }

    fn is_annotated(&self, id: ValueId) -> bool {
        self.graph.value(id).notes.as_ref().is_some_and(|n| !n.quant.is_empty())
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
        spelling: Spelling::default().with(spelling::DOC, blank(&info.doc_string)),
        ..Notes::default()
    };
    (notes != Notes::default()).then(|| Box::new(notes))
}

fn value_of(info: &pb::ValueInfoProto) -> Value {
    let declared = info.r#type.as_deref().map(decode::ty);
    let mut value = Value::new(info.name(), declared.clone().map(decode::trusted));
    value.file_ty = declared;
    value.notes = notes_of(info);
    value
}
