//! Protobuf messages to types, attributes and notes of the IR.

use bytes::Bytes;

use super::external::ExternalFiles;
use super::pb::{self, attribute_proto::AttributeType};
use super::spelling::{self, blank};
use super::{LoadError, tensor};
use crate::ir::{Attr, AttrValue, DType, Dim, Graph, Spelling, TensorType, Type};

/// Key-value pairs.
pub(super) fn pairs(props: &[pb::StringStringEntryProto]) -> Vec<(String, String)> {
    props.iter().map(|p| (p.key().to_owned(), p.value().to_owned())).collect()
}

/// The default domain is stored as empty.
pub(super) fn domain(name: &str) -> String {
    if name == "ai.onnx" { String::new() } else { name.to_owned() }
}

/// Operator sets.
pub(super) fn opsets(list: &[pb::OperatorSetIdProto]) -> Vec<(String, i64)> {
    list.iter().map(|o| (domain(o.domain()), o.version())).collect()
}

/// A type as the file gives it.
pub(super) fn ty(t: &pb::TypeProto) -> Type {
    use pb::type_proto::Value;
    let inner = |t: &Option<Box<pb::TypeProto>>| t.as_ref().map(|t| Box::new(ty(t)));
    let plain = match &t.value {
        None => Type::Unspecified,
        Some(Value::TensorType(t)) => Type::Tensor(tensor_type(t.elem_type(), t.shape.as_ref())),
        Some(Value::SparseTensorType(t)) => {
            Type::Sparse(tensor_type(t.elem_type(), t.shape.as_ref()))
        }
        Some(Value::SequenceType(s)) => Type::Sequence(inner(&s.elem_type)),
        Some(Value::OptionalType(o)) => Type::Optional(inner(&o.elem_type)),
        Some(Value::MapType(m)) => Type::Map(m.key_type(), inner(&m.value_type)),
        Some(Value::OpaqueType(o)) => Type::Opaque(o.domain().to_owned(), o.name().to_owned()),
    };
    match &t.denotation {
        Some(d) if !d.is_empty() => Type::Denoted(d.clone(), Box::new(plain)),
        _ => plain,
    }
}

fn tensor_type(elem: i32, shape: Option<&pb::TensorShapeProto>) -> TensorType {
    use pb::tensor_shape_proto::dimension::Value;
    let dim = |d: &pb::tensor_shape_proto::Dimension| match &d.value {
        None => Dim::Unknown,
        Some(Value::DimValue(n)) => Dim::Known(*n),
        Some(Value::DimParam(name)) if name.is_empty() => Dim::Unknown,
        Some(Value::DimParam(name)) => Dim::symbol(name),
    };
    let denoted = |s: &&pb::TensorShapeProto| s.dim.iter().any(|d| d.denotation.is_some());
    TensorType {
        dtype: DType::from_code(elem),
        shape: shape.map(|s| s.dim.iter().map(dim).collect()),
        denotations: shape
            .filter(denoted)
            .map(|s| s.dim.iter().map(|d| d.denotation().to_owned()).collect()),
    }
}

/// Names that exporters write where they know nothing; equal ones do not mean equal sizes.
const PLACEHOLDERS: [&str; 8] = ["?", "*", "-1", "None", "none", "unk", "unknown", "dynamic"];

/// The type as inference may rely on it: placeholders and negative sizes are unknown.
pub(super) fn trusted(mut t: Type) -> Type {
    if let Some(shape) = t.as_tensor_mut().and_then(|t| t.shape.as_mut()) {
        for dim in shape {
            let vague = dim.name().is_some_and(|n| PLACEHOLDERS.contains(&n))
                || dim.known().is_some_and(|n| n < 0);
            if vague {
                *dim = Dim::Unknown;
            }
        }
    }
    t
}

