//! Normalizations.

use super::{Axes, InferCx, InferError, OpSchema, axes};
use crate::ir::{DType, Dim};

pub(super) static SCHEMAS: &[OpSchema] = &[
    OpSchema {
        infer: infer_batch_norm,
        axes: Axes::Rule(axes::batch_norm),
        ..OpSchema::new("BatchNormalization")
    },
    OpSchema {
        infer: same_as_input,
        axes: Axes::Rule(axes::instance_norm),
        ..OpSchema::new("InstanceNormalization")
    },
    OpSchema {
        infer: same_as_input,
        axes: Axes::Rule(axes::group_norm),
        ..OpSchema::new("GroupNormalization")
    },
    OpSchema {
        infer: infer_layer_norm,
        axes: Axes::Rule(axes::layer_norm),
        ..OpSchema::new("LayerNormalization")
    },
    OpSchema {
        infer: |cx| {
            cx.set(0, cx.dtype(1).or(cx.dtype(0)), cx.shape(0).cloned());
            Ok(())
        },
        axes: Axes::Rule(axes::layer_norm),
        ..OpSchema::new("RMSNormalization")
    },
    OpSchema {
        infer: same_as_input,
        axes: Axes::Rule(axes::along_axis),
        ..OpSchema::new("LpNormalization")
    },
    OpSchema { infer: same_as_input, ..OpSchema::new("MeanVarianceNormalization") },
    OpSchema { infer: same_as_input, axes: Axes::Rule(axes::along_axis), ..OpSchema::new("LRN") },
];

fn same_as_input(cx: &mut InferCx) -> Result<(), InferError> {
    cx.set(0, cx.dtype(0), cx.shape(0).cloned());
    Ok(())
}

fn infer_batch_norm(cx: &mut InferCx) -> Result<(), InferError> {
    same_as_input(cx)?;
    let channels = match cx.shape(0) {
        Some(x) => x.get(1).cloned().unwrap_or(Dim::Known(1)),
        None => cx.shape(1).and_then(|s| s.first()).cloned().unwrap_or(Dim::Unknown),
    };
    for slot in 1..cx.op().result_count() {
        // Since version 14 the running statistics keep the type of the statistics that go in.
        let of = if cx.opset() >= 14 { 3 } else { 0 };
        cx.set(slot, cx.dtype(of), Some(vec![channels.clone()]));
    }
    Ok(())
}

fn infer_layer_norm(cx: &mut InferCx) -> Result<(), InferError> {
    same_as_input(cx)?;
    let stash = i32::try_from(cx.op().int_or("stash_type", 1)).ok().and_then(DType::from_code);
    let Some(x) = cx.shape(0) else {
        (1..3).for_each(|slot| cx.set(slot, stash, None));
        return Ok(());
    };
    let axis = cx.axis(cx.op().int_or("axis", -1), x.len())?;
    let mut reduced = x.clone();
    reduced[axis..].fill(Dim::Known(1));
    (1..3).for_each(|slot| cx.set(slot, stash, Some(reduced.clone())));
    Ok(())
}
