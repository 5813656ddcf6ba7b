//! # eliminate-sequences
//!
//! ## What it does
//! Takes elements from a sequence whose making is known without making it: SequenceAt, SequenceLength
//! and ConcatFromSequence of what SequenceConstruct, SequenceEmpty, SequenceInsert, SequenceErase and
//! SplitToSequence made.
//!
//! ## Before/after
//! ```text
//! s = SequenceConstruct (a, b)             y = Concat <axis = 1> (a, b)
//! y = ConcatFromSequence <axis = 1> (s)
//! ```
//!
//! ## When it applies
//! Positions are constant. A SplitToSequence becomes a Split, or a Gather for each element when it
//! drops the axis, when the number of pieces is known and all that reads it can do without the
//! sequence. TensorRT has none of the sequence operators.
//!
//! ## What it preserves
//! Names of results.
//!
//! ## Limits
//! Sequences that are inputs or outputs, that a branch or loop hands on, or that SequenceMap reads,
//! stay.

use super::pattern::{known_ints, known_result, operand, result, unsqueeze};
use crate::ir::{Dim, Graph, Miss, Op, OpId, Patch, Ref, Slot, Tensor, ValueId};
use crate::ops::normalize_axis;
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct EliminateSequences;

static INFO: PassInfo = PassInfo {
    name: "eliminate-sequences",
    summary: "take elements of known sequences without making these",
    semantics: Semantics::Exact,
    source: include_str!("eliminate_sequences.rs"),
};

/// Elements of a sequence, and ops on the way to it, that are looked at.
const MOST: usize = 1024;

impl Rewrite for EliminateSequences {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["SequenceAt", "SequenceLength", "ConcatFromSequence", "SplitToSequence"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if g.op(at).is("SplitToSequence") {
            return plan_split(g, at, site);
        }
        let elements = elements(g, operand(g, at, 0)?).ok_or("the elements are not known")?;
        let mut patch = Patch::at(at);
        match g.op(at).op_type.as_str() {
            "SequenceAt" => {
                let position = position(g, at, 1).ok_or("the position is not constant")?;
                let i =
                    normalize_axis(position, elements.len()).ok_or("there is no such element")?;
                stand_in(g, at, elements[i], &mut patch);
            }
            "SequenceLength" => {
                known_result(g, at, Tensor::scalar(elements.len() as i64), &mut patch)?;
            }
            _ => plan_concat(g, at, &elements, site, &mut patch)?,
        }
        Ok(patch)
    }
}

/// Lets the readers of `at` read `v`.
pub(super) fn stand_in(g: &Graph, at: OpId, v: ValueId, patch: &mut Patch) {
    let mut direct = Patch::at(at);
    if direct.bypass(g, at, v).is_ok() {
        *patch = direct;
    } else {
        patch.replace(g, at, Op::new("Identity"), vec![Some(v.into())]);
    }
}

fn position(g: &Graph, op: OpId, slot: usize) -> Option<i64> {
    match known_ints(g, g.operand(op, slot)?)?[..] {
        [p] => Some(p),
        _ => None,
    }
}

/// The elements of a sequence, when all ops that made it are known.
fn elements(g: &Graph, sequence: ValueId) -> Option<Vec<ValueId>> {
    let mut edits = Vec::new();
    let mut v = sequence;
    let mut elements = loop {
        let (op, _) = g.producer(v)?;
        let node = g.op(op);
        if !node.domain.is_empty() || node.has_ref_attrs() || edits.len() > MOST {
            return None;
        }
        match node.op_type.as_str() {
            "SequenceConstruct" => break g.operands(op).into_iter().collect::<Option<Vec<_>>>()?,
            "SequenceEmpty" => break Vec::new(),
            "SequenceInsert" | "SequenceErase" => edits.push(op),
            "Identity" => {}
            _ => return None,
        }
        v = g.operand(op, 0)?;
    };
    for op in edits.into_iter().rev() {
        let count = elements.len() as i64;
        let inserts = g.op(op).is("SequenceInsert");
        let slot = if inserts { 2 } else { 1 };
        let last = if inserts { count } else { count - 1 };
        let wish = if g.operand(op, slot).is_some() { position(g, op, slot)? } else { last };
        let i = usize::try_from(if wish < 0 { wish + count } else { wish }).ok()?;
        if i > usize::try_from(last).ok()? {
            return None;
        }
        if inserts {
            elements.insert(i, g.operand(op, 1)?);
        } else {
            elements.remove(i);
        }
    }
    (elements.len() <= MOST).then_some(elements)
}

