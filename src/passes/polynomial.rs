//! Polynomials of one value, however they are written.

use super::pattern::{operand, scalar, sole_maker};
use crate::ir::{Graph, ValueId};

/// Coefficients of 1, x, x² and x³.
pub(super) type Cubic = [f64; 4];

/// Ops on the longest way from `value` to `x`.
const DEPTH: usize = 8;

/// `value` as a polynomial of `x` of degree three at most, when it is made from it by Add, Sub, Mul,
/// Div and Pow with single constants, and nothing else reads what is computed on the way.
pub(super) fn polynomial(g: &Graph, value: ValueId, x: ValueId) -> Option<Cubic> {
    of(g, value, x, DEPTH)
}

fn of(g: &Graph, value: ValueId, x: ValueId, depth: usize) -> Option<Cubic> {
    if value == x {
        return Some([0.0, 1.0, 0.0, 0.0]);
    }
    if let Some(c) = scalar(g, value) {
        return Some([c, 0.0, 0.0, 0.0]);
    }
    let depth = depth.checked_sub(1)?;
    let op = sole_square(g, value).or_else(|| sole_maker(g, value, OPS))?;
    let (left, right) = (operand(g, op, 0).ok()?, operand(g, op, 1).ok()?);
    let a = of(g, left, x, depth)?;
    let b = of(g, right, x, depth)?;
    let constant = (b[1..] == [0.0; 3]).then_some(b[0]);
    match g.op(op).op_type.as_str() {
        "Add" => Some(std::array::from_fn(|i| a[i] + b[i])),
        "Sub" => Some(std::array::from_fn(|i| a[i] - b[i])),
        "Mul" => times(&a, &b),
        "Div" => constant.map(|c| a.map(|v| v / c)),
        _ if constant == Some(2.0) => times(&a, &a),
        _ if constant == Some(3.0) => times(&times(&a, &a)?, &a),
        _ => None,
    }
}

const OPS: &[&str] = &["Add", "Sub", "Mul", "Div", "Pow"];

/// The op that makes a value which one Mul reads in both slots.
fn sole_square(g: &Graph, value: ValueId) -> Option<crate::ir::OpId> {
    let uses = g.uses(value);
    let [(a, _), (b, _)] = uses[..] else { return None };
    let squared = a == b && g.op(a).is("Mul") && !g.is_output(value);
    super::pattern::maker_of(g, value, OPS).filter(|_| squared)
}

fn times(a: &Cubic, b: &Cubic) -> Option<Cubic> {
    let mut product = [0.0; 4];
    for (i, p) in a.iter().enumerate() {
        for (j, q) in b.iter().enumerate() {
            let c = p * q;
            match product.get_mut(i + j) {
                Some(sum) => *sum += c,
                None if c == 0.0 => {}
                None => return None,
            }
        }
    }
    Some(product)
}
