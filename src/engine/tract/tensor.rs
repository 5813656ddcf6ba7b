//! Tensors to and from tract.

use bytes::Bytes;
use std::sync::Arc;

use tract_onnx::prelude::{DatumType, IntoArcTensor, TValue, Tensor as TractTensor, tensor1};

use crate::ir::{DType, Tensor, TensorData};

/// tract's name for an element type; `None` for those it lacks.
pub(super) fn datum_type(dtype: DType) -> Option<DatumType> {
    Some(match dtype {
        DType::F32 => DatumType::F32,
        DType::F64 => DatumType::F64,
        DType::F16 => DatumType::F16,
        DType::U8 => DatumType::U8,
        DType::U16 => DatumType::U16,
        DType::U32 => DatumType::U32,
        DType::U64 => DatumType::U64,
        DType::I8 => DatumType::I8,
        DType::I16 => DatumType::I16,
        DType::I32 => DatumType::I32,
        DType::I64 => DatumType::I64,
        DType::Bool => DatumType::Bool,
        DType::Str => DatumType::String,
        _ => return None,
    })
}

fn dtype(datum: DatumType) -> Option<DType> {
    let datum = datum.unquantized();
    DType::all().find(|d| datum_type(*d) == Some(datum))
}

/// Copies a tensor for tract, aligned; the error says what stands in the way.
pub(super) fn to_tract(t: &Tensor) -> Result<TractTensor, String> {
    let lacking = || format!("tract does not know {} tensors", t.dtype());
    let datum = datum_type(t.dtype()).ok_or_else(lacking)?;
    match t.data() {
        TensorData::Raw(raw) => {
            // Most bytes of most models: copied without clearing the place first.
            if let (DType::F32, Ok(data)) = (t.dtype(), bytemuck::try_cast_slice::<u8, f32>(raw)) {
                return TractTensor::from_shape(t.dims(), data).map_err(|e| format!("{e:#}"));
            }
            let mut out = TractTensor::zero_dt(datum, t.dims()).map_err(|e| format!("{e:#}"))?;
            let bytes = out.as_bytes_mut();
            if bytes.len() != raw.len() {
                return Err(format!("{} bytes where tract wants {}", raw.len(), bytes.len()));
            }
            match t.dtype() {
                // Rust knows two bytes as `bool`; files may hold others.
                DType::Bool => {
                    bytes.iter_mut().zip(raw).for_each(|(to, from)| *to = u8::from(*from != 0))
                }
                _ => bytes.copy_from_slice(raw),
            }
            Ok(out)
        }
        TensorData::Strings(s) => {
            let text: Result<Vec<String>, _> =
                s.iter().map(|b| String::from_utf8(b.to_vec())).collect();
            let text = text.map_err(|_| "a string that is not UTF-8".to_owned())?;
            tensor1(&text).into_shape(t.dims()).map_err(|e| format!("{e:#}"))
        }
        TensorData::Sparse(_) => Err("tract does not know sparse tensors".to_owned()),
    }
}

/// Takes a result over from tract, which it keeps alive; symbolic dims come out as `int64`.
pub(super) fn from_tract(t: TValue) -> Result<Tensor, String> {
    if t.datum_type() == DatumType::TDim {
        let ints = t.cast_to::<i64>().map_err(|e| format!("{e:#}"))?;
        return plain(Arc::new(ints.into_owned()));
    }
    plain(t.into_arc_tensor())
}

/// The bytes of a tensor that tract made.
struct Owner(Arc<TractTensor>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

fn plain(t: Arc<TractTensor>) -> Result<Tensor, String> {
    let out = || format!("tract made a tensor of type {:?}", t.datum_type());
    let dtype = dtype(t.datum_type()).ok_or_else(out)?;
    let dims = t.shape().to_vec();
    if dtype == DType::Str {
        let view = t.to_plain_array_view::<String>().map_err(|e| format!("{e:#}"))?;
        let strings = view.iter().map(|s| Bytes::copy_from_slice(s.as_bytes())).collect();
        return Tensor::strings(dims, strings).map_err(|e| e.to_string());
    }
    if !t.is_plain_ram() {
        return Err(out());
    }
    Tensor::new(dtype, dims, Bytes::from_owner(Owner(t))).map_err(|e| e.to_string())
}
