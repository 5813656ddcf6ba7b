//! Statistics of the channels of activations.

use super::super::observe::{Range, sums_by_channel};
use crate::ir::layout::{Layout, Row};

/// Squares are summed in fixed point, so that the order of addition does not show.
const FIXED_POINT: f64 = (1u64 << 32) as f64;

/// What the channels of an activation were.
#[derive(Clone, Debug, Default)]
pub(in super::super) struct ChannelStats {
    /// Least finite element of each channel.
    min: Vec<f64>,
    /// Largest finite element of each channel.
    max: Vec<f64>,
    squares: Vec<i128>,
    count: u64,
}

impl ChannelStats {
    pub(in super::super) fn observe(&mut self, data: &[f32], dims: &[usize], axis: usize) {
        let Some(&channels) = dims.get(axis) else { return };
        if data.is_empty() || ![0, channels].contains(&self.len()) {
            return;
        }
        self.min.resize(channels, f64::INFINITY);
        self.max.resize(channels, f64::NEG_INFINITY);
        self.squares.resize(channels, 0);
        let mut take = |c: usize, min: f32, max: f32| {
            self.min[c] = self.min[c].min(f64::from(min));
            self.max[c] = self.max[c].max(f64::from(max));
        };
        let layout = Layout::new(dims, Some(axis));
        for (at, row) in layout.rows(data.len()) {
            let (data, mut range) = (&data[at], Range::default());
            match row {
                Row::Of(c) => {
                    range.observe(data);
                    take(c, range.min, range.max);
                }
                Row::Across => {
                    let finite = data.iter().enumerate().filter(|(_, x)| x.is_finite());
                    finite.for_each(|(c, x)| take(c, *x, *x));
                }
            }
        }
        let square = |x: f64| if x.is_finite() { x * x } else { 0.0 };
        let squares = sums_by_channel(data, layout, square);
        let sums = self.squares.iter_mut().zip(squares);
        sums.for_each(|(all, own)| *all += (own * FIXED_POINT) as i128);
        self.count += (data.len() / channels) as u64;
    }

    pub(in super::super) fn merge(&mut self, o: &ChannelStats) {
        if self.len() == 0 {
            return self.clone_from(o);
        }
        self.min.iter_mut().zip(&o.min).for_each(|(a, b)| *a = a.min(*b));
        self.max.iter_mut().zip(&o.max).for_each(|(a, b)| *a = a.max(*b));
        self.squares.iter_mut().zip(&o.squares).for_each(|(a, b)| *a += b);
        self.count += o.count;
    }

    /// Number of channels.
    pub(in super::super) fn len(&self) -> usize {
        self.max.len()
    }

    /// Least and largest finite element of each channel; the other way round where it had none.
    pub(super) fn seen(&self) -> impl Iterator<Item = (f64, f64)> + '_ {
        self.min.iter().copied().zip(self.max.iter().copied())
    }

    /// Largest finite magnitude of each channel.
    pub(super) fn amax(&self) -> Vec<f64> {
        self.seen().map(|(min, max)| max.max(-min).max(0.0)).collect()
    }

    /// The ends between which each channel shall be represented, zero being between them: calibration
    /// clips what lies far beyond the others.
    pub(super) fn reach(&self) -> Vec<(f64, f64)> {
        const FAR: f64 = 8.0;
        let far = self.mean_squares().into_iter().map(|m| FAR * m.sqrt());
        let ends = self.seen().map(|(min, max)| (min.min(0.0), max.max(0.0)));
        ends.zip(far).map(|((low, high), far)| (low.max(-far), high.min(far))).collect()
    }

    /// Mean square of each channel.
    pub(super) fn mean_squares(&self) -> Vec<f64> {
        let n = self.count.max(1) as f64;
        self.squares.iter().map(|s| *s as f64 / FIXED_POINT / n).collect()
    }
}
