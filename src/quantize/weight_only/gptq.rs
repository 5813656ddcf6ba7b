//! GPTQ (Frantar et al., "GPTQ: Accurate post-training quantization for generative pre-trained
//! transformers", ICLR 2023): columns are rounded one by one, and the error of each is made up for
//! by those that are still to come, as the inverse of `H = X Xᵀ` says.

use multiversion::multiversion;
use rayon::prelude::*;

use super::WeightType;
use super::blocks::{Blocks, Grid, Matrix};
use super::inputs::Hessian;
use crate::recover::cholesky::Cholesky;

/// Share of the mean of the diagonal that is added to it.
const DAMPING: f64 = 0.01;

/// Quantizes rows of weights, `u` being the [`upper_factor`] of their inputs.
pub(super) fn quantize(w: &Matrix, u: &[f32], ty: WeightType, block: usize) -> Blocks {
    let n = w.columns;
    let rows = w.data.par_chunks(n).map(|row| {
        let mut row = row.to_vec();
        let mut codes = Vec::with_capacity(n);
        let mut grids: Vec<Grid> = Vec::with_capacity(n / block);
        for k in 0..n {
            if k % block == 0 {
                grids.push(Grid::best(&row[k..k + block], None, ty));
            }
            let grid = grids[k / block];
            let code = grid.code(row[k]);
            codes.push(code);
            let error = (row[k] - grid.value(code)) / u[k * n + k];
            let later = &u[k * n + k + 1..(k + 1) * n];
            subtract(&mut row[k + 1..], error, later);
        }
        (codes, grids)
    });
    Blocks::collect(rows.collect(), n, ty)
}

/// `row -= by · other`.
#[multiversion(targets = "simd")]
fn subtract(row: &mut [f32], by: f32, other: &[f32]) {
    row.iter_mut().zip(other).for_each(|(x, y)| *x -= by * y);
}

/// The upper triangular `U` with `H⁻¹ = Uᵀ U`, row-major; `None` where `H` cannot be inverted.
pub(super) fn upper_factor(h: Hessian) -> Option<Vec<f32>> {
    let n = h.size;
    let mean = (0..n).map(|i| h.data[i * n + i]).sum::<f64>() / n.max(1) as f64;
    if !(mean.is_finite() && mean > 0.0) {
        return None;
    }
    let mut damped = h.data;
    (0..n).for_each(|i| damped[i * n + i] += DAMPING * mean);
    let upper = Cholesky::of(damped, n)?.upper_of_inverse()?;
    Some(upper.into_iter().map(|u| u as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Rows of correlated inputs.
    fn inputs(n: usize) -> Vec<Vec<f32>> {
        let mut random = fastrand::Rng::with_seed(3);
        let mut row = |_| {
            let base = random.f32() - 0.5;
            (0..n).map(|i| base * (1.0 + i as f32 / 8.0) + 0.3 * (random.f32() - 0.5)).collect()
        };
        (0..200).map(&mut row).collect()
    }

    fn hessian(x: &[Vec<f32>], n: usize) -> Hessian {
        let mut h = Hessian::default();
        x.iter().for_each(|row| h.add(row, n));
        h.sum();
        h
    }

    #[test]
    fn the_factor_squares_to_the_inverse() {
        let n = 6;
        let h = hessian(&inputs(n), n);
        let u = upper_factor(hessian(&inputs(n), n)).expect("positive");
        let mean = (0..n).map(|i| h.data[i * n + i]).sum::<f64>() / n as f64;
        // H Uᵀ U = 1.
        for i in 0..n {
            for j in 0..n {
                let inverse = |a: usize, b: usize| -> f64 {
                    (0..n).map(|k| f64::from(u[k * n + a]) * f64::from(u[k * n + b])).sum()
                };
                let damped = |a: usize, b: usize| {
                    h.data[a * n + b] + if a == b { DAMPING * mean } else { 0.0 }
                };
                let x: f64 = (0..n).map(|k| damped(i, k) * inverse(k, j)).sum();
                let want = if i == j { 1.0 } else { 0.0 };
                assert!((x - want).abs() < 1e-3, "{i} {j}: {x}");
            }
        }
        assert!((0..n).all(|i| (0..i).all(|j| u[i * n + j] == 0.0)));
    }

    #[test]
    fn outputs_are_nearer_than_by_rounding_alone() {
        let n = 64;
        let x = inputs(n);
        let mut random = fastrand::Rng::with_seed(5);
        let w = Matrix { data: (0..8 * n).map(|_| random.f32() - 0.5).collect(), columns: n };
        let error = |b: &Blocks| -> f64 {
            let values = b.values(32);
            let mut sum = 0.0;
            for row in &x {
                for (a, q) in w.data.chunks(n).zip(values.chunks(n)) {
                    let d: f32 =
                        row.iter().zip(a.iter().zip(q)).map(|(x, (a, q))| x * (a - q)).sum();
                    sum += f64::from(d).powi(2);
                }
            }
            sum
        };
        let u = upper_factor(hessian(&x, n)).expect("positive");
        let gptq = error(&quantize(&w, &u, WeightType::Int4, 32));
        let nearest = error(&Blocks::nearest(&w, WeightType::Int4, 32));
        assert!(gptq < 0.5 * nearest, "{gptq} against {nearest}");
    }
}
