//! Random numbers: never the same twice.

use super::{InferCx, InferError, OpSchema};
use crate::ir::{DType, Dim};

const fn random(
    op_type: &'static str,
    infer: fn(&mut InferCx) -> Result<(), InferError>,
) -> OpSchema {
    OpSchema { infer, deterministic: false, ..OpSchema::new(op_type) }
}

pub(super) static SCHEMAS: &[OpSchema] = &[
    random("RandomNormal", infer_shaped),
    random("RandomUniform", infer_shaped),
    random("RandomNormalLike", infer_like),
    random("RandomUniformLike", infer_like),
    random("Bernoulli", infer_like),
    random("Multinomial", |cx| {
        let n = cx.shape(0).and_then(|s| s.first()).cloned().unwrap_or(Dim::Unknown);
        let count = Dim::Known(cx.op().int_or("sample_size", 1));
        cx.set(0, named_type(cx).or(Some(DType::I32)), Some(vec![n, count]));
        Ok(())
    }),
];

fn named_type(cx: &InferCx) -> Option<DType> {
    i32::try_from(cx.op().int("dtype")?).ok().and_then(DType::from_code)
}

fn infer_shaped(cx: &mut InferCx) -> Result<(), InferError> {
    let Some(shape) = cx.op().ints("shape") else { return Err("shape is missing".into()) };
    let shape = shape.iter().map(|&d| Dim::Known(d)).collect();
    cx.set(0, named_type(cx).or(Some(DType::F32)), Some(shape));
    Ok(())
}

fn infer_like(cx: &mut InferCx) -> Result<(), InferError> {
    cx.set(0, named_type(cx).or(cx.dtype(0)), cx.shape(0).cloned());
    Ok(())
}
