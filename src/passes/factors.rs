//! Products and quotients of scalars and tensors, taken apart.

use super::pattern::sole_maker;
use crate::ir::{Graph, OpId, ValueId};

/// `coefficient * factors[0] * factors[1] * …`: what a tree of Mul and Div with single constants
/// computes.
pub(super) struct Product {
    pub coefficient: f64,
    pub factors: Vec<ValueId>,
}

/// Factors after which the search gives up: no pattern has as many.
const MAX_FACTORS: usize = 4;

/// Takes the result of `root`, a Mul or Div, apart. Only ops that nothing else reads are looked
/// into; `None` for division by a tensor.
pub(super) fn product(g: &Graph, root: OpId) -> Option<Product> {
    let mut product = Product { coefficient: 1.0, factors: Vec::new() };
    let mut open = vec![root];
    while let Some(op) = open.pop() {
        let divides = g.op(op).is("Div");
        for i in 0..2 {
            let v = g.operand(op, i)?;
            let constant = g.const_tensor(v).filter(|t| t.dtype().is_float());
            if let Some(c) = constant.and_then(|t| t.single()) {
                product.coefficient *= if divides && i == 1 { 1.0 / c } else { c };
                continue;
            }
            if divides && i == 1 {
                return None;
            }
            match sole_maker(g, v, &["Mul", "Div"]) {
                Some(inner) if product.factors.len() + open.len() < MAX_FACTORS => open.push(inner),
                _ => product.factors.push(v),
            }
        }
        if product.factors.len() > MAX_FACTORS {
            return None;
        }
    }
    product.factors.sort_unstable();
    Some(product)
}

/// `value` as `coefficient * x`, when it is made by a Mul or Div with a single constant.
pub(super) fn scaled(g: &Graph, value: ValueId) -> Option<(f64, ValueId)> {
    let op = sole_maker(g, value, &["Mul", "Div"])?;
    let found = product(g, op)?;
    match found.factors[..] {
        [x] => Some((found.coefficient, x)),
        _ => None,
    }
}

/// `value` as `x + summand`, when it is made by an Add with a single constant, or a Sub of one.
pub(super) fn shifted(g: &Graph, value: ValueId) -> Option<(ValueId, f64)> {
    let op = sole_maker(g, value, &["Add", "Sub"])?;
    let pair = super::pattern::with_const(g, op).ok()?;
    let c = pair.data.single()?;
    match (g.op(op).is("Sub"), pair.slot) {
        (false, _) => Some((pair.other, c)),
        (true, 0) => Some((pair.other, -c)),
        _ => None,
    }
}

/// Equal to the precision that exporters write constants with.
pub(super) fn close(a: f64, b: f64) -> bool {
    (a - b).abs() <= 1e-6 * b.abs().max(1e-6)
}
