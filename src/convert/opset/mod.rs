//! Conversion to another version of the default operator set, upwards and downwards.
//!
//! An op goes from version to version. Where its operator changed, an adapter rewrites it to mean
//! the same (`Softmax` before version 13 works on a flattened tensor, `Upsample` became `Resize`);
//! operators that an older version lacks are decomposed into ones that it has. What no adapter does
//! is done by the operators' signatures in [`versions`]: attributes that an older version does not
//! know go where they say what is the case anyway, and whatever does not fit the signature of the
//! version that it comes to stops the conversion, element types included.
//!
//! Bodies and local functions are converted too, each function from the version that it imports.
//! Names, inputs and outputs stay.

mod adapters;
mod down;
mod early;
mod resize;
mod step;

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::Serialize;
use step::Step;

use crate::ir::{DType, Graph, Model, OpId, attr_tensors, for_each_graph};
use crate::ops::versions::{NEWEST_OPSET, OpVersion, version_of, versions};
use crate::pass::{infer_graph, infer_op, remove_dead, visit_graphs};
use crate::passes::inline_functions::infer_through_calls;

/// The lowest version that a model can be converted to: with it broadcasting got its present rules,
/// and no runtime in use reads anything older.
const LOWEST_TARGET: i64 = 7;

/// Why a model cannot be converted to another version of the default operator set.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpsetError {
    /// There is no way between the two versions.
    #[error(
        "cannot convert from version {from} of the operator set to {to}: up to {NEWEST_OPSET} and down to {LOWEST_TARGET} is possible"
    )]
    Version {
        /// Version of the model.
        from: i64,
        /// Version wanted.
        to: i64,
    },
    /// An operator cannot say the same in the other version.
    #[error("{op} cannot be converted to version {version} of the operator set: {why}")]
    Operator {
        /// The op, as messages call it.
        op: String,
        /// The version that it could not be converted to.
        version: i64,
        /// What is in the way.
        why: Cow<'static, str>,
    },
}

/// Ops of one operator that were rewritten.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rewritten {
    /// The operator.
    pub op_type: String,
    /// The version that they were rewritten for.
    pub version: i64,
    /// How many.
    pub count: usize,
}

/// Number of ops rewritten, by version and operator.
type Counts = BTreeMap<(i64, String), usize>;

/// Converts a model to version `to` of the default operator set, and its IR version to one that goes
/// with it. A model that is there already stays as it is.
///
/// # Errors
/// For versions out of range, and for an operator that cannot be converted; the model then stays as
/// it was.
pub fn convert_opset(m: &mut Model, to: i64) -> Result<Vec<Rewritten>, OpsetError> {
    let from = m.default_opset();
    let wrong = from < 1 || from.max(to) > NEWEST_OPSET || (to < from && to < LOWEST_TARGET);
    if to < 1 || (wrong && from != to) {
        return Err(OpsetError::Version { from, to });
    }
    let mut counts = Counts::new();
    let mut result = m.clone();
    infer_through_calls(&mut result);
    convert_graph(&mut result.graph, from, to, &mut counts)?;
    for f in &mut result.functions {
        let own = crate::ir::opset_of(&f.opsets, "").unwrap_or(from);
        convert_graph(&mut f.graph, own, to, &mut counts)?;
        if own != to {
            set_opset(&mut f.opsets, to);
        }
    }
    if from == to && counts.is_empty() {
        return Ok(Vec::new());
    }
    set_opset(&mut result.opsets, to);
    result.ir_version = match to < from {
        false => result.ir_version.max(ir_version(to)),
        true => result.ir_version.clamp(ir_version(1), ir_version(to).max(needed_ir(&result))),
    };
    remove_dead(&mut result);
    *m = result;
    let rewritten = counts.into_iter();
    Ok(rewritten.map(|((version, op_type), count)| Rewritten { op_type, version, count }).collect())
}

