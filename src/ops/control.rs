//! Operators with subgraphs.

use super::{InferCx, InferError, OpSchema, join};
use crate::ir::{DType, Dim, Graph, Op, Shape, Tensor, TensorType, Type};

pub(super) static SCHEMAS: &[OpSchema] = &[
    OpSchema { infer: infer_if, ..OpSchema::new("If") },
    OpSchema {
        infer: infer_loop,
        body_inputs: Some(|cx, _| loop_inputs(cx)),
        carried: Some(|op| (0..loop_states(op)).map(|k| (k + 2, k + 1)).collect()),
        ..OpSchema::new("Loop")
    },
    OpSchema {
        infer: infer_scan,
        body_inputs: Some(|cx, _| scan_inputs(cx).unwrap_or_default()),
        carried: Some(|op| (0..scan_states(op).unwrap_or(0)).map(|k| (k, k)).collect()),
        ..OpSchema::new("Scan")
    },
    OpSchema {
        infer: infer_sequence_map,
        body_inputs: Some(|cx, _| sequence_map_inputs(cx)),
        ..OpSchema::new("SequenceMap")
    },
];

fn output_type(body: &Graph, i: usize) -> Option<&Type> {
    body.outputs().get(i).and_then(|v| body.value(*v).ty.as_ref())
}

fn infer_if(cx: &mut InferCx) -> Result<(), InferError> {
    let op = cx.op();
    let (Some(yes), Some(no)) = (op.body("then_branch"), op.body("else_branch")) else {
        return Err("a branch is missing".into());
    };
    let condition = cx.known_ints(0).and_then(|c| c.first().copied());
    for i in 0..op.result_count() {
        let (a, b) = (output_type(yes, i), output_type(no, i));
        let ty = match condition {
            Some(0) => b.cloned(),
            Some(_) => a.cloned(),
            None => a.zip(b).map(|(a, b)| join(a, b)),
        };
        if let Some(ty) = ty {
            cx.set_type(i, ty);
        }
    }
    Ok(())
}

/// Number of values that a `Loop` carries from one run of its body to the next.
fn loop_states(op: &Op) -> usize {
    op.arity().saturating_sub(2)
}

fn loop_inputs(cx: &InferCx) -> Vec<Option<Type>> {
    // Scalars, or, as runtimes allow where the body declares it, vectors of one element.
    let shape = |i: usize| {
        let body = cx.op().bodies.first();
        let rank = body.and_then(|b| b.value(*b.inputs().get(i)?).rank());
        if rank == Some(1) { vec![Dim::Known(1)] } else { Vec::new() }
    };
    let mut types =
        vec![Some(Type::tensor(DType::I64, shape(0))), Some(Type::tensor(DType::Bool, shape(1)))];
    types.extend((0..loop_states(cx.op())).map(|k| cx.ty(k + 2).cloned()));
    types
}

fn infer_loop(cx: &mut InferCx) -> Result<(), InferError> {
    let Some(body) = cx.op().body("body") else { return Err("body is missing".into()) };
    let states = loop_states(cx.op());
    for k in 0..states {
        if let (Some(first), Some(next)) = (cx.ty(k + 2), output_type(body, k + 1)) {
            cx.set_type(k, join(first, next));
        }
    }
    let trips = trip_count(cx, body);
    for k in states..cx.op().result_count() {
        let stacked = output_type(body, k + 1).and_then(|ty| stack(ty, 0, &trips));
        if let Some(ty) = stacked {
            cx.set_type(k, ty);
        }
    }
    Ok(())
}

/// How often the body runs, when nothing but the trip count can end the loop.
fn trip_count(cx: &InferCx, body: &Graph) -> Dim {
    let starts = !cx.has(1) || is_true(cx.tensor(1));
    match cx.ints(0).as_deref() {
        Some([n]) if starts && loop_goes_on(body) => n.larger(&Dim::Known(0)),
        _ => Dim::fresh(),
    }
}

fn is_true(t: Option<&Tensor>) -> bool {
    t.and_then(Tensor::to_i64) == Some(vec![1])
}

/// The condition that the body of a `Loop` gives out holds whenever the one that it gets does.
pub(crate) fn loop_goes_on(body: &Graph) -> bool {
    let Some(&out) = body.outputs().first() else { return false };
    let mut v = out;
    while let Some(op) = body.producer_op(v).filter(|&op| body.op(op).is("Identity")) {
        match body.operand(op, 0) {
            Some(from) => v = from,
            None => break,
        }
    }
    Some(&v) == body.inputs().get(1)
        || is_true(body.const_tensor(v))
        || body
            .producer_op(v)
            .is_some_and(|op| body.op(op).is("Constant") && is_true(body.op(op).tensor("value")))
}

