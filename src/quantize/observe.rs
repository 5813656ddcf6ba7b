//! Streaming statistics of tensors: constant memory, whatever the amount of data.
//!
//! Calibration keeps a [`Range`] for each tensor and counts its magnitudes (`recorder`), of which
//! comes a [`Histogram`]. Both merge: each worker thread keeps its own.

use multiversion::multiversion;
use serde::Serialize;

use crate::ir::layout::{Layout, Row};

/// Sums that run side by side.
const LANES: usize = 8;

/// The sum of `f` of all elements; in a fixed order, so that equal data give equal sums.
#[inline(always)]
fn sum<F: Fn(f64) -> f64 + Copy>(data: &[f32], f: F) -> f64 {
    let mut sums = [0.0; LANES];
    let rows = data.chunks_exact(LANES);
    let rest: f64 = rows.remainder().iter().map(|x| f(f64::from(*x))).sum();
    for row in rows {
        for i in 0..LANES {
            sums[i] += f(f64::from(row[i]));
        }
    }
    sums.iter().sum::<f64>() + rest
}

/// For each channel the sum of `f` of its elements; in a fixed order, too.
#[multiversion(targets = "simd")]
pub(crate) fn sums_by_channel<F>(data: &[f32], layout: Layout, f: F) -> Vec<f64>
where
    F: Fn(f64) -> f64 + Copy,
{
    let mut sums = vec![0.0; layout.channels];
    for (at, channels) in layout.rows(data.len()) {
        let row = &data[at];
        match channels {
            Row::Of(c) => sums[c] += sum(row, f),
            Row::Across => sums.iter_mut().zip(row).for_each(|(s, x)| *s += f(f64::from(*x))),
        }
    }
    sums
}

/// Least and largest of elements that are all finite, or `None`: with a minimum and a maximum for each
/// lane, so that they do not wait for one another.
#[multiversion(targets = "simd")]
fn extremes(data: &[f32]) -> Option<(f32, f32)> {
    const LANES: usize = 32;
    let (mut lo, mut hi) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    let mut most = [0u32; LANES];
    let rows = data.chunks_exact(LANES);
    let rest = rows.remainder();
    for row in rows {
        for i in 0..LANES {
            // The magnitude's bits grow with it; those of NaN lie above all.
            most[i] = most[i].max(row[i].to_bits() & 0x7fff_ffff);
            lo[i] = if row[i] < lo[i] { row[i] } else { lo[i] };
            hi[i] = if row[i] > hi[i] { row[i] } else { hi[i] };
        }
    }
    for x in rest {
        most[0] = most[0].max(x.abs().to_bits());
        lo[0] = lo[0].min(*x);
        hi[0] = hi[0].max(*x);
    }
    let finite = most.iter().all(|bits| *bits <= f32::MAX.to_bits());
    let all = |xs: [f32; LANES], f: fn(f32, f32) -> f32, from| xs.into_iter().fold(from, f);
    finite.then(|| (all(lo, f32::min, f32::INFINITY), all(hi, f32::max, f32::NEG_INFINITY)))
}

/// Extremes of all elements seen. NaN and infinities are counted and left out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Range {
    /// Smallest finite element; `INFINITY` when there was none.
    pub min: f32,
    /// Largest finite element; `NEG_INFINITY` when there was none.
    pub max: f32,
    /// Elements seen, finite or not.
    pub count: u64,
    /// NaNs among them.
    pub nan: u64,
    /// Infinities among them.
    pub inf: u64,
}

impl Default for Range {
    fn default() -> Range {
        Range { min: f32::INFINITY, max: f32::NEG_INFINITY, count: 0, nan: 0, inf: 0 }
    }
}

impl Range {
    /// Takes elements in.
    pub fn observe(&mut self, data: &[f32]) {
        self.count += data.len() as u64;
        for chunk in data.chunks(1024) {
            match extremes(chunk) {
                Some((min, max)) => {
                    self.min = self.min.min(min);
                    self.max = self.max.max(max);
                }
                None => self.observe_one_by_one(chunk),
            }
        }
    }

    fn observe_one_by_one(&mut self, data: &[f32]) {
        for &x in data {
            if x.is_nan() {
                self.nan += 1;
            } else if x.is_infinite() {
                self.inf += 1;
            } else {
                self.min = self.min.min(x);
                self.max = self.max.max(x);
            }
        }
    }

    /// Takes in what another worker saw.
    pub fn merge(&mut self, other: &Range) {
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
        self.count += other.count;
        self.nan += other.nan;
        self.inf += other.inf;
    }

