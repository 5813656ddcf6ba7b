//! How much two tensors differ, summed up over samples.

use serde::Serialize;

use crate::ir::{DType, Tensor};

/// How the output of one model differs from the other's, over all samples.
#[derive(Clone, Debug, Default, Serialize)]
pub struct OutputDiff {
    /// Name of the output.
    pub name: String,
    /// Element type in the original.
    pub dtype: String,
    /// All elements have the same bits.
    pub bit_equal: bool,
    /// Largest absolute difference.
    pub max_abs: f64,
    /// Largest difference relative to the original element.
    pub max_rel: f64,
    /// Largest absolute value in the original.
    pub scale: f64,
    /// Cosine of the angle between the two, as vectors over all samples.
    pub cosine: Option<f64>,
    /// Ratio of signal to difference in decibels; none when there is no difference.
    pub sqnr_db: Option<f64>,
    /// Share of rows with the same largest class, for float outputs `[N, C]`.
    pub top1: Option<f64>,
    /// Share of elements that are equal, for outputs that are no floats.
    pub equal: Option<f64>,
    /// Elements that are NaN or infinite in one and not the same in the other.
    pub non_finite: u64,
    /// Where types or shapes differ: how, the first time.
    pub mismatch: Option<String>,
}

/// Sums over samples, from which an [`OutputDiff`] is made.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sums {
    dtype: Option<DType>,
    different_bits: bool,
    max_abs: f64,
    max_rel: f64,
    scale: f64,
    signal: f64,
    noise: f64,
    other: f64,
    dot: f64,
    rows: u64,
    same_rows: u64,
    elements: u64,
    equal: u64,
    non_finite: u64,
    mismatch: Option<String>,
}

impl Sums {
    /// Adds one sample.
    pub(crate) fn add(&mut self, a: &Tensor, b: &Tensor) {
        self.dtype = Some(a.dtype());
        if a.dtype() != b.dtype() || a.dims() != b.dims() {
            let show = |t: &Tensor| format!("{}{:?}", t.dtype(), t.dims());
            self.mismatch.get_or_insert(format!("{} became {}", show(a), show(b)));
            return;
        }
        let same = a.data() == b.data();
        self.different_bits |= !same;
        if a.dtype().is_float()
            && let (Some(x), Some(y)) = (a.to_f64(), b.to_f64())
        {
            self.add_floats(&x, &y);
            self.add_rows(a.dims(), &x, &y);
            return;
        }
        self.add_others(a, b, same);
    }

    fn add_floats(&mut self, x: &[f64], y: &[f64]) {
        for (&x, &y) in x.iter().zip(y) {
            if !x.is_finite() || !y.is_finite() {
                let same = x == y || (x.is_nan() && y.is_nan());
                self.non_finite += u64::from(!same);
                continue;
            }
            let d = (x - y).abs();
            self.max_abs = self.max_abs.max(d);
            if d > 0.0 {
                self.max_rel = self.max_rel.max(d / x.abs().max(f64::from(f32::MIN_POSITIVE)));
            }
            self.scale = self.scale.max(x.abs());
            self.signal += x * x;
            self.other += y * y;
            self.dot += x * y;
            self.noise += d * d;
        }
    }

    fn add_rows(&mut self, dims: &[usize], x: &[f64], y: &[f64]) {
        let [_, classes] = *dims else { return };
        if classes < 2 {
            return;
        }
        for (x, y) in x.chunks_exact(classes).zip(y.chunks_exact(classes)) {
            self.rows += 1;
            self.same_rows += u64::from(largest(x) == largest(y));
        }
    }

    fn add_others(&mut self, a: &Tensor, b: &Tensor, same: bool) {
        let n = a.len() as u64;
        self.elements += n;
        if same {
            self.equal += n;
        } else if let (Some(x), Some(y)) = (a.to_f64(), b.to_f64()) {
            for (x, y) in x.iter().zip(&y) {
                self.equal += u64::from(x == y);
                self.max_abs = self.max_abs.max((x - y).abs());
                self.scale = self.scale.max(x.abs());
            }
        }
    }

    pub(crate) fn merge(&mut self, o: &Sums) {
        self.dtype = self.dtype.or(o.dtype);
        self.different_bits |= o.different_bits;
        self.max_abs = self.max_abs.max(o.max_abs);
        self.max_rel = self.max_rel.max(o.max_rel);
        self.scale = self.scale.max(o.scale);
        self.signal += o.signal;
        self.noise += o.noise;
        self.other += o.other;
        self.dot += o.dot;
        self.rows += o.rows;
        self.same_rows += o.same_rows;
        self.elements += o.elements;
        self.equal += o.equal;
        self.non_finite += o.non_finite;
        if self.mismatch.is_none() {
            self.mismatch.clone_from(&o.mismatch);
        }
    }

    pub(crate) fn finish(&self, name: &str) -> OutputDiff {
        let share = |a: u64, n: u64| (n > 0).then(|| a as f64 / n as f64);
        let length = (self.signal * self.other).sqrt();
        OutputDiff {
            name: name.to_owned(),
            dtype: self.dtype.map(|d| d.name().to_owned()).unwrap_or_default(),
            bit_equal: !self.different_bits && self.mismatch.is_none(),
            max_abs: self.max_abs,
            max_rel: self.max_rel,
            scale: self.scale,
            cosine: (length > 0.0).then(|| (self.dot / length).clamp(-1.0, 1.0)),
            sqnr_db: (self.noise > 0.0).then(|| 10.0 * (self.signal / self.noise).log10()),
            top1: share(self.same_rows, self.rows),
            equal: share(self.equal, self.elements),
            non_finite: self.non_finite,
            mismatch: self.mismatch.clone(),
        }
    }
}

/// Index of the largest element; the first of equals. NaN is never the largest.
pub(crate) fn largest(x: &[f64]) -> usize {
    let mut best = 0;
    for (i, v) in x.iter().enumerate() {
        if *v > x[best] || x[best].is_nan() {
            best = i;
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_measured() {
        let a = Tensor::of(&[2, 2], &[1f32, 2.0, 4.0, 3.0]);
        let b = Tensor::of(&[2, 2], &[1f32, 2.0, 3.0, 4.0]);
        let mut s = Sums::default();
        s.add(&a, &b);
        let d = s.finish("y");
        assert_eq!((d.max_abs, d.scale, d.top1, d.bit_equal), (1.0, 4.0, Some(0.5), false));
        assert!((d.sqnr_db.expect("noise") - 10.0 * 15f64.log10()).abs() < 1e-9);
        s.add(&a, &Tensor::vector(&[1f32]));
        assert_eq!(s.finish("y").mismatch.as_deref(), Some("float[2, 2] became float[1]"));
    }

    #[test]
    fn nan_equals_nan_and_nothing_else() {
        let a = Tensor::vector(&[f32::NAN, f32::INFINITY, 1.0]);
        let b = Tensor::vector(&[f32::NAN, 0.0, 1.0]);
        let mut s = Sums::default();
        s.add(&a, &b);
        assert_eq!(s.finish("y").non_finite, 1);
    }
}
