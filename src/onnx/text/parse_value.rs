//! Types, tensors and attributes.

use super::super::pb::{self, attribute_proto::AttributeType, tensor_proto::DataLocation};
use super::cursor::{Cursor, Literal, Parsed};
use super::{ATTR_TYPES, elements, is_float_word, is_type_word, parse};
use crate::ir::{DType, element_count};

/// A type comes next.
pub(super) fn at_type(c: &mut Cursor) -> bool {
    c.peek_word().is_some_and(is_type_word)
}

/// A type.
pub(super) fn ty(c: &mut Cursor) -> Parsed<pb::TypeProto> {
    use pb::type_proto::{self as tp, Value};
    let word = c.expect_word("a type")?;
    let inner = |c: &mut Cursor| -> Parsed<Option<Box<pb::TypeProto>>> {
        match c.peek() {
            b')' => Ok(None),
            _ => c.nested(ty).map(|t| Some(Box::new(t))),
        }
    };
    if let Some(elem) = elem_type(word) {
        let shape = shape(c)?;
        let value = Some(Value::TensorType(tp::Tensor { elem_type: Some(elem), shape }));
        return Ok(pb::TypeProto { value, denotation: None });
    }
    if !is_type_word(word) {
        return c.fail(format!("`{word}` is no type"));
    }
    c.expect(b'(')?;
    let value = match word {
        "seq" => Value::SequenceType(Box::new(tp::Sequence { elem_type: inner(c)? })),
        "optional" => Value::OptionalType(Box::new(tp::Optional { elem_type: inner(c)? })),
        "map" => {
            let key_type = Some(expect_elem_type(c)?);
            c.expect(b',')?;
            Value::MapType(Box::new(tp::Map { key_type, value_type: inner(c)? }))
        }
        "opaque" => opaque(c)?,
        _ => {
            let elem_type = Some(expect_elem_type(c)?);
            Value::SparseTensorType(tp::SparseTensor { elem_type, shape: shape(c)? })
        }
    };
    c.expect(b')')?;
    Ok(pb::TypeProto { value: Some(value), denotation: None })
}

fn elem_type(word: &str) -> Option<i32> {
    match word {
        "undefined" => Some(0),
        _ => DType::from_name(word).map(DType::code),
    }
}

fn expect_elem_type(c: &mut Cursor) -> Parsed<i32> {
    match elem_type(c.expect_word("an element type")?) {
        Some(code) => Ok(code),
        None => c.fail("expected an element type"),
    }
}

fn opaque(c: &mut Cursor) -> Parsed<pb::type_proto::Value> {
    let mut parts = Vec::new();
    while c.peek() != b')' {
        let (front, last) = c.dotted("a name")?;
        parts.push(if front.is_empty() { last } else { format!("{front}.{last}") });
        if !c.eat(b',') {
            break;
        }
    }
    let name = parts.pop();
    Ok(pb::type_proto::Value::OpaqueType(pb::type_proto::Opaque { domain: parts.pop(), name }))
}

/// `[N, 3, ?]`; nothing is rank 0 and `[]` an unknown rank.
fn shape(c: &mut Cursor) -> Parsed<Option<pb::TensorShapeProto>> {
    use pb::tensor_shape_proto::{Dimension, dimension::Value};
    if !c.eat(b'[') {
        return Ok(Some(pb::TensorShapeProto::default()));
    }
    let dim = c.list(b']', |c| {
        let value = match c.peek() {
            b'?' => {
                c.eat(b'?');
                None
            }
            b'"' | b'_' | b'a'..=b'z' | b'A'..=b'Z' => c.name()?.map(Value::DimParam),
            _ => Some(Value::DimValue(c.int()?)),
        };
        Ok(Dimension { value, denotation: None })
    })?;
    Ok(Some(pb::TensorShapeProto { dim }).filter(|s| !s.dim.is_empty()))
}

/// Pairs in brackets: `["key": "value"]`.
pub(super) fn pairs(c: &mut Cursor) -> Parsed<Vec<pb::StringStringEntryProto>> {
    c.expect(b'[')?;
    c.list(b']', |c| {
        let key = Some(c.string()?);
        c.expect(b':')?;
        Ok(pb::StringStringEntryProto { key, value: Some(c.string()?) })
    })
}

/// Stored data.
#[allow(clippy::large_enum_variant)]
pub(super) enum Data {
    Dense(pb::TensorProto),
    Sparse(pb::SparseTensorProto),
}

