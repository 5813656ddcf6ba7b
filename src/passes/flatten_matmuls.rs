//! # flatten-matmuls
//!
//! ## What it does
//! Runs a chain of MatMul, Add and elementwise ops on the rows of a matrix, where the Reshapes for it
//! cost fewer ops than a Gemm for each MatMul and Add saves.
//!
//! ## Before/after
//! ```text
//! a = Reshape (x, {1,-1,64})       r = Reshape (x, {-1,64})
//! m = MatMul (a, w)                c = Gemm (r, w, b)
//! c = Add (m, b)                   y = Reshape (c, {-1,8,4})
//! y = Reshape (c, {-1,8,4})
//! ```
//!
//! ## When it applies
//! The weights are constant matrices, the summands constant rows, nothing else reads what lies
//! between, and the shapes at both ends can be written as constants.
//!
//! ## What it preserves
//! The name of the last result.
//!
//! ## Limits
//! Only where the number of ops falls. Needs opset 9.

use super::pattern::{is_plain_float, is_unary, result, sole_maker};
use super::reshape::{REGROUPING, target};
use crate::ir::{Dim, Graph, Miss, Op, OpId, Patch, Ref, Tensor, ValueId};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct FlattenMatmuls;

static INFO: PassInfo = PassInfo {
    name: "flatten-matmuls",
    summary: "run MatMul and Add on the rows of a matrix, as Gemm, between Reshapes",
    semantics: Semantics::Reassociates,
    source: include_str!("flatten_matmuls.rs"),
};

/// Ops of a chain after which the search gives up.
const MAX_CHAIN: usize = 64;

impl Rewrite for FlattenMatmuls {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["MatMul"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if site.opset < 9 {
            return Err("before opset 9 a Gemm takes fewer types".into());
        }
        let chain = Chain::through(g, at)?;
        if chain.saved() < 1 {
            return Err("the Reshapes around it would cost as much as they save".into());
        }
        chain.plan()
    }
}

/// What an op of a chain does to the rows.
enum Link {
    MatMul(ValueId),
    Add(Tensor),
    Unary,
}

fn link(g: &Graph, op: OpId) -> Option<(Link, ValueId)> {
    let node = g.op(op);
    if is_unary(g, op, 1) {
        return Some((Link::Unary, g.operand(op, 0)?));
    }
    let (a, b) = (g.operand(op, 0)?, g.operand(op, 1)?);
    if node.is("MatMul") {
        let matrix = g.const_tensor(b)?.rank() == 2 && g.value(a).rank()? >= 3;
        return matrix.then_some((Link::MatMul(b), a));
    }
    if !node.is("Add") {
        return None;
    }
    let (x, row) = match (g.const_tensor(a), g.const_tensor(b)) {
        (None, Some(row)) => (a, row),
        (Some(row), None) => (b, row),
        _ => return None,
    };
    let rank = g.value(x).rank()?;
    let width = *row.dims().last()?;
    // A summand of zeros goes by itself.
    let zeros = row.to_f64()?.iter().all(|&v| v == 0.0);
    let fits = row.len() == width && row.rank() <= rank && !zeros;
    let last = g.value(x).shape()?.last()?.size()?;
    (fits && (width == last)).then(|| Some((Link::Add(row.reshaped(vec![width])?), x)))?
}

struct Chain<'a> {
    g: &'a Graph,
    links: Vec<(OpId, Link)>,
    /// What the chain reads.
    start: ValueId,
    /// The reshaping op before it, which it alone reads.
    before: Option<OpId>,
    /// The reshaping op after it, which alone reads it.
    after: Option<OpId>,
}

