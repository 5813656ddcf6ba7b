//! What a convolution reads of its input for places of its result.

use crate::ir::{Dim, Op, Tensor};
use crate::ops::Window;

/// The window of a convolution whose kernel has these sizes; `None` where it crops instead of padding.
pub(super) fn window(op: &Op, kernel: &[usize]) -> Option<Window> {
    let window = Window::of(op, kernel.iter().map(|k| Dim::from(*k)).collect()).ok()?;
    window.pads.iter().all(|(before, after)| *before >= 0 && *after >= 0).then_some(window)
}

/// The window along one axis of a tensor.
struct Axis {
    size: usize,
    positions: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
    before: isize,
}

impl Axis {
    fn of(w: &Window, i: usize, size: usize, positions: usize) -> Option<Axis> {
        let whole = |v: i64| usize::try_from(v).ok();
        let before = w.padding_before(i, size as i64, positions as i64)?;
        Some(Axis {
            size,
            positions,
            kernel: whole(w.kernel[i].known()?).filter(|k| *k > 0)?,
            stride: whole(w.strides[i])?,
            dilation: whole(w.dilations[i])?,
            before: isize::try_from(before).ok()?,
        })
    }
}

/// Appends the patches behind places of a result of dims `result`: for each place all channels of
/// `x`, `[N, C, …]`, and the taps of each.
pub(super) fn append(
    window: &Window,
    x: &Tensor,
    result: &[usize],
    places: &[usize],
    out: &mut Vec<f32>,
) -> Option<()> {
    let (data, dims, n) = (x.to_f32()?, x.dims(), window.kernel.len());
    if dims.len() != n + 2 || result.len() != n + 2 {
        return None;
    }
    let axis = |i: usize| Axis::of(window, i, dims[i + 2], result[i + 2]);
    let axes: Vec<Axis> = (0..n).map(axis).collect::<Option<_>>()?;
    let size: usize = dims[2..].iter().product();
    let outputs: usize = result[2..].iter().product();
    let taps: usize = axes.iter().map(|a| a.kernel).product();
    let mut offsets = vec![None; taps];
    let mut corner = vec![0isize; n];
    for &p in places {
        let (batch, mut rest) = (p / outputs, p % outputs);
        for (corner, a) in corner.iter_mut().zip(&axes).rev() {
            *corner = ((rest % a.positions) * a.stride) as isize - a.before;
            rest /= a.positions;
        }
        for (tap, at) in offsets.iter_mut().enumerate() {
            *at = offset(tap, &corner, &axes);
        }
        for c in 0..dims[1] {
            let plane = data.get((batch * dims[1] + c) * size..)?;
            for at in &offsets {
                out.push(at.map_or(Some(0.0), |at| plane.get(at).copied())?);
            }
        }
    }
    Some(())
}

/// Where a tap reads in a plane; `None` in the padding.
fn offset(mut tap: usize, corner: &[isize], axes: &[Axis]) -> Option<usize> {
    let (mut at, mut stride) = (0, 1);
    for (corner, a) in corner.iter().zip(axes).rev() {
        let k = (tap % a.kernel) * a.dilation;
        tap /= a.kernel;
        let x = usize::try_from(corner + k as isize).ok().filter(|x| *x < a.size)?;
        at += x * stride;
        stride *= a.size;
    }
    Some(at)
}
