//! Fits of layers some of whose weights are zero: the update of optimal brain surgeons.
//!
//! A weight that goes is made good by the others of its row that come after it, by the inverse of the
//! second moments of the inputs (Frantar and Alistarh, SparseGPT, arXiv 2301.00774, Algorithm 1,
//! after Hassibi and Stork 1993). It begins at the least squares of what the original gave on the
//! inputs that the layer has now, so that the errors of the layers before are made good, too; at the
//! end, what stays is fitted once more by coordinate descent, for 2:4 over blocks of four, in each of
//! which other two may stay by then.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::cholesky::Cholesky;
use super::descent::{descend, exchange};
use super::fit::{Linear, Problem};
use super::{
    Calibration, Job, Kept, Recover, RecoverError, RecoveryReport, Target, in_turn, jobs_of,
};
use crate::ir::{Model, ValueId};

/// Which weights of a layer are zero.
#[derive(Clone, Debug)]
pub(super) struct Pattern {
    /// The weights before any was set to zero, a row for each result.
    pub dense: Vec<f32>,
    /// Elements of the kernel behind each channel of the input.
    pub taps: usize,
    pub kind: Kind,
}

/// What may change about which weights are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing.
    Fixed,
    /// Others go, as many in each group of results.
    Count,
    /// Others go, two of every four along the input channels.
    TwoFour,
}

/// Strengths of the pull towards the weights as they were, relative to the mean square of the inputs.
const RIDGES: [f64; 3] = [1e-2, 1e-1, 1.0];
/// Multiplications that the last fit of a layer may take.
const EFFORT: usize = 1 << 33;
/// Rows that are fitted together.
const ROWS: usize = 16;

/// Fits those layers of `cut` whose weights are in `kinds`, and if `further` all that read what they
/// give, to what the layers of the same ids in `original` give. In `cut` the weights that go are zero.
///
/// # Errors
/// When there are no samples, or a model cannot be run.
pub(crate) fn recover_sparse(
    original: &Model,
    cut: &mut Model,
    kinds: &BTreeMap<ValueId, Kind>,
    further: bool,
    c: Calibration,
) -> Result<RecoveryReport, RecoverError> {
    let changed = |job: &Job| kinds.contains_key(&job.layer.weight);
    let mut jobs = jobs_of(&original.graph, &cut.graph, &Kept::new(), c.source.len(), &changed);
    jobs.retain(|job| further || changed(job));
    for job in &mut jobs {
        let Some(&kind) = kinds.get(&job.layer.weight) else { continue };
        let dense = job.layer.weights(&original.graph);
        let Some((dense, taps)) = dense.zip(job.layer.taps(&cut.graph)) else { continue };
        job.target = Target { value: job.layer.output, activation: None, shortcut: None };
        job.pattern = Some(Pattern { dense, taps, kind });
    }
    in_turn(original, cut, &jobs, Recover::Reconstruct, c)
}

/// Second moments of the inputs, and the best weights without any pattern.
struct Moments {
    /// `k` rows of `k`, ridge included.
    hessian: Vec<f64>,
    /// A row for each result.
    best: Vec<f64>,
}

/// The layer with zeros by the pattern, `masked` being one that has it and `dense` the weights without. How
/// strongly it is pulled towards these is what, fitted to the rows before the last `held_out`, comes
/// closest to the target on the last.
pub(super) fn fit(
    problem: &Problem,
    masked: &Linear,
    dense: &[f32],
    p: &Pattern,
    held_out: usize,
) -> Linear {
    let rows = problem.inputs.rows;
    let mut ridge = RIDGES[0];
    if held_out > 0 && held_out < rows {
        let train = problem.rows(0, rows - held_out);
        let judge = problem.rows(rows - held_out, held_out);
        let (sums, mut least) = (Sums::of(&train), f64::INFINITY);
        for candidate in RIDGES {
            let found = fitted(&sums, masked, dense, p, candidate, 0);
            let error = judge.errors(&found).0;
            if error < least {
                (least, ridge) = (error, candidate);
            }
        }
    }
    let sums = Sums::of(problem);
    let k = problem.inputs.cols;
    let effort = problem.want.cols * k * k;
    fitted(&sums, masked, dense, p, ridge, (EFFORT / effort.max(1)).clamp(0, 12))
}

/// Sums over the rows of a problem.
struct Sums {
    /// Products of each two inputs.
    squares: Vec<f64>,
    /// Products of each input and each result.
    products: Vec<f64>,
    means: Option<(Vec<f64>, Vec<f64>)>,
    rows: usize,
    inputs: usize,
    results: usize,
}