/// Tensors of type `ty` put together along a new axis.
fn stack(ty: &Type, axis: i64, count: &Dim) -> Option<Type> {
    let tensor = ty.as_tensor()?;
    let shape = tensor.shape.as_ref().and_then(|s| {
        let axis = super::normalize_axis(axis, s.len() + 1)?;
        let mut shape: Shape = s.clone();
        shape.insert(axis, count.clone());
        Some(shape)
    });
    Some(Type::Tensor(TensorType { dtype: tensor.dtype, shape, denotations: None }))
}

/// Number of state variables of a `Scan`; version 8 has the lengths of the sequences before them.
fn scan_states(op: &Op) -> Option<usize> {
    let scanned = usize::try_from(op.int("num_scan_inputs")?).ok()?;
    let body = op.body("body")?;
    body.inputs().len().checked_sub(scanned)
}

/// Operand slot of the first state variable.
fn scan_start(cx: &InferCx) -> usize {
    usize::from(cx.opset() < 9)
}

fn axis_of(op: &Op, attr: &str, k: usize) -> i64 {
    op.ints(attr).and_then(|a| a.get(k)).copied().unwrap_or(0)
}

/// `shape` without its axis `axis`, and the size of that.
fn without(shape: &Shape, axis: i64) -> Option<(Shape, Dim)> {
    let axis = super::normalize_axis(axis, shape.len())?;
    let mut rest = shape.clone();
    let size = rest.remove(axis);
    Some((rest, size))
}

fn scan_inputs(cx: &InferCx) -> Option<Vec<Option<Type>>> {
    let op = cx.op();
    let (states, start) = (scan_states(op)?, scan_start(cx));
    let one_less = |ty: &Type, axis: i64| {
        let tensor = ty.as_tensor()?;
        let shape = tensor.shape.as_ref().and_then(|s| without(s, axis)).map(|s| s.0);
        Some(Type::Tensor(TensorType { dtype: tensor.dtype, shape, denotations: None }))
    };
    let part = |k: usize| {
        let mut ty = cx.ty(start + k)?.clone();
        if start == 1 {
            ty = one_less(&ty, 0)?;
        }
        match k.checked_sub(states) {
            Some(k) => one_less(&ty, axis_of(op, "scan_input_axes", k)),
            None => Some(ty),
        }
    };
    Some((start..op.arity()).map(|i| part(i - start)).collect())
}

fn infer_scan(cx: &mut InferCx) -> Result<(), InferError> {
    let op = cx.op();
    let Some(body) = op.body("body") else { return Err("body is missing".into()) };
    let Some(states) = scan_states(op) else { return Ok(()) };
    let start = scan_start(cx);
    let batched = start == 1;
    let first = cx.shape(start + states);
    let steps = first.and_then(|s| {
        let axis = axis_of(op, "scan_input_axes", 0);
        without(s, if batched { axis + 1 } else { axis }).map(|s| s.1)
    });
    let batch = first.and_then(|s| s.first()).cloned().unwrap_or(Dim::Unknown);
    let steps = steps.unwrap_or(Dim::Unknown);
    for k in 0..op.result_count() {
        let Some(ty) = output_type(body, k) else { continue };
        let ty = match k.checked_sub(states) {
            Some(k) => stack(ty, axis_of(op, "scan_output_axes", k), &steps),
            None if batched => Some(ty.clone()),
            None => cx.ty(start + k).map(|first| join(first, ty)),
        };
        let ty = if batched { ty.and_then(|ty| stack(&ty, 0, &batch)) } else { ty };
        if let Some(ty) = ty {
            cx.set_type(k, ty);
        }
    }
    Ok(())
}

fn sequence_map_inputs(cx: &InferCx) -> Vec<Option<Type>> {
    let element = |ty: &Type| match ty {
        Type::Sequence(inner) => inner.as_deref().cloned(),
        other => Some(other.clone()),
    };
    (0..cx.arity()).map(|i| cx.ty(i).and_then(element)).collect()
}

fn infer_sequence_map(cx: &mut InferCx) -> Result<(), InferError> {
    let Some(body) = cx.op().body("body") else { return Err("body is missing".into()) };
    for k in 0..cx.op().result_count() {
        if let Some(ty) = output_type(body, k) {
            cx.set_type(k, Type::Sequence(Some(Box::new(ty.clone()))));
        }
    }
    Ok(())
}
