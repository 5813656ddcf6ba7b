//! Value nodes: what flows between ops.

use std::sync::Arc;

use super::{DType, Dim, Shape, Spelling, Tensor};

/// What kind of thing a value is.
#[derive(Clone, Debug, PartialEq)]
pub enum Type {
    /// A dense tensor.
    Tensor(TensorType),
    /// A sparse tensor.
    Sparse(TensorType),
    /// A list.
    Sequence(Option<Box<Type>>),
    /// A value or nothing.
    Optional(Option<Box<Type>>),
    /// A dictionary; the key is an element type code.
    Map(i32, Option<Box<Type>>),
    /// Something else, by domain and name.
    Opaque(String, String),
    /// A type with a denotation (`TypeProto.denotation`).
    Denoted(String, Box<Type>),
    /// The file says nothing.
    Unspecified,
}

/// Element type and shape of a tensor.
#[derive(Clone, Debug, PartialEq)]
pub struct TensorType {
    /// Element type, when it is known.
    pub dtype: Option<DType>,
    /// Sizes, when the rank is known.
    pub shape: Option<Shape>,
    /// Meanings of the axes (`Dimension.denotation`), when the file gives any.
    pub denotations: Option<Arc<[String]>>,
}

impl TensorType {
    /// The same as far as both are known: dims may be known on one side only, and symbols may go by
    /// other names.
    pub fn agrees(&self, other: &TensorType) -> bool {
        let dims = |(x, y): (&Dim, &Dim)| x.known().zip(y.known()).is_none_or(|(x, y)| x == y);
        let same = |(x, y): (&Shape, &Shape)| x.len() == y.len() && x.iter().zip(y).all(dims);
        self.dtype.zip(other.dtype).is_none_or(|(x, y)| x == y)
            && self.shape.as_ref().zip(other.shape.as_ref()).is_none_or(same)
    }
}

impl Type {
    /// A tensor type.
    pub fn tensor(dtype: DType, shape: impl Into<Option<Shape>>) -> Type {
        Type::Tensor(TensorType { dtype: Some(dtype), shape: shape.into(), denotations: None })
    }

    /// The tensor type, looking through a denotation.
    pub fn as_tensor(&self) -> Option<&TensorType> {
        match self {
            Type::Tensor(t) => Some(t),
            Type::Denoted(_, inner) => inner.as_tensor(),
            _ => None,
        }
    }

    /// The tensor type, looking through a denotation.
    pub fn as_tensor_mut(&mut self) -> Option<&mut TensorType> {
        match self {
            Type::Tensor(t) => Some(t),
            Type::Denoted(_, inner) => inner.as_tensor_mut(),
            _ => None,
        }
    }
}

impl std::fmt::Display for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let inner = |t: &Option<Box<Type>>| t.as_ref().map_or("?".to_owned(), |t| t.to_string());
        match self {
            Type::Tensor(t) => write!(f, "{t}"),
            Type::Sparse(t) => write!(f, "sparse_tensor({t})"),
            Type::Sequence(t) => write!(f, "seq({})", inner(t)),
            Type::Optional(t) => write!(f, "optional({})", inner(t)),
            Type::Map(k, t) => {
                let key = DType::from_code(*k).map_or("?", DType::name);
                write!(f, "map({key}, {})", inner(t))
            }
            Type::Opaque(domain, name) => write!(f, "opaque({domain}, {name})"),
            Type::Denoted(_, t) => write!(f, "{t}"),
            Type::Unspecified => f.write_str("?"),
        }
    }
}

impl std::fmt::Display for TensorType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.dtype.map_or("?", DType::name))?;
        if let Some(shape) = &self.shape {
            let dims: Vec<String> = shape.iter().map(Dim::to_string).collect();
            write!(f, "[{}]", dims.join(","))?;
        }
        Ok(())
    }
}

/// A value: a graph input, an initializer, a result of an op, or a capture from outside.
#[derive(Clone, Debug, Default)]
pub struct Value {
    pub(super) name: String,
    /// Type and shape, as far as they are known.
    pub ty: Option<Type>,
    /// The type that the file gives. Saving writes it again for graph inputs and outputs unless `ty`
    /// contradicts it, and for other values as long as `ty` says the same.
    pub file_ty: Option<Type>,
    /// Elements of a small integer tensor of rank 0 or 1, as far as shape inference knows them.
    pub sym: Option<Arc<[Dim]>>,
    pub(super) data: Option<Tensor>,
    /// Rank in the file's `value_info`; it is written only for values that have one.
    pub declared: Option<u32>,
    /// Rank in the file's list of initializers; `u32::MAX` for new ones.
    pub init_rank: u32,
    /// Notes that the file carries on the value.
    pub notes: Option<Box<Notes>>,
    pub(super) is_input: bool,
    pub(super) is_capture: bool,
    pub(super) outputs: u32,
}

/// Notes that a file carries on a value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Notes {
    /// Doc string.
    pub doc: String,
    /// `metadata_props`.
    pub metadata: Vec<(String, String)>,
    /// Quantization annotation: pairs of key and tensor name.
    pub quant: Vec<(String, String)>,
    /// Rank of the annotation in the file.
    pub quant_rank: u32,
    /// How the file writes it.
    pub spelling: Spelling,
}

impl Value {
    /// A value with a name and perhaps a type.
    pub fn new(name: impl Into<String>, ty: Option<Type>) -> Value {
        Value { name: name.into(), ty, init_rank: u32::MAX, ..Value::default() }
    }

    /// The name; unique in its graph.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The tensor type, if it is known to be a tensor.
    pub fn tensor_type(&self) -> Option<&TensorType> {
        self.ty.as_ref().and_then(Type::as_tensor)
    }

    /// Element type, if known.
    pub fn dtype(&self) -> Option<DType> {
        self.tensor_type()?.dtype
    }

    /// Shape, if the rank is known.
    pub fn shape(&self) -> Option<&Shape> {
        self.tensor_type()?.shape.as_ref()
    }

    /// Rank, if known.
    pub fn rank(&self) -> Option<usize> {
        self.shape().map(Vec::len)
    }

    /// Sizes, if all are known.
    pub fn sizes(&self) -> Option<Vec<usize>> {
        super::known_sizes(self.shape()?)
    }
}
