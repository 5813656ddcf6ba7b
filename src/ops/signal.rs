//! Signal processing.

use super::{InferCx, InferError, OpSchema};
use crate::ir::{DType, Dim};

const fn window(op_type: &'static str) -> OpSchema {
    OpSchema { infer: infer_window, ..OpSchema::new(op_type) }
}

pub(super) static SCHEMAS: &[OpSchema] = &[
    OpSchema { infer: infer_dft, ..OpSchema::new("DFT") },
    OpSchema { infer: infer_stft, ..OpSchema::new("STFT") },
    OpSchema { infer: infer_mel, ..OpSchema::new("MelWeightMatrix") },
    window("HannWindow"),
    window("HammingWindow"),
    window("BlackmanWindow"),
];

/// The only element of integer operand `i`, as far as it is known.
fn scalar(cx: &InferCx, i: usize) -> Dim {
    match cx.ints(i).as_deref() {
        Some([d]) => d.clone(),
        _ => Dim::Unknown,
    }
}

fn one_sided(len: &Dim) -> Dim {
    &len.floor_div(&Dim::Known(2)) + &Dim::Known(1)
}

fn infer_dft(cx: &mut InferCx) -> Result<(), InferError> {
    cx.set(0, cx.dtype(0), None);
    let Some(x) = cx.shape(0) else { return Ok(()) };
    let axis = match (cx.opset() < 20, cx.has(2)) {
        (true, _) => Some(cx.op().int_or("axis", 1)),
        (false, true) => scalar(cx, 2).known(),
        (false, false) => Some(-2),
    };
    let Some(axis) = axis else {
        cx.set(0, cx.dtype(0), Some(vec![Dim::Unknown; x.len()]));
        return Ok(());
    };
    let axis = cx.axis(axis, x.len())?;
    let one_side = cx.op().int_or("onesided", 0) != 0;
    let inverse = cx.op().int_or("inverse", 0) != 0;
    let len = match (cx.has(1), one_side && inverse) {
        (true, _) => scalar(cx, 1),
        (false, true) => &(&x[axis] - &Dim::Known(1)) * &Dim::Known(2),
        (false, false) => x[axis].clone(),
    };
    let mut shape = x.clone();
    shape[axis] = if one_side && !inverse { one_sided(&len) } else { len };
    if let Some(last) = shape.last_mut() {
        *last = Dim::Known(if one_side && inverse { 1 } else { 2 });
    }
    cx.set(0, cx.dtype(0), Some(shape));
    Ok(())
}

fn infer_stft(cx: &mut InferCx) -> Result<(), InferError> {
    let at = |i: usize, axis: usize| {
        cx.shape(i).and_then(|s| s.get(axis)).cloned().unwrap_or(Dim::Unknown)
    };
    let len = if cx.has(3) { scalar(cx, 3) } else { at(2, 0) };
    let moves = (&at(0, 1) - &len).floor_div(&scalar(cx, 1));
    let bins = if cx.op().int_or("onesided", 1) != 0 { one_sided(&len) } else { len };
    let frames = &moves + &Dim::Known(1);
    cx.set(0, cx.dtype(0), Some(vec![at(0, 0), frames, bins, Dim::Known(2)]));
    Ok(())
}

fn output_type(cx: &InferCx) -> Option<DType> {
    i32::try_from(cx.op().int_or("output_datatype", 1)).ok().and_then(DType::from_code)
}

fn infer_mel(cx: &mut InferCx) -> Result<(), InferError> {
    let shape = vec![one_sided(&scalar(cx, 1)), scalar(cx, 0)];
    cx.set(0, output_type(cx), Some(shape));
    Ok(())
}

fn infer_window(cx: &mut InferCx) -> Result<(), InferError> {
    cx.set(0, output_type(cx), Some(vec![scalar(cx, 0)]));
    Ok(())
}