impl Sums {
    fn of(problem: &Problem) -> Sums {
        let (x, y) = (problem.inputs, problem.want);
        Sums {
            squares: x.transposed_times(x),
            products: x.transposed_times(y),
            means: problem.biased.then(|| (x.means(), y.means())),
            rows: x.rows,
            inputs: x.cols,
            results: y.cols,
        }
    }
}

fn fitted(
    sums: &Sums,
    masked: &Linear,
    dense: &[f32],
    p: &Pattern,
    ridge: f64,
    sweeps: usize,
) -> Linear {
    let k = sums.inputs;
    let kind = if p.kind == Kind::TwoFour && !(k / p.taps).is_multiple_of(4) {
        Kind::Fixed
    } else {
        p.kind
    };
    let order = by_tap(k, p.taps);
    let Some((moments, upper)) = moments(sums, dense, &order, ridge) else {
        return masked.clone();
    };
    let mut gone: Vec<bool> =
        in_order(&masked.weights, k, &order).iter().map(|w| *w == 0.0).collect();
    if kind == Kind::Count {
        gone = by_saliency(&moments.best, &upper, k, gone.iter().filter(|g| **g).count());
    }
    let mut weights = moments.best.clone();
    weights.par_chunks_mut(ROWS * k).zip(gone.par_chunks_mut(ROWS * k)).enumerate().for_each(
        |(b, (w, gone))| {
            let best = &moments.best[b * ROWS * k..][..w.len()];
            surgeon(w, gone, &upper, k, kind == Kind::TwoFour);
            let rows = gone.chunks_mut(k).zip(best.chunks(k));
            for (row, (gone, best)) in w.chunks_mut(k).zip(rows) {
                match kind {
                    Kind::TwoFour => exchange(row, best, &moments.hessian, sweeps),
                    _ => descend(row, gone, best, &moments.hessian, sweeps),
                }
            }
        },
    );
    let bias = match &sums.means {
        None => masked.bias.clone(),
        Some((inputs, wanted)) => weights
            .chunks(k)
            .zip(wanted)
            .map(|(row, y)| {
                (y - order.iter().zip(row).map(|(c, w)| inputs[*c] * w).sum::<f64>()) as f32
            })
            .collect(),
    };
    let mut out = vec![0f32; weights.len()];
    for (row, from) in out.chunks_mut(k).zip(weights.chunks(k)) {
        order.iter().zip(from).for_each(|(c, w)| row[*c] = *w as f32);
    }
    let fitted = Linear { weights: out, bias };
    let finite = fitted.weights.iter().chain(&fitted.bias).all(|v| v.is_finite());
    if finite { fitted } else { masked.clone() }
}

/// Columns tap by tap, so that the channels at one tap stand side by side.
fn by_tap(k: usize, taps: usize) -> Vec<usize> {
    let channels = k / taps.max(1);
    (0..taps).flat_map(|t| (0..channels).map(move |c| c * taps + t)).collect()
}

fn in_order(rows: &[f32], k: usize, order: &[usize]) -> Vec<f32> {
    rows.chunks(k).flat_map(|row| order.iter().map(|c| row[*c])).collect()
}

/// The moments with columns in this order, and the upper Cholesky factor of the inverse.
fn moments(sums: &Sums, dense: &[f32], order: &[usize], ridge: f64) -> Option<(Moments, Vec<f64>)> {
    let (k, n, rows) = (sums.inputs, sums.results, sums.rows as f64);
    if k == 0 || sums.rows == 0 || dense.len() != n * k || order.len() != k {
        return None;
    }
    let (squares, products, means) = (&sums.squares, &sums.products, &sums.means);
    let mut hessian = vec![0.0; k * k];
    hessian.par_chunks_mut(k).zip(order).for_each(|(row, a)| {
        for (h, b) in row.iter_mut().zip(order) {
            *h = squares[a * k + b] / rows - means.as_ref().map_or(0.0, |m| m.0[*a] * m.0[*b]);
        }
    });
    let mean = (0..k).map(|i| hessian[i * k + i]).sum::<f64>() / k as f64;
    (0..k).for_each(|i| hessian[i * k + i] += ridge * mean.max(1e-12));
    let old: Vec<f64> = in_order(dense, k, order).into_iter().map(f64::from).collect();
    // What is missing of the covariance of inputs and results, a row for each result.
    let mut missing = vec![0.0; n * k];
    missing.par_chunks_mut(k).enumerate().for_each(|(r, row)| {
        let w = &old[r * k..][..k];
        for (i, m) in row.iter_mut().enumerate() {
            let c = order[i];
            let want = products[c * n + r] / rows - means.as_ref().map_or(0.0, |m| m.0[c] * m.1[r]);
            let have: f64 = hessian[i * k..][..k].iter().zip(w).map(|(h, w)| h * w).sum();
            *m = want - have + ridge * mean.max(1e-12) * w[i];
        }
    });
    let factor = Cholesky::of(hessian.clone(), k)?;
    factor.solve(&mut missing);
    let best = old.iter().zip(&missing).map(|(w, d)| w + d).collect();
    let upper = factor.upper_of_inverse()?;
    Some((Moments { hessian, best }, upper))
}

