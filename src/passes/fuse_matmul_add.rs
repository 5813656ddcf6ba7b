//! # fuse-matmul-add
//!
//! ## What it does
//! Makes a Gemm of a MatMul of two matrices and an Add or a Sum of two, and puts a summand into a Gemm
//! without one.
//!
//! ## Before/after
//! ```text
//! a = MatMul (x, w)        y = Gemm (x, w, b)
//! y = Add (a, b)
//! ```
//!
//! ## When it applies
//! Both factors are known to be matrices of plain floats, the summand broadcasts to the product, and
//! nothing else reads the product.
//!
//! ## What it preserves
//! The name of the result.
//!
//! ## Limits
//! Products of higher rank stay MatMul and Add, which TensorRT fuses on its own. Needs opset 7.

use super::pattern::{is_plain_float, operand, result, sole_maker};
use crate::ir::{Dim, Graph, Miss, Op, OpId, Patch, ValueId};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct FuseMatmulAdd;

static INFO: PassInfo = PassInfo {
    name: "fuse-matmul-add",
    summary: "make a Gemm of a matrix product and a sum",
    semantics: Semantics::Reassociates,
    source: include_str!("fuse_matmul_add.rs"),
};

impl Rewrite for FuseMatmulAdd {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Add", "Sum"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if site.opset < 7 {
            return Err("broadcasting before opset 7 is by attributes".into());
        }
        let (a, b) = (operand(g, at, 0)?, operand(g, at, 1)?);
        if g.op(at).arity() != 2 {
            return Err("it sums up more than two".into());
        }
        let made = |v| sole_maker(g, v, &["MatMul", "Gemm"]);
        let (product, summand, op) = match (made(a), made(b)) {
            (Some(op), _) => (a, b, op),
            (None, Some(op)) => (b, a, op),
            (None, None) => return Err("no operand is a product that it alone reads".into()),
        };
        if a == b {
            return Err("the product is added to itself".into());
        }
        let is_gemm = g.op(op).is("Gemm");
        if is_gemm && g.operand(op, 2).is_some() {
            return Err("the Gemm has a summand already".into());
        }
        check_types(g, op, product, summand)?;
        let mut patch = Patch::at(at);
        let mut gemm = Op::new("Gemm").named(g.op(op).name.clone());
        gemm.attrs.clone_from(&g.op(op).attrs);
        gemm.remove_attr("beta");
        let factors = [operand(g, op, 0)?, operand(g, op, 1)?, summand];
        let operands = factors.into_iter().map(|v| Some(v.into())).collect();
        patch.op_into(gemm, operands, vec![Some(result(g, at)?.into())]);
        patch.remove(at);
        patch.remove(op);
        Ok(patch)
    }
}

fn check_types(g: &Graph, op: OpId, product: ValueId, summand: ValueId) -> Result<(), Miss> {
    for i in 0..2 {
        if g.value(operand(g, op, i)?).rank() != Some(2) {
            return Err("a factor is not known to be a matrix".into());
        }
    }
    if !g.value(product).dtype().is_some_and(is_plain_float) {
        return Err("the elements are not known to be plain floats".into());
    }
    let to = g.value(product).shape().ok_or("the shape of the product is not known")?;
    let from = g.value(summand).shape().ok_or("the shape of the summand is not known")?;
    let fits = |(d, t): (&Dim, &Dim)| *d == Dim::Known(1) || d.same(t);
    if from.len() > 2 || !from.iter().rev().zip(to.iter().rev()).all(fits) {
        return Err("the summand does not broadcast to the product".into());
    }
    Ok(())
}
