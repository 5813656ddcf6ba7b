//! Clipping thresholds from one histogram: the largest magnitude that INT8 shall still represent.

use serde::{Deserialize, Serialize};

use super::grid::Codes;
use super::observe::{Counts, Histogram};

/// How the clipping threshold of a tensor is chosen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Method {
    /// The largest magnitude seen: nothing is clipped.
    Minmax,
    /// The mean over the samples of the largest magnitude in each.
    MovingAverage,
    /// A percentile of the magnitudes.
    Percentile,
    /// Least Kullback-Leibler divergence between the values and their 128 quantized levels.
    Entropy,
    /// Least expected squared error.
    Mse,
    /// For each tensor the one of the others with the least expected squared error; the whole range
    /// for graph inputs.
    #[default]
    Auto,
}

/// A chosen threshold.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Threshold {
    /// Largest magnitude that is not clipped.
    pub amax: f32,
    /// The method that chose it; never [`Method::Auto`].
    pub method: Method,
    /// Expected squared error of one element.
    pub mse: f64,
    /// Share of the elements beyond the threshold.
    pub clipped: f64,
}

/// Levels of the positive half of INT8, zero included.
const LEVELS: usize = 128;

/// Chooses the threshold of a tensor of these codes. `percentile` is in percent.
pub fn choose(h: &Histogram, method: Method, percentile: f64, codes: Codes) -> Threshold {
    let single = |method| {
        let amax = match method {
            Method::Percentile => percentile_threshold(h, percentile),
            Method::Entropy => entropy_threshold(h),
            Method::Mse => mse_threshold(h, codes),
            Method::Minmax | Method::MovingAverage | Method::Auto => h.amax(),
        };
        let amax = if amax > 0.0 { amax } else { h.amax() };
        Threshold {
            amax,
            method,
            mse: expected_mse(h, amax, codes),
            clipped: clipped_share(h, amax),
        }
    };
    if method != Method::Auto {
        return single(method);
    }
    let all = [Method::Minmax, Method::Percentile, Method::Entropy, Method::Mse];
    let best = all.map(single).into_iter().min_by(|a, b| a.mse.total_cmp(&b.mse));
    best.unwrap_or_else(|| single(Method::Minmax))
}

/// The magnitude below which `percentile` percent of the elements lie; elements are taken to be
/// spread evenly inside a bin.
pub fn percentile_threshold(h: &Histogram, percentile: f64) -> f32 {
    let want = (percentile / 100.0).clamp(0.0, 1.0) * h.counts().total() as f64;
    let mut below = 0.0;
    for (i, &n) in h.counts().bins.iter().enumerate() {
        let n = n as f64;
        if n > 0.0 && below + n >= want {
            let end = ((i as f64 + (want - below) / n) * h.width()) as f32;
            return end.min(h.amax());
        }
        below += n;
    }
    h.amax()
}

/// The largest share of elements that the entropy method may clip.
const MOST_CLIPPED: f64 = 0.01;

/// The threshold of least Kullback-Leibler divergence, as NVIDIA published it: of the first `i`
/// bins, with all that lies beyond added to the last, from the same bins merged into 128 levels and
/// spread evenly over those that are not empty; `i` from 128 on; of equal divergences the largest
/// `i`. Zeros do not sway it: the first bin counts as the second.
///
/// One thing is added: no `i` that would clip more than `MOST_CLIPPED`. Elements beyond the
/// threshold cost nothing where they join a spike, such as the background of images.
pub fn entropy_threshold(h: &Histogram) -> f32 {
    let mut bins: Vec<f64> = h.counts().bins.iter().map(|&n| n as f64).collect();
    if bins.len() < LEVELS {
        return h.amax();
    }
    bins[0] = bins[1];
    let search = EntropySearch::new(&bins);
    let mut best = (f64::INFINITY, bins.len());
    for i in LEVELS..=bins.len() {
        let divergence = search.divergence(i);
        if divergence <= best.0 && search.clipped(i) <= MOST_CLIPPED {
            best = (divergence, i);
        }
    }
    ((best.1 as f64 * h.width()) as f32).min(h.amax())
}

/// Prefix sums that make one divergence cost one step per level instead of one per bin.
struct EntropySearch<'a> {
    bins: &'a [f64],
    /// Sum of the first `i` counts, of `n ln n`, and number of those that are not zero.
    sum: Vec<f64>,
    nlogn: Vec<f64>,
    filled: Vec<f64>,
}

