//! Sliding windows: the geometry that convolutions and pools share.

use super::InferError;
use crate::ir::{Dim, Op};

/// How padding is decided (`auto_pad`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AutoPad {
    Explicit,
    SameUpper,
    SameLower,
    Valid,
}

impl AutoPad {
    fn is_same(self) -> bool {
        matches!(self, AutoPad::SameUpper | AutoPad::SameLower)
    }
}

/// A window over the spatial axes; every list has one entry for each of them.
#[derive(Clone, Debug)]
pub(crate) struct Window {
    pub kernel: Vec<Dim>,
    pub strides: Vec<i64>,
    pub dilations: Vec<i64>,
    pub pads: Vec<(i64, i64)>,
    pub auto: AutoPad,
    pub ceil: bool,
}

impl Window {
    /// The window that the attributes of `op` describe.
    ///
    /// # Errors
    /// When an attribute has the wrong length, or a stride or dilation is not positive.
    pub fn of(op: &Op, kernel: Vec<Dim>) -> Result<Window, InferError> {
        let n = kernel.len();
        let pads = list(op, "pads", 2 * n, 0)?;
        let auto = match op.str("auto_pad") {
            Some("SAME_UPPER") => AutoPad::SameUpper,
            Some("SAME_LOWER") => AutoPad::SameLower,
            Some("VALID") => AutoPad::Valid,
            _ => AutoPad::Explicit,
        };
        let window = Window {
            kernel,
            strides: list(op, "strides", n, 1)?,
            dilations: list(op, "dilations", n, 1)?,
            pads: match auto {
                AutoPad::Explicit => (0..n).map(|i| (pads[i], pads[n + i])).collect(),
                _ => vec![(0, 0); n],
            },
            auto,
            ceil: op.int_or("ceil_mode", 0) == 1,
        };
        if window.strides.iter().chain(&window.dilations).any(|&v| v < 1) {
            return Err("strides and dilations must be positive".into());
        }
        Ok(window)
    }

    /// Extent of the dilated kernel along axis `i`: `(k - 1) * d + 1`.
    pub fn extent(&self, i: usize) -> Dim {
        let steps = &self.kernel[i] - &Dim::Known(1);
        &(&steps * &Dim::Known(self.dilations[i])) + &Dim::Known(1)
    }

    /// Number of positions of the window along each axis.
    ///
    /// # Errors
    /// When the window does not fit into the padded input.
    pub fn positions(&self, input: &[Dim]) -> Result<Vec<Dim>, InferError> {
        if input.len() != self.kernel.len() {
            let (n, k) = (input.len(), self.kernel.len());
            return Err(format!("kernel has {k} axes but the input {n} spatial ones").into());
        }
        input.iter().enumerate().map(|(i, d)| self.positions_along(i, d)).collect()
    }

    fn positions_along(&self, i: usize, input: &Dim) -> Result<Dim, InferError> {
        let stride = Dim::Known(self.strides[i]);
        if self.auto.is_same() {
            return Ok(input.ceil_div(&stride));
        }
        let (before, after) = self.pads[i];
        let from_start = input + &Dim::Known(before);
        let room = &(&from_start + &Dim::Known(after)) - &self.extent(i);
        if room.known().is_some_and(|n| n < 0) {
            let (k, d) = (self.extent(i), &from_start + &Dim::Known(after));
            return Err(format!("window of {k} does not fit into {d} along axis {}", i + 2).into());
        }
        let one = Dim::Known(1);
        if !self.ceil {
            return Ok(&room.floor_div(&stride) + &one);
        }
        // A window may not start in the padding behind the input.
        let positions = &room.ceil_div(&stride) + &one;
        if after == 0 && self.extent(i).at_least(1) && self.strides[i] == 1 {
            return Ok(positions);
        }
        Ok(positions.smaller(&from_start.ceil_div(&stride)))
    }

    /// Padding before axis `i` that has `input` elements and `output` positions; `None` when the size of
    /// the kernel is not known.
    pub fn padding_before(&self, i: usize, input: i64, output: i64) -> Option<i64> {
        let extent = self.extent(i).known()?;
        let total = (output.max(1) - 1) * self.strides[i] + extent - input;
        Some(match self.auto {
            AutoPad::SameUpper => total.max(0) / 2,
            AutoPad::SameLower => total.max(0) - total.max(0) / 2,
            AutoPad::Explicit | AutoPad::Valid => self.pads[i].0,
        })
    }

    /// Size that a transposed window spreads each axis to; `extra` is `output_padding`.
    pub fn spread(&self, input: &[Dim], extra: &[i64]) -> Result<Vec<Dim>, InferError> {
        if input.len() != self.kernel.len() || extra.len() != input.len() {
            return Err("kernel and input differ in their number of spatial axes".into());
        }
        let along = |(i, d): (usize, &Dim)| {
            let stride = Dim::Known(self.strides[i]);
            if self.auto.is_same() {
                return d * &stride;
            }
            let moved = &(d - &Dim::Known(1)) * &stride;
            let cut = self.pads[i].0.saturating_add(self.pads[i].1).saturating_sub(extra[i]);
            &(&moved + &self.extent(i)) - &Dim::Known(cut)
        };
        Ok(input.iter().enumerate().map(along).collect())
    }
}

/// An attribute that holds `len` integers, `default` each when it is absent.
pub(crate) fn list(op: &Op, name: &str, len: usize, default: i64) -> Result<Vec<i64>, InferError> {
    match op.ints(name) {
        None => Ok(vec![default; len]),
        Some([]) => Ok(vec![default; len]),
        Some(v) if v.len() == len => Ok(v.to_vec()),
        Some(v) => Err(format!("{name} has {} entries instead of {len}", v.len()).into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::Atom;

    fn window(kernel: i64, stride: i64, pads: [i64; 2], ceil: i64) -> Window {
        let op = Op::new("MaxPool")
            .with("strides", vec![stride])
            .with("pads", pads.to_vec())
            .with("ceil_mode", ceil);
        Window::of(&op, vec![Dim::Known(kernel)]).expect("window")
    }

    #[test]
    fn known_and_symbolic_sizes() {
        let w = window(3, 2, [1, 1], 0);
        assert_eq!(w.positions(&[Dim::Known(224)]), Ok(vec![Dim::Known(112)]));
        let h = Dim::symbol("H");
        let out = w.positions(std::slice::from_ref(&h)).expect("fits");
        let bound = out[0].substitute(&|a| matches!(a, Atom::Name(_)).then_some(Dim::Known(224)));
        assert_eq!(bound, Dim::Known(112));
        let same = window(3, 1, [1, 1], 0).positions(std::slice::from_ref(&h)).expect("fits");
        assert_eq!(same, vec![h]);
    }

    #[test]
    fn ceil_mode_drops_windows_in_the_padding() {
        assert_eq!(window(3, 2, [0, 0], 1).positions(&[Dim::Known(4)]), Ok(vec![Dim::Known(2)]));
        assert_eq!(window(1, 2, [0, 1], 1).positions(&[Dim::Known(2)]), Ok(vec![Dim::Known(1)]));
    }

    #[test]
    fn a_window_larger_than_its_input_is_an_error() {
        assert!(window(5, 1, [0, 0], 0).positions(&[Dim::Known(4)]).is_err());
    }
}
