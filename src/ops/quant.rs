//! Quantization.

use super::{Axes, InferCx, InferError, OpSchema, axes};
use crate::ir::DType;

pub(super) static SCHEMAS: &[OpSchema] = &[
    OpSchema {
        infer: |cx| {
            let dtype =
                if cx.has(2) { cx.dtype(2) } else { Some(named_type(cx).unwrap_or(DType::U8)) };
            cx.set(0, dtype, cx.shape(0).cloned());
            Ok(())
        },
        axes: Axes::Rule(axes::quantize),
        ..OpSchema::new("QuantizeLinear")
    },
    OpSchema {
        infer: |cx| {
            cx.set(0, named_type(cx).or(cx.dtype(1)), cx.shape(0).cloned());
            Ok(())
        },
        axes: Axes::Rule(axes::quantize),
        ..OpSchema::new("DequantizeLinear")
    },
    OpSchema { infer: infer_dynamic, ..OpSchema::new("DynamicQuantizeLinear") },
];

/// Attribute `output_dtype`, when it names a type.
fn named_type(cx: &InferCx) -> Option<DType> {
    i32::try_from(cx.op().int_or("output_dtype", 0)).ok().and_then(DType::from_code)
}

fn infer_dynamic(cx: &mut InferCx) -> Result<(), InferError> {
    cx.set(0, Some(DType::U8), cx.shape(0).cloned());
    cx.set(1, Some(DType::F32), Some(Vec::new()));
    cx.set(2, Some(DType::U8), Some(Vec::new()));
    Ok(())
}
