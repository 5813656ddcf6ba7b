//! Axes and indices counted from the back, which older versions do not know.

use super::super::step::{Step, Why};
use crate::ir::{AttrValue, DType, Tensor};
use crate::ops::normalize_axis;

/// `axis` or `axes` counted from the front of operand 0.
pub(super) fn axes_from_front(s: &mut Step) -> Result<(), Why> {
    let rank = s.rank(0);
    from_front(s, "axis", rank)?;
    from_front(s, "axes", rank)
}

pub(super) fn unsqueeze_from_front(s: &mut Step) -> Result<(), Why> {
    let more = s.node().ints("axes").map_or(0, <[i64]>::len);
    let rank = s.rank(0).map(|r| r + more);
    from_front(s, "axes", rank)
}

fn from_front(s: &mut Step, attr: &str, rank: Option<usize>) -> Result<(), Why> {
    s.own_attr(attr)?;
    let front = |a: i64| -> Result<i64, Why> {
        if a >= 0 {
            return Ok(a);
        }
        let rank = rank.ok_or("it counts axes from the back, and the rank is not known")?;
        Ok(normalize_axis(a, rank).ok_or("its axis is out of range")? as i64)
    };
    match s.node().attr(attr).cloned() {
        Some(AttrValue::Int(a)) if a < 0 => s.set_attr(attr, front(a)?),
        Some(AttrValue::Ints(list)) if list.iter().any(|a| *a < 0) => {
            let list: Vec<i64> = list.into_iter().map(front).collect::<Result<_, _>>()?;
            s.set_attr(attr, list);
        }
        _ => {}
    }
    Ok(())
}

/// Negative indices came with version 11.
pub(super) fn gather_from_front(s: &mut Step) -> Result<(), Why> {
    axes_from_front(s)?;
    let Some(indices) = s.tensor(1) else { return Ok(()) };
    let list = indices.to_i64().ok_or("its indices cannot be read")?;
    if list.iter().all(|i| *i >= 0) {
        return Ok(());
    }
    let (dims, dtype) = (indices.dims().to_vec(), indices.dtype());
    let axis = usize::try_from(s.node().int_or("axis", 0)).unwrap_or(0);
    let len = s.shape(0).and_then(|d| d.get(axis)?.known());
    let len = len.ok_or("it counts from the end of an axis of unknown length")?;
    let list: Vec<i64> = list.into_iter().map(|i| if i < 0 { i + len } else { i }).collect();
    let tensor = match dtype {
        DType::I32 => {
            let list: Option<Vec<i32>> = list.iter().map(|i| i32::try_from(*i).ok()).collect();
            Tensor::of(&dims, &list.ok_or("an index is out of range")?)
        }
        _ => Tensor::of(&dims, &list),
    };
    s.set_constant(1, "indices", tensor);
    Ok(())
}

pub(super) fn scan_from_front(s: &mut Step) -> Result<(), Why> {
    let negative = |attr: &str| s.node().ints(attr).is_some_and(|v| v.iter().any(|a| *a < 0));
    match negative("scan_input_axes") || negative("scan_output_axes") {
        true => Err("it counts axes from the back".into()),
        false => Ok(()),
    }
}

/// Axes in an operand of `Slice`, counted from the front.
pub(super) fn slice_from_front(s: &mut Step) -> Result<(), Why> {
    if !s.has(3) {
        return Ok(());
    }
    let axes = s.ints(3).ok_or("its axes are not constant")?;
    if axes.iter().any(|a| *a < 0) {
        let rank = s.rank(0).ok_or("the rank of its input is not known")?;
        let front = |a: &i64| normalize_axis(*a, rank).map(|a| a as i64);
        let axes: Option<Vec<i64>> = axes.iter().map(front).collect();
        let axes = axes.ok_or("its axis is out of range")?;
        let tensor = match s.dtype(3) {
            Some(DType::I32) => {
                let axes: Vec<i32> = axes.iter().map(|a| *a as i32).collect();
                Tensor::vector(&axes)
            }
            _ => Tensor::vector(&axes),
        };
        s.set_constant(3, "axes", tensor);
    }
    Ok(())
}

/// `ScatterElements` was `Scatter`.
pub(super) fn scatter(s: &mut Step) -> Result<(), Why> {
    axes_from_front(s)?;
    let negative = |t: &Tensor| t.to_i64().is_none_or(|v| v.iter().any(|i| *i < 0));
    if s.tensor(1).is_some_and(negative) {
        return Err("it counts from the end of an axis".into());
    }
    s.rename("Scatter");
    Ok(())
}