fn plan_concat(
    g: &Graph,
    at: OpId,
    elements: &[ValueId],
    site: &Site,
    patch: &mut Patch,
) -> Result<(), Miss> {
    if elements.is_empty() {
        return Err("the sequence is empty".into());
    }
    let axis = g.op(at).int("axis").ok_or("it has no axis")?;
    let stacks = g.op(at).int_or("new_axis", 0) != 0;
    let parts = elements.iter().enumerate().map(|(i, v)| match stacks {
        true => {
            let name = format!("{}_{i}", g.value(*v).name());
            Some(unsqueeze(patch, *v, &[axis], site.opset, &name))
        }
        false => Some(Ref::Old(*v)),
    });
    let parts = parts.collect();
    let concat = Op::new("Concat").named(g.op(at).name.clone()).with("axis", axis);
    patch.replace(g, at, concat, parts);
    Ok(())
}

/// The sequence made of the pieces of a Split: what reads it then does without.
fn plan_split(g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
    let sequence = result(g, at)?;
    let readable = |(op, slot): (OpId, Slot)| match g.op(op).op_type.as_str() {
        "SequenceAt" => slot == Slot::Operand(0) && position(g, op, 1).is_some(),
        "SequenceLength" | "ConcatFromSequence" => g.op(op).domain.is_empty(),
        _ => false,
    };
    if g.is_output(sequence) || !g.uses(sequence).into_iter().all(readable) {
        return Err("something needs the sequence".into());
    }
    let x = operand(g, at, 0)?;
    let shape = g.value(x).shape().ok_or("the rank is not known")?;
    let axis = normalize_axis(g.op(at).int_or("axis", 0), shape.len()).ok_or("a wrong axis")?;
    let sizes = piece_sizes(g, at, &shape[axis]).ok_or("the pieces are not known")?;
    let mut patch = Patch::at(at);
    let drops = g.operand(at, 1).is_none() && g.op(at).int_or("keepdims", 1) == 0;
    let stem = g.value(sequence).name();
    let mut pieces = Vec::with_capacity(sizes.len());
    for i in 0..sizes.len() {
        pieces.push(Some(patch.value(format!("{stem}_{i}"), None)));
    }
    if drops {
        for (i, piece) in pieces.iter().enumerate() {
            let index = patch.constant(format!("{stem}_index"), Tensor::scalar(i as i64));
            let gather = Op::new("Gather").with("axis", axis as i64);
            patch.op_into(gather, vec![Some(x.into()), Some(index)], vec![*piece]);
        }
    } else {
        let split = Op::new("Split").named(g.op(at).name.clone()).with("axis", axis as i64);
        let (split, operands) = if site.opset < 13 {
            (split.with("split", sizes), vec![Some(x.into())])
        } else {
            let sizes = patch.constant(format!("{stem}_sizes"), Tensor::vector(&sizes));
            (split, vec![Some(x.into()), Some(sizes)])
        };
        patch.op_into(split, operands, pieces.clone());
    }
    patch.replace(g, at, Op::new("SequenceConstruct"), pieces);
    Ok(patch)
}

/// Sizes of the pieces that a SplitToSequence makes of an axis.
fn piece_sizes(g: &Graph, at: OpId, axis: &Dim) -> Option<Vec<i64>> {
    let all = axis.known()?;
    let size = match g.operand(at, 1) {
        None => 1,
        Some(v) => match (&known_ints(g, v)?[..], g.value(v).rank()?) {
            ([size], 0) => *size,
            (sizes, 1) => {
                let fits = sizes.iter().sum::<i64>() == all && sizes.iter().all(|s| *s >= 0);
                return Some(sizes.to_vec()).filter(|s| fits && !s.is_empty() && s.len() <= MOST);
            }
            _ => return None,
        },
    };
    if size < 1 || all < 1 || all / size >= MOST as i64 {
        return None;
    }
    let mut sizes = vec![size; usize::try_from(all / size).ok()?];
    sizes.extend(Some(all % size).filter(|rest| *rest > 0));
    Some(sizes)
}
