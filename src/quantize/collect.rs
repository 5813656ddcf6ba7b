//! Runs the float model over the calibration data and gathers statistics.

use std::collections::BTreeMap;

use super::QuantizeError;
use super::observe::{Range, sums_by_channel};
use super::recorder::Recorder;
use super::recover::ChannelStats;
use crate::data::Source;
use crate::engine::{Engine, Observer, Progress, RunError, all_cores, run_all};
use crate::ir::layout::Layout;
use crate::ir::{DType, Graph, Model, Tensor, ValueId};

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
        if data.is_empty() || (!self.sums.is_empty() && self.sums.len() != channels) {
            return;
        }
        self.sums.resize(channels, 0);
        sums_by_channel(data, Layout::new(dims, Some(axis)), |x| x)
            .into_iter()
            .zip(&mut self.sums)
            .for_each(|(own, all)| *all += (own * FIXED_POINT) as i128);
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
    wanted: Vec<Wanted>,
    /// Magnitudes are counted, not only ranges taken.
    counted: bool,
}

/// What is wanted of one value.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Wanted {
    /// It gets a scale.
    pub(super) is_scaled: bool,
    /// Channels that linear ops read.
    pub(super) channels: Option<Channels>,
    /// The axis whose channels are to be told apart.
    pub(super) axis: Option<usize>,
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

fn count_weighted(
    r: &mut Recorder,
    t: &Tensor,
    data: &[f32],
    amax: f32,
    channels: Option<&Channels>,
) {
    match channels.and_then(|c| Some((c, c.axis_of(t)?))) {
        None => r.observe(data, amax, &[1], data.len()),
        Some((c, axis)) => r.observe(data, amax, &c.weights, t.dims()[axis + 1..].iter().product()),
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
    fn observe(&mut self, own: &Range, tensor: &Tensor, data: &[f32], channels: Option<&Channels>) {
        self.range.merge(own);
        self.maxima.0 += (f64::from(own.amax()) * FIXED_POINT) as i128;
        self.maxima.1 += 1;
        if let Some(axis) = channels.and_then(|c| c.axis_of(tensor)) {
            self.means.observe(data, tensor.dims(), axis);
        }
    }

    fn merge(&mut self, other: &Stats) {
        self.range.merge(&other.range);
        self.means.merge(&other.means);
        self.maxima.0 += other.maxima.0;
        self.maxima.1 += other.maxima.1;
    }

    /// Mean over the samples of the largest magnitude in each.
    pub(super) fn mean_amax(&self) -> f32 {
        let (sum, n) = self.maxima;
        (sum as f64 / FIXED_POINT / n.max(1) as f64) as f32
    }
}

impl Taps {
    pub(super) fn new(g: &Graph, wanted: &BTreeMap<ValueId, Wanted>, counted: bool) -> Taps {
        Taps {
            values: wanted.keys().copied().collect(),
            names: wanted.keys().map(|v| g.value(*v).name().to_owned()).collect(),
            wanted: wanted.values().cloned().collect(),
            counted,
        }
    }
}

/// What was seen of one value.
#[derive(Clone, Debug, Default)]
pub(super) struct Seen {
    wanted: Wanted,
    pub(super) stats: Stats,
    pub(super) recorder: Recorder,
    pub(super) by_channel: ChannelStats,
}

impl Seen {
    fn observe(&mut self, counted: bool, tensor: &Tensor, data: &[f32]) {
        let wanted = &self.wanted;
        if wanted.is_scaled {
            let (mut own, channels) = (Range::default(), wanted.channels.as_ref());
            own.observe(data);
            self.stats.observe(&own, tensor, data, channels);
            if counted {
                count_weighted(&mut self.recorder, tensor, data, own.amax(), channels);
            }
        }
        if let Some(axis) = wanted.axis {
            self.by_channel.observe(data, tensor.dims(), axis);
        }
    }

    fn merge(&mut self, other: &Seen) {
        self.stats.merge(&other.stats);
        self.recorder.merge(&other.recorder);
        self.by_channel.merge(&other.by_channel);
    }
}

/// What was seen of all values.
#[derive(Clone, Debug, Default)]
pub(super) struct Observed(pub(super) BTreeMap<ValueId, Seen>);

impl Observed {
    /// All that is wanted was seen, channels weighted as they are wanted.
    pub(super) fn is_of(&self, wanted: &BTreeMap<ValueId, Wanted>) -> bool {
        wanted.iter().all(|(v, w)| {
            self.0.get(v).is_some_and(|s| s.wanted.is_scaled && s.wanted.channels == w.channels)
        })
    }

    /// Samples that a value with a scale was seen of.
    pub(super) fn samples(&self, v: ValueId) -> Option<u64> {
        self.0.get(&v).map(|s| s.stats.maxima.1)
    }

    /// What was seen of the channels of a value, if it has `n`.
    pub(super) fn by_channel(&self, v: ValueId, n: usize) -> Option<&ChannelStats> {
        self.0.get(&v).map(|s| &s.by_channel).filter(|s| s.len() == n)
    }

    /// Takes in what was seen of other samples.
    pub(super) fn merge(&mut self, other: &Observed) {
        for (v, seen) in &other.0 {
            self.0.entry(*v).or_default().merge(seen);
        }
    }
}

/// Statistics of all taps, as one thread gathers them.
struct Gather<'a> {
    taps: &'a Taps,
    seen: Vec<Seen>,
}

impl Observer for Gather<'_> {
    fn tap(&mut self, _: usize, index: usize, value: Tensor) {
        if let Some(data) = value.as_f32().filter(|_| value.dtype() == DType::F32) {
            self.seen[index].observe(self.taps.counted, &value, &data);
        }
    }

    fn merge(&mut self, other: Self) {
        self.seen.iter_mut().zip(&other.seen).for_each(|(a, b)| a.merge(b));
    }
}

/// What a float model computes on all samples.
///
/// # Errors
/// When there are no samples or the model does not run on them.
pub(super) fn observe(
    m: &Model,
    taps: &Taps,
    engine: &dyn Engine,
    source: &dyn Source,
    progress: Progress,
) -> Result<Observed, QuantizeError> {
    if source.is_empty() {
        return Err(QuantizeError::NoSamples);
    }
    let session = engine.prepare(m, &taps.names).map_err(RunError::from)?;
    let seen = |wanted: &Wanted| Seen { wanted: wanted.clone(), ..Seen::default() };
    let make = || Gather { taps, seen: taps.wanted.iter().map(seen).collect() };
    let found = run_all(&*session, source, all_cores(), make, progress)?;
    Ok(Observed(taps.values.iter().copied().zip(found.seen).collect()))
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
    let scaled = || Wanted { is_scaled: true, ..Wanted::default() };
    let wanted = values.iter().map(|v| (*v, scaled())).collect();
    let taps = Taps::new(&m.graph, &wanted, false);
    let seen = observe(m, &taps, engine, source, progress)?;
    Ok(seen.0.into_iter().map(|(v, s)| (v, s.stats.range)).collect())
}
