//! Encoding without copying weights: a buffer that keeps large byte fields as handles.

use std::io::{self, IoSlice, Write};
use std::sync::Arc;

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

/// Parts of a file at least this long are copied from it.
const COPY: usize = 1 << 16;

/// A part of a mapped file.
struct Part {
    file: Arc<MappedFile>,
    start: usize,
    end: usize,
}

impl Part {
    /// Takes the segment in when the file holds the same bytes behind the part.
    fn extend(&mut self, segment: &Bytes) -> bool {
        let Some(behind) = self.file.bytes().get(self.end..self.end + segment.len()) else {
            return false;
        };
        let same = behind.as_ptr() == segment.as_ptr() || segment.len() < COPY && behind == segment;
        self.end += if same { segment.len() } else { 0 };
        same
    }
}

/// Writes segments: what lies in mapped files by copying between files, so that it is not even
/// mapped in, and the rest with vectored writes. Where weights follow each other as they do in
/// their file, they are copied at once, together with what stands between them.
pub(super) fn write_all(segments: &[Bytes], out: &mut impl Write) -> io::Result<()> {
    let mut at = 0;
    while at < segments.len() {
        let large = |s: &Bytes| if s.len() >= COPY { MappedFile::of(s) } else { None };
        let found = segments[at..].iter().enumerate().find_map(|(i, s)| Some((at + i, large(s)?)));
        let Some((first, (file, start))) = found else {
            return write_vectored(&segments[at..], out);
        };
        write_vectored(&segments[at..first], out)?;
        let mut part = Part { file, start, end: start + segments[first].len() };
        at = first + 1;
        while segments.get(at).is_some_and(|s| part.extend(s)) {
            at += 1;
        }
        part.file.copy_to(part.start as u64, part.end - part.start, out)?;
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
