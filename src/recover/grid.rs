//! Fits of layers whose weights are rounded to INT8, one scale for each row.
//!
//! Weights are rounded one after the other, and those of the row that are still to come make good the
//! error of each, by the inverse of the second moments of the inputs (GPTQ: Frantar and others, arXiv
//! 2210.17323). The inputs are those that the quantized model gives the layer, and the bias takes out
//! what is left of the mean error, so that errors of the layers before are made good, too. Where
//! asked, rounding starts from the least squares on these inputs instead of the weights as they were.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::cholesky::Cholesky;
use super::fit::{Linear, Problem};
use super::linalg::{BLOCK, subtract_product};
use super::{Calibration, Job, Kept, Recover, RecoverError, RecoveryReport, in_turn, jobs_of};
use crate::ir::{Model, OpId, ValueId};

/// How weights are rounded to INT8.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Rounding {
    /// Each to the nearest.
    Nearest,
    /// Each to the nearest; biases layer by layer on what the quantized layers before give.
    Bias,
    /// As `bias`, weights by GPTQ, which makes good the error of each by those that follow.
    Gptq,
    /// As `gptq`, from the least squares on what the quantized layers before give.
    Reconstruct,
    /// For each layer the one of these that comes closest on samples that it was not fitted to.
    #[default]
    Auto,
}

/// What is asked of a layer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    pub rounding: Rounding,
    /// The weights are stored as INT8; else only fitted.
    pub rounded: bool,
}

/// The quantized layers and those behind them.
pub(crate) struct Quantized<'a> {
    /// The ops whose weights are rounded.
    pub ops: &'a dyn Fn(OpId) -> bool,
    pub rounding: Rounding,
}

/// Strengths of the pull towards the weights as they are, relative to the mean square of the inputs.
/// Weak ones win on samples that are like those of the fit, as crops of the same pictures or frames of
/// one film are, and lose on others: MobileNetV2 lost 4 dB with 0.01, and gains 1 dB with these.
const RIDGES: [f64; 2] = [10.0, 100.0];
/// What is added to the second moments before they are inverted for rounding, relative likewise.
const DAMPING: f64 = 1e-2;
/// Bytes of the inputs of a layer that are held at once.
const INPUTS: usize = 96 << 20;
/// Rows that are rounded together.
const ROWS: usize = 16;
/// Longest row whose second moments are taken.
const LONGEST: usize = 2304;

/// Fits the layers of `cut`, the model with Q/DQ on its activations, to what the layers of the same
/// ids in `original` give, and rounds the weights of the quantized ones.
///
/// # Errors
/// When there are no samples, or a model cannot be run.
pub(crate) fn recover_rounded(
    original: &Model,
    cut: &mut Model,
    q: &Quantized,
    c: Calibration,
) -> Result<RecoveryReport, RecoverError> {
    let quantized = |job: &Job| (q.ops)(job.layer.op);
    let samples = c.source.len();
    let mut jobs = jobs_of(&original.graph, &cut.graph, &Kept::new(), samples, &quantized);
    for job in &mut jobs {
        job.grid = Some(Grid { rounding: q.rounding, rounded: quantized(job) });
        let row = 4 * job.fan_in * job.layer.groups;
        let most = (INPUTS / row.max(1)).clamp(512, 16384);
        job.rows = (3 * job.fan_in).clamp(4096.min(most), most).div_ceil(samples.max(1));
        if job.target.shortcut.is_some() {
            job.target.shortcut = shortcut(original, cut, job);
        }
    }
    in_turn(original, cut, &jobs, Recover::Reconstruct, c)
}

/// What the model that is fitted adds to the result of the layer.
fn shortcut(original: &Model, cut: &Model, job: &Job) -> Option<ValueId> {
    let sum = original.graph.producer_op(job.target.value)?;
    let slot = (0..2).find(|s| original.graph.operand(sum, *s) == job.target.shortcut)?;
    cut.graph.operand(sum, slot)
}

/// A layer with rounded weights, and the scales of its rows; none where nothing was rounded.
pub(super) struct Fitted {
    pub linear: Linear,
    pub scales: Vec<f32>,
}

