//! What the codes of an activation stand for.
//!
//! TensorRT knows only scales around zero. The integer kernels of ONNX Runtime's CPU provider multiply
//! UINT8 activations of any zero point by INT8 weights. (Its optimizer also turns INT8 pairs into
//! UINT8 ones, but only where a pair has a single reader.) So for that profile codes lie between the
//! least and the largest element that was seen: nothing is spent on signs that do not occur, and zero
//! is the least code behind a Relu, which ONNX Runtime then drops.

use std::collections::BTreeMap;

use super::observe::Range;
use super::payload::Payload;
use super::placement::Plan;
use super::weight::MIN_SCALE;
use crate::ir::{DType, ValueId};

/// `(code - zero_point) * scale` is what a code stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// The step.
    pub scale: f32,
    /// The code of zero.
    pub zero_point: i16,
    /// The type of the codes.
    pub dtype: DType,
}

/// The codes of an activation, up to the magnitude that is not clipped.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Codes {
    /// Both signs alike, zero point 0.
    Symmetric(Payload),
    /// UINT8 from the least to the largest element.
    Uint8 {
        /// The least element, at most 0.
        low: f32,
        /// The largest element, at least 0.
        high: f32,
    },
}

impl Codes {
    /// Codes for what was seen of an activation; `unsigned` where it is never negative. Of what was
    /// not seen, both signs alike.
    pub(super) fn uint8(seen: &Range, unsigned: bool) -> Codes {
        let known = seen.min <= seen.max;
        let (low, high) = if known { (seen.min, seen.max) } else { (f32::MIN, f32::MAX) };
        Codes::Uint8 { low: if unsigned { 0.0 } else { low.min(0.0) }, high: high.max(0.0) }
    }

    /// INT8 codes of an activation of a plan between these ends.
    pub(super) fn between(plan: &Plan, low: f32, high: f32) -> Codes {
        match plan.uint8 {
            true => Codes::Uint8 { low, high },
            false => Codes::Symmetric(Payload::Int8),
        }
    }

    /// The ends of the codes where magnitudes beyond `amax` are clipped.
    fn ends(self, amax: f32) -> (f32, f32) {
        match self {
            Codes::Symmetric(_) => (-amax, amax),
            Codes::Uint8 { low, high } => (low.max(-amax), high.min(amax)),
        }
    }

    /// The step where magnitudes beyond `amax` are clipped; for FP8, what INT8 would have.
    pub fn step(self, amax: f32) -> f64 {
        let (low, high) = self.ends(amax);
        let codes = if matches!(self, Codes::Symmetric(_)) { 254.0 } else { 255.0 };
        (f64::from(high) - f64::from(low)) / codes
    }

    /// The grid where magnitudes beyond `amax` are clipped; that of a magnitude of 1 for an activation
    /// that was always zero.
    pub fn grid(self, amax: f32) -> Grid {
        let (low, high) = self.ends(if amax > 0.0 { amax } else { 1.0 });
        match self {
            Codes::Symmetric(payload) => {
                let scale = (high / payload.largest()).max(MIN_SCALE);
                Grid { scale, zero_point: 0, dtype: payload.dtype() }
            }
            Codes::Uint8 { .. } => {
                let span = if high > low { high - low } else { 1.0 };
                let scale = (span / 255.0).max(MIN_SCALE);
                let zero_point = (-low / scale).round_ties_even().clamp(0.0, 255.0) as i16;
                Grid { scale, zero_point, dtype: DType::U8 }
            }
        }
    }
}

/// The codes of every planned activation. Those of one scale have them in common.
pub(super) fn codes<'a>(
    plan: &Plan,
    payload: Payload,
    seen: &dyn Fn(ValueId) -> Option<&'a Range>,
) -> BTreeMap<ValueId, Codes> {
    let of = |v: ValueId| {
        if !plan.uint8 {
            return Codes::Symmetric(payload);
        }
        let group = plan.scale_groups.iter().find(|group| group.contains(&v));
        let group = group.map_or(std::slice::from_ref(&v), Vec::as_slice);
        let mut all = Range::default();
        // What is known without data reaches its bound.
        let of_data = group.iter().filter(|v| !plan.fixed.contains_key(v));
        of_data.filter_map(|v| seen(*v)).for_each(|r| all.merge(r));
        Codes::uint8(&all, group.iter().all(|v| plan.unsigned.contains(v)))
    };
    plan.pairs.keys().map(|v| (*v, of(*v))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn uint8(low: f32, high: f32, amax: f32) -> (f32, i16) {
        let grid = Codes::Uint8 { low, high }.grid(amax);
        assert_eq!(grid.dtype, DType::U8);
        (grid.scale, grid.zero_point)
    }

    #[test]
    fn codes_lie_between_the_ends() {
        assert_eq!(uint8(0.0, 510.0, 510.0), (2.0, 0));
        assert_eq!(uint8(-510.0, 0.0, 510.0), (2.0, 255));
        assert_eq!(uint8(-55.0, 200.0, 200.0), (1.0, 55));
        assert_eq!(uint8(-55.0, 1000.0, 200.0), (1.0, 55), "clipped above");
        assert_eq!(uint8(f32::MIN, f32::MAX, 127.5), (1.0, 128), "not seen");
        let symmetric = Codes::Symmetric(Payload::Int8);
        let grid = Grid { scale: 2.0, zero_point: 0, dtype: DType::I8 };
        assert_eq!(symmetric.grid(254.0), grid);
        assert_eq!(symmetric.step(254.0), 2.0);
        assert_eq!(Codes::Uint8 { low: 0.0, high: 510.0 }.step(510.0), 2.0);
    }

    #[test]
    fn what_was_always_zero_has_a_scale() {
        for codes in [Codes::Symmetric(Payload::Int8), Codes::Uint8 { low: 0.0, high: 0.0 }] {
            assert!(codes.grid(0.0).scale > 0.0);
        }
        let nothing = Codes::uint8(&Range::default(), true);
        assert_eq!(nothing, Codes::Uint8 { low: 0.0, high: f32::MAX });
    }
}
