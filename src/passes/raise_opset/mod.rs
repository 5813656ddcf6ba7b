//! # raise-opset
//!
//! ## What it does
//! Converts a model to a later version of the default operator set. It is no part of simplifying;
//! steps that need a later version call it.
//!
//! ## Before/after
//! ```text
//! <opset 11>                          <opset 13>
//! y = Unsqueeze <axes = [0]> (x)      y = Unsqueeze (x, axes)
//! ```
//!
//! ## When it applies
//! From any version, to at most version 25. Bodies and local functions are converted too; each
//! function from the version that it imports.
//!
//! ## What it preserves
//! Every result: operators whose meaning changed are rewritten to mean the same (`Softmax` before
//! version 13 works on a flattened tensor, `Upsample` becomes `Resize`). Names, inputs and outputs.
//!
//! ## Limits
//! Where a later version cannot say the same, the conversion fails and names the operator:
//! `BatchNormalization` in training mode or not spatial, `Scan` of version 8, `Resize` of version 10
//! with unknown scales. The model then stays as it was.

mod adapters;
mod early;
mod resize;
mod step;

use std::borrow::Cow;

use step::Step;

use crate::ir::{Graph, Model};
use crate::ops;
use crate::pass::{infer_graph, visit_graphs};

/// Versions that can be converted from and to.
const OLDEST: i64 = 1;
const NEWEST: i64 = 25;

/// Why a model cannot be converted to another version of the default operator set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RaiseError {
    /// There is no way between the two versions.
    #[error(
        "cannot convert from version {from} of the operator set to {to}: only versions {OLDEST} to {NEWEST}, upwards"
    )]
    Version {
        /// Version of the model.
        from: i64,
        /// Version wanted.
        to: i64,
    },
    /// An operator cannot say the same in the later version.
    #[error("{op} cannot be converted to version {version} of the operator set: {why}")]
    Operator {
        /// The op, as messages call it.
        op: String,
        /// The version at which it stopped.
        version: i64,
        /// What is in the way.
        why: Cow<'static, str>,
    },
}

/// Converts a model to version `to` of the default operator set, and raises `ir_version` to what
/// that needs. A model that is there already, or beyond, stays as it is.
///
/// # Errors
/// For versions out of range, and for an operator that cannot be converted; the model then stays as
/// it was.
pub fn raise_opset(m: &mut Model, to: i64) -> Result<(), RaiseError> {
    let from = m.default_opset();
    if from >= to {
        return Ok(());
    }
    let mut graph = m.graph.clone();
    raise_graph(&mut graph, from, to)?;
    let mut functions = m.functions.clone();
    for f in &mut functions {
        let own = crate::ir::opset_of(&f.opsets, "").unwrap_or(from);
        if own < to {
            raise_graph(&mut f.graph, own, to)?;
            set_opset(&mut f.opsets, to);
        }
    }
    (m.graph, m.functions) = (graph, functions);
    set_opset(&mut m.opsets, to);
    m.ir_version = m.ir_version.max(ir_version(to));
    Ok(())
}

fn set_opset(opsets: &mut Vec<(String, i64)>, to: i64) {
    match opsets.iter_mut().find(|(domain, _)| domain.is_empty()) {
        Some(entry) => entry.1 = to,
        None => opsets.push((String::new(), to)),
    }
}

/// The first IR version that allows a version of the default operator set. At least 4: before that
/// every initializer must be a graph input.
fn ir_version(opset: i64) -> i64 {
    match opset {
        ..=9 => 4,
        10 => 5,
        11 => 6,
        12..=14 => 7,
        15..=18 => 8,
        19..=20 => 9,
        21..=22 => 10,
        23 => 11,
        24 => 12,
        _ => 13,
    }
}

fn raise_graph(g: &mut Graph, from: i64, to: i64) -> Result<(), RaiseError> {
    if from < OLDEST || to > NEWEST {
        return Err(RaiseError::Version { from, to });
    }
    infer_graph(g, from, &mut |_, _| {});
    let mut result = Ok(());
    visit_graphs(g, &mut |g| {
        if result.is_ok() {
            result = raise_ops(g, from, to);
        }
    });
    result
}

fn raise_ops(g: &mut Graph, from: i64, to: i64) -> Result<(), RaiseError> {
    for version in from + 1..=to {
        for op in g.order() {
            let node = g.op(op);
            if !node.domain.is_empty() {
                continue;
            }
            let label = g.label(op);
            let fail = |why| RaiseError::Operator { op: label, version, why };
            if ops::schema(node).is_none() {
                return Err(fail("the operator is not known".into()));
            }
            let adapter = adapters::find(&node.op_type, version);
            if version == 6 {
                g.edit_op(op).remove_attr("consumed_inputs");
            }
            if let Some(adapter) = adapter {
                adapter(&mut Step { g, op, to }).map_err(fail)?;
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