/// Marks the `count` weights whose loss hurts least: w² over the diagonal of the inverse.
fn by_saliency(weights: &[f64], upper: &[f64], k: usize, count: usize) -> Vec<bool> {
    // The inverse is the product of the transposed factor and the factor.
    let inverse: Vec<f64> =
        (0..k).map(|j| (0..=j).map(|i| upper[i * k + j].powi(2)).sum::<f64>()).collect();
    let score = |i: usize| weights[i].powi(2) / inverse[i % k].max(1e-300);
    let mut all: Vec<usize> = (0..weights.len()).collect();
    all.sort_by(|a, b| score(*a).total_cmp(&score(*b)).then(b.cmp(a)));
    let mut gone = vec![false; weights.len()];
    all.into_iter().take(count).for_each(|i| gone[i] = true);
    gone
}

/// Takes weights out from left to right; those on the right make up for each.
fn surgeon(w: &mut [f64], gone: &mut [bool], upper: &[f64], k: usize, two_four: bool) {
    for i in 0..k {
        let row = &upper[i * k..][..k];
        for (w, gone) in w.chunks_mut(k).zip(gone.chunks_mut(k)) {
            if two_four && i % 4 == 0 {
                let score = |j: usize| (w[j] / upper[j * k + j]).powi(2);
                let mut four = [i, i + 1, i + 2, i + 3];
                four.sort_by(|a, b| score(*a).total_cmp(&score(*b)).then(a.cmp(b)));
                four.iter().enumerate().for_each(|(r, j)| gone[*j] = r < 2);
            }
            if !gone[i] || w[i] == 0.0 {
                continue;
            }
            let error = w[i] / row[i];
            w[i] = 0.0;
            w[i + 1..].iter_mut().zip(&row[i + 1..]).for_each(|(w, u)| *w -= error * u);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::recover::linalg::Mat;

    fn problem<'a>(x: &'a [f32], k: usize, y: &'a [f32], n: usize) -> Problem<'a> {
        let (inputs, want) = (Mat::new(x, k), Mat::new(y, n));
        Problem { inputs, want, shortcut: None, activation: None, biased: true }
    }

    #[test]
    fn what_stays_makes_up_for_what_goes() {
        let (rows, k, n) = (400, 16, 8);
        let mut rng = fastrand::Rng::with_seed(5);
        let mut x: Vec<f32> = (0..rows * k).map(|_| rng.f32()).collect();
        // Neighbours carry nearly the same.
        for row in x.chunks_mut(k) {
            for j in (1..k).step_by(2) {
                row[j] = 0.9 * row[j - 1] + 0.1 * row[j];
            }
        }
        let dense: Vec<f32> = (0..n * k).map(|_| rng.f32() - 0.5).collect();
        let y = Mat::new(&x, k).times_transposed(Mat::new(&dense, k), &[0.25; 8]);
        let p = problem(&x, k, &y, n);
        let mut masked = dense.clone();
        for four in masked.chunks_mut(4) {
            let mut order = [0, 1, 2, 3];
            order.sort_by(|a, b| four[*a].abs().total_cmp(&four[*b].abs()));
            four[order[0]] = 0.0;
            four[order[1]] = 0.0;
        }
        let masked = Linear { weights: masked, bias: vec![0.25; 8] };
        let before = p.errors(&masked).0;
        for kind in [Kind::Fixed, Kind::Count, Kind::TwoFour] {
            let pattern = Pattern { dense: dense.clone(), taps: 1, kind };
            let found = fit(&p, &masked, &dense, &pattern, rows / 4);
            assert!(p.errors(&found).0 < before / 4.0, "{kind:?}");
            let zeros = |w: &[f32]| w.iter().filter(|w| **w == 0.0).count();
            assert_eq!(zeros(&found.weights), n * k / 2);
            if kind == Kind::TwoFour {
                assert!(found.weights.chunks(4).all(|four| zeros(four) == 2));
            }
        }
    }

    #[test]
    fn taps_are_told_apart() {
        assert_eq!(by_tap(6, 3), [0, 3, 1, 4, 2, 5]);
    }
}
