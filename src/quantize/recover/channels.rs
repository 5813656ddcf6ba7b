//! Statistics of the channels of activations.

use std::collections::BTreeMap;

use super::super::QuantizeError;
use super::super::collect::with_f32;
use crate::data::Source;
use crate::engine::{Engine, Observer, Progress, RunError, all_cores, run_all};
use crate::ir::{Model, Tensor, ValueId};

/// Squares are summed in fixed point, so that the order of addition does not show.
const FIXED_POINT: f64 = (1u64 << 32) as f64;

/// What the channels of an activation were.
#[derive(Clone, Debug, Default)]
pub(super) struct ChannelStats {
    /// Largest finite magnitude of each channel.
    pub amax: Vec<f64>,
    squares: Vec<i128>,
    count: u64,
}

impl ChannelStats {
    fn observe(&mut self, data: &[f32], dims: &[usize], axis: usize) {
        let Some(&channels) = dims.get(axis) else { return };
        let inner: usize = dims[axis + 1..].iter().product();
        if data.is_empty() || (!self.amax.is_empty() && self.amax.len() != channels) {
            return;
        }
        self.amax.resize(channels, 0.0);
        self.squares.resize(channels, 0);
        for (i, row) in data.chunks_exact(inner).enumerate() {
            let (mut amax, mut square) = (0.0f32, 0.0f64);
            for x in row.iter().filter(|x| x.is_finite()) {
                amax = amax.max(x.abs());
                square += f64::from(*x).powi(2);
            }
            let c = i % channels;
            self.amax[c] = self.amax[c].max(f64::from(amax));
            self.squares[c] += (square * FIXED_POINT) as i128;
        }
        self.count += (data.len() / channels) as u64;
    }

    fn merge(&mut self, o: &ChannelStats) {
        if self.amax.is_empty() {
            return self.clone_from(o);
        }
        self.amax.iter_mut().zip(&o.amax).for_each(|(a, b)| *a = a.max(*b));
        self.squares.iter_mut().zip(&o.squares).for_each(|(a, b)| *a += b);
        self.count += o.count;
    }

    /// The magnitude up to which each channel shall be represented: calibration clips what lies far
    /// beyond the others.
    pub(super) fn reach(&self) -> Vec<f64> {
        const FAR: f64 = 8.0;
        let far = |(a, m): (&f64, f64)| a.min(FAR * m.sqrt());
        self.amax.iter().zip(self.mean_squares()).map(far).collect()
    }

    /// Mean square of each channel.
    pub(super) fn mean_squares(&self) -> Vec<f64> {
        let n = self.count.max(1) as f64;
        self.squares.iter().map(|s| *s as f64 / FIXED_POINT / n).collect()
    }
}

struct Gather<'a> {
    axes: &'a [usize],
    stats: Vec<ChannelStats>,
}

impl Observer for Gather<'_> {
    fn tap(&mut self, _: usize, index: usize, value: Tensor) {
        let (stats, axis) = (&mut self.stats[index], self.axes[index]);
        with_f32(&value, &mut |data| stats.observe(data, value.dims(), axis));
    }

    fn merge(&mut self, o: Self) {
        self.stats.iter_mut().zip(&o.stats).for_each(|(a, b)| a.merge(b));
    }
}

/// Statistics of these values, whose channels lie along these axes, over all samples.
///
/// # Errors
/// When the model does not run on the samples.
pub(super) fn observe(
    m: &Model,
    values: &BTreeMap<ValueId, usize>,
    engine: &dyn Engine,
    source: &dyn Source,
    progress: Progress,
) -> Result<BTreeMap<ValueId, ChannelStats>, QuantizeError> {
    let names: Vec<String> = values.keys().map(|v| m.graph.value(*v).name().to_owned()).collect();
    let axes: Vec<usize> = values.values().copied().collect();
    let session = engine.prepare(m, &names).map_err(RunError::from)?;
    let make = || Gather { axes: &axes, stats: vec![ChannelStats::default(); axes.len()] };
    let found = run_all(&*session, source, all_cores(), make, progress)?;
    Ok(values.keys().copied().zip(found.stats).collect())
}
