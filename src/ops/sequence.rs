//! Sequences and optionals.

use super::{InferCx, InferError, OpSchema, join};
use crate::ir::{AttrValue, DType, Dim, Shape, TensorType, Type};

pub(super) static SCHEMAS: &[OpSchema] = &[
    OpSchema {
        infer: |cx| {
            let code = cx.op().int_or("dtype", 1);
            let dtype = i32::try_from(code).ok().and_then(DType::from_code);
            let element = TensorType { dtype, shape: None, denotations: None };
            cx.set_type(0, sequence(Some(Type::Tensor(element))));
            Ok(())
        },
        ..OpSchema::new("SequenceEmpty")
    },
    OpSchema {
        infer: |cx| {
            let types: Option<Vec<_>> = (0..cx.arity()).map(|i| cx.ty(i)).collect();
            let element = types.and_then(|types| {
                let (first, rest) = types.split_first()?;
                Some(rest.iter().fold((*first).clone(), |a, b| join(&a, b)))
            });
            cx.set_type(0, sequence(element));
            Ok(())
        },
        ..OpSchema::new("SequenceConstruct")
    },
    OpSchema {
        infer: |cx| {
            let joined = element(cx, 0).zip(cx.ty(1)).map(|(a, b)| join(a, b));
            cx.set_type(0, sequence(joined));
            Ok(())
        },
        ..OpSchema::new("SequenceInsert")
    },
    OpSchema { infer: same_type, ..OpSchema::new("SequenceErase") },
    OpSchema {
        infer: |cx| {
            if let Some(ty) = element(cx, 0) {
                cx.set_type(0, ty.clone());
            }
            Ok(())
        },
        ..OpSchema::new("SequenceAt")
    },
    OpSchema {
        infer: |cx| {
            cx.set(0, Some(DType::I64), Some(Vec::new()));
            Ok(())
        },
        ..OpSchema::new("SequenceLength")
    },
    OpSchema { infer: infer_split, ..OpSchema::new("SplitToSequence") },
    OpSchema { infer: infer_concat, ..OpSchema::new("ConcatFromSequence") },
    OpSchema {
        infer: |cx| {
            let given = match cx.op().attr("type") {
                Some(AttrValue::Type(ty)) => Some(ty.clone()),
                _ => None,
            };
            let inner = cx.ty(0).cloned().or(given);
            cx.set_type(0, Type::Optional(inner.map(Box::new)));
            Ok(())
        },
        ..OpSchema::new("Optional")
    },
    OpSchema {
        infer: |cx| {
            let inner = match cx.ty(0) {
                Some(Type::Optional(inner)) => inner.as_deref(),
                other => other,
            };
            if let Some(ty) = inner {
                cx.set_type(0, ty.clone());
            }
            Ok(())
        },
        ..OpSchema::new("OptionalGetElement")
    },
    OpSchema {
        infer: |cx| {
            cx.set(0, Some(DType::Bool), Some(Vec::new()));
            Ok(())
        },
        ..OpSchema::new("OptionalHasElement")
    },
];

fn sequence(element: Option<Type>) -> Type {
    Type::Sequence(element.map(Box::new))
}

/// Type of the elements of the sequence in slot `i`.
fn element<'a>(cx: &InferCx<'a>, i: usize) -> Option<&'a Type> {
    match cx.ty(i)? {
        Type::Sequence(element) => element.as_deref(),
        _ => None,
    }
}

fn same_type(cx: &mut InferCx) -> Result<(), InferError> {
    if let Some(ty) = cx.ty(0) {
        cx.set_type(0, ty.clone());
    }
    Ok(())
}

fn set_sequence(cx: &mut InferCx, dtype: Option<DType>, shape: Option<Shape>) {
    let element = TensorType { dtype, shape, denotations: None };
    cx.set_type(0, sequence(Some(Type::Tensor(element))));
}

fn infer_split(cx: &mut InferCx) -> Result<(), InferError> {
    let dtype = cx.dtype(0);
    set_sequence(cx, dtype, None);
    let Some(x) = cx.shape(0) else { return Ok(()) };
    let axis = cx.axis(cx.op().int_or("axis", 0), x.len())?;
    let mut shape = x.clone();
    if !cx.has(1) {
        if cx.op().int_or("keepdims", 1) == 0 {
            shape.remove(axis);
        } else {
            shape[axis] = Dim::Known(1);
        }
        set_sequence(cx, dtype, Some(shape));
        return Ok(());
    }
    let pieces = cx.ints(1).unwrap_or_default();
    let scalar = cx.rank(1) == Some(0);
    shape[axis] = match &pieces[..] {
        // The last piece is shorter unless the size is a multiple.
        [size] if scalar && x[axis].modulo(size).known() != Some(0) => Dim::Unknown,
        [size, rest @ ..] if rest.iter().all(|d| d.same(size)) => size.clone(),
        _ => Dim::Unknown,
    };
    set_sequence(cx, dtype, Some(shape));
    Ok(())
}

fn infer_concat(cx: &mut InferCx) -> Result<(), InferError> {
    let Some(element) = element(cx, 0).and_then(Type::as_tensor) else { return Ok(()) };
    cx.set(0, element.dtype, None);
    let Some(mut shape) = element.shape.clone() else { return Ok(()) };
    let axis = cx.op().int_or("axis", 0);
    if cx.op().int_or("new_axis", 0) == 1 {
        let axis = cx.axis(axis, shape.len() + 1)?;
        shape.insert(axis, Dim::fresh());
    } else {
        let axis = cx.axis(axis, shape.len())?;
        shape[axis] = Dim::fresh();
    }
    cx.set(0, element.dtype, Some(shape));
    Ok(())
}
