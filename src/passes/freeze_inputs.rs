//! # freeze-inputs
//!
//! ## What it does
//! Takes inputs that have a default out of the list of inputs: they are constants from then on.
//!
//! ## Before/after
//! ```text
//! g (float[N,4] x, float[4,2] w)           g (float[N,4] x)
//! <float[4,2] w = {…}>                     <float[4,2] w = {…}>
//! ```
//!
//! ## When it applies
//! Only where it is asked for by name. Files of IR version 3 and older list every weight among the
//! inputs, so that no pass may count on it.
//!
//! ## What it preserves
//! Everything for callers that feed none of these inputs. The inputs without a default.
//!
//! ## Limits
//! Callers that replace weights by feeding them no longer can. Files older than IR version 4 become
//! version 4, the first in which a constant need not be an input.

use crate::ir::Model;
use crate::pass::{Cx, Pass, PassError, PassInfo, Semantics};

/// Makes constants of inputs that have a default.
pub struct FreezeInputs;

static INFO: PassInfo = PassInfo {
    name: "freeze-inputs",
    summary: "makes constants of inputs that have a default (on request)",
    semantics: Semantics::Exact,
    source: include_str!("freeze_inputs.rs"),
};

/// The first IR version in which a constant need not be listed among the inputs.
pub(crate) const CONSTANTS_ALONE: i64 = 4;

impl Pass for FreezeInputs {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, m: &mut Model, _: &mut Cx) -> Result<(), PassError> {
        freeze_inputs(m);
        Ok(())
    }
}

/// Makes constants of inputs that have a default. Returns how many.
pub(crate) fn freeze_inputs(m: &mut Model) -> usize {
    let g = &mut m.graph;
    let with_default: Vec<_> =
        g.inputs().iter().copied().filter(|v| g.initializer(*v).is_some()).collect();
    for v in &with_default {
        g.remove_input(*v);
    }
    if !with_default.is_empty() {
        m.ir_version = m.ir_version.max(CONSTANTS_ALONE);
    }
    with_default.len()
}
