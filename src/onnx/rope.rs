//! Encoding without copying weights: a buffer that keeps large byte fields as handles.

use std::io::{self, IoSlice, Write};

use bytes::buf::UninitSlice;
use bytes::{Buf, BufMut, Bytes, BytesMut};

use super::external::MappedFile;

/// Byte fields at least this long are kept as handles.
const SHARE: usize = 4096;

/// A list of segments, written with one system call for many.
#[derive(Default)]
pub(super) struct Rope {
    segments: Vec<Bytes>,
    current: BytesMut,
}

// SAFETY: all methods but `put` go to `BytesMut`, which keeps the contract of `BufMut`; `put`
// only appends.
unsafe impl BufMut for Rope {
    fn remaining_mut(&self) -> usize {
        self.current.remaining_mut()
    }

    unsafe fn advance_mut(&mut self, n: usize) {
        // SAFETY: the caller initialized `n` bytes of `chunk_mut`, which is `current`'s.
        unsafe { self.current.advance_mut(n) }
    }

    fn chunk_mut(&mut self) -> &mut UninitSlice {
        self.current.chunk_mut()
    }

    fn put<T: Buf>(&mut self, mut src: T)
    where
        Self: Sized,
    {
        let n = src.remaining();
        if n < SHARE {
            self.current.put(src);
        } else {
            self.flush();
            self.segments.push(src.copy_to_bytes(n));
        }
    }
}

impl Rope {
    fn flush(&mut self) {
        if !self.current.is_empty() {
            self.segments.push(self.current.split().freeze());
        }
    }

    /// All bytes in one piece.
    pub(super) fn into_bytes(mut self) -> Bytes {
        self.flush();
        self.segments.concat().into()
    }

    /// The bytes in order, in as many pieces as they come.
    pub(super) fn into_segments(mut self) -> Vec<Bytes> {
        self.flush();
        self.segments
    }
}

/// Segments at least this long that lie in a file are copied from it.
const COPY: usize = 1 << 16;

/// Writes segments: what lies in mapped files by copying between files, so that it is not even
/// mapped in, and the rest with vectored writes.
pub(super) fn write_all(segments: &[Bytes], out: &mut impl Write) -> io::Result<()> {
    let mut rest = segments;
    while !rest.is_empty() {
        let plain = rest.iter().position(|s| s.len() >= COPY).unwrap_or(rest.len());
        write_vectored(&rest[..plain], out)?;
        rest = &rest[plain..];
        let Some(large) = rest.first() else { break };
        match MappedFile::of(large) {
            Some((file, start)) => file.copy_to(start, large.len(), out)?,
            None => write_vectored(&rest[..1], out)?,
        }
        rest = &rest[1..];
    }
    Ok(())
}

fn write_vectored(segments: &[Bytes], out: &mut impl Write) -> io::Result<()> {
    for batch in segments.chunks(512) {
        let mut slices: Vec<IoSlice> = batch.iter().map(|s| IoSlice::new(s)).collect();
        let mut rest = &mut slices[..];
        while !rest.is_empty() {
            match out.write_vectored(rest) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => IoSlice::advance_slices(&mut rest, n),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
    }
    Ok(())
}
