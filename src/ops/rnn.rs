//! Recurrent layers.

use super::facts::{count, operand_shape};
use super::{Axes, InferCx, InferError, OpSchema, axes};
use crate::ir::{Dim, Graph, OpId};

const fn recurrent(op_type: &'static str) -> OpSchema {
    OpSchema { infer, macs, axes: Axes::Rule(axes::recurrent), ..OpSchema::new(op_type) }
}

pub(super) static SCHEMAS: &[OpSchema] = &[recurrent("LSTM"), recurrent("GRU"), recurrent("RNN")];

fn infer(cx: &mut InferCx) -> Result<(), InferError> {
    let dtype = cx.dtype(0);
    if cx.rank(0).is_some_and(|r| r != 3) {
        return Err("the input must have rank 3".into());
    }
    let at = |i: usize, axis: usize| {
        cx.shape(i).and_then(|s| s.get(axis)).cloned().unwrap_or(Dim::Unknown)
    };
    let batch_first = cx.op().int_or("layout", 0) == 1;
    let (steps, batch) = if batch_first { (at(0, 1), at(0, 0)) } else { (at(0, 0), at(0, 1)) };
    let directions = match cx.op().str("direction") {
        Some("bidirectional") => Dim::Known(2),
        _ => Dim::Known(1),
    };
    let hidden = cx.op().int("hidden_size").map_or_else(|| at(2, 2), Dim::Known);
    let (all, last) = if batch_first {
        (
            vec![batch.clone(), steps, directions.clone(), hidden.clone()],
            vec![batch, directions, hidden],
        )
    } else {
        (
            vec![steps, directions.clone(), batch.clone(), hidden.clone()],
            vec![directions, batch, hidden],
        )
    };
    cx.set(0, dtype, Some(all));
    cx.set(1, dtype, Some(last.clone()));
    cx.set(2, dtype, Some(last));
    Ok(())
}

/// Each step multiplies input and state with all gates of each direction.
fn macs(g: &Graph, id: OpId) -> Option<Dim> {
    let x = operand_shape(g, id, 0)?;
    let inputs = count(x.iter().take(2).chain(operand_shape(g, id, 1)?))?;
    let states = count(x.iter().take(2).chain(operand_shape(g, id, 2)?))?;
    let sum = &inputs + &states;
    sum.is_some().then_some(sum)
}
