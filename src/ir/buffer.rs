//! Memory for the elements of large tensors.
//!
//! A page fault for every 4 KiB of new weights costs more than the arithmetic that fills them. So
//! large tensors are cut from blocks of memory that the system is asked to back with huge pages.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use memmap2::{MmapMut, MmapRaw};

/// Fewer bytes are for the ordinary allocator.
const LARGE: usize = 16 << 10;

/// Blocks are whole numbers of huge pages.
const HUGE_PAGE: usize = 2 << 20;

/// Memory of a block that is not cut yet is not there yet either, so a block may be large.
const BLOCK: usize = 64 << 20;

/// More bytes get a block of their own.
const OWN_BLOCK: usize = BLOCK / 4;

/// Where tensors start in a block: at lines of the cache, and aligned for every element type.
const ALIGN: usize = 64;

/// A block that tensors are cut from, one after the other. It goes when the last of them does.
struct Block {
    memory: Arc<MmapRaw>,
    cut: usize,
}

static BLOCKS: Mutex<Option<Block>> = Mutex::new(None);

/// A part of a block that is written no more.
struct Piece {
    memory: Arc<MmapRaw>,
    start: usize,
    len: usize,
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        // SAFETY: `cut` gave out this part of the memory once, and who got it has written it.
        unsafe { std::slice::from_raw_parts(self.memory.as_ptr().add(self.start), self.len) }
    }
}

/// `len` bytes, all zero until `fill` has written them, aligned for every element type. `None`, and
/// `fill` was not called, when they are too few to be worth it or the system has no such memory.
pub(super) fn filled(len: usize, fill: impl FnOnce(&mut [u8])) -> Option<Bytes> {
    let (memory, start) = cut(len)?;
    // SAFETY: the part lies inside the memory and `cut` gives it out once, so nothing else refers to
    // it before `Piece` does.
    let bytes = unsafe { std::slice::from_raw_parts_mut(memory.as_mut_ptr().add(start), len) };
    fill(bytes);
    Some(Bytes::from_owner(Piece { memory, start, len }))
}

/// A part of a block that nobody else has or gets.
fn cut(len: usize) -> Option<(Arc<MmapRaw>, usize)> {
    if len < LARGE || !cfg!(target_os = "linux") {
        return None;
    }
    if len > OWN_BLOCK {
        return Some((block(len.checked_next_multiple_of(HUGE_PAGE)?)?, 0));
    }
    let mut blocks = BLOCKS.lock().unwrap_or_else(PoisonError::into_inner);
    if blocks.as_ref().is_none_or(|b| b.memory.len() - b.cut < len) {
        *blocks = Some(Block { memory: block(BLOCK)?, cut: 0 });
    }
    let b = blocks.as_mut()?;
    let start = b.cut;
    b.cut = (start + len).next_multiple_of(ALIGN).min(b.memory.len());
    Some((b.memory.clone(), start))
}

fn block(len: usize) -> Option<Arc<MmapRaw>> {
    let memory = MmapMut::map_anon(len).ok()?;
    // Only a wish: without huge pages it is ordinary memory.
    #[cfg(target_os = "linux")]
    let _ = memory.advise(memmap2::Advice::HugePage);
    Some(Arc::new(memory.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_do_not_overlap_and_are_aligned() {
        let lens = [LARGE, LARGE + 1, OWN_BLOCK, OWN_BLOCK + 1, 3 * LARGE, BLOCK - LARGE];
        let made: Vec<Bytes> = (1u8..)
            .zip(lens)
            .filter_map(|(i, len)| {
                filled(len, |b| {
                    assert!(b.iter().all(|b| *b == 0));
                    b.fill(i);
                })
            })
            .collect();
        assert!(made.is_empty() || made.len() == lens.len());
        for ((i, len), bytes) in (1u8..).zip(lens).zip(&made) {
            assert_eq!((bytes.len(), bytes.as_ptr() as usize % ALIGN), (len, 0));
            assert!(bytes.iter().all(|b| *b == i));
        }
    }

    #[test]
    fn little_memory_is_not_cut_from_blocks() {
        assert!(filled(LARGE - 1, |_| panic!("not asked")).is_none());
    }
}
