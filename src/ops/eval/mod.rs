//! Native kernels for constant folding. Each is exact, and declines what it cannot do exactly or
//! within the byte limit.

pub(super) mod cast;
pub(super) mod create;
pub(super) mod dequantize;
pub(super) mod index;
pub(super) mod join;
pub(super) mod layout;
pub(super) mod number;
pub(super) mod numeric;
pub(super) mod reduce;

use bytes::Bytes;

use super::{EvalCx, normalize_axis};
use crate::ir::{DType, Tensor, TensorData, element_count};

type Results = Option<Vec<Tensor>>;

/// Number of elements of a result, when it keeps to the byte limit.
fn room(cx: &EvalCx, dtype: DType, dims: &[usize]) -> Option<usize> {
    let n = element_count(dims)?;
    let bytes = match dtype {
        DType::Str => n.checked_mul(size_of::<Bytes>())?,
        _ => dtype.byte_len(n)?,
    };
    (bytes <= cx.max_bytes).then_some(n)
}

/// A tensor whose elements are copies of elements of others, in row-major order: the tensor and
/// the index in it. `None` when an index is out of range, or types differ.
fn assemble<'t>(
    cx: &EvalCx,
    dtype: DType,
    dims: Vec<usize>,
    sources: impl Iterator<Item = (&'t Tensor, usize)>,
) -> Option<Tensor> {
    let n = room(cx, dtype, &dims)?;
    if dtype == DType::Str {
        let strings: Option<Vec<Bytes>> = sources.map(|(t, i)| string_at(t, i)).collect();
        return Tensor::strings(dims, strings?).ok();
    }
    let mut out = Codes::new(dtype, n)?;
    for (t, i) in sources {
        if t.dtype() != dtype {
            return None;
        }
        out.push(t, i)?;
    }
    Tensor::new(dtype, dims, out.bytes.into()).ok()
}

/// Elements of a tensor at even distances.
#[derive(Clone, Copy)]
struct Run<'t> {
    tensor: &'t Tensor,
    start: usize,
    count: usize,
    step: isize,
}

/// As [`assemble`], from elements that come in runs.
fn assemble_runs<'t>(
    cx: &EvalCx,
    dtype: DType,
    dims: Vec<usize>,
    mut runs: impl Iterator<Item = Run<'t>>,
) -> Option<Tensor> {
    let n = room(cx, dtype, &dims)?;
    if dtype == DType::Str {
        let index = |r: &Run, k: usize| r.start.wrapping_add_signed(r.step * k as isize);
        let elements = runs.flat_map(|r| (0..r.count).map(move |k| (r.tensor, index(&r, k))));
        return assemble(cx, dtype, dims, elements);
    }
    let mut out = Codes::new(dtype, n)?;
    runs.try_for_each(|r| if r.tensor.dtype() == dtype { out.push_run(r) } else { None })?;
    Tensor::new(dtype, dims, out.bytes.into()).ok()
}

fn string_at(t: &Tensor, i: usize) -> Option<Bytes> {
    match t.data() {
        TensorData::Strings(s) => s.get(i).cloned(),
        _ => None,
    }
}

/// Elements of one type being collected, packed as a tensor holds them.
struct Codes {
    bits: usize,
    bytes: Vec<u8>,
    count: usize,
}

impl Codes {
    fn new(dtype: DType, n: usize) -> Option<Codes> {
        let bits = dtype.bits();
        let packed = bits < 8 && 8 % bits == 0;
        (packed || bits.is_multiple_of(8)).then(|| Codes {
            bits,
            bytes: Vec::with_capacity(dtype.byte_len(n).unwrap_or(0)),
            count: 0,
        })
    }

    fn push_run(&mut self, r: Run) -> Option<()> {
        let last = r.step.checked_mul(r.count.checked_sub(1)? as isize)?;
        let last = r.start.checked_add_signed(last)?;
        let raw = r.tensor.raw()?;
        match self.bits {
            8 => self.gather::<1>(raw, r, last),
            16 => self.gather::<2>(raw, r, last),
            32 => self.gather::<4>(raw, r, last),
            64 => self.gather::<8>(raw, r, last),
            _ => (0..r.count).try_for_each(|k| {
                self.push(r.tensor, r.start.checked_add_signed(r.step * k as isize)?)
            }),
        }
    }

    /// Elements of `W` bytes.
    fn gather<const W: usize>(&mut self, raw: &[u8], r: Run, last: usize) -> Option<()> {
        let (elements, _) = raw.as_chunks::<W>();
        if r.start.max(last) >= elements.len() {
            return None;
        }
        if r.step == 1 {
            self.bytes.extend_from_slice(elements[r.start..=last].as_flattened());
            return Some(());
        }
        let (at, mut from) = (self.bytes.len(), r.start);
        self.bytes.resize(at + r.count * W, 0);
        for to in self.bytes[at..].as_chunks_mut::<W>().0 {
            *to = elements[from];
            // After the last one it may leave the tensor.
            from = from.wrapping_add_signed(r.step);
        }
        Some(())
    }

