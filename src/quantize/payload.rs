//! The 8-bit types of static quantization: INT8 and FP8 E4M3.

use serde::{Deserialize, Serialize};

use crate::ir::{DType, Tensor};

/// What activations and weights are quantized to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Payload {
    /// INT8, symmetric: `scale = amax / 127`.
    #[default]
    Int8,
    /// FP8 E4M3 (finite, no infinities): `scale = amax / 448`. Needs operator set 19 and, on TensorRT, a
    /// GPU of compute capability 8.9.
    Fp8,
}

impl Payload {
    /// The element type.
    pub fn dtype(self) -> DType {
        match self {
            Payload::Int8 => DType::I8,
            Payload::Fp8 => DType::F8E4M3FN,
        }
    }

    /// The largest code.
    pub fn largest(self) -> f32 {
        match self {
            Payload::Int8 => 127.0,
            Payload::Fp8 => 448.0,
        }
    }

    /// Oldest operator set with the type along an axis.
    pub fn min_opset(self) -> i64 {
        match self {
            Payload::Int8 => 13,
            Payload::Fp8 => 19,
        }
    }

    /// A tensor of these codes, a byte each.
    ///
    /// # Panics
    /// When the dims do not hold as many: a bug of the caller.
    pub fn tensor(self, dims: Vec<usize>, codes: Vec<u8>) -> Tensor {
        Tensor::new(self.dtype(), dims, codes.into()).expect("invariant: codes fill the dims")
    }

    /// The byte that stands for `x`, already divided by the scale: rounded to nearest even and limited
    /// to the largest code.
    pub fn encode(self, x: f32) -> u8 {
        match self {
            Payload::Int8 => (x.round_ties_even().clamp(-127.0, 127.0) as i8).cast_unsigned(),
            Payload::Fp8 => encode_e4m3(x),
        }
    }

    /// What the byte stands for.
    pub fn decode(self, code: u8) -> f32 {
        match self {
            Payload::Int8 => f32::from(code.cast_signed()),
            Payload::Fp8 => decode_e4m3(code),
        }
    }
}

/// Float32 to E4M3FN (Micikevicius et al., "FP8 formats for deep learning", 2022), saturating; NaN becomes
/// NaN.
fn encode_e4m3(x: f32) -> u8 {
    let sign = if x.is_sign_negative() { 0x80 } else { 0 };
    let magnitude = x.abs();
    if x.is_nan() {
        return 0x7f | sign;
    }
    if magnitude < 0.015_625 {
        // Subnormal: multiples of 2^-9; eight of them are the first normal number.
        return sign | (magnitude * 512.0).round_ties_even() as u8;
    }
    let bits = magnitude.to_bits();
    let rounded = u64::from(bits) + 0x7_ffff + u64::from(bits >> 20 & 1);
    let code = (rounded >> 20).saturating_sub((127 - 7) << 3);
    sign | code.min(0x7e) as u8
}

fn decode_e4m3(code: u8) -> f32 {
    let (exponent, mantissa) = (code >> 3 & 15, f32::from(code & 7));
    let magnitude = match exponent {
        0 => mantissa / 512.0,
        15 if code & 7 == 7 => f32::NAN,
        e => (1.0 + mantissa / 8.0) * f32::from(e).exp2() / 128.0,
    };
    if code & 0x80 == 0 { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_e4m3_number_survives() {
        for code in 0..=255u8 {
            let x = decode_e4m3(code);
            if !x.is_nan() {
                assert_eq!(encode_e4m3(x), code, "{x}");
            }
        }
        assert_eq!(decode_e4m3(0x7e), 448.0);
        assert_eq!(decode_e4m3(0x08), 0.015625);
    }

    #[test]
    fn rounding_is_to_nearest_even_and_saturates() {
        for (x, want) in [
            (17.0, 16.0),
            (19.0, 20.0),
            (1e6, 448.0),
            (-465.0, -448.0),
            (0.0009765625, 0.0),
            (0.0029296875, 0.00390625),
            (0.0155, 0.015625),
            (f32::INFINITY, 448.0),
        ] {
            assert_eq!(decode_e4m3(encode_e4m3(x)), want, "{x}");
        }
        assert!(decode_e4m3(encode_e4m3(f32::NAN)).is_nan());
        assert_eq!(Payload::Int8.decode(Payload::Int8.encode(-130.0)), -127.0);
    }
}
