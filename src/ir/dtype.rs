//! Element types of tensors.

/// An ONNX element type; the discriminant is `TensorProto.DataType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(i32)]
#[allow(missing_docs)]
pub enum DType {
    F32 = 1,
    U8 = 2,
    I8 = 3,
    U16 = 4,
    I16 = 5,
    I32 = 6,
    I64 = 7,
    Str = 8,
    Bool = 9,
    F16 = 10,
    F64 = 11,
    U32 = 12,
    U64 = 13,
    C64 = 14,
    C128 = 15,
    BF16 = 16,
    F8E4M3FN = 17,
    F8E4M3FNUZ = 18,
    F8E5M2 = 19,
    F8E5M2FNUZ = 20,
    U4 = 21,
    I4 = 22,
    F4E2M1 = 23,
    F8E8M0 = 24,
    U2 = 25,
    I2 = 26,
    F6E2M3 = 27,
    F6E3M2 = 28,
}

/// Every type with its name in ONNX's textual syntax and its width in bits (0 for strings).
const TABLE: [(DType, &str, usize); 28] = [
    (DType::F32, "float", 32),
    (DType::U8, "uint8", 8),
    (DType::I8, "int8", 8),
    (DType::U16, "uint16", 16),
    (DType::I16, "int16", 16),
    (DType::I32, "int32", 32),
    (DType::I64, "int64", 64),
    (DType::Str, "string", 0),
    (DType::Bool, "bool", 8),
    (DType::F16, "float16", 16),
    (DType::F64, "double", 64),
    (DType::U32, "uint32", 32),
    (DType::U64, "uint64", 64),
    (DType::C64, "complex64", 64),
    (DType::C128, "complex128", 128),
    (DType::BF16, "bfloat16", 16),
    (DType::F8E4M3FN, "float8e4m3fn", 8),
    (DType::F8E4M3FNUZ, "float8e4m3fnuz", 8),
    (DType::F8E5M2, "float8e5m2", 8),
    (DType::F8E5M2FNUZ, "float8e5m2fnuz", 8),
    (DType::U4, "uint4", 4),
    (DType::I4, "int4", 4),
    (DType::F4E2M1, "float4e2m1", 4),
    (DType::F8E8M0, "float8e8m0", 8),
    (DType::U2, "uint2", 2),
    (DType::I2, "int2", 2),
    (DType::F6E2M3, "float6e2m3", 6),
    (DType::F6E3M2, "float6e3m2", 6),
];

impl DType {
    /// All element types, in the order of their codes.
    pub fn all() -> impl Iterator<Item = DType> {
        TABLE.iter().map(|row| row.0)
    }

    /// The type with this `TensorProto.DataType` code.
    pub fn from_code(code: i32) -> Option<DType> {
        usize::try_from(code).ok()?.checked_sub(1).and_then(|i| TABLE.get(i)).map(|row| row.0)
    }

    /// The `TensorProto.DataType` code.
    pub fn code(self) -> i32 {
        self as i32
    }

    /// The name in ONNX's textual syntax: `float`, `int64`, …
    pub fn name(self) -> &'static str {
        TABLE[self as usize - 1].1
    }

    /// The type with this name in ONNX's textual syntax.
    pub fn from_name(name: &str) -> Option<DType> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// Width of one element in bits; 0 for strings.
    pub fn bits(self) -> usize {
        TABLE[self as usize - 1].2
    }

    /// Bytes that `count` elements take as raw data, packed; `None` for strings and on overflow.
    pub fn byte_len(self, count: usize) -> Option<usize> {
        match self.bits() {
            0 => None,
            bits => Some(count.checked_mul(bits)?.div_ceil(8)),
        }
    }

    /// A real floating-point type, of any width.
    pub fn is_float(self) -> bool {
        use DType::*;
        matches!(self, F32 | F16 | F64 | BF16) || self.is_small_float()
    }

    /// A floating-point type of at most 8 bits.
    pub fn is_small_float(self) -> bool {
        use DType::*;
        matches!(
            self,
            F8E4M3FN | F8E4M3FNUZ | F8E5M2 | F8E5M2FNUZ | F4E2M1 | F8E8M0 | F6E2M3 | F6E3M2
        )
    }

    /// A signed or unsigned integer type (not bool).
    pub fn is_int(self) -> bool {
        use DType::*;
        matches!(self, U8 | I8 | U16 | I16 | I32 | I64 | U32 | U64 | U4 | I4 | U2 | I2)
    }
}

impl std::fmt::Display for DType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table_rows_stand_at_their_codes() {
        for (i, dt) in DType::all().enumerate() {
            assert_eq!(dt.code() as usize, i + 1);
            assert_eq!(DType::from_code(dt.code()), Some(dt));
            assert_eq!(DType::from_name(dt.name()), Some(dt));
        }
        assert_eq!(DType::from_code(0), None);
        assert_eq!(DType::from_code(99), None);
    }
}
