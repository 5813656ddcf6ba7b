//! Runs the float model over the calibration data and gathers statistics.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::QuantizeError;
use super::observe::{Histogram, Range};
use crate::data::Source;
use crate::engine::{Engine, Observer, Progress, RunError, Session, all_cores, run_all};
use crate::ir::{Graph, Model, Tensor, ValueId};

/// Sums for each channel of a tensor, in fixed point, so that the order of addition does not show.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Means {
    sums: Vec<i128>,
    count: u64,
}

const FIXED_POINT: f64 = (1u64 << 40) as f64;

impl Means {
    fn observe(&mut self, data: &[f32], dims: &[usize], axis: usize) {
        let Some(&channels) = dims.get(axis) else { return };
        let inner: usize = dims[axis + 1..].iter().product();
        if data.is_empty() || (!self.sums.is_empty() && self.sums.len() != channels) {
            return;
        }
        self.sums.resize(channels, 0);
        for (i, row) in data.chunks_exact(inner).enumerate() {
            let sum: f64 = row.iter().map(|x| f64::from(*x)).sum();
            self.sums[i % channels] += (sum * FIXED_POINT) as i128;
        }
        self.count += (data.len() / channels) as u64;
    }

    fn merge(&mut self, other: &Means) {
        if self.sums.is_empty() {
            self.sums.clone_from(&other.sums);
        } else {
            for (a, b) in self.sums.iter_mut().zip(&other.sums) {
                *a += b;
            }
        }
        self.count += other.count;
    }

    /// Mean of each channel; empty when nothing was seen.
    pub(super) fn means(&self) -> Vec<f64> {
        let n = self.count.max(1) as f64;
        self.sums.iter().map(|s| *s as f64 / FIXED_POINT / n).collect()
    }
}

/// What is observed: values, with their channels where those are wanted.
pub(super) struct Taps {
    values: Vec<ValueId>,
    names: Vec<String>,
    channels: Vec<Option<Channels>>,
}

/// Where the channels of an activation are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ChannelAxis {
    /// The second axis, as for Conv.
    Second,
    /// The last axis, as for MatMul.
    Last,
}

/// Channels of an activation that a linear op reads.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Channels {
    /// Where they are.
    pub(super) axis: ChannelAxis,
    /// How much each matters to the ops that read it.
    pub(super) weights: Vec<u32>,
}

impl Channels {
    /// The axis, if the tensor has as many channels as there are weights.
    fn axis_of(&self, tensor: &Tensor) -> Option<usize> {
        let axis = match self.axis {
            ChannelAxis::Second => 1,
            ChannelAxis::Last => tensor.rank().checked_sub(1)?,
        };
        (tensor.dims().get(axis) == Some(&self.weights.len())).then_some(axis)
    }
}

fn observe_weighted(h: &mut Histogram, t: &Tensor, data: &[f32], channels: Option<&Channels>) {
    let Some((c, axis)) = channels.and_then(|c| Some((c, c.axis_of(t)?))) else {
        return h.observe(data, 1);
    };
    match t.dims()[axis + 1..].iter().product::<usize>() {
        1 => h.observe_rows(data, &c.weights),
        0 => {}
        inner => {
            for (i, row) in data.chunks_exact(inner).enumerate() {
                h.observe(row, c.weights[i % c.weights.len()]);
            }
        }
    }
}

/// Statistics of one activation.
#[derive(Clone, Debug, Default)]
pub(super) struct Stats {
    pub(super) range: Range,
    pub(super) means: Means,
    /// Sum over the samples of the largest magnitude in each, in fixed point, and their number.
    maxima: (i128, u64),
}

impl Stats {
    /// Mean over the samples of the largest magnitude in each.
    pub(super) fn mean_amax(&self) -> f32 {
        let (sum, n) = self.maxima;
        (sum as f64 / FIXED_POINT / n.max(1) as f64) as f32
    }
}

impl Taps {
    pub(super) fn new(g: &Graph, values: &BTreeMap<ValueId, Option<Channels>>) -> Taps {
        Taps {
            values: values.keys().copied().collect(),
            names: values.keys().map(|v| g.value(*v).name().to_owned()).collect(),
            channels: values.values().cloned().collect(),
        }
    }
}

/// Statistics of all taps, as one thread gathers them.
struct Gather<'a, T> {
    taps: &'a Taps,
    parts: Vec<T>,
    observe: fn(&mut T, &Tensor, &[f32], Option<&Channels>),
    merge: fn(&mut T, &T),
}

