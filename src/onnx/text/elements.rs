//! Elements of tensors.

use std::fmt::Write;

use super::super::pb;
use super::cursor::{Cursor, Literal, Parsed};
use super::print_value::quoted;
use crate::ir::{DType, Tensor, TensorData};

/// Reads elements up to `}` into `t` as raw data, or as strings; returns their number.
pub(super) fn parse(c: &mut Cursor, dtype: DType, t: &mut pb::TensorProto) -> Parsed<usize> {
    if dtype == DType::Str {
        t.string_data = c.list(b'}', |c| Ok(c.bytes()?.into()))?;
        return Ok(t.string_data.len());
    }
    let mut raw = Vec::new();
    let mut bits = BitWriter::default();
    let numbers = c.list(b'}', |c| {
        if c.eat_dots() {
            return c.fail("elements of this tensor are left out");
        }
        let literal = c.literal()?;
        match dtype.bits() {
            width @ 1..8 => bits.push(small(c, dtype, &literal)?, width),
            _ => wide(c, dtype, &literal, &mut raw)?,
        }
        Ok(())
    })?;
    raw.extend(bits.bytes);
    t.raw_data = Some(raw.into());
    let per_element = if matches!(dtype, DType::C64 | DType::C128) { 2 } else { 1 };
    match numbers.len() % per_element {
        0 => Ok(numbers.len() / per_element),
        _ => c.fail("a complex number lacks its imaginary part"),
    }
}

/// Packs narrow elements, the first in the low bits.
#[derive(Default)]
struct BitWriter {
    bytes: Vec<u8>,
    used: usize,
}

impl BitWriter {
    fn push(&mut self, code: u8, width: usize) {
        for i in 0..width {
            if self.used.is_multiple_of(8) {
                self.bytes.push(0);
            }
            if let Some(last) = self.bytes.last_mut() {
                *last |= (code >> i & 1) << (self.used % 8);
            }
            self.used += 1;
        }
    }
}

fn int<T: TryFrom<i128>>(c: &Cursor, dtype: DType, literal: &Literal) -> Parsed<T> {
    let Literal::Int(text) = literal else {
        return c.fail(format!("elements of type {dtype} are integers here"));
    };
    match text.parse::<i128>().ok().and_then(|v| T::try_from(v).ok()) {
        Some(v) => Ok(v),
        None => c.fail(format!("{text} does not fit {dtype}")),
    }
}

fn float<T: std::str::FromStr + Into<f64> + Copy>(c: &Cursor, literal: &Literal) -> Parsed<T> {
    match literal {
        Literal::Int(text) | Literal::Float(text) => c.float(text),
        Literal::Str(_) => c.fail("expected a number"),
    }
}

/// The code of an element below 8 bits.
fn small(c: &Cursor, dtype: DType, literal: &Literal) -> Parsed<u8> {
    let v: i64 = int(c, dtype, literal)?;
    let width = dtype.bits() as u32;
    let (low, high) = match dtype {
        DType::I4 | DType::I2 => (-(1 << (width - 1)), (1 << (width - 1)) - 1),
        _ => (0, (1 << width) - 1),
    };
    if !(low..=high).contains(&v) {
        return c.fail(format!("{v} does not fit {dtype}"));
    }
    Ok(v as u8 & ((1 << width) - 1))
}

fn wide(c: &Cursor, dtype: DType, literal: &Literal, out: &mut Vec<u8>) -> Parsed<()> {
    use DType::*;
    match (dtype, literal) {
        (F32 | C64, _) => out.extend(float::<f32>(c, literal)?.to_le_bytes()),
        (F64 | C128, _) => out.extend(float::<f64>(c, literal)?.to_le_bytes()),
        (F16, Literal::Float(text)) => {
            out.extend(half::f16::from_f32(c.float(text)?).to_le_bytes());
        }
        (BF16, Literal::Float(text)) => {
            out.extend(half::bf16::from_f32(c.float(text)?).to_le_bytes());
        }
        (I64, _) => out.extend(int::<i64>(c, dtype, literal)?.to_le_bytes()),
        (I32, _) => out.extend(int::<i32>(c, dtype, literal)?.to_le_bytes()),
        (I16, _) => out.extend(int::<i16>(c, dtype, literal)?.to_le_bytes()),
        (I8, _) => out.extend(int::<i8>(c, dtype, literal)?.to_le_bytes()),
        (U64, _) => out.extend(int::<u64>(c, dtype, literal)?.to_le_bytes()),
        (U32, _) => out.extend(int::<u32>(c, dtype, literal)?.to_le_bytes()),
        (U16 | F16 | BF16, _) => out.extend(int::<u16>(c, dtype, literal)?.to_le_bytes()),
        (Bool, _) => match int::<u8>(c, dtype, literal)? {
            v @ 0..=1 => out.push(v),
            v => return c.fail(format!("{v} is no bool; write 0 or 1")),
        },
        _ => out.push(int::<u8>(c, dtype, literal)?),
    }
    Ok(())
}