impl<'a> Chain<'a> {
    /// The longest chain whose first MatMul is `at`.
    fn through(g: &'a Graph, at: OpId) -> Result<Chain<'a>, Miss> {
        let (first, mut start) = link(g, at).ok_or("its weight is no constant matrix")?;
        let is_float = g.value(result(g, at)?).dtype().is_some_and(is_plain_float);
        if !is_float {
            return Err("the elements are no plain floats".into());
        }
        let mut links = vec![(at, first)];
        while let Some(op) = g.sole_use(start).and_then(|_| g.producer_op(start)) {
            let Some((link, x)) = link(g, op).filter(|_| links.len() < MAX_CHAIN) else { break };
            if matches!(link, Link::MatMul(_)) {
                return Err("it goes on from a MatMul before".into());
            }
            links.insert(0, (op, link));
            start = x;
        }
        let mut end = result(g, at)?;
        let mut after = None;
        while let Some((op, 0 | 1)) = g.sole_use(end) {
            if super::pattern::maker_of(g, result(g, op)?, REGROUPING).is_some() {
                after = Some(op).filter(|_| g.operand(op, 0) == Some(end));
                break;
            }
            let Some((link, x)) = link(g, op).filter(|_| links.len() < MAX_CHAIN) else { break };
            if x != end {
                break;
            }
            links.push((op, link));
            end = result(g, op)?;
        }
        let before = sole_maker(g, start, REGROUPING);
        Ok(Chain { g, links, start, before, after })
    }

    /// Ops that the change saves.
    fn saved(&self) -> i64 {
        let pair =
            |w: &[(OpId, Link)]| matches!((&w[0].1, &w[1].1), (Link::MatMul(_), Link::Add(_)));
        let pairs = self.links.windows(2).filter(|w| pair(w)).count() as i64;
        pairs + i64::from(self.before.is_some()) + i64::from(self.after.is_some()) - 2
    }

    fn plan(&self) -> Result<Patch, Miss> {
        let g = self.g;
        let anchor = self.links[0].0;
        let mut patch = Patch::at(anchor);
        let shape = |v: ValueId| g.value(v).shape().ok_or(Miss::from("a shape is not known"));
        let start = shape(self.start)?;
        let (width, rows) = start.split_last().ok_or("it is a single number")?;
        if rows.len() < 2 || width.size().is_none() {
            return Err("it is a matrix already, or its width is not known".into());
        }
        let rows = Dim::product(rows);
        let source = match self.before {
            Some(op) => g.operand(op, 0).ok_or("an operand is missing")?,
            None => self.start,
        };
        let from = shape(source)?;
        let name = g.value(self.start).name().to_owned();
        let mut x: Ref = source.into();
        if !(from.len() == 2 && from[0].same(&rows) && from[1].same(width)) {
            let sizes = target(Some(from), &[rows.clone(), width.clone()])?;
            let sizes = patch.constant(format!("{name}_shape"), Tensor::vector(&sizes));
            x = patch.op(Op::new("Reshape"), &[x, sizes], format!("{name}_rows"));
        }
        let end = self.links.last().map(|(op, _)| result(g, *op)).ok_or("the chain is empty")??;
        let last = match self.after {
            Some(op) => result(g, op)?,
            None => end,
        };
        let flat = [rows, shape(end)?.last().ok_or("it is a single number")?.clone()];
        let to = shape(last)?;
        let stays = to.len() == 2 && to[0].same(&flat[0]) && to[1].same(&flat[1]);
        let sizes = if stays { None } else { Some(target(Some(&flat), to)?) };
        let mut i = 0;
        while i < self.links.len() {
            let (op, operands, next) = self.flat_op(i, x, &mut patch);
            let made = result(g, self.links[next - 1].0)?;
            let name = format!("{}_rows", g.value(made).name());
            x = match next == self.links.len() && sizes.is_none() {
                true => last.into(),
                false => patch.value(name, None),
            };
            patch.op_into(op, operands, vec![Some(x)]);
            i = next;
        }
        if let Some(sizes) = sizes {
            let name = format!("{}_shape", g.value(last).name());
            let sizes = patch.constant(name, Tensor::vector(&sizes));
            patch.op_into(Op::new("Reshape"), vec![Some(x), Some(sizes)], vec![Some(last.into())]);
        }
        self.links.iter().for_each(|(op, _)| patch.remove(*op));
        self.after.into_iter().for_each(|op| patch.remove(op));
        Ok(patch)
    }

    /// The op for link `i`, and for the Add after it, on rows; and the number of the next link.
    fn flat_op(&self, i: usize, x: Ref, patch: &mut Patch) -> (Op, Vec<Option<Ref>>, usize) {
        let (id, link) = &self.links[i];
        let row = |patch: &mut Patch, id: OpId, row: &Tensor| {
            let constants = self.g.operands(id).into_iter().flatten();
            let old = constants.into_iter().find(|v| self.g.is_const(*v));
            match old.filter(|v| self.g.value(*v).rank() == Some(1)) {
                Some(v) => Ref::Old(v),
                None => {
                    let name = old.map(|v| self.g.value(v).name().to_owned()).unwrap_or_default();
                    patch.constant(format!("{name}_row"), row.clone())
                }
            }
        };
        let named = |op: Op| op.named(self.g.op(*id).name.clone());
        match (link, self.links.get(i + 1)) {
            (Link::MatMul(w), Some((add, Link::Add(b)))) => {
                let b = row(patch, *add, b);
                (named(Op::new("Gemm")), vec![Some(x), Some((*w).into()), Some(b)], i + 2)
            }
            (Link::MatMul(w), _) => {
                (named(Op::new("MatMul")), vec![Some(x), Some((*w).into())], i + 1)
            }
            (Link::Add(b), _) => {
                let b = row(patch, *id, b);
                (named(Op::new("Add")), vec![Some(x), Some(b)], i + 1)
            }
            (Link::Unary, _) => {
                let rest = self.g.operands(*id).into_iter().skip(1).map(|v| v.map(Ref::Old));
                let operands = std::iter::once(Some(x)).chain(rest).collect();
                (self.g.op(*id).clone(), operands, i + 1)
            }
        }
    }
}
