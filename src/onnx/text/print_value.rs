//! Names, strings, types, tensors and attributes as text.

use std::fmt::Write;

use super::super::pb::{self, attribute_proto::AttributeType, tensor_proto::DataLocation};
use super::super::{external::ExternalFiles, tensor as stored};
use super::elements::{self, float_text};
use super::print::Printer;
use super::{ATTR_TYPES, is_type_word};
use crate::ir::DType;

fn is_word(s: &str) -> bool {
    let mut bytes = s.bytes();
    bytes.next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_')
        && bytes.all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A name, in quotes where it is no plain word.
pub(super) fn name(s: &str, out: &mut String) {
    match is_word(s) {
        true => out.push_str(s),
        false => quoted(s.as_bytes(), out),
    }
}

/// A name that may stand where a type may stand, too.
pub(super) fn value_name(s: &str, out: &mut String) {
    match is_type_word(s) {
        true => quoted(s.as_bytes(), out),
        false => name(s, out),
    }
}

/// A string in quotes.
pub(super) fn quoted(bytes: &[u8], out: &mut String) {
    out.push('"');
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if matches!(c, '"' | '\\') {
                out.push('\\');
            }
            out.push(c);
        }
        for b in chunk.invalid() {
            _ = write!(out, "\\x{b:02x}");
        }
    }
    out.push('"');
}

/// Pairs in brackets.
pub(super) fn pairs(list: &[pb::StringStringEntryProto], out: &mut String) {
    out.push('[');
    for (i, e) in list.iter().enumerate() {
        out.push_str(if i == 0 { "" } else { ", " });
        quoted(e.key().as_bytes(), out);
        out.push_str(": ");
        quoted(e.value().as_bytes(), out);
    }
    out.push(']');
}

fn elem_type(code: i32) -> &'static str {
    DType::from_code(code).map_or("undefined", DType::name)
}

/// A type; nothing where none is given.
pub(super) fn ty(t: &pb::TypeProto, out: &mut String) {
    use pb::type_proto::Value;
    let inner = |t: &Option<Box<pb::TypeProto>>, out: &mut String| {
        if let Some(t) = t {
            ty(t, out);
        }
    };
    match &t.value {
        None => return,
        Some(Value::TensorType(t)) => return tensor_type(t.elem_type(), t.shape.as_ref(), out),
        Some(Value::SparseTensorType(t)) => {
            out.push_str("sparse_tensor(");
            tensor_type(t.elem_type(), t.shape.as_ref(), out);
        }
        Some(Value::SequenceType(t)) => {
            out.push_str("seq(");
            inner(&t.elem_type, out);
        }
        Some(Value::OptionalType(t)) => {
            out.push_str("optional(");
            inner(&t.elem_type, out);
        }
        Some(Value::MapType(t)) => {
            _ = write!(out, "map({}, ", elem_type(t.key_type()));
            inner(&t.value_type, out);
        }
        Some(Value::OpaqueType(t)) => {
            out.push_str("opaque(");
            if !t.domain().is_empty() {
                name(t.domain(), out);
                out.push_str(", ");
            }
            if !t.name().is_empty() || !t.domain().is_empty() {
                name(t.name(), out);
            }
        }
    }
    out.push(')');
}

fn tensor_type(elem: i32, shape: Option<&pb::TensorShapeProto>, out: &mut String) {
    use pb::tensor_shape_proto::dimension::Value;
    out.push_str(elem_type(elem));
    let Some(shape) = shape else { return out.push_str("[]") };
    for (i, d) in shape.dim.iter().enumerate() {
        out.push(if i == 0 { '[' } else { ',' });
        match &d.value {
            Some(Value::DimValue(n)) => _ = write!(out, "{n}"),
            Some(Value::DimParam(p)) if !p.is_empty() => name(p, out),
            _ => out.push('?'),
        }
    }
    if !shape.dim.is_empty() {
        out.push(']');
    }
}

fn tensor_head(code: i32, dims: &[i64], out: &mut String) {
    out.push_str(elem_type(code));
    for (i, d) in dims.iter().enumerate() {
        _ = write!(out, "{}{d}", if i == 0 { '[' } else { ',' });
    }
    if !dims.is_empty() {
        out.push(']');
    }
}

