//! Streaming statistics of tensors: constant memory, whatever the amount of data.
//!
//! Calibration passes over the data twice. The first pass keeps a [`Range`] for each tensor, the
//! second a [`Histogram`] of magnitudes over the range that the first has found, so that bins never
//! grow. Both merge: each worker thread keeps its own.

use serde::Serialize;

/// Bins of a [`Histogram`].
pub const BINS: usize = 2048;

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
            let (mut lo, mut hi, mut finite) = (self.min, self.max, true);
            for &x in chunk {
                finite &= x.abs() <= f32::MAX;
                lo = if x < lo { x } else { lo };
                hi = if x > hi { x } else { hi };
            }
            if finite {
                (self.min, self.max) = (lo, hi);
            } else {
                self.observe_one_by_one(chunk);
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

/// How often magnitudes fall into [`BINS`] equal bins over `[0, amax]`. Counts have 64 bits. A second
/// set of bins counts each element as often as its channel matters to the ops that read it.
#[derive(Clone, Debug, PartialEq)]
pub struct Histogram {
    amax: f32,
    per_bin: f32,
    counts: Counts,
    weighted: Counts,
}

/// Counts of one histogram.
#[derive(Clone, Debug, PartialEq)]
pub struct Counts {
    /// One for each bin, smallest magnitudes first.
    pub bins: Box<[u64]>,
    /// Exact zeros; they are in the first bin too.
    pub zeros: u64,
}

impl Counts {
    fn new() -> Counts {
        Counts { bins: vec![0; BINS].into(), zeros: 0 }
    }

    fn merge(&mut self, other: &Counts) {
        for (a, b) in self.bins.iter_mut().zip(&other.bins) {
            *a += b;
        }
        self.zeros += other.zeros;
    }

    /// Sum of all bins.
    pub fn total(&self) -> u64 {
        self.bins.iter().sum()
    }
}

impl Histogram {
    /// An empty histogram over `[0, amax]`.
    pub fn new(amax: f32) -> Histogram {
        let per_bin = if amax > 0.0 { BINS as f32 / amax } else { 0.0 };
        // The quotient overflows for subnormal ranges: all then falls into the first bin.
        let per_bin = if per_bin.is_finite() { per_bin } else { 0.0 };
        Histogram { amax, per_bin, counts: Counts::new(), weighted: Counts::new() }
    }

    /// A histogram of the given counts with bins of width 1.
    #[cfg(test)]
    pub(super) fn of_bins(bins: &[u64], zeros: u64) -> Histogram {
        let counts = Counts { bins: bins.into(), zeros };
        Histogram { counts: counts.clone(), weighted: counts, ..Histogram::new(BINS as f32) }
    }

    /// Takes elements of one weight in. Those that are not finite are left out; magnitudes beyond
    /// `amax` count in the last bin.
    pub fn observe(&mut self, data: &[f32], weight: u32) {
        let weight = u64::from(weight);
        for &x in data {
            self.add(x, weight);
        }
    }

    /// Takes rows in whose elements have these weights.
    pub fn observe_rows(&mut self, data: &[f32], weights: &[u32]) {
        for row in data.chunks_exact(weights.len().max(1)) {
            for (&x, &weight) in row.iter().zip(weights) {
                self.add(x, u64::from(weight));
            }
        }
    }

    fn add(&mut self, x: f32, weight: u64) {
        let a = x.abs();
        if a <= f32::MAX {
            let zero = u64::from(a == 0.0);
            self.counts.zeros += zero;
            self.weighted.zeros += zero * weight;
            let bin = ((a * self.per_bin) as usize).min(BINS - 1);
            self.counts.bins[bin] += 1;
            self.weighted.bins[bin] += weight;
        }
    }

    /// Takes in what another worker saw, over the same `amax`.
    pub fn merge(&mut self, other: &Histogram) {
        debug_assert_eq!(self.amax.to_bits(), other.amax.to_bits());
        self.counts.merge(&other.counts);
        self.weighted.merge(&other.weighted);
    }

    /// Upper end of the last bin.
    pub fn amax(&self) -> f32 {
        self.amax
    }

    /// Elements counted once.
    pub fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Elements counted by weight; as [`Histogram::counts`] where all weights were zero.
    pub fn weighted(&self) -> &Counts {
        if self.weighted.bins.iter().all(|n| *n == 0) { &self.counts } else { &self.weighted }
    }

    /// Counts in `n` wider bins; `n` divides [`BINS`].
    pub fn coarse(&self, n: usize) -> Vec<u64> {
        self.counts.bins.chunks(BINS / n.clamp(1, BINS)).map(|bins| bins.iter().sum()).collect()
    }

    /// Width of a bin.
    pub fn width(&self) -> f64 {
        f64::from(self.amax) / BINS as f64
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

        let mut whole_h = Histogram::new(whole.amax());
        whole_h.observe(&data, 3);
        let (mut l, mut r) = (Histogram::new(whole.amax()), Histogram::new(whole.amax()));
        l.observe(a, 3);
        r.observe_rows(b, &[3]);
        l.merge(&r);
        assert_eq!(l, whole_h);
        assert_eq!(whole_h.counts().total(), 5000);
    }

    #[test]
    fn counts_are_exact_and_edges_fall_into_the_last_bin() {
        let mut h = Histogram::new(2048.0);
        h.observe(&[0.0, -0.0, 0.5, 1.0, -1.5, 2047.5, 2048.0, -5000.0, f32::NAN], 2);
        let (once, twice) = (h.counts(), h.weighted());
        assert_eq!((once.zeros, twice.zeros), (2, 4));
        assert_eq!((once.bins[0], once.bins[1], once.bins[2047]), (3, 2, 3));
        assert_eq!((once.total(), twice.total()), (8, 16));
    }

    #[test]
    fn degenerate_ranges_do_not_divide_by_zero() {
        for amax in [0.0, f32::from_bits(1)] {
            let mut h = Histogram::new(amax);
            h.observe(&[0.0, amax], 1);
            assert_eq!(h.counts().bins[0], 2);
        }
    }
}
