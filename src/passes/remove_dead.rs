//! # remove-dead
//!
//! ## What it does
//! Removes ops whose results nothing reads, constants that nothing reads, and captures that a body no
//! longer reads, in subgraphs and local functions too.
//!
//! ## Before/after
//! ```text
//! a = Relu (x)             y = Abs (x)
//! y = Abs (x)
//! ```
//!
//! ## When it applies
//! Always.
//!
//! ## What it preserves
//! Graph inputs and outputs, used or not.
//!
//! ## Limits
//! An op of which one result is used stays with all its results.

use crate::ir::{Graph, Model, ValueId};
use crate::pass::{Cx, Pass, PassError, PassInfo, Semantics, visit_model};

pub(crate) struct RemoveDead;

static INFO: PassInfo = PassInfo {
    name: "remove-dead",
    summary: "remove ops and constants that no output depends on",
    semantics: Semantics::Exact,
    source: include_str!("remove_dead.rs"),
};

impl Pass for RemoveDead {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, model: &mut Model, _: &mut Cx) -> Result<(), PassError> {
        remove_dead(model);
        Ok(())
    }
}

/// Removes from all graphs of the model what their outputs do not depend on.
pub fn remove_dead(model: &mut Model) {
    visit_model(model, &mut |g, _| remove(g));
}

fn remove(g: &mut Graph) {
    let holders: Vec<_> = g.ops().filter(|op| !g.op(*op).captures.is_empty()).collect();
    for op in holders {
        g.prune_captures(op);
    }
    let unused: Vec<ValueId> = g.values().filter(|v| g.is_unused(*v)).collect();
    g.remove_dead(unused);
}