/// The elements of a tensor of type `ty`: in braces, or the place of external ones in brackets.
pub(super) fn tensor(c: &mut Cursor, ty: &pb::TypeProto, name: String) -> Parsed<Data> {
    use pb::type_proto::Value;
    match &ty.value {
        Some(Value::TensorType(t)) => {
            let dims = sizes(c, &name, t.shape.as_ref())?;
            dense(c, t.elem_type(), dims, name).map(Data::Dense)
        }
        Some(Value::SparseTensorType(t)) => {
            let dims = sizes(c, &name, t.shape.as_ref())?;
            sparse(c, dims, name).map(Data::Sparse)
        }
        _ => c.fail(format!("{name:?} is of no tensor type and cannot have data")),
    }
}

fn sizes(c: &Cursor, name: &str, shape: Option<&pb::TensorShapeProto>) -> Parsed<Vec<i64>> {
    use pb::tensor_shape_proto::dimension::Value;
    let size = |d: &pb::tensor_shape_proto::Dimension| match d.value {
        Some(Value::DimValue(n)) if n >= 0 => Some(n),
        _ => None,
    };
    match shape.and_then(|s| s.dim.iter().map(size).collect()) {
        Some(dims) => Ok(dims),
        None => c.fail(format!("tensor {name:?} needs sizes that are numbers")),
    }
}

fn dense(c: &mut Cursor, code: i32, dims: Vec<i64>, name: String) -> Parsed<pb::TensorProto> {
    let Some(dtype) = DType::from_code(code) else {
        return c.fail(format!("tensor {name:?} needs an element type"));
    };
    let mut t = pb::TensorProto {
        dims,
        data_type: Some(code),
        name: Some(name).filter(|n| !n.is_empty()),
        ..Default::default()
    };
    if c.peek() == b'[' {
        t.external_data = pairs(c)?;
        t.data_location = Some(DataLocation::External as i32);
        return Ok(t);
    }
    let sizes: Vec<usize> = t.dims.iter().map(|&d| d as usize).collect();
    let Some(count) = element_count(&sizes) else {
        return c.fail(format!("tensor {:?} is too large", t.name()));
    };
    if c.eat_dots() {
        return c.fail("the elements of this tensor are left out");
    }
    let found = if c.eat(b'{') { elements::parse(c, dtype, &mut t)? } else { 0 };
    if found != count {
        return c.fail(format!("tensor {:?} has {found} elements, not {count}", t.name()));
    }
    Ok(t)
}

fn sparse(c: &mut Cursor, dims: Vec<i64>, name: String) -> Parsed<pb::SparseTensorProto> {
    c.expect(b'{')?;
    let mut values = dense_with_type(c)?;
    values.name = Some(name).filter(|n| !n.is_empty()).or(values.name);
    c.expect(b',')?;
    let indices = dense_with_type(c)?;
    c.expect(b'}')?;
    Ok(pb::SparseTensorProto {
        values: Some(Box::new(values)),
        indices: Some(Box::new(indices)),
        dims,
    })
}

/// A dense tensor with its type and perhaps a name.
fn dense_with_type(c: &mut Cursor) -> Parsed<pb::TensorProto> {
    let ty = ty(c)?;
    let name = c.name()?.unwrap_or_default();
    c.eat(b'=');
    match tensor(c, &ty, name)? {
        Data::Dense(t) => Ok(t),
        Data::Sparse(_) => c.fail("expected a dense tensor"),
    }
}

/// An attribute from behind its name on.
pub(super) fn attr(c: &mut Cursor, name: String) -> Parsed<pb::AttributeProto> {
    let mut a = pb::AttributeProto { name: Some(name), ..Default::default() };
    // The declared type, as the type of one value, and whether it is a list.
    let mut declared: Option<(i32, bool)> = None;
    if c.eat(b':') {
        let word = c.expect_word("an attribute type")?;
        let row = ATTR_TYPES.iter().find(|r| r.0 == word || r.1 == word);
        let Some(row) = row else { return c.fail(format!("`{word}` is no attribute type")) };
        declared = Some((row.2, row.1 == word));
    }
    c.expect(b'=')?;
    if c.eat(b'@') {
        a.ref_attr_name = Some(c.expect_name("the name of an attribute")?);
        a.r#type = declared.map(|(one, list)| if list { list_type(one) } else { one });
        return Ok(a);
    }
    if !c.eat(b'[') {
        if let Some((_, true)) = declared {
            return c.expected("a list in brackets");
        }
        let value = value(c, declared.map(|d| d.0))?;
        a.r#type = Some(value.code());
        value.store(&mut a);
        return Ok(a);
    }
    let mut one = match declared {
        Some((_, false)) => return c.fail("this attribute type takes no list"),
        Some((one, true)) => Some(one),
        None => None,
    };
    c.list(b']', |c| {
        let value = value(c, one)?;
        one = Some(value.code());
        value.push(&mut a);
        Ok(())
    })?;
    let Some(one) = one else {
        return c.fail("an empty list needs its type, as in `axes: ints = []`");
    };
    a.r#type = Some(list_type(one));
    Ok(a)
}

