//! safetensors files: a JSON header with the place of each array, then the elements; mapped.

use std::path::Path;

use super::DataError;
use crate::ir::{DType, Tensor};

/// Reads all arrays of a file, in the order of their places.
pub(super) fn read(path: &Path) -> Result<Vec<(String, Tensor)>, DataError> {
    let bytes = crate::onnx::map_file(path)
        .map_err(|source| DataError::Read { path: path.to_owned(), source })?;
    let bad = |what: String| DataError::Format { path: path.to_owned(), kind: "safetensors", what };
    let length = bytes.first_chunk::<8>().map(|n| u64::from_le_bytes(*n));
    let end = length.and_then(|n| usize::try_from(n).ok()?.checked_add(8));
    let end = end.filter(|e| *e <= bytes.len()).ok_or_else(|| bad("no header".into()))?;
    let header: serde_json::Map<String, serde_json::Value> =
        serde_json::from_slice(&bytes[8..end]).map_err(|e| bad(e.to_string()))?;
    let mut arrays = Vec::new();
    for (name, entry) in header.iter().filter(|(name, _)| *name != "__metadata__") {
        let place =
            entry_of(entry).ok_or_else(|| bad(format!("array {name:?} is not described")))?;
        let (dtype, dims, [from, to]) = place;
        let dtype = dtype_of(&dtype)
            .ok_or_else(|| bad(format!("elements of type {dtype} cannot be inputs")))?;
        let range = end.checked_add(from).zip(end.checked_add(to));
        let (from, to) = range
            .filter(|(a, b)| a <= b && *b <= bytes.len())
            .ok_or_else(|| bad(format!("array {name:?} is outside of the file")))?;
        let tensor = Tensor::new(dtype, dims, bytes.slice(from..to))
            .map_err(|e| bad(format!("array {name:?}: {e}")))?;
        arrays.push((from, name.clone(), tensor));
    }
    arrays.sort_by_key(|a| a.0);
    Ok(arrays.into_iter().map(|(_, name, tensor)| (name, tensor)).collect())
}

fn entry_of(entry: &serde_json::Value) -> Option<(String, Vec<usize>, [usize; 2])> {
    let number = |v: &serde_json::Value| usize::try_from(v.as_u64()?).ok();
    let numbers = |key: &str| -> Option<Vec<usize>> {
        entry.get(key)?.as_array()?.iter().map(number).collect()
    };
    let offsets = numbers("data_offsets")?;
    let dtype = entry.get("dtype")?.as_str()?.to_owned();
    Some((dtype, numbers("shape")?, offsets.try_into().ok()?))
}

fn dtype_of(name: &str) -> Option<DType> {
    Some(match name {
        "F32" => DType::F32,
        "F16" => DType::F16,
        "BF16" => DType::BF16,
        "F64" => DType::F64,
        "I8" => DType::I8,
        "I16" => DType::I16,
        "I32" => DType::I32,
        "I64" => DType::I64,
        "U8" => DType::U8,
        "U16" => DType::U16,
        "U32" => DType::U32,
        "U64" => DType::U64,
        "BOOL" => DType::Bool,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Result<Vec<(String, Tensor)>, DataError> {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("a.safetensors");
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        std::fs::write(&path, bytes).expect("written");
        read(&path)
    }

    #[test]
    fn arrays_are_found_in_their_order() {
        let header = r#"{"__metadata__":{"a":"b"},"y":{"dtype":"I64","shape":[1],"data_offsets":[8,16]},"x":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}"#;
        let mut data = bytemuck::cast_slice(&[1.5f32, -2.0]).to_vec();
        data.extend(7i64.to_le_bytes());
        let got = file(header, &data).expect("read");
        assert_eq!(got[0].0, "x");
        assert_eq!(got[0].1.to_f32(), Some(vec![1.5, -2.0]));
        assert_eq!(got[1].1.to_i64(), Some(vec![7]));
    }

    #[test]
    fn damaged_files_are_refused() {
        for header in [
            "{",
            r#"{"x":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}}"#,
            r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[0,80]}}"#,
            r#"{"x":{"dtype":"F9","shape":[2],"data_offsets":[0,8]}}"#,
            r#"{"x":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#,
            r#"{"x":3}"#,
        ] {
            assert!(file(header, &[0; 8]).is_err(), "{header}");
        }
    }
}
