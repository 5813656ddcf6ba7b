//! Tensor data as cheap handles: a clone never copies elements.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use multiversion::multiversion;
use rayon::prelude::*;

use super::{DType, Spelling, buffer};

/// Names and notes that a stored tensor carries besides its elements.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct TensorInfo {
    /// `TensorProto.name` of a tensor inside an attribute; initializers are named by their value.
    pub name: String,
    /// `TensorProto.doc_string`.
    pub doc: String,
    /// `TensorProto.metadata_props`.
    pub metadata: Vec<(String, String)>,
    /// The elements came from typed fields (`float_data`, …) and go back into them.
    pub typed: bool,
    /// How the file writes it.
    pub spelling: Spelling,
}

/// A constant tensor: element type, dims and the elements.
#[derive(Clone, Debug, PartialEq)]
pub struct Tensor {
    pub(super) dtype: DType,
    pub(super) dims: Vec<usize>,
    pub(super) data: TensorData,
    /// What else the file said about it.
    pub info: Option<Arc<TensorInfo>>,
}

/// The elements of a [`Tensor`].
#[derive(Clone, Debug, PartialEq)]
pub enum TensorData {
    /// Little-endian elements, row-major; types below 8 bits packed, first element in the low bits.
    /// The bytes need not be aligned.
    Raw(Bytes),
    /// Strings, as the bytes the file holds.
    Strings(Arc<[Bytes]>),
    /// Coordinate-format sparse tensor: values, and their indices `[nnz]` or `[nnz, rank]`.
    Sparse(Arc<(Tensor, Tensor)>),
}

/// Why tensor parts do not make a tensor.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum TensorError {
    /// The data does not hold what the dims promise.
    #[error("{dtype} tensor of dims {dims:?} needs {want} bytes but holds {got}")]
    Length {
        /// Element type.
        dtype: DType,
        /// Dims.
        dims: Vec<usize>,
        /// Bytes needed.
        want: usize,
        /// Bytes found.
        got: usize,
    },
    /// The element count does not fit the address space.
    #[error("tensor of dims {0:?} is too large")]
    TooLarge(Vec<usize>),
    /// Strings were given as raw bytes, or numbers as strings.
    #[error("{0} elements cannot be stored this way")]
    Kind(DType),
}

/// Product of dims; `None` on overflow.
pub fn element_count(dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(1usize, |n, &d| n.checked_mul(d))
}

impl Tensor {
    /// A tensor over raw little-endian bytes.
    ///
    /// # Errors
    /// When `data` is not exactly as long as `dtype` and `dims` need.
    pub fn new(dtype: DType, dims: Vec<usize>, data: Bytes) -> Result<Tensor, TensorError> {
        if dtype == DType::Str {
            return Err(TensorError::Kind(dtype));
        }
        match element_count(&dims).and_then(|n| dtype.byte_len(n)) {
            None => Err(TensorError::TooLarge(dims)),
            Some(want) if want != data.len() => {
                Err(TensorError::Length { dtype, dims, want, got: data.len() })
            }
            Some(_) => Ok(Tensor { dtype, dims, data: TensorData::Raw(data), info: None }),
        }
    }

    /// A tensor of strings.
    ///
    /// # Errors
    /// When the number of strings is not the product of `dims`.
    pub fn strings(dims: Vec<usize>, data: Vec<Bytes>) -> Result<Tensor, TensorError> {
        match element_count(&dims) {
            None => Err(TensorError::TooLarge(dims)),
            Some(want) if want != data.len() => {
                Err(TensorError::Length { dtype: DType::Str, dims, want, got: data.len() })
            }
            Some(_) => Ok(Tensor {
                dtype: DType::Str,
                dims,
                data: TensorData::Strings(data.into()),
                info: None,
            }),
        }
    }

    /// A tensor of plain numbers.
    ///
    /// # Panics
    /// When `data` is not as long as `dims` say: a bug of the caller.
    pub fn of<T: Element>(dims: &[usize], data: &[T]) -> Tensor {
        assert_eq!(element_count(dims), Some(data.len()), "invariant: data fills the dims");
        let bytes = Bytes::copy_from_slice(bytemuck::cast_slice(data));
        Tensor { dtype: T::DTYPE, dims: dims.to_vec(), data: TensorData::Raw(bytes), info: None }
    }

    /// A tensor of plain numbers, all zero until `fill` has written them; for large ones that are
    /// made once and stay.
    pub fn build<T: Element>(dims: &[usize], fill: impl FnOnce(&mut [T])) -> Option<Tensor> {
        let len = element_count(dims)?;
        let mut fill = Some(fill);
        let mut write = |out: &mut [T]| fill.take().map_or((), |f| f(out));
        let bytes = buffer::filled(T::DTYPE.byte_len(len)?, |b| {
            write(bytemuck::cast_slice_mut(b));
        });
        Some(match bytes {
            Some(b) => Tensor {
                dtype: T::DTYPE,
                dims: dims.to_vec(),
                data: TensorData::Raw(b),
                info: None,
            },
            None => {
                let mut elements = vec![T::zeroed(); len];
                write(&mut elements);
                Tensor::of(dims, &elements)
            }
        })
    }

