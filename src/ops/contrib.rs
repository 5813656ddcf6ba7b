//! ONNX Runtime's own operators, as its optimizers leave them in a model: types and axes, for pruning.
//! Passes do not ask for these schemas, so nothing is made of such ops or into them.

use super::facts::{count, operand_shape, result_shape};
use super::{Axes, InferCx, InferError, OpSchema, axes, broadcast, conv, linear};
use crate::ir::{Dim, Graph, Op, OpId};

const DOMAIN: &str = "com.microsoft";

static SCHEMAS: &[OpSchema] = &[
    OpSchema {
        infer: infer_attention,
        axes: Axes::Rule(axes::merged_attention),
        macs: |g, op| attention_macs(g, op, true),
        ..OpSchema::new("Attention")
    },
    OpSchema {
        infer: infer_separate,
        axes: Axes::Rule(axes::multi_head_attention),
        macs: |g, op| attention_macs(g, op, false),
        ..OpSchema::new("MultiHeadAttention")
    },
    OpSchema {
        infer: |cx| {
            infer_separate(cx)?;
            infer_cache(cx);
            Ok(())
        },
        axes: Axes::Rule(axes::group_query_attention),
        macs: |g, op| attention_macs(g, op, false),
        ..OpSchema::new("GroupQueryAttention")
    },
    OpSchema {
        infer: infer_skip,
        axes: Axes::Rule(axes::skip_layer_norm),
        ..OpSchema::new("SkipLayerNormalization")
    },
    OpSchema {
        infer: infer_skip,
        axes: Axes::Rule(axes::skip_layer_norm),
        ..OpSchema::new("SkipSimplifiedLayerNormalization")
    },
    OpSchema {
        infer: infer_embed,
        axes: Axes::Rule(axes::embed_layer_norm),
        ..OpSchema::new("EmbedLayerNormalization")
    },
    OpSchema { infer: as_first, axes: Axes::Elementwise, ..OpSchema::new("BiasGelu") },
    OpSchema { infer: as_first, axes: Axes::Elementwise, ..OpSchema::new("FastGelu") },
    OpSchema { infer: as_first, axes: Axes::Elementwise, ..OpSchema::new("Gelu") },
    OpSchema { infer: as_first, axes: Axes::Elementwise, ..OpSchema::new("QuickGelu") },
    OpSchema {
        infer: linear::infer_fused,
        axes: Axes::Rule(axes::fused_matmul),
        macs: |g, op| {
            let a = operand_shape(g, op, 0)?;
            let flip = g.op(op).int_or("transA", 0) != 0;
            let inner = a.get(a.len().checked_sub(if flip { 2 } else { 1 })?)?;
            count(result_shape(g, op, 0)?.iter().chain([inner]))
        },
        ..OpSchema::new("FusedMatMul")
    },
    OpSchema {
        infer: linear::infer_gemm,
        axes: Axes::Rule(axes::gemm),
        macs: linear::gemm_macs,
        ..OpSchema::new("FusedGemm")
    },
    OpSchema {
        infer: |cx| conv::infer(cx, 1, cx.dtype(0)),
        axes: Axes::Rule(axes::fused_conv),
        macs: |g, op| conv::macs(g, op, 1),
        ..OpSchema::new("FusedConv")
    },
];

/// The schema of an operator of ONNX Runtime's domain. The two that it puts into the default domain
/// under no version of the standard are among them.
pub(super) fn schema(op: &Op) -> Option<&'static OpSchema> {
    static SIMPLIFIED: OpSchema = OpSchema {
        infer: as_first,
        axes: Axes::Rule(axes::layer_norm),
        ..OpSchema::new("SimplifiedLayerNormalization")
    };
    match op.domain.as_str() {
        "" => Some(&SIMPLIFIED).filter(|s| s.op_type == op.op_type),
        DOMAIN => SCHEMAS.iter().find(|s| s.op_type == op.op_type),
        _ => None,
    }
}

fn as_first(cx: &mut InferCx) -> Result<(), InferError> {
    cx.set(0, cx.dtype(0), cx.shape(0).cloned());
    Ok(())
}

