//! Attributes of ops.

use bytes::Bytes;

use super::{Spelling, Tensor, Type};

/// A named attribute in the order of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Attr {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: AttrValue,
    /// Its doc string.
    pub doc: String,
    /// How the file writes it.
    pub spelling: Spelling,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum AttrValue {
    Float(f32),
    Int(i64),
    /// UTF-8 by the standard; the file may hold any bytes.
    Str(Bytes),
    Tensor(Tensor),
    /// Index into [`Op::bodies`](super::Op::bodies).
    Graph(usize),
    Type(Type),
    Floats(Vec<f32>),
    Ints(Vec<i64>),
    Strs(Vec<Bytes>),
    Tensors(Vec<Tensor>),
    /// Indices into [`Op::bodies`](super::Op::bodies).
    Graphs(Vec<usize>),
    Types(Vec<Type>),
    /// Inside a function: the attribute of the calling op with this name, of this type code.
    Ref(String, i32),
}

impl From<f32> for AttrValue {
    fn from(v: f32) -> AttrValue {
        AttrValue::Float(v)
    }
}

impl From<i64> for AttrValue {
    fn from(v: i64) -> AttrValue {
        AttrValue::Int(v)
    }
}

impl From<&str> for AttrValue {
    fn from(v: &str) -> AttrValue {
        AttrValue::Str(Bytes::copy_from_slice(v.as_bytes()))
    }
}

impl From<Vec<i64>> for AttrValue {
    fn from(v: Vec<i64>) -> AttrValue {
        AttrValue::Ints(v)
    }
}

impl From<Vec<f32>> for AttrValue {
    fn from(v: Vec<f32>) -> AttrValue {
        AttrValue::Floats(v)
    }
}

impl From<Tensor> for AttrValue {
    fn from(v: Tensor) -> AttrValue {
        AttrValue::Tensor(v)
    }
}
