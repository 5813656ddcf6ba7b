//! `TensorProto` to and from [`Tensor`]: raw data, typed fields, external data, strings, sparse.

use std::sync::Arc;

use bytes::Bytes;

use super::external::ExternalFiles;
use super::pb::{self, tensor_proto::DataLocation};
use super::spelling::{self, blank};
use super::{LoadError, decode};
use crate::ir::{DType, Spelling, Tensor, TensorData, TensorInfo, element_count};

/// Reads a tensor; the elements stay slices of the file wherever the file holds them raw.
pub(super) fn read(t: &pb::TensorProto, files: &mut ExternalFiles) -> Result<Tensor, LoadError> {
    let name = || t.name().to_owned();
    let dtype = DType::from_code(t.data_type()).ok_or_else(|| LoadError::TensorField {
        name: name(),
        what: format!("unknown data type {}", t.data_type()),
    })?;
    let dims = sizes(&t.dims).ok_or_else(|| LoadError::TensorField {
        name: name(),
        what: format!("impossible dims {:?}", t.dims),
    })?;
    if t.segment.is_some() {
        let what = "segments, which ONNX never defined; re-export the model".to_owned();
        return Err(LoadError::TensorField { name: name(), what });
    }
    let (data, typed) = if t.data_location() == DataLocation::External {
        let want = element_count(&dims).and_then(|n| dtype.byte_len(n));
        (files.bytes(t, want)?, false)
    } else if let Some(raw) = &t.raw_data {
        (raw.clone(), false)
    } else if dtype == DType::Str {
        (Bytes::new(), true)
    } else {
        (typed_bytes(t, dtype), true)
    };
    let tensor = if dtype == DType::Str {
        Tensor::strings(dims, t.string_data.clone())
    } else {
        Tensor::new(dtype, dims, data)
    };
    let mut tensor = tensor.map_err(|why| LoadError::Tensor { name: name(), why })?;
    let info = TensorInfo {
        name: String::new(),
        doc: t.doc_string().to_owned(),
        metadata: decode::pairs(&t.metadata_props),
        typed: typed && dtype != DType::Str && !tensor.is_empty(),
        spelling: spelling_of(t).with(spelling::NO_DATA, typed && tensor.is_empty()),
    };
    if info != TensorInfo::default() {
        tensor.info = Some(Arc::new(info));
    }
    Ok(tensor)
}

fn spelling_of(t: &pb::TensorProto) -> Spelling {
    Spelling::default()
        .with(spelling::NAME, blank(&t.name))
        .with(spelling::DOC, blank(&t.doc_string))
        .with(spelling::LOCATION, t.data_location == Some(DataLocation::Default as i32))
}

/// Reads a tensor inside an attribute, which keeps its own name.
pub(super) fn read_named(
    t: &pb::TensorProto,
    files: &mut ExternalFiles,
) -> Result<Tensor, LoadError> {
    let mut tensor = read(t, files)?;
    if let Some(name) = t.name.clone().filter(|n| !n.is_empty()) {
        let info = tensor.info.as_deref().cloned().unwrap_or_default();
        tensor.info = Some(Arc::new(TensorInfo { name, ..info }));
    }
    Ok(tensor)
}

/// Reads a sparse tensor.
pub(super) fn read_sparse(
    t: &pb::SparseTensorProto,
    files: &mut ExternalFiles,
) -> Result<Tensor, LoadError> {
    let values = t.values.clone().unwrap_or_default();
    let indices = t.indices.clone().unwrap_or_default();
    let dims = sizes(&t.dims).ok_or_else(|| LoadError::TensorField {
        name: values.name().to_owned(),
        what: format!("impossible dims {:?}", t.dims),
    })?;
    Ok(Tensor::sparse(dims, read_named(&values, files)?, read_named(&indices, files)?))
}

fn sizes(dims: &[i64]) -> Option<Vec<usize>> {
    dims.iter().map(|&d| usize::try_from(d).ok()).collect()
}

/// Elements that stand in typed fields, as raw bytes.
fn typed_bytes(t: &pb::TensorProto, dtype: DType) -> Bytes {
    use DType::*;
    let out: Vec<u8> = match dtype {
        F32 | C64 => t.float_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        F64 | C128 => t.double_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        I64 => t.int64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        U64 => t.uint64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        U32 => t.uint64_data.iter().flat_map(|&v| (v as u32).to_le_bytes()).collect(),
        I32 => t.int32_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        I16 | U16 | F16 | BF16 => {
            t.int32_data.iter().flat_map(|&v| (v as u16).to_le_bytes()).collect()
        }
        F6E2M3 | F6E3M2 => pack6(&t.int32_data),
        // One byte each; types of 4 and 2 bits come packed, a byte of them to an entry.
        _ => t.int32_data.iter().map(|&v| v as u8).collect(),
    };
    out.into()
}

