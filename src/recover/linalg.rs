//! Products and Cholesky factors, over the kernels of `matrixmultiply`.
//!
//! Long sums run in single precision over 512 rows at most and in double precision beyond.

use std::borrow::Cow;

use rayon::prelude::*;

/// Part of a row-major matrix: `rows` rows of `cols` elements that begin `stride` elements apart.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Mat<'a> {
    pub data: &'a [f32],
    pub rows: usize,
    pub cols: usize,
    pub stride: usize,
}

/// Rows that are summed in single precision.
const CHUNK: usize = 512;
/// Width of the blocks that threads share out.
pub(crate) const BLOCK: usize = 64;

/// Rows of `cols` elements as columns.
pub(crate) fn transpose(data: &[f32], cols: usize) -> Vec<f32> {
    let rows = data.len() / cols.max(1);
    (0..cols).flat_map(|c| (0..rows).map(move |r| data[r * cols + c])).collect()
}

impl<'a> Mat<'a> {
    /// All of `data`, in rows of `cols`.
    pub fn new(data: &'a [f32], cols: usize) -> Mat<'a> {
        Mat { data, rows: data.len() / cols.max(1), cols, stride: cols }
    }

    /// Columns `from..from + cols`.
    pub fn columns(self, from: usize, cols: usize) -> Mat<'a> {
        let data = self.data.get(from..).unwrap_or_default();
        Mat { data, cols, ..self }
    }

    /// One row.
    pub fn row(&self, i: usize) -> &'a [f32] {
        &self.data[i * self.stride..i * self.stride + self.cols]
    }

    /// Rows `from..from + rows`.
    pub fn rows(self, from: usize, rows: usize) -> Mat<'a> {
        let data = self.data.get(from * self.stride..).unwrap_or_default();
        Mat { data, rows, ..self }
    }

    fn row_on(self, i: usize) -> Mat<'a> {
        self.rows(i, self.rows - i)
    }

    /// All elements of a matrix whose rows lie end to end.
    pub fn flat(&self) -> &'a [f32] {
        debug_assert_eq!(self.stride, self.cols);
        &self.data[..self.rows * self.cols]
    }

    /// All elements, row after row; borrowed where they lie so.
    pub fn packed(self) -> Cow<'a, [f32]> {
        if self.stride == self.cols {
            return Cow::Borrowed(&self.data[..self.rows * self.cols]);
        }
        let mut out = Vec::with_capacity(self.rows * self.cols);
        (0..self.rows).for_each(|i| out.extend_from_slice(self.row(i)));
        Cow::Owned(out)
    }

    /// Sum of each column.
    pub fn sums(&self) -> Vec<f64> {
        let mut sums = vec![0.0; self.cols];
        for i in 0..self.rows {
            for (s, x) in sums.iter_mut().zip(self.row(i)) {
                *s += f64::from(*x);
            }
        }
        sums
    }

    /// Mean of each column.
    pub fn means(&self) -> Vec<f64> {
        let n = self.rows.max(1) as f64;
        self.sums().into_iter().map(|s| s / n).collect()
    }

    /// `selfᵀ · other`, `self.cols` rows of `other.cols`.
    pub fn transposed_times(&self, other: Mat) -> Vec<f64> {
        let (n, m) = (self.cols, other.cols);
        let mut out = vec![0.0; n * m];
        if m == 0 {
            return out;
        }
        out.par_chunks_mut(BLOCK * m).enumerate().for_each(|(b, block)| {
            let a = self.columns(b * BLOCK, block.len() / m);
            let mut part = vec![0f32; block.len()];
            for from in (0..self.rows).step_by(CHUNK) {
                let k = CHUNK.min(self.rows - from);
                let (a, z) = (a.row_on(from), other.row_on(from));
                gemm((a.cols, k, m), (a.data, 1, a.stride), (z.data, z.stride, 1), &mut part, m);
                block.iter_mut().zip(&part).for_each(|(o, p)| *o += f64::from(*p));
            }
        });
        out
    }

    /// `self · wᵀ + bias`, `w` having one row for each column of the result.
    pub fn times_transposed(&self, w: Mat, bias: &[f32]) -> Vec<f32> {
        let m = w.rows;
        let mut out = vec![0f32; self.rows * m];
        if m == 0 {
            return out;
        }
        out.par_chunks_mut(CHUNK * m).enumerate().for_each(|(b, block)| {
            let a = self.row_on(b * CHUNK);
            let rows = block.len() / m;
            gemm((rows, self.cols, m), (a.data, a.stride, 1), (w.data, 1, w.stride), block, m);
            for row in block.chunks_mut(m) {
                row.iter_mut().zip(bias).for_each(|(y, b)| *y += b);
            }
        });
        out
    }
}

