//! Fits of one layer to what it should give, in closed form.
//!
//! Least squares on the inputs that the layer has now against what the original gave (He and
//! others, arXiv 1707.06168), pulled towards the weights as they are; through an activation by
//! alternating between an auxiliary argument and least squares (Zhang and others, arXiv 1411.4229).

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::activation::Activation;
use super::linalg::Mat;
use super::solve::{Cross, Normal, SHARE, Solver};

/// How accuracy is won back after a cut, from unlabelled data and without training.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Recover {
    /// Not at all.
    None,
    /// Biases, so that the mean of every channel is that of the original.
    Bias,
    /// Scales and biases, so that mean and variance of every channel are.
    Affine,
    /// All weights of every layer, by least squares.
    #[default]
    Reconstruct,
}

/// Samples of one group of a layer: what it reads and what it should give. Rows lie end to end.
#[derive(Clone, Copy)]
pub(super) struct Problem<'a> {
    /// One row for each sample.
    pub inputs: Mat<'a>,
    /// What the sum of the layer and the shortcut should be.
    pub want: Mat<'a>,
    /// What else goes into the sum.
    pub shortcut: Option<Mat<'a>>,
    pub activation: Option<Activation>,
    /// The layer has a bias, or may get one.
    pub biased: bool,
}

/// Weights, a row for each channel, and biases.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Linear {
    pub weights: Vec<f32>,
    pub bias: Vec<f32>,
}

/// Strengths of the pull towards the weights as they are, relative to the mean square of the inputs.
const RIDGES: [f64; 3] = [1e-3, 1e-2, 1e-1];
/// How firmly the auxiliary argument is tied to the layer's result, in each round of reconstruction
/// through an activation.
const TIES: [f32; 10] = [0.01, 0.01, 0.01, 0.01, 0.01, 1.0, 1.0, 1.0, 1.0, 1.0];
/// The same when rows are added to those of a fit.
const LAST_TIES: [f32; 3] = [1.0; 3];

impl<'a> Problem<'a> {
    /// The layer fitted to all rows, by that variant of the method which, fitted to the rows before
    /// the last `held_out`, comes closest to the target on these. The layer as it is when none comes
    /// closer.
    pub fn fit(&self, method: Recover, old: &Linear, held_out: usize) -> Linear {
        let n = self.inputs.rows - held_out;
        let (train, judge) = (self.rows(0, n), self.rows(n, held_out));
        let found = match method {
            Recover::None => None,
            Recover::Bias => judge.better(old, train.bias(old)).then(|| self.bias(old)),
            Recover::Affine => judge.better(old, train.affine(old)).then(|| self.affine(old)),
            Recover::Reconstruct => self.reconstruct(&train, &judge, old),
        };
        let finite = |l: &Linear| l.weights.iter().chain(&l.bias).all(|v| v.is_finite());
        found.filter(finite).unwrap_or_else(|| old.clone())
    }

