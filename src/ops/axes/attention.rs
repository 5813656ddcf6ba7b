//! Attention: heads and their features.

use super::AxisRef::{Operand, Result as Out};
use super::{AxisLink, AxisRef, InferCx, Refusal, len, rank};

/// `Attention`: heads of queries go with the head of keys and values that they read; features of
/// queries with those of keys.
///
/// # Errors
/// When a rank or the number of heads is not known.
pub fn attention(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let mut links = vec![there(
        cx,
        true,
        &[Operand(0, 0), Operand(1, 0), Operand(2, 0), Operand(4, 0), Operand(5, 0), Out(0, 0)],
    )];
    match rank(cx, 0)? {
        4 => links.extend(apart(cx)?),
        3 => links.extend(packed(cx)?),
        _ => return Err("its operands have neither 3 nor 4 axes".into()),
    }
    Ok(links)
}

/// The listed axes that exist are one.
fn there(cx: &InferCx, broadcast: bool, list: &[AxisRef]) -> AxisLink {
    let is_there = |at: &AxisRef| match *at {
        Operand(slot, _) => cx.has(slot),
        Out(slot, _) => cx.result(slot).is_some(),
    };
    let list = list.iter().copied().filter(is_there).collect();
    if broadcast { AxisLink::Broadcast(list) } else { AxisLink::Same(list) }
}

/// Axis of the mask, and of the scores, that runs along the heads of the queries.
fn masks(cx: &InferCx) -> impl Iterator<Item = AxisRef> {
    let mask = cx.rank(3).and_then(|r| r.checked_sub(3)).map(|axis| Operand(3, axis));
    let scores = cx.result(3).map(|_| Out(3, 1));
    mask.into_iter().chain(scores)
}

/// Pairs of indices: head `h` of the queries begins with the first, the head of keys and values that
/// it reads with the second.
pub(super) fn pairs(q: usize, kv: usize, each: (usize, usize)) -> Vec<(u32, u32)> {
    let repeats = (q / kv.max(1)).max(1);
    (0..q).map(|h| ((h * each.0) as u32, (h / repeats * each.1) as u32)).collect()
}

fn fitting(q: usize, kv: usize) -> Result<(), Refusal> {
    match kv > 0 && q.is_multiple_of(kv) && q > 0 {
        true => Ok(()),
        false => Err("its numbers of heads do not fit".into()),
    }
}

/// Operands `[batch, heads, length, features]`.
fn apart(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let heads = |slot| len(cx, slot, 1).ok_or("its number of heads is not known");
    let (q, kv) = (heads(0)?, heads(1)?);
    fitting(q, kv)?;
    let mut own = vec![Operand(0, 1), Out(0, 1)];
    own.extend(masks(cx));
    let keys = [Operand(1, 1), Operand(2, 1), Operand(4, 1), Operand(5, 1), Out(1, 1), Out(2, 1)];
    let features = [Operand(1, 3), Operand(4, 3), Out(1, 3)];
    let mut links = vec![
        there(cx, true, &own),
        there(cx, false, &keys),
        there(cx, false, &features),
        there(cx, false, &[Operand(2, 3), Operand(5, 3), Out(0, 3), Out(2, 3)]),
    ];
    if kv > 1 {
        links.push(AxisLink::Map(Operand(0, 1), Operand(1, 1), pairs(q, kv, (1, 1))));
    }
    if cx.op().float("scale").is_some() {
        links.push(AxisLink::Contract(Operand(0, 3), Operand(1, 3)));
    } else {
        let fixed = |slot| AxisLink::Fixed(Operand(slot, 3), "its scale is that of its head size");
        links.extend([fixed(0), fixed(1)]);
    }
    Ok(links)
}

/// Attention whose operands are `[batch, length, heads * features]`, by what the operator calls things.
pub(super) struct Packed<'a> {
    /// Attribute with the number of heads of queries.
    pub q: &'static str,
    /// Attribute with that of keys and values.
    pub kv: &'static str,
    /// Axes of masks and scores that run along the heads of queries.
    pub mask: Option<Vec<AxisRef>>,
    /// Axes of caches that run along the heads of keys and values.
    pub cache: &'a [AxisRef],
}

impl Packed<'_> {
    /// The links of the axes that run along heads, and the sizes of a head of queries, keys and values.
    pub fn links(&self, cx: &InferCx) -> Result<(Vec<AxisLink>, [usize; 3]), Refusal> {
        let count = |name| usize::try_from(cx.op().int_or(name, 0)).unwrap_or(0);
        let (q, kv) = (count(self.q), count(self.kv));
        fitting(q, kv)?;
        let size = |slot, heads: usize| {
            let n = len(cx, slot, 2).filter(|n| n.is_multiple_of(heads));
            n.map(|n| n / heads).ok_or("the size of its heads is not known")
        };
        let (dq, dk, dv) = (size(0, q)?, size(1, kv)?, size(2, kv)?);
        let mut links = vec![
            AxisLink::Whole(Operand(0, 2), q),
            AxisLink::Whole(Operand(1, 2), kv),
            AxisLink::Whole(Operand(2, 2), kv),
            AxisLink::Whole(Out(0, 2), q),
            AxisLink::BlockCount(Operand(0, 2), self.q),
            AxisLink::Map(Operand(0, 2), Out(0, 2), pairs(q, q, (dq, dv))),
            AxisLink::Map(Operand(1, 2), Operand(2, 2), pairs(kv, kv, (dk, dv))),
        ];
        if self.kv != self.q {
            links.push(AxisLink::BlockCount(Operand(1, 2), self.kv));
        }
        if kv > 1 {
            links.push(AxisLink::Map(Operand(0, 2), Operand(1, 2), pairs(q, kv, (dq, dk))));
        }
        for mask in self.mask.iter().flatten() {
            links.push(AxisLink::Map(Operand(0, 2), *mask, pairs(q, q, (dq, 1))));
        }
        let AxisLink::Same(cache) = there(cx, false, self.cache) else {
            return Ok((links, [dq, dk, dv]));
        };
        for at in cache {
            links.push(AxisLink::Map(Operand(1, 2), at, pairs(kv, kv, (dk, 1))));
        }
        Ok((links, [dq, dk, dv]))
    }
}

/// Operands `[batch, length, heads * features]`.
fn packed(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let heads = usize::try_from(cx.op().int_or("q_num_heads", 0)).ok();
    let long = |mask: &AxisRef| match *mask {
        Operand(slot, axis) => len(cx, slot, axis) == heads,
        Out(..) => true,
    };
    let mask = Some(masks(cx).filter(long).collect());
    let cache = [Operand(4, 1), Operand(5, 1), Out(1, 1), Out(2, 1)];
    let shape = Packed { q: "q_num_heads", kv: "kv_num_heads", mask, cache: &cache };
    shape.links(cx).map(|(links, _)| links)
}
