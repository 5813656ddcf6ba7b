//! # fuse-slices
//!
//! ## What it does
//! Makes one Split of several Slices that cut one tensor into pieces along one axis.
//!
//! ## Before/after
//! ```text
//! a = Slice (x, {0}, {8}, {1})         a, b = Split <axis = 1> (x, {8,8})      x is float[N,16]
//! b = Slice (x, {8}, {16}, {1})
//! ```
//!
//! ## When it applies
//! The bounds are constant, all steps are 1, and the Slices together take every element of the axis,
//! whose size is known, exactly once.
//!
//! ## What it preserves
//! The names of the pieces.
//!
//! ## Limits
//! Needs opset 10, where the bounds became operands. Slices that leave gaps or overlap stay.

use super::pattern::{bounds_are_operands, ints_at, operand, result};
use crate::ir::{Graph, Miss, Op, OpId, Patch, Ref, Slot, Tensor, ValueId};
use crate::ops::normalize_axis;
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct FuseSlices;

static INFO: PassInfo = PassInfo {
    name: "fuse-slices",
    summary: "make a Split of Slices that cut a tensor into pieces",
    semantics: Semantics::Exact,
    source: include_str!("fuse_slices.rs"),
};

/// Readers of a tensor among which Slices are looked for.
const MAX_READERS: usize = 64;

impl Rewrite for FuseSlices {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Slice"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        bounds_are_operands(site)?;
        let x = operand(g, at, 0)?;
        let (axis, first, _) = piece(g, at).ok_or("it cuts more than one piece of one axis")?;
        if first != 0 {
            return Err("it does not begin at the start".into());
        }
        let size = g.value(x).shape().and_then(|s| s[axis].known());
        let size = size.ok_or("the size of the axis is not known")?;
        if g.use_count(x) > MAX_READERS {
            return Err("very many ops read the tensor".into());
        }
        let slices = g.uses(x).into_iter().filter(|(_, slot)| *slot == Slot::Operand(0));
        let slices = slices.filter(|(op, _)| g.op(*op).is("Slice") && !g.op(*op).has_ref_attrs());
        let mut pieces: Vec<(i64, i64, OpId)> = slices
            .filter_map(|(op, _)| piece(g, op).filter(|p| p.0 == axis).map(|p| (p.1, p.2, op)))
            .collect();
        pieces.sort_unstable();
        let whole = pieces.iter().try_fold(0, |end, p| (p.0 == end && p.1 > end).then_some(p.1));
        if whole != Some(size) || pieces.len() < 2 {
            return Err("the Slices do not take every element once".into());
        }
        let results: Result<Vec<ValueId>, Miss> = pieces.iter().map(|p| result(g, p.2)).collect();
        let sizes: Vec<i64> = pieces.iter().map(|p| p.1 - p.0).collect();
        let mut patch = Patch::at(at);
        let mut op = Op::new("Split").named(g.op(at).name.clone()).with("axis", axis as i64);
        let mut operands = vec![Some(x.into())];
        if site.opset >= 13 {
            let name = format!("{}_sizes", g.value(x).name());
            operands.push(Some(patch.constant(name, Tensor::vector(&sizes))));
        } else {
            op.set_attr("split", sizes);
        }
        patch.op_into(op, operands, results?.into_iter().map(|v| Some(Ref::Old(v))).collect());
        pieces.iter().for_each(|p| patch.remove(p.2));
        Ok(patch)
    }
}

/// Axis, start and end of what a Slice takes, when that is one piece of one axis of known size.
fn piece(g: &Graph, at: OpId) -> Option<(usize, i64, i64)> {
    let shape = g.value(g.operand(at, 0)?).shape()?;
    let ints = |name, slot| ints_at(g, at, name, slot).ok().flatten();
    let ([start], [end]) = (&ints("starts", 1)?[..], &ints("ends", 2)?[..]) else { return None };
    let axis = match g.operand(at, 3) {
        Some(_) => *ints("axes", 3)?.first()?,
        None => 0,
    };
    let steps = match g.operand(at, 4) {
        Some(_) => ints("steps", 4)?,
        None => vec![1],
    };
    let axis = normalize_axis(axis, shape.len())?;
    let n = shape[axis].known()?;
    let bound = |v: i64| if v < 0 { v.saturating_add(n) } else { v }.clamp(0, n);
    (steps == [1]).then_some((axis, bound(*start), bound(*end)))
}
