//! # deduplicate-initializers
//!
//! ## What it does
//! Keeps one of several constants that hold the same elements.
//!
//! ## Before/after
//! ```text
//! float[2] a = {1, 2}      float[2] a = {1, 2}
//! float[2] b = {1, 2}      y = f (x, a, a)
//! y = f (x, a, b)
//! ```
//!
//! ## When it applies
//! Element type, dims and every byte agree. It runs last: sharing constants earlier would stop
//! fusions that write new weights in place.
//!
//! ## What it preserves
//! Graph outputs, graph inputs with a default, and constants with notes of their own.
//!
//! ## Limits
//! Constants of a subgraph are replaced by those around or beside it from 64 bytes on.

use super::body_constants;
use super::content::equal_constants;
use crate::ir::{Graph, Model};
use crate::pass::{Cx, Pass, PassError, PassInfo, Semantics, visit_model};

pub(crate) struct DeduplicateInitializers;

static INFO: PassInfo = PassInfo {
    name: "deduplicate-initializers",
    summary: "keep one of several equal constants, in subgraphs too",
    semantics: Semantics::Exact,
    source: include_str!("deduplicate_initializers.rs"),
};

impl Pass for DeduplicateInitializers {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, model: &mut Model, cx: &mut Cx) -> Result<(), PassError> {
        visit_model(model, &mut |g, _| deduplicate(g, cx));
        body_constants::share(&mut model.graph, &mut cx.hashes);
        for function in &mut model.functions {
            body_constants::share(&mut function.graph, &mut cx.hashes);
        }
        Ok(())
    }
}

fn deduplicate(g: &mut Graph, cx: &mut Cx) {
    let counts = |g: &Graph, v| {
        !g.is_output(v) && !g.is_capture(v) && g.value(v).notes.is_none() && !g.is_unused(v)
    };
    for group in equal_constants(g, &mut cx.hashes, counts) {
        for dup in &group[1..] {
            g.replace_uses(*dup, group[0]);
            g.remove_value_if_unused(*dup);
        }
    }
}
