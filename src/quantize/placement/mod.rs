//! Where Q/DQ pairs go: the placement rules, one file for each family.
//!
//! [`RULES`] lists them; each can be switched. Linear ops are the anchors: each is quantized unless a
//! rule of `veto` says why not. Their inputs get pairs; then the extensions add readers where
//! TensorRT fuses or keeps INT8 flowing: residual additions, Concat, pools. A tensor has at most one
//! pair, which all its quantized readers share (N14); nothing is placed behind an op for its own sake
//! (N1, N2), inside softmax, normalization or activation functions (N9, N11) or on constants (N18).

mod anchors;
mod attention;
mod elementwise;
mod epilogue;
mod moving;
mod norm;
mod others;
mod plan;
mod residual;
mod rules;
mod scales;
mod spelled;
mod unsigned;
mod veto;
mod walk;
mod weighted;

use std::collections::BTreeSet;

pub use plan::{Decision, Plan, WeightSite};
pub use rules::{On, RULES, Rule, Rules, find};
pub use weighted::{Linear, linear};

use super::QuantizeError;
use super::options::{Profile, QuantizeOptions};
use super::payload::Payload;
use crate::ir::{Graph, OpId};

/// What adds readers to a plan while one of its rules is on. It asks which itself where it has
/// several.
type Extension = (&'static [&'static str], fn(&Graph, &mut Plan, &Rules));

/// In the order they run: residuals first, since pools and Concat ask what follows quantized ops and
/// who reads pairs; plain arithmetic then takes what is left.
static EXTENSIONS: &[Extension] = &[
    (&["N11"], norm::apply),
    (&["N3"], residual::apply),
    (&["N7"], moving::pools),
    (&["N6", "N10"], moving::concat_and_resize),
    (&["N4"], elementwise::apply),
    (&["N8", "N15"], scales::across_moves),
];

/// Plans the pairs of a graph whose types are inferred.
///
/// # Errors
/// When a pattern is no glob or a rule that is switched does not exist.
pub fn plan(g: &Graph, o: &QuantizeOptions) -> Result<Plan, QuantizeError> {
    plan_except(g, o, &BTreeSet::new())
}

/// As [`plan`], with some linear ops kept in float.
///
/// # Errors
/// As [`plan`].
pub(super) fn plan_except(
    g: &Graph,
    o: &QuantizeOptions,
    float: &BTreeSet<OpId>,
) -> Result<Plan, QuantizeError> {
    let rules = Rules::of(o)?;
    let globs = veto::Globs::new(o)?;
    let uint8 = o.profile == Profile::OnnxruntimeCpu && o.payload == Payload::Int8;
    let mut plan = Plan { dedicated: !rules.on("N14"), uint8, ..Plan::default() };
    plan.float.extend(g.ops().filter(|op| globs.excludes(g, *op)));
    if rules.on("T2") {
        plan.float.extend(spelled::interiors(g));
    }
    if rules.on("T3") {
        plan.float.extend(attention::mask_adds(g));
    }
    anchors::apply(g, o, &rules, &globs, float, &mut plan);
    others::apply(g, &rules, &mut plan);
    epilogue::results(g, &mut plan, &rules);
    epilogue::inside(g, &mut plan, &rules);
    for (ids, apply) in EXTENSIONS {
        if ids.iter().any(|id| rules.on(id)) {
            apply(g, &mut plan, &rules);
        }
    }
    let fp8 = o.payload == Payload::Fp8;
    if rules.on(if fp8 { "T5" } else { "T4" }) {
        attention::apply(g, &mut plan, &rules, fp8);
    }
    plan.scale_groups = scales::groups(&plan);
    if plan.uint8 {
        plan.unsigned = unsigned::values(g, &plan);
    }
    Ok(plan)
}
