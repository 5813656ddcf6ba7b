//! What changed up to version 7, when broadcasting got its present rules.

use super::step::{Step, Why};
use crate::ir::{AttrValue, DType, Op, Tensor};

/// Before version 7 the second operand was laid on the first from axis `axis` on.
pub(super) fn broadcast(s: &mut Step) -> Result<(), Why> {
    s.own_attr("axis")?;
    let axis = s.node().int("axis").filter(|_| s.node().int_or("broadcast", 0) != 0);
    s.drop_attr("axis")?;
    s.drop_attr("broadcast")?;
    match axis {
        None => Ok(()),
        Some(axis) => align(s, axis),
    }
}

/// Gives operand 1 trailing axes, so that its first one stands under axis `axis` of operand 0.
fn align(s: &mut Step, axis: i64) -> Result<(), Why> {
    let (Some(a), Some(b)) = (s.shape(0).map(Vec::len), s.shape(1).map(Vec::len)) else {
        return Err("the ranks of its operands are not known".into());
    };
    let (a, b) = (a as i64, b as i64);
    let axis = if axis < 0 { axis + a } else { axis };
    let trailing = a - axis - b;
    if axis < 0 || trailing < 0 {
        return Err("its axis is out of range".into());
    }
    if trailing > 0 {
        let v = s.g.operand(s.op, 1).ok_or("it has no second operand")?;
        let axes: Vec<i64> = (b..b + trailing).collect();
        let v = s.add(Op::new("Unsqueeze").with("axes", axes), &[v], "aligned");
        s.g.set_operand(s.op, 1, Some(v));
    }
    Ok(())
}

/// One slope for each channel, which is axis 1.
pub(super) fn slope_per_channel(s: &mut Step) -> Result<(), Why> {
    match s.shape(1).map(|d| (d.len(), d.first().and_then(|d| d.known()))) {
        None => Err("the rank of its slope is not known".into()),
        Some((0, _) | (1, Some(1))) => Ok(()),
        Some((1, _)) => align(s, 1),
        Some(_) => Ok(()),
    }
}

/// Version 7 knows training no longer. A norm of one result is in test mode, whatever `is_test` says.
pub(super) fn inference_only(s: &mut Step) -> Result<(), Why> {
    s.own_attr("is_test")?;
    let alone = s.g.results(s.op).iter().skip(1).all(Option::is_none);
    let by_results = s.node().is("BatchNormalization") && alone;
    if s.node().int_or("is_test", 0) == 0 && !by_results {
        return Err("it is in training mode".into());
    }
    s.drop_attr("is_test")
}

/// The norm's exponent became an integer.
pub(super) fn whole_p(s: &mut Step) -> Result<(), Why> {
    match s.node().attr("p") {
        Some(AttrValue::Float(p)) if p.fract() == 0.0 => {
            let p = *p as i64;
            s.set_attr("p", p);
            Ok(())
        }
        Some(AttrValue::Float(_)) => Err("its p is no integer".into()),
        _ => Ok(()),
    }
}

/// The lengths moved from an operand to an attribute, and the axis got a default.
pub(super) fn split(s: &mut Step) -> Result<(), Why> {
    if s.has(1) {
        let lengths = s.tensor(1).and_then(Tensor::to_i64).ok_or("its parts are not constant")?;
        s.g.truncate_operands(s.op, 1);
        s.set_attr("split", lengths);
    }
    Ok(())
}

/// The axis must be written out.
pub(super) fn concat(s: &mut Step) -> Result<(), Why> {
    if s.node().attr("axis").is_none() {
        s.set_attr("axis", 1i64);
    }
    Ok(())
}

/// The target type was a name.
pub(super) fn cast(s: &mut Step) -> Result<(), Why> {
    let Some(name) = s.node().str("to") else { return Ok(()) };
    let to = DType::from_name(&name.to_ascii_lowercase()).ok_or("its type is not known")?;
    s.set_attr("to", i64::from(to.code()));
    Ok(())
}

/// One axis and how often to repeat it, before all axes were given.
pub(super) fn tile(s: &mut Step) -> Result<(), Why> {
    let rank = s.shape(0).map(Vec::len).ok_or("the rank of its operand is not known")?;
    let one = |t: Option<&Tensor>| t.and_then(Tensor::single).map(|v| v as i64);
    let (times, axis) = one(s.tensor(1)).zip(one(s.tensor(2))).ok_or("its axis is not constant")?;
    let axis = crate::ops::normalize_axis(axis, rank).ok_or("its axis is out of range")?;
    let mut repeats = vec![1i64; rank];
    repeats[axis] = times;
    s.g.truncate_operands(s.op, 1);
    s.set_constant(1, "repeats", Tensor::vector(&repeats));
    Ok(())
}

/// Height and width had an attribute each.
pub(super) fn plane_scales(s: &mut Step) -> Result<(), Why> {
    if let (Some(h), Some(w)) = (s.node().float("height_scale"), s.node().float("width_scale")) {
        s.set_attr("scales", vec![1.0, 1.0, h, w]);
        s.drop_attr("height_scale")?;
        s.drop_attr("width_scale")?;
    }
    Ok(())
}
