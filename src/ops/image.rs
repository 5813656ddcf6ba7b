//! Resampling, images and detection.

use super::window::list;
use super::{Axes, InferCx, InferError, OpSchema, axes};
use crate::ir::{DType, Dim, Shape};

pub(super) static SCHEMAS: &[OpSchema] = &[
    OpSchema { infer: infer_resize, axes: Axes::Rule(axes::resize), ..OpSchema::new("Resize") },
    OpSchema { infer: infer_upsample, axes: Axes::Rule(axes::resize), ..OpSchema::new("Upsample") },
    OpSchema {
        infer: infer_grid_sample,
        axes: Axes::Rule(axes::sampled_channels),
        ..OpSchema::new("GridSample")
    },
    OpSchema { infer: infer_affine_grid, ..OpSchema::new("AffineGrid") },
    OpSchema {
        infer: |cx| {
            let gray = cx.op().str("pixel_format") == Some("Grayscale");
            let channels = Dim::Known(if gray { 1 } else { 3 });
            cx.set(0, Some(DType::U8), Some(vec![Dim::fresh(), Dim::fresh(), channels]));
            Ok(())
        },
        ..OpSchema::new("ImageDecoder")
    },
    OpSchema { infer: infer_col2im, ..OpSchema::new("Col2Im") },
    OpSchema { infer: infer_center_crop_pad, ..OpSchema::new("CenterCropPad") },
    OpSchema {
        infer: |cx| {
            cx.set(0, Some(DType::I64), Some(vec![Dim::fresh(), Dim::Known(3)]));
            Ok(())
        },
        ..OpSchema::new("NonMaxSuppression")
    },
];

fn infer_resize(cx: &mut InferCx) -> Result<(), InferError> {
    cx.set(0, cx.dtype(0), None);
    let Some(x) = cx.shape(0) else { return Ok(()) };
    let (scales, sizes) = if cx.opset() < 11 { (1, usize::MAX) } else { (2, 3) };
    let axes: Vec<usize> = match cx.op().ints("axes").filter(|a| !a.is_empty()) {
        Some(axes) => axes.iter().map(|&a| cx.axis(a, x.len())).collect::<Result<_, _>>()?,
        None => (0..x.len()).collect(),
    };
    let mut shape = x.clone();
    axes.iter().for_each(|&a| shape[a] = Dim::Unknown);
    let factors = cx.tensor(scales).and_then(|t| t.to_f32()).filter(|f| !f.is_empty());
    if let Some(factors) = factors {
        scale(&mut shape, x, &axes, &factors)?;
    } else if let Some(wanted) = cx.ints(sizes).filter(|_| cx.has(sizes)) {
        if wanted.len() != axes.len() {
            return Err(format!("{} sizes for {} axes", wanted.len(), axes.len()).into());
        }
        match cx.op().str("keep_aspect_ratio_policy") {
            None | Some("stretch") => {
                for (&a, size) in axes.iter().zip(wanted) {
                    shape[a] = size;
                }
            }
            Some(policy) => keep_ratio(&mut shape, x, &axes, &wanted, policy == "not_larger"),
        }
    }
    cx.set(0, cx.dtype(0), Some(shape));
    Ok(())
}

fn infer_upsample(cx: &mut InferCx) -> Result<(), InferError> {
    cx.set(0, cx.dtype(0), None);
    let Some(x) = cx.shape(0) else { return Ok(()) };
    let op = cx.op();
    let factors = match (op.floats("scales"), op.float("height_scale")) {
        (Some(f), _) => Some(f.to_vec()),
        (None, Some(h)) => Some(vec![1.0, 1.0, h, op.float_or("width_scale", 1.0)]),
        (None, None) => cx.tensor(1).and_then(|t| t.to_f32()),
    };
    let mut shape = vec![Dim::Unknown; x.len()];
    if let Some(factors) = factors {
        let axes: Vec<usize> = (0..x.len()).collect();
        scale(&mut shape, x, &axes, &factors)?;
    }
    cx.set(0, cx.dtype(0), Some(shape));
    Ok(())
}

/// `shape[a] = floor(x[a] * factor)` for each of `axes`.
fn scale(shape: &mut Shape, x: &Shape, axes: &[usize], f: &[f32]) -> Result<(), InferError> {
    if f.len() != axes.len() {
        return Err(format!("{} scales for {} axes", f.len(), axes.len()).into());
    }
    for (&a, &factor) in axes.iter().zip(f) {
        shape[a] = match (&x[a], fraction(factor)) {
            (Dim::Known(n), _) => Dim::Known((*n as f32 * factor).floor() as i64),
            (n, Some((p, q))) => (n * &Dim::Known(p)).floor_div(&Dim::Known(q)),
            _ => Dim::Unknown,
        };
    }
    Ok(())
}

