//! Conversion to float16 or bfloat16 for engines that take all types from the file, with float32
//! islands where 16 bits do not do.
//!
//! [`convert`] observes the range of every activation (`ranges`), decides for each op
//! (`decide`) and rewrites every graph of the model (`rewrite`). An op stays in float32 where
//! - F1: the operator has no such type (or is not known),
//! - F2: something that it reads or makes is too large, or so small that it loses its digits; sums
//!   that could overflow on the way; integers carried as floats; whatever a pattern names,
//! - F3: the operator takes bfloat16 only in an operator set that the model cannot be raised to,
//! - F4: it runs a subgraph: its interface stays, the subgraph is converted inside,
//! - F6: a constant overflows or vanishes,
//! - F7: nothing around it gains: casts would cost more.

mod constants;
mod decide;
mod emulate;
mod islands;
mod options;
mod ranges;
mod rewrite;
mod types;

use std::collections::BTreeMap;

use serde::Serialize;

pub use emulate::emulate;
pub use options::PrecisionOptions;

use crate::convert::{OpsetError, raise_opset};
use crate::data::Source;
use crate::engine::{Engine, Progress, RunError};
use crate::ir::{DType, Graph, Model, OpId, ValueId};
use crate::pass::inline_functions;
use crate::quantize::QuantizeError;
use crate::quantize::observe::Range;

/// Why a model cannot be converted.
#[derive(Debug, thiserror::Error)]
pub enum PrecisionError {
    /// A pattern is no glob.
    #[error("bad pattern: {0}")]
    Glob(#[from] globset::Error),
    /// The model cannot run on the data.
    #[error(transparent)]
    Observe(#[from] QuantizeError),
    /// What was written contradicts itself: a bug in Lapidary.
    #[error(
        "the converted model contradicts its operators at {0} ({1}); please report this with the model"
    )]
    Contradiction(String, String),
}

/// An op that stays in float32.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Kept {
    /// Its label.
    pub node: String,
    /// Its operator.
    pub op_type: String,
    /// Id of the rule.
    pub rule: &'static str,
    /// Why, in words.
    pub reason: String,
}

/// What conversion did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct PrecisionReport {
    /// Ops that compute in 16 bits now.
    pub converted: usize,
    /// Ops that stay in float32.
    pub kept: Vec<Kept>,
    /// Casts put in.
    pub casts: usize,
    /// Constants in 16 bits.
    pub constants: usize,
    /// Elements of constants that were not zero and are now.
    pub vanished: usize,
    /// Constants beyond the range, such as masks of -1e38, that were limited to it.
    pub limited: Vec<String>,
    /// Bytes of constants before.
    pub bytes_before: usize,
    /// Bytes of constants after.
    pub bytes_after: usize,
    /// Version of the operator set that the model was raised to.
    pub raised_to: Option<i64>,
    /// What the user should know.
    pub warnings: Vec<String>,
}

/// Ranges of values of the main graph.
type Ranges = BTreeMap<ValueId, Range>;

/// Samples and what runs the model on them.
pub struct Observation<'a> {
    /// The engine.
    pub engine: &'a dyn Engine,
    /// The samples.
    pub data: &'a dyn Source,
    /// Told how many samples are done.
    pub progress: Progress<'a>,
}

/// Converts a model in place. Without samples to observe, only constants and shapes decide.
///
/// # Errors
/// When a pattern is no glob or the model does not run on the samples; the model then stays as it
/// was but for functions that were inlined.
pub fn convert(
    m: &mut Model,
    o: &PrecisionOptions,
    observation: Option<&Observation>,
) -> Result<PrecisionReport, PrecisionError> {
    let keep = o.keep_globs()?;
    inline_functions(m);
    let mut report =
        PrecisionReport { bytes_before: constants::bytes(&m.graph), ..PrecisionReport::default() };
    let half = o.half();
    prepare(m, half, &mut report);
    crate::pass::visit_model(m, &mut |g, _| crate::passes::lift_constants::lift(g));
    crate::pass::infer_model(m, &mut |_, _| {});
    if half == DType::F16 {
        constants::limit_masks(m, observation, &mut report)?;
    }
    let ranges = match half {
        DType::F16 => known_ranges(m, observation, &mut report)?,
        _ => Ranges::new(),
    };
    let cx = Cx { half, opset: m.default_opset(), options: o, keep: &keep };
    let findings_before = contradictions(m);
    convert_graph(&mut m.graph, &cx, Some(&ranges), &mut report);
    report.bytes_after = constants::bytes(&m.graph);
    if report.converted == 0 {
        report.warnings.push("no op was converted; --explain tells why".into());
    }
    let contradiction = contradictions(m).into_iter().find(|f| !findings_before.contains(f));
    match contradiction {
        Some((node, what)) => Err(PrecisionError::Contradiction(node, what)),
        None => Ok(report),
    }
}

