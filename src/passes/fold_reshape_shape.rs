//! # fold-reshape-shape
//!
//! ## What it does
//! Replaces the computed shape of a Reshape by a constant, using 0 for dynamic axes that keep their
//! place and -1 for one that does not. The ops that computed the shape go with it.
//!
//! ## Before/after
//! ```text
//! s = Shape (x)                        y = Reshape (x, {0, -1})     x is float[N,3,4]
//! n = Slice (s, zero, one)
//! t = Concat <axis = 0> (n, minus_one)
//! y = Reshape (x, t)
//! ```
//!
//! ## When it applies
//! Shape inference knows all elements of the shape, dynamic ones as expressions.
//!
//! ## What it preserves
//! Dynamic axes stay dynamic.
//!
//! ## Limits
//! Two dynamic axes that both change their place cannot be written as a constant. A tensor without
//! elements cannot be reshaped with -1; where an axis might be empty at run time the model already
//! relied on the same.

use super::pattern::{operand, result};
use super::reshape::target;
use crate::ir::{Dim, Graph, Miss, OpId, Patch, Tensor};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct FoldReshapeShape;

static INFO: PassInfo = PassInfo {
    name: "fold-reshape-shape",
    summary: "replace the computed shape of a Reshape by a constant",
    semantics: Semantics::Exact,
    source: include_str!("fold_reshape_shape.rs"),
};

impl Rewrite for FoldReshapeShape {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Reshape"]
    }

    fn plan(&self, g: &Graph, at: OpId, _: &Site) -> Result<Patch, Miss> {
        let (x, shape) = (operand(g, at, 0)?, operand(g, at, 1)?);
        if g.is_const(shape) {
            return Err("its shape is constant".into());
        }
        let elements = g.value(shape).sym.as_ref().ok_or("its shape is not known")?;
        let allow_zero = g.op(at).int_or("allowzero", 0) != 0;
        let from = g.value(x).shape().map(Vec::as_slice);
        let to = g.value(result(g, at)?).shape().filter(|s| s.len() == elements.len());
        let sizes = wanted(elements, from, to, allow_zero)?;
        let mut patch = Patch::at(at);
        let name = g.value(shape).name();
        let constant = patch.constant(format!("{name}_known"), Tensor::vector(&sizes));
        patch.set_operand(at, 1, Some(constant));
        if allow_zero {
            patch.remove_attr(at, "allowzero");
        }
        Ok(patch)
    }
}

/// The constant that means the same as `elements`.
fn wanted(
    elements: &[Dim],
    from: Option<&[Dim]>,
    to: Option<&Vec<Dim>>,
    allow_zero: bool,
) -> Result<Vec<i64>, Miss> {
    if elements.contains(&Dim::Known(0)) || elements.contains(&Dim::Known(-1)) {
        if elements.contains(&Dim::Known(0)) && allow_zero {
            return Err("the result is empty".into());
        }
        let size = |i: usize| to.and_then(|t| t[i].known()).filter(|&n| n > 0);
        let is_hole = |i: usize| elements[i] == Dim::Known(-1) && size(i).is_none();
        let has_hole = (0..elements.len()).any(is_hole);
        let mut sizes = Vec::with_capacity(elements.len());
        for (i, e) in elements.iter().enumerate() {
            let kept = from.and_then(|f| f.get(i)).is_some_and(|f| f.same(e));
            let result = size(i);
            sizes.push(match (e, result) {
                (Dim::Known(n), None) => *n,
                (_, Some(n)) => n,
                _ if kept => 0,
                _ if !has_hole && !sizes.contains(&-1) => -1,
                _ => return Err("more than one axis is only known when the model runs".into()),
            });
        }
        return Ok(sizes);
    }
    let sharp: Vec<Dim> = elements
        .iter()
        .enumerate()
        .map(|(i, e)| match to.map(|t| &t[i]) {
            Some(known @ Dim::Known(_)) => known.clone(),
            _ => e.clone(),
        })
        .collect();
    target(from, &sharp)
}
