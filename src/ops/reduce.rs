//! Reductions, arg-reductions and cumulative sums.

use super::elementwise::infer_same;
use super::eval::reduce;
use super::{Axes, InferCx, InferError, OpSchema, axes};
use crate::ir::{DType, Dim, Shape};

type Inferred = Result<(), InferError>;

const fn reduction(op_type: &'static str) -> OpSchema {
    OpSchema { infer: infer_reduce, axes: Axes::Rule(axes::reduce), ..OpSchema::new(op_type) }
}

const fn exact_reduction(op_type: &'static str) -> OpSchema {
    OpSchema { eval: Some(reduce::reduce), ..reduction(op_type) }
}

const fn arg_reduction(op_type: &'static str) -> OpSchema {
    OpSchema {
        infer: infer_arg,
        axes: Axes::Rule(axes::reduce),
        eval: Some(reduce::arg),
        ..OpSchema::new(op_type)
    }
}

pub(super) static SCHEMAS: &[OpSchema] = &[
    arg_reduction("ArgMax"),
    arg_reduction("ArgMin"),
    OpSchema { infer: infer_same, ..OpSchema::new("CumProd") },
    OpSchema {
        infer: infer_same,
        axes: Axes::Rule(axes::along_axis),
        eval: Some(reduce::cum_sum),
        ..OpSchema::new("CumSum")
    },
    reduction("ReduceL1"),
    reduction("ReduceL2"),
    reduction("ReduceLogSum"),
    reduction("ReduceLogSumExp"),
    exact_reduction("ReduceMax"),
    reduction("ReduceMean"),
    exact_reduction("ReduceMin"),
    exact_reduction("ReduceProd"),
    exact_reduction("ReduceSum"),
    reduction("ReduceSumSquare"),
    OpSchema { infer: infer_top_k, ..OpSchema::new("TopK") },
];

fn infer_reduce(cx: &mut InferCx) -> Inferred {
    let dtype = cx.dtype(0);
    let Some(rank) = cx.rank(0) else {
        cx.set(0, dtype, None);
        return Ok(());
    };
    let noop = cx.op().int_or("noop_with_empty_axes", 0) != 0;
    let keep = cx.op().int_or("keepdims", 1) != 0;
    let all: Vec<usize> = (0..rank).collect();
    let axes = match cx.axes_arg(1, rank, all.clone())? {
        Some(axes) if axes.is_empty() && noop => return infer_noop(cx),
        Some(_) if noop && !cx.has(1) && cx.op().attr("axes").is_none() => return infer_noop(cx),
        Some(axes) if axes.is_empty() => Some(all),
        other => other,
    };
    let Some(axes) = axes else {
        let shape = keep.then(|| (0..rank).map(|_| Dim::fresh()).collect::<Shape>());
        cx.set(0, dtype, shape);
        return Ok(());
    };
    let shape = reduced(cx.shape(0).map_or(&[], |s| s), &axes, keep);
    cx.set(0, dtype, Some(shape));
    reduce_ints(cx, rank);
    Ok(())
}

fn infer_noop(cx: &mut InferCx) -> Inferred {
    cx.copy_type(0, 0);
    Ok(())
}

/// `shape` without `axes`, or with 1 in their place.
fn reduced(shape: &[Dim], axes: &[usize], keep: bool) -> Shape {
    let mut out = Vec::with_capacity(shape.len());
    for (i, dim) in shape.iter().enumerate() {
        match axes.contains(&i) {
            false => out.push(dim.clone()),
            true if keep => out.push(Dim::Known(1)),
            true => {}
        }
    }
    out
}

/// The whole of a known vector reduced to one element.
fn reduce_ints(cx: &mut InferCx, rank: usize) {
    let Some(v) = cx.ints(0).filter(|v| rank == 1 && !v.is_empty()) else { return };
    let fold = |f: fn(&Dim, &Dim) -> Dim| v.iter().cloned().reduce(|a, b| f(&a, &b));
    let total = match cx.op().op_type.as_str() {
        "ReduceProd" => Some(Dim::product(&v)),
        "ReduceSum" => Some(Dim::sum(&v)),
        "ReduceMax" => fold(Dim::larger),
        "ReduceMin" => fold(Dim::smaller),
        _ => None,
    };
    if let Some(total) = total {
        cx.set_ints(0, vec![total]);
    }
}

fn infer_arg(cx: &mut InferCx) -> Inferred {
    let keep = cx.op().int_or("keepdims", 1) != 0;
    let shape = match cx.shape(0) {
        Some(shape) => {
            let axis = cx.axis(cx.op().int_or("axis", 0), shape.len())?;
            Some(reduced(shape, &[axis], keep))
        }
        None => None,
    };
    cx.set(0, Some(DType::I64), shape);
    Ok(())
}

fn infer_top_k(cx: &mut InferCx) -> Inferred {
    let dtype = cx.dtype(0);
    let Some(shape) = cx.shape(0) else {
        cx.set(0, dtype, None);
        cx.set(1, Some(DType::I64), None);
        return Ok(());
    };
    let axis = cx.axis(cx.op().int_or("axis", -1), shape.len())?;
    let k = match cx.arg("k", 1) {
        super::Arg::Ints(v) => v.into_iter().next().filter(Dim::is_some),
        _ => None,
    };
    let mut shape = shape.clone();
    shape[axis] = k.unwrap_or_else(Dim::fresh);
    cx.set(0, dtype, Some(shape.clone()));
    cx.set(1, Some(DType::I64), Some(shape));
    Ok(())
}
