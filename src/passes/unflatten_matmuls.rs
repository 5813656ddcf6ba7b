//! # unflatten-matmuls
//!
//! ## What it does
//! Merges the reshaping ops around a matrix product, or around other ops that treat the rows of a
//! tensor alike: these take any number of leading axes.
//!
//! ## Before/after
//! ```text
//! a = Reshape (x, {-1,64})         m = MatMul (x, w)           x is float[N,49,64]
//! g = Gemm (a, w, b)               y = Add (m, b)
//! y = Reshape (g, {-1,49,32})
//! ```
//! Where one of the two Reshapes changes the rows themselves, it does the work of both.
//!
//! ## When it applies
//! Nothing else reads what lies between, and one of the two Reshapes leaves the last axis alone. What
//! lies between: MatMul and Gemm by a matrix, elementwise ops with single constants or constant rows,
//! Softmax and normalizations over the last axis. Or one MatMul whose two operands are reshaped alike.
//!
//! ## What it preserves
//! The name of the last result.
//!
//! ## Limits
//! A Gemm that adds something becomes two ops, so it pays only where both Reshapes go, or one of them
//! and the ops that compute its shape. Needs opset 13.

use super::pattern::{is_unary, operand, result, sole_maker, with_const};
use super::reshape::{REGROUPING, target};
use crate::ir::{Dim, Graph, Miss, Op, OpId, Patch, Ref, Shape, Tensor, ValueId};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct UnflattenMatmuls;

static INFO: PassInfo = PassInfo {
    name: "unflatten-matmuls",
    summary: "merge reshaping ops around matrix products and other ops on rows",
    semantics: Semantics::Reassociates,
    source: include_str!("unflatten_matmuls.rs"),
};

/// Ops between the two that the search walks over.
const MAX_WALK: usize = 16;

impl Rewrite for UnflattenMatmuls {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        REGROUPING
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if site.opset < 13 {
            return Err("before opset 13 some ops on rows flatten their operand".into());
        }
        match sole_maker(g, operand(g, at, 0)?, &["MatMul"]) {
            Some(product) if !is_matrix(g, operand(g, product, 1)?) => batched(g, at, product),
            _ => Chain::before(g, at)?.plan(),
        }
    }
}

fn shape(g: &Graph, value: ValueId) -> Result<&[Dim], Miss> {
    let shape = g.value(value).shape().ok_or("a shape is not known")?;
    Ok(shape.as_slice())
}

fn same(a: &[Dim], b: &[Dim]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b))
}

fn is_matrix(g: &Graph, value: ValueId) -> bool {
    g.value(value).rank() == Some(2)
}

/// An op that treats rows alike, and the slot of the operand whose rows these are.
struct Link {
    id: OpId,
    slot: usize,
}

impl Link {
    fn of(g: &Graph, id: OpId) -> Option<Link> {
        let node = g.op(id);
        if node.has_ref_attrs() || node.result_count() != 1 || !node.domain.is_empty() {
            return None;
        }
        let first = Some(Link { id, slot: 0 });
        if is_unary(g, id, 1) {
            return first;
        }
        let x = g.operand(id, 0)?;
        match node.op_type.as_str() {
            "MatMul" => first.filter(|_| is_matrix(g, g.operand(id, 1).unwrap_or(x))),
            "Gemm" => first.filter(|_| multiplies_rows(g, id)),
            "Add" | "Sub" | "Mul" | "Div" => {
                let constant = with_const(g, id).ok()?;
                let dims = constant.data.dims();
                let row = dims.iter().rev().skip(1).all(|&d| d == 1) && dims.len() <= 2;
                let width = g.value(g.result(id, 0)?).shape()?.last()?;
                let kept = g.value(constant.other).shape()?.last()?.same(width);
                (row && kept).then_some(Link { id, slot: constant.slot })
            }
            "Softmax" | "LogSoftmax" | "LayerNormalization" | "RMSNormalization" => {
                let last = g.value(x).rank()? as i64 - 1;
                let rest = g.operands(id).into_iter().skip(1).flatten();
                let rows = rest.into_iter().all(|v| g.value(v).rank().is_some_and(|r| r <= 1));
                first.filter(|_| rows && [-1, last].contains(&node.int_or("axis", -1)))
            }
            _ => None,
        }
    }

