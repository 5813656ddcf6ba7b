//! # move-reshapes
//!
//! ## What it does
//! Merges two reshaping ops between which only elementwise ops of one operand stand, and Transposes.
//!
//! ## Before/after
//! ```text
//! a = Reshape (x, {6,4})                        b = Relu (x)                          x is float[2,3,4]
//! b = Relu (a)                                  y = Transpose <perm = {2,0,1}> (b)
//! c = Transpose <perm = {1,0}> (b)
//! y = Reshape (c, {4,2,3})
//! ```
//! Where the shape at the start is not the one that the ops between now take, one Reshape stays.
//!
//! ## When it applies
//! Reshape, Flatten, Squeeze and Unsqueeze at both ends, nothing else reads what lies between, and
//! the shape after the one that stays can be written as a constant. Axes that the last one joins or
//! splits have to stay side by side in each Transpose.
//!
//! ## What it preserves
//! The name of the last result.
//!
//! ## Limits
//! Further operands of the ops between have to be single constants. Needs opset 7.

use std::ops::Range;

use super::pattern::{is_unary, operand, result, sole_maker};
use super::reshape::{REGROUPING, shapes, target};
use crate::ir::{Dim, Graph, Miss, Op, OpId, Patch, Ref, Shape, Tensor};
use crate::ops::axes::segments;
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct MoveReshapes;

static INFO: PassInfo = PassInfo {
    name: "move-reshapes",
    summary: "merge reshaping ops with elementwise ops and Transposes between them",
    semantics: Semantics::Exact,
    source: include_str!("move_reshapes.rs"),
};

/// Ops between the two that the search walks over.
const MAX_WALK: usize = 16;

/// An op between the two, as it becomes.
struct Step {
    id: OpId,
    op: Op,
}

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
        let y = result(g, at)?;
        let mut wanted = g.value(y).shape().ok_or("the rank of the result is not known")?.clone();
        let mut chain: Vec<Step> = Vec::new();
        let mut value = operand(g, at, 0)?;
        let first = loop {
            match sole_maker(g, value, REGROUPING) {
                Some(first) if !chain.is_empty() => break first,
                Some(_) => return Err("nothing is between it and the reshape before".into()),
                None => {}
            }
            let id = g.sole_use(value).and_then(|_| g.producer_op(value));
            let id = id.filter(|_| chain.len() < MAX_WALK);
            let id = id.ok_or("no reshape before it that it could merge with")?;
            let op = match g.op(id).is("Transpose") {
                true => {
                    let (perm, before) = moved_before(g, id, &wanted)?;
                    wanted = before;
                    Op::new("Transpose").with("perm", perm).named(g.op(id).name.clone())
                }
                false if is_unary(g, id, 1) => g.op(id).clone(),
                false => return Err("no reshape before it that it could merge with".into()),
            };
            chain.push(Step { id, op });
            value = operand(g, id, 0)?;
        };
        let source = operand(g, first, 0)?;
        let from = shapes(g, source, at)?.0.ok_or("the rank of the source is not known")?;
        if wanted.is_empty() {
            return Err("the result is a single number".into());
        }
        let mut patch = Patch::at(at);
        let mut made: Ref = source.into();
        if !(from.len() == wanted.len() && from.iter().zip(&wanted).all(|(a, b)| a.same(b))) {
            let name = format!("{}_reshaped", g.value(source).name());
            let sizes = Tensor::vector(&target(Some(from), &wanted)?);
            let sizes = patch.constant(format!("{}_shape", g.value(y).name()), sizes);
            let op = Op::new("Reshape").named(g.op(at).name.clone());
            made = patch.op(op, &[made, sizes], name);
        }
        for (i, Step { id, op }) in chain.into_iter().enumerate().rev() {
            let rest = g.operands(id).into_iter().skip(1).map(|v| v.map(Ref::Old));
            let operands = std::iter::once(Some(made)).chain(rest).collect();
            made = match i {
                0 => y.into(),
                _ => patch.value(format!("{}_reshaped", g.value(result(g, id)?).name()), None),
            };
            patch.op_into(op, operands, vec![Some(made)]);
        }
        patch.remove(at);
        Ok(patch)
    }
}

/// For a Transpose whose result is reshaped to `wanted`: the permutation, and the shape of its
/// operand, that give the same elements without the reshape.
fn moved_before(g: &Graph, at: OpId, wanted: &[Dim]) -> Result<(Vec<i64>, Shape), Miss> {
    let shape = g.value(result(g, at)?).shape().ok_or("a shape is not known")?;
    let perm = match g.op(at).ints("perm") {
        Some(perm) => perm.to_vec(),
        None => (0..shape.len() as i64).rev().collect(),
    };
    let mut runs: Vec<(Range<usize>, Range<usize>)> = segments(shape, wanted);
    runs.sort_by_key(|(from, _)| from.start);
    let ends = runs.iter().try_fold((0, 0), |(a, b), (from, to)| {
        ((from.start, to.start) == (a, b)).then_some((from.end, to.end))
    });
    if perm.len() != shape.len() || ends != Some((shape.len(), wanted.len())) {
        return Err("it groups axes in another way than the Transpose before it".into());
    }
    let beside =
        |(from, _): &(Range<usize>, _)| perm[from.clone()].windows(2).all(|p| p[1] == p[0] + 1);
    if !runs.iter().all(beside) {
        return Err("the Transpose before it takes the axes apart that it groups".into());
    }
    runs.sort_by_key(|(from, _)| perm[from.start]);
    let order: Vec<usize> = runs.iter().flat_map(|(_, to)| to.clone()).collect();
    let mut moved = vec![0i64; wanted.len()];
    (0i64..).zip(&order).for_each(|(i, &axis)| moved[axis] = i);
    Ok((moved, order.iter().map(|&axis| wanted[axis].clone()).collect()))
}
