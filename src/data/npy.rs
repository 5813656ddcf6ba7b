//! numpy files: .npy mapped, .npz read array by array, large ones that are not compressed row by row.

use std::fs::File;
use std::io::{Cursor, Read, Seek, SeekFrom};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use npyz::npz::NpzArchive;
use npyz::{Endianness, NpyFile, Order, TypeChar};

use super::DataError;
use crate::ir::{DType, Tensor, element_count};

/// Reads a .npy file; the elements stay in the mapped file.
pub(super) fn read_npy(path: &Path) -> Result<Tensor, DataError> {
    let bytes = crate::onnx::map_file(path)
        .map_err(|source| DataError::Read { path: path.to_owned(), source })?;
    let bad = |what: String| DataError::Format { path: path.to_owned(), kind: "numpy", what };
    let mut cursor = Cursor::new(bytes.clone());
    let header = npyz::NpyHeader::from_reader(&mut cursor).map_err(|e| bad(e.to_string()))?;
    let start = usize::try_from(cursor.position()).unwrap_or(usize::MAX);
    let rest = if start <= bytes.len() { bytes.slice(start..) } else { Bytes::new() };
    let (dtype, dims) = layout(&header).map_err(bad)?;
    tensor(dtype, dims, rest, is_big(&header)).map_err(bad)
}

/// Bytes from which an array stays in its file.
const LARGE: usize = 16 << 20;

/// An array of a file.
pub(super) enum Array {
    /// In memory, or mapped.
    Whole(Tensor),
    /// In the file, to be read row by row.
    Rows(Rows),
}

/// The rows of an array in a file. Reading them one by one keeps memory from growing with the data;
/// pages of a mapped file would count as such.
pub(super) struct Rows {
    file: Mutex<File>,
    start: u64,
    dtype: DType,
    dims: Vec<usize>,
    big: bool,
}

impl Rows {
    pub(super) fn dtype(&self) -> DType {
        self.dtype
    }

    pub(super) fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// Index `i` of the first axis; the error says what is wrong.
    pub(super) fn row(&self, i: usize) -> Result<Tensor, String> {
        let dims = self.dims.get(1..).unwrap_or_default().to_vec();
        let bytes = element_count(&dims).and_then(|n| self.dtype.byte_len(n)).unwrap_or(0);
        let mut data = vec![0; bytes];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        let at = self.start + i as u64 * bytes as u64;
        file.seek(SeekFrom::Start(at)).map_err(|e| e.to_string())?;
        file.read_exact(&mut data).map_err(|e| e.to_string())?;
        drop(file);
        tensor(self.dtype, dims, data.into(), self.big)
    }

    /// All rows in memory.
    pub(super) fn whole(&self) -> Result<Tensor, String> {
        let rows: Result<Vec<Tensor>, String> = (0..self.dims[0]).map(|i| self.row(i)).collect();
        let data: Vec<u8> =
            rows?.iter().filter_map(Tensor::raw).flat_map(|raw| raw.to_vec()).collect();
        tensor(self.dtype, self.dims.clone(), data.into(), false)
    }
}

/// Names of the arrays in an .npz file, and a way to read them.
pub(super) struct Npz {
    path: std::path::PathBuf,
    archive: NpzArchive<std::io::BufReader<std::fs::File>>,
    /// Names in the order of the file.
    pub(super) names: Vec<String>,
}

