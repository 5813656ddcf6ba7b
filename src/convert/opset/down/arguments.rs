//! Operands that were attributes, and options that older versions lack.

use super::super::step::{Step, Why};
use crate::ir::{AttrValue, DType, Dim, Op, Tensor};
use crate::ops::normalize_axis;

impl Step<'_> {
    /// Refuses a value of a string attribute that the older version does not know.
    pub fn refuse(&self, attr: &str, value: &str) -> Result<(), Why> {
        self.own_attr(attr)?;
        match self.node().str(attr) == Some(value) {
            true => Err(format!("its {attr} is {value}, which came with this version").into()),
            false => Ok(()),
        }
    }
}

/// What `Attention` gives of the products of queries and keys changed with version 24.
pub(in crate::convert::opset) fn no_products(s: &mut Step) -> Result<(), Why> {
    match s.is_read(3) {
        true => Err("its fourth result is in use, which is taken elsewhere".into()),
        false => Ok(()),
    }
}

/// With `ceil_mode`, version 22 leaves out a last window that would lie on the padding alone.
pub(in crate::convert::opset) fn no_window_on_pads(s: &mut Step) -> Result<(), Why> {
    if s.node().int_or("ceil_mode", 0) == 0 {
        return Ok(());
    }
    const UNKNOWN: &str = "with ceil_mode, a window on the padding counts or not, by version";
    let kernel = s.node().ints("kernel_shape").ok_or("it has no kernel_shape")?;
    let n = kernel.len();
    let list = |attr: &str, len: usize, default: i64| match s.node().ints(attr) {
        Some(list) if list.len() == len => list.to_vec(),
        _ => vec![default; len],
    };
    let (strides, dilations) = (list("strides", n, 1), list("dilations", n, 1));
    let pads = list("pads", 2 * n, 0);
    let input = s.shape(0).filter(|x| x.len() == n + 2);
    for k in 0..n {
        let reach = dilations[k] * (kernel[k] - 1) + 1;
        if pads[k] == 0 && pads[k + n] == 0 && strides[k] <= reach {
            continue;
        }
        let size = input.and_then(|x| x[k + 2].known()).ok_or(UNKNOWN)?;
        let windows = (size + pads[k] + pads[k + n] - reach + strides[k] - 1) / strides[k] + 1;
        if (windows - 1) * strides[k] >= size + pads[k] {
            return Err(UNKNOWN.into());
        }
    }
    Ok(())
}

/// The type of the result becomes that of a zero point.
pub(super) fn zero_point_type(s: &mut Step) -> Result<(), Why> {
    let Some(code) = s.node().int("output_dtype").filter(|c| *c != 0) else { return Ok(()) };
    if !s.has(2) {
        let dtype = i32::try_from(code).ok().and_then(DType::from_code);
        let dtype = dtype.ok_or("its output_dtype is not known")?;
        let dims: Vec<usize> = match s.shape(1).map(|d| crate::ir::known_sizes(d)) {
            Some(Some(dims)) => dims,
            _ => return Err("the shape of its scale is not known".into()),
        };
        let count = crate::ir::element_count(&dims).ok_or("its scale is too large")?;
        let bytes = dtype.byte_len(count).ok_or("its output_dtype is no number")?;
        let zero = Tensor::new(dtype, dims, vec![0u8; bytes].into());
        s.set_constant(2, "zero_point", zero.map_err(|e| e.to_string())?);
    }
    s.drop_attr("output_dtype")
}

/// Until version 19 the axis was an attribute that counts from 1 when it is absent.
pub(super) fn dft_axis(s: &mut Step) -> Result<(), Why> {
    let axis = match s.has(2) {
        true => s.ints(2).and_then(|v| v.first().copied()).ok_or("its axis is not constant")?,
        false => -2,
    };
    let axis = match s.rank(0) {
        Some(rank) => normalize_axis(axis, rank).ok_or("its axis is out of range")? as i64,
        None if axis >= 0 => axis,
        None => return Err("the rank of its input is not known".into()),
    };
    s.drop_operand(2);
    s.set_attr("axis", axis);
    Ok(())
}

/// Dilations of 1 are none.
pub(super) fn no_dilations(s: &mut Step) -> Result<(), Why> {
    s.own_attr("dilations")?;
    match s.node().ints("dilations").is_some_and(|d| d.iter().any(|d| *d != 1)) {
        true => Err("it is dilated".into()),
        false => s.drop_attr("dilations"),
    }
}

/// Pads of the axes that are named become pads of all axes.
pub(super) fn pad_axes(s: &mut Step) -> Result<(), Why> {
    if !s.has(3) {
        s.g.truncate_operands(s.op, 3);
        return Ok(());
    }
    let rank = s.rank(0).ok_or("the rank of its input is not known")?;
    let axes = s.ints(3).ok_or("its axes are not constant")?;
    let own = s.ints(1).filter(|p| p.len() == 2 * axes.len());
    let own = own.ok_or("its pads are not constant")?;
    let mut pads = vec![0; 2 * rank];
    for (i, axis) in axes.iter().enumerate() {
        let axis = normalize_axis(*axis, rank).ok_or("its axis is out of range")?;
        (pads[axis], pads[rank + axis]) = (own[i], own[axes.len() + i]);
    }
    s.drop_operand(3);
    s.set_constant(1, "pads", Tensor::vector(&pads));
    Ok(())
}

