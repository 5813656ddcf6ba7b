//! Fits of one layer to what it should give, in closed form.
//!
//! Least squares on the inputs that the layer has now against what the original gave (He and
//! others, arXiv 1707.06168), pulled towards the weights as they are; through an activation by
//! alternating between an auxiliary argument and least squares (Zhang and others, arXiv 1411.4229).

use serde::{Deserialize, Serialize};

use super::activation::Activation;
use super::linalg::{Cholesky, Mat};

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

/// Samples of one group of a layer: what it reads and what it should give.
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
/// Rounds of reconstruction through an activation.
const ROUNDS: usize = 10;
/// How firmly the auxiliary argument is tied to the layer's result, in the first half of the rounds
/// and in the second.
const TIES: [f32; 2] = [0.01, 1.0];

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

    fn rows(&self, from: usize, count: usize) -> Problem<'a> {
        Problem {
            inputs: self.inputs.rows(from, count),
            want: self.want.rows(from, count),
            shortcut: self.shortcut.map(|s| s.rows(from, count)),
            ..*self
        }
    }

    /// What the layer and the shortcut give together.
    fn sum(&self, l: &Linear) -> Vec<f32> {
        let weights = Mat { rows: self.want.cols, ..Mat::new(&l.weights, self.inputs.cols) };
        let mut sum = self.inputs.times_transposed(weights, &l.bias);
        if let Some(s) = self.shortcut {
            for (i, row) in sum.chunks_mut(s.cols.max(1)).enumerate() {
                row.iter_mut().zip(s.row(i)).for_each(|(y, s)| *y += s);
            }
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
        let f = |x: f32| f64::from(self.activation.map_or(x, |a| a.apply(x)));
        let (mut error, mut signal) = (0.0, 0.0);
        for (i, row) in self.sum(l).chunks(self.want.cols.max(1)).enumerate() {
            for (y, want) in row.iter().zip(self.want.row(i)) {
                let want = f(*want);
                error += (f(*y) - want).powi(2);
                signal += want * want;
            }
        }
        (error, signal)
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
        let judge = if judge.inputs.rows == 0 { train } else { judge };
        let normal = Normal::of(train);
        let mut best: Option<(f64, f64, Linear)> = None;
        for ridge in RIDGES {
            let Some(solver) = Solver::new(train, &normal, ridge, old) else { continue };
            let linear = solver.solve(&train.without_shortcut(train.want));
            let error = judge.error(&linear);
            if best.as_ref().is_none_or(|b| error < b.0) {
                best = Some((error, ridge, linear));
            }
        }
        let (error, ridge, linear) = best?;
        let rounds = self.activation.is_some() && {
            let solver = Solver::new(train, &normal, ridge, old)?;
            judge.error(&solver.rounds(linear)) < error
        };
        if !rounds && error >= judge.error(old) {
            return None;
        }
        let solver = Solver::new(self, &Normal::of(self), ridge, old)?;
        let linear = solver.solve(&self.without_shortcut(self.want));
        Some(if rounds { solver.rounds(linear) } else { linear })
    }

    fn without_shortcut(&self, m: Mat) -> Vec<f32> {
        let less = |(i, x): (usize, &f32)| match self.shortcut {
            Some(s) => x - s.row(i / m.cols)[i % m.cols],
            None => *x,
        };
        let all = (0..m.rows)
            .flat_map(|i| m.row(i).iter().enumerate().map(move |(c, x)| (i * m.cols + c, x)));
        all.map(less).collect()
    }
}

/// Second moments of the inputs, about their means where there is a bias.
struct Normal {
    gram: Vec<f64>,
    means: Vec<f64>,
}

impl Normal {
    fn of(p: &Problem) -> Normal {
        let (x, k) = (p.inputs, p.inputs.cols);
        let mut gram = x.transposed_times(x);
        let means = if p.biased { x.means() } else { vec![0.0; k] };
        let n = x.rows as f64;
        for (row, a) in gram.chunks_mut(k.max(1)).zip(&means) {
            row.iter_mut().zip(&means).for_each(|(g, b)| *g -= n * a * b);
        }
        Normal { gram, means }
    }
}