/// Ranges of activations, as far as the engine runs the model.
fn known_ranges(
    m: &Model,
    observation: Option<&Observation>,
    report: &mut PrecisionReport,
) -> Result<Ranges, PrecisionError> {
    let unknown = "ranges of activations are not known, so they decide nothing";
    let Some(seen) = observation else {
        report.warnings.push(format!("no data given: {unknown}"));
        return Ok(Ranges::new());
    };
    match ranges::observe(m, seen) {
        Err(PrecisionError::Observe(QuantizeError::Run(RunError::Engine(e)))) => {
            report.warnings.push(format!("{e}: {unknown}"));
            Ok(Ranges::new())
        }
        other => other,
    }
}

fn contradictions(m: &mut Model) -> Vec<(String, String)> {
    let mut found = Vec::new();
    crate::pass::infer_model(m, &mut |node, what| found.push((node, what)));
    found
}

/// What all graphs share.
struct Cx<'a> {
    half: DType,
    opset: i64,
    options: &'a PrecisionOptions,
    keep: &'a globset::GlobSet,
}

/// Raises the operator set as far as the type needs. Where that fails, the ops that need it stay.
fn prepare(m: &mut Model, half: DType, report: &mut PrecisionReport) {
    let opset = m.default_opset();
    crate::pass::infer_model(m, &mut |_, _| {});
    let mut need = opset;
    crate::ir::for_each_graph(&m.graph, &mut |g| {
        for op in g.ops().filter(|op| g.op(*op).domain.is_empty() && reads_float(g, *op)) {
            need = need.max(types::needs(&g.op(op).op_type, opset, half));
        }
    });
    if need > opset {
        let raised: Result<(), OpsetError> = raise_opset(m, need);
        match raised {
            Ok(()) => report.raised_to = Some(need),
            Err(e) => report.warnings.push(format!("the operator set stays at {opset}: {e}")),
        }
    }
}

fn reads_float(g: &Graph, op: OpId) -> bool {
    let values = g.operands(op).into_iter().chain(g.results(op)).flatten();
    values.into_iter().any(|v| g.value(v).dtype() == Some(DType::F32))
}

/// Converts the bodies of the graph that do heavy work, then the graph.
fn convert_graph(g: &mut Graph, cx: &Cx, ranges: Option<&Ranges>, report: &mut PrecisionReport) {
    let holders: Vec<OpId> = g.ops().filter(|op| !g.op(*op).bodies.is_empty()).collect();
    for op in holders {
        g.refresh_captures(op);
        let mut bodies = std::mem::take(&mut g.op_facts_mut(op).bodies);
        for body in bodies.iter_mut().filter(|b| decide::has_heavy_op(b)) {
            convert_graph(body, cx, None, report);
        }
        g.op_facts_mut(op).bodies = bodies;
        g.bodies_mut(op);
        g.prune_captures(op);
    }
    let mut plan = decide::decide(g, cx, ranges);
    islands::smooth(g, &mut plan);
    report.converted += plan.half.len();
    let kept = plan.kept.iter().map(|(op, (rule, reason))| Kept {
        node: g.label(*op),
        op_type: g.op(*op).full_type(),
        rule,
        reason: reason.clone(),
    });
    report.kept.extend(kept);
    rewrite::rewrite(g, cx, &plan, ranges.is_some(), report);
}
