//! Softmax and LogSoftmax along any axes that lie side by side, many elements at a time: tract computes along
//! other axes than the last ones element by element, and copies rows that its kernels do not fit.

use multiversion::multiversion;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::ops::nn::{Softmax, SoftmaxKind};
use tract_onnx::tract_core::tract_linalg::routines::Func;

use super::kernels::floats;

/// About so many elements stay in the nearest cache between the three passes over them.
const BLOCK: usize = 4096;

/// Maxima and sums that run side by side.
const LANES: usize = 16;

/// How the elements of a tensor share their sums.
#[derive(Clone, Copy)]
pub(super) struct Groups {
    /// Elements of a group: those of its sums together.
    size: usize,
    /// Sums of a group; each takes every `inner`th element.
    inner: usize,
    /// What becomes of them.
    kind: SoftmaxKind,
}

impl Groups {
    /// `None` for what is not computed here: other types than float32, axes that lie apart.
    pub(super) fn of(op: &Softmax, input: &Tensor) -> Option<Groups> {
        let (dims, axes) = (input.shape(), &op.axes);
        let (first, last) = (*axes.iter().min()?, *axes.iter().max()?);
        let side_by_side = last < dims.len() && (first..=last).all(|axis| axes.contains(&axis));
        let some = floats(input).is_some_and(|x| !x.is_empty());
        (side_by_side && some).then(|| Groups {
            kind: op.kind,
            size: dims[first..].iter().product(),
            inner: dims[last + 1..].iter().product(),
        })
    }
}

/// Each element becomes its share of the exponentials of its sum, or the logarithm of that.
pub(super) fn softmax(mut tensor: Tensor, groups: Groups) -> TractResult<Tensor> {
    let exp = Func::Exp.ew_f32()?;
    let mut of_sums = vec![0.0; groups.inner];
    let mut plain = tensor.try_as_plain_ram_mut()?;
    for block in plain.as_slice_mut::<f32>()?.chunks_mut((BLOCK / groups.size).max(1) * groups.size)
    {
        subtract_largest(block, groups, &mut of_sums);
        if groups.kind == SoftmaxKind::LogSoftmax {
            let mut exponentials = block.to_vec();
            exp.run(&mut exponentials)?;
            subtract_log_of_sum(block, &exponentials, groups, &mut of_sums);
            continue;
        }
        exp.run(block)?;
        divide_by_sum(block, groups, &mut of_sums);
    }
    Ok(tensor)
}

#[multiversion(targets = "simd")]
fn subtract_largest(block: &mut [f32], groups: Groups, largest: &mut [f32]) {
    // A NaN is not larger, and stays where it is.
    let larger = |a: f32, b: f32| if b > a { b } else { a };
    for group in block.chunks_exact_mut(groups.size) {
        largest.fill(f32::NEG_INFINITY);
        fold(group, largest, larger);
        apply(group, largest, |x, largest| x - largest);
    }
}

#[multiversion(targets = "simd")]
fn divide_by_sum(block: &mut [f32], groups: Groups, sums: &mut [f32]) {
    for group in block.chunks_exact_mut(groups.size) {
        sums.fill(0.0);
        fold(group, sums, |a, b| a + b);
        sums.iter_mut().for_each(|sum| *sum = sum.recip());
        apply(group, sums, |x, scale| x * scale);
    }
}

#[multiversion(targets = "simd")]
fn subtract_log_of_sum(block: &mut [f32], exponentials: &[f32], groups: Groups, sums: &mut [f32]) {
    let exponentials = exponentials.chunks_exact(groups.size);
    for (group, exponentials) in block.chunks_exact_mut(groups.size).zip(exponentials) {
        sums.fill(0.0);
        fold(exponentials, sums, |a, b| a + b);
        sums.iter_mut().for_each(|sum| *sum = sum.ln());
        apply(group, sums, |x, log| x - log);
    }
}

/// Folds every element into its place of `into`, which holds what a fold starts from.
#[inline(always)]
fn fold(group: &[f32], into: &mut [f32], f: impl Fn(f32, f32) -> f32) {
    if let [one] = into {
        let mut lanes = [*one; LANES];
        let (rows, rest) = group.as_chunks::<LANES>();
        for row in rows {
            for i in 0..LANES {
                lanes[i] = f(lanes[i], row[i]);
            }
        }
        *one = lanes.iter().chain(rest).fold(*one, |a, b| f(a, *b));
        return;
    }
    for row in group.chunks_exact(into.len()) {
        for i in 0..into.len() {
            into[i] = f(into[i], row[i]);
        }
    }
}

#[inline(always)]
fn apply(group: &mut [f32], by: &[f32], f: impl Fn(f32, f32) -> f32) {
    if let [one] = by {
        group.iter_mut().for_each(|x| *x = f(*x, *one));
        return;
    }
    for row in group.chunks_exact_mut(by.len()) {
        for i in 0..by.len() {
            row[i] = f(row[i], by[i]);
        }
    }
}
