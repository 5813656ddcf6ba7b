//! Sizes for the symbols of a model's inputs.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::inspect::fed_inputs;
use crate::ir::{Atom, Dim, Graph, Model, Type};
use crate::pass::infer_graph;

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
    infer_graph(&mut graph, model.default_opset(), &mut |_, _| {});
    Bound {
        graph,
        bindings: sizes.into_values().collect(),
        free: free.into_iter().filter(|f| !f.is_empty()).collect(),
    }
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
            if !dim.is_some() {
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