/// The elements of an `m × k` and a `k × n` matrix with these lengths of data and distances of rows
/// and columns, and of their product with this distance of rows, lie inside the data; rows of the
/// product do not overlap. No size is 0.
fn within(
    (m, k, n): (usize, usize, usize),
    (a, ar, ac): (usize, usize, usize),
    (b, br, bc): (usize, usize, usize),
    (c, cr): (usize, usize),
) -> bool {
    (m - 1) * ar + (k - 1) * ac < a
        && (k - 1) * br + (n - 1) * bc < b
        && (m - 1) * cr + n <= c
        && n <= cr
}

/// `c = a · b` for an `m × k` and a `k × n` matrix; data with the distances of rows and columns.
fn gemm(
    (m, k, n): (usize, usize, usize),
    (a, ar, ac): (&[f32], usize, usize),
    (b, br, bc): (&[f32], usize, usize),
    c: &mut [f32],
    cr: usize,
) {
    if m == 0 || n == 0 {
        return;
    }
    if k == 0 {
        return c.fill(0.0);
    }
    assert!(within((m, k, n), (a.len(), ar, ac), (b.len(), br, bc), (c.len(), cr)));
    // SAFETY: the largest index into each slice lies inside it, as `within` says; `c` is exclusive
    // and its rows do not overlap.
    unsafe {
        matrixmultiply::sgemm(
            m,
            k,
            n,
            1.0,
            a.as_ptr(),
            ar as isize,
            ac as isize,
            b.as_ptr(),
            br as isize,
            bc as isize,
            0.0,
            c.as_mut_ptr(),
            cr as isize,
            1,
        );
    }
}

/// `c -= a · b`, as [`gemm`] in double precision.
pub(crate) fn subtract_product(
    (m, k, n): (usize, usize, usize),
    (a, ar, ac): (&[f64], usize, usize),
    (b, br, bc): (&[f64], usize, usize),
    c: &mut [f64],
    cr: usize,
) {
    if m == 0 || n == 0 || k == 0 {
        return;
    }
    assert!(within((m, k, n), (a.len(), ar, ac), (b.len(), br, bc), (c.len(), cr)));
    // SAFETY: as in `gemm`.
    unsafe {
        matrixmultiply::dgemm(
            m,
            k,
            n,
            -1.0,
            a.as_ptr(),
            ar as isize,
            ac as isize,
            b.as_ptr(),
            br as isize,
            bc as isize,
            1.0,
            c.as_mut_ptr(),
            cr as isize,
            1,
        );
    }
}

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
            let diagonal = &top[k * n..];
            below.par_chunks_mut(n).for_each(|row| {
                for j in 0..kb {
                    let known: f64 = (0..j).map(|p| row[k + p] * diagonal[j * n + k + p]).sum();
                    row[k + j] = (row[k + j] - known) / diagonal[j * n + k + j];
                }
            });
            let panel: Vec<f64> =
                below.chunks(n).flat_map(|row| row[k..k + kb].iter().copied()).collect();
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
                for row in x.chunks_mut(n) {
                    for j in k..k + kb {
                        let sum: f64 = (k..j).map(|p| row[p] * l[j * n + p]).sum();
                        row[j] = (row[j] - sum) / l[j * n + j];
                    }
                }
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
                for row in x.chunks_mut(n) {
                    for j in (k..k + kb).rev() {
                        let sum: f64 = (j + 1..k + kb).map(|p| row[p] * l[p * n + j]).sum();
                        row[j] = (row[j] - sum) / l[j * n + j];
                    }
                }
            }
        });
    }
}

impl Cholesky {
    /// The transposed factor, row after row, with zeros below its diagonal.
    pub fn upper(&self) -> Vec<f64> {
        let n = self.n;
        let at = |i: usize, j: usize| if j >= i { self.l[j * n + i] } else { 0.0 };
        (0..n * n).map(|x| at(x / n.max(1), x % n.max(1))).collect()
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
    use super::*;

    fn noise(n: usize, seed: u64) -> Vec<f32> {
        let mut rng = fastrand::Rng::with_seed(seed);
        (0..n).map(|_| rng.f32() * 2.0 - 1.0).collect()
    }

    #[test]
    fn products_are_sums() {
        let (x, y) = (noise(700 * 90, 1), noise(700 * 3, 2));
        let (x, y) = (Mat::new(&x, 90), Mat::new(&y, 3));
        let part = x.columns(10, 75);
        let got = part.transposed_times(y);
        for (i, j) in [(0, 0), (74, 2), (66, 1)] {
            let want: f64 =
                (0..700).map(|r| f64::from(x.row(r)[10 + i]) * f64::from(y.row(r)[j])).sum();
            assert!((got[i * 3 + j] - want).abs() < 1e-3, "{i} {j}");
        }
        let w = noise(2 * 75, 3);
        let out = part.times_transposed(Mat::new(&w, 75), &[1.0, 2.0]);
        let want: f32 = (0..75).map(|k| part.row(600)[k] * w[75 + k]).sum::<f32>() + 2.0;
        assert!((out[600 * 2 + 1] - want).abs() < 1e-4);
    }

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
