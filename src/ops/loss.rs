//! Losses.

use super::{InferCx, InferError, OpSchema};

pub(super) static SCHEMAS: &[OpSchema] = &[
    OpSchema { infer, ..OpSchema::new("NegativeLogLikelihoodLoss") },
    OpSchema {
        infer: |cx| {
            infer(cx)?;
            cx.set(1, cx.dtype(0), cx.shape(0).cloned());
            Ok(())
        },
        ..OpSchema::new("SoftmaxCrossEntropyLoss")
    },
];

fn infer(cx: &mut InferCx) -> Result<(), InferError> {
    let shape = match cx.op().str("reduction") {
        Some("none") => cx.shape(1).cloned(),
        _ => Some(Vec::new()),
    };
    cx.set(0, cx.dtype(0), shape);
    Ok(())
}
