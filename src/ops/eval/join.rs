//! Kernels that put together elements of several tensors.

use super::{Results, Run, assemble, assemble_runs, axis_attr, ints_arg, room};
use crate::ir::{DType, Tensor, element_count};
use crate::ops::{EvalCx, normalize_axis};

/// `Concat`.
pub(in crate::ops) fn concat(cx: &EvalCx) -> Results {
    let parts: Vec<&Tensor> = cx.operands.iter().copied().collect::<Option<_>>()?;
    let first = *parts.first()?;
    let axis = axis_attr(cx, 1, first.rank())?;
    let mut dims = first.dims().to_vec();
    dims[axis] = 0;
    for t in &parts {
        let others = |d: &[usize]| [&d[..axis], &d[axis + 1..]].concat();
        if t.rank() != dims.len() || others(t.dims()) != others(&dims) {
            return None;
        }
        dims[axis] = dims[axis].checked_add(t.dims()[axis])?;
    }
    let outer: usize = dims[..axis].iter().product();
    let inner = |t: &Tensor| t.dims()[axis..].iter().product::<usize>();
    let parts = parts.into_iter().map(|t| (t, inner(t))).filter(|(_, n)| *n > 0);
    let parts: Vec<(&Tensor, usize)> = parts.collect();
    let row = |o| move |&(tensor, count)| Run { tensor, start: o * count, count, step: 1 };
    let runs = (0..outer).flat_map(|o| parts.iter().map(row(o)));
    Some(vec![assemble_runs(cx, first.dtype(), dims, runs)?])
}

/// How `Pad` fills.
#[derive(Clone, Copy, PartialEq)]
enum Mode {
    Constant,
    Edge,
    Reflect,
    Wrap,
}

/// The index along an axis of size `n` that fills place `i`, counted from the first own element;
/// `None` where the constant goes.
fn source(mode: Mode, i: i64, n: i64) -> Option<i64> {
    if (0..n).contains(&i) {
        return Some(i);
    }
    match mode {
        Mode::Edge if n > 0 => Some(i.clamp(0, n - 1)),
        Mode::Wrap if n > 0 => Some(i.rem_euclid(n)),
        Mode::Reflect if n > 1 => {
            let period = 2 * (n - 1);
            let i = i.rem_euclid(period);
            Some(if i < n { i } else { period - i })
        }
        _ => None,
    }
}

/// `Pad`.
pub(in crate::ops) fn pad(cx: &EvalCx) -> Results {
    let a = cx.operand(0)?;
    let rank = a.rank();
    let mode = match cx.op.str("mode") {
        None | Some("constant") => Mode::Constant,
        Some("edge") => Mode::Edge,
        Some("reflect") => Mode::Reflect,
        Some("wrap") => Mode::Wrap,
        Some(_) => return None,
    };
    let given = ints_arg(cx, if cx.opset < 2 { "paddings" } else { "pads" }, 1)??;
    let axes: Vec<usize> = match cx.operand(3) {
        Some(t) => {
            t.to_i64()?.into_iter().map(|x| normalize_axis(x, rank)).collect::<Option<_>>()?
        }
        None => (0..rank).collect(),
    };
    if given.len() != 2 * axes.len() {
        return None;
    }
    let (mut before, mut dims) = (vec![0i64; rank], a.dims().to_vec());
    for (i, &axis) in axes.iter().enumerate() {
        let (b, e) = (given[i], given[i + axes.len()]);
        let size = i64::try_from(dims[axis]).ok()?.checked_add(b)?.checked_add(e)?;
        before[axis] = b;
        dims[axis] = usize::try_from(size).ok()?;
    }
    room(cx, a.dtype(), &dims)?;
    let fill = pad_value(cx, a.dtype())?;
    let mut at = vec![0usize; rank];
    let mut sources = Vec::with_capacity(element_count(&dims)?);
    for _ in 0..element_count(&dims)? {
        let mut index = Some(0usize);
        for axis in 0..rank {
            let n = a.dims()[axis];
            let here = i64::try_from(at[axis]).ok()?.checked_sub(before[axis])?;
            let from = source(mode, here, i64::try_from(n).ok()?);
            index = index.zip(from).map(|(index, from)| index * n + from as usize);
        }
        if index.is_none() && mode != Mode::Constant {
            return None;
        }
        sources.push(index);
        advance(&mut at, &dims);
    }
    let pick = |index: Option<usize>| index.map_or((&fill, 0), |i| (a, i));
    Some(vec![assemble(cx, a.dtype(), dims, sources.into_iter().map(pick))?])
}

/// The next place in row-major order.
fn advance(at: &mut [usize], dims: &[usize]) {
    for (place, &size) in at.iter_mut().zip(dims).rev() {
        *place += 1;
        if *place < size {
            return;
        }
        *place = 0;
    }
}

fn pad_value(cx: &EvalCx, dtype: DType) -> Option<Tensor> {
    match (cx.operand(2), cx.op.float("value")) {
        (Some(t), _) => (t.len() == 1 && t.dtype() == dtype).then(|| t.clone()),
        (None, Some(v)) => Tensor::from_f32(dtype, &[], &[v]),
        (None, None) if dtype == DType::Str => None,
        (None, None) => zero(dtype),
    }
}

/// A zero of any numeric type.
fn zero(dtype: DType) -> Option<Tensor> {
    Tensor::new(dtype, Vec::new(), vec![0; dtype.byte_len(1)?].into()).ok()
}

/// `Trilu`.
pub(in crate::ops) fn trilu(cx: &EvalCx) -> Results {
    let a = cx.operand(0)?;
    let k = match cx.operand(1) {
        Some(t) => i128::from(*t.to_i64()?.first()?),
        None => 0,
    };
    let upper = cx.op.int_or("upper", 1) != 0;
    let [.., rows, columns] = *a.dims() else { return None };
    let zero = zero(a.dtype())?;
    let pick = |i: usize| {
        let (row, column) = ((i / columns % rows) as i128, (i % columns) as i128);
        let keep = if upper { column - row >= k } else { column - row <= k };
        if keep { (a, i) } else { (&zero, 0) }
    };
    Some(vec![assemble(cx, a.dtype(), a.dims().to_vec(), (0..a.len()).map(pick))?])
}