/// Axes as an attribute; without axes everything is reduced, or nothing where the op says so.
pub(super) fn reduce_axes(s: &mut Step) -> Result<(), Why> {
    s.own_attr("noop_with_empty_axes")?;
    let keeps = s.node().int_or("noop_with_empty_axes", 0) != 0;
    let axes = match s.has(1) {
        true => s.ints(1).ok_or("its axes are not constant")?,
        false => Vec::new(),
    };
    if axes.is_empty() && keeps {
        let plain = ["ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum"];
        if !plain.contains(&s.node().op_type.as_str()) {
            return Err("without axes it works on each element".into());
        }
        let x = s.operand(0)?;
        return s.finish(Op::new("Identity"), &[x]);
    }
    s.drop_attr("noop_with_empty_axes")?;
    s.drop_operand(1);
    if !axes.is_empty() {
        s.set_attr("axes", axes);
    }
    Ok(())
}

pub(super) fn no_extremum(s: &mut Step) -> Result<(), Why> {
    s.refuse("reduction", "max")?;
    s.refuse("reduction", "min")
}

/// A number of parts that need not be equal becomes their sizes.
pub(super) fn split_sizes(s: &mut Step) -> Result<(), Why> {
    s.own_attr("num_outputs")?;
    let Some(parts) = s.node().int("num_outputs") else { return Ok(()) };
    s.own_attr("axis")?;
    let rank = s.rank(0).ok_or("the rank of its input is not known")?;
    let axis =
        normalize_axis(s.node().int_or("axis", 0), rank).ok_or("its axis is out of range")?;
    let whole = s.shape(0).map_or(Dim::Unknown, |d| d[axis].clone());
    if parts < 1 || usize::try_from(parts) != Ok(s.node().result_count()) {
        return Err("it has another number of results".into());
    }
    if whole.div_exact(&Dim::Known(parts)).is_none() {
        let whole = whole.known().ok_or("it may have a smaller last part")?;
        let size = (whole + parts - 1) / parts;
        let mut sizes = vec![size; parts as usize];
        sizes[parts as usize - 1] = whole - size * (parts - 1);
        if sizes.iter().any(|n| *n < 0) {
            return Err("it has more parts than elements".into());
        }
        s.set_constant(1, "split", Tensor::vector(&sizes));
    }
    s.drop_attr("num_outputs")
}

/// Before version 14 a size of 0 copied that of the input: no matter where that is the same size.
pub(super) fn no_zero_size(s: &mut Step) -> Result<(), Why> {
    s.own_attr("allowzero")?;
    if s.node().int_or("allowzero", 0) != 0 {
        const UNKNOWN: &str = "its shape is not known, and 0 would mean something else";
        let v = s.operand(1)?;
        let symbolic = s.g.value(v).sym.as_ref().map(|e| e.to_vec());
        let constant = s.ints(1).map(|e| e.into_iter().map(Dim::Known).collect());
        let shape: Vec<Dim> = constant.or(symbolic).ok_or(UNKNOWN)?;
        let copied =
            |i: usize| s.shape(0).and_then(|x| x.get(i)).is_some_and(|d| d.same(&shape[i]));
        let safe = |i: usize| shape[i].known().is_some_and(|n| n != 0) || copied(i);
        if !(0..shape.len()).all(|i| safe(i) || shape[i].at_least(1)) {
            return Err(UNKNOWN.into());
        }
    }
    s.drop_attr("allowzero")
}

/// Until version 12 there was one scale for everything.
pub(super) fn one_scale(s: &mut Step) -> Result<(), Why> {
    for slot in [1, 2] {
        match (s.has(slot), s.rank(slot)) {
            (false, _) | (true, Some(0)) => {}
            (true, Some(1)) if s.shape(slot).is_some_and(|d| d[0] == Dim::Known(1)) => {
                let flat = s.tensor(slot).and_then(|t| t.reshaped(vec![]));
                let flat = flat.ok_or("its scale is a vector")?;
                s.set_constant(slot, "scalar", flat);
            }
            _ => return Err("it has a scale for each index of an axis".into()),
        }
    }
    s.drop_attr("axis")
}

/// Numbers and lists of numbers become a tensor.
pub(super) fn constant_tensor(s: &mut Step) -> Result<(), Why> {
    let plain = s.node().attrs.iter().find(|a| a.name.starts_with("value_")).cloned();
    let Some(attr) = plain else { return Ok(()) };
    let strings = |dims, data| Tensor::strings(dims, data).map_err(|e| Why::from(e.to_string()));
    let tensor = match &attr.value {
        AttrValue::Int(v) => Tensor::scalar(*v),
        AttrValue::Float(v) => Tensor::scalar(*v),
        AttrValue::Ints(v) => Tensor::vector(v),
        AttrValue::Floats(v) => Tensor::vector(v),
        AttrValue::Str(v) => strings(vec![], vec![v.clone()])?,
        AttrValue::Strs(v) => strings(vec![v.len()], v.clone())?,
        _ => return Err("its value is an attribute of the function around it".into()),
    };
    s.drop_attr(&attr.name)?;
    s.set_attr("value", tensor);
    Ok(())
}

