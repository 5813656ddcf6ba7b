//! # lower-einsum
//!
//! ## What it does
//! Makes a MatMul, a Transpose, a ReduceSum or a Mul of an Einsum that is one, and lets an Einsum do
//! the work of Transposes around it.
//!
//! ## Before/after
//! ```text
//! y = Einsum <equation = "bhqd,bhdk->bhqk"> (x, z)         y = MatMul (x, z)
//! ```
//!
//! ## When it applies
//! Every letter stands once in an operand. Of two operands, one letter is summed over, each has one of
//! its own (the first may have several when the second is a matrix), and the others are the same in
//! both and lead. The order fits a MatMul, or a constant operand or a Transpose next to it takes the
//! difference.
//!
//! ## What it preserves
//! The name of the result.
//!
//! ## Limits
//! Where the number of ops would rise, or a size that is summed over is not known to be the same in
//! both operands, the Einsum stays.

use super::layout::{Perm, is_identity, permutation};
use super::pattern::{maker, operand, result};
use crate::ir::{AttrValue, Graph, Miss, Op, OpId, Patch, Ref, Tensor, ValueId};
use crate::ops::{Equation, Label};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct LowerEinsum;

static INFO: PassInfo = PassInfo {
    name: "lower-einsum",
    summary: "make a MatMul, Transpose, ReduceSum or Mul of an Einsum",
    semantics: Semantics::Reassociates,
    source: include_str!("lower_einsum.rs"),
};

impl Rewrite for LowerEinsum {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Einsum"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        let equation = Equation::of(g, at).ok_or("its equation or a rank is not known")?;
        for term in equation.operands.iter().chain([&equation.result]) {
            if (1..term.len()).any(|i| term[..i].contains(&term[i])) {
                return Err("a letter stands twice in an operand".into());
            }
        }
        let lowered = match equation.operands.len() {
            1 => single(g, at, &equation, site.opset),
            2 => pair(g, at, &equation),
            _ => Err("it has more than two operands".into()),
        };
        lowered.or_else(|miss| absorb(g, at, &equation).ok_or(miss))
    }
}

/// For each label of `to`, its place in `from`.
fn order(from: &[Label], to: &[Label]) -> Option<Perm> {
    (from.len() == to.len()).then_some(())?;
    to.iter().map(|l| from.iter().position(|m| m == l)).collect()
}

fn transpose(perm: &[usize]) -> Op {
    Op::new("Transpose").with("perm", perm.iter().map(|&p| p as i64).collect::<Vec<i64>>())
}

fn single(g: &Graph, at: OpId, equation: &Equation, opset: i64) -> Result<Patch, Miss> {
    let (from, to) = (&equation.operands[0], &equation.result);
    let x = operand(g, at, 0)?;
    let mut patch = Patch::at(at);
    if let Some(perm) = order(from, to) {
        let op = transpose(&perm).named(g.op(at).name.clone());
        patch.replace(g, at, op, vec![Some(x.into())]);
        return Ok(patch);
    }
    let kept: Vec<Label> = from.iter().copied().filter(|l| to.contains(l)).collect();
    if kept != *to {
        return Err("it sums up and moves axes, too".into());
    }
    let summed = (0i64..).zip(from).filter(|(_, l)| !to.contains(l)).map(|(i, _)| i);
    let axes: Vec<i64> = summed.collect();
    let mut op = Op::new("ReduceSum").named(g.op(at).name.clone()).with("keepdims", 0i64);
    let mut operands = vec![Some(x.into())];
    if opset >= 13 {
        let name = format!("{}_axes", g.value(result(g, at)?).name());
        operands.push(Some(patch.constant(name, Tensor::vector(&axes))));
    } else {
        op.set_attr("axes", axes);
    }
    patch.replace(g, at, op, operands);
    Ok(patch)
}

/// Labels of the operands and the result of a MatMul.
struct Product {
    swapped: bool,
    left: Vec<Label>,
    right: Vec<Label>,
    result: Vec<Label>,
}

impl Product {
    /// The product that an equation of two operands states, the operands in this order or swapped.
    fn of(equation: &Equation, swapped: bool) -> Option<Product> {
        let (a, b) = match swapped {
            false => (&equation.operands[0], &equation.operands[1]),
            true => (&equation.operands[1], &equation.operands[0]),
        };
        let out = &equation.result;
        let [summed] = a.iter().filter(|l| !out.contains(l)).copied().collect::<Vec<_>>()[..]
        else {
            return None;
        };
        let known = b.iter().filter(|l| !out.contains(l)).eq([&summed]);
        let shared: Vec<Label> =
            out.iter().copied().filter(|l| a.contains(l) && b.contains(l)).collect();
        let own = |t: &[Label], u: &[Label]| -> Vec<Label> {
            out.iter().copied().filter(|l| t.contains(l) && !u.contains(l)).collect()
        };
        let (rows, columns) = (own(a, b), own(b, a));
        let single =
            columns.len() == 1 && (rows.len() == 1 || (shared.is_empty() && !rows.is_empty()));
        (known && single && shared.len() + rows.len() + 1 == out.len()).then_some(())?;
        let join = |parts: &[&[Label]]| parts.concat();
        Some(Product {
            swapped,
            left: join(&[&shared, &rows, &[summed]]),
            right: join(&[&shared, &[summed], &columns]),
            result: join(&[&shared, &rows, &columns]),
        })
    }
}

