//! # fuse-rotary-embedding
//!
//! ## What it does
//! Recognizes RotaryEmbedding: each head is rotated, first half against second, by angles that are given
//! by their cosines and sines.
//!
//! ## Before/after
//! ```text
//! a = Slice (x, zero, half, last)          y = RotaryEmbedding (x, cos_half, sin_half)
//! b = Slice (x, half, size, last)
//! n = Neg (b)
//! r = Concat <axis = -1> (n, a)
//! y = Add (Mul (x, cos), Mul (r, sin))
//! ```
//!
//! ## When it applies
//! From opset 23 on, which has the operator. `x` is `[batch, heads, length, head size]`, halved by Slices
//! or a Split. Cosines and sines are the same for all heads and for both halves of a head, which
//! shows: they are constant, for a batch of one, or the Cos and Sin of angles that a Concat repeats.
//!
//! ## What it preserves
//! The name of the result.
//!
//! ## Limits
//! Heads that are rotated in part or by neighbouring elements, and angles that are broadcast over the
//! batch, stay.

use super::pattern::{known_ints, maker, operand, result, sole_maker};
use crate::ir::{DType, Dim, Graph, Miss, Op, OpId, Patch, Ref, Tensor, ValueId};
use crate::ops::normalize_axis;
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct FuseRotaryEmbedding;

static INFO: PassInfo = PassInfo {
    name: "fuse-rotary-embedding",
    summary: "recognize RotaryEmbedding (from opset 23 on)",
    semantics: Semantics::Reassociates,
    source: include_str!("fuse_rotary_embedding.rs"),
};

impl Rewrite for FuseRotaryEmbedding {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Add"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if site.opset < 23 {
            return Err("the operator set has no RotaryEmbedding".into());
        }
        let found = rotation(g, at).ok_or("it is no rotation")?;
        let mut patch = Patch::at(at);
        let cos = plan_cache(g, &found, found.cos, "Cos", &mut patch)?;
        let sin = plan_cache(g, &found, found.sin, "Sin", &mut patch)?;
        let op = Op::new("RotaryEmbedding").named(g.op(at).name.clone());
        let operands = vec![Some(found.x.into()), Some(cos), Some(sin)];
        patch.op_into(op, operands, vec![Some(result(g, at)?.into())]);
        patch.remove(at);
        Ok(patch)
    }
}

struct Rotation {
    x: ValueId,
    cos: ValueId,
    sin: ValueId,
    batch: Dim,
    length: Dim,
    /// Half the head size.
    half: usize,
}

fn rotation(g: &Graph, at: OpId) -> Option<Rotation> {
    let product = |i: usize| {
        let op = sole_maker(g, g.operand(at, i)?, &["Mul"])?;
        Some([g.operand(op, 0)?, g.operand(op, 1)?])
    };
    let (a, b) = (product(0)?, product(1)?);
    for (plain, turned) in [(a, b), (b, a)] {
        for (turned, sin) in [(turned[0], turned[1]), (turned[1], turned[0])] {
            let Some((x, half)) = turned_half(g, turned) else { continue };
            let cos = match plain {
                [v, cos] if v == x => cos,
                [cos, v] if v == x => cos,
                _ => continue,
            };
            let shape = g.value(x).shape().filter(|s| s.len() == 4)?;
            let plain = matches!(g.value(x).dtype()?, DType::F32 | DType::F16 | DType::BF16);
            let (batch, length) = (shape[0].clone(), shape[2].clone());
            return plain.then_some(Rotation { x, cos, sin, batch, length, half });
        }
    }
    None
}

/// The `x` of `concat (-second half, first half)`, and the size of a half.
fn turned_half(g: &Graph, v: ValueId) -> Option<(ValueId, usize)> {
    let concat = sole_maker(g, v, &["Concat"]).filter(|op| g.op(*op).arity() == 2)?;
    let neg = sole_maker(g, g.operand(concat, 0)?, &["Neg"])?;
    let (second, first) = (g.operand(neg, 0)?, g.operand(concat, 1)?);
    let is_last = |axis: i64| normalize_axis(axis, 4) == Some(3);
    let size = |v: ValueId| g.value(v).shape().filter(|s| s.len() == 4)?[3].size();
    if !is_last(g.op(concat).int("axis")?) {
        return None;
    }
    let (x, half) = halves(g, first, second)?;
    (size(x)? == 2 * half && size(first)? == half && size(second)? == half).then_some((x, half))
}

