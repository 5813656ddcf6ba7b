//! # fuse-attention
//!
//! ## What it does
//! Recognizes Attention: softmax of scaled products of queries and keys, with or without a mask,
//! times values.
//!
//! ## Before/after
//! ```text
//! t = Transpose <perm = [0,1,3,2]> (k)     y = Attention <scale = …> (q, k, v, mask)
//! a = MatMul (q, t)
//! b = Mul (a, scale)
//! c = Add (b, mask)
//! p = Softmax <axis = -1> (c)
//! y = MatMul (p, v)
//! ```
//!
//! ## When it applies
//! From opset 23 on, which has the operator. Queries, keys and values have four axes, the same batch
//! and the same number of heads, or one head of keys and values for all; keys and values that are
//! repeated for groups of queries are taken before that (grouped-query attention). The mask, if there is one,
//! is added, has four axes and spreads over batch and heads; one that is the same for all queries
//! is expanded when their number is known, as ONNX Runtime asks. The scale may be a factor or divisor of
//! the queries, the keys or the products, and is positive.
//!
//! ## What it preserves
//! The name of the result.
//!
//! ## Limits
//! Only what TensorRT takes: neither past keys nor a softcap. Keys that are transposed for the product
//! are taken before it, or transposed back where the Transpose does something else, too. Doubles,
//! and probabilities that something else reads, stay.

use super::factors::scaled;
use super::pattern::{maker, operand, result, sole_maker};
use crate::ir::{DType, Dim, Graph, Miss, Op, OpId, Patch, Ref, Shape, Tensor, ValueId};
use crate::ops::normalize_axis;
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct FuseAttention;

static INFO: PassInfo = PassInfo {
    name: "fuse-attention",
    summary: "recognize Attention (from opset 23 on)",
    semantics: Semantics::Reassociates,
    source: include_str!("fuse_attention.rs"),
};

impl Rewrite for FuseAttention {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["MatMul"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if site.opset < 23 {
            return Err("the operator set has no Attention".into());
        }
        let no = || Miss::from("it is no attention");
        let softmax = sole_maker(g, operand(g, at, 0)?, &["Softmax"]).ok_or_else(no)?;
        let axis = normalize_axis(g.op(softmax).int_or("axis", -1), 4);
        let scores = operand(g, softmax, 0)?;
        let (scores, mask) = masked(g, scores);
        let (outer, scores) = scaled(g, scores).unwrap_or((1.0, scores));
        let product = sole_maker(g, scores, &["MatMul"]).ok_or_else(no)?;
        let (q, by_q) = unscaled(g, operand(g, product, 0)?);
        let keys = Keys::of(g, operand(g, product, 1)?);
        let scale = outer * by_q * keys.scale;
        let v = operand(g, at, 1)?;
        let (keys, v) = grouped(g, keys, v);
        if g.value(operand(g, softmax, 0)?).rank() != Some(4) {
            return Err("the products have not four axes".into());
        }
        if axis != Some(3) || !(scale.is_finite() && scale > 0.0) {
            return Err(no());
        }
        check_shapes(g, q, &keys, v)?;
        let mut patch = Patch::at(at);
        let mask = mask.map(|m| plan_mask(g, q, &keys, m, &mut patch)).transpose()?;
        let key = keys.upright(g, &mut patch);
        let op = Op::new("Attention").named(g.op(at).name.clone()).with("scale", scale as f32);
        let mut operands = vec![Some(q.into()), Some(key), Some(v.into())];
        operands.extend(mask.map(Some));
        patch.op_into(op, operands, vec![Some(result(g, at)?.into())]);
        patch.remove(at);
        Ok(patch)
    }
}

/// The scores without the mask that is added to them, and the mask.
fn masked(g: &Graph, scores: ValueId) -> (ValueId, Option<ValueId>) {
    let Some(add) = sole_maker(g, scores, &["Add"]) else { return (scores, None) };
    let (Some(a), Some(b)) = (g.operand(add, 0), g.operand(add, 1)) else { return (scores, None) };
    let is_product = |v: ValueId| {
        let inner = scaled(g, v).map_or(v, |(_, inner)| inner);
        sole_maker(g, inner, &["MatMul"]).is_some()
    };
    match (is_product(a), is_product(b)) {
        (true, _) => (a, Some(b)),
        (false, true) => (b, Some(a)),
        _ => (scores, None),
    }
}

fn unscaled(g: &Graph, v: ValueId) -> (ValueId, f64) {
    scaled(g, v).map_or((v, 1.0), |(by, inner)| (inner, by))
}

/// The second operand of the product of queries and keys, taken apart.
struct Keys {
    /// What the keys are made from.
    from: ValueId,
    /// How to transpose that for `[batch, heads, length, head size]`; `None` where nothing has to be.
    perm: Option<Vec<i64>>,
    scale: f64,
    /// They were repeated for groups of queries.
    grouped: bool,
}

/// Keys and values before both were repeated for groups of queries.
fn grouped(g: &Graph, keys: Keys, v: ValueId) -> (Keys, ValueId) {
    let from = keys.perm.is_none().then(|| unrepeated(g, keys.from)).flatten();
    match (from, unrepeated(g, v)) {
        (Some(from), Some(v)) => (Keys { from, grouped: true, ..keys }, v),
        _ => (keys, v),
    }
}

