//! Cholesky factors and what is solved with them.

use multiversion::multiversion;
use rayon::prelude::*;

use super::linalg::{BLOCK, subtract_product};

/// The lower factor `L` of `A = L Lᵀ`.
#[derive(Debug)]
pub(crate) struct Cholesky {
    n: usize,
    l: Vec<f64>,
}

impl Cholesky {
    /// Factors a symmetric matrix given by its lower half, in blocks (right-looking; Golub and Van
    /// Loan, Matrix Computations, 4.2.6). `None` when it is not positive definite.
    pub fn of(mut a: Vec<f64>, n: usize) -> Option<Cholesky> {
        for k in (0..n).step_by(BLOCK) {
            let kb = BLOCK.min(n - k);
            factor_block(&mut a, n, k, kb)?;
            let (top, below) = a.split_at_mut((k + kb) * n);
            let diagonal = (&top[k * n + k..], n);
            below.par_chunks_mut(BLOCK * n).for_each(|rows| {
                side_by_side(rows, n, k, kb, |x, m| substitute(x, m, diagonal, false));
            });
            let panel = head(below, n, k, kb);
            below.par_chunks_mut(BLOCK * n).enumerate().for_each(|(b, block)| {
                let rows = block.len() / n;
                let own = &panel[b * BLOCK * kb..];
                let shape = (rows, kb, b * BLOCK + rows);
                subtract_product(shape, (own, kb, 1), (&panel, 1, kb), &mut block[k + kb..], n);
            });
        }
        Some(Cholesky { n, l: a })
    }

    /// Solves `A x = b` for each row of `b`.
    pub fn solve(&self, b: &mut [f64]) {
        let (n, l) = (self.n, &self.l);
        if n == 0 {
            return;
        }
        b.par_chunks_mut(BLOCK * n).for_each(|x| {
            let m = x.len() / n;
            for k in (0..n).step_by(BLOCK) {
                let kb = BLOCK.min(n - k);
                let known: Vec<f64> = head(x, n, 0, k);
                subtract_product((m, k, kb), (&known, k, 1), (&l[k * n..], 1, n), &mut x[k..], n);
                let diagonal = (&l[k * n + k..], n);
                side_by_side(x, n, k, kb, |x, m| substitute(x, m, diagonal, false));
            }
            for k in (0..n).step_by(BLOCK).rev() {
                let kb = BLOCK.min(n - k);
                let rest = n - k - kb;
                if rest > 0 {
                    let known: Vec<f64> = head(x, n, k + kb, rest);
                    let below = &l[(k + kb) * n + k..];
                    subtract_product(
                        (m, rest, kb),
                        (&known, rest, 1),
                        (below, n, 1),
                        &mut x[k..],
                        n,
                    );
                }
                let diagonal = (&l[k * n + k..], n);
                side_by_side(x, n, k, kb, |x, m| substitute(x, m, diagonal, true));
            }
        });
    }
}

impl Cholesky {
    /// The transposed factor, row after row, with zeros below its diagonal.
    fn upper(&self) -> Vec<f64> {
        let n = self.n;
        let at = |i: usize, j: usize| if j >= i { self.l[j * n + i] } else { 0.0 };
        (0..n * n).map(|x| at(x / n.max(1), x % n.max(1))).collect()
    }

    /// The upper triangle `U`, row after row, of `A⁻¹ = Uᵀ U`.
    pub fn upper_of_inverse(&self) -> Option<Vec<f64>> {
        Some(Cholesky::of(self.inverse(), self.n)?.upper())
    }

    /// The inverse of `A`.
    pub fn inverse(&self) -> Vec<f64> {
        let mut out = vec![0.0; self.n * self.n];
        (0..self.n).for_each(|i| out[i * self.n + i] = 1.0);
        self.solve(&mut out);
        out
    }
}

/// Columns `from..from + len` of rows of `n`.
fn head(x: &[f64], n: usize, from: usize, len: usize) -> Vec<f64> {
    x.chunks(n).flat_map(|row| row[from..from + len].iter().copied()).collect()
}

/// Calls `f` with columns `from..from + len` of rows of `n`, one column after the other, and how long
/// each is.
fn side_by_side(
    rows: &mut [f64],
    n: usize,
    from: usize,
    len: usize,
    f: impl FnOnce(&mut [f64], usize),
) {
    let m = rows.len() / n;
    let mut columns = vec![0.0; len * m];
    for (r, row) in rows.chunks(n).enumerate() {
        row[from..from + len].iter().enumerate().for_each(|(j, x)| columns[j * m + r] = *x);
    }
    f(&mut columns, m);
    for (r, row) in rows.chunks_mut(n).enumerate() {
        row[from..from + len].iter_mut().enumerate().for_each(|(j, x)| *x = columns[j * m + r]);
    }
}

/// Solves with a lower triangle, or its transpose, for `m` right sides at once: `x` has those of each
/// row of the triangle side by side, so that one instruction takes several.
#[multiversion(targets = "simd")]
fn substitute(x: &mut [f64], m: usize, (l, stride): (&[f64], usize), transposed: bool) {
    let size = x.len() / m;
    for step in 0..size {
        let j = if transposed { size - 1 - step } else { step };
        let (before, rest) = x.split_at_mut(j * m);
        let (own, after) = rest.split_at_mut(m);
        let known = if transposed { after } else { before };
        for (i, other) in known.chunks(m).enumerate() {
            let by = if transposed { l[(j + 1 + i) * stride + j] } else { l[j * stride + i] };
            own.iter_mut().zip(other).for_each(|(x, known)| *x -= by * known);
        }
        own.iter_mut().for_each(|x| *x /= l[j * stride + j]);
    }
}

fn factor_block(a: &mut [f64], n: usize, k: usize, kb: usize) -> Option<()> {
    for j in k..k + kb {
        for i in j..k + kb {
            let known: f64 = (k..j).map(|p| a[i * n + p] * a[j * n + p]).sum();
            let v = a[i * n + j] - known;
            if i > j {
                a[i * n + j] = v / a[j * n + j];
            } else if v > 0.0 && v.is_finite() {
                a[i * n + j] = v.sqrt();
            } else {
                return None;
            }
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::super::linalg::{Mat, noise};
    use super::*;

    #[test]
    fn solutions_solve() {
        for n in [1, 5, 64, 65, 200] {
            let x = noise(n * (n + 20), 7);
            let x = Mat::new(&x, n);
            let mut a = x.transposed_times(x);
            (0..n).for_each(|i| a[i * n + i] += 0.1);
            let factor = Cholesky::of(a.clone(), n).expect("positive definite");
            let b: Vec<f64> = noise(70 * n, 8).into_iter().map(f64::from).collect();
            let mut solution = b.clone();
            factor.solve(&mut solution);
            for (row, b) in solution.chunks(n).zip(b.chunks(n)) {
                for i in 0..n {
                    let got: f64 = (0..n).map(|j| a[i * n + j] * row[j]).sum();
                    assert!((got - b[i]).abs() < 1e-6, "{n}: {got} {}", b[i]);
                }
            }
        }
    }

    #[test]
    fn what_is_not_positive_definite_has_no_factor() {
        assert!(Cholesky::of(vec![1.0, 2.0, 2.0, 1.0], 2).is_none());
        assert!(Cholesky::of(vec![f64::NAN], 1).is_none());
    }
}
