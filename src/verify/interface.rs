//! Inputs and outputs of two models: names, order, types.

use crate::ir::{Graph, Model, Value, ValueId};
use crate::pass;

/// How inputs and outputs of the result differ from those of the original; empty when they do not.
/// Where the original declares an output as something else than what it computes, as some exporters
/// write `[]` for any shape, what it computes counts.
pub(crate) fn differences(original: &Model, result: &Model) -> Vec<String> {
    let declared = listed(original, result);
    if declared.is_empty() {
        return declared;
    }
    let mut inferred = original.clone();
    pass::infer_model(&mut inferred, &mut |_, _| {});
    listed(&inferred, result)
}

fn listed(original: &Model, result: &Model) -> Vec<String> {
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
            && !t.agrees(u)
        {
            out.push(format!("{what} {:?} was {} and is {}", v.name(), show(v), show(w)));
        }
    }
}

fn show(v: &Value) -> String {
    v.ty.as_ref().map(ToString::to_string).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inferred(declared: &str, op: &str) -> (Model, Model) {
        let text = format!(
            "<ir_version: 8, opset_import: [\"\" : 17]>
             g (float[2, 3] x) => ({declared} y) {{ y = {op} (x) }}"
        );
        let m = crate::onnx::text::parse(&text).expect("valid text");
        let mut after = m.clone();
        pass::infer_model(&mut after, &mut |_, _| {});
        (m, after)
    }

    #[test]
    fn what_the_file_declares_wrongly_may_change() {
        let (a, b) = inferred("float", "Relu");
        assert_eq!(b.graph.value(b.graph.outputs()[0]).sizes(), Some(vec![2, 3]));
        assert!(differences(&a, &b).is_empty());
        let (a, _) = inferred("float[2, 3]", "Relu");
        let (_, b) = inferred("float[3, 2]", "Transpose");
        assert_eq!(differences(&a, &b).len(), 1);
        let (a, _) = inferred("float", "Relu");
        assert_eq!(differences(&a, &b).len(), 1);
    }
}