/// Least squares with one matrix of inputs.
struct Solver<'a> {
    problem: &'a Problem<'a>,
    means: Vec<f64>,
    factor: Cholesky,
    pull: f64,
    old: &'a Linear,
}

impl<'a> Solver<'a> {
    fn new(p: &'a Problem<'a>, normal: &Normal, ridge: f64, old: &'a Linear) -> Option<Solver<'a>> {
        let k = p.inputs.cols;
        let trace: f64 = (0..k).map(|i| normal.gram[i * k + i]).sum();
        let pull = ridge * trace / k.max(1) as f64;
        let mut gram = normal.gram.clone();
        (0..k).for_each(|i| gram[i * k + i] += pull);
        let factor = Cholesky::of(gram, k)?;
        Some(Solver { problem: p, means: normal.means.clone(), factor, pull, old })
    }

    /// The layer that gives `z` with the least squared error.
    fn solve(&self, z: &[f32]) -> Linear {
        let (p, k, m) = (self.problem, self.problem.inputs.cols, self.problem.want.cols);
        let z = Mat::new(z, m);
        let cross = p.inputs.transposed_times(z);
        let mean = if p.biased { z.means() } else { vec![0.0; m] };
        let n = p.inputs.rows as f64;
        let mut rows = vec![0.0; m * k];
        for (c, row) in rows.chunks_mut(k.max(1)).enumerate() {
            for (i, v) in row.iter_mut().enumerate() {
                let old = f64::from(self.old.weights[c * k + i]);
                *v = cross[i * m + c] - n * self.means[i] * mean[c] + self.pull * old;
            }
        }
        self.factor.solve(&mut rows);
        let offset = |row: &[f64]| row.iter().zip(&self.means).map(|(w, x)| w * x).sum::<f64>();
        let bias = match p.biased {
            true => rows.chunks(k.max(1)).zip(&mean).map(|(w, z)| (z - offset(w)) as f32).collect(),
            false => self.old.bias.clone(),
        };
        Linear { weights: rows.iter().map(|w| *w as f32).collect(), bias }
    }

    /// Fits behind the activation: the auxiliary argument lies where its own error and its distance
    /// from the layer's result are least together.
    fn rounds(&self, mut linear: Linear) -> Linear {
        let p = self.problem;
        let Some(activation) = p.activation else { return linear };
        for round in 0..ROUNDS {
            let tie = TIES[usize::from(round >= ROUNDS / 2)];
            let mut z = p.sum(&linear);
            for (i, row) in z.chunks_mut(p.want.cols.max(1)).enumerate() {
                for (z, want) in row.iter_mut().zip(p.want.row(i)) {
                    *z = auxiliary(activation, *want, *z, tie);
                }
            }
            let z = p.without_shortcut(Mat::new(&z, p.want.cols));
            linear = self.solve(&z);
        }
        linear
    }
}

/// The argument `z` with the least `(f(want) − f(z))² + tie · (z − now)²`: exact for Relu, else the
/// best of nine between `now` and `want`.
fn auxiliary(f: Activation, want: f32, now: f32, tie: f32) -> f32 {
    let goal = f.apply(want);
    let cost = |z: f32| (goal - f.apply(z)).powi(2) + tie * (z - now).powi(2);
    if f == Activation::Relu {
        let (below, above) = (now.min(0.0), ((tie * now + goal) / (tie + 1.0)).max(0.0));
        return if cost(below) < cost(above) { below } else { above };
    }
    let between = (0..=8u8).map(|t| now + (want - now) * f32::from(t) / 8.0);
    between.min_by(|a, b| cost(*a).total_cmp(&cost(*b))).unwrap_or(now)
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

    #[test]
    fn the_auxiliary_argument_is_no_worse_than_its_ends() {
        for f in [Activation::Relu, Activation::HardSwish, Activation::Clip(0.0, 6.0)] {
            for (want, now) in [(1.0, -1.0), (-2.0, 3.0), (-1.0, -4.0), (7.0, 9.0)] {
                let cost = |z: f32| (f.apply(want) - f.apply(z)).powi(2) + 0.3 * (z - now).powi(2);
                let z = auxiliary(f, want, now, 0.3);
                assert!(cost(z) <= cost(now) && cost(z) <= cost(want), "{f:?} {want} {now}");
            }
        }
    }
}