/// A float as a fraction with a small power of two below, when it is one.
fn fraction(f: f32) -> Option<(i64, i64)> {
    (0..=10).map(|i| 1i64 << i).find_map(|q| {
        let p = f * q as f32;
        (p.fract() == 0.0 && (0.0..1e6).contains(&p)).then_some((p as i64, q))
    })
}

/// Sizes that keep the aspect ratio: the smallest (`not_larger`) or largest factor for all axes.
fn keep_ratio(shape: &mut Shape, x: &Shape, axes: &[usize], wanted: &[Dim], not_larger: bool) {
    let ratios: Option<Vec<f64>> = axes
        .iter()
        .zip(wanted)
        .map(|(&a, w)| Some(w.known()? as f64 / x[a].known().filter(|&n| n > 0)? as f64))
        .collect();
    let Some(ratios) = ratios else { return };
    let pick = if not_larger { f64::min } else { f64::max };
    let Some(ratio) = ratios.into_iter().reduce(pick) else { return };
    for &a in axes {
        if let Dim::Known(n) = x[a] {
            shape[a] = Dim::Known((n as f64 * ratio + 0.5).floor() as i64);
        }
    }
}

fn infer_grid_sample(cx: &mut InferCx) -> Result<(), InferError> {
    cx.set(0, cx.dtype(0), None);
    let Some(rank) = cx.rank(0).or(cx.rank(1)) else { return Ok(()) };
    if rank < 3 || cx.rank(1).is_some_and(|r| r != rank) {
        return Err("input and grid must have the same rank, at least 3".into());
    }
    let mut shape = vec![Dim::Unknown; rank];
    if let Some(x) = cx.shape(0) {
        shape[..2].clone_from_slice(&x[..2]);
    }
    if let Some(grid) = cx.shape(1) {
        shape[2..].clone_from_slice(&grid[1..rank - 1]);
        if !shape[0].is_some() {
            shape[0] = grid[0].clone();
        }
    }
    cx.set(0, cx.dtype(0), Some(shape));
    Ok(())
}

fn infer_affine_grid(cx: &mut InferCx) -> Result<(), InferError> {
    cx.set(0, cx.dtype(0), None);
    let Some(size) = cx.ints(1) else { return Ok(()) };
    if size.len() != 4 && size.len() != 5 {
        return Err(format!("size has {} entries", size.len()).into());
    }
    let mut shape = vec![size[0].clone()];
    shape.extend_from_slice(&size[2..]);
    shape.push(Dim::from(size.len() - 2));
    cx.set(0, cx.dtype(0), Some(shape));
    Ok(())
}

fn infer_col2im(cx: &mut InferCx) -> Result<(), InferError> {
    cx.set(0, cx.dtype(0), None);
    let at = |axis: usize| cx.shape(0).and_then(|s| s.get(axis)).cloned();
    let (n, rows) = (at(0).unwrap_or(Dim::Unknown), at(1).unwrap_or(Dim::Unknown));
    let spatial = match (cx.ints(1), cx.shape(1)) {
        (Some(image), _) => image,
        (None, Some(s)) => match s.first().and_then(Dim::size) {
            Some(len) if s.len() == 1 && len <= super::MAX_SYM => vec![Dim::Unknown; len],
            _ => return Ok(()),
        },
        (None, None) => return Ok(()),
    };
    list(cx.op(), "pads", 2 * spatial.len(), 0)?;
    let channels = match cx.ints(2) {
        Some(block) => rows.floor_div(&Dim::product(&block)),
        None => Dim::Unknown,
    };
    let mut shape = vec![n, channels];
    shape.extend(spatial);
    cx.set(0, cx.dtype(0), Some(shape));
    Ok(())
}

fn infer_center_crop_pad(cx: &mut InferCx) -> Result<(), InferError> {
    cx.set(0, cx.dtype(0), None);
    let Some(x) = cx.shape(0) else { return Ok(()) };
    let axes: Vec<usize> = match cx.op().ints("axes").filter(|a| !a.is_empty()) {
        Some(axes) => axes.iter().map(|&a| cx.axis(a, x.len())).collect::<Result<_, _>>()?,
        None => (0..x.len()).collect(),
    };
    let sizes = cx.ints(1).unwrap_or_else(|| vec![Dim::Unknown; axes.len()]);
    if sizes.len() != axes.len() {
        return Err(format!("{} sizes for {} axes", sizes.len(), axes.len()).into());
    }
    let mut shape = x.clone();
    for (a, size) in axes.into_iter().zip(sizes) {
        shape[a] = size;
    }
    cx.set(0, cx.dtype(0), Some(shape));
    Ok(())
}
