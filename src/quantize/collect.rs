//! Runs the float model over the calibration data and gathers statistics.

use std::collections::BTreeMap;
use std::sync::Arc;

use rayon::prelude::*;

use super::QuantizeError;
use super::observe::{Histogram, Range};
use crate::engine::{Engine, EngineError, Feeds, Session};
use crate::ir::{Graph, Model, Tensor, ValueId};

/// Calibration data: samples by number, the same in every pass.
pub trait Source: Send + Sync {
    /// Number of samples.
    fn len(&self) -> usize;
    /// There is no sample.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }
    /// The named inputs of sample `i`.
    ///
    /// # Errors
    /// When it cannot be read.
    fn sample(&self, i: usize) -> Result<Feeds, EngineError>;
}

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

/// What is observed: for each value its name and, where channel means are wanted, their axis
/// counted from the end.
pub(super) struct Taps {
    values: Vec<ValueId>,
    names: Vec<String>,
    mean_axes: Vec<Option<ChannelAxis>>,
    /// Index in `names` of what the engine taps; graph inputs are read from the feeds.
    engine: Vec<usize>,
}

/// Where the channels of an activation are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum ChannelAxis {
    /// The second axis, as for Conv.
    Second,
    /// The last axis, as for MatMul.
    Last,
}

/// Statistics of one activation.
#[derive(Clone, Debug, Default)]
pub(super) struct Stats {
    pub(super) range: Range,
    pub(super) means: Means,
}

impl Taps {
    pub(super) fn new(g: &Graph, values: &BTreeMap<ValueId, Option<ChannelAxis>>) -> Taps {
        let names: Vec<String> = values.keys().map(|v| g.value(*v).name().to_owned()).collect();
        let made = |(i, v): (usize, &ValueId)| (!g.is_input(*v)).then_some(i);
        Taps {
            values: values.keys().copied().collect(),
            engine: values.keys().enumerate().filter_map(made).collect(),
            mean_axes: values.values().copied().collect(),
            names,
        }
    }
}

/// A float model ready for calibration.
pub(super) struct Collector<'a> {
    session: Arc<dyn Session>,
    taps: &'a Taps,
    source: &'a dyn Source,
    samples: usize,
    progress: &'a (dyn Fn(usize, usize) + Sync),
    done: std::sync::atomic::AtomicUsize,
    passes: usize,
}

impl<'a> Collector<'a> {
    pub(super) fn new(
        m: &Model,
        engine: &dyn Engine,
        taps: &'a Taps,
        source: &'a dyn Source,
        samples: usize,
        passes: usize,
        progress: &'a (dyn Fn(usize, usize) + Sync),
    ) -> Result<Collector<'a>, QuantizeError> {
        let names: Vec<String> = taps.engine.iter().map(|i| taps.names[*i].clone()).collect();
        let session = engine.prepare(m, &names)?;
        let samples = source.len().min(samples);
        if samples == 0 {
            return Err(QuantizeError::NoSamples);
        }
        let done = std::sync::atomic::AtomicUsize::new(0);
        Ok(Collector { session, taps, source, samples, progress, done, passes })
    }

    pub(super) fn samples(&self) -> usize {
        self.samples
    }

    /// First pass: ranges and channel means, in the order of the taps.
    pub(super) fn stats(&self) -> Result<BTreeMap<ValueId, Stats>, QuantizeError> {
        let axes = &self.taps.mean_axes;
        let n = self.taps.values.len();
        let found = self.pass(
            &|| vec![Stats::default(); n],
            &|stats, i, tensor| {
                with_f32(tensor, &mut |data| {
                    stats[i].range.observe(data);
                    let axis = match axes[i] {
                        Some(ChannelAxis::Second) => Some(1),
                        Some(ChannelAxis::Last) => tensor.rank().checked_sub(1),
                        None => None,
                    };
                    if let Some(axis) = axis {
                        stats[i].means.observe(data, tensor.dims(), axis);
                    }
                });
            },
            &|a, b| {
                a.range.merge(&b.range);
                a.means.merge(&b.means);
            },
        )?;
        Ok(self.taps.values.iter().copied().zip(found).collect())
    }

    /// Second pass: histograms over the given ranges.
    pub(super) fn histograms(
        &self,
        amax: &BTreeMap<ValueId, f32>,
    ) -> Result<BTreeMap<ValueId, Histogram>, QuantizeError> {
        let range = |v: &ValueId| amax.get(v).copied().unwrap_or(0.0);
        let found = self.pass(
            &|| self.taps.values.iter().map(|v| Histogram::new(range(v))).collect(),
            &|histograms: &mut Vec<Histogram>, i, tensor| {
                with_f32(tensor, &mut |data| histograms[i].observe(data));
            },
            &|a, b| a.merge(b),
        )?;
        Ok(self.taps.values.iter().copied().zip(found).collect())
    }

    /// Runs all samples. Each worker takes a run of samples and has observers of its own.
    fn pass<T: Send>(
        &self,
        make: &(dyn Fn() -> Vec<T> + Sync),
        observe: &(dyn Fn(&mut Vec<T>, usize, &Tensor) + Sync),
        merge: &(dyn Fn(&mut T, &T) + Sync),
    ) -> Result<Vec<T>, QuantizeError> {
        let share = self.samples.div_ceil(rayon::current_num_threads()).max(1);
        let parts: Result<Vec<Vec<T>>, EngineError> = (0..self.samples)
            .into_par_iter()
            .chunks(share)
            .map(|samples| {
                let mut state = make();
                for i in samples {
                    self.run_one(i, &mut |tap, tensor| observe(&mut state, tap, tensor))?;
                }
                Ok(state)
            })
            .collect();
        let mut parts = parts?.into_iter();
        let mut all = parts.next().unwrap_or_else(make);
        for part in parts {
            for (a, b) in all.iter_mut().zip(&part) {
                merge(a, b);
            }
        }
        Ok(all)
    }

    fn run_one(&self, i: usize, see: &mut dyn FnMut(usize, &Tensor)) -> Result<(), EngineError> {
        let feeds = self.source.sample(i)?;
        for (name, tensor) in &feeds {
            if let Some(tap) = self.taps.names.iter().position(|n| n == name) {
                see(tap, tensor);
            }
        }
        self.session.run(&feeds, &mut |k, tensor| see(self.taps.engine[k], &tensor))?;
        let done = self.done.fetch_add(1, std::sync::atomic::Ordering::Relaxed) + 1;
        (self.progress)(done, self.samples * self.passes);
        Ok(())
    }
}

/// Hands out the elements of a float32 tensor, copied when they are not aligned.
fn with_f32(tensor: &Tensor, f: &mut dyn FnMut(&[f32])) {
    if tensor.dtype() != crate::ir::DType::F32 {
        return;
    }
    match tensor.raw().map(|raw| bytemuck::try_cast_slice::<u8, f32>(raw)) {
        Some(Ok(data)) => f(data),
        _ => f(&tensor.to_f32().unwrap_or_default()),
    }
}