/// Writes the elements of a dense tensor in braces; at most `max` of them, then `...`.
pub(super) fn print(t: &Tensor, max: Option<usize>, out: &mut String) {
    use DType::*;
    fn numbers<const N: usize>(
        raw: &[u8],
        show: usize,
        out: &mut String,
        write: impl Fn([u8; N], &mut String),
    ) {
        for (i, chunk) in raw.chunks_exact(N).take(show).enumerate() {
            out.push_str(if i == 0 { "" } else { ", " });
            write(chunk.try_into().expect("invariant: chunks are of this size"), out);
        }
    }
    macro_rules! show {
        ($raw:expr, $n:expr, $out:expr, $t:ty) => {
            numbers($raw, $n, $out, |b, out| _ = write!(out, "{}", <$t>::from_le_bytes(b)))
        };
    }
    let show = max.unwrap_or(usize::MAX).min(t.len());
    out.push('{');
    match (t.data(), t.dtype()) {
        (TensorData::Strings(list), _) => {
            for (i, s) in list.iter().take(show).enumerate() {
                out.push_str(if i == 0 { "" } else { ", " });
                quoted(s, out);
            }
        }
        (TensorData::Raw(raw), dtype) => match dtype {
            F32 => numbers(raw, show, out, |b, out| float_text(f32::from_le_bytes(b), out)),
            F64 => numbers(raw, show, out, |b, out| float_text(f64::from_le_bytes(b), out)),
            C64 => numbers(raw, 2 * show, out, |b, out| float_text(f32::from_le_bytes(b), out)),
            C128 => numbers(raw, 2 * show, out, |b, out| float_text(f64::from_le_bytes(b), out)),
            I64 => show!(raw, show, out, i64),
            I32 => show!(raw, show, out, i32),
            I16 => show!(raw, show, out, i16),
            I8 => show!(raw, show, out, i8),
            U64 => show!(raw, show, out, u64),
            U32 => show!(raw, show, out, u32),
            U16 | F16 | BF16 => show!(raw, show, out, u16),
            U4 | I4 | U2 | I2 | F4E2M1 | F6E2M3 | F6E3M2 => {
                for i in 0..show {
                    let sep = if i == 0 { "" } else { ", " };
                    _ = write!(out, "{sep}{}", small_at(raw, dtype, i));
                }
            }
            _ => show!(raw, show, out, u8),
        },
        (TensorData::Sparse(_), _) => {}
    }
    if show < t.len() {
        out.push_str(if show == 0 { "..." } else { ", ..." });
    }
    out.push('}');
}

fn small_at(raw: &[u8], dtype: DType, i: usize) -> i32 {
    let width = dtype.bits();
    let code = (0..width).fold(0i32, |code, k| {
        let bit = i * width + k;
        code | i32::from(raw[bit / 8] >> (bit % 8) & 1) << k
    });
    match dtype {
        DType::I4 | DType::I2 if code >= 1 << (width - 1) => code - (1 << width),
        _ => code,
    }
}

/// The shortest text that reads back as the same number.
pub(super) fn float_text<T: Into<f64> + Copy + std::fmt::Debug>(v: T, out: &mut String) {
    let wide: f64 = v.into();
    if wide.is_nan() {
        out.push_str(if wide.is_sign_negative() { "-nan" } else { "nan" });
    } else {
        _ = write!(out, "{v:?}");
    }
}
