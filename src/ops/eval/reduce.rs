//! Reductions whose result does not depend on the order of adding up.

use super::number::{Binary, Number, with_number};
use super::{Results, Strided, axes_arg, axis_attr, room, row_major};
use crate::ir::{DType, Tensor};
use crate::ops::EvalCx;

/// For every element of the result, the elements of the operand that it stands for.
struct Plan {
    dims: Vec<usize>,
    starts: Vec<usize>,
    inner: Vec<usize>,
}

fn plan(dims: &[usize], axes: &[usize], keep: bool) -> Plan {
    let strides = row_major(dims);
    let part = |reduced: bool| {
        let chosen = (0..dims.len()).filter(move |i| axes.contains(i) == reduced);
        let (d, s): (Vec<usize>, Vec<isize>) = chosen.map(|i| (dims[i], strides[i])).unzip();
        Strided::new(d, s, 0).collect::<Vec<usize>>()
    };
    let kept = |i: usize| match axes.contains(&i) {
        true => keep.then_some(1),
        false => Some(dims[i]),
    };
    let out = (0..dims.len()).filter_map(kept).collect();
    Plan { dims: out, starts: part(false), inner: part(true) }
}

/// `ReduceSum`, `ReduceProd`, `ReduceMin` and `ReduceMax`, where exact.
pub(in crate::ops) fn reduce(cx: &EvalCx) -> Results {
    let a = cx.operand(0)?;
    let op = match cx.op.op_type.as_str() {
        "ReduceSum" => Binary::Add,
        "ReduceProd" => Binary::Mul,
        "ReduceMin" => Binary::Min,
        "ReduceMax" => Binary::Max,
        _ => return None,
    };
    if a.dtype().is_float() && matches!(op, Binary::Add | Binary::Mul) {
        return None;
    }
    room(cx, DType::I64, a.dims())?;
    let all: Vec<usize> = (0..a.rank()).collect();
    let mut axes = axes_arg(cx, 1, a.rank(), Vec::new())?;
    if axes.is_empty() {
        if cx.op.int_or("noop_with_empty_axes", 0) != 0 {
            return Some(vec![a.clone()]);
        }
        axes = all;
    }
    let plan = plan(a.dims(), &axes, cx.op.int_or("keepdims", 1) != 0);
    Some(vec![with_number!(a.dtype(), reduce_as(op, a, plan))?])
}

fn reduce_as<T: Number>(op: Binary, a: &Tensor, plan: Plan) -> Option<Tensor> {
    let values = a.to_vec::<T>()?;
    let total = |start: &usize| {
        let mut elements = plan.inner.iter().map(|i| values.get(start + i).copied());
        let first = elements.next()??;
        elements.try_fold(first, |a, b| T::binary(op, a, b?))
    };
    let out: Option<Vec<T>> = plan.starts.iter().map(total).collect();
    Some(Tensor::of(&plan.dims, &out?))
}

/// `ArgMax` and `ArgMin`.
pub(in crate::ops) fn arg(cx: &EvalCx) -> Results {
    let a = cx.operand(0)?;
    room(cx, DType::I64, a.dims())?;
    let axis = axis_attr(cx, 0, a.rank())?;
    let plan = plan(a.dims(), &[axis], cx.op.int_or("keepdims", 1) != 0);
    let last = cx.op.int_or("select_last_index", 0) != 0;
    let max = cx.op.is("ArgMax");
    Some(vec![with_number!(a.dtype(), arg_as(a, plan, max, last))?])
}

fn arg_as<T: Number>(a: &Tensor, plan: Plan, max: bool, last: bool) -> Option<Tensor> {
    let values = a.to_vec::<T>()?;
    let best = |start: &usize| {
        let mut best: Option<(i64, T)> = None;
        for (k, i) in plan.inner.iter().enumerate() {
            let v = *values.get(start + i)?;
            let better = match best {
                None => true,
                Some((_, b)) => {
                    let order = v.partial_cmp(&b)?;
                    (if max { order.is_gt() } else { order.is_lt() }) || (last && order.is_eq())
                }
            };
            if better {
                best = Some((i64::try_from(k).ok()?, v));
            }
        }
        best.map(|b| b.0)
    };
    let out: Option<Vec<i64>> = plan.starts.iter().map(best).collect();
    Some(Tensor::of(&plan.dims, &out?))
}

/// `CumSum` over integers.
pub(in crate::ops) fn cum_sum(cx: &EvalCx) -> Results {
    let (a, axis) = (cx.operand(0)?, cx.operand(1)?.to_i64()?);
    let axis = crate::ops::normalize_axis(*axis.first()?, a.rank())?;
    if a.dtype().is_float() {
        return None;
    }
    room(cx, a.dtype(), a.dims())?;
    let plan = plan(a.dims(), &[axis], false);
    let exclusive = cx.op.int_or("exclusive", 0) != 0;
    let reverse = cx.op.int_or("reverse", 0) != 0;
    Some(vec![with_number!(a.dtype(), cum_sum_as(a, plan, exclusive, reverse))?])
}

fn cum_sum_as<T: Number>(a: &Tensor, p: Plan, exclusive: bool, reverse: bool) -> Option<Tensor> {
    let values = a.to_vec::<T>()?;
    let mut out = values.clone();
    for start in &p.starts {
        let mut total: Option<T> = None;
        let n = p.inner.len();
        for k in 0..n {
            let at = start + p.inner[if reverse { n - 1 - k } else { k }];
            let v = *values.get(at)?;
            let next = match total {
                Some(t) => T::binary(Binary::Add, t, v)?,
                None => v,
            };
            out[at] = match (exclusive, total) {
                (false, _) => next,
                (true, Some(t)) => t,
                (true, None) => T::binary(Binary::Sub, v, v)?,
            };
            total = Some(next);
        }
    }
    Some(Tensor::of(a.dims(), &out))
}