impl Npz {
    pub(super) fn open(path: &Path) -> Result<Npz, DataError> {
        let fail = |e: std::io::Error| match e.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::PermissionDenied => {
                DataError::Read { path: path.to_owned(), source: e }
            }
            _ => DataError::Format { path: path.to_owned(), kind: "numpy", what: e.to_string() },
        };
        let archive = NpzArchive::open(path).map_err(fail)?;
        let names = archive.array_names().map(str::to_owned).collect();
        Ok(Npz { path: path.to_owned(), archive, names })
    }

    /// Reads one array into memory, but leaves a large one in the file, if it is not compressed.
    pub(super) fn read(&mut self, name: &str) -> Result<Array, DataError> {
        let path = self.path.clone();
        let bad = |what: String| DataError::Format { path: path.clone(), kind: "numpy", what };
        let file: Option<NpyFile<_>> =
            self.archive.by_name(name).map_err(|e| bad(e.to_string()))?;
        let Some(file) = file else {
            let have = self.names.join(", ");
            return Err(DataError::NoArray { path, name: name.to_owned(), have });
        };
        let header = file.header().clone();
        let (dtype, dims) = layout(&header).map_err(bad)?;
        let want = element_count(&dims).and_then(|n| dtype.byte_len(n));
        let want = want.ok_or_else(|| bad(format!("array {name:?} is too large")))?;
        let bad = |what: String| bad(format!("array {name:?}: {what}"));
        let entry = file.into_inner();
        let head = entry.size().checked_sub(want as u64);
        let is_stored = entry.compression().to_string() == "Stored";
        if let (Some(head), true) = (head, is_stored && want > LARGE && dims.len() > 1) {
            let file = File::open(&path).map_err(|e| bad(e.to_string()))?;
            let start = entry.data_start() + head;
            let big = is_big(&header);
            return Ok(Array::Rows(Rows { file: Mutex::new(file), start, dtype, dims, big }));
        }
        let mut data = Vec::new();
        entry.take(want as u64).read_to_end(&mut data).map_err(|e| bad(e.to_string()))?;
        tensor(dtype, dims, data.into(), is_big(&header)).map(Array::Whole).map_err(bad)
    }
}

fn is_big(header: &npyz::NpyHeader) -> bool {
    matches!(header.dtype(), npyz::DType::Plain(t) if t.endianness() == Endianness::Big)
}

fn layout(header: &npyz::NpyHeader) -> Result<(DType, Vec<usize>), String> {
    let descr = header.dtype().descr();
    let npyz::DType::Plain(t) = header.dtype() else {
        return Err(format!("records of type {descr} cannot be inputs"));
    };
    let dtype = match (t.type_char(), t.size_field()) {
        (TypeChar::Bool, 1) => DType::Bool,
        (TypeChar::Int, 1) => DType::I8,
        (TypeChar::Int, 2) => DType::I16,
        (TypeChar::Int, 4) => DType::I32,
        (TypeChar::Int, 8) => DType::I64,
        (TypeChar::Uint, 1) => DType::U8,
        (TypeChar::Uint, 2) => DType::U16,
        (TypeChar::Uint, 4) => DType::U32,
        (TypeChar::Uint, 8) => DType::U64,
        (TypeChar::Float, 2) => DType::F16,
        (TypeChar::Float, 4) => DType::F32,
        (TypeChar::Float, 8) => DType::F64,
        _ => return Err(format!("elements of type {descr} cannot be inputs")),
    };
    let dims: Option<Vec<usize>> =
        header.shape().iter().map(|&d| usize::try_from(d).ok()).collect();
    let dims = dims.ok_or("its shape is too large")?;
    if header.order() == Order::Fortran && dims.len() > 1 {
        let what = "the array is in Fortran order; save numpy.ascontiguousarray(array) instead";
        return Err(what.to_owned());
    }
    Ok((dtype, dims))
}

fn tensor(dtype: DType, dims: Vec<usize>, data: Bytes, big: bool) -> Result<Tensor, String> {
    let want = element_count(&dims).and_then(|n| dtype.byte_len(n)).ok_or("it is too large")?;
    if data.len() < want {
        return Err(format!("truncated: {} bytes of data where {want} should be", data.len()));
    }
    let mut data = data.slice(..want);
    let width = dtype.bits() / 8;
    if big && width > 1 {
        let mut swapped = data.to_vec();
        swapped.chunks_exact_mut(width).for_each(<[u8]>::reverse);
        data = swapped.into();
    }
    Tensor::new(dtype, dims, data).map_err(|e| e.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_from_where_the_array_starts() {
        let data: Vec<f32> = (0..12).map(|i| i as f32).collect();
        for big in [false, true] {
            let mut bytes = vec![9u8; 5];
            let of = |x: &f32| if big { x.to_be_bytes() } else { x.to_le_bytes() };
            bytes.extend(data.iter().flat_map(of));
            let path = tempfile::NamedTempFile::new().expect("file");
            std::fs::write(path.path(), bytes).expect("written");
            let file = Mutex::new(File::open(path.path()).expect("open"));
            let rows = Rows { file, start: 5, dtype: DType::F32, dims: vec![3, 2, 2], big };
            assert_eq!(rows.row(1).expect("row"), Tensor::of(&[2, 2], &data[4..8]));
            assert_eq!(rows.whole().expect("all"), Tensor::of(&[3, 2, 2], &data));
            assert!(rows.row(3).is_err(), "behind the end");
        }
    }
}
