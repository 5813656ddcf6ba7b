//! Hashes of stored bytes, each computed once in a run.

use std::collections::HashMap;

use bytes::Bytes;

/// Hashes by place in memory. The bytes are held, so that their place is not used again.
#[derive(Debug, Default)]
pub struct Hashes(HashMap<(usize, usize), (Bytes, u64)>);

/// Hashing shorter bytes again costs less than remembering.
const WORTH_KEEPING: usize = 4096;

impl Hashes {
    /// The hash of the bytes, by `hash` unless it is known.
    pub fn of(&mut self, bytes: &Bytes, hash: impl Fn(&[u8]) -> u64) -> u64 {
        if bytes.len() < WORTH_KEEPING {
            return hash(bytes);
        }
        let place = (bytes.as_ptr() as usize, bytes.len());
        self.0.entry(place).or_insert_with(|| (bytes.clone(), hash(bytes))).1
    }
}
