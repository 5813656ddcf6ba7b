//! ONNX Runtime's own operators.

use super::AxisRef::{Operand, Result as Out};
use super::attention::{Packed, pairs};
use super::{AxisLink, AxisRef, InferCx, Refusal, contract, has_weight, len, out_rank, rank};

/// `Attention` of ONNX Runtime: one weight and one bias for query, key and value, which lie side by
/// side, heads end to end in each.
///
/// # Errors
/// With a cache, rotary positions, sizes of their own, or a weight that is not constant.
pub fn merged_attention(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    if cx.has(4) || cx.has(6) || cx.result(1).is_some() {
        return Err("it keeps a cache".into());
    }
    if cx.op().ints("qkv_hidden_sizes").is_some() || cx.op().int_or("do_rotary", 0) != 0 {
        return Err("it has sizes or positions of its own".into());
    }
    let heads = usize::try_from(cx.op().int_or("num_heads", 0)).unwrap_or(0);
    let all = len(cx, 1, 1).filter(|_| has_weight(cx, 1)).ok_or("its weight is not constant")?;
    if heads == 0 || !all.is_multiple_of(3 * heads) || all > super::MAX_PAIRS {
        return Err("its number of heads does not fit".into());
    }
    let (hidden, each) = (all / 3, all / 3 / heads);
    let first = |i: usize| (i % hidden / each * each) as u32;
    let whole = (0..all).map(|i| (first(i), i as u32)).collect();
    let mut links = sequence();
    links.extend([
        AxisLink::Contract(Operand(0, 2), Operand(1, 0)),
        AxisLink::Made(Operand(1, 1)),
        AxisLink::Map(Operand(1, 1), Operand(1, 1), whole),
        AxisLink::Map(Operand(1, 1), Out(0, 2), (0..hidden as u32).map(|i| (i, i)).collect()),
        AxisLink::BlockCount(Out(0, 2), "num_heads"),
    ]);
    if cx.has(2) {
        links.push(AxisLink::Same(vec![Operand(1, 1), Operand(2, 0)]));
    }
    links.extend(added(cx, 5, Out(0, 2), heads, each));
    Ok(links)
}

/// Batch and positions.
fn sequence() -> Vec<AxisLink> {
    (0..2).map(|a| AxisLink::Same(vec![Operand(0, a), Out(0, a)])).collect()
}

/// What is added to the scores in slot `slot`, `[batch, heads, …]`, loses heads with the axis, whose
/// heads are `each` long.
fn added(cx: &InferCx, slot: usize, axis: AxisRef, heads: usize, each: usize) -> Option<AxisLink> {
    (cx.has(slot) && len(cx, slot, 1) != Some(1))
        .then(|| AxisLink::Map(axis, Operand(slot, 1), pairs(heads, heads, (each, 1))))
}

/// `MultiHeadAttention`: query, key and value by themselves, and one bias for all three.
///
/// # Errors
/// With a cache, packed operands, or numbers of heads that do not fit.
pub fn multi_head_attention(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    if (6..cx.arity()).any(|i| cx.has(i)) || (1..4).any(|j| cx.result(j).is_some()) {
        return Err("it keeps a cache".into());
    }
    let shape = Packed { q: "num_heads", kv: "num_heads", mask: None, cache: &[] };
    let (mut links, [dq, _, dv]) = separate(cx, &shape)?;
    let heads = usize::try_from(cx.op().int_or("num_heads", 0)).unwrap_or(0);
    if cx.has(3) {
        let (hidden, value) = (heads * dq, heads * dv);
        let run = |n: usize, at: usize| (0..n).map(|i| (i as u32, (at + i) as u32)).collect();
        links.extend([
            AxisLink::Map(Operand(0, 2), Operand(3, 0), run(hidden, 0)),
            AxisLink::Map(Operand(1, 2), Operand(3, 0), run(hidden, hidden)),
            AxisLink::Map(Operand(2, 2), Operand(3, 0), run(value, 2 * hidden)),
        ]);
    }
    links.extend(added(cx, 5, Operand(0, 2), heads, dq));
    Ok(links)
}

/// `GroupQueryAttention`: as [`multi_head_attention`], several heads of queries to one of keys and
/// values; the cache is `[batch, heads, length, features]`.
///
/// # Errors
/// With packed operands or numbers of heads that do not fit.
pub fn group_query_attention(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    if (9..cx.arity()).any(|i| cx.has(i)) {
        return Err("it has a bias or sinks of its own".into());
    }
    let cache = [Operand(3, 1), Operand(4, 1), Out(1, 1), Out(2, 1)];
    let shape = Packed { q: "num_heads", kv: "kv_num_heads", mask: None, cache: &cache };
    separate(cx, &shape).map(|(links, _)| links)
}

