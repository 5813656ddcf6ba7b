//! Op nodes: generic over domain and type, so that unknown operators pass through.

use bytes::Bytes;

use super::{Attr, AttrValue, Graph, Spelling, ValueId};

/// An operator applied: domain, type, attributes and subgraphs. Its operands, results and captures
/// are edges of the [`Graph`].
#[derive(Clone, Debug, Default)]
pub struct Op {
    /// Operator domain; empty for the default domain (`ai.onnx` is stored as empty).
    pub domain: String,
    /// Operator name, such as `Conv`.
    pub op_type: String,
    /// Function overload; usually empty.
    pub overload: String,
    /// Node name; may be empty.
    pub name: String,
    /// Attributes, in the order of the file.
    pub attrs: Vec<Attr>,
    /// Subgraphs that `attrs` refer to by index.
    pub bodies: Vec<Graph>,
    /// For each capture slot, the body that reads it and the value it has there.
    pub captures: Vec<(usize, ValueId)>,
    /// Doc string.
    pub doc: String,
    /// `metadata_props`.
    pub metadata: Vec<(String, String)>,
    /// Encoded fields that Lapidary carries but does not read (device configurations).
    pub extra: Vec<Bytes>,
    /// How the file writes it.
    pub spelling: Spelling,
    pub(super) arity: u32,
    pub(super) results: u32,
    pub(super) rank: u32,
}

impl Op {
    /// An op of the default domain without attributes.
    pub fn new(op_type: &str) -> Op {
        Op { op_type: op_type.to_owned(), ..Op::default() }
    }

    /// The same with a node name.
    pub fn named(mut self, name: impl Into<String>) -> Op {
        self.name = name.into();
        self
    }

    /// The same with one more attribute.
    pub fn with(mut self, name: &str, value: impl Into<AttrValue>) -> Op {
        self.set_attr(name, value);
        self
    }

    /// Is the operator `op_type` of the default domain.
    pub fn is(&self, op_type: &str) -> bool {
        self.domain.is_empty() && self.op_type == op_type
    }

    /// `domain::Type`, or just `Type` in the default domain.
    pub fn full_type(&self) -> String {
        if self.domain.is_empty() {
            self.op_type.clone()
        } else {
            format!("{}::{}", self.domain, self.op_type)
        }
    }

    /// Number of operand slots, missing optionals included.
    pub fn arity(&self) -> usize {
        self.arity as usize
    }

    /// Number of result slots, missing optionals included.
    pub fn result_count(&self) -> usize {
        self.results as usize
    }

    /// The attribute with this name.
    pub fn attr(&self, name: &str) -> Option<&AttrValue> {
        self.attrs.iter().find(|a| a.name == name).map(|a| &a.value)
    }

    /// Sets an attribute, in place when it is there.
    pub fn set_attr(&mut self, name: &str, value: impl Into<AttrValue>) {
        let value = value.into();
        match self.attrs.iter_mut().find(|a| a.name == name) {
            Some(attr) => attr.value = value,
            None => self.attrs.push(Attr {
                name: name.into(),
                value,
                doc: String::new(),
                spelling: Spelling::default(),
            }),
        }
    }

    /// Removes an attribute.
    pub fn remove_attr(&mut self, name: &str) {
        self.attrs.retain(|a| a.name != name);
    }

    /// Integer attribute.
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.attr(name)? {
            AttrValue::Int(v) => Some(*v),
            _ => None,
        }
    }

    /// Integer attribute, or `default` when it is absent.
    pub fn int_or(&self, name: &str, default: i64) -> i64 {
        self.int(name).unwrap_or(default)
    }

    /// Float attribute.
    pub fn float(&self, name: &str) -> Option<f32> {
        match self.attr(name)? {
            AttrValue::Float(v) => Some(*v),
            _ => None,
        }
    }

    /// Float attribute, or `default` when it is absent.
    pub fn float_or(&self, name: &str, default: f32) -> f32 {
        self.float(name).unwrap_or(default)
    }

    /// List of integers.
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        match self.attr(name)? {
            AttrValue::Ints(v) => Some(v),
            _ => None,
        }
    }

    /// List of floats.
    pub fn floats(&self, name: &str) -> Option<&[f32]> {
        match self.attr(name)? {
            AttrValue::Floats(v) => Some(v),
            _ => None,
        }
    }

    /// String attribute, when it is UTF-8.
    pub fn str(&self, name: &str) -> Option<&str> {
        match self.attr(name)? {
            AttrValue::Str(v) => std::str::from_utf8(v).ok(),
            _ => None,
        }
    }

    /// Tensor attribute.
    pub fn tensor(&self, name: &str) -> Option<&super::Tensor> {
        match self.attr(name)? {
            AttrValue::Tensor(v) => Some(v),
            _ => None,
        }
    }

    /// The subgraph in this attribute.
    pub fn body(&self, name: &str) -> Option<&Graph> {
        match self.attr(name)? {
            AttrValue::Graph(i) => self.bodies.get(*i),
            _ => None,
        }
    }

    /// Some attribute refers to an attribute of the function that this op stands in.
    pub fn has_ref_attrs(&self) -> bool {
        self.attrs.iter().any(|a| matches!(a.value, AttrValue::Ref(..)))
    }
}
