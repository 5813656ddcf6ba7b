//! Sizes for the symbols of a model's inputs.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::inspect::fed_inputs;
use crate::ir::{Atom, DType, Dim, Graph, Model, OpId, Tensor, Type, ValueId};
use crate::ops::{self, EvalCx};
use crate::pass::infer_op;

/// A size that a symbol is taken to have.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Binding {
    /// Name of the symbol; `input:axis` where the file gives none.
    pub name: String,
    /// Its size.
    pub value: i64,
    /// Nobody said so: it looks like a batch and counts as 1.
    pub assumed: bool,
}

/// A copy of the main graph with sizes for symbols and freshly inferred shapes.
pub(super) struct Bound {
    pub graph: Graph,
    pub bindings: Vec<Binding>,
    pub free: Vec<String>,
}

/// Gives sizes to the symbols of the inputs: those of `dims`, and 1 for what looks like a batch.
pub(super) fn bind(model: &Model, dims: &[(String, i64)]) -> Bound {
    let mut graph = model.graph.clone();
    // Nobody overrides a default here.
    for v in graph.inputs().to_vec() {
        if graph.initializer(v).is_some() {
            graph.remove_input(v);
        }
    }
    let names = name_axes(&mut graph);
    let mut sizes: BTreeMap<String, Binding> = BTreeMap::new();
    let mut free = BTreeSet::new();
    for (name, batch) in names {
        let given = dims.iter().rev().find(|(n, _)| *n == name).map(|(_, v)| *v);
        match (given, batch) {
            (None, false) => {
                free.insert(name);
            }
            (value, _) => {
                let binding = Binding {
                    name: name.clone(),
                    value: value.unwrap_or(1),
                    assumed: given.is_none(),
                };
                sizes.insert(name, binding);
            }
        }
    }
    let lookup = |atom: &Atom| match atom {
        Atom::Name(name) => sizes.get(&**name).map(|b| Dim::Known(b.value)),
        _ => None,
    };
    if !sizes.is_empty() {
        substitute(&mut graph, &lookup);
    }
    settle(&mut graph, model.default_opset());
    Bound {
        graph,
        bindings: sizes.into_values().collect(),
        free: free.into_iter().filter(|f| !f.is_empty()).collect(),
    }
}

/// Infers shapes, and computes the small tensors that shapes depend on, as constant folding would.
fn settle(g: &mut Graph, opset: i64) {
    for op in g.order() {
        // An op that contradicts its operator keeps what the file says.
        let _ = infer_op(g, op, opset, &mut |_, _| {});
        let Some(results) = compute(g, op, opset) else { continue };
        for (v, tensor) in g.results(op).into_iter().zip(results) {
            if let Some(v) = v {
                g.set_data(v, tensor);
            }
        }
    }
}

/// Elements beyond which a tensor is data, not shape arithmetic.
const SMALL: usize = 256;

fn compute(g: &Graph, id: OpId, opset: i64) -> Option<Vec<Tensor>> {
    let op = g.op(id);
    let schema = ops::schema(op).filter(|s| s.deterministic && op.bodies.is_empty())?;
    if op.has_ref_attrs() || op.is("DequantizeLinear") || op.is("QuantizeLinear") {
        return None;
    }
    let eval = schema.eval?;
    let operands: Vec<Option<Tensor>> = g
        .operands(id)
        .into_iter()
        .map(|v| v.map(|v| known(g, v)).map_or(Some(None), |t| t.map(Some)))
        .collect::<Option<_>>()?;
    let operands: Vec<Option<&Tensor>> = operands.iter().map(Option::as_ref).collect();
    eval(&EvalCx { op, opset, operands: &operands, max_bytes: SMALL * 8 })
}

/// The value, when it is a small constant or shape inference knows all its elements.
fn known(g: &Graph, v: ValueId) -> Option<Tensor> {
    if let Some(t) = g.const_tensor(v).filter(|t| t.len() <= SMALL) {
        return Some(t.clone());
    }
    let value = g.value(v);
    let elements: Vec<i64> = value.sym.as_ref()?.iter().map(Dim::known).collect::<Option<_>>()?;
    let dims = value.sizes().filter(|_| value.dtype() == Some(DType::I64))?;
    (crate::ir::element_count(&dims)? == elements.len()).then(|| Tensor::of(&dims, &elements))
}

/// Names of all symbols of the inputs, each with whether it looks like a batch. Axes without a name
/// get one.
fn name_axes(g: &mut Graph) -> BTreeMap<String, bool> {
    let mut names: BTreeMap<String, bool> = BTreeMap::new();
    for v in fed_inputs(g).collect::<Vec<_>>() {
        let input = g.value(v).name().to_owned();
        let Some(shape) = g.value(v).shape() else { continue };
        let rank = shape.len();
        let mut renamed = shape.clone();
        for (axis, dim) in renamed.iter_mut().enumerate() {
            // Unknown, or a size of its own that inference made up.
            if dim.known().is_none() && dim.name().is_none() {
                *dim = Dim::symbol(&format!("{input}:{axis}"));
            }
            let Some(name) = dim.name() else { continue };
            let batch =
                looks_like_batch(name) || (axis == 0 && rank > 1 && !looks_like_length(name));
            *names.entry(name.to_owned()).or_default() |= batch;
        }
        if let Some(tensor) = g.facts_mut(v).ty.as_mut().and_then(Type::as_tensor_mut) {
            tensor.shape = Some(renamed);
        }
    }
    names
}

fn looks_like_batch(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    name.contains("batch") || matches!(name.as_str(), "n" | "b" | "bs")
}

fn looks_like_length(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["seq", "len", "time", "token"].iter().any(|part| name.contains(part))
}

fn substitute(g: &mut Graph, lookup: &dyn Fn(&Atom) -> Option<Dim>) {
    for v in g.values().collect::<Vec<_>>() {
        let symbolic = |d: &Dim| matches!(d, Dim::Sym(_));
        if !g.value(v).shape().is_some_and(|s| s.iter().any(symbolic)) {
            continue;
        }
        let tensor = g.facts_mut(v).ty.as_mut().and_then(Type::as_tensor_mut);
        for dim in tensor.and_then(|t| t.shape.as_mut()).into_iter().flatten() {
            *dim = dim.substitute(lookup);
        }
    }
    for op in g.ops().collect::<Vec<_>>() {
        for body in &mut g.op_facts_mut(op).bodies {
            substitute(body, lookup);
        }
    }
}
