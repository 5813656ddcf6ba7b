//! Original and result on the same inputs.
//!
//! # When two models agree
//! Names, order and types of inputs and outputs are the same. Integer, bool and string outputs are
//! equal. Float outputs differ by no more than `256 · √depth · ε` of the largest absolute value
//! that the original put out there (of one, behind a sigmoid or softmax), with `ε` the rounding of
//! the output's type and `depth` the number of ops on the longest path through the original: float
//! addition in another order stays well below that, a wrong model does not. Where a few elements differ more, as behind a division
//! by something tiny, a signal-to-difference ratio of 60 dB is agreement too. In models that round
//! or choose inside (quantize, compare, sort), where a last bit may tip a step, 30 dB are, and 99 %
//! of equal elements in outputs that are no floats. And where the original itself, fed inputs that
//! are a few roundings off, gives outputs that differ nearly as much (within 24 dB), the difference
//! is its own: networks with random weights can be that unstable.

mod bisect;
mod interface;
pub(crate) mod judge;
mod metrics;
mod tolerance;
mod values;

use serde::Serialize;

pub use bisect::{Bisection, Culprit, Simplify, bisect};
pub(crate) use interface::differences as interface;
pub use judge::{LayerNoise, Metric, Search};
pub use metrics::OutputDiff;
pub(crate) use metrics::{Sums, largest};
pub use values::compare_layers;

use crate::data::{Source, Taken};
use crate::engine::{Engine, EngineError, Feeds, Progress, Session, all_cores, for_each_sample};
use crate::ir::{DType, Model, ValueId};
use crate::pass::{Semantics, infer_model};
use tolerance::Tolerance;

/// What a comparison found.
#[derive(Clone, Debug, Serialize)]
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
        interface: Vec::new(),
        outputs: Vec::new(),
    };
    let emulated = emulated(original, result, engine, semantics);
    if emulated.is_some() {
        v.engine = match engine.name() {
            "ort" => "ort, small types emulated",
            _ => "tract, small types emulated",
        };
    }
    let result = emulated.as_ref().unwrap_or(result);
    v.interface = interface::differences(original, result);
    let (before, after) =
        rayon::join(|| engine.prepare(original, &[]), || engine.prepare(result, &[]));
    let before = match before {
        Ok(session) => session,
        Err(e) => return Verification { verdict: Verdict::NotVerified(e.to_string()), ..v },
    };
    let after = match after {
        Ok(session) => session,
        Err(e) if matches!(e, EngineError::Unsupported { .. }) && sound(original, result) => {
            return Verification { verdict: lacks(&e), ..v };
        }
        Err(e) => return Verification { verdict: result_fails(&e, semantics), ..v },
    };
    let count = original.graph.outputs().len();
    let step = |sums: &mut Tally, _: usize, feeds: Feeds| {
        // Side by side where the samples leave cores idle.
        let run = |session: &dyn Session| session.run(&feeds, &mut |_, _| {});
        let (want, got) = match source.len() {
            1 => rayon::join(|| run(&*before), || run(&*after)),
            _ => (run(&*before), run(&*after)),
        };
        let want = want?;
        match got {
            Ok(got) => {
                for ((sum, a), b) in sums.outputs.iter_mut().zip(&want).zip(&got) {
                    sum.add(a, b);
                }
            }
            Err(e) => sums.failed = sums.failed.take().or(Some(result_fails(&e, semantics))),
        }
        Ok(())
    };
    let make = || Tally { outputs: vec![Sums::default(); count], failed: None };
    let tally = match for_each_sample(&source, all_cores(), make, step, Tally::merge, progress) {
        Ok(tally) => tally,
        Err(e) => return Verification { verdict: Verdict::NotVerified(e.to_string()), ..v },
    };
    v.outputs = tally.finish(original);
    v.verdict = match tally.failed {
        Some(failed) => failed,
        None => judge(&v, original, semantics, &|| sensitivity(&*before, &source, original)),
    };
    v
}

/// Shape inference finds no more contradictions in the result than in the original: that an engine
/// cannot prepare it then says more about the engine, which has run the same in another form.
fn sound(original: &Model, result: &Model) -> bool {
    let contradictions = |m: &Model| {
        let mut count = 0;
        infer_model(&mut m.clone(), &mut |_, _| count += 1);
        count
    };
    contradictions(result) <= contradictions(original)
}

