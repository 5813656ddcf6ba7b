//! Shape and type inference over graphs, by the operators' schemas.

use crate::ir::{Dim, Graph, Model, OpId, Shape, TensorType, Type, Value};
use crate::ops::{self, Found, InferCx};

/// Infers types, shapes and small integer values of everything in the graph, bodies included. Sizes
/// of graph inputs that the file leaves open become symbols of their own. `report` is told of ops
/// that contradict their operator.
pub fn infer_graph(g: &mut Graph, opset: i64, report: &mut dyn FnMut(String, String)) {
    for v in g.inputs().to_vec() {
        let shape = g.facts_mut(v).ty.as_mut().and_then(Type::as_tensor_mut);
        for dim in shape.and_then(|t| t.shape.as_mut()).into_iter().flatten() {
            if !dim.is_some() {
                *dim = Dim::fresh();
            }
        }
    }
    infer_ops(g, opset, report);
}

fn infer_ops(g: &mut Graph, opset: i64, report: &mut dyn FnMut(String, String)) {
    for op in g.order() {
        if let Err(what) = infer_op(g, op, opset, report) {
            report(g.label(op), what.to_string());
        }
    }
}

/// Infers the results of one op and what is in its bodies.
///
/// # Errors
/// When the op contradicts its operator; its results are left as they were.
pub fn infer_op(
    g: &mut Graph,
    id: OpId,
    opset: i64,
    report: &mut dyn FnMut(String, String),
) -> Result<(), ops::InferError> {
    let schema = ops::any_schema(g.op(id));
    let since = Dim::next_fresh();
    if !g.op(id).bodies.is_empty() {
        infer_bodies(g, id, opset, schema, report);
    }
    // Inside a function an attribute may be the caller's to say.
    let Some(schema) = schema.filter(|_| !g.op(id).has_ref_attrs()) else { return Ok(()) };
    let mut cx = InferCx::new(g, id, opset);
    (schema.infer)(&mut cx)?;
    let found = cx.finish();
    for (v, found) in g.results(id).into_iter().zip(found) {
        if let Some(v) = v {
            merge(g.facts_mut(v), found, since);
        }
    }
    Ok(())
}

/// What a contradiction means in a branch of the If of this label.
fn in_branch(what: String, label: &str) -> String {
    const WAY_OUT: &str = "ONNX Runtime refuses such a model; `--set-input` fixes what decides";
    if what.ends_with(WAY_OUT) {
        return what;
    }
    format!("{what}, so a branch of {label} cannot run: {WAY_OUT}")
}

fn infer_bodies(
    g: &mut Graph,
    id: OpId,
    opset: i64,
    schema: Option<&ops::OpSchema>,
    report: &mut dyn FnMut(String, String),
) {
    g.refresh_captures(id);
    let count = g.op(id).bodies.len();
    let inputs: Vec<Vec<Option<Type>>> = match schema.and_then(|s| s.body_inputs) {
        Some(rule) => {
            let cx = InferCx::new(g, id, opset);
            (0..count).map(|i| rule(&cx, i)).collect()
        }
        None => vec![Vec::new(); count],
    };
    let carried = schema.and_then(|s| s.carried).map(|rule| rule(g.op(id))).unwrap_or_default();
    let branch_of = g.op(id).is("If").then(|| g.label(id));
    let report = &mut |op: String, what: String| match &branch_of {
        Some(label) => report(op, in_branch(what, label)),
        None => report(op, what),
    };
    let mut bodies = std::mem::take(&mut g.op_facts_mut(id).bodies);
    for (body, mut types) in bodies.iter_mut().zip(inputs) {
        if !carried.is_empty() {
            settle(body, &mut types, &carried, opset);
        }
        infer_body(body, &types, opset, report);
    }
    g.op_facts_mut(id).bodies = bodies;
}

fn infer_body(
    body: &mut Graph,
    inputs: &[Option<Type>],
    opset: i64,
    report: &mut dyn FnMut(String, String),
) {
    for (v, ty) in body.inputs().to_vec().into_iter().zip(inputs) {
        if let Some(ty) = ty {
            merge(body.facts_mut(v), Found { ty: Some(ty.clone()), sym: None }, Dim::next_fresh());
        }
    }
    infer_ops(body, opset, report);
}

/// Runs of a body after which carried values that still change lose their shape.
const MAX_ROUNDS: usize = 4;

/// Widens the types of carried inputs until they hold of every run of the body.
fn settle(body: &Graph, inputs: &mut [Option<Type>], carried: &[(usize, usize)], opset: i64) {
    for round in 0..=MAX_ROUNDS {
        let mut trial = body.clone();
        infer_body(&mut trial, inputs, opset, &mut |_, _| {});
        let mut settled = true;
        for &(i, o) in carried {
            let Some(before) = inputs.get_mut(i) else { continue };
            let after = trial.outputs().get(o).and_then(|v| trial.value(*v).ty.as_ref());
            let wide = before.as_ref().zip(after).map(|(a, b)| widened(a, b, round));
            settled &= *before == wide;
            *before = wide;
        }
        if settled {
            return;
        }
    }
}

fn widened(before: &Type, after: &Type, round: usize) -> Type {
    let mut ty = ops::join(before, after);
    if round + 1 >= MAX_ROUNDS
        && ty != *before
        && let Some(tensor) = ty.as_tensor_mut()
    {
        tensor.shape = None;
    }
    ty
}

/// Takes what was found where it says more than, or something else than, what was there: the file's
/// own `value_info` is only trusted where inference knows nothing. `since` tells sizes that this
/// inference made up.
fn merge(value: &mut Value, found: Found, since: u64) {
    value.sym = found.sym;
    let Some(new) = found.ty else { return };
    match (value.ty.as_mut().and_then(Type::as_tensor_mut), new) {
        (Some(old), Type::Tensor(new)) => merge_tensor(old, new, since),
        (_, new) => {
            if value.ty.is_none() || !matches!(new, Type::Unspecified) {
                value.ty = Some(new);
            }
        }
    }
}

fn merge_tensor(old: &mut TensorType, new: TensorType, since: u64) {
    if new.dtype.is_some() {
        old.dtype = new.dtype;
    }
    let Some(mut shape) = new.shape else { return };
    if let Some(before) = old.shape.as_ref().filter(|s| s.len() == shape.len()) {
        fill_unknown(&mut shape, before, since);
    }
    old.shape = Some(shape);
}

/// Dims that inference does not know, or knows only as a size of their own, keep what was there. A
/// size of another value's own says more than one that was made up here before.
fn fill_unknown(shape: &mut Shape, before: &Shape, since: u64) {
    for (dim, before) in shape.iter_mut().zip(before) {
        let newest = newest_fresh(dim);
        let own = newest.is_some_and(|n| n >= since || newest_fresh(before).is_none());
        if !dim.is_some() || (own && before.is_some()) {
            *dim = before.clone();
        }
    }
}

/// Number of the newest size in the dim that equals no other; none where it has no such size.
fn newest_fresh(dim: &Dim) -> Option<u64> {
    let mut newest = None;
    dim.for_each_symbol(&mut |a| {
        if let crate::ir::Atom::Fresh(n) = a {
            newest = newest.max(Some(*n));
        }
    });
    newest
}

/// Infers over the main graph and the bodies of local functions.
pub fn infer_model(m: &mut Model, report: &mut dyn FnMut(String, String)) {
    let opset = m.default_opset();
    infer_graph(&mut m.graph, opset, report);
    for f in &mut m.functions {
        let opset = crate::ir::opset_of(&f.opsets, "").unwrap_or(opset);
        infer_graph(&mut f.graph, opset, report);
    }
}
