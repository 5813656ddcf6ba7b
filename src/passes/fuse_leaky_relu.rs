//! # fuse-leaky-relu
//!
//! ## What it does
//! Recognizes LeakyRelu, and PRelu where there is more than one slope.
//!
//! ## Before/after
//! ```text
//! a = Mul (x, slope)       y = LeakyRelu <alpha = slope> (x)
//! y = Max (x, a)
//! ```
//!
//! ## When it applies
//! `max (x, slope * x)` with a slope above 0 and up to 1; `x` where it is above, or not below, zero, and
//! `slope * x` elsewhere; `relu (x) - slope * relu (-x)`. The slope is constant; several of them
//! spread over `x`.
//!
//! ## What it preserves
//! The name of the result.
//!
//! ## Limits
//! Float32, float16 and doubles.

use super::factors::scaled;
use super::pattern::{
    broadcasts_into, keeps_rank, operand, result, scalar, sole_maker, with_const,
};
use crate::ir::{DType, Graph, Miss, Op, OpId, Patch, ValueId};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct FuseLeakyRelu;

static INFO: PassInfo = PassInfo {
    name: "fuse-leaky-relu",
    summary: "recognize LeakyRelu and PRelu",
    semantics: Semantics::Reassociates,
    source: include_str!("fuse_leaky_relu.rs"),
};

impl Rewrite for FuseLeakyRelu {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Max", "Where", "Add", "Sub"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if site.opset < 9 {
            return Err("it is looked for from opset 9 on".into());
        }
        let found = match g.op(at).op_type.as_str() {
            "Max" => of_max(g, at),
            "Where" => of_where(g, at),
            _ => of_halves(g, at),
        };
        let (x, slope) = found.ok_or("it is no LeakyRelu")?;
        let dtype = g.value(x).dtype();
        if !matches!(dtype, Some(DType::F32 | DType::F16 | DType::F64)) {
            return Err("the elements are no plain floats".into());
        }
        keeps_rank(g, x, at)?;
        let mut patch = Patch::at(at);
        let name = g.op(at).name.clone();
        match slope {
            Slope::One(alpha) => {
                let op = Op::new("LeakyRelu").named(name).with("alpha", alpha as f32);
                patch.op_into(op, vec![Some(x.into())], vec![Some(result(g, at)?.into())]);
            }
            Slope::Many(slope) => {
                let data = g.const_tensor(slope).ok_or("the slope is not constant")?;
                if !broadcasts_into(data.dims(), g.value(x)) {
                    return Err("the slope may make the result larger by broadcasting".into());
                }
                let operands = vec![Some(x.into()), Some(slope.into())];
                patch.op_into(
                    Op::new("PRelu").named(name),
                    operands,
                    vec![Some(result(g, at)?.into())],
                );
            }
        }
        patch.remove(at);
        Ok(patch)
    }
}

enum Slope {
    One(f64),
    Many(ValueId),
}

fn of_max(g: &Graph, at: OpId) -> Option<(ValueId, Slope)> {
    if g.op(at).arity() != 2 {
        return None;
    }
    let (a, b) = (operand(g, at, 0).ok()?, operand(g, at, 1).ok()?);
    [(a, b), (b, a)].into_iter().find_map(|(x, y)| {
        let (by, inner) = scaled(g, y)?;
        (inner == x && by > 0.0 && by <= 1.0).then_some((x, Slope::One(by)))
    })
}

fn of_where(g: &Graph, at: OpId) -> Option<(ValueId, Slope)> {
    let condition = sole_maker(g, operand(g, at, 0).ok()?, COMPARISONS)?;
    let compared = with_const(g, condition).ok()?;
    let (yes, no) = (operand(g, at, 1).ok()?, operand(g, at, 2).ok()?);
    if compared.data.single() != Some(0.0) {
        return None;
    }
    let greater = g.op(condition).op_type.starts_with("Greater");
    let above = greater == (compared.slot == 0);
    let (x, low) = if above { (yes, no) } else { (no, yes) };
    let (by, inner) = scaled(g, low)?;
    (inner == x && compared.other == x && by.is_finite()).then_some((x, Slope::One(by)))
}

const COMPARISONS: &[&str] = &["Greater", "GreaterOrEqual", "Less", "LessOrEqual"];

/// `relu (x)` plus the negative half: `± slope * relu (-x)`.
fn of_halves(g: &Graph, at: OpId) -> Option<(ValueId, Slope)> {
    let (a, b) = (operand(g, at, 0).ok()?, operand(g, at, 1).ok()?);
    let subtracts = g.op(at).is("Sub");
    let orders = if subtracts { vec![(a, b)] } else { vec![(a, b), (b, a)] };
    orders.into_iter().find_map(|(high, low)| {
        let relu = sole_maker(g, high, &["Relu"])?;
        let x = g.operand(relu, 0)?;
        let (slope, negated) = low_half(g, low, x)?;
        match slope {
            Slope::One(by) => {
                let alpha = if subtracts == negated { -by } else { by };
                Some((x, Slope::One(alpha)))
            }
            many => (subtracts != negated).then_some((x, many)),
        }
    })
}

/// `slope * relu (-x)`, and whether its sign is turned.
fn low_half(g: &Graph, v: ValueId, x: ValueId) -> Option<(Slope, bool)> {
    let is_relu = |v: ValueId| {
        let relu = sole_maker(g, v, &["Relu"])?;
        let neg = sole_maker(g, g.operand(relu, 0)?, &["Neg"])?;
        (g.operand(neg, 0)? == x).then_some(())
    };
    let turned = |v: ValueId| match sole_maker(g, v, &["Neg"]) {
        Some(neg) => g.operand(neg, 0).map(|inner| (inner, true)),
        None => Some((v, false)),
    };
    let (v, outer) = turned(v)?;
    let mul = sole_maker(g, v, &["Mul"])?;
    let pair = with_const(g, mul).ok()?;
    let (inner, turned_inside) = turned(pair.other)?;
    is_relu(inner)?;
    let constant = operand(g, mul, 1 - pair.slot).ok()?;
    let slope = scalar(g, constant).map_or(Slope::Many(constant), Slope::One);
    Some((slope, outer != turned_inside))
}