/// The layer fitted and rounded as asked.
pub(super) fn fit(problem: &Problem, old: &Linear, held_out: usize, grid: Grid) -> Fitted {
    let n = problem.inputs.rows - held_out;
    let (train, judge) = match held_out {
        0 => (*problem, *problem),
        _ => (problem.rows(0, n), problem.rows(n, held_out)),
    };
    let means = Means::of(&train);
    let nearest = |rows: &[f64]| means.with_bias(round(rows, None, train.inputs.cols, grid), old);
    let wide: Vec<f64> = old.weights.iter().map(|w| f64::from(*w)).collect();
    let plain = nearest(&wide);
    let still = Fitted {
        linear: Linear { bias: old.bias.clone(), ..plain.linear.clone() },
        scales: plain.scales.clone(),
    };
    let wants = |r: Rounding| grid.rounding == r || grid.rounding == Rounding::Auto;
    let mut all = Vec::new();
    if wants(Rounding::Gptq) || wants(Rounding::Reconstruct) {
        let moments = Moments::of(&train, &means, &wide);
        let factor = moments.as_ref().and_then(|m| m.inverse_factor(DAMPING));
        if let (Some(m), Some(upper)) = (&moments, &factor) {
            let rounded = |rows: &[f64]| means.with_bias(round(rows, Some(upper), m.k, grid), old);
            if wants(Rounding::Gptq) && grid.rounded {
                all.push(rounded(&wide));
            }
            if wants(Rounding::Reconstruct) {
                let fits = RIDGES.iter().filter_map(|r| m.least_squares(&wide, *r));
                all.extend(fits.map(|w| rounded(&w)));
            }
        }
    }
    let finite = |f: &Fitted| f.linear.weights.iter().chain(&f.linear.bias).all(|v| v.is_finite());
    let all = all.into_iter().filter(finite);
    let scored = [still, plain].into_iter().chain(all).map(|f| (judge.errors(&f.linear).0, f));
    match scored.min_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((_, best)) => best,
        None => Fitted { linear: old.clone(), scales: Vec::new() },
    }
}

/// Means of the inputs and of what the layer should give.
struct Means {
    inputs: Vec<f64>,
    wanted: Option<Vec<f64>>,
}

impl Means {
    fn of(p: &Problem) -> Means {
        if !p.biased {
            return Means { inputs: vec![0.0; p.inputs.cols], wanted: None };
        }
        let mut wanted = p.want.means();
        if let Some(s) = p.shortcut {
            wanted.iter_mut().zip(s.means()).for_each(|(w, s)| *w -= s);
        }
        Means { inputs: p.inputs.means(), wanted: Some(wanted) }
    }

    fn with_bias(&self, (weights, scales): (Vec<f32>, Vec<f32>), old: &Linear) -> Fitted {
        let k = self.inputs.len().max(1);
        let dot = |row: &[f32]| -> f64 {
            row.iter().zip(&self.inputs).map(|(w, x)| f64::from(*w) * x).sum()
        };
        let bias = match &self.wanted {
            None => old.bias.clone(),
            Some(y) => weights.chunks(k).zip(y).map(|(w, y)| (y - dot(w)) as f32).collect(),
        };
        Fitted { linear: Linear { weights, bias }, scales }
    }
}

/// Second moments about the means.
struct Moments {
    k: usize,
    gram: Vec<f64>,
    /// What the weights lack of the moments of inputs and wanted results, a row for each result.
    missing: Vec<f64>,
    /// Mean of the diagonal.
    mean: f64,
}

impl Moments {
    /// `rows` are the weights as they are.
    fn of(p: &Problem, means: &Means, rows: &[f64]) -> Option<Moments> {
        let (x, k, n) = (p.inputs, p.inputs.cols, p.want.cols);
        if k == 0 || x.rows == 0 || k > LONGEST {
            return None;
        }
        let count = x.rows as f64;
        let mut gram = x.transposed_times(x);
        for (row, a) in gram.chunks_mut(k).zip(&means.inputs) {
            row.iter_mut().zip(&means.inputs).for_each(|(g, b)| *g = *g / count - a * b);
        }
        let products = x.transposed_times(p.want);
        let less = p.shortcut.map(|s| x.transposed_times(s));
        let mut missing = vec![0.0; n * k];
        missing.par_chunks_mut(BLOCK * k).zip(rows.par_chunks(BLOCK * k)).enumerate().for_each(
            |(b, (block, rows))| {
                for (r, row) in (b * BLOCK..).zip(block.chunks_mut(k)) {
                    for (i, m) in row.iter_mut().enumerate() {
                        let less = less.as_ref().map_or(0.0, |l| l[i * n + r]);
                        let mean = means.wanted.as_ref().map_or(0.0, |w| w[r] * means.inputs[i]);
                        *m = (products[i * n + r] - less) / count - mean;
                    }
                }
                // Less what the weights give already.
                subtract_product((rows.len() / k, k, k), (rows, k, 1), (&gram, 1, k), block, k);
            },
        );
        let mean = (0..k).map(|i| gram[i * k + i]).sum::<f64>() / k as f64;
        (mean.is_finite() && mean > 0.0).then_some(Moments { k, gram, missing, mean })
    }

    fn damped(&self, ridge: f64) -> Option<Cholesky> {
        let mut gram = self.gram.clone();
        (0..self.k).for_each(|i| gram[i * self.k + i] += ridge * self.mean);
        Cholesky::of(gram, self.k)
    }

    /// The upper factor of the inverse.
    fn inverse_factor(&self, ridge: f64) -> Option<Vec<f64>> {
        self.damped(ridge)?.upper_of_inverse()
    }

