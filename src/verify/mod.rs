//! Original and result on the same inputs.
//!
//! # When two models agree
//! Names, order and types of inputs and outputs are the same. Integer, bool and string outputs are
//! equal. Float outputs differ by no more than `256 · √depth · ε` of the largest absolute value
//! that the original put out there (of one, behind a sigmoid or softmax), with `ε` the rounding of the output's type and `depth` the
//! number of ops on the longest path through the original: float addition in another order stays
//! well below that, a wrong model does not. Where a few elements differ more, as behind a division
//! by something tiny, a signal-to-difference ratio of 60 dB is agreement too. In models that round
//! or choose inside (quantize, compare, sort), where a last bit may tip a step, 30 dB are, and 99 %
//! of equal elements in outputs that are no floats.

mod interface;
mod metrics;

use serde::Serialize;

pub use metrics::OutputDiff;
use metrics::Sums;
pub(crate) use metrics::largest;

use crate::data::{Source, Taken};
use crate::engine::{Engine, Progress, all_cores, for_each_sample};
use crate::ir::{DType, Graph, Model};
use crate::pass::Semantics;

/// What a comparison found.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Verification {
    /// The outcome.
    pub verdict: Verdict,
    /// Name of the engine.
    pub engine: &'static str,
    /// Number of runs compared.
    pub samples: usize,
    /// The inputs were random numbers.
    pub synthetic: bool,
    /// Differences of inputs and outputs by name, order or type.
    pub interface: Vec<String>,
    /// Each output.
    pub outputs: Vec<OutputDiff>,
}

/// Outcome of a comparison.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind", content = "why")]
pub enum Verdict {
    /// The two agree.
    Agree,
    /// They differ more than rounding explains.
    Disagree(String),
    /// The change is lossy: figures only.
    Reported,
    /// The original does not run, so nothing is known.
    NotVerified(String),
}

impl Verification {
    /// Nothing speaks against the result.
    pub fn is_fine(&self) -> bool {
        !matches!(self.verdict, Verdict::Disagree(_))
    }

    /// The lowest signal-to-difference ratio over the outputs; infinite when nothing differs.
    pub fn min_sqnr_db(&self) -> f64 {
        self.outputs.iter().filter_map(|o| o.sqnr_db).fold(f64::INFINITY, f64::min)
    }

    /// The lowest top-1 agreement over the outputs that have one.
    pub fn min_top1(&self) -> Option<f64> {
        self.outputs.iter().filter_map(|o| o.top1).reduce(f64::min)
    }
}

/// Runs both models on the first `n` runs of the source and compares their outputs. What
/// `semantics` promises decides whether a difference is an error.
pub fn compare(
    original: &Model,
    result: &Model,
    engine: &dyn Engine,
    source: &dyn Source,
    n: usize,
    semantics: Semantics,
    progress: Progress,
) -> Verification {
    let source = Taken(source, n);
    let mut v = Verification {
        verdict: Verdict::Agree,
        engine: engine.name(),
        samples: source.len(),
        synthetic: source.is_synthetic(),
        interface: interface::differences(original, result),
        outputs: Vec::new(),
    };
    let (before, after) =
        rayon::join(|| engine.prepare(original, &[]), || engine.prepare(result, &[]));
    let before = match before {
        Ok(session) => session,
        Err(e) => return Verification { verdict: Verdict::NotVerified(e.to_string()), ..v },
    };
    let after = match after {
        Ok(session) => session,
        Err(e) => return Verification { verdict: result_fails(&e), ..v },
    };
    let count = original.graph.outputs().len();
    let step = |sums: &mut Tally, _: usize, feeds: crate::engine::Feeds| {
        let want = before.run(&feeds, &mut |_, _| {})?;
        match after.run(&feeds, &mut |_, _| {}) {
            Ok(got) => {
                for ((sum, a), b) in sums.outputs.iter_mut().zip(&want).zip(&got) {
                    sum.add(a, b);
                }
            }
            Err(e) => sums.failed = sums.failed.take().or(Some(result_fails(&e))),
        }
        Ok(())
    };
    let make = || Tally { outputs: vec![Sums::default(); count], failed: None };
    let tally = match for_each_sample(&source, all_cores(), make, step, Tally::merge, progress) {
        Ok(tally) => tally,
        Err(e) => return Verification { verdict: Verdict::NotVerified(e.to_string()), ..v },
    };
    let names = original.graph.outputs().iter().map(|o| original.graph.value(*o).name());
    v.outputs = tally.outputs.iter().zip(names).map(|(s, name)| s.finish(name)).collect();
    v.verdict = match tally.failed {
        Some(failed) => failed,
        None => judge(&v, original, semantics),
    };
    v
}

fn result_fails(e: &dyn std::fmt::Display) -> Verdict {
    Verdict::Disagree(format!("the original runs, but the result does not: {e}"))
}

struct Tally {
    outputs: Vec<Sums>,
    failed: Option<Verdict>,
}

