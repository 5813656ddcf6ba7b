//! # fuse-gathers
//!
//! ## What it does
//! Makes one Split of Gathers that take a tensor apart along one axis, index by index, together with
//! the Reshape that made the axis and those that follow.
//!
//! ## Before/after
//! ```text
//! r = Reshape (x, {0,3,8})         a, b, c = Split <axis = 1> (x, {8,8,8})     x is float[N,24]
//! a = Gather <axis = 1> (r, 0)
//! b = Gather <axis = 1> (r, 1)
//! c = Gather <axis = 1> (r, 2)
//! ```
//!
//! ## When it applies
//! The indices are constant and single, each index of the axis is taken once, and the number of ops
//! falls, counting a Reshape for each piece that needs one.
//!
//! ## What it preserves
//! The names of the pieces that need no Reshape, and of what the Reshapes make.
//!
//! ## Limits
//! Up to 64 pieces. Needs opset 5, where the shape of a Reshape became an operand.

use super::pattern::{maker, maker_of, operand, result};
use super::reshape::{REGROUPING, target};
use crate::ir::{Dim, Graph, Miss, Op, OpId, Patch, Ref, Slot, Tensor, ValueId};
use crate::ops::normalize_axis;
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct FuseGathers;

static INFO: PassInfo = PassInfo {
    name: "fuse-gathers",
    summary: "make a Split of Gathers that take a tensor apart",
    semantics: Semantics::Exact,
    source: include_str!("fuse_gathers.rs"),
};

const MAX_PIECES: usize = 64;

impl Rewrite for FuseGathers {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Gather"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if site.opset < 5 {
            return Err("before opset 5 the shape of a Reshape is an attribute".into());
        }
        let x = operand(g, at, 0)?;
        let shape = g.value(x).shape().ok_or("the rank is not known")?;
        let (axis, index) = taken(g, at, shape.len()).ok_or("it takes several indices")?;
        if index != 0 {
            return Err("it is not the first piece".into());
        }
        let count = shape[axis].size().filter(|n| (2..=MAX_PIECES).contains(n));
        let count = count.ok_or("the axis is long, or its size is not known")?;
        let mut pieces: Vec<Option<OpId>> = vec![None; count];
        let mut others = g.is_output(x);
        for (op, slot) in g.uses(x).into_iter().take(2 * MAX_PIECES) {
            let place =
                taken(g, op, shape.len()).filter(|p| p.0 == axis && slot == Slot::Operand(0));
            let index = place.map(|(_, i)| if i < 0 { i + count as i64 } else { i });
            let free = index.and_then(|i| pieces.get_mut(usize::try_from(i).ok()?));
            match free {
                Some(free @ None) => *free = Some(op),
                _ => others = true,
            }
        }
        let pieces: Option<Vec<OpId>> = pieces.into_iter().collect();
        let pieces = pieces.ok_or("not every index is taken")?;
        let whole = joined(g, x, axis).filter(|_| !others);
        let (source, removed) = match whole {
            Some(source) => (source, 1),
            None => (x, 0),
        };
        let mut split = g.value(source).shape().ok_or("the rank is not known")?.clone();
        split[axis] = match whole {
            Some(_) => {
                split[axis].div_exact(&Dim::from(count)).ok_or("the pieces are not equal")?
            }
            None => Dim::Known(1),
        };
        let plans = pieces.iter().map(|op| piece(g, *op, &split)).collect::<Result<Vec<_>, _>>()?;
        let added = plans.iter().filter(|p| p.sizes.is_some() && p.reshape.is_none()).count();
        if added + 1 >= count + removed {
            return Err("the pieces would need as many Reshapes".into());
        }
        let size = split[axis].known().ok_or("the size of a piece is not known")?;
        emit(g, at, site.opset, (source, axis), &plans, size)
    }
}