    /// The rows of least squared error, pulled towards those that there are.
    fn least_squares(&self, rows: &[f64], ridge: f64) -> Option<Vec<f64>> {
        let mut missing = self.missing.clone();
        self.damped(ridge)?.solve(&mut missing);
        Some(rows.iter().zip(&missing).map(|(w, d)| w + d).collect())
    }
}

/// Rows on the grid of each, and its scale: `max |w| / 127`. Without a factor to the nearest.
fn round(rows: &[f64], upper: Option<&Vec<f64>>, k: usize, grid: Grid) -> (Vec<f32>, Vec<f32>) {
    if !grid.rounded || k == 0 {
        return (rows.iter().map(|w| *w as f32).collect(), Vec::new());
    }
    let scale = |row: &[f64]| {
        let amax = row.iter().fold(0.0f64, |m, w| m.max(w.abs())) as f32;
        (amax / 127.0).max(crate::quantize::weight::MIN_SCALE)
    };
    let scales: Vec<f32> = rows.chunks(k).map(scale).collect();
    let mut left = rows.to_vec();
    let mut out = vec![0f32; rows.len()];
    left.par_chunks_mut(ROWS * k).zip(out.par_chunks_mut(ROWS * k)).enumerate().for_each(
        |(b, (left, out))| {
            let scales = &scales[b * ROWS..];
            for i in 0..k {
                for ((w, out), s) in left.chunks_mut(k).zip(out.chunks_mut(k)).zip(scales) {
                    let s = f64::from(*s);
                    let code = (w[i] / s).round_ties_even().clamp(-127.0, 127.0);
                    out[i] = (code * s) as f32;
                    let Some(row) = upper.map(|u| &u[i * k..][..k]) else { continue };
                    let error = (w[i] - code * s) / row[i];
                    w[i + 1..].iter_mut().zip(&row[i + 1..]).for_each(|(w, u)| *w -= error * u);
                }
            }
        },
    );
    (out, scales)
}

#[cfg(test)]
mod tests {
    use super::super::linalg::Mat;
    use super::*;

    const K: usize = 12;
    const N: usize = 6;

    /// Correlated inputs, weights, and what the weights give on inputs that are a little different.
    fn case() -> (Vec<f32>, Vec<f32>, Linear) {
        let mut random = fastrand::Rng::with_seed(9);
        let mut noise = move || random.f32() - 0.5;
        let old = Linear {
            weights: (0..N * K).map(|_| noise()).collect(),
            bias: (0..N).map(|_| noise()).collect(),
        };
        let (mut x, mut y) = (Vec::new(), Vec::new());
        for _ in 0..1500 {
            let base = noise();
            let row: Vec<f32> =
                (0..K).map(|i| base * (1.0 + i as f32 / 4.0) + 0.1 * noise()).collect();
            for (w, b) in old.weights.chunks(K).zip(&old.bias) {
                y.push(w.iter().zip(&row).map(|(w, x)| w * x).sum::<f32>() + b);
            }
            // The quantized layers before lose a part of some channels.
            x.extend(row.iter().enumerate().map(|(i, v)| if i % 3 == 0 { v.min(0.4) } else { *v }));
        }
        (x, y, old)
    }

    fn problem<'a>(x: &'a [f32], y: &'a [f32], biased: bool) -> Problem<'a> {
        Problem {
            inputs: Mat::new(x, K),
            want: Mat::new(y, N),
            shortcut: None,
            activation: None,
            biased,
        }
    }

    fn errors(rounding: Rounding) -> f64 {
        let (x, y, old) = case();
        let problem = problem(&x, &y, true);
        let f = fit(&problem, &old, 300, Grid { rounding, rounded: true });
        for (row, s) in f.linear.weights.chunks(K).zip(&f.scales) {
            assert!(row.iter().all(|w| ((w / s).round() * s - w).abs() <= 1e-6 * s));
            assert!(row.iter().all(|w| (w / s).abs() < 127.1));
        }
        problem.errors(&f.linear).0
    }

    #[test]
    fn each_step_comes_closer() {
        use Rounding::{Auto, Bias, Gptq, Reconstruct};
        let [bias, gptq, fit, auto] = [Bias, Gptq, Reconstruct, Auto].map(errors);
        assert!(
            gptq <= bias && fit < 0.9 * gptq && auto <= 1.01 * fit,
            "{bias} {gptq} {fit} {auto}"
        );
    }

    #[test]
    fn layers_that_stay_float_have_no_scales() {
        let (x, y, old) = case();
        let problem = problem(&x, &y, false);
        let f = fit(&problem, &old, 300, Grid { rounding: Rounding::Auto, rounded: false });
        assert!(f.scales.is_empty() && f.linear.bias == old.bias);
        assert!(problem.errors(&f.linear).0 <= problem.errors(&old).0);
    }
}