/// What a Reshape of an Expand of an Unsqueeze repeats along its heads, each one for all its copies.
fn unrepeated(g: &Graph, v: ValueId) -> Option<ValueId> {
    let reshape = maker(g, v, "Reshape")?;
    let expand = maker(g, g.operand(reshape, 0)?, "Expand")?;
    let unsqueeze = maker(g, g.operand(expand, 0)?, "Unsqueeze")?;
    let source = g.operand(unsqueeze, 0)?;
    let (from, to) = (four(g, source)?, four(g, v)?);
    let wide = g.value(g.operand(reshape, 0)?).shape().filter(|s| s.len() == 5)?;
    let single = g.value(g.operand(expand, 0)?).shape().filter(|s| s.len() == 5)?;
    let copies = wide[2].size()?;
    let kept = [(0, 0), (1, 1), (2, 3), (3, 4)];
    let fits = single[2] == Dim::Known(1)
        && kept.iter().all(|&(i, j)| from[i].same(&wide[j]) && from[i].same(&single[j]))
        && [0, 2, 3].iter().all(|&i| from[i].same(&to[i]))
        && to[1].size() == from[1].size().and_then(|h| h.checked_mul(copies));
    fits.then_some(source)
}

impl Keys {
    fn of(g: &Graph, v: ValueId) -> Keys {
        let (v, outer) = unscaled(g, v);
        let swapped = vec![0, 1, 3, 2];
        let transpose = sole_maker(g, v, &["Transpose"]);
        let perm = transpose.and_then(|op| g.op(op).ints("perm")).filter(|p| p.len() == 4);
        let (Some(op), Some(perm)) = (transpose, perm) else {
            return Keys { from: v, perm: Some(swapped), scale: outer, grouped: false };
        };
        let Some(from) = g.operand(op, 0) else {
            return Keys { from: v, perm: Some(swapped), scale: outer, grouped: false };
        };
        let (from, inner) = unscaled(g, from);
        let perm = vec![perm[0], perm[1], perm[3], perm[2]];
        let scale = outer * inner;
        Keys { from, perm: Some(perm).filter(|p| p[..] != [0, 1, 2, 3]), scale, grouped: false }
    }

    fn shape(&self, g: &Graph) -> Option<Shape> {
        let shape = g.value(self.from).shape().filter(|s| s.len() == 4)?;
        match &self.perm {
            None => Some(shape.clone()),
            Some(perm) => {
                perm.iter().map(|&p| shape.get(usize::try_from(p).ok()?).cloned()).collect()
            }
        }
    }

    fn upright(&self, g: &Graph, patch: &mut Patch) -> Ref {
        match &self.perm {
            None => self.from.into(),
            Some(perm) => {
                let op = Op::new("Transpose").with("perm", perm.clone());
                patch.op(op, &[self.from.into()], format!("{}_keys", g.value(self.from).name()))
            }
        }
    }
}

fn four(g: &Graph, v: ValueId) -> Option<&Shape> {
    g.value(v).shape().filter(|s| s.len() == 4)
}

fn check_shapes(g: &Graph, q: ValueId, keys: &Keys, v: ValueId) -> Result<(), Miss> {
    let (Some(qs), Some(ks), Some(vs)) = (four(g, q), keys.shape(g), four(g, v)) else {
        return Err("queries, keys or values have not four axes".into());
    };
    let dtype = g.value(q).dtype();
    let plain = matches!(dtype, Some(DType::F32 | DType::F16 | DType::BF16));
    if !plain || [keys.from, v].into_iter().any(|p| g.value(p).dtype() != dtype) {
        return Err("the elements are no floats of one type".into());
    }
    let groups = qs[1].known().zip(ks[1].known()).is_some_and(|(q, k)| k > 0 && q % k == 0);
    let heads_fit = qs[1].same(&ks[1]) || ks[1] == Dim::Known(1) || (keys.grouped && groups);
    let same_batch = qs[0].same(&ks[0]) && qs[0].same(&vs[0]);
    match same_batch && heads_fit && ks[1].same(&vs[1]) && ks[2].same(&vs[2]) {
        true => Ok(()),
        false => Err("batch or heads of queries, keys and values differ".into()),
    }
}

/// The mask, with a row for each query.
fn plan_mask(
    g: &Graph,
    q: ValueId,
    keys: &Keys,
    mask: ValueId,
    patch: &mut Patch,
) -> Result<Ref, Miss> {
    let shapes = (four(g, mask), four(g, q), keys.shape(g));
    let (Some(shape), Some(qs), Some(ks)) = shapes else {
        return Err("the mask has not four axes".into());
    };
    let one = Dim::Known(1);
    let spreads = |i: usize| shape[i] == one || shape[i].same(&qs[i]);
    let fits = spreads(0) && spreads(1) && shape[3].same(&ks[2]);
    if !fits || g.value(mask).dtype() != g.value(q).dtype() {
        return Err("the mask does not spread over the products".into());
    }
    if shape[2].same(&qs[2]) {
        return Ok(mask.into());
    }
    let rows = qs[2].known().filter(|_| shape[2] == one);
    let rows = rows.ok_or("the mask does not spread over the products")?;
    let name = g.value(mask).name();
    let sizes = patch.constant(format!("{name}_rows"), Tensor::vector(&[1, 1, rows, 1]));
    Ok(patch.op(Op::new("Expand"), &[mask.into(), sizes], format!("{name}_expanded")))
}