    pub fn rows(&self, from: usize, count: usize) -> Problem<'a> {
        Problem {
            inputs: self.inputs.rows(from, count),
            want: self.want.rows(from, count),
            shortcut: self.shortcut.map(|s| s.rows(from, count)),
            ..*self
        }
    }

    /// What the layer and the shortcut give together.
    pub fn sum(&self, l: &Linear) -> Vec<f32> {
        let weights = Mat { rows: self.want.cols, ..Mat::new(&l.weights, self.inputs.cols) };
        let mut sum = self.inputs.times_transposed(weights, &l.bias);
        if let Some(s) = self.shortcut {
            sum.iter_mut().zip(s.flat()).for_each(|(y, s)| *y += s);
        }
        sum
    }

    /// Squared error behind the activation, relative to the square of what is wanted.
    fn error(&self, l: &Linear) -> f64 {
        let (error, signal) = self.errors(l);
        error / signal.max(1e-30)
    }

    /// Squared error behind the activation, and the square of what is wanted there.
    pub fn errors(&self, l: &Linear) -> (f64, f64) {
        let part = |(ys, wants): (&mut [f32], &[f32])| {
            let mut wants = wants.to_vec();
            if let Some(a) = self.activation {
                a.apply_to(ys);
                a.apply_to(&mut wants);
            }
            let one = |(e, s): (f64, f64), (y, want): (&f32, &f32)| {
                let (y, want) = (f64::from(*y), f64::from(*want));
                (e + (y - want).powi(2), s + want * want)
            };
            ys.iter().zip(&wants).fold((0.0, 0.0), one)
        };
        let mut sum = self.sum(l);
        let shares = sum.par_chunks_mut(SHARE).zip(self.want.flat().par_chunks(SHARE));
        let parts: Vec<(f64, f64)> = shares.map(part).collect();
        parts.iter().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1))
    }

    fn better(&self, old: &Linear, new: Linear) -> bool {
        self.inputs.rows == 0 || self.error(&new) < self.error(old)
    }

    /// Mean and standard deviation of what the layer gives, and of what it should.
    fn moments(&self, l: &Linear) -> [(Vec<f64>, Vec<f64>); 2] {
        let sum = self.sum(l);
        let sum = Mat::new(&sum, self.want.cols);
        [self.spread(sum), self.spread(self.want)]
    }

    /// Mean and standard deviation of each column less the shortcut.
    fn spread(&self, m: Mat) -> (Vec<f64>, Vec<f64>) {
        let (mut sums, mut squares) = (vec![0.0; m.cols], vec![0.0; m.cols]);
        for i in 0..m.rows {
            for (c, x) in m.row(i).iter().enumerate() {
                let x = f64::from(*x) - self.shortcut.map_or(0.0, |s| f64::from(s.row(i)[c]));
                sums[c] += x;
                squares[c] += x * x;
            }
        }
        let n = m.rows.max(1) as f64;
        let means: Vec<f64> = sums.iter().map(|s| s / n).collect();
        let deviation = |(q, m): (&f64, &f64)| (q / n - m * m).max(0.0).sqrt();
        let deviations = squares.iter().zip(&means).map(deviation).collect();
        (means, deviations)
    }

    fn bias(&self, old: &Linear) -> Linear {
        if !self.biased {
            return old.clone();
        }
        let [(have, _), (want, _)] = self.moments(old);
        let shift = have.iter().zip(&want).map(|(h, w)| w - h);
        let bias = old.bias.iter().zip(shift).map(|(b, s)| (f64::from(*b) + s) as f32).collect();
        Linear { bias, ..old.clone() }
    }

    fn affine(&self, old: &Linear) -> Linear {
        let [(have, spread), (want, wanted)] = self.moments(old);
        let mut new = old.clone();
        let k = self.inputs.cols;
        for (c, row) in new.weights.chunks_mut(k.max(1)).enumerate() {
            let dead = spread[c] <= 1e-6 * wanted[c] || !self.biased;
            let by = if dead { 1.0 } else { wanted[c] / spread[c] };
            row.iter_mut().for_each(|w| *w = (f64::from(*w) * by) as f32);
            if self.biased {
                let inner = have[c] - f64::from(old.bias[c]);
                new.bias[c] = (want[c] - by * inner) as f32;
            }
        }
        new
    }

    fn reconstruct(&self, train: &Problem, judge: &Problem, old: &Linear) -> Option<Linear> {
        let (mut normal, mut cross) = (Normal::of(train), Cross::of(train, &train.wanted()));
        let (rest, judge) = match judge.inputs.rows {
            0 => (None, train),
            _ => (Some(judge), judge),
        };
        let mut best: Option<(f64, f64, Linear)> = None;
        for ridge in RIDGES {
            let Some(solver) = Solver::new(train, &normal, ridge, old) else { continue };
            let linear = solver.solve(&cross);
            let error = judge.error(&linear);
            if best.as_ref().is_none_or(|b| error < b.0) {
                best = Some((error, ridge, linear));
            }
        }
        let (error, ridge, linear) = best?;
        let mut through = None;
        if self.activation.is_some() {
            let found = Solver::new(train, &normal, ridge, old)?.rounds(linear, &TIES);
            through = Some(found).filter(|l| judge.error(l) < error);
        }
        if through.is_none() && error >= judge.error(old) {
            return None;
        }
        if let Some(rest) = rest {
            normal.add(Normal::of(rest));
            cross.add(Cross::of(rest, &rest.wanted()));
        }
        let solver = Solver::new(self, &normal, ridge, old)?;
        Some(match through {
            Some(l) => solver.rounds(l, &LAST_TIES),
            None => solver.solve(&cross),
        })
    }

    /// What the layer itself should give.
    fn wanted(&self) -> Vec<f32> {
        let mut out = self.want.flat().to_vec();
        self.without_shortcut(&mut out);
        out
    }

    pub fn without_shortcut(&self, sums: &mut [f32]) {
        if let Some(s) = self.shortcut {
            sums.iter_mut().zip(s.flat()).for_each(|(y, s)| *y -= s);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(n: usize, seed: u64) -> Vec<f32> {
        let mut rng = fastrand::Rng::with_seed(seed);
        (0..n).map(|_| rng.f32() * 2.0 - 1.0).collect()
    }

    fn problem<'a>(x: &'a [f32], want: &'a [f32]) -> Problem<'a> {
        Problem {
            inputs: Mat::new(x, 4),
            want: Mat::new(want, 2),
            shortcut: None,
            activation: None,
            biased: true,
        }
    }

    #[test]
    fn least_squares_find_the_layer_that_made_the_target() {
        let x = noise(4 * 600, 1);
        let truth = Linear { weights: noise(8, 2), bias: vec![0.5, -0.25] };
        let empty = vec![0.0; 2 * 600];
        let want = problem(&x, &empty).sum(&truth);
        let p = problem(&x, &want);
        let old = Linear { weights: noise(8, 3), bias: vec![0.0; 2] };
        let errors: Vec<f64> =
            [Recover::None, Recover::Bias, Recover::Affine, Recover::Reconstruct]
                .map(|m| p.error(&p.fit(m, &old, 100)))
                .to_vec();
        assert!(errors[0] > errors[1] && errors[3] < 1e-5, "{errors:?}");
    }

    #[test]
    fn behind_relu_what_is_cut_off_does_not_count() {
        let x = noise(4 * 2000, 4);
        let empty = vec![0.0; 2 * 2000];
        let truth = Linear { weights: noise(8, 5), bias: vec![-0.5, -0.25] };
        let mut want = problem(&x, &empty).sum(&truth);
        // The target has the layer's values where they are positive and something else below.
        want.iter_mut().enumerate().for_each(|(i, v)| {
            if *v < 0.0 {
                *v = -3.0 * ((i % 7) as f32);
            }
        });
        let linear = problem(&x, &want);
        let relu = Problem { activation: Some(Activation::Relu), ..linear };
        let old = Linear { weights: vec![0.0; 8], bias: vec![0.0; 2] };
        let plain = linear.fit(Recover::Reconstruct, &old, 500);
        let through = relu.fit(Recover::Reconstruct, &old, 500);
        let (through, plain) = (relu.error(&through), relu.error(&plain));
        assert!(through < plain, "{through} {plain}");
    }
}
