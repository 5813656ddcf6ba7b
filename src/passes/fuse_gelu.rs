//! # fuse-gelu
//!
//! ## What it does
//! Recognizes Gelu, `0.5 * x * (1 + erf (x / sqrt 2))`, and its approximation
//! `0.5 * x * (1 + tanh (sqrt (2 / pi) * (x + 0.044715 * x^3)))`.
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
//! From opset 20 on, which has Gelu; in any order of the factors, and however the polynomial is
//! written.
//!
//! ## What it preserves
//! The name of the result.
//!
//! ## Limits
//! The approximation by a Sigmoid stays as it is: no standard operator is it.

use super::factors::{close, product, shifted};
use super::pattern::{keeps_rank, operand, sole_maker};
use super::polynomial::polynomial;
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
        let kind = |(x, gate)| kind(g, x, gate).map(|kind| (x, kind));
        let found = [(a, b), (b, a)].into_iter().find_map(kind);
        let found = found.filter(|_| close(p.coefficient, 0.5));
        let (x, approximate) = found.ok_or("it is no Gelu")?;
        keeps_rank(g, x, at)?;
        let mut patch = Patch::at(at);
        let mut gelu = Op::new("Gelu").named(g.op(at).name.clone());
        if approximate {
            gelu = gelu.with("approximate", "tanh");
        }
        patch.replace(g, at, gelu, vec![Some(x.into())]);
        Ok(patch)
    }
}

/// `gate` is `1 + erf (x / sqrt 2)`, or its approximation by tanh: whether it is that.
fn kind(g: &Graph, x: ValueId, gate: ValueId) -> Option<bool> {
    use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_PI};
    let (inner, _) = shifted(g, gate).filter(|(_, one)| *one == 1.0)?;
    let op = sole_maker(g, inner, &["Erf", "Tanh"])?;
    let approximate = g.op(op).is("Tanh");
    let slope = if approximate { FRAC_2_PI.sqrt() } else { FRAC_1_SQRT_2 };
    let cube = if approximate { 0.044_715 * slope } else { 0.0 };
    let found = polynomial(g, operand(g, op, 0).ok()?, x)?;
    let fits = found.iter().zip([0.0, slope, 0.0, cube]).all(|(a, b)| close(*a, b));
    fits.then_some(approximate)
}
