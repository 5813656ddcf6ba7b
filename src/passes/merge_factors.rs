//! # merge-factors
//!
//! ## What it does
//! Multiplies one operand of a matrix product by a constant where both operands, or the product, too,
//! are multiplied by one.
//!
//! ## Before/after
//! ```text
//! a = Mul (q, half)                a = Mul (q, quarter)
//! b = Mul (k, half)                y = MatMul (a, k)
//! y = MatMul (a, b)
//! ```
//!
//! ## When it applies
//! The factors are single constants near 1 (a millionth to a million), the elements float or double,
//! and nothing else reads what is multiplied.
//!
//! ## What it preserves
//! The name of the result.
//!
//! ## Limits
//! Half precision stays: there, both operands are scaled to keep the product in range.

use super::pattern::{operand, result, sole_maker, with_const};
use super::weights::float_tensor;
use crate::ir::{DType, Graph, Miss, OpId, Patch, ValueId};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct MergeFactors;

static INFO: PassInfo = PassInfo {
    name: "merge-factors",
    summary: "combine constant factors around a matrix product",
    semantics: Semantics::Reassociates,
    source: include_str!("merge_factors.rs"),
};

impl Rewrite for MergeFactors {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["MatMul"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if site.opset < 7 {
            return Err("broadcasting before opset 7 is by attributes".into());
        }
        let y = result(g, at)?;
        let dtype = g.value(y).dtype().filter(|d| matches!(d, DType::F32 | DType::F64));
        let dtype = dtype.ok_or("the elements are neither float nor double")?;
        let before = |i: usize| -> Result<Option<Factor>, Miss> {
            let made = sole_maker(g, operand(g, at, i)?, &["Mul", "Div"]);
            Ok(made.and_then(|op| factor(g, op)))
        };
        let after = g.sole_use(y).and_then(|(op, _)| factor(g, op)).filter(|f| f.source == y);
        let (left, right) = (before(0)?, before(1)?);
        let product: f64 =
            [&left, &right, &after].into_iter().flatten().map(|f| f.constant).product();
        let found = [&left, &right, &after].into_iter().flatten().count();
        let tame = (1e-6..1e6).contains(&product.abs());
        if found < 2 || !tame {
            return Err("there are no two factors, or they are extreme".into());
        }
        let mut patch = Patch::at(at);
        let kept = left.as_ref().or(right.as_ref()).ok_or("no operand has a factor")?;
        let name = format!("{}_factor", g.value(result(g, kept.op)?).name());
        let data = float_tensor(dtype, &[], &[product]).ok_or("the product is out of range")?;
        let constant = patch.constant(name, data);
        let op = crate::ir::Op::new("Mul").named(g.op(kept.op).name.clone());
        patch.replace(g, kept.op, op, vec![Some(kept.source.into()), Some(constant)]);
        if let (Some(_), Some(right)) = (&left, &right) {
            patch.set_operand(at, 1, Some(right.source.into()));
        }
        if let Some(after) = &after {
            patch.set_result(at, 0, result(g, after.op)?);
            patch.remove(after.op);
        }
        Ok(patch)
    }
}

/// A multiplication by a single constant.
struct Factor {
    op: OpId,
    source: ValueId,
    constant: f64,
}

fn factor(g: &Graph, op: OpId) -> Option<Factor> {
    let node = g.op(op);
    if !(node.is("Mul") || node.is("Div")) || node.has_ref_attrs() {
        return None;
    }
    let pair = with_const(g, op).ok()?;
    let c = pair.data.single().filter(|_| pair.data.rank() == 0 || pair.data.dims() == [1])?;
    let constant = match (node.is("Div"), pair.slot) {
        (false, _) => c,
        (true, 0) => 1.0 / c,
        (true, _) => return None,
    };
    let tame = (1e-6..1e6).contains(&constant.abs());
    let ranked = g.value(pair.other).rank().is_some_and(|r| r >= 1);
    (tame && ranked).then_some(Factor { op, source: pair.other, constant })
}
