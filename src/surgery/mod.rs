//! Surgery: edits of a model's interface that its user asks for.
//!
//! [`extract`] cuts a part out of a model; [`edit`] chooses outputs, fixes inputs and dims or opens them,
//! and gives names. Nothing here runs unless it is asked for, and whatever cannot be done soundly is refused
//! with the name of the value or node in the way; the model then stays as it was.

mod batch;
mod dims;
mod extract;
mod fixed;
mod names;
mod outputs;
mod place;
mod sizes;
mod symbols;

use serde::{Deserialize, Serialize};

pub use extract::{ExtractOptions, ExtractReport, extract};

use crate::ir::{Graph, Model, ValueId};
use crate::passes::freeze_inputs::freeze_inputs;
use crate::report::inspect::StrayDim;

/// Options of the step `edit`. Names are those that the model has before the step.
#[derive(Clone, Debug, Default, PartialEq, clap::Args, Serialize, Deserialize)]
#[command(next_help_heading = "Edit")]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct EditOptions {
    /// Make constants of inputs that have a default
    #[arg(long)]
    pub freeze_inputs: bool,
    /// Make exactly these values the outputs, in this order; any value of the graph will do
    #[arg(long, value_delimiter = ',', value_name = "VALUE")]
    pub set_outputs: Vec<String>,
    /// Make these values outputs, too
    #[arg(long, value_delimiter = ',', value_name = "VALUE", conflicts_with = "set_outputs")]
    pub add_outputs: Vec<String>,
    /// Set the shape of an input, such as x:1,3,224,224; a dim may be a name, or ? to leave it as
    /// it is; repeat for more inputs
    #[arg(long, value_name = "[INPUT:]DIM,…")]
    pub input_shape: Vec<String>,
    /// Fix a dim everywhere, such as batch=1; INPUT:AXIS=SIZE for a dim without a name
    #[arg(long, value_name = "NAME=SIZE")]
    pub set_dim: Vec<String>,
    /// Make a constant of an input, such as sr=16000: of one value that fills it, or of as many,
    /// split by commas, as it has elements; repeat for more inputs
    #[arg(long, value_name = "INPUT=VALUE,…")]
    pub set_input: Vec<String>,
    /// Open the batch, the first axis of all inputs, where every op provably treats samples apart
    #[arg(long, value_name = "NAME", num_args = 0..=1, require_equals = true,
          default_missing_value = "batch")]
    pub dynamic_batch: Option<String>,
    /// Remove inputs that nothing reads
    #[arg(long)]
    pub remove_unused_inputs: bool,
    /// Rename an input, an output or any other value
    #[arg(long, value_name = "OLD=NEW")]
    pub rename: Vec<String>,
    /// Rename a node
    #[arg(long, value_name = "OLD=NEW")]
    pub rename_node: Vec<String>,
    /// Rename a dim everywhere
    #[arg(long, value_name = "OLD=NEW")]
    pub rename_dim: Vec<String>,
    /// Name nodes that have no name, and number those that share one
    #[arg(long)]
    pub name_nodes: bool,
}

impl EditOptions {
    /// What narrows or widens a model and so comes before it is simplified, and what depends on
    /// what is left or only gives names.
    pub fn split(self) -> (EditOptions, EditOptions) {
        let after = EditOptions {
            remove_unused_inputs: self.remove_unused_inputs,
            rename: self.rename,
            rename_node: self.rename_node,
            rename_dim: self.rename_dim,
            name_nodes: self.name_nodes,
            ..EditOptions::default()
        };
        let before = EditOptions {
            remove_unused_inputs: false,
            rename: Vec::new(),
            rename_node: Vec::new(),
            rename_dim: Vec::new(),
            name_nodes: false,
            ..self
        };
        (before, after)
    }
}

/// What the step `edit` did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct EditReport {
    /// One line for each change.
    pub changes: Vec<String>,
}

