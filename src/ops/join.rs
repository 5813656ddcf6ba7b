//! What holds of either of two values.

use crate::ir::{Dim, Shape, TensorType, Type};

/// The type of a value that has type `a` or type `b`: sizes and ranks that differ are unknown.
pub fn join(a: &Type, b: &Type) -> Type {
    match (a, b) {
        (Type::Denoted(_, a), b) => join(a, b),
        (a, Type::Denoted(_, b)) => join(a, b),
        (Type::Tensor(a), Type::Tensor(b)) => Type::Tensor(join_tensors(a, b)),
        (Type::Sparse(a), Type::Sparse(b)) => Type::Sparse(join_tensors(a, b)),
        (Type::Sequence(a), Type::Sequence(b)) => Type::Sequence(join_inner(a, b)),
        (Type::Optional(a), Type::Optional(b)) => Type::Optional(join_inner(a, b)),
        (a, b) if a == b => a.clone(),
        _ => Type::Unspecified,
    }
}

fn join_inner(a: &Option<Box<Type>>, b: &Option<Box<Type>>) -> Option<Box<Type>> {
    Some(Box::new(join(a.as_ref()?, b.as_ref()?)))
}

fn join_tensors(a: &TensorType, b: &TensorType) -> TensorType {
    TensorType {
        dtype: a.dtype.filter(|_| a.dtype == b.dtype),
        shape: a.shape.as_ref().zip(b.shape.as_ref()).and_then(|(a, b)| join_shapes(a, b)),
        denotations: None,
    }
}

fn join_shapes(a: &Shape, b: &Shape) -> Option<Shape> {
    let dim = |(a, b): (&Dim, &Dim)| if a.same(b) { a.clone() } else { Dim::Unknown };
    (a.len() == b.len()).then(|| a.iter().zip(b).map(dim).collect())
}