fn pair(g: &Graph, at: OpId, equation: &Equation) -> Result<Patch, Miss> {
    let (a, b) = (operand(g, at, 0)?, operand(g, at, 1)?);
    let [first, second] = &equation.operands[..] else {
        return Err("it has no two operands".into());
    };
    if first == second && *first == equation.result {
        let mut patch = Patch::at(at);
        let op = Op::new("Mul").named(g.op(at).name.clone());
        patch.replace(g, at, op, vec![Some(a.into()), Some(b.into())]);
        return Ok(patch);
    }
    let size = |v: ValueId, term: &[Label], l: &Label| {
        let axis = term.iter().position(|m| m == l)?;
        g.value(v).shape()?.get(axis).cloned()
    };
    let same = |l: &Label| match (size(a, first, l), size(b, second, l)) {
        (Some(p), Some(q)) => p.same(&q),
        _ => true,
    };
    if !first.iter().all(same) {
        return Err("the sizes are not known to be the same in both operands".into());
    }
    let mut why = Miss::from("it is no product of matrices");
    for product in [false, true].into_iter().filter_map(|swap| Product::of(equation, swap)) {
        match multiply(g, at, equation, &product) {
            Ok(patch) => return Ok(patch),
            Err(miss) => why = miss,
        }
    }
    Err(why)
}

fn multiply(g: &Graph, at: OpId, equation: &Equation, product: &Product) -> Result<Patch, Miss> {
    const COSTS: &str = "a MatMul would need a Transpose";
    let mut patch = Patch::at(at);
    let mut operands = Vec::new();
    for (i, want) in [&product.left, &product.right].into_iter().enumerate() {
        let slot = if product.swapped { 1 - i } else { i };
        let v = operand(g, at, slot)?;
        let perm = order(&equation.operands[slot], want).ok_or("it is no product of matrices")?;
        if is_identity(&perm) {
            operands.push(Some(Ref::Old(v)));
            continue;
        }
        let free =
            g.is_const(v) || maker(g, v, "Transpose").is_some_and(|_| g.sole_use(v).is_some());
        if !free {
            return Err(COSTS.into());
        }
        let name = format!("{}_moved", g.value(v).name());
        operands.push(Some(patch.op(transpose(&perm), &[v.into()], name)));
    }
    let y = result(g, at)?;
    let back = order(&product.result, &equation.result).ok_or("it is no product of matrices")?;
    let op = Op::new("MatMul").named(g.op(at).name.clone());
    if is_identity(&back) {
        patch.replace(g, at, op, operands);
        return Ok(patch);
    }
    if !g.sole_use(y).is_some_and(|(op, _)| g.op(op).is("Transpose")) {
        return Err(COSTS.into());
    }
    let made = patch.value(format!("{}_product", g.value(y).name()), None);
    patch.op_into(op, operands, vec![Some(made)]);
    patch.replace(g, at, transpose(&back), vec![Some(made)]);
    Ok(patch)
}

/// The Einsum that reads what a Transpose before it reads, or makes what a Transpose after it makes.
fn absorb(g: &Graph, at: OpId, equation: &Equation) -> Option<Patch> {
    let letter = |l: &Label| match l {
        Label::Letter(c) => Some(*c),
        Label::Dots(_) => None,
    };
    let spell = |term: &[Label]| term.iter().map(letter).collect::<Option<String>>();
    let mut terms = equation.operands.iter().map(|t| spell(t)).collect::<Option<Vec<String>>>()?;
    let mut result_term = spell(&equation.result)?;
    let picked = |term: &str, perm: &[usize]| -> Option<String> {
        perm.iter().map(|&p| term.chars().nth(p)).collect()
    };
    let mut patch = Patch::at(at);
    let y = g.result(at, 0)?;
    let after = g.sole_use(y).map(|(op, _)| op).and_then(|op| Some((op, permutation(g, op)?)));
    let mut absorbed = false;
    for (i, term) in terms.iter_mut().enumerate() {
        let v = g.operand(at, i)?;
        let before = maker(g, v, "Transpose").filter(|_| g.sole_use(v).is_some());
        let Some((op, perm)) = before.and_then(|op| Some((op, permutation(g, op)?))) else {
            continue;
        };
        *term = picked(term, &super::layout::inverse(&perm))?;
        patch.set_operand(at, i, Some(g.operand(op, 0)?.into()));
        absorbed = true;
    }
    if let Some((op, perm)) = after {
        result_term = picked(&result_term, &perm)?;
        patch.set_result(at, 0, g.result(op, 0)?);
        patch.remove(op);
        absorbed = true;
    }
    let equation = format!("{}->{result_term}", terms.join(","));
    patch.set_attr(at, "equation", AttrValue::Str(equation.into_bytes().into()));
    absorbed.then_some(patch)
}