    /// The Gemm adds something, which takes an op of its own.
    fn adds(&self, g: &Graph) -> bool {
        g.op(self.id).is("Gemm") && g.operand(self.id, 2).is_some()
    }

    /// The op on tensors of another rank; the last op that it becomes makes `into`.
    fn emit(&self, g: &Graph, x: Ref, into: Ref, patch: &mut Patch) {
        let mut op = g.op(self.id).clone();
        let mut operands: Vec<Option<Ref>> =
            g.operands(self.id).into_iter().map(|v| v.map(Ref::Old)).collect();
        operands[self.slot] = Some(x);
        if op.is("Gemm") {
            return gemm(g, self.id, operands, into, patch);
        }
        if op.attr("axis").is_some() {
            op.set_attr("axis", -1i64);
        }
        patch.op_into(op, operands, vec![Some(into)]);
    }
}

/// The Gemm is a product with a matrix, plus the same row for each row.
fn multiplies_rows(g: &Graph, id: OpId) -> bool {
    let node = g.op(id);
    let flag = |name: &str| node.int_or(name, 0) != 0;
    let plain = node.float_or("alpha", 1.0) == 1.0 && node.float_or("beta", 1.0) == 1.0;
    let own = g.operand(id, 1).is_some_and(|w| g.is_const(w) && g.sole_use(w).is_some());
    let row = g.operand(id, 2).is_none_or(|c| g.value(c).rank().is_some_and(|r| r <= 1));
    plain && !flag("transA") && (!flag("transB") || own) && row
}

/// A Gemm by a matrix as MatMul and Add.
fn gemm(g: &Graph, id: OpId, operands: Vec<Option<Ref>>, into: Ref, patch: &mut Patch) {
    let node = g.op(id);
    let mut weight = operands[1];
    if let (Some(w), true) = (g.operand(id, 1), node.int_or("transB", 0) != 0) {
        let op = Op::new("Transpose").with("perm", vec![1i64, 0]);
        weight = Some(patch.op(op, &[w.into()], format!("{}_transposed", g.value(w).name())));
    }
    let matmul = Op::new("MatMul").named(node.name.clone());
    match operands.get(2).copied().flatten() {
        None => patch.op_into(matmul, vec![operands[0], weight], vec![Some(into)]),
        Some(row) => {
            let made = g.result(id, 0).map(|v| g.value(v).name()).unwrap_or_default();
            let product = patch.value(format!("{made}_product"), None);
            patch.op_into(matmul, vec![operands[0], weight], vec![Some(product)]);
            patch.op_into(Op::new("Add"), vec![Some(product), Some(row)], vec![Some(into)]);
        }
    }
}

/// Two reshaping ops and what lies between.
struct Chain<'a> {
    g: &'a Graph,
    at: OpId,
    /// From the last to the first.
    links: Vec<Link>,
    /// What the first reshaping op reads.
    source: ValueId,
}

