//! `Slice` and `Split`.

use super::eval::layout;
use super::{Arg, Axes, InferCx, InferError, OpSchema, Quant, axes};
use crate::ir::{Dim, Shape};

type Inferred = Result<(), InferError>;

pub(super) static SCHEMAS: &[OpSchema] = &[
    OpSchema {
        infer: infer_slice,
        axes: Axes::Rule(axes::slice),
        quant: Quant::PassThrough,
        eval: Some(layout::slice),
        ..OpSchema::new("Slice")
    },
    OpSchema {
        infer: infer_split,
        axes: Axes::Rule(axes::split),
        quant: Quant::PassThrough,
        eval: Some(layout::split),
        ..OpSchema::new("Split")
    },
];

fn infer_slice(cx: &mut InferCx) -> Inferred {
    let dtype = cx.dtype(0);
    let Some(input) = cx.shape(0) else {
        cx.set(0, dtype, None);
        return Ok(());
    };
    let mut shape = input.clone();
    let (starts, ends) = (cx.arg("starts", 1), cx.arg("ends", 2));
    let Some(count) = slice_count(cx, &starts, &ends) else {
        cx.set(0, dtype, Some(shape.iter().map(|_| Dim::fresh()).collect()));
        return Ok(());
    };
    let leading: Vec<usize> = (0..count).collect();
    let Some(axes) = cx.axes_arg(3, shape.len(), leading)? else {
        cx.set(0, dtype, Some(shape.iter().map(|_| Dim::fresh()).collect()));
        return Ok(());
    };
    if axes.len() != count || axes.iter().any(|&a| a >= shape.len()) {
        return Err("starts, ends and axes do not belong together".into());
    }
    let one = Dim::Known(1);
    let steps = cx.arg("steps", 4);
    let mut whole = None;
    for (i, &axis) in axes.iter().enumerate() {
        let (start, end) = (element(&starts, i), element(&ends, i));
        let step = if steps == Arg::Absent { one.clone() } else { element(&steps, i) };
        let len = slice_length(&shape[axis], &start, &end, &step);
        whole = Some((start, end, step));
        shape[axis] = if len.is_some() { len } else { Dim::fresh() };
    }
    cx.set(0, dtype, Some(shape));
    if let (Some((start, end, step)), 1) = (whole, axes.len()) {
        slice_ints(cx, &start, &end, &step);
    }
    Ok(())
}

/// Number of axes that a slice names.
fn slice_count(cx: &InferCx, starts: &Arg, ends: &Arg) -> Option<usize> {
    let known = |a: &Arg| match a {
        Arg::Ints(v) => Some(v.len()),
        _ => None,
    };
    let operand = |i: usize| cx.shape(i)?.first()?.size();
    known(starts).or(known(ends)).or_else(|| operand(1)).or_else(|| operand(2))
}

fn element(arg: &Arg, i: usize) -> Dim {
    match arg {
        Arg::Ints(v) => v.get(i).cloned().unwrap_or(Dim::Unknown),
        _ => Dim::Unknown,
    }
}

/// Ends beyond this mean "to the end of the axis"; converters write it in several ways.
const FAR: i64 = 1_000_000_000;

/// Length of `dim` sliced; unknown where nothing exact can be said.
fn slice_length(dim: &Dim, start: &Dim, end: &Dim, step: &Dim) -> Dim {
    let (Some(step), true) = (step.known().filter(|&s| s != 0), dim.is_some()) else {
        return Dim::Unknown;
    };
    if let (Some(d), Some(s), Some(e)) = (dim.size(), start.known(), end.known()) {
        return layout::slice_range(d, s, e, step).map_or(Dim::Unknown, |r| r.count.into());
    }
    if step < 0 {
        let full =
            matches!(start.known(), Some(-1 | FAR..)) && end.known().is_some_and(|e| e <= -FAR);
        let len = dim.ceil_div(&Dim::Known(-step));
        return if full { len } else { Dim::Unknown };
    }
    let (start, end) = (bound(dim, start), bound(dim, end));
    let span = &end - &start;
    let span = if span.at_least(0) { span } else { span.larger(&Dim::Known(0)) };
    if step == 1 { span } else { span.ceil_div(&Dim::Known(step)) }
}

/// A start or end of a forward slice, clamped to the axis.
fn bound(dim: &Dim, at: &Dim) -> Dim {
    let zero = Dim::Known(0);
    match at.known() {
        Some(FAR..) => dim.clone(),
        Some(n) if n < -FAR => zero,
        Some(n) if n < 0 => (dim + at).larger(&zero),
        Some(_) => dim.smaller(at),
        None if at.at_least(0) => dim.smaller(at),
        None => Dim::Unknown,
    }
}

/// The elements of a sliced vector.
fn slice_ints(cx: &mut InferCx, start: &Dim, end: &Dim, step: &Dim) {
    let Some(v) = cx.ints(0).filter(|_| cx.rank(0) == Some(1)) else { return };
    if let (Some(s), Some(e), Some(k)) = (start.known(), end.known(), step.known())
        && let Some(range) = layout::slice_range(v.len(), s, e, k)
    {
        cx.set_ints(0, range.indices().map(|i| v[i].clone()).collect());
    }
}

fn infer_split(cx: &mut InferCx) -> Inferred {
    let (dtype, parts) = (cx.dtype(0), cx.op().result_count());
    let Some(input) = cx.shape(0) else {
        for i in 0..parts {
            cx.set(i, dtype, None);
        }
        return Ok(());
    };
    let axis = cx.axis(cx.op().int_or("axis", 0), input.len())?;
    let lengths = match cx.arg("split", 1) {
        Arg::Ints(v) if v.len() != parts => return Err("split does not name every part".into()),
        Arg::Ints(v) => v,
        Arg::Unknown => vec![Dim::Unknown; parts],
        Arg::Absent => even_parts(cx, &input[axis], parts),
    };
    let vector = cx.ints(0).filter(|_| input.len() == 1);
    let mut at = Some(0usize);
    for (i, len) in lengths.into_iter().enumerate() {
        let mut shape: Shape = input.clone();
        let end = at.zip(len.size()).and_then(|(a, n)| a.checked_add(n));
        if let (Some(v), Some(a), Some(e)) = (&vector, at, end)
            && let Some(part) = v.get(a..e)
        {
            cx.set_ints(i, part.to_vec());
        }
        at = end;
        shape[axis] = if len.is_some() { len } else { Dim::fresh() };
        cx.set(i, dtype, Some(shape));
    }
    Ok(())
}

/// Lengths of `parts` equal parts; where they do not divide the axis, the last is shorter.
fn even_parts(cx: &InferCx, dim: &Dim, parts: usize) -> Vec<Dim> {
    let count = cx.op().int_or("num_outputs", i64::try_from(parts).unwrap_or(0));
    if count <= 0 {
        return vec![Dim::Unknown; parts];
    }
    let chunk = dim.ceil_div(&Dim::Known(count));
    if let Some(exact) = dim.div_exact(&Dim::Known(count)) {
        return vec![exact; parts];
    }
    // Versions without `num_outputs` promise equal parts.
    if cx.op().int("num_outputs").is_none() {
        return vec![dim.floor_div(&Dim::Known(count)); parts];
    }
    let mut lengths = vec![chunk.clone(); parts];
    if let Some(last) = lengths.last_mut() {
        *last = dim - &(&chunk * &Dim::Known(count - 1));
    }
    lengths
}