fn lacks(e: &EngineError) -> Verdict {
    Verdict::NotVerified(format!("the engine does not run the result: {e}"))
}

/// What it means that the result does not run: after a step that brought new types in, only that the
/// engine lacks them.
fn result_fails(e: &EngineError, semantics: Semantics) -> Verdict {
    if matches!(e, EngineError::Unsupported { .. }) && semantics == Semantics::Lossy {
        return lacks(e);
    }
    Verdict::Disagree(format!("the original runs, but the result does not: {e}"))
}

/// A float32 model that rounds as the result does, where 16-bit floats are new in it and the engine
/// does not compute with them throughout, or inputs and outputs have another type for it.
fn emulated(
    original: &Model,
    result: &Model,
    engine: &dyn Engine,
    semantics: Semantics,
) -> Option<Model> {
    let is_half = |m: &Model, v: ValueId| {
        m.graph.value(v).dtype().is_some_and(|d| [DType::F16, DType::BF16].contains(&d))
    };
    let has_half = |m: &Model| m.graph.values().any(|v| is_half(m, v));
    if semantics == Semantics::Lossy && engine.name() == "tract" && has_small_weights(result) {
        let mut wide = result.clone();
        crate::quantize::inverse::strip(&mut wide);
        return Some(wide);
    }
    if semantics != Semantics::Lossy || !has_half(result) || has_half(original) {
        return None;
    }
    let mut boundary = result.graph.inputs().iter().chain(result.graph.outputs());
    let runs = engine.name() != "tract" && !boundary.any(|v| is_half(result, *v));
    if runs { None } else { crate::precision::emulate(result) }
}

/// The model has weights of 4 bits and no quantized activations: dequantizing them changes nothing.
fn has_small_weights(m: &Model) -> bool {
    let g = &m.graph;
    g.values().any(|v| g.value(v).dtype().is_some_and(|d| [DType::I4, DType::U4].contains(&d)))
        && !g.ops().any(|op| g.op(op).is("QuantizeLinear"))
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

    fn finish(&self, original: &Model) -> Vec<OutputDiff> {
        let names = original.graph.outputs().iter().map(|o| original.graph.value(*o).name());
        self.outputs.iter().zip(names).map(|(s, name)| s.finish(name)).collect()
    }
}

/// How much the outputs of the original change when every float input changes by a few roundings;
/// `None` when it has no such input, or does not run.
fn sensitivity(
    session: &dyn Session,
    source: &dyn Source,
    original: &Model,
) -> Option<Vec<OutputDiff>> {
    let count = original.graph.outputs().len();
    let step = |tally: &mut Tally, i: usize, feeds: Feeds| {
        let near: Feeds =
            feeds.iter().map(|(name, t)| (name.clone(), tolerance::nudged(t, i as u64))).collect();
        let want = session.run(&feeds, &mut |_, _| {})?;
        let got = session.run(&near, &mut |_, _| {})?;
        for ((sum, a), b) in tally.outputs.iter_mut().zip(&want).zip(&got) {
            sum.add(a, b);
        }
        Ok(())
    };
    let make = || Tally { outputs: vec![Sums::default(); count], failed: None };
    let tally = for_each_sample(source, all_cores(), make, step, Tally::merge, &|_| {}).ok()?;
    Some(tally.finish(original))
}

fn judge(
    v: &Verification,
    original: &Model,
    semantics: Semantics,
    moved: &dyn Fn() -> Option<Vec<OutputDiff>>,
) -> Verdict {
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
    let tolerance = Tolerance::of(&original.graph);
    let off = |moved: Option<&[OutputDiff]>| {
        v.outputs.iter().enumerate().find_map(|(i, o)| {
            let what = tolerance.excess(o, moved.and_then(|m| m.get(i)))?;
            Some(format!("output {:?}: {what}", o.name))
        })
    };
    // What small changes do is only measured where it matters: it takes as long as a comparison.
    let off = off(None).and_then(|_| off(moved().as_deref()));
    off.map_or(Verdict::Agree, Verdict::Disagree)
}
