//! Weights as INT8, with a scale for each channel or one for all.

use multiversion::multiversion;

use super::observe::Range;
use crate::ir::layout::{Layout, Row};

/// Smallest scale written: the smallest positive float16, so that a scale survives a later
/// conversion. Elements of a channel that quiet vanish.
pub const MIN_SCALE: f32 = 5.960_464_5e-8;

/// A weight as INT8.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedWeight {
    /// `round(w / scale)`, ties to even, in `[-127, 127]`.
    pub codes: Vec<i8>,
    /// One for each index of the axis, or a single one.
    pub scales: Vec<f32>,
}

impl QuantizedWeight {
    /// Quantizes `data`, finite and of the given dims, symmetrically; `scale = max |w| / 127`.
    pub fn new(data: &[f32], dims: &[usize], axis: Option<usize>) -> QuantizedWeight {
        QuantizedWeight::with_levels(data, dims, axis, 127.0)
    }

    /// The same with codes in `[-levels, levels]`, at most 127; `scale = max |w| / levels`.
    pub fn with_levels(
        data: &[f32],
        dims: &[usize],
        axis: Option<usize>,
        levels: f32,
    ) -> QuantizedWeight {
        let layout = Layout::new(dims, axis);
        let scales = layout.scales(data, levels);
        QuantizedWeight { codes: layout.codes(data, &scales, levels), scales }
    }

    /// The values that the codes stand for.
    pub fn dequantized(&self, dims: &[usize], axis: Option<usize>) -> Vec<f32> {
        let mut values: Vec<f32> = self.codes.iter().map(|&q| f32::from(q)).collect();
        for (at, channels) in Layout::new(dims, axis).rows(self.codes.len()) {
            let row = &mut values[at];
            match channels {
                Row::Of(c) => row.iter_mut().for_each(|x| *x *= self.scales[c]),
                Row::Across => row.iter_mut().zip(&self.scales).for_each(|(x, s)| *x *= s),
            }
        }
        values
    }
}

impl Layout {
    /// `max |w| / levels` of each channel, elements being finite.
    pub(super) fn scales(self, data: &[f32], levels: f32) -> Vec<f32> {
        let mut amax = vec![0.0f32; self.channels];
        for (at, channels) in self.rows(data.len()) {
            match channels {
                Row::Of(c) => {
                    let mut seen = Range::default();
                    seen.observe(&data[at]);
                    amax[c] = amax[c].max(seen.amax());
                }
                Row::Across => widen(&mut amax, &data[at]),
            }
        }
        amax.iter().map(|a| (a / levels).max(MIN_SCALE)).collect()
    }

    /// `round(w / scale)`, ties to even, in `[-levels, levels]`, at most 127, of finite elements.
    pub(super) fn codes(self, data: &[f32], scales: &[f32], levels: f32) -> Vec<i8> {
        let mut codes = vec![0; data.len()];
        for (at, channels) in self.rows(data.len()) {
            let (row, codes) = (&data[at.clone()], &mut codes[at]);
            match channels {
                Row::Of(c) => codes_of(row, scales[c], levels, codes),
                Row::Across => codes_across(row, scales, levels, codes),
            }
        }
        codes
    }
}

#[multiversion(targets = "simd")]
fn widen(amax: &mut [f32], row: &[f32]) {
    amax.iter_mut().zip(row).for_each(|(a, x)| *a = a.max(x.abs()));
}

#[multiversion(targets = "simd")]
fn codes_of(row: &[f32], scale: f32, levels: f32, codes: &mut [i8]) {
    row.iter().zip(codes).for_each(|(x, code)| *code = nearest(x / scale, levels));
}

#[multiversion(targets = "simd")]
fn codes_across(row: &[f32], scales: &[f32], levels: f32, codes: &mut [i8]) {
    let elements = row.iter().zip(scales).zip(codes);
    elements.for_each(|((x, scale), code)| *code = nearest(x / scale, levels));
}

/// The nearest whole number, ties to even, in `[-levels, levels]`, at most 127. Beside 1.5 * 2^23
/// nothing behind the point fits: what is left in the lowest byte is the number in two's complement.
/// Unlike a cast, it is the same few instructions for several numbers at once.
#[inline(always)]
fn nearest(x: f32, levels: f32) -> i8 {
    const LARGE: f32 = 12_582_912.0;
    (x.clamp(-levels, levels) + LARGE).to_bits() as i8
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_round_ties_to_even_and_keep_the_extremes() {
        let w = QuantizedWeight::new(&[127.0, -127.0, 0.5, 1.5], &[4], None);
        assert_eq!((w.codes, w.scales), (vec![127, -127, 0, 2], vec![1.0]));
    }

    #[test]
    fn nearest_is_as_rounding_and_a_cast() {
        for i in -40_000..40_000 {
            let x = i as f32 / 256.0;
            let want = x.round_ties_even().clamp(-127.0, 127.0) as i8;
            assert_eq!(nearest(x, 127.0), want, "{x}");
        }
        assert_eq!((nearest(f32::MAX, 63.0), nearest(f32::NEG_INFINITY, 127.0)), (63, -127));
    }

    #[test]
    fn scales_run_along_the_axis() {
        let data = [1.0, 2.0, 3.0, 10.0, 20.0, 30.0];
        let rows = QuantizedWeight::new(&data, &[2, 3], Some(0));
        assert_eq!(rows.scales, [3.0 / 127.0, 30.0 / 127.0]);
        let columns = QuantizedWeight::new(&data, &[2, 3], Some(1));
        assert_eq!(columns.scales, [10.0 / 127.0, 20.0 / 127.0, 30.0 / 127.0]);
        for (a, b) in columns.dequantized(&[2, 3], Some(1)).iter().zip(data) {
            assert!((a - b).abs() <= 30.0 / 254.0);
        }
        assert_eq!(columns.codes[3..], [127, 127, 127]);
    }

    #[test]
    fn dead_channels_get_a_positive_scale() {
        let w = QuantizedWeight::new(&[0.0, 0.0, 1.0, -1.0], &[2, 2], Some(0));
        assert_eq!(w.scales, [MIN_SCALE, 1.0 / 127.0]);
        assert_eq!(w.codes, [0, 0, 127, -127]);
    }

    #[test]
    fn no_channels_are_no_codes() {
        for axis in [None, Some(0), Some(1)] {
            let w = QuantizedWeight::new(&[], &[0, 0], axis);
            assert!(w.codes.is_empty() && w.dequantized(&[0, 0], axis).is_empty());
        }
    }
}