/// A dense tensor; an initializer has `=` behind its name.
pub(super) fn tensor(t: &pb::TensorProto, initializer: bool, max: Option<usize>, out: &mut String) {
    tensor_head(t.data_type(), &t.dims, out);
    out.push(' ');
    let external = t.data_location() == DataLocation::External;
    if initializer || !t.name().is_empty() {
        value_name(t.name(), out);
        out.push(' ');
    }
    if initializer || external {
        out.push_str("= ");
    }
    if external {
        return pairs(&t.external_data, out);
    }
    match stored::read(t, &mut ExternalFiles::in_folder(None)) {
        Ok(data) => elements::print(&data, max, out),
        Err(_) => out.push_str("..."),
    }
}

/// A sparse tensor: its values and their indices.
pub(super) fn sparse(
    t: &pb::SparseTensorProto,
    initializer: bool,
    max: Option<usize>,
    out: &mut String,
) {
    let mut values = t.values.clone().unwrap_or_default();
    out.push_str("sparse_tensor(");
    tensor_head(values.data_type(), &t.dims, out);
    out.push_str(") ");
    if let Some(own) = values.name.take() {
        value_name(&own, out);
        out.push(' ');
    }
    out.push_str(if initializer { "= {" } else { "{" });
    tensor(&values, false, max, out);
    out.push_str(", ");
    tensor(&t.indices.clone().unwrap_or_default(), false, max, out);
    out.push('}');
}

fn list<T>(items: &[T], p: &mut Printer, mut item: impl FnMut(&T, &mut Printer)) {
    p.out.push('[');
    for (i, v) in items.iter().enumerate() {
        p.out.push_str(if i == 0 { "" } else { ", " });
        item(v, p);
    }
    p.out.push(']');
}

/// An attribute with its type.
pub(super) fn attr(a: &pb::AttributeProto, p: &mut Printer) {
    name(a.name(), &mut p.out);
    let code = a.r#type.unwrap_or_default();
    let row = ATTR_TYPES.iter().find(|r| r.2 == code || r.3 == code);
    if let Some(row) = row {
        p.out.push_str(": ");
        p.out.push_str(if row.2 == code { row.0 } else { row.1 });
    }
    p.out.push_str(" = ");
    if let Some(outer) = a.ref_attr_name.as_ref().filter(|n| !n.is_empty()) {
        p.out.push('@');
        return name(outer, &mut p.out);
    }
    match a.r#type() {
        AttributeType::Undefined => p.out.push_str("\"\""),
        AttributeType::Float => float_text(a.f(), &mut p.out),
        AttributeType::Int => _ = write!(p.out, "{}", a.i()),
        AttributeType::String => quoted(a.s(), &mut p.out),
        AttributeType::Tensor => {
            a.t.iter().for_each(|t| tensor(t, false, p.max, &mut p.out));
        }
        AttributeType::SparseTensor => {
            a.sparse_tensor.iter().for_each(|t| sparse(t, false, p.max, &mut p.out));
        }
        AttributeType::Graph => a.g.iter().for_each(|g| p.graph(g)),
        AttributeType::TypeProto => a.tp.iter().for_each(|t| ty(t, &mut p.out)),
        AttributeType::Floats => list(&a.floats, p, |v, p| float_text(*v, &mut p.out)),
        AttributeType::Ints => list(&a.ints, p, |v, p| _ = write!(p.out, "{v}")),
        AttributeType::Strings => list(&a.strings, p, |v, p| quoted(v, &mut p.out)),
        AttributeType::Tensors => {
            list(&a.tensors, p, |t, p| tensor(t, false, p.max, &mut p.out));
        }
        AttributeType::SparseTensors => {
            list(&a.sparse_tensors, p, |t, p| sparse(t, false, p.max, &mut p.out));
        }
        AttributeType::Graphs => list(&a.graphs, p, |g, p| p.graph(g)),
        AttributeType::TypeProtos => list(&a.type_protos, p, |t, p| ty(t, &mut p.out)),
    }
}
