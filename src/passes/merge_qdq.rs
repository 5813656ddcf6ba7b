//! # merge-qdq
//!
//! ## What it does
//! Removes a QuantizeLinear of what a DequantizeLinear with the same scale and zero point just made: two
//! Q/DQ pairs in a row become one.
//!
//! ## Before/after
//! ```text
//! a = QuantizeLinear (x, s, z)             a = QuantizeLinear (x, s, z)
//! b = DequantizeLinear (a, s, z)           y = DequantizeLinear (a, s, z)
//! c = QuantizeLinear (b, s, z)
//! y = DequantizeLinear (c, s, z)
//! ```
//!
//! ## When it applies
//! Integers of 4, 8 or 16 bits; scales and zero points are constant and equal element by element, along
//! the same axis. Quantizing then gives back every integer, since scales so far from the limits of
//! the type lose less than half a step.
//!
//! ## What it preserves
//! Names of results; the pair that is left is one that TensorRT takes wherever it took the two.
//!
//! ## Limits
//! Pairs with other scales round again, and stay; so does what stands between a DequantizeLinear and a
//! QuantizeLinear, even if it only moves data: TensorRT moves the pair itself and takes no integers
//! there.

use super::pattern::{maker, operand};
use crate::ir::{DType, Graph, Miss, OpId, Patch, Tensor};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct MergeQdq;

static INFO: PassInfo = PassInfo {
    name: "merge-qdq",
    summary: "merge two Q/DQ pairs with equal scales in a row",
    semantics: Semantics::Exact,
    source: include_str!("merge_qdq.rs"),
};

impl Rewrite for MergeQdq {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["QuantizeLinear"]
    }

    fn plan(&self, g: &Graph, at: OpId, _: &Site) -> Result<Patch, Miss> {
        let dq = maker(g, operand(g, at, 0)?, "DequantizeLinear");
        let dq = dq.ok_or("no DequantizeLinear before it")?;
        let source = operand(g, dq, 0)?;
        let dtype = g.value(source).dtype().ok_or("the quantized type is not known")?;
        let y = g.result(at, 0).and_then(|v| g.value(v).dtype());
        if !is_small_int(dtype) || y != Some(dtype) {
            return Err("the quantized types differ".into());
        }
        let scale = g.const_operand(at, 1).ok_or("the scale is not constant")?;
        let same_scale = g.const_operand(dq, 1).is_some_and(|s| same(s, scale));
        if !same_scale || !is_safe(scale, dtype) {
            return Err("the scales differ, or are at the limits of their type".into());
        }
        let zero = |op| g.operand(op, 2).map(|v| g.const_tensor(v));
        let same_zero = match (zero(dq), zero(at)) {
            (None, None) => true,
            (Some(Some(a)), Some(Some(b))) => same(a, b),
            (Some(Some(z)), None) | (None, Some(Some(z))) => is_zero(z),
            _ => false,
        };
        let attr = |name, default| g.op(dq).int_or(name, default) == g.op(at).int_or(name, default);
        if !same_zero || !attr("block_size", 0) || !(attr("axis", 1) || scale.len() == 1) {
            return Err("the zero points or axes differ".into());
        }
        let mut patch = Patch::at(at);
        patch.bypass(g, at, source)?;
        Ok(patch)
    }
}

fn is_small_int(dtype: DType) -> bool {
    use DType::{I4, I8, I16, U4, U8, U16};
    matches!(dtype, I4 | U4 | I8 | U8 | I16 | U16)
}

fn same(a: &Tensor, b: &Tensor) -> bool {
    a.dtype() == b.dtype() && a.dims() == b.dims() && a.data() == b.data()
}

fn is_zero(t: &Tensor) -> bool {
    t.raw().is_some_and(|raw| raw.iter().all(|b| *b == 0))
}

/// Integers times a scale neither overflow nor lose half a step.
fn is_safe(scale: &Tensor, dtype: DType) -> bool {
    let wide = dtype.bits() == 16;
    let limits = match scale.dtype() {
        DType::F32 => 1e-30..1e30,
        DType::F16 if !wide => 1e-4..64.0,
        _ => return false,
    };
    scale.to_f64().is_some_and(|s| s.iter().all(|s| limits.contains(s)))
}
