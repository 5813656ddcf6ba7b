//! Graphs of the IR to graphs in files.

use prost::Message;

use super::load::{CONFIGURATION, TRAINING_INFO};
use super::read_graph::{ANNOTATION, VALUE_INFO};
use super::spelling::{self, text};
use super::{SaveError, SavedNames, decode, encode, pb, tensor};
use crate::ir::{Function, Graph, Model, Op, Tensor, TensorData, Type, Value, ValueId};
use crate::maps::Set;

/// The message for a model, and the names that values of the main graph have in it.
pub(super) fn encode_model(model: &Model) -> Result<(pb::ModelProto, SavedNames), SaveError> {
    let constant_nodes = model.ir_version < FREE_INITIALIZERS;
    let mut writer = GraphWriter { constant_nodes, ..GraphWriter::default() };
    let (graph, names) = writer.graph(&model.graph, &SavedNames::default())?;
    fn opaque<M: Message + Default>(model: &Model, field: u32) -> Vec<M> {
        let mine = model.extra.iter().filter(|(f, _)| *f == field);
        mine.map(|(_, b)| M::decode(b.clone()).unwrap_or_default()).collect()
    }
    let how = model.spelling;
    let proto = pb::ModelProto {
        ir_version: (model.ir_version != 0 || !how.has(spelling::NO_IR_VERSION))
            .then_some(model.ir_version),
        opset_import: encode::opsets(&model.opsets, how),
        producer_name: text(&model.producer_name, how, spelling::PRODUCER_NAME),
        producer_version: text(&model.producer_version, how, spelling::PRODUCER_VERSION),
        domain: text(&model.domain, how, spelling::DOMAIN),
        model_version: model.model_version,
        doc_string: text(&model.doc, how, spelling::DOC),
        graph: Some(graph),
        metadata_props: encode::pairs(&model.metadata),
        training_info: opaque(model, TRAINING_INFO),
        functions: model.functions.iter().map(function).collect::<Result<_, _>>()?,
        configuration: opaque(model, CONFIGURATION),
    };
    Ok((proto, names))
}

fn function(f: &Function) -> Result<pb::FunctionProto, SaveError> {
    let (g, _) = GraphWriter::default().graph(&f.graph, &SavedNames::default())?;
    let mut bodies = Vec::with_capacity(f.attr_bodies.len());
    for body in &f.attr_bodies {
        let (g, _) = GraphWriter::default().graph(body, &SavedNames::default())?;
        bodies.push(g);
    }
    let mut body = |i: usize| bodies.get_mut(i).map(std::mem::take).unwrap_or_default();
    let how = f.spelling;
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
        attribute_proto: f.attr_defaults.iter().map(|a| encode::attr(a, &mut body)).collect(),
        node: constants.chain(g.node).collect(),
        doc_string: text(&f.doc, how, spelling::DOC),
        opset_import: encode::opsets(&f.opsets, how),
        domain: spelling::domain(&f.domain, how),
        overload: text(&f.overload, how, spelling::OVERLOAD),
        value_info: g.value_info,
        metadata_props: encode::pairs(&f.metadata),
    })
}

fn constant(t: pb::TensorProto) -> pb::NodeProto {
    let name = t.name().to_owned();
    let value = pb::AttributeProto {
        name: Some("value".to_owned()),
        r#type: Some(pb::attribute_proto::AttributeType::Tensor as i32),
        t: Some(Box::new(t)),
        ..Default::default()
    };
    constant_node(value, name)
}

/// A sparse initializer has a sparse type, which no operator takes and the ONNX checker refuses; the
/// result of a `Constant` is dense, whatever its value (since operator set 11).
fn sparse_constant(t: pb::SparseTensorProto, name: &str) -> pb::NodeProto {
    let value = pb::AttributeProto {
        name: Some("sparse_value".to_owned()),
        r#type: Some(pb::attribute_proto::AttributeType::SparseTensor as i32),
        sparse_tensor: Some(Box::new(t)),
        ..Default::default()
    };
    constant_node(value, name.to_owned())
}

fn constant_node(value: pb::AttributeProto, output: String) -> pb::NodeProto {
    pb::NodeProto {
        output: vec![output],
        op_type: Some("Constant".to_owned()),
        attribute: vec![value],
        ..Default::default()
    }
}

/// Before this version of the format every initializer has to be a graph input.
const FREE_INITIALIZERS: i64 = 4;

/// Writes graphs; inside bodies it keeps names apart from those of the graphs around.
#[derive(Default)]
struct GraphWriter {
    outer: Vec<Set<String>>,
    /// Constants that passes made become `Constant` nodes.
    constant_nodes: bool,
}

impl GraphWriter {
    fn graph(
        &mut self,
        g: &Graph,
        captured: &SavedNames,
    ) -> Result<(pb::GraphProto, SavedNames), SaveError> {
        let names = self.names(g, captured);
        let order = g.sorted().map_err(|c| SaveError::Cycle(c.0))?;
        let how = g.notes.spelling;
        let mut out = pb::GraphProto {
            name: (!g.name.is_empty() || !how.has(spelling::NO_NAME)).then(|| g.name.clone()),
            doc_string: text(&g.notes.doc, how, spelling::DOC),
            metadata_props: encode::pairs(&g.notes.metadata),
            ..Default::default()
        };
        let scope: Set<String> = if g.ops().any(|op| !g.op(op).bodies.is_empty()) {
            names.values().cloned().collect()
        } else {
            Set::default()
        };
        self.outer.push(scope);
        for id in order {
            let bodies = self.bodies(g, id, &names)?;
            out.node.push(node(g, id, &names, bodies));
        }
        self.outer.pop();
        let io = |v: &ValueId| {
            let value = g.value(*v);
            let stated = value.file_ty.as_ref().filter(|t| !contradicts(t, value.ty.as_ref()));
            info(value, &names[v], stated.or(value.ty.as_ref()))
        };
        out.input = g.inputs().iter().map(io).collect();
        out.output = g.outputs().iter().map(io).collect();
        self.values(g, &names, &mut out);
        Ok((out, names))
    }

