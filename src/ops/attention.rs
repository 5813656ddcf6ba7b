//! Attention and what belongs to it.

use super::facts::{count, operand_shape};
use super::{Axes, InferCx, InferError, OpSchema, axes};
use crate::ir::{Dim, Graph, OpId, Shape};

pub(super) static SCHEMAS: &[OpSchema] = &[
    OpSchema {
        infer: infer_attention,
        macs: attention_macs,
        axes: Axes::Rule(axes::attention),
        ..OpSchema::new("Attention")
    },
    OpSchema { infer: same_as_input, ..OpSchema::new("RotaryEmbedding") },
    OpSchema { infer: same_as_input, ..OpSchema::new("TensorScatter") },
    OpSchema {
        infer: infer_linear_attention,
        macs: linear_attention_macs,
        ..OpSchema::new("LinearAttention")
    },
];

fn same_as_input(cx: &mut InferCx) -> Result<(), InferError> {
    cx.set(0, cx.dtype(0), cx.shape(0).cloned());
    Ok(())
}

/// Sizes of one of query, key, value: `[batch, heads, length, head size]`.
fn heads(shape: &Shape, heads: i64) -> Option<[Dim; 4]> {
    match &shape[..] {
        [b, h, s, d] => Some([b.clone(), h.clone(), s.clone(), d.clone()]),
        [b, s, hidden] => {
            let h = Dim::Known(heads);
            Some([b.clone(), h.clone(), s.clone(), hidden.floor_div(&h)])
        }
        _ => None,
    }
}

/// Query, key and value with heads apart.
fn qkv(g: &Graph, id: OpId) -> Option<[[Dim; 4]; 3]> {
    let op = g.op(id);
    let (q, kv) = (op.int_or("q_num_heads", 0), op.int_or("kv_num_heads", 0));
    let part = |slot: usize, n: i64| heads(operand_shape(g, id, slot)?, n);
    Some([part(0, q)?, part(1, kv)?, part(2, kv)?])
}

/// Length of keys and values together with what the cache holds.
fn total_length(g: &Graph, id: OpId, new: &Dim) -> Dim {
    match (g.operand(id, 4).is_some(), operand_shape(g, id, 4)) {
        (false, _) => new.clone(),
        (true, Some(past)) => past.get(2).map_or(Dim::Unknown, |d| d + new),
        (true, None) => Dim::Unknown,
    }
}

fn infer_attention(cx: &mut InferCx) -> Result<(), InferError> {
    let (dtype, vtype) = (cx.dtype(0), cx.dtype(2));
    for (slot, dtype) in [dtype, dtype, vtype, dtype].into_iter().enumerate() {
        cx.set(slot, dtype, None);
    }
    let (Some(rank), Some([q, k, v])) = (cx.rank(0), qkv(cx.graph(), cx.id())) else {
        return Ok(());
    };
    let [batch, q_heads, q_len, _] = q;
    let [_, kv_heads, kv_len, size] = k;
    let v_size = v[3].clone();
    let total = total_length(cx.graph(), cx.id(), &kv_len);
    let y = if rank == 3 {
        vec![batch.clone(), q_len.clone(), &q_heads * &v_size]
    } else {
        vec![batch.clone(), q_heads.clone(), q_len.clone(), v_size.clone()]
    };
    cx.set(0, dtype, Some(y));
    let cache = |size: Dim| vec![batch.clone(), kv_heads.clone(), total.clone(), size];
    cx.set(1, dtype, Some(cache(size)));
    cx.set(2, vtype, Some(cache(v_size)));
    cx.set(3, dtype, Some(vec![batch.clone(), q_heads, q_len, total.clone()]));
    Ok(())
}

/// Scores and their product with the values: `batch * heads * queries * keys * (size + v_size)`.
fn attention_macs(g: &Graph, id: OpId) -> Option<Dim> {
    let [q, k, v] = qkv(g, id)?;
    let total = total_length(g, id, &k[2]);
    let sizes = &q[3] + &v[3];
    count([&q[0], &q[1], &q[2], &total, &sizes])
}

/// Head counts and sizes of `LinearAttention`, whose operands are packed `[batch, steps, hidden]`.
fn linear_heads(g: &Graph, id: OpId) -> Option<(Dim, Dim, Dim, Dim)> {
    let op = g.op(id);
    let (q, kv) = (Dim::Known(op.int("q_num_heads")?), Dim::Known(op.int("kv_num_heads")?));
    let size = operand_shape(g, id, 0)?.get(2)?.floor_div(&q);
    let v_size = operand_shape(g, id, 2)?.get(2)?.floor_div(&kv);
    Some((q, kv, size, v_size))
}

fn infer_linear_attention(cx: &mut InferCx) -> Result<(), InferError> {
    let state = if cx.has(3) { cx.dtype(3) } else { cx.dtype(0) };
    cx.set(0, cx.dtype(0), None);
    cx.set(1, state, None);
    let Some((q, kv, size, v_size)) = linear_heads(cx.graph(), cx.id()) else { return Ok(()) };
    let Some([batch, steps, _]) = cx.shape(0).map(|s| &s[..]) else {
        return Err("query must have rank 3".into());
    };
    cx.set(0, cx.dtype(0), Some(vec![batch.clone(), steps.clone(), &q * &v_size]));
    cx.set(1, state, Some(vec![batch.clone(), kv, size, v_size]));
    Ok(())
}

/// Each step updates and reads a state of `size * v_size` for each head.
fn linear_attention_macs(g: &Graph, id: OpId) -> Option<Dim> {
    let (q, kv, size, v_size) = linear_heads(g, id)?;
    let x = operand_shape(g, id, 0)?;
    count([x.first()?, x.get(1)?, &(&q + &kv), &size, &v_size])
}