impl<T: Send> Observer for Gather<'_, T> {
    fn tap(&mut self, _: usize, index: usize, value: Tensor) {
        let (part, channels) = (&mut self.parts[index], self.taps.channels[index].as_ref());
        with_f32(&value, &mut |data| (self.observe)(part, &value, data, channels));
    }

    fn merge(&mut self, other: Self) {
        self.parts.iter_mut().zip(&other.parts).for_each(|(a, b)| (self.merge)(a, b));
    }
}

/// A float model ready for calibration.
pub(super) struct Collector<'a> {
    session: Arc<dyn Session>,
    taps: &'a Taps,
    source: &'a dyn Source,
    progress: Progress<'a>,
}

impl<'a> Collector<'a> {
    pub(super) fn new(
        m: &Model,
        engine: &dyn Engine,
        taps: &'a Taps,
        source: &'a dyn Source,
        progress: Progress<'a>,
    ) -> Result<Collector<'a>, QuantizeError> {
        if source.is_empty() {
            return Err(QuantizeError::NoSamples);
        }
        let session = engine.prepare(m, &taps.names).map_err(RunError::from)?;
        Ok(Collector { session, taps, source, progress })
    }

    /// First pass: ranges and channel means.
    pub(super) fn stats(&self) -> Result<BTreeMap<ValueId, Stats>, QuantizeError> {
        let make = || Gather {
            taps: self.taps,
            parts: vec![Stats::default(); self.taps.values.len()],
            observe: |stats: &mut Stats, tensor, data, channels| {
                let mut own = Range::default();
                own.observe(data);
                stats.range.merge(&own);
                stats.maxima.0 += (f64::from(own.amax()) * FIXED_POINT) as i128;
                stats.maxima.1 += 1;
                if let Some(axis) = channels.and_then(|c| c.axis_of(tensor)) {
                    stats.means.observe(data, tensor.dims(), axis);
                }
            },
            merge: |a, b| {
                a.range.merge(&b.range);
                a.means.merge(&b.means);
                a.maxima.0 += b.maxima.0;
                a.maxima.1 += b.maxima.1;
            },
        };
        self.pass(0, &make)
    }

    /// Second pass: histograms over the given ranges.
    pub(super) fn histograms(
        &self,
        amax: &BTreeMap<ValueId, f32>,
    ) -> Result<BTreeMap<ValueId, Histogram>, QuantizeError> {
        let empty = |v: &ValueId| Histogram::new(amax.get(v).copied().unwrap_or(0.0));
        let make = || Gather {
            taps: self.taps,
            parts: self.taps.values.iter().map(empty).collect(),
            observe: observe_weighted,
            merge: Histogram::merge,
        };
        self.pass(self.source.len(), &make)
    }

    /// Runs all samples; `before` runs are done already.
    fn pass<T: Send>(
        &self,
        before: usize,
        make: &(dyn Fn() -> Gather<'a, T> + Sync),
    ) -> Result<BTreeMap<ValueId, T>, QuantizeError> {
        let progress = |done: usize| (self.progress)(before + done);
        let found = run_all(&*self.session, self.source, all_cores(), make, &progress)?;
        Ok(self.taps.values.iter().copied().zip(found.parts).collect())
    }
}

/// Ranges of the given values over all samples.
///
/// # Errors
/// When there are no samples or the model does not run on them.
pub(crate) fn observe_ranges(
    m: &Model,
    values: &[ValueId],
    engine: &dyn Engine,
    source: &dyn Source,
    progress: Progress,
) -> Result<BTreeMap<ValueId, Range>, QuantizeError> {
    let taps = Taps::new(&m.graph, &values.iter().map(|v| (*v, None)).collect());
    let stats = Collector::new(m, engine, &taps, source, progress)?.stats()?;
    Ok(stats.into_iter().map(|(v, s)| (v, s.range)).collect())
}

/// Hands out the elements of a float32 tensor, copied when they are not aligned.
pub(super) fn with_f32(tensor: &Tensor, f: &mut dyn FnMut(&[f32])) {
    if tensor.dtype() != crate::ir::DType::F32 {
        return;
    }
    match tensor.raw().map(|raw| bytemuck::try_cast_slice::<u8, f32>(raw)) {
        Some(Ok(data)) => f(data),
        _ => f(&tensor.to_f32().unwrap_or_default()),
    }
}
