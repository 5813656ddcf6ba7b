//! # eliminate-expand
//!
//! ## What it does
//! Removes an Expand, or a Tile of axes of size 1, whose readers broadcast its operand as well.
//!
//! ## Before/after
//! ```text
//! a = Expand (x, {4,3})        y = Add (x, z)          z is float[4,3]
//! y = Add (a, z)
//! ```
//!
//! ## When it applies
//! Elementwise ops alone read the result, and the other operands of each already give it its shape.
//!
//! ## What it preserves
//! Names and shapes of all results.
//!
//! ## Limits
//! Matrix products, which broadcast too, keep their Expand.

use super::pattern::{known_ints, operand, result};
use crate::ir::{Dim, Graph, Miss, OpId, Patch, Slot, ValueId};
use crate::ops::{self, Axes, broadcast};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct EliminateExpand;

static INFO: PassInfo = PassInfo {
    name: "eliminate-expand",
    summary: "remove an Expand whose readers broadcast by themselves",
    semantics: Semantics::Exact,
    source: include_str!("eliminate_expand.rs"),
};

impl Rewrite for EliminateExpand {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Expand", "Tile"]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        if site.opset < 7 {
            return Err("broadcasting before opset 7 is by attributes".into());
        }
        let (x, y) = (operand(g, at, 0)?, result(g, at)?);
        if g.op(at).is("Tile") && !repeats_ones(g, at, x) {
            return Err("it repeats an axis that is longer than 1".into());
        }
        if g.is_output(y) {
            return Err("it makes a graph output".into());
        }
        let mut patch = Patch::at(at);
        for (reader, slot) in g.uses(y) {
            let Slot::Operand(slot) = slot else { return Err("a body reads it".into()) };
            if !broadcasts(g, reader, slot as usize, y, x) {
                return Err("a reader needs it expanded".into());
            }
            patch.set_operand(reader, slot as usize, Some(x.into()));
        }
        patch.remove(at);
        Ok(patch)
    }
}

fn repeats_ones(g: &Graph, at: OpId, x: ValueId) -> bool {
    let repeats = g.operand(at, 1).and_then(|v| known_ints(g, v));
    let (Some(repeats), Some(shape)) = (repeats, g.value(x).shape()) else { return false };
    repeats.len() == shape.len()
        && repeats.iter().zip(shape).all(|(&r, d)| r == 1 || (r > 0 && *d == Dim::Known(1)))
}

/// The reader gives the same shape when it reads `source` in the place of `expanded`.
fn broadcasts(g: &Graph, reader: OpId, slot: usize, expanded: ValueId, source: ValueId) -> bool {
    let node = g.op(reader);
    let elementwise = ops::schema(node).is_some_and(|s| matches!(s.axes, Axes::Elementwise));
    // What broadcasts in one direction only, or does not broadcast, names its slot.
    let fixed = node.is("Clip") || node.is("Dropout") || (node.is("PRelu") && slot == 0);
    let plain = node.attr("axis").is_none() && node.result_count() == 1 && !node.has_ref_attrs();
    if !elementwise || fixed || !plain || node.arity() < 2 {
        return false;
    }
    let shape = |v: ValueId| g.value(v).shape();
    let Some(want) = g.result(reader, 0).and_then(shape) else { return false };
    let mut got: Vec<Dim> = Vec::new();
    for v in g.operands(reader).into_iter().flatten() {
        let v = if v == expanded { source } else { v };
        match shape(v).map(|s| broadcast(&got, s)) {
            Some(Ok(joined)) => got = joined,
            _ => return false,
        }
    }
    got.len() == want.len() && got.iter().zip(want).all(|(a, b)| a.same(b))
}