fn list_type(one: i32) -> i32 {
    ATTR_TYPES.iter().find(|r| r.2 == one).map_or(0, |r| r.3)
}

#[allow(clippy::large_enum_variant)]
enum Value {
    Int(i64),
    Float(f32),
    Str(Vec<u8>),
    Tensor(pb::TensorProto),
    Sparse(pb::SparseTensorProto),
    Graph(pb::GraphProto),
    Type(pb::TypeProto),
}

impl Value {
    fn code(&self) -> i32 {
        let code = match self {
            Value::Int(_) => AttributeType::Int,
            Value::Float(_) => AttributeType::Float,
            Value::Str(_) => AttributeType::String,
            Value::Tensor(_) => AttributeType::Tensor,
            Value::Sparse(_) => AttributeType::SparseTensor,
            Value::Graph(_) => AttributeType::Graph,
            Value::Type(_) => AttributeType::TypeProto,
        };
        code as i32
    }

    fn store(self, a: &mut pb::AttributeProto) {
        match self {
            Value::Int(v) => a.i = Some(v),
            Value::Float(v) => a.f = Some(v),
            Value::Str(v) => a.s = Some(v.into()),
            Value::Tensor(v) => a.t = Some(Box::new(v)),
            Value::Sparse(v) => a.sparse_tensor = Some(Box::new(v)),
            Value::Graph(v) => a.g = Some(Box::new(v)),
            Value::Type(v) => a.tp = Some(Box::new(v)),
        }
    }

    fn push(self, a: &mut pb::AttributeProto) {
        match self {
            Value::Int(v) => a.ints.push(v),
            Value::Float(v) => a.floats.push(v),
            Value::Str(v) => a.strings.push(v.into()),
            Value::Tensor(v) => a.tensors.push(v),
            Value::Sparse(v) => a.sparse_tensors.push(v),
            Value::Graph(v) => a.graphs.push(v),
            Value::Type(v) => a.type_protos.push(v),
        }
    }
}

/// One value, of the attribute type `expected` when there is one.
fn value(c: &mut Cursor, expected: Option<i32>) -> Parsed<Value> {
    let float = Some(AttributeType::Float as i32);
    let found = match c.peek_word() {
        Some(word) if is_type_word(word) => tensor_or_type(c)?,
        Some(word) if !is_float_word(word) => Value::Graph(c.nested(parse::graph)?),
        _ => match c.literal()? {
            Literal::Int(text) if expected == float => Value::Float(c.float(text)?),
            Literal::Int(text) => match text.parse() {
                Ok(v) => Value::Int(v),
                Err(_) => return c.fail(format!("{text} does not fit 64 bits")),
            },
            Literal::Float(text) => Value::Float(c.float(text)?),
            // The quoted name of a graph, which inputs or `=>` follow.
            Literal::Str(bytes) if matches!(c.peek(), b'(' | b'=') => {
                match String::from_utf8(bytes) {
                    Ok(name) => Value::Graph(c.nested(|c| parse::graph_named(c, name))?),
                    Err(_) => return c.fail("the name of a graph is not UTF-8"),
                }
            }
            Literal::Str(bytes) => Value::Str(bytes),
        },
    };
    match expected {
        Some(code) if code != found.code() => {
            let name = |code| ATTR_TYPES.iter().find(|r| r.2 == code).map_or("", |r| r.0);
            c.fail(format!("a value of type {}, not {}", name(found.code()), name(code)))
        }
        _ => Ok(found),
    }
}

fn tensor_or_type(c: &mut Cursor) -> Parsed<Value> {
    let ty = ty(c)?;
    let is_tensor = matches!(c.peek(), b'{' | b'=' | b'"' | b'.') || c.peek_word().is_some();
    if !is_tensor {
        return Ok(Value::Type(ty));
    }
    let name = c.name()?.unwrap_or_default();
    c.eat(b'=');
    Ok(match tensor(c, &ty, name)? {
        Data::Dense(t) => Value::Tensor(t),
        Data::Sparse(t) => Value::Sparse(t),
    })
}
