//! `Resize` and other operators that sample between elements.

use super::super::step::{Step, Why};
use crate::ir::{Tensor, known_sizes};
use crate::ops::normalize_axis;

/// The modes had other names, and only planes were sampled.
pub(super) fn grid_sample(s: &mut Step) -> Result<(), Why> {
    s.own_attr("mode")?;
    if s.rank(0) != Some(4) {
        return Err("only planes could be sampled before".into());
    }
    match s.node().str("mode") {
        Some("linear") => s.set_attr("mode", "bilinear"),
        Some("cubic") => s.set_attr("mode", "bicubic"),
        _ => {}
    }
    Ok(())
}

/// Until version 15 coordinates were those that are now called `output_half_pixel`.
pub(super) fn roi_align(s: &mut Step) -> Result<(), Why> {
    const ATTR: &str = "coordinate_transformation_mode";
    s.own_attr(ATTR)?;
    match s.node().str(ATTR) {
        Some("output_half_pixel") => s.drop_attr(ATTR),
        _ => Err("it samples at half pixels".into()),
    }
}

/// Scales or sizes of some axes become those of all.
pub(super) fn all_axes(s: &mut Step) -> Result<(), Why> {
    s.own_attr("axes")?;
    let Some(axes) = s.node().ints("axes").map(<[i64]>::to_vec) else { return Ok(()) };
    let rank = s.rank(0).ok_or("the rank of its input is not known")?;
    let axes: Option<Vec<usize>> = axes.iter().map(|a| normalize_axis(*a, rank)).collect();
    let axes = axes.ok_or("its axes are out of range")?;
    if s.tensor(1).is_none_or(|roi| !roi.is_empty()) && s.has(1) {
        return Err("it names axes and crops".into());
    }
    if let Some(scales) = s.tensor(2).and_then(Tensor::to_f32).filter(|v| v.len() == axes.len()) {
        let mut all = vec![1f32; rank];
        axes.iter().zip(scales).for_each(|(a, v)| all[*a] = v);
        s.set_constant(2, "scales", Tensor::vector(&all));
    } else if let Some(sizes) = s.ints(3).filter(|v| v.len() == axes.len()) {
        let all: Option<Vec<i64>> =
            s.shape(0).map(|d| d.iter().map(|d| d.known().unwrap_or(-1)).collect());
        let mut all = all.unwrap_or_default();
        axes.iter().zip(sizes).for_each(|(a, v)| all[*a] = v);
        if all.contains(&-1) {
            return Err("a size that it keeps is not known".into());
        }
        s.set_constant(3, "sizes", Tensor::vector(&all));
    } else {
        return Err("its scales or sizes are not constant".into());
    }
    s.drop_attr("axes")
}

/// Version 12 wants region and scales even where they are empty.
pub(super) fn all_operands(s: &mut Step) -> Result<(), Why> {
    for (slot, what) in [(1, "roi"), (2, "scales")] {
        if !s.has(slot) {
            s.set_constant(slot, what, Tensor::vector::<f32>(&[]));
        }
    }
    Ok(())
}

/// Version 10 maps coordinates by the scale alone, and takes the nearest element towards zero when
/// it enlarges.
pub(super) fn by_scale_alone(s: &mut Step) -> Result<(), Why> {
    const COORDINATES: &str = "coordinate_transformation_mode";
    for attr in [COORDINATES, "mode", "nearest_mode"] {
        s.own_attr(attr)?;
    }
    let scales = scales(s)?;
    let enlarges = scales.iter().all(|v| *v >= 1.0);
    let whole = scales.iter().all(|v| *v >= 1.0 && v.fract() == 0.0);
    let text = |attr: &str, default: &str| s.node().str(attr).unwrap_or(default).to_owned();
    let coordinates = text(COORDINATES, "half_pixel");
    let rounding = text("nearest_mode", "round_prefer_floor");
    let same = match text("mode", "nearest").as_str() {
        "nearest" => {
            let plain = coordinates == "asymmetric" && rounding == "floor" && enlarges;
            // Pixels that are repeated a whole number of times.
            let centred = matches!(coordinates.as_str(), "half_pixel" | "pytorch_half_pixel")
                && rounding.starts_with("round_prefer");
            plain || (whole && centred)
        }
        "linear" => coordinates == "asymmetric",
        _ => false,
    };
    if !same {
        return Err("version 10 knows no such coordinates or mode".into());
    }
    for attr in
        [COORDINATES, "nearest_mode", "cubic_coeff_a", "exclude_outside", "extrapolation_value"]
    {
        s.drop_attr(attr)?;
    }
    s.drop_operand(1);
    s.set_constant(1, "scales", Tensor::vector(&scales));
    Ok(())
}

/// The scales: as given, or those that give the sizes.
fn scales(s: &Step) -> Result<Vec<f32>, Why> {
    if let Some(scales) = s.tensor(2).and_then(Tensor::to_f32).filter(|v| !v.is_empty()) {
        return Ok(scales);
    }
    let unknown = "its scales are not constant";
    let input = s.shape(0).and_then(|d| known_sizes(d)).ok_or(unknown)?;
    let output = s.result_sizes(0).filter(|o| o.len() == input.len()).ok_or(unknown)?;
    let scales: Vec<f32> = input.iter().zip(&output).map(|(i, o)| *o as f32 / *i as f32).collect();
    let exact = |((i, o), v): ((&usize, &usize), &f32)| (*i as f32 * v).floor() == *o as f32;
    match input.iter().zip(&output).zip(&scales).all(exact) && !input.contains(&0) {
        true => Ok(scales),
        false => Err("no scale gives its sizes exactly".into()),
    }
}

/// `Resize` was `Upsample`, which only enlarges.
pub(super) fn to_upsample(s: &mut Step) -> Result<(), Why> {
    let scales = s.tensor(1).and_then(Tensor::to_f32).ok_or("its scales are not constant")?;
    if scales.iter().any(|v| *v < 1.0) {
        return Err("it shrinks".into());
    }
    s.rename("Upsample");
    Ok(())
}

/// Until version 8 the scales were an attribute.
pub(super) fn upsample_scales(s: &mut Step) -> Result<(), Why> {
    let scales = s.tensor(1).and_then(Tensor::to_f32).ok_or("its scales are not constant")?;
    s.drop_operand(1);
    s.set_attr("scales", scales);
    Ok(())
}