impl Tally {
    fn merge(&mut self, other: Tally) {
        self.outputs.iter_mut().zip(&other.outputs).for_each(|(a, b)| a.merge(b));
        self.failed = self.failed.take().or(other.failed);
    }
}

fn judge(v: &Verification, original: &Model, semantics: Semantics) -> Verdict {
    if let Some(what) = v.interface.first() {
        return Verdict::Disagree(what.clone());
    }
    for o in &v.outputs {
        if let Some(what) = &o.mismatch {
            return Verdict::Disagree(format!("output {:?}: {what}", o.name));
        }
    }
    if semantics == Semantics::Lossy {
        return Verdict::Reported;
    }
    let depth = depth(&original.graph) as f64;
    let steps = has_steps(&original.graph);
    let off = v.outputs.iter().find_map(|o| {
        let unit = original.graph.find_value(&o.name).is_some_and(|v| is_unit(&original.graph, v));
        excess(o, depth, steps, unit).map(|what| format!("output {:?}: {what}", o.name))
    });
    off.map_or(Verdict::Agree, Verdict::Disagree)
}

/// What is too different in an output, if anything.
fn excess(o: &OutputDiff, depth: f64, steps: bool, unit: bool) -> Option<String> {
    const ROUNDINGS: f64 = 256.0;
    if o.bit_equal {
        return None;
    }
    if o.non_finite > 0 {
        return Some(format!("{} elements became or ceased to be NaN or infinite", o.non_finite));
    }
    if let Some(equal) = o.equal {
        let enough = if steps { 0.99 } else { 1.0 };
        return (equal < enough)
            .then(|| format!("{:.2} % of elements differ", 100.0 * (1.0 - equal)));
    }
    let epsilon = match DType::from_name(&o.dtype) {
        Some(DType::F64) => f64::EPSILON,
        Some(DType::F16) => f64::from(half::f16::EPSILON),
        Some(DType::BF16) => f64::from(half::bf16::EPSILON),
        _ => f64::from(f32::EPSILON),
    };
    let scale = if unit { o.scale.max(1.0) } else { o.scale };
    let tolerance = ROUNDINGS * depth.max(1.0).sqrt() * epsilon * scale;
    let enough_db = if steps { 30.0 } else { 60.0 };
    let sqnr = o.sqnr_db.unwrap_or(f64::INFINITY);
    let fine = o.max_abs <= tolerance || sqnr >= enough_db;
    (!fine).then(|| {
        format!(
            "differs by up to {:.3e} where {tolerance:.3e} is rounding (SQNR {sqnr:.1} dB)",
            o.max_abs
        )
    })
}

/// The value comes, moved at most, from a function onto an interval of unit size, whose rounding is
/// relative to that and not to what it happens to give.
fn is_unit(g: &Graph, v: crate::ir::ValueId) -> bool {
    const MOVES: [&str; 9] = [
        "Cast",
        "Concat",
        "Flatten",
        "Identity",
        "Reshape",
        "Slice",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    ];
    const UNIT: [&str; 5] = ["Erf", "HardSigmoid", "Sigmoid", "Softmax", "Tanh"];
    let mut at = v;
    while let Some(op) = g.producer_op(at) {
        let kind = g.op(op).op_type.as_str();
        if UNIT.contains(&kind) {
            return true;
        }
        match g.operand(op, 0) {
            Some(before) if MOVES.contains(&kind) => at = before,
            _ => return false,
        }
    }
    false
}

/// Number of ops on the longest path.
fn depth(g: &Graph) -> usize {
    let mut at: std::collections::HashMap<crate::ir::OpId, usize> = Default::default();
    let mut deepest = 0;
    for op in g.order() {
        let before = g.reads(op).filter_map(|v| at.get(&g.producer_op(v)?).copied()).max();
        let inner = g.op(op).bodies.iter().map(depth).max().unwrap_or(0);
        let here = before.unwrap_or(0) + 1 + inner;
        deepest = deepest.max(here);
        at.insert(op, here);
    }
    deepest
}

/// Some op rounds, compares or chooses: a last bit may change its result by a whole step.
fn has_steps(g: &Graph) -> bool {
    const STEPS: [&str; 20] = [
        "ArgMax",
        "ArgMin",
        "Cast",
        "Ceil",
        "DynamicQuantizeLinear",
        "Equal",
        "Floor",
        "Greater",
        "GreaterOrEqual",
        "If",
        "Less",
        "LessOrEqual",
        "Loop",
        "Mod",
        "NonMaxSuppression",
        "NonZero",
        "QuantizeLinear",
        "Round",
        "TopK",
        "Unique",
    ];
    g.ops().any(|op| {
        let node = g.op(op);
        let reads_floats =
            g.operand(op, 0).is_none_or(|v| g.value(v).dtype().is_none_or(DType::is_float));
        let makes_floats =
            g.result(op, 0).is_some_and(|v| g.value(v).dtype().is_some_and(DType::is_float));
        let step = STEPS.contains(&node.op_type.as_str())
            && reads_floats
            && !(node.is("Cast") && makes_floats);
        step || node.op_type.starts_with("QLinear") || node.bodies.iter().any(has_steps)
    })
}