/// Sizes of the merged query, key and value: `[hidden, hidden, value]` of the second weight axis.
fn merged(g: &Graph, op: OpId) -> Option<[Dim; 3]> {
    if let Some([q, k, v]) = g.op(op).ints("qkv_hidden_sizes") {
        return Some([*q, *k, *v].map(Dim::Known));
    }
    let all = operand_shape(g, op, 1)?.get(1)?.known()?;
    (all % 3 == 0).then(|| [0; 3].map(|_| Dim::Known(all / 3)))
}

fn infer_attention(cx: &mut InferCx) -> Result<(), InferError> {
    cx.set(0, cx.dtype(0), None);
    let (Some(x), Some([.., v])) = (cx.shape(0), merged(cx.graph(), cx.id())) else {
        return Ok(());
    };
    let [batch, length, _] = &x[..] else { return Err("its input has not three axes".into()) };
    cx.set(0, cx.dtype(0), Some(vec![batch.clone(), length.clone(), v]));
    Ok(())
}

/// Query, key and value by themselves, heads end to end.
fn infer_separate(cx: &mut InferCx) -> Result<(), InferError> {
    cx.set(0, cx.dtype(0), None);
    let (Some([batch, length, q]), Some([_, _, k]), Some([_, _, v])) =
        (cx.shape(0).map(|s| &s[..]), cx.shape(1).map(|s| &s[..]), cx.shape(2).map(|s| &s[..]))
    else {
        return Ok(());
    };
    // Heads of queries have the size of heads of values: as many, or as many as the attribute says.
    let hidden = match cx.op().int("kv_num_heads") {
        Some(_) => q.clone(),
        None if q.same(k) => v.clone(),
        None => Dim::Unknown,
    };
    cx.set(0, cx.dtype(0), Some(vec![batch.clone(), length.clone(), hidden]));
    Ok(())
}

/// Keys and values as `GroupQueryAttention` gives them out: heads apart, as long as the cache.
fn infer_cache(cx: &mut InferCx) {
    let heads = Dim::Known(cx.op().int_or("kv_num_heads", 0));
    for (slot, of) in [(1, 1), (2, 2)] {
        let shape = match cx.shape(of).map(|s| &s[..]) {
            Some([batch, _, hidden]) if heads != Dim::Known(0) => {
                Some(vec![batch.clone(), heads.clone(), Dim::Unknown, hidden.floor_div(&heads)])
            }
            _ => None,
        };
        cx.set(slot, cx.dtype(of), shape);
    }
}

fn infer_skip(cx: &mut InferCx) -> Result<(), InferError> {
    let shape = match (cx.shape(0), cx.shape(1)) {
        (Some(x), Some(skip)) => Some(broadcast(x, skip)?),
        _ => None,
    };
    cx.set(0, cx.dtype(0), shape.clone());
    cx.set(3, cx.dtype(0), shape);
    Ok(())
}

fn infer_embed(cx: &mut InferCx) -> Result<(), InferError> {
    let shape = cx.shape(0).zip(cx.shape(2)).and_then(|(ids, table)| {
        let mut shape = ids.clone();
        shape.push(table.get(1)?.clone());
        Some(shape)
    });
    cx.set(0, cx.dtype(2), shape.clone());
    cx.set(2, cx.dtype(2), shape);
    Ok(())
}

/// The sums over features and keys, without a cache; where the projections are merged, these as well.
fn attention_macs(g: &Graph, op: OpId, projected: bool) -> Option<Dim> {
    let x = operand_shape(g, op, 0)?;
    let [batch, length, _] = &x[..] else { return None };
    if projected {
        let [q, _, v] = merged(g, op)?;
        let weight = operand_shape(g, op, 1)?;
        let project = count([batch, length].into_iter().chain(weight))?;
        let attend = count([batch, length, length, &(&q + &v)])?;
        return Some(&project + &attend);
    }
    let keys = operand_shape(g, op, 1)?.get(1)?;
    let (q, out) = (x.get(2)?, result_shape(g, op, 0)?.get(2)?);
    count([batch, length, keys, &(q + out)])
}
