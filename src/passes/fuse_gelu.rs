//! # fuse-gelu
//!
//! ## What it does
//! Recognizes Gelu: `0.5 * x * (1 + erf (x / sqrt 2))`.
//!
//! ## Before/after
//! ```text
//! a = Div (x, sqrt_two)    y = Gelu (x)
//! b = Erf (a)
//! c = Add (b, one)
//! d = Mul (x, c)
//! y = Mul (d, half)
//! ```
//!
//! ## When it applies
//! From opset 20 on, which has Gelu; in any order of the factors.
//!
//! ## What it preserves
//! The name of the result.
//!
//! ## Limits
//! The approximation by tanh stays as it is.

use super::factors::{close, product, scaled, shifted};
use super::pattern::{operand, sole_maker};
use crate::ir::{Graph, Miss, Op, OpId, Patch, ValueId};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct FuseGelu;

static INFO: PassInfo = PassInfo {
    name: "fuse-gelu",
    summary: "recognize Gelu (from opset 20 on)",
    semantics: Semantics::Reassociates,
    source: include_str!("fuse_gelu.rs"),
};

impl Rewrite for FuseGelu {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Mul", "Div"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if site.opset < 20 {
            return Err("the operator set has no Gelu".into());
        }
        let p = product(g, at).ok_or("it is no plain product")?;
        let [a, b] = p.factors[..] else { return Err("it has not two factors".into()) };
        let x = [(a, b), (b, a)].into_iter().find(|(x, gate)| is_gate(g, *x, *gate));
        let (x, _) = x.filter(|_| close(p.coefficient, 0.5)).ok_or("it is no Gelu")?;
        let mut patch = Patch::at(at);
        let gelu = Op::new("Gelu").named(g.op(at).name.clone());
        patch.replace(g, at, gelu, vec![Some(x.into())]);
        Ok(patch)
    }
}

/// `gate` is `1 + erf (x / sqrt 2)`.
fn is_gate(g: &Graph, x: ValueId, gate: ValueId) -> bool {
    let erf = shifted(g, gate).filter(|(_, one)| *one == 1.0);
    let erf = erf.and_then(|(v, _)| sole_maker(g, v, &["Erf"]));
    let inner = erf.and_then(|op| operand(g, op, 0).ok()).and_then(|v| scaled(g, v));
    inner.is_some_and(|(by, v)| v == x && close(by, std::f64::consts::FRAC_1_SQRT_2))
}