    /// Largest finite magnitude; 0 when there was no finite element.
    pub fn amax(&self) -> f32 {
        if self.min > self.max { 0.0 } else { self.min.abs().max(self.max.abs()) }
    }
}

/// How often magnitudes fall into equal bins. Counts have 64 bits. A second set of bins counts each
/// element as often as its channel matters to the ops that read it.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    amax: f32,
    width: f64,
    counts: Counts,
    weighted: Counts,
}

/// Counts of one histogram.
#[derive(Clone, Debug, PartialEq)]
pub struct Counts {
    /// One for each bin, smallest magnitudes first; at least one.
    pub bins: Box<[u64]>,
    /// Exact zeros; they are in the first bin too.
    pub zeros: u64,
}

impl Counts {
    /// Sum of all bins.
    pub fn total(&self) -> u64 {
        self.bins.iter().sum()
    }

    /// The same in bins `n` times as wide.
    pub fn joined(&self, n: usize) -> Counts {
        let bins = self.bins.chunks(n.max(1)).map(|bins| bins.iter().sum()).collect();
        Counts { bins, zeros: self.zeros }
    }
}

impl Histogram {
    /// Counts over bins of this width, the last of which holds the largest magnitude, `amax`.
    pub(super) fn new(amax: f32, width: f64, counts: Counts, weighted: Counts) -> Histogram {
        Histogram { amax, width, counts, weighted }
    }

    /// A histogram of the given counts with bins of width 1.
    #[cfg(test)]
    pub(super) fn of_bins(bins: &[u64], zeros: u64) -> Histogram {
        let counts = Counts { bins: bins.into(), zeros };
        Histogram::new(bins.len() as f32, 1.0, counts.clone(), counts)
    }

    /// The largest magnitude.
    pub fn amax(&self) -> f32 {
        self.amax
    }

    /// Number of bins.
    pub fn bins(&self) -> usize {
        self.counts.bins.len()
    }

    /// Elements counted once.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Elements counted by weight; as [`Histogram::counts`] where all weights were zero.
    pub fn weighted(&self) -> &Counts {
        if self.weighted.bins.iter().all(|n| *n == 0) { &self.counts } else { &self.weighted }
    }

    /// The end of the last of at most `n` wider bins that hold all, and their counts.
    pub fn coarse(&self, n: usize) -> (f32, Vec<u64>) {
        let joined = self.bins().div_ceil(n.max(1));
        let bins = self.counts.joined(joined).bins.into_vec();
        ((bins.len() as f64 * joined as f64 * self.width) as f32, bins)
    }

    /// Width of a bin.
    pub fn width(&self) -> f64 {
        self.width
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn range_leaves_out_and_counts_what_is_not_finite() {
        let mut r = Range::default();
        r.observe(&[1.0, -3.0, f32::NAN, f32::INFINITY, 2.0, f32::NEG_INFINITY]);
        assert_eq!((r.min, r.max, r.count, r.nan, r.inf), (-3.0, 2.0, 6, 1, 2));
        assert_eq!(r.amax(), 3.0);
        assert_eq!(Range::default().amax(), 0.0);
    }

    #[test]
    fn merging_equals_observing_all() {
        let data: Vec<f32> = (0..5000).map(|i| ((i * 37) % 1001) as f32 - 400.0).collect();
        let (a, b) = data.split_at(1234);
        let mut whole = Range::default();
        whole.observe(&data);
        let (mut left, mut right) = (Range::default(), Range::default());
        left.observe(a);
        right.observe(b);
        left.merge(&right);
        assert_eq!(left, whole);
    }

    #[test]
    fn lanes_sum_all() {
        let data: Vec<f32> = (0..1003).map(|i| i as f32).collect();
        assert_eq!(sum(&data, |x| x), 1002.0 * 1003.0 / 2.0);
    }

    #[test]
    fn channels_stand_in_runs_or_side_by_side() {
        let data: Vec<f32> = (0..12).map(|i| i as f32).collect();
        assert_eq!(
            sums_by_channel(&data, Layout::new(&[2, 3, 2], Some(1)), |x| x),
            [14.0, 22.0, 30.0]
        );
        assert_eq!(
            sums_by_channel(&data, Layout::new(&[4, 3], Some(1)), |x| x),
            [18.0, 22.0, 26.0]
        );
    }

    #[test]
    fn coarse_bins_hold_all() {
        let h = Histogram::of_bins(&[1; 300], 0);
        let (end, bins) = h.coarse(128);
        assert_eq!((end, bins.len(), bins[0], bins.iter().sum::<u64>()), (300.0, 100, 3, 300));
        let (end, bins) = h.coarse(200);
        assert_eq!((end, bins.len(), bins.iter().sum::<u64>()), (300.0, 150, 300));
    }
}
