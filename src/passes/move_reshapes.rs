//! # move-reshapes
//!
//! ## What it does
//! Merges two reshaping ops between which only elementwise ops of one operand stand.
//!
//! ## Before/after
//! ```text
//! a = Reshape (x, s)       b = Relu (x)
//! b = Relu (a)             y = Reshape (b, t)
//! y = Reshape (b, t)
//! ```
//! Where the shape at the end is the one at the start, both go.
//!
//! ## When it applies
//! Reshape, Flatten, Squeeze and Unsqueeze at both ends, nothing else reads what lies between, and
//! the shape at the end can be written as a constant.
//!
//! ## What it preserves
//! The name of the last result.
//!
//! ## Limits
//! Further operands of the ops between have to be single constants. Needs opset 7.

use super::pattern::{is_unary, operand, result, sole_maker};
use super::reshape::{REGROUPING, shapes, target};
use crate::ir::{Graph, Miss, Op, OpId, Patch, Ref, Tensor};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct MoveReshapes;

static INFO: PassInfo = PassInfo {
    name: "move-reshapes",
    summary: "merge reshaping ops with elementwise ops between them",
    semantics: Semantics::Exact,
    source: include_str!("move_reshapes.rs"),
};

/// Ops between the two that the search walks over.
const MAX_WALK: usize = 16;

impl Rewrite for MoveReshapes {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        REGROUPING
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if site.opset < 7 {
            return Err("broadcasting before opset 7 is by attributes".into());
        }
        let mut chain: Vec<OpId> = Vec::new();
        let mut value = operand(g, at, 0)?;
        let first = loop {
            match sole_maker(g, value, REGROUPING) {
                Some(first) if !chain.is_empty() => break first,
                Some(_) => return Err("nothing is between it and the reshape before".into()),
                None => {}
            }
            let step = g.sole_use(value).and_then(|_| g.producer_op(value));
            let step = step.filter(|op| is_unary(g, *op, 1) && chain.len() < MAX_WALK);
            let step = step.ok_or("no reshape before it that it could merge with")?;
            chain.push(step);
            value = operand(g, step, 0)?;
        };
        let source = operand(g, first, 0)?;
        let (from, to) = shapes(g, source, at)?;
        let from = from.ok_or("the rank of the source is not known")?;
        if from.is_empty() {
            return Err("the source is a single number".into());
        }
        let back = from.len() == to.len() && from.iter().zip(to).all(|(a, b)| a.same(b));
        let sizes = if back { None } else { Some(target(Some(from), to)?) };
        let mut patch = Patch::at(at);
        let mut made: Ref = source.into();
        for (i, &step) in chain.iter().enumerate().rev() {
            let op: Op = g.op(step).clone();
            let rest = g.operands(step).into_iter().skip(1).map(|v| v.map(Ref::Old));
            let operands = std::iter::once(Some(made)).chain(rest).collect();
            made = match (i, &sizes) {
                (0, None) => result(g, at)?.into(),
                _ => patch.value(g.value(result(g, step)?).name(), None),
            };
            patch.op_into(op, operands, vec![Some(made)]);
        }
        if let Some(sizes) = sizes {
            let name = g.value(result(g, at)?).name().to_owned();
            let sizes = patch.constant(format!("{name}_shape"), Tensor::vector(&sizes));
            let op = Op::new("Reshape").named(g.op(at).name.clone());
            patch.op_into(op, vec![Some(made), Some(sizes)], vec![Some(result(g, at)?.into())]);
        }
        patch.remove(at);
        Ok(patch)
    }
}
