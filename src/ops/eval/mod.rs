//! Native kernels for constant folding. Each is exact, and declines what it cannot do exactly or
//! within the byte limit.

pub(super) mod cast;
pub(super) mod create;
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
