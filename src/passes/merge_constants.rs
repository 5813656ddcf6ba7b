//! # merge-constants
//!
//! ## What it does
//! Combines two constants that are added to, or multiplied with, the same tensor one after the other.
//!
//! ## Before/after
//! ```text
//! a = Mul (x, two)         y = Mul (x, six)
//! y = Mul (a, three)
//! ```
//! Add with Add, Sub (x, c) with either; Mul with Mul, Div (x, c) with either.
//!
//! ## When it applies
//! The elements are floats, the constant that comes of it has hardly more elements than both, and
//! nothing else reads what lies between.
//!
//! ## What it preserves
//! The name of the result. The constant is computed in double precision and rounded once.
//!
//! ## Limits
//! It does not fire where the combined constant would leave the range of its type, or where one of
//! the factors is zero or so small that the order matters.

use super::pattern::{is_plain_float, result, sole_maker, with_const};
use super::weights::float_tensor;
use crate::ir::{Graph, Miss, Op, OpId, Patch, Tensor, element_count};
use crate::ops::broadcast_pairs;
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct MergeConstants;

static INFO: PassInfo = PassInfo {
    name: "merge-constants",
    summary: "combine constants that are added or multiplied one after the other",
    semantics: Semantics::Reassociates,
    source: include_str!("merge_constants.rs"),
};

impl Rewrite for MergeConstants {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Add", "Sub", "Mul", "Div"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if site.opset < 7 {
            return Err("broadcasting before opset 7 is by attributes".into());
        }
        let (sums, before_types): (bool, &[&str]) = match g.op(at).op_type.as_str() {
            "Add" | "Sub" => (true, &["Add", "Sub"]),
            _ => (false, &["Mul", "Div"]),
        };
        let second = forward(g, at)?;
        let before = sole_maker(g, second.other, before_types);
        let before = before.ok_or("no such op before it alone")?;
        let first = forward(g, before)?;
        let combined = combine(sums, (&first, g.op(before)), (&second, g.op(at)))?;
        let mut patch = Patch::at(at);
        let name = format!("{}_operand", g.value(result(g, at)?).name());
        let constant = patch.constant(name, combined);
        let op = Op::new(if sums { "Add" } else { "Mul" }).named(g.op(at).name.clone());
        patch.replace(g, at, op, vec![Some(first.other.into()), Some(constant)]);
        Ok(patch)
    }
}

/// The op and its constant, which must not be what is subtracted from or divided.
fn forward(g: &Graph, op: OpId) -> Result<super::pattern::WithConst<'_>, Miss> {
    let pair = with_const(g, op)?;
    let swaps = g.op(op).is("Add") || g.op(op).is("Mul");
    if pair.slot == 1 && !swaps {
        return Err("the constant is on the wrong side".into());
    }
    if !is_plain_float(pair.data.dtype()) {
        return Err("the elements are no plain floats".into());
    }
    Ok(pair)
}

/// Elements that a combined constant may hold beyond those of both.
const SMALL: usize = 64;

fn combine(
    sums: bool,
    (first, first_op): (&super::pattern::WithConst, &Op),
    (second, second_op): (&super::pattern::WithConst, &Op),
) -> Result<Tensor, Miss> {
    let (a, b) = (first.data, second.data);
    let (dims, pairs) = broadcast_pairs(a.dims(), b.dims()).ok_or("the constants do not fit")?;
    let count = element_count(&dims).filter(|n| *n <= a.len() + b.len() + SMALL);
    let count = count.ok_or("one constant would hold much more than both")?;
    let elements = |t: &Tensor, op: &Op| -> Option<Vec<f64>> {
        let mut v = t.to_f64()?;
        match op.op_type.as_str() {
            "Sub" => v.iter_mut().for_each(|v| *v = -*v),
            "Div" => v.iter_mut().for_each(|v| *v = 1.0 / *v),
            _ => {}
        }
        Some(v)
    };
    let (x, y) = (elements(a, first_op), elements(b, second_op));
    let (x, y) = x.zip(y).ok_or("a constant is not numeric")?;
    // A factor near zero may turn a large product back into a finite one.
    let tame = |v: &f64| sums || (1e-6..1e6).contains(&v.abs());
    if !x.iter().chain(&y).all(tame) {
        return Err("the order of the factors may matter".into());
    }
    let one = |(i, j): (usize, usize)| if sums { x[i] + y[j] } else { x[i] * y[j] };
    let combined: Vec<f64> = pairs.map(one).take(count).collect();
    let combined = float_tensor(a.dtype(), &dims, &combined);
    combined.ok_or_else(|| "the combined constant would leave the range of its type".into())
}