/// Why a model cannot be edited. It then stays as it was.
#[derive(Debug, thiserror::Error)]
pub enum SurgeryError {
    /// An option cannot be understood.
    #[error("{option} {entry}: {what}")]
    Option {
        /// The flag.
        option: &'static str,
        /// What was given.
        entry: String,
        /// What is wrong with it.
        what: String,
    },
    /// No value has the name.
    #[error("the graph has no value called {name:?}{hint}")]
    NoValue {
        /// The name given.
        name: String,
        /// A name that is nearly the same, or where else it stands.
        hint: String,
    },
    /// No dim has the name.
    #[error(transparent)]
    NoDim(#[from] StrayDim),
    /// A path leads around the inputs that are to cut the graph.
    #[error("the inputs do not cut {output:?} from {input:?}, an input of the model: {path}")]
    Uncut {
        /// The output.
        output: String,
        /// The input that it still needs.
        input: String,
        /// The way from one to the other.
        path: String,
    },
    /// No output needs the input.
    #[error("no output depends on {name:?} once the other inputs are cut")]
    Unneeded {
        /// The input.
        name: String,
    },
    /// An input of the result has no known type.
    #[error("the type of {name:?} is not known, so it cannot become an input")]
    NoType {
        /// The value.
        name: String,
    },
    /// Shapes contradict each other after the change.
    #[error("{node} does not allow it: {why}")]
    Contradiction {
        /// The node, as messages call it.
        node: String,
        /// What is wrong there.
        why: String,
    },
    /// A node computes something from several samples, or cannot be followed.
    #[error("the batch cannot be opened: {node}: {why}")]
    Batch {
        /// The node or input, as messages call it.
        node: String,
        /// What is in the way.
        why: String,
    },
}

fn bad(option: &'static str, entry: &str, what: impl Into<String>) -> SurgeryError {
    SurgeryError::Option { option, entry: entry.to_owned(), what: what.into() }
}

/// Edits a model.
///
/// # Errors
/// When something is asked for that the model does not have or allow; it then stays as it was.
pub fn edit(m: &mut Model, o: &EditOptions) -> Result<EditReport, SurgeryError> {
    let mut result = m.clone();
    let mut changes = Vec::new();
    if o.freeze_inputs {
        let frozen = freeze_inputs(&mut result);
        changes.push(format!("{frozen} inputs with a default became constants"));
    }
    outputs::set(&mut result, &o.set_outputs, &o.add_outputs, &mut changes)?;
    dims::set(&mut result, &o.input_shape, &o.set_dim, &mut changes)?;
    fixed::set(&mut result, &o.set_input, &mut changes)?;
    if let Some(name) = &o.dynamic_batch {
        batch::open(&mut result, name, &mut changes)?;
    }
    if o.remove_unused_inputs {
        outputs::remove_unused_inputs(&mut result, &mut changes);
    }
    names::rename_values(&mut result, &o.rename, &mut changes)?;
    names::rename_nodes(&mut result, &o.rename_node, &mut changes)?;
    names::rename_dims(&mut result, &o.rename_dim, &mut changes)?;
    if o.name_nodes {
        names::name_nodes(&mut result, &mut changes);
    }
    *m = result;
    Ok(EditReport { changes })
}

/// The value of the main graph with this name.
fn find(g: &Graph, name: &str) -> Result<ValueId, SurgeryError> {
    g.find_value(name).ok_or_else(|| {
        let lower = name.to_lowercase();
        let near = g.values().map(|v| g.value(v).name()).filter(|n| {
            let n = n.to_lowercase();
            n.trim_start_matches('/') == lower.trim_start_matches('/')
                || n.strip_suffix(":0") == Some(&lower)
                || lower.strip_suffix(":0") == Some(&n)
        });
        let node = g.ops().find(|op| g.op(*op).name == name);
        let made = node.map(|op| g.results(op)).into_iter().flatten().flatten();
        let made: Vec<String> = made.map(|v| format!("{:?}", g.value(v).name())).collect();
        let hint = match near.min() {
            Some(near) => format!("; did you mean {near:?}?"),
            None if !made.is_empty() => {
                format!("; the node of this name makes {}", made.join(", "))
            }
            None if within_body(g, name) => "; one inside a subgraph has the name".to_owned(),
            None => String::new(),
        };
        SurgeryError::NoValue { name: name.to_owned(), hint }
    })
}

fn within_body(g: &Graph, name: &str) -> bool {
    let bodies = |op| g.op(op).bodies.iter();
    g.ops().any(|op| bodies(op).any(|b| b.find_value(name).is_some() || within_body(b, name)))
}

/// Both sides of `OLD=NEW`, split at the first `=` that leaves neither side empty.
fn pair<'a>(option: &'static str, entry: &'a str) -> Result<(&'a str, &'a str), SurgeryError> {
    match entry.split_once('=') {
        Some((old, new)) if !old.is_empty() && !new.is_empty() => Ok((old, new)),
        _ => Err(bad(option, entry, "write it as OLD=NEW")),
    }
}

#[cfg(test)]
mod tests;
