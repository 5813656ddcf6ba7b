//! idx files, as MNIST and its relatives come in: plain or gzipped.

use std::io::Read;
use std::path::Path;

use bytes::Bytes;

use super::DataError;
use crate::ir::{DType, Tensor, element_count};

/// No idx file holds more than this when unpacked.
const MAX_UNPACKED: u64 = 1 << 32;

/// The file looks like an idx file, or like a gzipped one.
pub(super) fn is_idx(path: &Path) -> bool {
    let mut head = [0u8; 4];
    let read = std::fs::File::open(path).and_then(|mut f| f.read_exact(&mut head));
    read.is_ok() && ((head[..2] == [0, 0] && dtype(head[2]).is_some()) || head[..2] == [0x1f, 0x8b])
}

/// Reads an idx file.
pub(super) fn read(path: &Path) -> Result<Tensor, DataError> {
    let fail = |source| DataError::Read { path: path.to_owned(), source };
    let mut bytes = crate::onnx::map_file(path).map_err(fail)?;
    if bytes.starts_with(&[0x1f, 0x8b]) {
        let mut unpacked = Vec::new();
        let mut reader = flate2::read::MultiGzDecoder::new(&bytes[..]).take(MAX_UNPACKED);
        reader.read_to_end(&mut unpacked).map_err(fail)?;
        bytes = unpacked.into();
    }
    parse(&bytes).map_err(|what| DataError::Format { path: path.to_owned(), kind: "idx", what })
}

fn dtype(code: u8) -> Option<DType> {
    Some(match code {
        0x08 => DType::U8,
        0x09 => DType::I8,
        0x0b => DType::I16,
        0x0c => DType::I32,
        0x0d => DType::F32,
        0x0e => DType::F64,
        _ => return None,
    })
}

fn parse(bytes: &Bytes) -> Result<Tensor, String> {
    let head = bytes.get(..4).filter(|h| h[..2] == [0, 0]).ok_or("it does not start as one")?;
    let dtype = dtype(head[2]).ok_or_else(|| format!("unknown element type {:#x}", head[2]))?;
    let rank = usize::from(head[3]);
    let start = 4 + 4 * rank;
    let sizes = bytes.get(4..start).ok_or("truncated header")?;
    let dims: Vec<usize> = sizes
        .chunks_exact(4)
        .map(|c| c.iter().fold(0usize, |n, b| n << 8 | usize::from(*b)))
        .collect();
    let want = element_count(&dims).and_then(|n| dtype.byte_len(n)).ok_or("it is too large")?;
    let got = bytes.len() - start;
    if got < want {
        return Err(format!("truncated: {got} bytes of data where {want} should be"));
    }
    let mut data = bytes.slice(start..start + want);
    let width = dtype.bits() / 8;
    if width > 1 {
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
    fn big_endian_numbers_are_turned() {
        let file = Bytes::from_static(&[0, 0, 0x0b, 2, 0, 0, 0, 1, 0, 0, 0, 2, 1, 0, 0, 5]);
        let t = parse(&file).expect("parses");
        assert_eq!((t.dims(), t.to_i64()), (&[1usize, 2][..], Some(vec![256, 5])));
        assert!(parse(&file.slice(..14)).is_err());
        assert!(parse(&Bytes::from_static(&[0, 0, 8, 255])).is_err());
    }
}
