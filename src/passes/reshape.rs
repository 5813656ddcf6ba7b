//! What Reshape patterns have in common: finding the shape operand that gives a wanted shape.

use super::pattern::{operand, result};
use crate::ir::{Dim, Graph, Miss, Op, OpId, Patch, Tensor, ValueId};

/// Ops that only regroup axes: the elements keep their order.
pub(super) const REGROUPING: &[&str] = &["Reshape", "Flatten", "Squeeze", "Unsqueeze"];

/// A Transpose that only moves axes of size 1 past others: the elements keep their order, too.
pub(super) fn moves_units(g: &Graph, op: OpId) -> bool {
    let node = g.op(op);
    let x = g.operand(op, 0).map(|v| g.value(v));
    let shape = x.and_then(|x| x.shape()).filter(|_| node.is("Transpose"));
    let (Some(perm), Some(shape)) = (node.ints("perm"), shape) else { return false };
    let size = |p: i64| usize::try_from(p).ok().and_then(|p| shape.get(p));
    let wide = |p: &&i64| size(**p) != Some(&Dim::Known(1));
    perm.len() == shape.len() && perm.iter().filter(wide).is_sorted()
}

/// The shape operand of a Reshape from `from` to `want`: sizes, zeros where a dynamic axis keeps its
/// place, and at most one -1.
pub(super) fn target(from: Option<&[Dim]>, want: &[Dim]) -> Result<Vec<i64>, Miss> {
    let mut holes = 0;
    let entry = |(i, dim): (usize, &Dim)| match dim {
        Dim::Known(n) if *n > 0 => Ok(*n),
        Dim::Known(_) => Err(Miss::from("the result is empty")),
        dim if from.and_then(|f| f.get(i)).is_some_and(|f| f.same(dim)) => Ok(0),
        _ => {
            holes += 1;
            Ok(-1)
        }
    };
    let sizes = want.iter().enumerate().map(entry).collect::<Result<Vec<i64>, Miss>>()?;
    if holes > 1 {
        return Err("more than one axis is only known when the model runs".into());
    }
    Ok(sizes)
}

/// Plans a Reshape of `source` by constant `sizes` in the place of `at`.
pub(super) fn plan_reshape(g: &Graph, at: OpId, source: ValueId, sizes: &[i64]) -> Patch {
    let mut patch = Patch::at(at);
    let name = result(g, at).map(|v| g.value(v).name().to_owned()).unwrap_or_default();
    let sizes = patch.constant(format!("{name}_shape"), Tensor::vector(sizes));
    let mut op = Op::new("Reshape").named(g.op(at).name.clone());
    (op.doc, op.metadata) = (g.op(at).doc.clone(), g.op(at).metadata.clone());
    patch.replace(g, at, op, vec![Some(source.into()), Some(sizes)]);
    patch
}

/// The shapes before and after a regrouping op, as far as they are known.
pub(super) fn shapes(g: &Graph, from: ValueId, at: OpId) -> Result<(Option<&[Dim]>, &[Dim]), Miss> {
    let to = g.value(result(g, at)?).shape().ok_or("the rank of the result is not known")?;
    Ok((g.value(from).shape().map(Vec::as_slice), to))
}

/// The regrouping op that makes the first operand of `at`, and what that op reads.
pub(super) fn regrouped(g: &Graph, at: OpId) -> Result<(OpId, ValueId), Miss> {
    let x = operand(g, at, 0)?;
    let before = super::pattern::maker_of(g, x, REGROUPING)
        .or_else(|| super::pattern::maker(g, x, "Transpose").filter(|op| moves_units(g, *op)));
    let before = before.ok_or("no reshaping op makes the operand")?;
    Ok((before, operand(g, before, 0)?))
}
