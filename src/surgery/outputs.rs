//! Which values are outputs, and which inputs stay.

use super::{SurgeryError, bad, find};
use crate::ir::{Model, ValueId};
use crate::pass::{infer_graph, remove_dead, visit_graphs};
use crate::passes::inline_functions::infer_through_calls;

/// Makes the values outputs, instead of those that the model has or beside them. What nothing needs
/// any more goes; inputs stay.
pub(super) fn set(
    m: &mut Model,
    only: &[String],
    more: &[String],
    changes: &mut Vec<String>,
) -> Result<(), SurgeryError> {
    if only.is_empty() && more.is_empty() {
        return Ok(());
    }
    let opset = m.default_opset();
    infer_graph(&mut m.graph, opset, &mut |_, _| {});
    infer_through_calls(m);
    let g = &mut m.graph;
    let mut outputs: Vec<ValueId> = Vec::new();
    let option = if only.is_empty() { "--add-outputs" } else { "--set-outputs" };
    if only.is_empty() {
        outputs.extend(g.outputs());
    }
    for name in only.iter().chain(more) {
        let v = find(g, name)?;
        if outputs.contains(&v) {
            return Err(bad(option, name, "it is an output already"));
        }
        outputs.push(v);
    }
    g.set_outputs(outputs.clone());
    for v in outputs {
        // The file may say less of an inner value than of an output.
        let facts = g.facts_mut(v);
        facts.file_ty = facts.file_ty.take().filter(|t| t.as_tensor().is_none());
    }
    remove_dead(m);
    let names: Vec<&str> = m.graph.outputs().iter().map(|v| m.graph.value(*v).name()).collect();
    changes.push(format!("the outputs are {}", names.join(", ")));
    Ok(())
}

/// Removes inputs that nothing reads, with a default or without.
pub(super) fn remove_unused_inputs(m: &mut Model, changes: &mut Vec<String>) {
    // A capture that a body no longer reads is no use.
    visit_graphs(&mut m.graph, &mut |_| {});
    let g = &mut m.graph;
    let holders: Vec<_> = g.ops().filter(|op| !g.op(*op).captures.is_empty()).collect();
    for op in holders {
        g.prune_captures(op);
    }
    let unused: Vec<ValueId> = g.inputs().iter().copied().filter(|v| g.is_unused(*v)).collect();
    for v in unused {
        changes.push(format!("input {} is gone: nothing read it", g.value(v).name()));
        g.remove_input(v);
        g.remove_value_if_unused(v);
    }
}