    /// Final names: captures take the outer one; others get a suffix where a graph around has it.
    fn names(&self, g: &Graph, captured: &SavedNames) -> SavedNames {
        let taken = |name: &str| self.outer.iter().any(|scope| scope.contains(name));
        let mut ids: Vec<ValueId> = g.values().collect();
        ids.sort_unstable();
        let mut names = SavedNames::with_capacity_and_hasher(ids.len(), Default::default());
        let mut fresh = Set::default();
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
            if !self.outer.is_empty() {
                fresh.insert(name.clone());
            }
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
        let mut notes: Vec<(u32, ValueId)> = Vec::new();
        for v in g.values() {
            let value = g.value(v);
            if let Some(data) = g.initializer(v).filter(|_| !g.is_capture(v)) {
                initializers.push((value.init_rank, v, data));
            }
            if let Some(rank) = value.declared {
                infos.push((rank, v));
            }
            if let Some(n) = value.notes.as_ref().filter(|n| !n.quant.is_empty()) {
                notes.push((n.quant_rank, v));
            }
        }
        initializers.sort_unstable_by_key(|(rank, v, _)| (*rank, *v));
        let mut constants = Vec::new();
        for (rank, v, data) in initializers {
            match data.data() {
                TensorData::Sparse(_) if rank == u32::MAX && !g.is_input(v) => {
                    constants.push(sparse_constant(tensor::write_sparse(data, None), &names[&v]));
                }
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
        let infos = infos.into_iter().map(|(rank, v)| {
            let value = g.value(v);
            (rank, v, info(value, &names[&v], declared_type(value)))
        });
        let stray = |info: &pb::ValueInfoProto| g.find_value(info.name()).is_none();
        out.value_info = with_extra(g, VALUE_INFO, infos.collect(), stray);
        let notes = notes.into_iter().map(|(rank, v)| {
            let quant = g.value(v).notes.as_ref().map(|n| encode::pairs(&n.quant));
            let note = pb::TensorAnnotation {
                tensor_name: Some(names[&v].clone()),
                quant_parameter_tensor_names: quant.unwrap_or_default(),
            };
            (rank, v, note)
        });
        out.quantization_annotation = with_extra(g, ANNOTATION, notes.collect(), |_| true);
    }
}

/// Whether a type of the file cannot be that of what is computed: some exporters state `[]` for any
/// shape, which no other tool takes once it can infer the shape.
fn contradicts(own: &Type, known: Option<&Type>) -> bool {
    let own = decode::trusted(own.clone());
    let both = own.as_tensor().zip(known.and_then(Type::as_tensor));
    both.is_some_and(|(own, known)| !own.agrees(known))
}

/// The type to write into `value_info`: what the file said, unless more is known now.
fn declared_type(value: &Value) -> Option<&Type> {
    match &value.file_ty {
        Some(own) if value.ty == Some(decode::trusted(own.clone())) => Some(own),
        Some(own) if value.ty.is_none() => Some(own),
        _ => value.ty.as_ref(),
    }
}

/// Entries by rank, together with those that the graph carries unread and that `keep` admits.
fn with_extra<M: Message + Default>(
    g: &Graph,
    field: u32,
    mut entries: Vec<(u32, ValueId, M)>,
    keep: impl Fn(&M) -> bool,
) -> Vec<M> {
    entries.sort_unstable_by_key(|(rank, v, _)| (*rank, *v));
    let mut entries: Vec<(u32, M)> = entries.into_iter().map(|(rank, _, m)| (rank, m)).collect();
    for (_, rank, bytes) in g.extra.iter().filter(|(f, ..)| *f == field) {
        let message = M::decode(bytes.clone()).unwrap_or_default();
        if keep(&message) {
            entries.push((*rank, message));
        }
    }
    entries.sort_by_key(|(rank, _)| *rank);
    entries.into_iter().map(|(_, m)| m).collect()
}

fn info(value: &Value, name: &str, ty: Option<&crate::ir::Type>) -> pb::ValueInfoProto {
    let notes = value.notes.as_deref().cloned().unwrap_or_default();
    pb::ValueInfoProto {
        name: Some(name.to_owned()),
        r#type: ty.and_then(encode::ty).map(Box::new),
        doc_string: text(&notes.doc, notes.spelling, spelling::DOC),
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
        name: text(&op.name, op.spelling, spelling::NAME),
        op_type: encode::text(&op.op_type),
        domain: spelling::domain(&op.domain, op.spelling),
        overload: text(&op.overload, op.spelling, spelling::OVERLOAD),
        attribute: op.attrs.iter().map(|a| encode::attr(a, &mut body)).collect(),
        doc_string: text(&op.doc, op.spelling, spelling::DOC),
        metadata_props: encode::pairs(&op.metadata),
        device_configurations: op
            .extra
            .iter()
            .map(|b| Message::decode(b.clone()).unwrap_or_default())
            .collect(),
    }
}
