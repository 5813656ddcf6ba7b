//! Clipping thresholds from one histogram: the largest magnitude that INT8 shall still represent.

use serde::{Deserialize, Serialize};

use super::observe::{BINS, Histogram};

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

/// Chooses the threshold of a tensor. `percentile` is in percent.
pub fn choose(h: &Histogram, method: Method, percentile: f64) -> Threshold {
    let single = |method| {
        let amax = match method {
            Method::Percentile => percentile_threshold(h, percentile),
            Method::Entropy => entropy_threshold(h),
            Method::Mse => mse_threshold(h),
            Method::Minmax | Method::MovingAverage | Method::Auto => h.amax(),
        };
        let amax = if amax > 0.0 { amax } else { h.amax() };
        Threshold { amax, method, mse: expected_mse(h, amax), clipped: clipped_share(h, amax) }
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
            return ((i as f64 + (want - below) / n) * h.width()) as f32;
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
    bins[0] = bins[1];
    let search = EntropySearch::new(&bins);
    let mut best = (f64::INFINITY, BINS);
    for i in LEVELS..=BINS {
        let divergence = search.divergence(i);
        if divergence <= best.0 && search.clipped(i) <= MOST_CLIPPED {
            best = (divergence, i);
        }
    }
    (best.1 as f64 * h.width()) as f32
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

/// The threshold of least [`expected_mse`]: every eighth bin edge is tried, then all around the
/// best.
pub fn mse_threshold(h: &Histogram) -> f32 {
    const STRIDE: usize = 8;
    let at = |i: usize| (i as f64 * h.width()) as f32;
    let best_of = |edges: &mut dyn Iterator<Item = usize>| {
        let scored = edges.map(|i| (expected_mse(h, at(i)), i));
        scored.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(BINS, |s| s.1)
    };
    let coarse = best_of(&mut (1..BINS / STRIDE + 1).rev().map(|i| i * STRIDE));
    let around = coarse.saturating_sub(STRIDE).max(1)..=(coarse + STRIDE).min(BINS);
    at(best_of(&mut around.rev()))
}

/// Expected squared error of rounding to multiples of `amax / 127` and clipping at `amax`, elements
/// being spread evenly inside a bin.
pub fn expected_mse(h: &Histogram, amax: f32) -> f64 {
    let step = f64::from(amax) / 127.0;
    let counts = h.weighted();
    let total = counts.total() as f64;
    let width = h.width();
    if total == 0.0 || step <= 0.0 || width <= 0.0 {
        return 0.0;
    }
    // Integral of the squared error over [0, x].
    let error = |x: f64| {
        let level = (x / step).round().min(127.0);
        let rest = x - level * step;
        level * step.powi(3) / 12.0 + rest.powi(3) / 3.0
    };
    let mut sum = 0.0;
    let mut below = 0.0;
    for (i, &n) in counts.bins.iter().enumerate() {
        let upto = error((i + 1) as f64 * width);
        let n = if i == 0 { n - counts.zeros.min(n) } else { n };
        if n > 0 {
            sum += n as f64 * (upto - below) / width;
        }
        below = upto;
    }
    sum / total
}

fn clipped_share(h: &Histogram, amax: f32) -> f64 {
    let total = h.counts().total() as f64;
    let edge = f64::from(amax) / h.width().max(f64::MIN_POSITIVE);
    let whole = (edge as usize).min(BINS);
    let beyond: u64 = h.counts().bins[whole..].iter().sum();
    let inside = h.counts().bins.get(whole).map_or(0.0, |&n| n as f64 * (edge - whole as f64));
    if total == 0.0 { 0.0 } else { ((beyond as f64 - inside) / total).max(0.0) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts over bins of width 1 for a density on `[0, 1)`.
    fn bins(density: impl Fn(f64) -> f64) -> Vec<u64> {
        (0..BINS).map(|i| density((i as f64 + 0.5) / BINS as f64).floor() as u64).collect()
    }

    /// Distributions with the results of straightforward NumPy programs of the published
    /// definitions: entropy threshold, divergence there, percentiles 99.9, 99.99 and 99.999 as bins,
    /// and the least squared error at bin centers (thresholds from bin 128 on).
    #[allow(clippy::type_complexity)]
    fn references() -> Vec<(&'static str, Histogram, f32, f64, [f32; 3], f64)> {
        let normal = bins(|x| 1e6 * (-(x * 6.0).powi(2) / 2.0).exp());
        let laplace = bins(|x| 1e6 * (-x * 20.0).exp());
        let mut outlier = bins(|x| 1e6 * (-(x * 40.0).powi(2) / 2.0).exp());
        outlier[2047] += 3;
        outlier[1500] += 10;
        let mut relu = bins(|x| 1e5 * (-(x * 8.0).powi(2) / 2.0).exp());
        relu[0] += 50_000_000;
        let uniform = vec![1000; BINS];
        let mut sparse = bins(|x| 1e4 * (-x * 5.0).exp());
        sparse.iter_mut().enumerate().filter(|(i, _)| i % 7 != 0).for_each(|(_, n)| *n = 0);
        let of = |bins: &[u64], zeros| Histogram::of_bins(bins, zeros);
        vec![
            (
                "normal",
                of(&normal, 0),
                1646.0,
                6.225202103373461e-05,
                [1123.0, 1327.0, 1504.0],
                10.194049936602399,
            ),
            (
                "laplace",
                of(&laplace, 0),
                1152.0,
                0.0003524067683974846,
                [706.0, 939.0, 1158.0],
                5.930781308705467,
            ),
            (
                "outlier",
                of(&outlier, 0),
                247.0,
                4.793851996294476e-05,
                [168.0, 199.0, 225.0],
                0.6498818029845804,
            ),
            ("uniform", of(&uniform, 0), 2048.0, 0.0, [2045.0, 2047.0, 2047.0], 21.501515884867707),
            (
                "relu",
                of(&relu, 50_000_000),
                1192.0,
                5.728298964844712e-05,
                [771.0, 934.0, 1069.0],
                2.3309018292027632,
            ),
            (
                "sparse",
                of(&sparse, 0),
                2045.0,
                5.7770985140723416e-05,
                [1988.0, 2044.0, 2044.0],
                21.028009185955863,
            ),
        ]
    }

    #[test]
    fn entropy_agrees_with_the_definition() {
        for (name, h, threshold, divergence, ..) in references() {
            assert_eq!(entropy_threshold(&h), threshold, "{name}");
            let mut bins: Vec<f64> = h.counts().bins.iter().map(|&n| n as f64).collect();
            bins[0] = bins[1];
            let got = EntropySearch::new(&bins).divergence(threshold as usize);
            assert!((got - divergence).abs() < 1e-9, "{name}: {got}");
        }
    }

    #[test]
    fn entropy_does_not_clip_behind_a_spike() {
        // Pixels of 256 levels, most of them background.
        let mut pixels = vec![0; BINS];
        pixels.iter_mut().skip(3).step_by(8).for_each(|n| *n = 1000);
        pixels[819] = 150_000;
        let threshold = entropy_threshold(&Histogram::of_bins(&pixels, 0));
        assert!(threshold > 2000.0, "{threshold}");
    }

    #[test]
    fn divergence_elsewhere_agrees_with_the_definition() {
        let all = references();
        let at = |k: usize, i: usize| {
            let mut bins: Vec<f64> = all[k].1.counts().bins.iter().map(|&n| n as f64).collect();
            bins[0] = bins[1];
            EntropySearch::new(&bins).divergence(i)
        };
        for (k, i, want) in [
            (0, 128, 2.8770819022832943),
            (0, 1128, 0.0034272041859996186),
            (1, 128, 1.0031099548284108),
            (3, 128, 4.319166567642249),
            (5, 1128, 0.17220506499546406),
        ] {
            assert!((at(k, i) - want).abs() < 1e-9, "{k} {i}: {}", at(k, i));
        }
        assert_eq!(at(5, 128), f64::INFINITY);
    }

    #[test]
    fn percentiles_fall_into_the_bin_of_the_definition() {
        for (name, h, _, _, bins, _) in references() {
            for (p, bin) in [99.9, 99.99, 99.999].into_iter().zip(bins) {
                let got = percentile_threshold(&h, p);
                assert!((bin..=bin + 1.0).contains(&got), "{name} {p}: {got} not in bin {bin}");
            }
            let last = h.counts().bins.iter().rposition(|n| *n > 0).expect("not empty") + 1;
            assert_eq!(percentile_threshold(&h, 100.0), last as f32, "{name}");
        }
    }

    #[test]
    fn mse_threshold_is_as_good_as_the_published_search() {
        for (name, h, .., best) in references() {
            let step = f64::from(mse_threshold(&h)) / 127.0;
            let at_centers: f64 = h
                .counts()
                .bins
                .iter()
                .enumerate()
                .map(|(i, &n)| {
                    let c = i as f64 + 0.5;
                    n as f64 * ((c / step).round().min(127.0) * step - c).powi(2)
                })
                .sum::<f64>()
                / h.counts().total() as f64;
            assert!(at_centers < best * 1.02 + 0.1, "{name}: {at_centers} > {best}");
        }
    }

    #[test]
    fn expected_error_is_exact_where_it_can_be_computed() {
        // Uniform on [0, amax]: step^2 / 12 without clipping.
        let uniform = Histogram::of_bins(&vec![1000; BINS], 0);
        let step = 2048.0 / 127.0;
        assert!((expected_mse(&uniform, 2048.0) - step * step / 12.0).abs() < 1e-9);
        // Clipping at half adds the integral of (x - amax/2)^2.
        let half: f64 = 1024.0;
        let want = 0.5 * (step / 2.0).powi(2) / 12.0 + half.powi(3) / 3.0 / 2048.0;
        assert!((expected_mse(&uniform, 1024.0) - want).abs() < 1e-6);
        // Exact zeros cost nothing.
        let mut zeros = vec![0; BINS];
        zeros[0] = 10;
        assert_eq!(expected_mse(&Histogram::of_bins(&zeros, 10), 2048.0), 0.0);
    }

    #[test]
    fn auto_takes_the_least_error_and_no_method_leaves_the_range() {
        for (name, h, ..) in references() {
            let all = [Method::Minmax, Method::Percentile, Method::Entropy, Method::Mse];
            let all = all.map(|m| choose(&h, m, 99.99));
            let auto = choose(&h, Method::Auto, 99.99);
            assert!(all.iter().all(|t| t.mse >= auto.mse), "{name}");
            assert!(all.iter().all(|t| t.amax > 0.0 && t.amax <= 2048.0), "{name}");
            assert!((0.0..=1.0).contains(&auto.clipped), "{name}");
        }
        let empty = Histogram::new(0.0);
        assert_eq!(choose(&empty, Method::Auto, 99.99).amax, 0.0);
    }
}