    /// A rank-0 tensor.
    pub fn scalar<T: Element>(value: T) -> Tensor {
        Tensor::of(&[], &[value])
    }

    /// A rank-1 tensor.
    pub fn vector<T: Element>(data: &[T]) -> Tensor {
        Tensor::of(&[data.len()], data)
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Sizes of the axes.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    /// Number of elements.
    pub fn len(&self) -> usize {
        element_count(&self.dims).unwrap_or(usize::MAX)
    }

    /// No elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How the elements are held.
    pub fn data(&self) -> &TensorData {
        &self.data
    }

    /// Bytes that the elements take in memory or in a file.
    pub fn byte_len(&self) -> usize {
        match &self.data {
            TensorData::Raw(b) => b.len(),
            TensorData::Strings(s) => s.iter().map(Bytes::len).sum(),
            TensorData::Sparse(s) => s.0.byte_len() + s.1.byte_len(),
        }
    }

    /// The raw bytes of a dense numeric tensor.
    pub fn raw(&self) -> Option<&Bytes> {
        match &self.data {
            TensorData::Raw(b) => Some(b),
            _ => None,
        }
    }

    /// The elements, when they are dense and of exactly type `T`.
    pub fn to_vec<T: Element>(&self) -> Option<Vec<T>> {
        let raw = self.raw().filter(|_| self.dtype == T::DTYPE)?;
        Some(raw.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect())
    }

    /// The elements as integers, for integer and bool tensors; `None` when one does not fit.
    pub fn to_i64(&self) -> Option<Vec<i64>> {
        fn wide<T: Element + TryInto<i64>>(t: &Tensor) -> Option<Vec<i64>> {
            t.to_vec::<T>()?.into_iter().map(|v| v.try_into().ok()).collect()
        }
        match self.dtype {
            DType::I64 => self.to_vec::<i64>(),
            DType::I32 => wide::<i32>(self),
            DType::I16 => wide::<i16>(self),
            DType::I8 => wide::<i8>(self),
            DType::U64 => wide::<u64>(self),
            DType::U32 => wide::<u32>(self),
            DType::U16 => wide::<u16>(self),
            DType::U8 => wide::<u8>(self),
            DType::Bool => Some(self.raw()?.iter().map(|&b| i64::from(b != 0)).collect()),
            DType::U4 | DType::I4 | DType::U2 | DType::I2 => self.to_small_ints(),
            _ => None,
        }
    }

    fn to_small_ints(&self) -> Option<Vec<i64>> {
        let (raw, bits) = (self.raw()?, self.dtype.bits());
        let signed = matches!(self.dtype, DType::I4 | DType::I2);
        let per_byte = 8 / bits;
        Some(
            (0..self.len())
                .map(|i| {
                    let code = (raw[i / per_byte] >> (i % per_byte * bits)) & ((1 << bits) - 1);
                    let code = i64::from(code);
                    if signed && code >= 1 << (bits - 1) { code - (1 << bits) } else { code }
                })
                .collect(),
        )
    }

    /// The elements as `f32`, for the float types of 16 to 64 bits.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        match self.dtype {
            DType::F32 => self.to_vec::<f32>(),
            DType::F64 => Some(self.to_vec::<f64>()?.into_iter().map(|v| v as f32).collect()),
            DType::F16 => {
                let bits = self.raw()?.chunks_exact(2).map(bytemuck::pod_read_unaligned::<u16>);
                Some(bits.map(|b| half::f16::from_bits(b).to_f32()).collect())
            }
            DType::BF16 => {
                let bits = self.raw()?.chunks_exact(2).map(bytemuck::pod_read_unaligned::<u16>);
                Some(bits.map(|b| half::bf16::from_bits(b).to_f32()).collect())
            }
            _ => None,
        }
    }

    /// As [`Tensor::to_f32`], without a copy where the elements lie in memory as they are.
    pub fn as_f32(&self) -> Option<Cow<'_, [f32]>> {
        if self.dtype == DType::F32
            && let Ok(data) = bytemuck::try_cast_slice(self.raw()?)
        {
            return Some(Cow::Borrowed(data));
        }
        self.to_f32().map(Cow::Owned)
    }

    /// Whether it holds `f32`, all of them finite.
    pub fn is_finite_f32(&self) -> bool {
        self.dtype == DType::F32 && self.raw().is_some_and(|raw| all_finite(raw.as_chunks().0))
    }

    /// The elements as `f64`: float types of 16 to 64 bits, integers and bool.
    pub fn to_f64(&self) -> Option<Vec<f64>> {
        match self.dtype {
            DType::F64 => self.to_vec::<f64>(),
            _ if self.dtype.is_float() => Some(self.to_f32()?.into_iter().map(f64::from).collect()),
            _ => Some(self.to_i64()?.into_iter().map(|v| v as f64).collect()),
        }
    }

    /// A tensor of float type `dtype` (16 to 64 bits), each value rounded to nearest even.
    ///
    /// # Panics
    /// When `data` is not as long as `dims` say: a bug of the caller.
    pub fn from_f32(dtype: DType, dims: &[usize], data: &[f32]) -> Option<Tensor> {
        let bits16 = |code: fn(f32) -> u16| -> Bytes {
            data.iter().flat_map(|&v| code(v).to_le_bytes()).collect::<Vec<u8>>().into()
        };
        let bytes = match dtype {
            DType::F32 => return Some(Tensor::of(dims, data)),
            DType::F64 => {
                let wide: Vec<f64> = data.iter().map(|&v| f64::from(v)).collect();
                return Some(Tensor::of(dims, &wide));
            }
            DType::F16 => bits16(|v| half::f16::from_f32(v).to_bits()),
            DType::BF16 => bits16(|v| half::bf16::from_f32(v).to_bits()),
            _ => return None,
        };
        Some(Tensor::new(dtype, dims.to_vec(), bytes).expect("invariant: data fills the dims"))
    }

    /// The only element of a one-element numeric tensor.
    pub fn single(&self) -> Option<f64> {
        if self.len() != 1 {
            return None;
        }
        self.to_f64().map(|v| v[0])
    }

    /// Both are handles on the same bytes, read the same way; cheap, and false does not mean that
    /// the elements differ.
    pub fn same_storage(&self, other: &Tensor) -> bool {
        self.dtype == other.dtype
            && self.dims == other.dims
            && match (&self.data, &other.data) {
                (TensorData::Raw(a), TensorData::Raw(b)) => {
                    a.as_ptr() == b.as_ptr() && a.len() == b.len()
                }
                (TensorData::Strings(a), TensorData::Strings(b)) => Arc::ptr_eq(a, b),
                (TensorData::Sparse(a), TensorData::Sparse(b)) => Arc::ptr_eq(a, b),
                _ => false,
            }
    }

    /// The same elements under other dims of the same element count.
    pub fn reshaped(&self, dims: Vec<usize>) -> Option<Tensor> {
        if element_count(&dims) != Some(self.len()) {
            return None;
        }
        match &self.data {
            TensorData::Sparse(_) => None,
            _ => Some(Tensor { dims, ..self.clone() }),
        }
    }
}

