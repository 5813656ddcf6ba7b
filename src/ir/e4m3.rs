//! FP8 E4M3 with no infinities.

/// Float32 to E4M3FN (Micikevicius et al., "FP8 formats for deep learning", 2022), saturating; NaN becomes
/// NaN.
pub(crate) fn encode(x: f32) -> u8 {
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

/// What the byte stands for.
pub(crate) fn decode(code: u8) -> f32 {
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
            let x = decode(code);
            if !x.is_nan() {
                assert_eq!(encode(x), code, "{x}");
            }
        }
        assert_eq!(decode(0x7e), 448.0);
        assert_eq!(decode(0x08), 0.015625);
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
            assert_eq!(decode(encode(x)), want, "{x}");
        }
        assert!(decode(encode(f32::NAN)).is_nan());
    }
}
