//! Least squares of one layer, plain and through an activation.

use rayon::prelude::*;

use super::activation::{Activation, larger, smaller};
use super::cholesky::Cholesky;
use super::fit::{Linear, Problem};
use super::linalg::Mat;

/// Elements that a thread works on at a time.
pub(super) const SHARE: usize = 1 << 14;

/// Second moments and sums of the inputs.
pub(super) struct Normal {
    gram: Vec<f64>,
    sums: Vec<f64>,
    rows: usize,
}

impl Normal {
    pub fn of(p: &Problem) -> Normal {
        let x = p.inputs;
        Normal { gram: x.transposed_times(x), sums: x.sums(), rows: x.rows }
    }

    /// Takes in further rows.
    pub fn add(&mut self, other: Normal) {
        self.gram.iter_mut().zip(other.gram).for_each(|(a, b)| *a += b);
        self.sums.iter_mut().zip(other.sums).for_each(|(a, b)| *a += b);
        self.rows += other.rows;
    }
}

/// Products of inputs and wanted results, a row for each input, and sums of the results.
pub(super) struct Cross {
    products: Vec<f64>,
    sums: Vec<f64>,
}

impl Cross {
    pub fn of(p: &Problem, z: &[f32]) -> Cross {
        let z = Mat { rows: p.inputs.rows, ..Mat::new(z, p.want.cols) };
        Cross { products: p.inputs.transposed_times(z), sums: z.sums() }
    }

    /// Takes in further rows.
    pub fn add(&mut self, other: Cross) {
        self.products.iter_mut().zip(other.products).for_each(|(a, b)| *a += b);
        self.sums.iter_mut().zip(other.sums).for_each(|(a, b)| *a += b);
    }
}

/// Least squares with one matrix of inputs.
pub(super) struct Solver<'a> {
    problem: &'a Problem<'a>,
    /// Means of the inputs where there is a bias, else zeros.
    means: Vec<f64>,
    rows: f64,
    factor: Cholesky,
    pull: f64,
    old: &'a Linear,
}

impl<'a> Solver<'a> {
    pub fn new(
        p: &'a Problem<'a>,
        normal: &Normal,
        ridge: f64,
        old: &'a Linear,
    ) -> Option<Solver<'a>> {
        let (k, n) = (p.inputs.cols, normal.rows as f64);
        let mut gram = normal.gram.clone();
        let mut means = vec![0.0; k];
        if p.biased {
            means.iter_mut().zip(&normal.sums).for_each(|(m, s)| *m = s / n.max(1.0));
            for (row, a) in gram.chunks_mut(k.max(1)).zip(&means) {
                row.iter_mut().zip(&means).for_each(|(g, b)| *g -= n * a * b);
            }
        }
        let trace: f64 = (0..k).map(|i| gram[i * k + i]).sum();
        let pull = ridge * trace / k.max(1) as f64;
        (0..k).for_each(|i| gram[i * k + i] += pull);
        let factor = Cholesky::of(gram, k)?;
        Some(Solver { problem: p, means, rows: n, factor, pull, old })
    }

    /// The layer that gives what `cross` was made of with the least squared error.
    pub fn solve(&self, cross: &Cross) -> Linear {
        let (p, k, m) = (self.problem, self.problem.inputs.cols, self.problem.want.cols);
        let mean: Vec<f64> = match p.biased {
            true => cross.sums.iter().map(|s| s / self.rows.max(1.0)).collect(),
            false => vec![0.0; m],
        };
        let mut rows = vec![0.0; m * k];
        for (c, row) in rows.chunks_mut(k.max(1)).enumerate() {
            for (i, v) in row.iter_mut().enumerate() {
                let old = f64::from(self.old.weights[c * k + i]);
                let centred = cross.products[i * m + c] - self.rows * self.means[i] * mean[c];
                *v = centred + self.pull * old;
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
    pub fn rounds(&self, mut linear: Linear, ties: &[f32]) -> Linear {
        let p = self.problem;
        let Some(activation) = p.activation else { return linear };
        for tie in ties {
            let mut z = p.sum(&linear);
            z.par_chunks_mut(SHARE)
                .zip(p.want.flat().par_chunks(SHARE))
                .for_each(|(z, want)| auxiliary(activation, want, z, *tie));
            p.without_shortcut(&mut z);
            linear = self.solve(&Cross::of(p, &z));
        }
        linear
    }
}

/// For each element puts into the place of `now` the argument `z` with the least
/// `(f(want) − f(z))² + tie · (z − now)²`: exact where `f` is made of straight pieces, else the best
/// of nine between the two.
fn auxiliary(f: Activation, want: &[f32], now: &mut [f32], tie: f32) {
    let all = now.iter_mut().zip(want);
    let square = |x: f32| x * x;
    match f {
        Activation::Relu => all.for_each(|(z, w)| {
            let (goal, now) = (larger(*w, 0.0), *z);
            let above = larger((tie * now + goal) / (tie + 1.0), 0.0);
            let below = smaller(now, 0.0);
            let (up, down) = (square(goal - above) + tie * square(above - now), square(goal));
            *z = if down + tie * square(below - now) < up { below } else { above };
        }),
        Activation::Clip(lo, hi) => all.for_each(|(z, w)| {
            let (goal, now) = (smaller(larger(*w, lo), hi), *z);
            let inside = smaller(larger((tie * now + goal) / (tie + 1.0), lo), hi);
            let (below, above) = (smaller(now, lo), larger(now, hi));
            let cost = |z: f32, f: f32| square(goal - f) + tie * square(z - now);
            let (a, b, c) = (cost(inside, inside), cost(below, lo), cost(above, hi));
            let (best, least) = if b < a { (below, b) } else { (inside, a) };
            *z = if c < least { above } else { best };
        }),
        Activation::Leaky(s) => all.for_each(|(z, w)| {
            let (goal, now) = (f.apply(*w), *z);
            let above = larger((tie * now + goal) / (tie + 1.0), 0.0);
            let below = smaller((tie * now + s * goal) / (tie + s * s), 0.0);
            let cost = |z: f32, f: f32| square(goal - f) + tie * square(z - now);
            *z = if cost(below, s * below) < cost(above, above) { below } else { above };
        }),
        _ => all.for_each(|(z, w)| {
            let (goal, now, mut best) = (f.apply(*w), *z, (f32::INFINITY, *z));
            for t in 0..=8u8 {
                let z = now + (*w - now) * f32::from(t) / 8.0;
                let cost = square(goal - f.apply(z)) + tie * square(z - now);
                if cost < best.0 {
                    best = (cost, z);
                }
            }
            *z = best.1;
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_auxiliary_argument_is_no_worse_than_its_ends() {
        for f in [
            Activation::Relu,
            Activation::HardSwish,
            Activation::Clip(0.0, 6.0),
            Activation::Leaky(0.1),
        ] {
            for (want, now) in [(1.0, -1.0), (-2.0, 3.0), (-1.0, -4.0), (7.0, 9.0)] {
                let cost = |z: f32| (f.apply(want) - f.apply(z)).powi(2) + 0.3 * (z - now).powi(2);
                let mut z = [now];
                auxiliary(f, &[want], &mut z, 0.3);
                let z = z[0];
                assert!(cost(z) <= cost(now) && cost(z) <= cost(want), "{f:?} {want} {now}");
            }
        }
    }
}
