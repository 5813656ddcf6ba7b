//! What changed in the operators, version by version. Whatever is not listed only grew.

use super::step::{Step, Why};
use super::{down, early, resize};
use crate::ir::{Dim, Op, Tensor};
use crate::ops::normalize_axis;

/// Rewrites an op to mean the same in the next version of its operator.
pub(super) type Adapter = fn(&mut Step) -> Result<(), Why>;

/// Version that brought the change, operator, adapter.
static ADAPTERS: &[(i64, &str, Adapter)] = &[
    (2, "LpPool", early::whole_p),
    (2, "GlobalLpPool", early::whole_p),
    (2, "Pad", |s| s.rename_attr("paddings", "pads")),
    (2, "Split", early::split),
    (4, "Concat", early::concat),
    (5, "Reshape", |s| {
        s.drop_attr("consumed_inputs")?;
        s.ints_to_operand("shape", 1).map(drop)
    }),
    (6, "Cast", early::cast),
    (6, "Tile", early::tile),
    (7, "Add", early::broadcast),
    (7, "And", early::broadcast),
    (7, "BatchNormalization", early::inference_only),
    (7, "Div", early::broadcast),
    (7, "Dropout", early::inference_only),
    (7, "Equal", early::broadcast),
    (7, "GRU", |s| s.drop_attr("output_sequence")),
    (7, "Gemm", |s| s.drop_attr("broadcast")),
    (7, "Greater", early::broadcast),
    (7, "LSTM", |s| s.drop_attr("output_sequence")),
    (7, "Less", early::broadcast),
    (7, "Mul", early::broadcast),
    (7, "Or", early::broadcast),
    (7, "PRelu", early::slope_per_channel),
    (7, "Pow", early::broadcast),
    (7, "RNN", |s| s.drop_attr("output_sequence")),
    (7, "Sub", early::broadcast),
    (7, "Upsample", early::plane_scales),
    (7, "Xor", early::broadcast),
    (9, "BatchNormalization", spatial_only),
    (9, "Scan", |_| Err("its batch axis has no counterpart".into())),
    (9, "Upsample", resize::scales_to_operand),
    (10, "Dropout", no_mask),
    (10, "Slice", slice),
    (10, "TopK", |s| s.ints_to_operand("k", 1).map(drop)),
    (10, "Upsample", resize::from_upsample),
    (11, "Clip", clip),
    (11, "Pad", pad),
    (11, "Resize", resize::to_11),
    (11, "Scatter", |s| {
        s.rename("ScatterElements");
        Ok(())
    }),
    (12, "Dropout", ratio_to_operand),
    (13, "Hardmax", softmax),
    (13, "LogSoftmax", softmax),
    (13, "ReduceSum", axes_to_operand),
    (13, "Resize", resize::to_13),
    (13, "Softmax", softmax),
    (13, "Split", |s| s.ints_to_operand("split", 1).map(drop)),
    (13, "Squeeze", axes_to_operand),
    (13, "Unsqueeze", axes_to_operand),
    (14, "BatchNormalization", |s| s.truncate_results(1)),
    (16, "RoiAlign", |s| {
        s.set_attr("coordinate_transformation_mode", "output_half_pixel");
        Ok(())
    }),
    (18, "ReduceL1", axes_to_operand),
    (18, "ReduceL2", axes_to_operand),
    (18, "ReduceLogSum", axes_to_operand),
    (18, "ReduceLogSumExp", axes_to_operand),
    (18, "ReduceMax", axes_to_operand),
    (18, "ReduceMean", axes_to_operand),
    (18, "ReduceMin", axes_to_operand),
    (18, "ReduceProd", axes_to_operand),
    (18, "ReduceSumSquare", axes_to_operand),
    (18, "Split", count_parts),
    (20, "DFT", dft),
    (20, "GridSample", grid_sample),
    (21, "GroupNormalization", group_norm),
    (22, "AveragePool", down::no_window_on_pads),
    (22, "LpPool", down::no_window_on_pads),
    (22, "MaxPool", down::no_window_on_pads),
    (24, "Attention", down::no_products),
];

/// The adapter of an operator for a version, if anything changed.
pub(super) fn find(op_type: &str, version: i64) -> Option<Adapter> {
    ADAPTERS.iter().find(|row| row.0 == version && row.1 == op_type).map(|row| row.2)
}

fn axes_to_operand(s: &mut Step) -> Result<(), Why> {
    s.ints_to_operand("axes", 1).map(drop)
}

/// Until version 8 the statistics could be those of single elements.
fn spatial_only(s: &mut Step) -> Result<(), Why> {
    s.own_attr("spatial")?;
    if s.node().int_or("spatial", 1) == 0 && s.shape(0).is_none_or(|x| x.len() != 2) {
        return Err("it is not spatial".into());
    }
    s.g.edit_op(s.op).remove_attr("spatial");
    Ok(())
}

