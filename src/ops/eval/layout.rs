//! Kernels that rearrange the elements of one tensor, whatever their type.

use super::{
    Results, Strided, axes_arg, axis_attr, broadcast_dims, ints_arg, room, row_major, walk,
};
use crate::ir::Tensor;
use crate::ops::{EvalCx, normalize_axis};

/// `Identity`.
pub(in crate::ops) fn identity(cx: &EvalCx) -> Results {
    Some(vec![cx.operand(0)?.clone()])
}

/// `Reshape`, `Flatten`, `Squeeze` and `Unsqueeze`.
pub(in crate::ops) fn reshape(cx: &EvalCx) -> Results {
    let a = cx.operand(0)?;
    let dims = match cx.op.op_type.as_str() {
        "Reshape" => reshape_dims(cx, a)?,
        "Flatten" => {
            let axis = match cx.op.int_or("axis", 1) {
                n if usize::try_from(n) == Ok(a.rank()) => a.rank(),
                n => normalize_axis(n, a.rank())?,
            };
            let (left, right) = a.dims().split_at(axis);
            vec![left.iter().product(), right.iter().product()]
        }
        "Squeeze" => {
            let ones = (0..a.rank()).filter(|&i| a.dims()[i] == 1).collect();
            let axes = axes_arg(cx, 1, a.rank(), ones)?;
            (0..a.rank()).filter(|i| !axes.contains(i)).map(|i| a.dims()[i]).collect()
        }
        _ => {
            let count = ints_arg(cx, "axes", 1)??.len();
            let rank = a.rank().checked_add(count)?;
            let axes = axes_arg(cx, 1, rank, Vec::new())?;
            let mut old = a.dims().iter().copied();
            let size = |i: usize| if axes.contains(&i) { Some(1) } else { old.next() };
            (0..rank).map(size).collect::<Option<_>>()?
        }
    };
    Some(vec![a.reshaped(dims)?])
}

fn reshape_dims(cx: &EvalCx, a: &Tensor) -> Option<Vec<usize>> {
    let wish = ints_arg(cx, "shape", 1)??;
    let zero = cx.op.int_or("allowzero", 0) != 0;
    let size = |(i, d): (usize, &i64)| match d {
        0 if !zero => a.dims().get(i).copied().map(Some),
        -1 => Some(None),
        d => usize::try_from(*d).ok().map(Some),
    };
    let dims: Vec<Option<usize>> = wish.iter().enumerate().map(size).collect::<Option<_>>()?;
    let known = crate::ir::element_count(&dims.iter().flatten().copied().collect::<Vec<_>>())?;
    let rest = a.len().checked_div(known);
    dims.into_iter().map(|d| d.or(rest)).collect()
}

/// `Transpose`.
pub(in crate::ops) fn transpose(cx: &EvalCx) -> Results {
    let a = cx.operand(0)?;
    let perm: Vec<usize> = match cx.op.ints("perm") {
        Some(p) => p.iter().map(|&x| normalize_axis(x, a.rank())).collect::<Option<_>>()?,
        None => (0..a.rank()).rev().collect(),
    };
    Some(vec![permuted(cx, a, a.dims(), &perm)?])
}

/// `a`, read with dims `dims`, transposed.
fn permuted(cx: &EvalCx, a: &Tensor, dims: &[usize], perm: &[usize]) -> Option<Tensor> {
    if perm.len() != dims.len() || crate::ir::element_count(dims)? != a.len() {
        return None;
    }
    let strides = row_major(dims);
    let out: Vec<usize> = perm.iter().map(|&p| dims[p]).collect();
    let moved = perm.iter().map(|&p| strides[p]).collect();
    walk(cx, a, out.clone(), Strided::new(out, moved, 0))
}

/// The indices that a slice picks along an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(in crate::ops) struct SliceRange {
    start: i64,
    step: i64,
    /// How many.
    pub count: usize,
}

impl SliceRange {
    /// The indices.
    pub fn indices(self) -> impl Iterator<Item = usize> {
        (0..self.count as i64).map(move |k| (self.start + k * self.step) as usize)
    }
}

/// What `Slice` picks from an axis of size `dim`; `None` for a step of 0.
pub(in crate::ops) fn slice_range(
    dim: usize,
    start: i64,
    end: i64,
    step: i64,
) -> Option<SliceRange> {
    let dim = i64::try_from(dim).ok()?;
    let from_front = |v: i64| if v < 0 { v.saturating_add(dim) } else { v };
    let (lo, hi) = if step > 0 { (0, dim) } else { (-1, dim - 1) };
    let start = from_front(start).clamp(if step > 0 { 0 } else { lo.max(0).min(hi) }, hi);
    let end = from_front(end).clamp(lo, hi);
    let span = match step {
        0 => return None,
        s if s > 0 => i128::from(end) - i128::from(start),
        _ => i128::from(start) - i128::from(end),
    };
    let step_size = i128::from(step).abs();
    let count = usize::try_from((span.max(0) + step_size - 1) / step_size).ok()?;
    let step = if count > 1 { step } else { 0 };
    Some(SliceRange { start, step, count })
}

