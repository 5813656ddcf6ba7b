//! Pools.

use super::window::Window;
use super::{Axes, InferCx, InferError, OpSchema, Quant, axes};
use crate::ir::{DType, Dim, Shape};

const fn pool(op_type: &'static str) -> OpSchema {
    OpSchema { infer: infer_pool, axes: Axes::Rule(axes::channels), ..OpSchema::new(op_type) }
}

const fn global(op_type: &'static str) -> OpSchema {
    OpSchema { infer: infer_global, axes: Axes::Rule(axes::channels), ..OpSchema::new(op_type) }
}

pub(super) static SCHEMAS: &[OpSchema] = &[
    OpSchema { quant: Quant::PassThrough, ..pool("MaxPool") },
    pool("AveragePool"),
    pool("LpPool"),
    OpSchema { quant: Quant::PassThrough, ..global("GlobalMaxPool") },
    global("GlobalAveragePool"),
    global("GlobalLpPool"),
    OpSchema { infer: infer_unpool, ..OpSchema::new("MaxUnpool") },
    OpSchema {
        infer: |cx| {
            let op = cx.op();
            let sizes = [op.int_or("output_height", 1), op.int_or("output_width", 1)];
            infer_regions(cx, &sizes)
        },
        axes: Axes::Rule(axes::sampled_channels),
        ..OpSchema::new("RoiAlign")
    },
    OpSchema {
        infer: |cx| match cx.op().ints("pooled_shape") {
            Some(sizes) => infer_regions(cx, sizes),
            None => Err("pooled_shape is missing".into()),
        },
        axes: Axes::Rule(axes::sampled_channels),
        ..OpSchema::new("MaxRoiPool")
    },
];

fn infer_pool(cx: &mut InferCx) -> Result<(), InferError> {
    cx.set(0, cx.dtype(0), None);
    let Some(kernel) = cx.op().ints("kernel_shape") else {
        return Err("kernel_shape is missing".into());
    };
    let window = Window::of(cx.op(), kernel.iter().map(|&k| Dim::Known(k)).collect())?;
    let shape = match cx.shape(0) {
        Some(x) if x.len() >= 2 => {
            let mut shape = x[..2].to_vec();
            shape.extend(window.positions(&x[2..])?);
            shape
        }
        Some(_) => return Err("the input has no spatial axes".into()),
        None => vec![Dim::Unknown; kernel.len() + 2],
    };
    cx.set(0, cx.dtype(0), Some(shape.clone()));
    cx.set(1, Some(DType::I64), Some(shape));
    Ok(())
}

fn infer_global(cx: &mut InferCx) -> Result<(), InferError> {
    let pooled = cx.shape(0).map(|x| {
        let mut shape: Shape = x.clone();
        shape.iter_mut().skip(2).for_each(|d| *d = Dim::Known(1));
        shape
    });
    cx.set(0, cx.dtype(0), pooled);
    Ok(())
}

fn infer_unpool(cx: &mut InferCx) -> Result<(), InferError> {
    cx.set(0, cx.dtype(0), None);
    if cx.has(2) {
        let dims = cx.ints(2).or_else(|| Some(vec![Dim::Unknown; cx.rank(0)?]));
        cx.set(0, cx.dtype(0), dims);
        return Ok(());
    }
    let Some(kernel) = cx.op().ints("kernel_shape") else {
        return Err("kernel_shape is missing".into());
    };
    let Some(x) = cx.shape(0).filter(|x| x.len() >= 2) else { return Ok(()) };
    let window = Window::of(cx.op(), kernel.iter().map(|&k| Dim::Known(k)).collect())?;
    let mut shape = x[..2].to_vec();
    shape.extend(window.spread(&x[2..], &vec![0; kernel.len()])?);
    cx.set(0, cx.dtype(0), Some(shape));
    Ok(())
}

/// One result of `sizes` for each row of the second operand.
fn infer_regions(cx: &mut InferCx, sizes: &[i64]) -> Result<(), InferError> {
    let at = |i: usize, axis: usize| {
        cx.shape(i).and_then(|s| s.get(axis)).cloned().unwrap_or(Dim::Unknown)
    };
    let mut shape = vec![at(1, 0), at(0, 1)];
    shape.extend(sizes.iter().map(|&n| Dim::Known(n)));
    cx.set(0, cx.dtype(0), Some(shape));
    Ok(())
}