    fn push(&mut self, t: &Tensor, i: usize) -> Option<()> {
        let raw = t.raw()?;
        if self.bits >= 8 {
            let width = self.bits / 8;
            let start = i.checked_mul(width)?;
            self.bytes.extend_from_slice(raw.get(start..start.checked_add(width)?)?);
            return Some(());
        }
        if i >= t.len() {
            return None;
        }
        let per_byte = 8 / self.bits;
        let code = (raw[i / per_byte] >> (i % per_byte * self.bits)) & ((1 << self.bits) - 1);
        let shift = self.count % per_byte * self.bits;
        match self.bytes.last_mut().filter(|_| shift > 0) {
            Some(last) => *last |= code << shift,
            None => self.bytes.push(code),
        }
        self.count += 1;
        Some(())
    }
}

/// A tensor of the same type whose elements are those of `t` at the given indices.
fn take(
    cx: &EvalCx,
    t: &Tensor,
    dims: Vec<usize>,
    indices: impl Iterator<Item = usize>,
) -> Option<Tensor> {
    assemble(cx, t.dtype(), dims, indices.map(|i| (t, i)))
}

/// A tensor of the same type whose elements are those of `t` on a walk.
fn walk(cx: &EvalCx, t: &Tensor, dims: Vec<usize>, walk: Strided) -> Option<Tensor> {
    let (starts, count, step) = walk.runs();
    let runs = starts.map(|start| Run { tensor: t, start, count, step });
    assemble_runs(cx, t.dtype(), dims, runs)
}

/// Walks a box of `dims` in row-major order and yields `offset` plus the strides gone.
struct Strided {
    dims: Vec<usize>,
    strides: Vec<isize>,
    at: Vec<usize>,
    next: Option<isize>,
}

impl Strided {
    fn new(dims: Vec<usize>, strides: Vec<isize>, offset: isize) -> Strided {
        let next = (!dims.contains(&0)).then_some(offset);
        Strided { at: vec![0; dims.len()], dims, strides, next }
    }

    /// The walk as runs of equal length and step: where they start, the length and the step.
    fn runs(mut self) -> (Strided, usize, isize) {
        let (mut count, mut step) = (1usize, 1isize);
        while let (Some(&d), Some(&stride)) = (self.dims.last(), self.strides.last()) {
            if count == 1 && d != 1 {
                step = stride;
            } else if d != 1 && stride != step * count as isize {
                break;
            }
            count *= d;
            self.dims.pop();
            self.strides.pop();
            self.at.pop();
        }
        (self, count, step)
    }

    /// Reads a tensor of `from` dims as one broadcast to `to`.
    fn broadcast(from: &[usize], to: &[usize]) -> Option<Strided> {
        let lead = to.len().checked_sub(from.len())?;
        let mut strides = vec![0; lead];
        for ((&size, &target), stride) in from.iter().zip(&to[lead..]).zip(row_major(from)) {
            if size != target && size != 1 {
                return None;
            }
            strides.push(if size == 1 { 0 } else { stride });
        }
        Some(Strided::new(to.to_vec(), strides, 0))
    }
}

impl Iterator for Strided {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let here = self.next?;
        let mut there = here;
        self.next = None;
        for axis in (0..self.dims.len()).rev() {
            self.at[axis] += 1;
            there += self.strides[axis];
            if self.at[axis] < self.dims[axis] {
                self.next = Some(there);
                break;
            }
            there -= self.strides[axis] * self.dims[axis] as isize;
            self.at[axis] = 0;
        }
        usize::try_from(here).ok()
    }
}

/// Strides of a dense tensor, in elements.
fn row_major(dims: &[usize]) -> Vec<isize> {
    let mut strides = vec![0; dims.len()];
    let mut step: isize = 1;
    for (stride, &d) in strides.iter_mut().zip(dims).rev() {
        *stride = step;
        step = step.saturating_mul(isize::try_from(d).unwrap_or(isize::MAX));
    }
    strides
}

/// Sizes that operands broadcast to.
fn broadcast_dims(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |k| s[k]);
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => Some(x),
            (1, y) => Some(y),
            (x, 1) => Some(x),
            _ => None,
        })
        .collect()
}

/// What two dense tensors of these dims broadcast to, and for each element of it where it comes from
/// in both.
pub(crate) fn broadcast_pairs(
    a: &[usize],
    b: &[usize],
) -> Option<(Vec<usize>, impl Iterator<Item = (usize, usize)>)> {
    let dims = broadcast_dims(a, b)?;
    let pairs = Strided::broadcast(a, &dims)?.zip(Strided::broadcast(b, &dims)?);
    Some((dims, pairs))
}

/// Integers that are an attribute in some versions and an operand in others.
#[allow(clippy::option_option)]
fn ints_arg(cx: &EvalCx, attr: &str, slot: usize) -> Option<Option<Vec<i64>>> {
    if cx.op.has_ref_attrs() {
        return None;
    }
    if let Some(v) = cx.op.ints(attr) {
        return Some(Some(v.to_vec()));
    }
    match cx.operand(slot) {
        Some(t) => t.to_i64().map(Some),
        None => Some(None),
    }
}

/// The axes that the op names, counted from the front; `all` when it names none.
fn axes_arg(cx: &EvalCx, slot: usize, rank: usize, all: Vec<usize>) -> Option<Vec<usize>> {
    match ints_arg(cx, "axes", slot)? {
        Some(v) => v.into_iter().map(|a| normalize_axis(a, rank)).collect(),
        None => Some(all),
    }
}

/// The axis in attribute `axis`.
fn axis_attr(cx: &EvalCx, default: i64, rank: usize) -> Option<usize> {
    normalize_axis(cx.op.int_or("axis", default), rank)
}
