//! `Pad`.

use super::eval::join;
use super::{Arg, Axes, InferCx, InferError, OpSchema, axes};
use crate::ir::Dim;

type Inferred = Result<(), InferError>;

pub(super) static SCHEMAS: &[OpSchema] = &[OpSchema {
    infer: infer_pad,
    axes: Axes::Rule(axes::pad),
    eval: Some(join::pad),
    ..OpSchema::new("Pad")
}];

fn infer_pad(cx: &mut InferCx) -> Inferred {
    let dtype = cx.dtype(0);
    let Some(input) = cx.shape(0) else {
        cx.set(0, dtype, None);
        return Ok(());
    };
    let mut shape = input.clone();
    let rank = shape.len();
    let pads = match (cx.op().ints("paddings"), cx.arg("pads", 1)) {
        (Some(v), _) => Some(v.iter().copied().map(Dim::Known).collect()),
        (None, Arg::Ints(v)) => Some(v),
        _ => None,
    };
    let axes = cx.axes_arg(3, rank, (0..rank).collect())?;
    match (pads, axes) {
        (Some(pads), Some(axes)) => {
            if pads.len() != 2 * axes.len() {
                return Err("pads do not name both ends of every axis".into());
            }
            for (i, &axis) in axes.iter().enumerate() {
                let padded = &(&shape[axis] + &pads[i]) + &pads[i + axes.len()];
                shape[axis] = if padded.is_some() { padded } else { Dim::fresh() };
            }
        }
        (None, Some(axes)) => axes.into_iter().for_each(|a| shape[a] = Dim::fresh()),
        _ => shape.iter_mut().for_each(|d| *d = Dim::fresh()),
    }
    cx.set(0, dtype, Some(shape));
    Ok(())
}
