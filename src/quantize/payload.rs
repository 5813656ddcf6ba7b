//! The 8-bit types of static quantization: INT8 and FP8 E4M3.

use serde::{Deserialize, Serialize};

use crate::ir::layout::Layout;
use crate::ir::{DType, Tensor, e4m3};

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

    /// The bytes that stand for finite elements divided by the scales of their channels: rounded to
    /// nearest even and limited to the largest code.
    pub(super) fn encode(self, data: &[f32], layout: Layout, scales: &[f32]) -> Vec<u8> {
        match self {
            Payload::Int8 => bytemuck::cast_vec(layout.codes(data, scales, self.largest())),
            Payload::Fp8 => {
                let code = |(i, x): (usize, &f32)| e4m3::encode(x / scales[layout.channel(i)]);
                data.iter().enumerate().map(code).collect()
            }
        }
    }

    /// What the byte stands for.
    pub fn decode(self, code: u8) -> f32 {
        match self {
            Payload::Int8 => f32::from(code.cast_signed()),
            Payload::Fp8 => e4m3::decode(code),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn int8_is_symmetric() {
        let codes = Payload::Int8.encode(&[-130.0], Layout::new(&[1], None), &[1.0]);
        assert_eq!(Payload::Int8.decode(codes[0]), -127.0);
    }
}
