//! # fuse-space-to-depth
//!
//! ## What it does
//! Makes a SpaceToDepth of Slices that take every so many rows and columns and the Concat that joins
//! them, as in the Focus layer of YOLO. Where they are joined in another order, the input channels of
//! the convolution after it change places, or a Gather moves them.
//!
//! ## Before/after
//! ```text
//! a = Slice (x, {0,0}, {8,8}, {2,3}, {2,2})        y = SpaceToDepth <blocksize = 2> (x)
//! b = Slice (x, {0,1}, {8,8}, {2,3}, {2,2})
//! c = Slice (x, {1,0}, {8,8}, {2,3}, {2,2})
//! d = Slice (x, {1,1}, {8,8}, {2,3}, {2,2})
//! y = Concat <axis = 1> (a, b, c, d)               x is float[1,3,8,8]
//! ```
//!
//! ## When it applies
//! The Slices start at every position of a block once, step by its size, and go to the end; height
//! and width are known and multiples of it; nothing else reads the Slices.
//!
//! ## What it preserves
//! The name of the result.
//!
//! ## Limits
//! Needs opset 10, where the bounds became operands.

use super::pattern::{ints_at, is_plain_float, is_private, operand, result, sole_maker};
use crate::ir::{Graph, Miss, Op, OpId, Patch, Tensor, ValueId};
use crate::ops::normalize_axis;
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct FuseSpaceToDepth;

static INFO: PassInfo = PassInfo {
    name: "fuse-space-to-depth",
    summary: "make a SpaceToDepth of strided Slices and a Concat",
    semantics: Semantics::Reassociates,
    source: include_str!("fuse_space_to_depth.rs"),
};

impl Rewrite for FuseSpaceToDepth {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Concat"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if site.opset < 10 || g.op(at).int("axis").and_then(|a| normalize_axis(a, 4)) != Some(1) {
            return Err("it does not join channels, or the opset is before 10".into());
        }
        let parts: Vec<ValueId> = g.operands(at).into_iter().flatten().collect();
        let block = (2..=8).find(|b| b * b == parts.len()).ok_or("it does not join a block")?;
        let slices: Option<Vec<OpId>> =
            parts.iter().map(|v| sole_maker(g, *v, &["Slice"])).collect();
        let slices = slices.ok_or("no Slice that it alone reads makes an operand")?;
        let x = operand(g, slices[0], 0)?;
        let sizes = g.value(x).shape().filter(|s| s.len() == 4).ok_or("it is not of rank 4")?;
        let known = |a: usize| sizes[a].size().filter(|n| *n > 0);
        let [Some(channels), Some(height), Some(width)] = [1, 2, 3].map(known) else {
            return Err("the sizes are not known".into());
        };
        if height % block != 0 || width % block != 0 {
            return Err("the sizes are no multiples of the block".into());
        }
        let dtype = g.value(x).dtype().filter(|d| is_plain_float(*d));
        dtype.ok_or("the elements are no plain floats")?;
        let mut places = Vec::with_capacity(slices.len());
        for slice in slices {
            let place = (g.operand(slice, 0) == Some(x)).then(|| phase(g, slice, block)).flatten();
            places.push(place.ok_or("a Slice does not take every so many rows and columns")?);
        }
        let mut sorted = places.clone();
        sorted.sort_unstable();
        if !sorted.into_iter().eq(0..block * block) {
            return Err("the Slices do not take every element once".into());
        }
        let mut patch = Patch::at(at);
        let op = Op::new("SpaceToDepth").named(g.op(at).name.clone());
        let op = op.with("blocksize", block as i64);
        if places.is_sorted() {
            patch.replace(g, at, op, vec![Some(x.into())]);
            return Ok(patch);
        }
        let y = result(g, at)?;
        if let Some((weight, data)) = reordered(g, y, &places, channels) {
            patch.replace(g, at, op, vec![Some(x.into())]);
            patch.frees(g, weight);
            patch.set_data(weight, data);
            return Ok(patch);
        }
        let deep = patch.op(op, &[x.into()], format!("{}_deep", g.value(y).name()));
        let indices = places.iter().flat_map(|p| p * channels..(p + 1) * channels);
        let indices: Vec<i64> = indices.map(|i| i as i64).collect();
        let indices =
            patch.constant(format!("{}_order", g.value(y).name()), Tensor::vector(&indices));
        patch.replace(g, at, Op::new("Gather").with("axis", 1i64), vec![Some(deep), Some(indices)]);
        Ok(patch)
    }
}

/// Which position of the block the Slice starts at: row times block plus column.
fn phase(g: &Graph, slice: OpId, block: usize) -> Option<usize> {
    let shape = g.value(g.operand(slice, 0)?).shape()?;
    let ints = |name, slot| ints_at(g, slice, name, slot).ok().flatten();
    let (starts, ends, steps) = (ints("starts", 1)?, ints("ends", 2)?, ints("steps", 4)?);
    let axes = ints("axes", 3)?;
    let mut at = [None; 2];
    for (i, &axis) in axes.iter().enumerate() {
        let axis = normalize_axis(axis, 4)?;
        let (start, end, step) = (*starts.get(i)?, *ends.get(i)?, *steps.get(i)?);
        let n = shape[axis].known()?;
        if start == 0 && step == 1 && end >= n {
            continue;
        }
        let start = usize::try_from(start).ok().filter(|s| *s < block)?;
        (axis >= 2 && step == block as i64 && end > n - block as i64 + start as i64)
            .then_some(())?;
        *at.get_mut(axis - 2)? = Some(start);
    }
    Some(at[0]? * block + at[1]?)
}

/// The weight of the convolution that alone reads `y`, with its input channels in the new order.
fn reordered(
    g: &Graph,
    y: ValueId,
    places: &[usize],
    channels: usize,
) -> Option<(ValueId, Tensor)> {
    let (conv, _) = g.sole_use(y).filter(|(op, slot)| g.op(*op).is("Conv") && *slot == 0)?;
    let weight = g.operand(conv, 1).filter(|w| is_private(g, *w))?;
    let t = g.const_tensor(weight)?;
    let plain = g.op(conv).int_or("group", 1) == 1 && is_plain_float(t.dtype());
    (plain && t.dims().get(1) == Some(&(places.len() * channels))).then_some(())?;
    let chunk = t.byte_len() / t.dims()[0].max(1) / places.len();
    let raw = t.raw()?;
    let mut data = raw.to_vec();
    for filter in 0..t.dims()[0] {
        for (from, to) in places.iter().enumerate() {
            let (from, to) = (filter * places.len() + from, filter * places.len() + to);
            data[to * chunk..(to + 1) * chunk]
                .copy_from_slice(&raw[from * chunk..(from + 1) * chunk]);
        }
    }
    Some((weight, Tensor::new(t.dtype(), t.dims().to_vec(), data.into()).ok()?))
}
