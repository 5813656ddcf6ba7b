//! Arithmetic on single elements of every numeric type.

use crate::ir::Element;

/// An elementwise operator of two operands that stay in their type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Binary {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    /// Remainder with the sign of the divisor.
    Mod,
    /// Remainder with the sign of the dividend.
    Fmod,
    Min,
    Max,
    And,
    Or,
    Xor,
    ShiftLeft,
    ShiftRight,
}

/// An elementwise operator of one operand that stays in its type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Unary {
    Abs,
    Neg,
    Sign,
    Floor,
    Ceil,
    Round,
    Sqrt,
    Reciprocal,
    Relu,
    BitwiseNot,
}

/// An element that kernels compute with. Operators answer `None` where the type has no such
/// operation or the result is not defined.
pub(super) trait Number: Element + PartialOrd {
    fn binary(op: Binary, a: Self, b: Self) -> Option<Self>;
    fn unary(op: Unary, a: Self) -> Option<Self>;
}

macro_rules! integers {
    ($($t:ty, $signed:literal);* $(;)?) => {$(
        impl Number for $t {
            fn binary(op: Binary, a: Self, b: Self) -> Option<Self> {
                Some(match op {
                    Binary::Add => a.wrapping_add(b),
                    Binary::Sub => a.wrapping_sub(b),
                    Binary::Mul => a.wrapping_mul(b),
                    Binary::Div => a.checked_div(b)?,
                    Binary::Pow => a.checked_pow(u32::try_from(b).ok()?)?,
                    Binary::Mod => {
                        let r = a.checked_rem(b)?;
                        #[allow(unused_comparisons)]
                        let fix = r != 0 && ((r < 0) != (b < 0));
                        if fix { r.wrapping_add(b) } else { r }
                    }
                    Binary::Fmod => a.checked_rem(b)?,
                    Binary::Min => a.min(b),
                    Binary::Max => a.max(b),
                    Binary::And => a & b,
                    Binary::Or => a | b,
                    Binary::Xor => a ^ b,
                    Binary::ShiftLeft => a.checked_shl(u32::try_from(b).ok()?)?,
                    Binary::ShiftRight => a.checked_shr(u32::try_from(b).ok()?)?,
                })
            }

            #[allow(unused_comparisons)]
            fn unary(op: Unary, a: Self) -> Option<Self> {
                let zero: $t = 0;
                Some(match op {
                    Unary::Abs => if a < 0 { zero.wrapping_sub(a) } else { a },
                    Unary::Neg if $signed => zero.wrapping_sub(a),
                    Unary::Sign => if a > 0 { 1 } else if a < 0 { zero.wrapping_sub(1) } else { 0 },
                    Unary::Relu => if a < 0 { 0 } else { a },
                    Unary::BitwiseNot => !a,
                    _ => return None,
                })
            }
        }
    )*};
}
integers!(i8, true; i16, true; i32, true; i64, true; u8, false; u16, false; u32, false; u64, false);

macro_rules! floats {
    ($($t:ty),*) => {$(
        impl Number for $t {
            fn binary(op: Binary, a: Self, b: Self) -> Option<Self> {
                let nan = a.is_nan() || b.is_nan();
                Some(match op {
                    Binary::Add => a + b,
                    Binary::Sub => a - b,
                    Binary::Mul => a * b,
                    Binary::Div => a / b,
                    Binary::Fmod => a % b,
                    Binary::Min | Binary::Max if nan => Self::NAN,
                    Binary::Min => if b < a { b } else { a },
                    Binary::Max => if b > a { b } else { a },
                    Binary::Pow if b == 1.0 => a,
                    Binary::Pow if b == 2.0 => a * a,
                    _ => return None,
                })
            }

            fn unary(op: Unary, a: Self) -> Option<Self> {
                Some(match op {
                    Unary::Abs => a.abs(),
                    Unary::Neg => -a,
                    Unary::Sign if a == 0.0 || a.is_nan() => a,
                    Unary::Sign => a.signum(),
                    Unary::Floor => a.floor(),
                    Unary::Ceil => a.ceil(),
                    Unary::Round => a.round_ties_even(),
                    Unary::Sqrt => a.sqrt(),
                    Unary::Reciprocal => 1.0 / a,
                    Unary::Relu => if a < 0.0 { 0.0 } else { a },
                    Unary::BitwiseNot => return None,
                })
            }
        }
    )*};
}
floats!(f32, f64);

/// Calls `$f::<T>($args)` with the Rust type of `$dtype`; `None` for types that are not plain Rust
/// numbers.
macro_rules! with_number {
    ($dtype:expr, $f:ident($($arg:expr),* $(,)?)) => {
        match $dtype {
            $crate::ir::DType::F32 => $f::<f32>($($arg),*),
            $crate::ir::DType::F64 => $f::<f64>($($arg),*),
            $crate::ir::DType::I8 => $f::<i8>($($arg),*),
            $crate::ir::DType::I16 => $f::<i16>($($arg),*),
            $crate::ir::DType::I32 => $f::<i32>($($arg),*),
            $crate::ir::DType::I64 => $f::<i64>($($arg),*),
            $crate::ir::DType::U8 => $f::<u8>($($arg),*),
            $crate::ir::DType::U16 => $f::<u16>($($arg),*),
            $crate::ir::DType::U32 => $f::<u32>($($arg),*),
            $crate::ir::DType::U64 => $f::<u64>($($arg),*),
            _ => None,
        }
    };
}
pub(super) use with_number;
