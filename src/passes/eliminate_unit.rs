//! # eliminate-unit
//!
//! ## What it does
//! Removes arithmetic with the neutral element: `x + 0`, `x - 0`, `x * 1`, `x / 1`, `x ^ 1`, and
//! `x And true`, `x Or false`.
//!
//! ## Before/after
//! ```text
//! a = Mul (x, one)         y = Relu (x)        one = {1}
//! y = Relu (a)
//! ```
//!
//! ## When it applies
//! The constant holds nothing but neutral elements and does not make the result larger than `x` by
//! broadcasting.
//!
//! ## What it preserves
//! Names of graph outputs. `x + 0` turns a negative zero into a positive one; without the op it stays
//! negative, which is why the pass counts as reassociating.
//!
//! ## Limits
//! `0 - x`, `1 / x` and `1 ^ x` are no identities.

use super::pattern::{broadcasts_into, with_const};
use crate::ir::{DType, Graph, Miss, OpId, Patch, Tensor};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct EliminateUnit;

static INFO: PassInfo = PassInfo {
    name: "eliminate-unit",
    summary: "remove x + 0, x * 1 and the like",
    semantics: Semantics::Reassociates,
    source: include_str!("eliminate_unit.rs"),
};

impl Rewrite for EliminateUnit {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Add", "Sub", "Mul", "Div", "Pow", "And", "Or"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if site.opset < 7 {
            return Err("broadcasting before opset 7 is by attributes".into());
        }
        let pair = with_const(g, at)?;
        let op = g.op(at);
        let (unit, swaps) = match op.op_type.as_str() {
            "Add" => (0.0, true),
            "Sub" => (0.0, false),
            "Mul" | "And" => (1.0, true),
            "Or" => (0.0, true),
            _ => (1.0, false),
        };
        if pair.slot == 1 && !swaps {
            return Err("the constant is on the wrong side".into());
        }
        if !is_all(pair.data, unit) {
            return Err("the constant is not neutral".into());
        }
        if !broadcasts_into(pair.data.dims(), g.value(pair.other)) {
            return Err("the constant may make the result larger by broadcasting".into());
        }
        let mut patch = Patch::at(at);
        patch.bypass(g, at, pair.other)?;
        Ok(patch)
    }
}

/// Large constants are looked at only as far as the first element that differs.
fn is_all(t: &Tensor, unit: f64) -> bool {
    let Some(raw) = t.raw() else { return false };
    let all = |ok: &dyn Fn(&[u8]) -> bool, width: usize| raw.chunks_exact(width).all(ok);
    match t.dtype() {
        DType::F32 => all(&|b| f64::from(bytemuck::pod_read_unaligned::<f32>(b)) == unit, 4),
        _ if t.len() <= 1 << 16 => t.to_f64().is_some_and(|v| v.iter().all(|&v| v == unit)),
        _ => false,
    }
}