/// As [`convert_opset`], but a model that is beyond the version already stays as it is.
///
/// # Errors
/// As [`convert_opset`].
pub fn raise_opset(m: &mut Model, to: i64) -> Result<(), OpsetError> {
    if m.default_opset() < to {
        convert_opset(m, to)?;
    }
    Ok(())
}

/// Sets the version of the default domain; of entries that name it twice, as merged models have
/// them, the first stays.
fn set_opset(opsets: &mut Vec<(String, i64)>, to: i64) {
    let mut seen = false;
    opsets.retain(|(domain, _)| !domain.is_empty() || !std::mem::replace(&mut seen, true));
    match opsets.iter_mut().find(|(domain, _)| domain.is_empty()) {
        Some(entry) => entry.1 = to,
        None => opsets.push((String::new(), to)),
    }
}

/// The first IR version that allows a version of the default operator set. At least 4: before that
/// every initializer must be a graph input.
pub fn ir_version(opset: i64) -> i64 {
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

/// The IR version that what is in the model needs, whatever its operators.
fn needed_ir(m: &Model) -> i64 {
    let mut needed = if m.functions.is_empty() { 4 } else { 8 };
    if m.functions.iter().any(|f| !f.overload.is_empty() || !f.metadata.is_empty()) {
        needed = 10;
    }
    let mut look = |g: &Graph| {
        if !g.notes.metadata.is_empty() {
            needed = needed.max(10);
        }
        for v in g.values() {
            let value = g.value(v);
            let noted = value.notes.as_ref().is_some_and(|n| !n.metadata.is_empty());
            needed = needed.max(if noted { 10 } else { 4 });
            needed = needed.max(value.dtype().map_or(4, dtype_ir));
        }
        for id in g.ops() {
            let op = g.op(id);
            if !op.metadata.is_empty() || !op.overload.is_empty() {
                needed = needed.max(10);
            }
            if !op.extra.is_empty() {
                needed = needed.max(11);
            }
            let tensors = op.attrs.iter().flat_map(|a| attr_tensors(&a.value));
            needed = tensors.fold(needed, |n, t| n.max(dtype_ir(t.dtype())));
        }
    };
    for_each_graph(&m.graph, &mut look);
    m.functions.iter().for_each(|f| for_each_graph(&f.graph, &mut look));
    needed
}

/// The IR version that brought an element type.
fn dtype_ir(dtype: DType) -> i64 {
    use DType::*;
    match dtype {
        F8E4M3FN | F8E4M3FNUZ | F8E5M2 | F8E5M2FNUZ => 9,
        U4 | I4 => 10,
        F4E2M1 => 11,
        F8E8M0 => 12,
        U2 | I2 | F6E2M3 | F6E3M2 => 13,
        _ => 4,
    }
}

fn convert_graph(g: &mut Graph, from: i64, to: i64, counts: &mut Counts) -> Result<(), OpsetError> {
    if from == to {
        return Ok(());
    }
    if !(1..=NEWEST_OPSET).contains(&from) {
        return Err(OpsetError::Version { from, to });
    }
    infer_graph(g, from, &mut |_, _| {});
    let mut result = Ok(());
    visit_graphs(g, &mut |g| {
        if result.is_ok() {
            result = convert_ops(g, from, to, counts);
        }
    });
    result
}

fn convert_ops(g: &mut Graph, from: i64, to: i64, counts: &mut Counts) -> Result<(), OpsetError> {
    let unknown = |op: &OpId| {
        let op = g.op(*op);
        op.domain.is_empty() && versions(&op.op_type).is_empty()
    };
    if let Some(op) = g.order().into_iter().find(unknown) {
        let why = "the operator is not known".into();
        return Err(OpsetError::Operator { op: g.label(op), version: to, why });
    }
    let boundaries: Vec<i64> = match from < to {
        true => (from + 1..=to).collect(),
        false => (to + 1..=from).rev().collect(),
    };
    for boundary in boundaries {
        let (before, after) = match from < to {
            true => (boundary - 1, boundary),
            false => (boundary, boundary - 1),
        };
        for op in g.order() {
            if !changes(g, op, boundary) {
                continue;
            }
            let (label, op_type) = (g.label(op), g.op(op).op_type.clone());
            let revision = g.revision();
            g.take_touched();
            let fail = |why| OpsetError::Operator { op: label, version: after, why };
            cross(g, op, before, after, to).map_err(fail)?;
            if g.revision() != revision {
                *counts.entry((after, op_type)).or_insert(0) += 1;
                for new in g.take_touched() {
                    // What an op cannot be is found out where it is checked.
                    let _ = infer_op(g, new, after, &mut |_, _| {});
                }
            }
        }
    }
    Ok(())
}

/// The operator of the op changed with this version.
fn changes(g: &Graph, op: OpId, version: i64) -> bool {
    let node = g.op(op);
    node.domain.is_empty()
        && versions(&node.op_type).iter().any(|v| v.since == version || version == 6)
}

/// Takes an op from version `before` to `after`, which are neighbours.
fn cross(g: &mut Graph, op: OpId, before: i64, after: i64, to: i64) -> Result<(), step::Why> {
    let op_type = g.op(op).op_type.clone();
    let (old, new) = (version_of(&op_type, before), version_of(&op_type, after));
    // What was wrong to begin with is not for us to judge.
    let was_right = old.is_some_and(|v| v.fits(g, op).is_ok());
    let upwards = before < after;
    if let Some((old, new)) = old.zip(new) {
        write_defaults(g, op, old, new);
    }
    if after == 6 {
        g.edit_op(op).remove_attr("consumed_inputs");
    }
    let adapter = match upwards {
        true => adapters::find(&op_type, after),
        false => down::find(&op_type, before),
    };
    let mut step = Step { g, op, to, at: after };
    if let Some(adapter) = adapter {
        adapter(&mut step)?;
    }
    let op = step.op;
    // `Upsample` leaves a note for the next step.
    if !g.has_op(op) || (op_type == "Upsample" && after == 10 && to > 10) {
        return Ok(());
    }
    let op_type = g.op(op).op_type.clone();
    let Some(new) = version_of(&op_type, after) else {
        return Err(match upwards {
            true => format!("the operator ended with version {after}").into(),
            false => format!("the operator came with version {before}").into(),
        });
    };
    if let Some(old) = old.filter(|_| !upwards) {
        drop_defaults(g, op, old, new, before)?;
    }
    match new.fits(g, op) {
        Err(why) if was_right => Err(why.into()),
        _ => Ok(()),
    }
}

/// Writes out attributes whose default is another in the other version.
fn write_defaults(g: &mut Graph, op: OpId, old: &OpVersion, new: &OpVersion) {
    for attr in &old.attributes {
        let differs = new.attribute(attr.name).and_then(|a| a.default.as_ref());
        let Some((was, is)) = attr.default.as_ref().zip(differs) else { continue };
        let alike = std::mem::discriminant(was) == std::mem::discriminant(is);
        // Version 1 of `GRU` misspells its own default.
        if was != is && alike && g.op(op).attr(attr.name).is_none() && attr.name != "direction" {
            g.edit_op(op).set_attr(attr.name, was.clone());
        }
    }
}

/// Drops attributes that the older version does not know and that say what it does anyway.
fn drop_defaults(
    g: &mut Graph,
    op: OpId,
    newer: &OpVersion,
    older: &OpVersion,
    version: i64,
) -> Result<(), step::Why> {
    for attr in g.op(op).attrs.clone() {
        if older.attribute(&attr.name).is_some() {
            continue;
        }
        let Some(known) = newer.attribute(&attr.name) else { continue };
        if known.default.as_ref() != Some(&attr.value) {
            return Err(format!("its attribute {} came with version {version}", attr.name).into());
        }
        g.edit_op(op).remove_attr(&attr.name);
    }
    Ok(())
}

#[cfg(test)]
mod tests;