/// Axis and index of a Gather of one constant index.
fn taken(g: &Graph, op: OpId, rank: usize) -> Option<(usize, i64)> {
    let node = g.op(op);
    let index = g.const_operand(op, 1).filter(|t| t.len() == 1 && t.rank() <= 1);
    let index = *index.filter(|_| node.is("Gather") && !node.has_ref_attrs())?.to_i64()?.first()?;
    Some((normalize_axis(node.int_or("axis", 0), rank)?, index))
}

/// What a Reshape made `x` of by splitting the axis before this one and those after it.
fn joined(g: &Graph, x: ValueId, axis: usize) -> Option<ValueId> {
    let source = g.operand(maker(g, x, "Reshape")?, 0)?;
    let (from, to) = (g.value(source).shape()?, g.value(x).shape()?);
    let runs = crate::ops::axes::segments(from, to);
    let (a, b) = runs.iter().find(|(_, b)| b.contains(&axis))?;
    let starts = b.start == axis && a.start == axis && a.len() == 1 && b.len() > 1;
    let before = from[..axis].iter().zip(&to[..axis]).all(|(p, q)| p.same(q));
    (starts && before).then_some(source)
}

/// One piece: the Gather, the value to make of it, and how a Reshape makes it.
struct Piece {
    gather: OpId,
    made: ValueId,
    sizes: Option<Vec<i64>>,
    /// A reshaping op that goes.
    reshape: Option<OpId>,
}

fn piece(g: &Graph, gather: OpId, split: &[Dim]) -> Result<Piece, Miss> {
    let y = result(g, gather)?;
    let shape = |v: ValueId| g.value(v).shape().ok_or(Miss::from("the rank is not known"));
    let same = |to: &[Dim]| to.len() == split.len() && to.iter().zip(split).all(|(p, q)| p.same(q));
    if same(shape(y)?) {
        return Ok(Piece { gather, made: y, sizes: None, reshape: None });
    }
    let reader = g.sole_use(y).and_then(|(op, _)| maker_of(g, g.result(op, 0)?, REGROUPING));
    if let Some(op) = reader.filter(|op| g.operand(*op, 0) == Some(y)) {
        let made = result(g, op)?;
        if let Ok(sizes) = target(Some(split), shape(made)?) {
            return Ok(Piece { gather, made, sizes: Some(sizes), reshape: Some(op) });
        }
    }
    let sizes = Some(target(Some(split), shape(y)?)?);
    Ok(Piece { gather, made: y, sizes, reshape: None })
}

fn emit(
    g: &Graph,
    at: OpId,
    opset: i64,
    (source, axis): (ValueId, usize),
    plans: &[Piece],
    size: i64,
) -> Result<Patch, Miss> {
    let mut patch = Patch::at(at);
    let mut op = Op::new("Split").named(g.op(at).name.clone()).with("axis", axis as i64);
    let mut operands = vec![Some(source.into())];
    let sizes = vec![size; plans.len()];
    if opset >= 13 {
        let name = format!("{}_sizes", g.value(source).name());
        operands.push(Some(patch.constant(name, Tensor::vector(&sizes))));
    } else {
        op.set_attr("split", sizes);
    }
    let mut results: Vec<Option<Ref>> = Vec::new();
    for plan in plans {
        let name = format!("{}_piece", g.value(result(g, plan.gather)?).name());
        results.push(Some(match plan.sizes {
            None => plan.made.into(),
            Some(_) => patch.value(name, None),
        }));
    }
    patch.op_into(op, operands, results.clone());
    for (plan, made) in plans.iter().zip(results) {
        if let Some(sizes) = &plan.sizes {
            let name = format!("{}_shape", g.value(plan.made).name());
            let sizes = patch.constant(name, Tensor::vector(sizes));
            patch.op_into(
                Op::new("Reshape"),
                vec![made, Some(sizes)],
                vec![Some(plan.made.into())],
            );
        }
        patch.remove(plan.gather);
        plan.reshape.into_iter().for_each(|op| patch.remove(op));
    }
    Ok(patch)
}
