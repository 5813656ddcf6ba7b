//! # lift-constants
//!
//! ## What it does
//! Turns Constant ops into constants of the graph (initializers), whatever form their value has.
//!
//! ## Before/after
//! ```text
//! c = Constant <value_float = 2.0> ()      float c = {2.0}
//! y = Mul (x, c)                           y = Mul (x, c)
//! ```
//!
//! ## When it applies
//! The value is a tensor, number, string or list of them, and no graph output. A sparse tensor stays
//! sparse, and is written as a Constant again.
//!
//! ## What it preserves
//! Names. Elements are not copied.
//!
//! ## Limits
//! A Constant that is a graph output stays an op.

use crate::ir::{AttrValue, Graph, Model, OpId, Tensor, ValueId};
use crate::pass::{Cx, Pass, PassError, PassInfo, Semantics, visit_model};

pub(crate) struct LiftConstants;

static INFO: PassInfo = PassInfo {
    name: "lift-constants",
    summary: "turn Constant ops into initializers",
    semantics: Semantics::Exact,
    source: include_str!("lift_constants.rs"),
};

impl Pass for LiftConstants {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, model: &mut Model, _: &mut Cx) -> Result<(), PassError> {
        visit_model(model, &mut |g, _| lift(g));
        Ok(())
    }
}

/// Turns the Constant ops of one graph into constants.
pub(crate) fn lift(g: &mut Graph) {
    let constants: Vec<OpId> = g.ops().filter(|op| g.op(*op).is("Constant")).collect();
    for op in constants {
        if let Some((v, tensor)) = liftable(g, op) {
            g.set_data(v, tensor);
            g.remove_op(op);
        }
    }
}

fn liftable(g: &Graph, op: OpId) -> Option<(ValueId, Tensor)> {
    let v = g.result(op, 0).filter(|v| !g.is_output(*v))?;
    let tensor = match &g.op(op).attrs.first()?.value {
        AttrValue::Tensor(t) => t.clone(),
        AttrValue::Float(v) => Tensor::scalar(*v),
        AttrValue::Int(v) => Tensor::scalar(*v),
        AttrValue::Floats(v) => Tensor::vector(v),
        AttrValue::Ints(v) => Tensor::vector(v),
        AttrValue::Str(v) => Tensor::strings(vec![], vec![v.clone()]).ok()?,
        AttrValue::Strs(v) => Tensor::strings(vec![v.len()], v.clone()).ok()?,
        _ => return None,
    };
    (g.op(op).attrs.len() == 1).then_some((v, tensor))
}