impl<'a> Chain<'a> {
    fn before(g: &'a Graph, at: OpId) -> Result<Chain<'a>, Miss> {
        let mut links: Vec<Link> = Vec::new();
        let mut value = operand(g, at, 0)?;
        loop {
            if let Some(first) = sole_maker(g, value, REGROUPING) {
                let by_itself = links.iter().all(|l| is_unary(g, l.id, 1));
                return match by_itself {
                    true => Err("no op on rows is between it and the reshape before".into()),
                    false => Ok(Chain { g, at, links, source: operand(g, first, 0)? }),
                };
            }
            let id = g.sole_use(value).and_then(|_| g.producer_op(value));
            let link = id.filter(|_| links.len() < MAX_WALK).and_then(|id| Link::of(g, id));
            let link = link.ok_or("no reshape before it that it could merge with")?;
            value = operand(g, link.id, link.slot)?;
            links.push(link);
        }
    }

    fn plan(&self) -> Result<Patch, Miss> {
        let g = self.g;
        let start = self.links.last().ok_or("nothing is between")?;
        let start = shape(g, operand(g, start.id, start.slot)?)?;
        let end = shape(g, operand(g, self.at, 0)?)?;
        let (from, to) = (shape(g, self.source)?, shape(g, result(g, self.at)?)?);
        let ends = (from.split_last(), start.split_last(), end.split_last(), to.split_last());
        let (Some((k, lead)), Some((width, _)), Some((n, _)), Some((last, back))) = ends else {
            return Err("it is a single number".into());
        };
        let wide = |lead: &[Dim], n: &Dim| -> Shape { [lead, std::slice::from_ref(n)].concat() };
        let (keeps, gives) = (k.same(width) && !lead.is_empty(), last.same(n) && !back.is_empty());
        if keeps && gives && same(lead, back) {
            return self.emit(None, None, 2);
        }
        if keeps && let Ok(sizes) = target(Some(&wide(lead, n)), to) {
            return self.emit(None, Some(&sizes), 1);
        }
        match gives {
            true => self.emit(Some(&target(Some(from), &wide(back, width))?), None, 1),
            false => Err("both reshapes change the last axis".into()),
        }
    }

    /// The ops between, with a Reshape before or after them where sizes are given.
    fn emit(
        &self,
        before: Option<&[i64]>,
        after: Option<&[i64]>,
        saved: usize,
    ) -> Result<Patch, Miss> {
        let g = self.g;
        // With a computed shape goes what computes it.
        let known = !g.op(self.at).is("Reshape") || g.is_const(operand(g, self.at, 1)?);
        let saved = saved + usize::from(!known);
        if saved <= self.links.iter().filter(|l| l.adds(g)).count() {
            return Err("a Gemm would become as many ops as the Reshapes are".into());
        }
        let y = result(g, self.at)?;
        let mut patch = Patch::at(self.at);
        let reshape = || Op::new("Reshape").named(g.op(self.at).name.clone());
        let mut x: Ref = self.source.into();
        if let Some(sizes) = before {
            let sizes =
                patch.constant(format!("{}_shape", g.value(y).name()), Tensor::vector(sizes));
            x = patch.op(
                reshape(),
                &[x, sizes],
                format!("{}_reshaped", g.value(self.source).name()),
            );
        }
        for (i, link) in self.links.iter().enumerate().rev() {
            let made = match (i, after) {
                (0, None) => y.into(),
                _ => patch.value(format!("{}_reshaped", g.value(result(g, link.id)?).name()), None),
            };
            link.emit(g, x, made, &mut patch);
            x = made;
        }
        if let Some(sizes) = after {
            let sizes =
                patch.constant(format!("{}_shape", g.value(y).name()), Tensor::vector(sizes));
            patch.op_into(reshape(), vec![Some(x), Some(sizes)], vec![Some(y.into())]);
        }
        patch.remove(self.at);
        Ok(patch)
    }
}

/// A product of two tensors whose leading axes are joined in both, and parted after it.
fn batched(g: &Graph, at: OpId, product: OpId) -> Result<Patch, Miss> {
    let y = result(g, at)?;
    let to = shape(g, y)?;
    let lead = to.len().checked_sub(2).filter(|n| *n > 0).ok_or("the result is a matrix")?;
    let mut operands = Vec::new();
    for i in 0..2 {
        let flat = operand(g, product, i)?;
        let first = sole_maker(g, flat, REGROUPING).ok_or("an operand is not reshaped")?;
        let source = operand(g, first, 0)?;
        let (from, flat) = (shape(g, source)?, shape(g, flat)?);
        let kept = from.len() == to.len()
            && flat.len() >= 2
            && same(&from[..lead], &to[..lead])
            && same(&from[lead..], &flat[flat.len() - 2..]);
        if !kept {
            return Err("the leading axes are not the ones before".into());
        }
        operands.push(Some(Ref::Old(source)));
    }
    let flat = shape(g, operand(g, at, 0)?)?;
    if flat.len() < 2 || !same(&to[lead..], &flat[flat.len() - 2..]) {
        return Err("the leading axes are not the ones before".into());
    }
    let mut patch = Patch::at(at);
    patch.op_into(g.op(product).clone(), operands, vec![Some(y.into())]);
    patch.remove(at);
    Ok(patch)
}