/// `Slice`.
pub(in crate::ops) fn slice(cx: &EvalCx) -> Results {
    let a = cx.operand(0)?;
    let (starts, ends) = (ints_arg(cx, "starts", 1)??, ints_arg(cx, "ends", 2)??);
    let axes = axes_arg(cx, 3, a.rank(), (0..starts.len()).collect())?;
    let steps = ints_arg(cx, "steps", 4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if ends.len() != starts.len() || axes.len() != starts.len() || steps.len() != starts.len() {
        return None;
    }
    let (mut dims, mut strides) = (a.dims().to_vec(), row_major(a.dims()));
    let mut offset = 0;
    for (i, &axis) in axes.iter().enumerate() {
        let range = slice_range(*a.dims().get(axis)?, starts[i], ends[i], steps[i])?;
        offset += isize::try_from(range.start.max(0)).ok()? * strides[axis];
        dims[axis] = range.count;
        strides[axis] *= isize::try_from(range.step).ok()?;
    }
    Some(vec![walk(cx, a, dims.clone(), Strided::new(dims, strides, offset))?])
}

/// `Split`.
pub(in crate::ops) fn split(cx: &EvalCx) -> Results {
    let a = cx.operand(0)?;
    let axis = axis_attr(cx, 0, a.rank())?;
    let parts = cx.op.result_count();
    let lengths: Vec<usize> = match ints_arg(cx, "split", 1)? {
        Some(v) => v.into_iter().map(|n| usize::try_from(n).ok()).collect::<Option<_>>()?,
        None => {
            let chunk = a.dims()[axis].div_ceil(parts.max(1));
            let start = |i: usize| (chunk * i).min(a.dims()[axis]);
            (0..parts).map(|i| start(i + 1) - start(i)).collect()
        }
    };
    if lengths.len() != parts {
        return None;
    }
    let strides = row_major(a.dims());
    let mut at: usize = 0;
    let mut results = Vec::with_capacity(parts);
    for n in lengths {
        let mut dims = a.dims().to_vec();
        dims[axis] = n;
        if at.checked_add(n)? > a.dims()[axis] {
            return None;
        }
        let offset = isize::try_from(at).ok()? * strides[axis];
        let part = Strided::new(dims.clone(), strides.clone(), offset);
        results.push(walk(cx, a, dims, part)?);
        at += n;
    }
    Some(results)
}

/// `Expand`.
pub(in crate::ops) fn expand(cx: &EvalCx) -> Results {
    let a = cx.operand(0)?;
    let wish = cx.operand(1)?.to_i64()?;
    let wish: Vec<usize> =
        wish.into_iter().map(|d| usize::try_from(d).ok()).collect::<Option<_>>()?;
    let dims = broadcast_dims(a.dims(), &wish)?;
    let repeated = Strided::broadcast(a.dims(), &dims)?;
    Some(vec![walk(cx, a, dims, repeated)?])
}

/// `Tile`.
pub(in crate::ops) fn tile(cx: &EvalCx) -> Results {
    let (a, repeats) = (cx.operand(0)?, cx.operand(1)?.to_i64()?);
    if cx.opset < 6 || repeats.len() != a.rank() {
        return None;
    }
    let (mut dims, mut walked, mut strides) = (Vec::new(), Vec::new(), Vec::new());
    for ((&d, r), stride) in a.dims().iter().zip(repeats).zip(row_major(a.dims())) {
        let r = usize::try_from(r).ok()?;
        dims.push(d.checked_mul(r)?);
        walked.extend([r, d]);
        strides.extend([0, stride]);
    }
    room(cx, a.dtype(), &dims)?;
    Some(vec![walk(cx, a, dims, Strided::new(walked, strides, 0))?])
}

/// `DepthToSpace`.
pub(in crate::ops) fn depth_to_space(cx: &EvalCx) -> Results {
    let (a, b) = (cx.operand(0)?, usize::try_from(cx.op.int("blocksize")?).ok()?);
    let [n, c, h, w] = *a.dims() else { return None };
    let depth = c.checked_div(b.checked_mul(b)?)?;
    let (split, perm) = match cx.op.str("mode") {
        Some("CRD") => ([n, depth, b, b, h, w], [0, 1, 4, 2, 5, 3]),
        _ => ([n, b, b, depth, h, w], [0, 3, 4, 1, 5, 2]),
    };
    let moved = permuted(cx, a, &split, &perm)?;
    Some(vec![moved.reshaped(vec![n, depth, h.checked_mul(b)?, w.checked_mul(b)?])?])
}

/// `SpaceToDepth`.
pub(in crate::ops) fn space_to_depth(cx: &EvalCx) -> Results {
    let (a, b) = (cx.operand(0)?, usize::try_from(cx.op.int("blocksize")?).ok()?);
    let [n, c, h, w] = *a.dims() else { return None };
    let (h, w) = (h.checked_div(b)?, w.checked_div(b)?);
    let moved = permuted(cx, a, &[n, c, h, b, w, b], &[0, 3, 5, 1, 2, 4])?;
    Some(vec![moved.reshaped(vec![n, c.checked_mul(b.checked_mul(b)?)?, h, w])?])
}
