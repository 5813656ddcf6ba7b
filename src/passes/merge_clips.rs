//! # merge-clips
//!
//! ## What it does
//! Merges Relu, Clip, and Min and Max with a single constant into one Clip.
//!
//! ## Before/after
//! ```text
//! a = Relu (x)             y = Clip (x, zero, six)
//! y = Clip (a, low, six)                               low <= 0
//! ```
//!
//! ## When it applies
//! Two of these ops in a row, all bounds constant, and nothing else reads what lies between.
//!
//! ## What it preserves
//! The name of the last result.
//!
//! ## Limits
//! Needs opset 11, where Clip has bounds as operands, and float elements. Relu∘Relu is the business of
//! `eliminate-idempotent`.

use super::pattern::{is_plain_float, operand, scalar, sole_maker};
use super::weights::float_tensor;
use crate::ir::{Graph, Miss, Op, OpId, Patch, ValueId};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct MergeClips;

static INFO: PassInfo = PassInfo {
    name: "merge-clips",
    summary: "merge Relu, Clip, Min and Max with constants into one Clip",
    semantics: Semantics::Exact,
    source: include_str!("merge_clips.rs"),
};

const CLIPPING: &[&str] = &["Relu", "Clip", "Min", "Max"];

impl Rewrite for MergeClips {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        CLIPPING
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if site.opset < 11 {
            return Err("before opset 11 the bounds are attributes".into());
        }
        let (middle, second) = bounds(g, at)?;
        let before = sole_maker(g, middle, CLIPPING).ok_or("no clipping op before it alone")?;
        let (source, first) = bounds(g, before)?;
        if g.op(at).is("Relu") && g.op(before).is("Relu") {
            return Err("two Relu ops are one Relu".into());
        }
        let dtype = g.value(middle).dtype().ok_or("the element type is not known")?;
        if !is_plain_float(dtype) {
            return Err("the elements are no plain floats".into());
        }
        // Clamping to [a, b], then to [c, d], is clamping to both ends of [a, b] clamped to [c, d].
        if first.0 > first.1 || second.0 > second.1 {
            return Err("a lower bound is above the upper one".into());
        }
        let clamp = |v: f64| v.max(second.0).min(second.1);
        let mut patch = Patch::at(at);
        let mut operands = vec![Some(source.into())];
        for (bound, name) in [(clamp(first.0), "min"), (clamp(first.1), "max")] {
            let tensor = float_tensor(dtype, &[], &[bound]).filter(|_| bound.is_finite());
            let value = g.value(super::pattern::result(g, at)?).name();
            operands.push(tensor.map(|t| patch.constant(format!("{value}_{name}"), t)));
        }
        let clip = Op::new("Clip").named(g.op(at).name.clone());
        patch.replace(g, at, clip, operands);
        Ok(patch)
    }
}

/// The operand that an op clips, and its bounds.
fn bounds(g: &Graph, at: OpId) -> Result<(ValueId, (f64, f64)), Miss> {
    let op = g.op(at);
    let (low, high) = (f64::NEG_INFINITY, f64::INFINITY);
    let (source, bounds) = match op.op_type.as_str() {
        "Relu" => (operand(g, at, 0)?, (0.0, high)),
        "Clip" => {
            let bound = |i: usize, open: f64| match g.operand(at, i) {
                None => Ok(open),
                Some(v) => scalar(g, v).ok_or(Miss::from("a bound is no constant")),
            };
            (operand(g, at, 0)?, (bound(1, low)?, bound(2, high)?))
        }
        _ => {
            let pair = super::pattern::with_const(g, at)?;
            if pair.data.rank() != 0 {
                return Err("the constant is no single number".into());
            }
            let v = pair.data.single().ok_or("the constant is not numeric")?;
            (pair.other, if op.is("Max") { (v, high) } else { (low, v) })
        }
    };
    if bounds.0.is_nan() || bounds.1.is_nan() {
        return Err("a bound is not a number".into());
    }
    Ok((source, bounds))
}
