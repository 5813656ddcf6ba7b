//! Inputs and outputs of two models: names, order, types.

use crate::ir::{Dim, Graph, Model, TensorType, Value, ValueId};

/// How inputs and outputs of the result differ from those of the original; empty when they do not.
pub(crate) fn differences(original: &Model, result: &Model) -> Vec<String> {
    let (a, b) = (&original.graph, &result.graph);
    let needed = |g: &Graph| -> Vec<ValueId> {
        g.inputs().iter().copied().filter(|v| g.initializer(*v).is_none()).collect()
    };
    let mut out = Vec::new();
    compare("input", a, &needed(a), b, &needed(b), &mut out);
    compare("output", a, a.outputs(), b, b.outputs(), &mut out);
    out
}

fn compare(
    what: &str,
    a: &Graph,
    before: &[ValueId],
    b: &Graph,
    after: &[ValueId],
    out: &mut Vec<String>,
) {
    let names = |g: &Graph, list: &[ValueId]| -> Vec<String> {
        list.iter().map(|v| g.value(*v).name().to_owned()).collect()
    };
    let (x, y) = (names(a, before), names(b, after));
    if x != y {
        out.push(format!("the {what}s were {} and are {}", x.join(", "), y.join(", ")));
        return;
    }
    for (v, w) in before.iter().zip(after) {
        let (v, w) = (a.value(*v), b.value(*w));
        if let (Some(t), Some(u)) = (v.tensor_type(), w.tensor_type())
            && !compatible(t, u)
        {
            out.push(format!("{what} {:?} was {} and is {}", v.name(), show(v), show(w)));
        }
    }
}

fn show(v: &Value) -> String {
    v.ty.as_ref().map(ToString::to_string).unwrap_or_default()
}

/// The same as far as both are known: dims may be known on one side only, and symbols may go by
/// other names.
fn compatible(a: &TensorType, b: &TensorType) -> bool {
    let dtypes = a.dtype.zip(b.dtype).is_none_or(|(x, y)| x == y);
    let dims = |(x, y): (&Dim, &Dim)| x.known().zip(y.known()).is_none_or(|(x, y)| x == y);
    let shapes = a
        .shape
        .as_ref()
        .zip(b.shape.as_ref())
        .is_none_or(|(x, y)| x.len() == y.len() && x.iter().zip(y).all(dims));
    dtypes && shapes
}
