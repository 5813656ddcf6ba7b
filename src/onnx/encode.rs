//! Types, attributes and notes of the IR to protobuf messages.

use super::pb::{self, attribute_proto::AttributeType};
use super::{spelling, tensor};
use crate::ir::{Attr, AttrValue, Dim, Spelling, Tensor, TensorData, TensorType, Type};

/// Key-value pairs.
pub(super) fn pairs(list: &[(String, String)]) -> Vec<pb::StringStringEntryProto> {
    let entry = |(k, v): &(String, String)| pb::StringStringEntryProto {
        key: Some(k.clone()),
        value: Some(v.clone()),
    };
    list.iter().map(entry).collect()
}

/// Text that is left out of the file when it is empty.
pub(super) fn text(s: &str) -> Option<String> {
    Some(s.to_owned()).filter(|s| !s.is_empty())
}

/// Operator sets.
pub(super) fn opsets(list: &[(String, i64)], how: Spelling) -> Vec<pb::OperatorSetIdProto> {
    let entry = |(domain, version): &(String, i64)| pb::OperatorSetIdProto {
        domain: match domain.as_str() {
            "" if how.has(spelling::LONG_OPSET) => Some("ai.onnx".to_owned()),
            "" if how.has(spelling::NO_OPSET_DOMAIN) => None,
            _ => Some(domain.clone()),
        },
        version: Some(*version),
    };
    list.iter().map(entry).collect()
}

/// A type; `None` where nothing is known.
pub(super) fn ty(t: &Type) -> Option<pb::TypeProto> {
    use pb::type_proto::{self as tp, Value};
    let inner = |t: &Option<Box<Type>>| t.as_deref().and_then(ty).map(Box::new);
    let value = match t {
        Type::Unspecified => None,
        Type::Tensor(t) => Some(Value::TensorType(tp::Tensor {
            elem_type: t.dtype.map(|d| d.code()),
            shape: shape(t),
        })),
        Type::Sparse(t) => Some(Value::SparseTensorType(tp::SparseTensor {
            elem_type: t.dtype.map(|d| d.code()),
            shape: shape(t),
        })),
        Type::Sequence(t) => {
            Some(Value::SequenceType(Box::new(tp::Sequence { elem_type: inner(t) })))
        }
        Type::Optional(t) => {
            Some(Value::OptionalType(Box::new(tp::Optional { elem_type: inner(t) })))
        }
        Type::Map(key, t) => {
            Some(Value::MapType(Box::new(tp::Map { key_type: Some(*key), value_type: inner(t) })))
        }
        Type::Opaque(domain, name) => {
            Some(Value::OpaqueType(tp::Opaque { domain: text(domain), name: text(name) }))
        }
        Type::Denoted(d, t) => {
            let plain = ty(t).unwrap_or_default();
            return Some(pb::TypeProto { denotation: Some(d.clone()), ..plain });
        }
    };
    Some(pb::TypeProto { value, denotation: None })
}

fn shape(t: &TensorType) -> Option<pb::TensorShapeProto> {
    use pb::tensor_shape_proto::{Dimension, dimension::Value};
    let dims = t.shape.as_ref()?.iter().enumerate().map(|(i, dim)| Dimension {
        value: match dim {
            Dim::Known(n) => Some(Value::DimValue(*n)),
            Dim::Unknown => None,
            Dim::Sym(_) => named(dim).map(Value::DimParam),
        },
        denotation: t.denotations.as_ref().and_then(|d| d.get(i)).and_then(|d| text(d)),
    });
    Some(pb::TensorShapeProto { dim: dims.collect() })
}

/// The expression as text, unless a size that only the running model knows is in it.
fn named(dim: &Dim) -> Option<String> {
    let mut all_named = true;
    dim.for_each_symbol(&mut |a| all_named &= matches!(a, crate::ir::Atom::Name(_)));
    all_named.then(|| dim.to_string())
}

/// An attribute; `graph` writes the subgraph with an index.
pub(super) fn attr(a: &Attr, graph: &mut dyn FnMut(usize) -> pb::GraphProto) -> pb::AttributeProto {
    let mut out = pb::AttributeProto {
        name: Some(a.name.clone()),
        doc_string: spelling::text(&a.doc, a.spelling, spelling::DOC),
        ..Default::default()
    };
    let written = !a.spelling.has(spelling::NO_VALUE);
    let is_sparse = |t: &Tensor| matches!(t.data(), TensorData::Sparse(_));
    let named = |t: &Tensor| tensor::write(t, t.info.as_ref().map_or("", |i| i.name.as_str()));
    let kind = match &a.value {
        AttrValue::Float(v) => {
            out.f = Some(*v).filter(|v| written || v.to_bits() != 0);
            AttributeType::Float
        }
        AttrValue::Int(v) => {
            out.i = Some(*v).filter(|v| written || *v != 0);
            AttributeType::Int
        }
        AttrValue::Str(v) => {
            out.s = Some(v.clone()).filter(|v| written || !v.is_empty());
            AttributeType::String
        }
        AttrValue::Tensor(t) if is_sparse(t) => {
            out.sparse_tensor = Some(Box::new(tensor::write_sparse(t, None)));
            AttributeType::SparseTensor
        }
        AttrValue::Tensor(t) => {
            out.t = Some(Box::new(named(t)));
            AttributeType::Tensor
        }
        AttrValue::Graph(i) => {
            out.g = Some(Box::new(graph(*i)));
            AttributeType::Graph
        }
        AttrValue::Type(t) => {
            out.tp = ty(t).map(Box::new);
            AttributeType::TypeProto
        }
        AttrValue::Floats(v) => {
            out.floats = v.clone();
            AttributeType::Floats
        }
        AttrValue::Ints(v) => {
            out.ints = v.clone();
            AttributeType::Ints
        }
        AttrValue::Strs(v) => {
            out.strings = v.clone();
            AttributeType::Strings
        }
        AttrValue::Tensors(ts) if ts.first().is_some_and(is_sparse) => {
            out.sparse_tensors = ts.iter().map(|t| tensor::write_sparse(t, None)).collect();
            AttributeType::SparseTensors
        }
        AttrValue::Tensors(ts) => {
            out.tensors = ts.iter().map(named).collect();
            AttributeType::Tensors
        }
        AttrValue::Graphs(is) => {
            out.graphs = is.iter().map(|i| graph(*i)).collect();
            AttributeType::Graphs
        }
        AttrValue::Types(ts) => {
            out.type_protos = ts.iter().filter_map(ty).collect();
            AttributeType::TypeProtos
        }
        AttrValue::Ref(name, code) => {
            out.ref_attr_name = Some(name.clone());
            out.r#type = Some(*code).filter(|_| !a.spelling.has(spelling::NO_TYPE));
            return out;
        }
    };
    out.r#type = Some(kind as i32).filter(|_| !a.spelling.has(spelling::NO_TYPE));
    out
}
