//! # fuse-log-softmax
//!
//! ## What it does
//! Makes a LogSoftmax of a Log of a Softmax, which is also more accurate.
//!
//! ## Before/after
//! ```text
//! a = Softmax <axis = 1> (x)       y = LogSoftmax <axis = 1> (x)
//! y = Log (a)
//! ```
//!
//! ## When it applies
//! Nothing else reads the Softmax.
//!
//! ## What it preserves
//! The name of the result.
//!
//! ## Limits
//! Where the Softmax underflows to zero, the Log was minus infinity and is a large negative number
//! now.

use super::pattern::{operand, sole_maker};
use crate::ir::{Graph, Miss, Op, OpId, Patch};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct FuseLogSoftmax;

static INFO: PassInfo = PassInfo {
    name: "fuse-log-softmax",
    summary: "make a LogSoftmax of Log and Softmax",
    semantics: Semantics::Reassociates,
    source: include_str!("fuse_log_softmax.rs"),
};

impl Rewrite for FuseLogSoftmax {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Log"]
    }

    fn plan(&self, g: &Graph, at: OpId, _: &Site) -> Result<Patch, Miss> {
        let softmax = sole_maker(g, operand(g, at, 0)?, &["Softmax"]);
        let softmax = softmax.ok_or("no Softmax before it alone")?;
        let mut op = Op::new("LogSoftmax").named(g.op(softmax).name.clone());
        op.attrs.clone_from(&g.op(softmax).attrs);
        let mut patch = Patch::at(at);
        patch.replace(g, at, op, vec![Some(operand(g, softmax, 0)?.into())]);
        Ok(patch)
    }
}