/// Until version 9 the mask had the type of the data.
fn no_mask(s: &mut Step) -> Result<(), Why> {
    match s.g.result(s.op, 1) {
        Some(mask) if !s.g.is_unused(mask) => Err("its mask is in use".into()),
        _ => s.truncate_results(1),
    }
}

fn ratio_to_operand(s: &mut Step) -> Result<(), Why> {
    no_mask(s)?;
    s.own_attr("ratio")?;
    if let Some(ratio) = s.node().float("ratio") {
        s.set_constant(1, "ratio", Tensor::scalar(ratio));
        s.g.edit_op(s.op).remove_attr("ratio");
    }
    Ok(())
}

fn slice(s: &mut Step) -> Result<(), Why> {
    for (slot, attr) in [(1, "starts"), (2, "ends"), (3, "axes")] {
        s.ints_to_operand(attr, slot)?;
    }
    Ok(())
}

fn clip(s: &mut Step) -> Result<(), Why> {
    s.float_to_operand("min", 1)?;
    s.float_to_operand("max", 2)
}

fn pad(s: &mut Step) -> Result<(), Why> {
    s.ints_to_operand("pads", 1)?;
    s.float_to_operand("value", 2)
}

/// From version 18 on equal parts must be asked for.
fn count_parts(s: &mut Step) -> Result<(), Why> {
    if !s.has(1) {
        let parts = i64::try_from(s.node().result_count()).map_err(|_| "it has too many parts")?;
        s.set_attr("num_outputs", parts);
    }
    Ok(())
}

fn dft(s: &mut Step) -> Result<(), Why> {
    s.own_attr("axis")?;
    let axis = s.node().int_or("axis", 1);
    s.g.edit_op(s.op).remove_attr("axis");
    s.set_constant(2, "axis", Tensor::scalar(axis));
    Ok(())
}

fn grid_sample(s: &mut Step) -> Result<(), Why> {
    s.own_attr("mode")?;
    match s.node().str("mode") {
        Some("bilinear") => s.set_attr("mode", "linear"),
        Some("bicubic") => s.set_attr("mode", "cubic"),
        _ => {}
    }
    Ok(())
}

/// Before version 13 these work on the operand flattened to two axes before `axis`.
fn softmax(s: &mut Step) -> Result<(), Why> {
    s.own_attr("axis")?;
    let axis = s.node().int_or("axis", 1);
    let mut flatten_at = axis;
    if let Some(shape) = s.shape(0) {
        let axis = normalize_axis(axis, shape.len()).ok_or("its axis is out of range")?;
        let mut long = (axis..shape.len()).filter(|&a| shape[a] != Dim::Known(1));
        let only = long.next().unwrap_or(axis);
        if long.next().is_none() {
            s.set_attr("axis", only as i64);
            return Ok(());
        }
        flatten_at = axis as i64;
    }
    let input = s.g.operand(s.op, 0).ok_or("it has no operand")?;
    let shape = match s.shape(0).and_then(|shape| one_open(shape)) {
        Some(sizes) => s.constant("shape", Tensor::vector(&sizes)),
        None => s.add(Op::new("Shape"), &[input], "shape"),
    };
    let flat = s.add(Op::new("Flatten").with("axis", flatten_at), &[input], "flat");
    s.g.set_operand(s.op, 0, Some(flat));
    s.set_attr("axis", -1i64);
    s.append(Op::new("Reshape"), &[shape], "flat_result")
}

/// The shape as `Reshape` takes it, when at most one size is open and none is 0.
fn one_open(shape: &[Dim]) -> Option<Vec<i64>> {
    let sizes: Vec<i64> = shape.iter().map(|d| d.known().unwrap_or(-1)).collect();
    let open = sizes.iter().filter(|d| **d == -1).count();
    (open <= 1 && !sizes.contains(&0)).then_some(sizes)
}

/// Until version 20 scale and bias had one element for each group.
fn group_norm(s: &mut Step) -> Result<(), Why> {
    s.own_attr("num_groups")?;
    let groups = s.node().int("num_groups").filter(|g| *g > 0).ok_or("it has no num_groups")?;
    let channels = s.shape(0).and_then(|x| x.get(1)?.known());
    let channels = channels.ok_or("its number of channels is not known")?;
    for slot in [1, 2] {
        let v = s.g.operand(s.op, slot).ok_or("it has no scale or bias")?;
        let column = s.constant("column", Tensor::vector(&[groups, 1]));
        let wide = s.constant("wide", Tensor::vector(&[groups, channels / groups]));
        let all = s.constant("all", Tensor::vector(&[-1i64]));
        let v = s.add(Op::new("Reshape"), &[v, column], "column");
        let v = s.add(Op::new("Expand"), &[v, wide], "wide");
        let v = s.add(Op::new("Reshape"), &[v, all], "channels");
        s.g.set_operand(s.op, slot, Some(v));
    }
    Ok(())
}
