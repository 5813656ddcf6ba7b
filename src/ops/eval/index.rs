//! Kernels that select by index.

use super::{Results, Run, assemble, assemble_runs, axis_attr, room, row_major, take};
use crate::ir::{DType, Tensor, element_count};
use crate::ops::{EvalCx, normalize_axis};

/// `Gather`.
pub(in crate::ops) fn gather(cx: &EvalCx) -> Results {
    let (a, indices) = (cx.operand(0)?, cx.operand(1)?);
    let axis = axis_attr(cx, 0, a.rank())?;
    let n = a.dims()[axis];
    let dims = [&a.dims()[..axis], indices.dims(), &a.dims()[axis + 1..]].concat();
    room(cx, a.dtype(), &dims)?;
    let picks: Vec<usize> =
        indices.to_i64()?.into_iter().map(|i| normalize_axis(i, n)).collect::<Option<_>>()?;
    let outer = element_count(&a.dims()[..axis])?;
    let inner = element_count(&a.dims()[axis + 1..])?;
    if inner == 0 {
        return Some(vec![take(cx, a, dims, std::iter::empty())?]);
    }
    let run = |start| Run { tensor: a, start, count: inner, step: 1 };
    let runs = (0..outer).flat_map(|o| picks.iter().map(move |i| run((o * n + i) * inner)));
    Some(vec![assemble_runs(cx, a.dtype(), dims, runs)?])
}

/// `GatherElements`.
pub(in crate::ops) fn gather_elements(cx: &EvalCx) -> Results {
    let (a, indices) = (cx.operand(0)?, cx.operand(1)?);
    let axis = axis_attr(cx, 0, a.rank())?;
    if indices.rank() != a.rank() {
        return None;
    }
    room(cx, a.dtype(), indices.dims())?;
    let (from, own) = (row_major(a.dims()), row_major(indices.dims()));
    let place = |(k, i): (usize, i64)| {
        let picked = normalize_axis(i, a.dims()[axis])?;
        (0..a.rank()).try_fold(0usize, |sum, x| {
            let at =
                if x == axis { picked } else { k / own[x].max(1) as usize % indices.dims()[x] };
            (at < a.dims()[x]).then_some(sum + at * from[x] as usize)
        })
    };
    let picks: Option<Vec<usize>> = indices.to_i64()?.into_iter().enumerate().map(place).collect();
    Some(vec![take(cx, a, indices.dims().to_vec(), picks?.into_iter())?])
}

/// Where the slices start that the rows of `indices` name in `dims`, and how long they are.
fn slices(dims: &[usize], indices: &Tensor, batch: usize) -> Option<(Vec<usize>, usize)> {
    let (&depth, outer) = indices.dims().split_last()?;
    let end = batch.checked_add(depth)?;
    let (named, inner) = (dims.get(batch..end)?, element_count(dims.get(end..)?)?);
    let batches = element_count(dims.get(..batch)?)?;
    let rows = element_count(outer)?;
    let whole = element_count(named)?.checked_mul(inner)?;
    let values = indices.to_i64()?;
    let start = |row: usize| {
        let mut at = 0usize;
        for (k, &n) in named.iter().enumerate() {
            at = at * n + normalize_axis(*values.get(row * depth + k)?, n)?;
        }
        Some(row * batches / rows * whole + at * inner)
    };
    Some(((0..rows).map(start).collect::<Option<_>>()?, inner))
}

/// `GatherND`.
pub(in crate::ops) fn gather_nd(cx: &EvalCx) -> Results {
    let (a, indices) = (cx.operand(0)?, cx.operand(1)?);
    let batch = usize::try_from(cx.op.int_or("batch_dims", 0)).ok()?;
    let (depth, outer) = indices.dims().split_last()?;
    let dims = [outer, a.dims().get(batch.checked_add(*depth)?..)?].concat();
    room(cx, a.dtype(), &dims)?;
    if a.dims().get(..batch)? != indices.dims().get(..batch)? {
        return None;
    }
    let (starts, inner) = slices(a.dims(), indices, batch)?;
    let walk = starts.into_iter().flat_map(|s| s..s + inner);
    Some(vec![take(cx, a, dims, walk)?])
}

/// `ScatterND` without a reduction.
pub(in crate::ops) fn scatter_nd(cx: &EvalCx) -> Results {
    let (a, indices, updates) = (cx.operand(0)?, cx.operand(1)?, cx.operand(2)?);
    if !matches!(cx.op.str("reduction"), None | Some("none")) {
        return None;
    }
    room(cx, DType::I64, a.dims())?;
    let (starts, inner) = slices(a.dims(), indices, 0)?;
    if updates.len() != starts.len().checked_mul(inner)? {
        return None;
    }
    let mut sources: Vec<(&Tensor, usize)> = (0..a.len()).map(|i| (a, i)).collect();
    for (row, start) in starts.into_iter().enumerate() {
        for i in 0..inner {
            *sources.get_mut(start + i)? = (updates, row * inner + i);
        }
    }
    Some(vec![assemble(cx, a.dtype(), a.dims().to_vec(), sources.into_iter())?])
}

/// `NonZero`.
pub(in crate::ops) fn non_zero(cx: &EvalCx) -> Results {
    let a = cx.operand(0)?;
    let rank = a.rank();
    if rank == 0 {
        return None;
    }
    room(cx, DType::I64, &[rank, a.len()])?;
    let values = a.to_f64()?;
    let at: Vec<usize> = (0..a.len()).filter(|&i| values[i] != 0.0).collect();
    let strides = row_major(a.dims());
    let coordinate = |x: usize, i: usize| (i / strides[x] as usize % a.dims()[x]) as i64;
    let out: Vec<i64> = (0..rank)
        .flat_map(|x| at.iter().map(move |&i| (x, i)))
        .map(|(x, i)| coordinate(x, i))
        .collect();
    Some(vec![Tensor::of(&[rank, at.len()], &out)])
}
