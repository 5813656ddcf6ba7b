//! # fuse-hard-swish
//!
//! ## What it does
//! Recognizes HardSwish, `x * clip (x + 3, 0, 6) / 6`, and the HardSigmoid in it.
//!
//! ## Before/after
//! ```text
//! a = Add (x, three)               s = HardSigmoid <alpha = 1/6> (x)    y = HardSwish (x)
//! b = Clip (a, zero, six)          y = Mul (x, s)
//! c = Mul (x, b)
//! y = Div (c, six)
//! ```
//!
//! ## When it applies
//! From opset 14 on, which has HardSwish, to one op; before it to HardSigmoid and, if need be, Mul.
//!
//! ## What it preserves
//! The name of the result.
//!
//! ## Limits
//! Only the constants 3 and 6; plain floats.

use super::factors::{close, product, shifted};
use super::pattern::{is_plain_float, keeps_rank, maker, operand, result, scalar, sole_maker};
use crate::ir::{DType, Graph, Miss, Op, OpId, Patch, ValueId};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct FuseHardSwish;

static INFO: PassInfo = PassInfo {
    name: "fuse-hard-swish",
    summary: "recognize HardSwish and HardSigmoid",
    semantics: Semantics::Reassociates,
    source: include_str!("fuse_hard_swish.rs"),
};

impl Rewrite for FuseHardSwish {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Mul", "Div"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        let p = product(g, at).ok_or("it is no plain product")?;
        let dtype = g.value(operand(g, at, 0)?).dtype();
        let narrow = dtype == Some(DType::BF16) && site.opset < 22;
        if site.opset < 6 || narrow || !dtype.is_some_and(is_plain_float) {
            return Err("the elements are no plain floats".into());
        }
        match p.factors[..] {
            [gate] => {
                let x = clipped(g, gate, site.opset).filter(|_| close(p.coefficient, 1.0 / 6.0));
                let x = x.ok_or("it is no HardSigmoid")?;
                keeps_rank(g, x, at)?;
                let mut patch = Patch::at(at);
                patch.replace(g, at, hard_sigmoid(), vec![Some(x.into())]);
                Ok(patch)
            }
            [a, b] => plan_swish(g, at, site, p.coefficient, [a, b]),
            _ => Err("it has more than two factors".into()),
        }
    }
}

fn hard_sigmoid() -> Op {
    Op::new("HardSigmoid").with("alpha", 1.0f32 / 6.0)
}

fn plan_swish(
    g: &Graph,
    at: OpId,
    site: &Site,
    coefficient: f64,
    [a, b]: [ValueId; 2],
) -> Result<Patch, Miss> {
    let mut patch = Patch::at(at);
    let name = g.op(at).name.clone();
    let swish = || Op::new("HardSwish").named(name.clone());
    for (x, gate) in [(a, b), (b, a)] {
        if clipped(g, gate, site.opset) == Some(x) && close(coefficient, 1.0 / 6.0) {
            keeps_rank(g, x, at)?;
            if site.opset >= 14 {
                patch.replace(g, at, swish(), vec![Some(x.into())]);
            } else {
                let stem = g.value(result(g, at)?).name();
                let gate = patch.op(hard_sigmoid(), &[x.into()], format!("{stem}_gate"));
                let mul = Op::new("Mul").named(name);
                patch.replace(g, at, mul, vec![Some(x.into()), Some(gate)]);
            }
            return Ok(patch);
        }
        let sigmoid = maker(g, gate, "HardSigmoid").filter(|op| is_sixth(g.op(*op)));
        let of_x = sigmoid.is_some_and(|op| g.operand(op, 0) == Some(x));
        if of_x && coefficient == 1.0 && site.opset >= 14 && g.sole_use(gate).is_some() {
            keeps_rank(g, x, at)?;
            patch.replace(g, at, swish(), vec![Some(x.into())]);
            return Ok(patch);
        }
    }
    Err("it is no HardSwish".into())
}

fn is_sixth(op: &Op) -> bool {
    close(f64::from(op.float_or("alpha", 0.2)), 1.0 / 6.0) && op.float_or("beta", 0.5) == 0.5
}

/// The `x` of `clip (x + 3, 0, 6)`.
fn clipped(g: &Graph, gate: ValueId, opset: i64) -> Option<ValueId> {
    let clip = sole_maker(g, gate, &["Clip"])?;
    let bound = |attr: &str, i: usize| match opset {
        ..11 => g.op(clip).float(attr).map(f64::from),
        _ => g.operand(clip, i).and_then(|v| scalar(g, v)),
    };
    let six = bound("min", 1)? == 0.0 && bound("max", 2)? == 6.0;
    let (x, three) = shifted(g, g.operand(clip, 0)?)?;
    (six && three == 3.0).then_some(x)
}