/// In inference the ratio means nothing.
pub(super) fn dropout_ratio(s: &mut Step) -> Result<(), Why> {
    if s.is_read(1) {
        return Err("its mask is in use, which outside of training meant nothing".into());
    }
    let trains = match s.has(2) {
        true => s.tensor(2).and_then(Tensor::single).is_none_or(|v| v != 0.0),
        false => false,
    };
    if trains {
        return Err("it may be in training mode".into());
    }
    if let Some(ratio) = s.tensor(1).and_then(Tensor::single) {
        s.set_attr("ratio", ratio as f32);
    }
    s.drop_operand(1);
    s.drop_attr("seed")
}

/// Base and exponent have one type.
pub(super) fn one_type(s: &mut Step) -> Result<(), Why> {
    let (base, exponent) = (s.dtype(0), s.dtype(1));
    let (Some(base), Some(exponent)) = (base, exponent) else { return Ok(()) };
    if base != exponent && base.is_float() {
        let v = s.operand(1)?;
        let cast = s.add(Op::new("Cast").with("to", i64::from(base.code())), &[v], "exponent");
        s.g.set_operand(s.op, 1, Some(cast));
    }
    Ok(())
}

/// Bounds of `Clip` as attributes.
pub(super) fn clip_bounds(s: &mut Step) -> Result<(), Why> {
    for (slot, attr) in [(1, "min"), (2, "max")] {
        if s.has(slot) {
            let bound = s.tensor(slot).and_then(Tensor::single);
            let bound = bound.ok_or_else(|| format!("its {attr} is not constant"))?;
            s.set_attr(attr, bound as f32);
        }
    }
    s.drop_operand(1);
    Ok(())
}

/// Until version 10 the summand had to be there.
pub(super) fn summand(s: &mut Step) -> Result<(), Why> {
    if !s.has(2) {
        let dtype = s.dtype(0).ok_or("the element type of its input is not known")?;
        let zero = Tensor::from_f32(dtype, &[1], &[0.0]).ok_or("its type is no float")?;
        s.set_constant(2, "zero", zero);
    }
    Ok(())
}

/// Pads and what they are filled with as attributes.
pub(super) fn pads(s: &mut Step) -> Result<(), Why> {
    if s.has(2) {
        let value = s.tensor(2).and_then(Tensor::single).ok_or("its value is not constant")?;
        s.set_attr("value", value as f32);
    }
    let pads = s.ints(1).ok_or("its pads are not constant")?;
    s.drop_operand(1);
    s.set_attr("pads", pads);
    Ok(())
}

/// Until version 10 the largest came first, always.
pub(super) fn sorted_anyway(s: &mut Step) -> Result<(), Why> {
    s.own_attr("sorted")?;
    s.drop_attr("sorted")
}

pub(super) fn no_mask(s: &mut Step) -> Result<(), Why> {
    match s.is_read(1) {
        true => Err("its mask is in use, which had another type".into()),
        false => Ok(()),
    }
}

/// Bounds of `Slice` as attributes, which know no steps.
pub(super) fn slice_bounds(s: &mut Step) -> Result<(), Why> {
    if s.has(4) {
        let steps = s.ints(4).ok_or("its steps are not constant")?;
        if steps.iter().any(|n| *n != 1) {
            return Err("it has steps".into());
        }
    }
    let list = |slot: usize, s: &Step| s.ints(slot).ok_or("its bounds are not constant");
    let (starts, ends) = (list(1, s)?, list(2, s)?);
    let axes = if s.has(3) { Some(list(3, s)?) } else { None };
    s.drop_operand(1);
    s.set_attr("starts", starts);
    s.set_attr("ends", ends);
    if let Some(axes) = axes {
        s.set_attr("axes", axes);
    }
    Ok(())
}

pub(super) fn top_k(s: &mut Step) -> Result<(), Why> {
    let k = s.ints(1).and_then(|k| k.first().copied()).ok_or("its k is not constant")?;
    s.drop_operand(1);
    s.set_attr("k", k);
    Ok(())
}

/// Until version 7 operands did not broadcast.
pub(super) fn same_shapes(s: &mut Step) -> Result<(), Why> {
    let first = s.shape(0).cloned().ok_or("the shapes of its operands are not known")?;
    let same = |i: usize| {
        let shape = s.shape(i)?;
        (shape.len() == first.len() && shape.iter().zip(&first).all(|(a, b)| a.same(b)))
            .then_some(())
    };
    match (1..s.node().arity()).all(|i| same(i).is_some()) {
        true => Ok(()),
        false => Err("its operands broadcast".into()),
    }
}