/// Takes the elements out of a message, when they are at least `from` bytes and no strings.
pub(super) fn take_bytes(t: &mut pb::TensorProto, from: usize) -> Option<Bytes> {
    if t.raw_data.is_some() {
        return t.raw_data.take_if(|raw| raw.len() >= from);
    }
    let dtype = DType::from_code(t.data_type()).filter(|d| *d != DType::Str)?;
    let raw = typed_bytes(t, dtype);
    if raw.len() < from {
        return None;
    }
    t.float_data.clear();
    t.double_data.clear();
    t.int32_data.clear();
    t.int64_data.clear();
    t.uint64_data.clear();
    Some(raw)
}

/// Packs 6-bit codes, the first in the low bits.
fn pack6(codes: &[i32]) -> Vec<u8> {
    let mut out = vec![0u8; (codes.len() * 6).div_ceil(8)];
    for (i, code) in codes.iter().enumerate() {
        let bits = u16::from(*code as u8 & 63) << (i * 6 % 8);
        out[i * 6 / 8] |= bits as u8;
        if bits > 255 {
            out[i * 6 / 8 + 1] |= (bits >> 8) as u8;
        }
    }
    out
}

fn unpack6(raw: &[u8], count: usize) -> Vec<i32> {
    let bit = |at: usize| i32::from(raw[at / 8] >> (at % 8) & 1);
    (0..count).map(|i| (0..6).map(|k| bit(i * 6 + k) << k).sum()).collect()
}

/// Writes a tensor the way it was read: raw, or into typed fields.
pub(super) fn write(t: &Tensor, name: &str) -> pb::TensorProto {
    let info = t.info.as_deref().cloned().unwrap_or_default();
    let mut out = pb::TensorProto {
        dims: t.dims().iter().map(|&d| d as i64).collect(),
        data_type: Some(t.dtype().code()),
        name: spelling::text(name, info.spelling, spelling::NAME),
        doc_string: spelling::text(&info.doc, info.spelling, spelling::DOC),
        metadata_props: super::encode::pairs(&info.metadata),
        data_location: info
            .spelling
            .has(spelling::LOCATION)
            .then_some(DataLocation::Default as i32),
        ..Default::default()
    };
    match t.data() {
        TensorData::Raw(raw) if raw.is_empty() && info.spelling.has(spelling::NO_DATA) => {}
        TensorData::Raw(raw) if info.typed => write_typed(&mut out, t, raw),
        TensorData::Raw(raw) => out.raw_data = Some(raw.clone()),
        TensorData::Strings(s) => out.string_data = s.to_vec(),
        TensorData::Sparse(_) => unreachable!("invariant: sparse tensors go to write_sparse"),
    }
    out
}

/// Writes a sparse tensor; its values carry the name.
pub(super) fn write_sparse(t: &Tensor, name: Option<&str>) -> pb::SparseTensorProto {
    let TensorData::Sparse(parts) = t.data() else {
        unreachable!("invariant: only sparse tensors come here")
    };
    let own = |t: &Tensor| t.info.as_ref().map(|i| i.name.clone()).unwrap_or_default();
    let values_name = name.map_or_else(|| own(&parts.0), str::to_owned);
    pb::SparseTensorProto {
        values: Some(Box::new(write(&parts.0, &values_name))),
        indices: Some(Box::new(write(&parts.1, &own(&parts.1)))),
        dims: t.dims().iter().map(|&d| d as i64).collect(),
    }
}

fn write_typed(out: &mut pb::TensorProto, t: &Tensor, raw: &[u8]) {
    use DType::*;
    fn split<T: bytemuck::Pod, U>(raw: &[u8], f: impl Fn(T) -> U) -> Vec<U> {
        raw.chunks_exact(size_of::<T>()).map(|c| f(bytemuck::pod_read_unaligned(c))).collect()
    }
    match t.dtype() {
        F6E2M3 | F6E3M2 => out.int32_data = unpack6(raw, t.len()),
        F32 | C64 => out.float_data = split(raw, |v: f32| v),
        F64 | C128 => out.double_data = split(raw, |v: f64| v),
        I64 => out.int64_data = split(raw, |v: i64| v),
        U64 => out.uint64_data = split(raw, |v: u64| v),
        U32 => out.uint64_data = split(raw, |v: u32| u64::from(v)),
        I32 => out.int32_data = split(raw, |v: i32| v),
        I16 => out.int32_data = split(raw, |v: i16| i32::from(v)),
        U16 | F16 | BF16 => out.int32_data = split(raw, |v: u16| i32::from(v)),
        I8 => out.int32_data = split(raw, |v: i8| i32::from(v)),
        _ => out.int32_data = split(raw, |v: u8| i32::from(v)),
    }
}