impl EntropySearch<'_> {
    fn new(bins: &[f64]) -> EntropySearch<'_> {
        let prefix = |f: fn(f64) -> f64| {
            let mut acc = 0.0;
            let tail = bins.iter().map(move |&n| {
                acc += f(n);
                acc
            });
            std::iter::once(0.0).chain(tail).collect()
        };
        EntropySearch {
            bins,
            sum: prefix(|n| n),
            nlogn: prefix(|n| if n > 0.0 { n * n.ln() } else { 0.0 }),
            filled: prefix(|n| f64::from(u8::from(n > 0.0))),
        }
    }

    /// The share of the elements beyond the first `i` bins.
    fn clipped(&self, i: usize) -> f64 {
        let total = self.sum[self.bins.len()];
        if total > 0.0 { (total - self.sum[i]) / total } else { 0.0 }
    }

    /// `KL(P || Q)` for the first `i` bins.
    fn divergence(&self, i: usize) -> f64 {
        let total = self.sum[self.bins.len()];
        let inside = self.sum[i];
        let (last, beyond) = (self.bins[i - 1], total - inside);
        if total == 0.0 {
            return 0.0;
        }
        if inside == 0.0 || (last == 0.0 && beyond > 0.0) {
            return f64::INFINITY;
        }
        // With P = p/total and Q = q/inside: KL = 1/total Σ p ln(p/q) + ln(inside/total).
        let mut kl = self.nlogn[i];
        for level in 0..LEVELS {
            let (a, b) = (first_bin(level, i), first_bin(level + 1, i));
            let (count, filled) = (self.sum[b] - self.sum[a], self.filled[b] - self.filled[a]);
            if count > 0.0 {
                kl -= count * (count / filled).ln();
                if level == LEVELS - 1 && beyond > 0.0 {
                    let p = last + beyond;
                    kl += p * p.ln() - last * last.ln() - beyond * (count / filled).ln();
                }
            }
        }
        kl / total + (inside / total).ln()
    }
}

/// First of `i` bins that belongs to `level`: the smallest `b` with `b >= level * i / LEVELS`.
fn first_bin(level: usize, i: usize) -> usize {
    (level * i).div_ceil(LEVELS)
}

/// The threshold of least [`expected_mse`]: one bin edge in `n / 256` is tried on bins four times as
/// wide, then fewer and fewer around the best on all.
pub fn mse_threshold(h: &Histogram, codes: Codes) -> f32 {
    let at = |i: usize| ((i as f64 * h.width()) as f32).min(h.amax());
    let best_of = |counts: &Counts, width: f64, edges: &mut dyn Iterator<Item = usize>| {
        let scored = edges.map(|i| (squared_error(counts, width, at(i), codes), i));
        scored.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(h.bins(), |s| s.1)
    };
    const WIDER: usize = 4;
    let (all, wide) = (h.weighted(), h.weighted().joined(WIDER));
    let mut stride = h.bins().div_ceil(256);
    let edges = &mut (1..h.bins() / stride + 1).rev().map(|i| i * stride);
    let mut best = best_of(&wide, WIDER as f64 * h.width(), edges);
    while stride > 1 {
        let (before, next) = (stride, stride.div_ceil(4));
        let low = best.saturating_sub(before).max(1);
        let edges = &mut (low..=(best + before).min(h.bins())).rev().step_by(next);
        best = best_of(all, h.width(), edges);
        stride = next;
    }
    at(best)
}

/// Expected squared error of rounding to the codes and clipping at `amax`, elements being spread evenly
/// inside a bin.
pub fn expected_mse(h: &Histogram, amax: f32, codes: Codes) -> f64 {
    squared_error(h.weighted(), h.width(), amax, codes)
}

fn squared_error(counts: &Counts, width: f64, amax: f32, codes: Codes) -> f64 {
    let step = codes.step(amax);
    let total = counts.total() as f64;
    if total == 0.0 || step <= 0.0 || width <= 0.0 {
        return 0.0;
    }
    let (per_step, whole) = (1.0 / step, step.powi(3) / 12.0);
    let last = (f64::from(amax) * per_step).round();
    // Integral of the squared error over [0, x].
    let error = |x: f64| {
        // The nearest level: the cast cuts off what is behind the point.
        let level = f64::from((x * per_step + 0.5).min(last) as i32);
        let rest = x - level * step;
        level * whole + rest * rest * rest / 3.0
    };
    let mut sum = 0.0;
    let mut below = 0.0;
    for (i, &n) in counts.bins.iter().enumerate() {
        let upto = error((i + 1) as f64 * width);
        let n = if i == 0 { n - counts.zeros.min(n) } else { n };
        sum += n as f64 * (upto - below);
        below = upto;
    }
    sum / width / total
}

fn clipped_share(h: &Histogram, amax: f32) -> f64 {
    if amax >= h.amax() {
        return 0.0;
    }
    let total = h.counts().total() as f64;
    let edge = f64::from(amax) / h.width().max(f64::MIN_POSITIVE);
    let whole = (edge as usize).min(h.bins());
    let beyond: u64 = h.counts().bins[whole..].iter().sum();
    let inside = h.counts().bins.get(whole).map_or(0.0, |&n| n as f64 * (edge - whole as f64));
    if total == 0.0 { 0.0 } else { ((beyond as f64 - inside) / total).max(0.0) }
}

#[cfg(test)]
mod tests;