/// An attribute. Subgraphs are read by `graph`, collected in `bodies` and named by their index.
pub(super) fn attr(
    a: &pb::AttributeProto,
    node: &str,
    files: &mut ExternalFiles,
    bodies: &mut Vec<Graph>,
    graph: &mut dyn FnMut(&pb::GraphProto, &mut ExternalFiles) -> Result<Graph, LoadError>,
) -> Result<Attr, LoadError> {
    let mut body = |g: &pb::GraphProto, files: &mut ExternalFiles| -> Result<usize, LoadError> {
        bodies.push(graph(g, files)?);
        Ok(bodies.len() - 1)
    };
    let fail = |what| LoadError::Attribute { node: node.into(), attr: a.name().into(), what };
    let value = match (a.ref_attr_name.as_deref(), attr_type(a)) {
        (Some(name), _) if !name.is_empty() => {
            AttrValue::Ref(name.to_owned(), a.r#type.unwrap_or_default())
        }
        (_, AttributeType::Float) => AttrValue::Float(a.f()),
        (_, AttributeType::Int) => AttrValue::Int(a.i()),
        (_, AttributeType::String) => AttrValue::Str(a.s.clone().unwrap_or_default()),
        (_, AttributeType::Tensor) => {
            let t = a.t.as_ref().ok_or_else(|| fail("holds no tensor"))?;
            AttrValue::Tensor(tensor::read_named(t, files)?)
        }
        (_, AttributeType::SparseTensor) => {
            let t = a.sparse_tensor.as_ref().ok_or_else(|| fail("holds no tensor"))?;
            AttrValue::Tensor(tensor::read_sparse(t, files)?)
        }
        (_, AttributeType::Graph) => {
            let g = a.g.as_ref().ok_or_else(|| fail("holds no graph"))?;
            AttrValue::Graph(body(g, files)?)
        }
        (_, AttributeType::TypeProto) => {
            AttrValue::Type(ty(a.tp.as_ref().ok_or_else(|| fail("holds no type"))?))
        }
        (_, AttributeType::Floats) => AttrValue::Floats(a.floats.clone()),
        (_, AttributeType::Ints) => AttrValue::Ints(a.ints.clone()),
        (_, AttributeType::Strings) => AttrValue::Strs(a.strings.clone()),
        (_, AttributeType::Tensors) => AttrValue::Tensors(
            a.tensors.iter().map(|t| tensor::read_named(t, files)).collect::<Result<_, _>>()?,
        ),
        (_, AttributeType::SparseTensors) => AttrValue::Tensors(
            a.sparse_tensors
                .iter()
                .map(|t| tensor::read_sparse(t, files))
                .collect::<Result<_, _>>()?,
        ),
        (_, AttributeType::Graphs) => {
            AttrValue::Graphs(a.graphs.iter().map(|g| body(g, files)).collect::<Result<_, _>>()?)
        }
        (_, AttributeType::TypeProtos) => AttrValue::Types(a.type_protos.iter().map(ty).collect()),
        (_, AttributeType::Undefined) => return Err(fail("has no value")),
    };
    let no_value = match &value {
        AttrValue::Float(_) => a.f.is_none(),
        AttrValue::Int(_) => a.i.is_none(),
        AttrValue::Str(_) => a.s.is_none(),
        _ => false,
    };
    let spelling = Spelling::default()
        .with(spelling::DOC, blank(&a.doc_string))
        .with(spelling::NO_TYPE, a.r#type.is_none())
        .with(spelling::NO_VALUE, no_value);
    Ok(Attr { name: a.name().to_owned(), value, doc: a.doc_string().to_owned(), spelling })
}

/// The declared type, or for files of IR version 1, which lack it, the field that is filled.
fn attr_type(a: &pb::AttributeProto) -> AttributeType {
    use AttributeType::*;
    if let Some(declared) = a.r#type.and_then(|t| AttributeType::try_from(t).ok())
        && declared != Undefined
    {
        return declared;
    }
    let filled = [
        (a.f.is_some(), Float),
        (a.i.is_some(), Int),
        (a.s.is_some(), String),
        (a.t.is_some(), Tensor),
        (a.g.is_some(), Graph),
        (a.sparse_tensor.is_some(), SparseTensor),
        (a.tp.is_some(), TypeProto),
        (!a.floats.is_empty(), Floats),
        (!a.ints.is_empty(), Ints),
        (!a.strings.is_empty(), Strings),
        (!a.tensors.is_empty(), Tensors),
        (!a.graphs.is_empty(), Graphs),
        (!a.sparse_tensors.is_empty(), SparseTensors),
        (!a.type_protos.is_empty(), TypeProtos),
    ];
    filled.iter().find(|(is, _)| *is).map_or(Undefined, |(_, t)| *t)
}

/// Encodes messages that the IR carries as they are.
pub(super) fn opaque<M: prost::Message>(messages: &[M]) -> Vec<Bytes> {
    messages.iter().map(|m| m.encode_to_vec().into()).collect()
}