/// What two values are the first and the second half of, along the last axis; how large they are.
fn halves(g: &Graph, first: ValueId, second: ValueId) -> Option<(ValueId, usize)> {
    let (a, b) = (g.producer(first)?, g.producer(second)?);
    let last = |op: OpId, axis: i64| {
        let x = g.operand(op, 0)?;
        (normalize_axis(axis, g.value(x).rank()?)? == 3).then_some(x)
    };
    let half = g.value(first).shape()?.last()?.size()?;
    let split = g.op(a.0);
    if a.0 == b.0 && split.is("Split") && !split.has_ref_attrs() && (a.1, b.1) == (0, 1) {
        return Some((last(a.0, g.op(a.0).int_or("axis", 0))?, half));
    }
    let slice = |v: ValueId| {
        let op = maker(g, v, "Slice")?;
        let one = |i: usize| match known_ints(g, g.operand(op, i)?)?[..] {
            [n] => Some(n),
            _ => None,
        };
        let step = if g.operand(op, 4).is_some() { one(4)? } else { 1 };
        let start = usize::try_from(one(1)?).ok().filter(|_| step == 1)?;
        Some((last(op, one(3)?)?, start))
    };
    let (x, start) = slice(first)?;
    (slice(second)? == (x, half) && start == 0).then_some((x, half))
}

/// Cosines or sines of half a head, `[batch, length, half]`, out of those of a whole one.
fn plan_cache(
    g: &Graph,
    at: &Rotation,
    v: ValueId,
    function: &str,
    patch: &mut Patch,
) -> Result<Ref, Miss> {
    let name = format!("{}_half", g.value(v).name());
    if let Some(t) = g.const_tensor(v) {
        let half = half_of(t, at).ok_or("the angles are not the same for both halves")?;
        return Ok(patch.constant(name, half));
    }
    let rows = maker(g, v, "Unsqueeze").filter(|op| {
        let axes = g.operand(*op, 1).and_then(|a| known_ints(g, a));
        axes.is_some_and(|a| a[..] == [1] || a[..] == [-3])
    });
    let rows = operand(g, rows.ok_or("the angles are not the same for all heads")?, 0)?;
    let no = || Miss::from("the angles are not repeated for both halves");
    let op = maker(g, rows, function).ok_or_else(no)?;
    let repeat = maker(g, operand(g, op, 0)?, "Concat").ok_or_else(no)?;
    let (a, b) = (operand(g, repeat, 0)?, operand(g, repeat, 1)?);
    let shape = g.value(a).shape().filter(|s| s.len() == 3).ok_or_else(no)?;
    let repeats = a == b
        && g.op(repeat).arity() == 2
        && g.op(repeat).int("axis").and_then(|axis| normalize_axis(axis, 3)) == Some(2)
        && shape[2].size() == Some(at.half);
    let fits = shape[0].same(&at.batch) && shape[1].same(&at.length);
    if !repeats || !fits || g.value(a).dtype() != g.value(at.x).dtype() {
        return Err(no());
    }
    Ok(patch.op(Op::new(function), &[a.into()], name))
}

/// The first half of constant rows of which both halves are equal, for a batch of one.
fn half_of(t: &Tensor, at: &Rotation) -> Option<Tensor> {
    let (&size, outer) = t.dims().split_last()?;
    let (&length, ones) = outer.split_last()?;
    let fits = size == 2 * at.half
        && at.batch == Dim::Known(1)
        && at.length.size() == Some(length)
        && outer.len() <= 3
        && ones.iter().all(|d| *d == 1);
    let raw = t.raw().filter(|_| fits && t.dtype().bits() >= 8)?;
    let width = size * t.dtype().bits() / 8;
    let mut bytes = Vec::with_capacity(raw.len() / 2);
    for row in raw.chunks_exact(width) {
        let (first, second) = row.split_at(width / 2);
        if first != second {
            return None;
        }
        bytes.extend_from_slice(first);
    }
    Tensor::new(t.dtype(), vec![1, length, at.half], bytes.into()).ok()
}
