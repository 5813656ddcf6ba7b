//! What weights take when they are compressed for download.

use std::io::Write;

use flate2::Compression;
use flate2::write::DeflateEncoder;
use rayon::prelude::*;

use crate::ir::{Graph, TensorData};

/// Bytes that are compressed at once.
const CHUNK: usize = 1 << 20;

/// Bytes of the constants of a graph, subgraphs left out, after deflate at zip's usual level.
pub fn deflated(g: &Graph) -> u64 {
    let mut chunks: Vec<&[u8]> = Vec::new();
    for v in g.values() {
        match g.const_tensor(v).map(|t| t.data()) {
            Some(TensorData::Raw(raw)) => chunks.extend(raw.chunks(CHUNK)),
            Some(TensorData::Sparse(parts)) => {
                let raw = [parts.0.raw(), parts.1.raw()];
                raw.into_iter().flatten().for_each(|r| chunks.extend(r.chunks(CHUNK)));
            }
            _ => {}
        }
    }
    chunks.par_iter().map(|c| deflated_bytes(c)).sum()
}

/// Length of `bytes` after deflate.
pub fn deflated_bytes(bytes: &[u8]) -> u64 {
    let mut out = DeflateEncoder::new(Counter(0), Compression::default());
    let done = out.write_all(bytes).and_then(|()| out.finish());
    done.map_or(bytes.len() as u64, |c| c.0)
}

/// Counts what is written.
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, buf: &[u8]) -> std::io::Result<usize> {
        self.0 += buf.len() as u64;
        Ok(buf.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zeros_compress() {
        assert!(deflated_bytes(&[0; 10_000]) < 100);
        let mut rng = fastrand::Rng::with_seed(1);
        let noise: Vec<u8> = (0..10_000).map(|_| rng.u8(..)).collect();
        assert!(deflated_bytes(&noise) > 9_900);
    }
}