fn separate(cx: &InferCx, shape: &Packed) -> Result<(Vec<AxisLink>, [usize; 3]), Refusal> {
    if (0..3).any(|i| cx.rank(i) != Some(3)) {
        return Err("its operands have not three axes each".into());
    }
    let (links, sizes) = shape.links(cx)?;
    let mut all = sequence();
    all.extend(links);
    Ok((all, sizes))
}

/// `SkipLayerNormalization` and `SkipSimplifiedLayerNormalization`: the sum of two operands and a bias,
/// normalized along the last axis; the sum itself is the fourth result.
///
/// # Errors
/// When a rank is not known.
pub fn skip_layer_norm(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let out = out_rank(cx)?;
    let last = out.checked_sub(1).ok_or("it has no axes")?;
    let mut links = Vec::new();
    for a in 0..out {
        let mut refs = vec![Out(0, a)];
        refs.extend(cx.result(3).map(|_| Out(3, a)));
        for slot in (0..cx.arity()).filter(|i| cx.has(*i)) {
            let own = rank(cx, slot)?;
            if let Some(axis) = (a + own).checked_sub(out) {
                refs.push(Operand(slot, axis));
            }
        }
        links.push(AxisLink::Broadcast(refs));
    }
    links.push(AxisLink::Statistics(Out(0, last), 1));
    Ok(links)
}

/// `EmbedLayerNormalization`: rows of up to three tables, summed and normalized.
///
/// # Errors
/// Never.
pub fn embed_layer_norm(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let mut links: Vec<_> =
        (0..2).map(|a| AxisLink::Same(vec![Operand(0, a), Out(0, a)])).collect();
    let mut width = vec![Out(0, 2)];
    width.extend(cx.result(2).map(|_| Out(2, 2)));
    let tables = (2..5).filter(|i| cx.has(*i));
    width.extend(tables.clone().map(|slot| Operand(slot, 1)));
    width.extend((5..7).filter(|i| cx.has(*i)).map(|slot| Operand(slot, 0)));
    links.extend(tables.map(|slot| AxisLink::Made(Operand(slot, 1))));
    links.push(AxisLink::Same(width));
    links.push(AxisLink::Statistics(Out(0, 2), 1));
    Ok(links)
}

/// `FusedMatMul`: a matrix product of factors that may be transposed.
///
/// # Errors
/// When batch axes are moved or a factor is a vector.
pub fn fused_matmul(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let flip = |name| cx.op().int_or(name, 0) != 0;
    if flip("transBatchA") || flip("transBatchB") {
        return Err("it moves its batch axes".into());
    }
    let links = contract::matmul(cx)?;
    let ranks = [rank(cx, 0)?, rank(cx, 1)?];
    let flips = [flip("transA"), flip("transB")];
    if ranks.iter().zip(flips).any(|(r, flip)| flip && *r < 2) {
        return Err("it transposes a vector".into());
    }
    let turned = |at: AxisRef| match at {
        Operand(slot @ 0..=1, axis) if flips[slot] && axis + 2 >= ranks[slot] => {
            Operand(slot, 2 * ranks[slot] - 3 - axis)
        }
        other => other,
    };
    let all = |refs: Vec<AxisRef>| refs.into_iter().map(turned).collect();
    let link = |link| match link {
        AxisLink::Contract(a, b) => AxisLink::Contract(turned(a), turned(b)),
        AxisLink::Source { weight, result } => AxisLink::Source { weight: turned(weight), result },
        AxisLink::Same(refs) => AxisLink::Same(all(refs)),
        AxisLink::Broadcast(refs) => AxisLink::Broadcast(all(refs)),
        other => other,
    };
    Ok(links.into_iter().map(link).collect())
}

/// `FusedConv`: a convolution, perhaps a summand, an activation.
///
/// # Errors
/// As `Conv`.
pub fn fused_conv(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let mut links = contract::conv(cx)?;
    if cx.has(3) {
        links.push(AxisLink::Broadcast(vec![Operand(3, 1), Out(0, 1)]));
        links.push(AxisLink::Broadcast(vec![Operand(3, 0), Out(0, 0)]));
    }
    Ok(links)
}
