//! Cutting a part out of a model.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use super::{SurgeryError, bad, find};
use crate::ir::{Graph, Model, OpId, Value, ValueId, count_nodes};
use crate::pass::{infer_graph, remove_dead};
use crate::passes::inline_functions::{drop_uncalled, infer_through_calls};

/// Options of the step `extract`.
#[derive(Clone, Debug, Default, PartialEq, clap::Args, Serialize, Deserialize)]
#[command(next_help_heading = "Extract")]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ExtractOptions {
    /// Values that become the inputs, in this order; any value of the graph will do [default: the
    /// inputs that the outputs need]
    #[arg(long, value_delimiter = ',', value_name = "VALUE")]
    pub inputs: Vec<String>,
    /// Values that become the outputs, in this order [default: the outputs of the model]
    #[arg(long, value_delimiter = ',', value_name = "VALUE")]
    pub outputs: Vec<String>,
}

/// What the step `extract` did.
#[derive(Clone, Debug, Serialize)]
pub struct ExtractReport {
    /// Inputs of the part: name and type.
    pub inputs: Vec<(String, String)>,
    /// Outputs of the part: name and type.
    pub outputs: Vec<(String, String)>,
    /// Number of nodes that it has.
    pub nodes: usize,
    /// Number of nodes that the model had.
    pub nodes_before: usize,
}

/// Reduces a model to what lies between two sets of values. Types and shapes of the cuts come from
/// inference; captured values are followed into subgraphs. Functions that nothing calls go.
///
/// # Errors
/// When a name is no value, an output needs an input of the model that is not cut off, or an input
/// has no known type.
pub fn extract(m: &mut Model, o: &ExtractOptions) -> Result<ExtractReport, SurgeryError> {
    let mut part = m.clone();
    let nodes_before = count_nodes(&m.graph);
    let opset = m.default_opset();
    infer_graph(&mut part.graph, opset, &mut |_, _| {});
    infer_through_calls(&mut part);
    let g = &mut part.graph;
    let cuts = lookup(g, "--inputs", &o.inputs)?;
    let outputs = match o.outputs.is_empty() {
        true => g.outputs().to_vec(),
        false => lookup(g, "--outputs", &o.outputs)?,
    };
    if let Some(v) = outputs.iter().find(|v| cuts.contains(v)) {
        return Err(bad("--outputs", g.value(*v).name(), "it is an input as well"));
    }
    let inputs = needed_inputs(g, &cuts, &outputs)?;
    for v in &cuts {
        cut(g, *v)?;
    }
    g.set_outputs(outputs.clone());
    g.set_inputs(inputs);
    for v in cuts.iter().chain(&outputs) {
        let facts = g.facts_mut(*v);
        facts.file_ty = facts.file_ty.take().filter(|t| t.as_tensor().is_none());
    }
    remove_dead(&mut part);
    drop_uncalled(&mut part, &|_| true);
    *m = part;
    let g = &m.graph;
    let ports = |list: &[ValueId]| {
        let ty = |v: &Value| v.ty.as_ref().map(ToString::to_string).unwrap_or_default();
        list.iter().map(|v| (g.value(*v).name().to_owned(), ty(g.value(*v)))).collect()
    };
    Ok(ExtractReport {
        inputs: ports(g.inputs()),
        outputs: ports(g.outputs()),
        nodes: count_nodes(g),
        nodes_before,
    })
}

fn lookup(g: &Graph, option: &'static str, names: &[String]) -> Result<Vec<ValueId>, SurgeryError> {
    let mut found = Vec::new();
    for name in names {
        let v = find(g, name)?;
        if found.contains(&v) {
            return Err(bad(option, name, "it stands there twice"));
        }
        found.push(v);
    }
    Ok(found)
}

/// The cuts, and after them the inputs of the model that the part needs: all of them when nothing is
/// cut, else only those with a default.
fn needed_inputs(
    g: &Graph,
    cuts: &[ValueId],
    outputs: &[ValueId],
) -> Result<Vec<ValueId>, SurgeryError> {
    // From each value that is needed, one that needs it, and the op in between.
    let mut reader: HashMap<ValueId, Option<(OpId, ValueId)>> = HashMap::new();
    let mut open: Vec<ValueId> = Vec::new();
    for v in outputs {
        reader.insert(*v, None);
        open.push(*v);
    }
    while let Some(v) = open.pop() {
        let Some(op) = g.producer_op(v).filter(|_| !cuts.contains(&v)) else { continue };
        for read in g.reads(op) {
            reader.entry(read).or_insert_with(|| {
                open.push(read);
                Some((op, v))
            });
        }
    }
    let fed = |v: &ValueId| g.initializer(*v).is_none() && !cuts.contains(v);
    let needed: Vec<ValueId> =
        g.inputs().iter().copied().filter(|v| reader.contains_key(v)).collect();
    if let Some(v) = needed.iter().find(|v| !cuts.is_empty() && fed(v)) {
        return Err(uncut(g, *v, &reader));
    }
    if let Some(v) = cuts.iter().find(|v| !reader.contains_key(v)) {
        return Err(SurgeryError::Unneeded { name: g.value(*v).name().to_owned() });
    }
    let rest = needed.into_iter().filter(|v| !cuts.contains(v));
    Ok(cuts.iter().copied().chain(rest).collect())
}

/// Ops that a path in a message names at most.
const LONGEST: usize = 8;

fn uncut(
    g: &Graph,
    input: ValueId,
    reader: &HashMap<ValueId, Option<(OpId, ValueId)>>,
) -> SurgeryError {
    let mut ops = Vec::new();
    let mut at = input;
    while let Some(Some((op, next))) = reader.get(&at) {
        ops.push(g.label(*op));
        at = *next;
    }
    let left_out = ops.len().saturating_sub(LONGEST);
    if left_out > 0 {
        ops.splice(LONGEST / 2..LONGEST / 2 + left_out, [format!("… {left_out} more …")]);
    }
    let name = |v: ValueId| g.value(v).name().to_owned();
    let path = match ops.is_empty() {
        true => "it is the output itself".to_owned(),
        false => ops.join(" → "),
    };
    SurgeryError::Uncut { output: name(at), input: name(input), path }
}

/// Takes a value from whatever makes it, to be fed from now on.
fn cut(g: &mut Graph, v: ValueId) -> Result<(), SurgeryError> {
    let value = g.value(v);
    if value.ty.as_ref().and_then(|t| t.as_tensor()).is_some_and(|t| t.dtype.is_none())
        || value.ty.is_none()
    {
        return Err(SurgeryError::NoType { name: value.name().to_owned() });
    }
    if let Some((op, slot)) = g.producer(v) {
        // An op that stays for the sake of other results keeps all of them.
        let stump = Value::new(format!("{}_before_cut", value.name()), value.ty.clone());
        let stump = g.add_value(stump);
        g.set_result(op, slot, Some(stump));
    } else if !g.is_input(v) {
        g.take_data(v);
    }
    Ok(())
}
