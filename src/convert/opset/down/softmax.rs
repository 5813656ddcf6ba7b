//! `Softmax` and its like, which until version 12 worked on all axes from `axis` on.

use super::super::step::{Step, Why};
use crate::ir::{Dim, Op};
use crate::ops::normalize_axis;

/// Along the last axis both mean the same; another axis is moved there.
pub(super) fn to_last_axis(s: &mut Step) -> Result<(), Why> {
    s.own_attr("axis")?;
    let axis = s.node().int_or("axis", -1);
    let Some(shape) = s.shape(0).cloned() else {
        return if axis == -1 { Ok(()) } else { Err("the rank of its input is not known".into()) };
    };
    let rank = shape.len();
    let axis = normalize_axis(axis, rank).ok_or("its axis is out of range")?;
    s.set_attr("axis", axis as i64);
    if shape[axis + 1..].iter().all(|d| *d == Dim::Known(1)) {
        return Ok(());
    }
    let mut swap: Vec<i64> = (0..rank as i64).collect();
    swap.swap(axis, rank - 1);
    let x = s.operand(0)?;
    let turned = s.add(Op::new("Transpose").with("perm", swap.clone()), &[x], "turned");
    s.g.set_operand(s.op, 0, Some(turned));
    s.set_attr("axis", rank as i64 - 1);
    s.append(Op::new("Transpose").with("perm", swap), &[], "turned_result")
}
