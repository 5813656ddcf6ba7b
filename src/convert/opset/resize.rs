//! `Upsample` and `Resize`: the coordinate rules that older versions imply, written out.

use super::step::{Step, Why};
use crate::ir::{AttrValue, Tensor};

/// `Upsample` from version 9 on takes its scales as an operand.
pub(super) fn scales_to_operand(s: &mut Step) -> Result<(), Why> {
    match s.node().attr("scales") {
        Some(AttrValue::Floats(v)) => {
            let scales = Tensor::vector(&v.clone());
            s.set_constant(1, "scales", scales);
            s.g.edit_op(s.op).remove_attr("scales");
            Ok(())
        }
        Some(_) => Err("its scales are no list of floats".into()),
        None => Ok(()),
    }
}

/// `Upsample` became `Resize` at version 10.
pub(super) fn from_upsample(s: &mut Step) -> Result<(), Why> {
    s.own_attr("mode")?;
    if s.node().str("mode") == Some("bilinear") {
        s.set_attr("mode", "linear");
    }
    // Its scales are at least 1, even where they are not known.
    if !matches!(s.node().str("mode"), Some("linear")) && s.to > 10 {
        s.set_attr("nearest_mode", "floor");
    }
    s.rename("Resize");
    Ok(())
}

/// Version 10 maps coordinates by the scale alone, and takes the nearest element towards zero when
/// it enlarges, away from zero when it shrinks.
pub(super) fn to_11(s: &mut Step) -> Result<(), Why> {
    s.own_attr("mode")?;
    let nearest = !matches!(s.node().str("mode"), Some("linear"));
    if nearest && s.node().attr("nearest_mode").is_none() {
        let scales = s.tensor(1).and_then(Tensor::to_f32).ok_or("its scales are not constant")?;
        let mode = match (scales.iter().any(|v| *v < 1.0), scales.iter().any(|v| *v > 1.0)) {
            (false, _) => "floor",
            (true, false) => "ceil",
            (true, true) => return Err("it shrinks one axis and enlarges another".into()),
        };
        s.set_attr("nearest_mode", mode);
    }
    s.set_attr("coordinate_transformation_mode", "asymmetric");
    let scales = s.g.operand(s.op, 1);
    s.g.set_operand(s.op, 2, scales);
    s.set_constant(1, "roi", Tensor::vector::<f32>(&[]));
    Ok(())
}

/// Version 13 leaves out operands that version 11 wanted even if empty, and no longer knows
/// `tf_half_pixel_for_nn`.
pub(super) fn to_13(s: &mut Step) -> Result<(), Why> {
    s.own_attr("coordinate_transformation_mode")?;
    for slot in [1, 2] {
        if s.tensor(slot).is_some_and(Tensor::is_empty) {
            s.g.set_operand(s.op, slot, None);
        }
    }
    if s.node().str("coordinate_transformation_mode") != Some("tf_half_pixel_for_nn") {
        return Ok(());
    }
    // (x + 0.5) / scale rounded down is (x + 0.5) / scale - 0.5 rounded half up.
    match (s.node().str("mode").unwrap_or("nearest"), s.node().str("nearest_mode")) {
        ("nearest", Some("floor")) => {
            s.set_attr("coordinate_transformation_mode", "half_pixel");
            s.set_attr("nearest_mode", "round_prefer_ceil");
            Ok(())
        }
        _ => Err("tf_half_pixel_for_nn has no counterpart".into()),
    }
}
