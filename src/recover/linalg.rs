//! Products of matrices, over the kernels of `matrixmultiply`.
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

/// Numbers in -1..1.
#[cfg(test)]
pub(super) fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut rng = fastrand::Rng::with_seed(seed);
    (0..n).map(|_| rng.f32() * 2.0 - 1.0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