/// A Rust number that is an ONNX element as it is.
pub trait Element: bytemuck::Pod {
    /// Its element type.
    const DTYPE: DType;
}

macro_rules! elements {
    ($($t:ty => $d:ident),* $(,)?) => {
        $(impl Element for $t { const DTYPE: DType = DType::$d; })*
    };
}
elements!(f32 => F32, f64 => F64, i8 => I8, i16 => I16, i32 => I32, i64 => I64,
    u8 => U8, u16 => U16, u32 => U32, u64 => U64);

/// Whether little-endian float32 numbers are all finite, on all cores where that pays.
pub(crate) fn all_finite(elements: &[[u8; 4]]) -> bool {
    /// So many elements are worth a task of their own.
    const TASK: usize = 1 << 16;
    match elements.len() <= TASK {
        true => are_finite(elements),
        false => elements.par_chunks(TASK).all(are_finite),
    }
}

#[multiversion(targets = "simd")]
fn are_finite(elements: &[[u8; 4]]) -> bool {
    // An exponent of ones is NaN or infinity; without a way out, one instruction does several.
    const EXPONENT: u32 = 0x7f80_0000;
    let mut infinite = 0;
    for element in elements {
        infinite |= u32::from(u32::from_le_bytes(*element) & EXPONENT == EXPONENT);
    }
    infinite == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn length_is_checked() {
        assert!(Tensor::new(DType::F32, vec![2, 2], Bytes::from(vec![0; 16])).is_ok());
        assert!(Tensor::new(DType::F32, vec![2, 2], Bytes::from(vec![0; 15])).is_err());
        assert!(Tensor::new(DType::I4, vec![3], Bytes::from(vec![0; 2])).is_ok());
        assert_eq!(
            Tensor::new(DType::U8, vec![usize::MAX, 2], Bytes::new()),
            Err(TensorError::TooLarge(vec![usize::MAX, 2]))
        );
    }

    #[test]
    fn small_integers_unpack_low_bits_first() {
        let t = Tensor::new(DType::I4, vec![3], Bytes::from(vec![0xf1, 0x08])).expect("length");
        assert_eq!(t.to_i64(), Some(vec![1, -1, -8]));
        let t = Tensor::new(DType::U2, vec![4], Bytes::from(vec![0b11_10_01_00])).expect("length");
        assert_eq!(t.to_i64(), Some(vec![0, 1, 2, 3]));
    }

    #[test]
    fn finite_float32_is_told_from_the_rest() {
        for (x, want) in [(0.0, true), (f32::MAX, true), (f32::NAN, false), (-f32::INFINITY, false)]
        {
            assert_eq!(Tensor::vector(&[1.0, x, 1.0]).is_finite_f32(), want, "{x}");
        }
        assert!(!Tensor::vector(&[1.0f64]).is_finite_f32());
    }
}
