//! How much each input channel of a layer matters: the mean square of what it carries.

use std::sync::Arc;

use super::{Samples, ShareError};
use crate::engine::{Observer, RunError, Session, all_cores, run_all};
use crate::ir::layout::Layout;
use crate::ir::{Graph, Model, OpId, Tensor, ValueId};
use crate::prune::sparse::sites::Site;
use crate::quantize::observe::sums_by_channel;

/// For each weight the mean square of every channel of the input of its first reader; `None` where it
/// cannot be had.
pub(super) fn squares(
    model: &Model,
    sites: &[Site],
    samples: Samples,
) -> Result<Vec<Option<Vec<f64>>>, ShareError> {
    let g = &model.graph;
    let input = |s: &Site| {
        let &(op, slot) = s.readers.first()?;
        Some((g.operand(op, 1 - slot)?, axis(g, op, slot)))
    };
    let wanted: Vec<Option<(ValueId, Axis)>> = sites.iter().map(input).collect();
    let mut taps: Vec<(ValueId, Axis)> = wanted.iter().flatten().copied().collect();
    taps.sort_unstable();
    taps.dedup();
    let names: Vec<String> = taps.iter().map(|(v, _)| g.value(*v).name().to_owned()).collect();
    let session: Arc<dyn Session> =
        samples.engine.prepare(model, &names).map_err(RunError::from)?;
    let make = || Gather { taps: &taps, found: vec![Vec::new(); taps.len()] };
    let found = run_all(&*session, samples.source, all_cores(), make, samples.progress)?.found;
    let means: Vec<Option<Vec<f64>>> = found.into_iter().map(mean).collect();
    let of = |w: &Option<(ValueId, Axis)>| means[taps.binary_search(w.as_ref()?).ok()?].clone();
    Ok(wanted.iter().map(of).collect())
}

/// Where the channels of an activation are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Axis {
    Second,
    Last,
    BeforeLast,
}

fn axis(g: &Graph, op: OpId, slot: usize) -> Axis {
    let node = g.op(op);
    let other = if slot == 1 { "transA" } else { "transB" };
    let turned = node.is("Gemm") && node.int_or(other, 0) != 0;
    match (node.op_type.as_str(), slot) {
        ("Conv" | "ConvTranspose", _) => Axis::Second,
        (_, 1) => {
            if turned {
                Axis::BeforeLast
            } else {
                Axis::Last
            }
        }
        _ => {
            if turned {
                Axis::Last
            } else {
                Axis::BeforeLast
            }
        }
    }
}

struct Gather<'a> {
    taps: &'a [(ValueId, Axis)],
    /// For each tap the samples, each with its means.
    found: Vec<Vec<(usize, Vec<f64>)>>,
}

impl Observer for Gather<'_> {
    fn tap(&mut self, sample: usize, index: usize, value: Tensor) {
        let axis = match self.taps[index].1 {
            Axis::Second => Some(1),
            Axis::Last => value.rank().checked_sub(1),
            Axis::BeforeLast => value.rank().checked_sub(2),
        };
        let n = axis.and_then(|a| value.dims().get(a).copied()).unwrap_or(0);
        let Some(data) = value.as_f32().filter(|_| n > 0) else { return };
        let mut sums = sums_by_channel(&data, Layout::new(value.dims(), axis), |x| x * x);
        let count = (data.len() / n).max(1) as f64;
        sums.iter_mut().for_each(|s| *s /= count);
        self.found[index].push((sample, sums));
    }

    fn merge(&mut self, other: Self) {
        self.found.iter_mut().zip(other.found).for_each(|(a, b)| a.extend(b));
    }
}

/// Mean over the samples, in their order, so that threads do not show.
fn mean(mut samples: Vec<(usize, Vec<f64>)>) -> Option<Vec<f64>> {
    samples.sort_by_key(|s| s.0);
    let n = samples.first()?.1.len();
    let mut out = vec![0.0; n];
    for (_, sums) in samples.iter().filter(|s| s.1.len() == n) {
        out.iter_mut().zip(sums).for_each(|(o, s)| *o += s / samples.len() as f64);
    }
    out.iter().all(|v| v.is_finite()).then_some(out)
}
