//! Operators that read the same elements under another shape.

use super::eval::layout;
use super::{Arg, Axes, InferCx, InferError, OpSchema, Quant};
use crate::ir::{Dim, Shape};

type Inferred = Result<(), InferError>;

const fn reshaping(op_type: &'static str, infer: fn(&mut InferCx) -> Inferred) -> OpSchema {
    OpSchema {
        infer,
        axes: Axes::Reshape,
        quant: Quant::PassThrough,
        eval: Some(layout::reshape),
        ..OpSchema::new(op_type)
    }
}

pub(super) static SCHEMAS: &[OpSchema] = &[
    reshaping("Flatten", infer_flatten),
    OpSchema { idempotent: true, ..reshaping("Reshape", infer_reshape) },
    reshaping("Squeeze", infer_squeeze),
    reshaping("Unsqueeze", infer_unsqueeze),
];

fn infer_reshape(cx: &mut InferCx) -> Inferred {
    let dtype = cx.dtype(0);
    let wish = match cx.arg("shape", 1) {
        Arg::Ints(v) => v,
        _ => {
            cx.set(0, dtype, super::creation::shape_from(cx, 1));
            return Ok(());
        }
    };
    let allow_zero = cx.op().int_or("allowzero", 0) != 0;
    let shape = reshaped(cx.shape(0), &wish, allow_zero)?;
    let rank = shape.len();
    cx.set(0, dtype, Some(shape));
    if rank <= 1 {
        cx.copy_ints(0, 0);
    }
    Ok(())
}

/// What `Reshape` makes of `input` for the wished shape. One size that is missing, be it `-1` or
/// not known, follows from the others.
fn reshaped(input: Option<&Shape>, wish: &[Dim], allow_zero: bool) -> Result<Shape, InferError> {
    let mut out: Vec<Option<Dim>> = Vec::with_capacity(wish.len());
    for (i, d) in wish.iter().enumerate() {
        out.push(match d.known() {
            Some(-1) => None,
            Some(0) if !allow_zero => match input {
                None => Some(Dim::fresh()),
                Some(s) => Some(s.get(i).ok_or("a 0 in the shape names no axis of the input")?)
                    .filter(|d| d.is_some())
                    .cloned(),
            },
            Some(n) if n < -1 => return Err(format!("a size of {n} in the shape").into()),
            _ => Some(d.clone()).filter(Dim::is_some),
        });
    }
    if wish.iter().filter(|d| d.known() == Some(-1)).count() > 1 {
        return Err("more than one -1 in the shape".into());
    }
    let known = Dim::product(out.iter().flatten());
    let missing = out.iter().filter(|d| d.is_none()).count();
    let total = input.map_or(Dim::Unknown, Dim::product);
    if missing == 0 && total.differs(&known) {
        return Err(format!("{total} elements do not fill {known}").into());
    }
    let rest = if missing == 1 { missing_size(&total, &known)? } else { Dim::Unknown };
    let fill = |d: Option<Dim>| d.unwrap_or_else(|| some_or_fresh(&rest));
    Ok(out.into_iter().map(fill).collect())
}

fn some_or_fresh(d: &Dim) -> Dim {
    if d.is_some() { d.clone() } else { Dim::fresh() }
}

fn missing_size(total: &Dim, known: &Dim) -> Result<Dim, InferError> {
    match (total.known(), known.known()) {
        (_, Some(0)) => Ok(Dim::Unknown),
        (Some(t), Some(k)) if t % k != 0 => {
            Err(format!("{t} elements do not divide by {k}").into())
        }
        (_, Some(1)) => Ok(total.clone()),
        _ => Ok(total.div_exact(known).unwrap_or(match known.known() {
            Some(k) if k > 0 => total.floor_div(known),
            _ => Dim::Unknown,
        })),
    }
}

fn infer_flatten(cx: &mut InferCx) -> Inferred {
    let dtype = cx.dtype(0);
    let Some(shape) = cx.shape(0) else {
        cx.set(0, dtype, Some(vec![Dim::fresh(), Dim::fresh()]));
        return Ok(());
    };
    let rank = shape.len();
    let axis = match cx.op().int_or("axis", 1) {
        a if a == rank as i64 => rank,
        a => cx.axis(a, rank)?,
    };
    let side = |dims: &[Dim]| some_or_fresh(&Dim::product(dims));
    cx.set(0, dtype, Some(vec![side(&shape[..axis]), side(&shape[axis..])]));
    Ok(())
}

fn infer_squeeze(cx: &mut InferCx) -> Inferred {
    let dtype = cx.dtype(0);
    let Some(shape) = cx.shape(0) else {
        cx.set(0, dtype, None);
        return Ok(());
    };
    let every_one = || (0..shape.len()).filter(|&i| shape[i].known() == Some(1)).collect();
    let axes = cx.axes_arg(1, shape.len(), every_one())?;
    let by_size = !cx.has(1) && cx.op().attr("axes").is_none();
    // Without axes a size that is not known may be 1 and go.
    let axes = axes.filter(|_| !by_size || shape.iter().all(|d| d.known().is_some()));
    let Some(axes) = axes else {
        cx.set(0, dtype, None);
        return Ok(());
    };
    if let Some(d) = axes.iter().map(|&a| &shape[a]).find(|d| d.known().is_some_and(|n| n != 1)) {
        return Err(format!("an axis of size {d} cannot be squeezed").into());
    }
    let kept = (0..shape.len()).filter(|i| !axes.contains(i)).map(|i| shape[i].clone());
    cx.set(0, dtype, Some(kept.collect()));
    cx.copy_ints(0, 0);
    Ok(())
}

fn infer_unsqueeze(cx: &mut InferCx) -> Inferred {
    let dtype = cx.dtype(0);
    let count = match cx.arg("axes", 1) {
        Arg::Ints(v) => v.len(),
        _ => {
            cx.set(0, dtype, None);
            return Ok(());
        }
    };
    let Some(shape) = cx.shape(0) else {
        cx.set(0, dtype, None);
        return Ok(());
    };
    let rank = shape.len() + count;
    let Some(axes) = cx.axes_arg(1, rank, Vec::new())? else {
        cx.set(0, dtype, Some((0..rank).map(|_| Dim::fresh()).collect()));
        return Ok(());
    };
    let mut old = shape.iter();
    let dims = (0..rank).map(|i| match axes.contains(&i) {
        true => Some(Dim::Known(1)),
        false => old.next().cloned(),
    });
    let dims: Option<Shape> = dims.collect();
    cx.set(0, dtype, Some(dims.filter(|_| old.next().is_none()).ok_or("an axis is named twice")?));
    if rank <= 1 {
        cx.copy_ints(0, 0);
    }
    Ok(())
}
