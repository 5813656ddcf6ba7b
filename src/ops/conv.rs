//! Convolutions.

use super::facts::{count, operand_shape, result_shape};
use super::window::{Window, list};
use super::{Axes, InferCx, InferError, OpSchema, Quant, axes};
use crate::ir::{DType, Dim, Graph, OpId, Shape};

pub(super) static SCHEMAS: &[OpSchema] = &[
    OpSchema {
        infer: |cx| {
            let dtype = cx.dtype(0);
            infer(cx, 1, dtype)
        },
        macs: |g, op| macs(g, op, 1),
        quant: Quant::Weighted(1),
        axes: Axes::Rule(axes::conv),
        ..OpSchema::new("Conv")
    },
    OpSchema {
        infer: infer_transposed,
        macs: |g, op| {
            let kernel = operand_shape(g, op, 1)?.iter().skip(1);
            count(operand_shape(g, op, 0)?.iter().chain(kernel))
        },
        quant: Quant::Weighted(1),
        axes: Axes::Rule(axes::conv_transpose),
        ..OpSchema::new("ConvTranspose")
    },
    OpSchema {
        infer: |cx| infer(cx, 1, Some(DType::I32)),
        macs: |g, op| macs(g, op, 1),
        axes: Axes::Rule(axes::conv_integer),
        ..OpSchema::new("ConvInteger")
    },
    OpSchema {
        infer: |cx| {
            let dtype = cx.dtype(7);
            infer(cx, 3, dtype)
        },
        macs: |g, op| macs(g, op, 3),
        axes: Axes::Rule(axes::qlinear_conv),
        ..OpSchema::new("QLinearConv")
    },
    OpSchema {
        infer: |cx| {
            let dtype = cx.dtype(0);
            infer(cx, 1, dtype)
        },
        macs: |g, op| macs(g, op, 1),
        axes: Axes::Rule(axes::deform_conv),
        ..OpSchema::new("DeformConv")
    },
    OpSchema {
        infer: |cx| {
            cx.set(0, cx.dtype(0), cx.shape(0).cloned());
            let (Some(x), Some(w)) = (cx.shape(0), cx.shape(1)) else { return Ok(()) };
            let ([n, c, _], [_, _, k]) = (&x[..], &w[..]) else {
                return Err("input and weight must have rank 3".into());
            };
            let state = vec![n.clone(), c.clone(), k - &Dim::Known(1)];
            cx.set(1, cx.dtype(0), Some(state));
            Ok(())
        },
        macs: |g, op| {
            let kernel = operand_shape(g, op, 1)?.last()?;
            count(operand_shape(g, op, 0)?.iter().chain([kernel]))
        },
        ..OpSchema::new("CausalConvWithState")
    },
];

/// Number of spatial axes and the kernel along them, from `kernel_shape` or the weight in slot `w`.
fn kernel(cx: &InferCx, w: usize) -> Option<Vec<Dim>> {
    if let Some(k) = cx.op().ints("kernel_shape").filter(|k| !k.is_empty()) {
        return Some(k.iter().map(|&n| Dim::Known(n)).collect());
    }
    match (cx.shape(w), cx.rank(0)) {
        (Some(shape), _) => Some(shape.get(2..)?.to_vec()),
        (None, rank) => Some(vec![Dim::Unknown; rank?.checked_sub(2)?]),
    }
}

/// Batch and spatial dims of the input; unknown where nothing says more than the rank.
fn input_dims(cx: &InferCx, spatial: usize) -> Result<Shape, InferError> {
    match cx.shape(0) {
        None => Ok(vec![Dim::Unknown; spatial + 2]),
        Some(x) if x.len() == spatial + 2 => Ok(x.clone()),
        Some(x) => {
            Err(format!("input of rank {} under a kernel of {spatial} axes", x.len()).into())
        }
    }
}

pub(super) fn infer(cx: &mut InferCx, w: usize, dtype: Option<DType>) -> Result<(), InferError> {
    cx.set(0, dtype, None);
    let Some(kernel) = kernel(cx, w) else { return Ok(()) };
    let window = Window::of(cx.op(), kernel)?;
    let x = input_dims(cx, window.kernel.len())?;
    let weight = cx.shape(w);
    if let Some(weight) = weight.filter(|weight| weight.len() == x.len()) {
        let per_group = &weight[1] * &Dim::Known(cx.op().int_or("group", 1));
        if x[1].differs(&per_group) {
            return Err(format!("weight takes {per_group} channels, input has {}", x[1]).into());
        }
    }
    let out_channels = weight.and_then(|s| s.first().cloned()).unwrap_or(Dim::Unknown);
    let mut shape = vec![x[0].clone(), out_channels];
    shape.extend(window.positions(&x[2..])?);
    cx.set(0, dtype, Some(shape));
    Ok(())
}

fn infer_transposed(cx: &mut InferCx) -> Result<(), InferError> {
    cx.set(0, cx.dtype(0), None);
    let Some(kernel) = kernel(cx, 1) else { return Ok(()) };
    let window = Window::of(cx.op(), kernel)?;
    let n = window.kernel.len();
    let x = input_dims(cx, n)?;
    let spatial = match cx.op().ints("output_shape").filter(|s| !s.is_empty()) {
        Some(s) if s.len() >= n => s[s.len() - n..].iter().map(|&d| Dim::Known(d)).collect(),
        Some(_) => return Err("output_shape has too few entries".into()),
        None => window.spread(&x[2..], &list(cx.op(), "output_padding", n, 0)?)?,
    };
    let group = Dim::Known(cx.op().int_or("group", 1));
    let out_channels = match cx.shape(1) {
        Some(w) if w.len() == n + 2 => {
            if x[1].differs(&w[0]) {
                return Err(format!("weight takes {} channels, input has {}", w[0], x[1]).into());
            }
            &w[1] * &group
        }
        _ => Dim::Unknown,
    };
    let mut shape = vec![x[0].clone(), out_channels];
    shape.extend(spatial);
    cx.set(0, cx.dtype(0), Some(shape));
    Ok(())
}

/// Every result element sums over one weight row.
pub(super) fn macs(g: &Graph, op: OpId, w: usize) -> Option<Dim> {
    let row = operand_shape(g, op, w)?.iter().skip(1);
    count(result_shape(g, op, 0)?.iter().chain(row))
}
