//! Runs a recipe over a model.

use std::sync::Arc;
use std::time::Instant;

use serde::Serialize;

use super::{Effect, Recipe, RecipeError, SimplifyOptions, Step};
use crate::convert::{self, ConvertReport};
use crate::data::{self, DataOptions};
use crate::engine::{self, Engine};
use crate::evaluate::Evaluation;
use crate::ir::Model;
use crate::pass::{self, Cx};
use crate::precision::{self, Observation, PrecisionOptions, PrecisionReport};
use crate::prune::{self, Mode, PruneOptions, PruneReport, SparseReport};
use crate::quantize::{self, QuantizeReport};
use crate::recover::Calibration;
use crate::report::inspect::{Summary, summarize};
use crate::share::{self, Samples, ShareOptions, ShareReport};
use crate::surgery::{self, EditReport, ExtractReport};
use crate::target::Version;
use crate::verify::Verification;

/// Told of long work: what, how much is done, how much there is.
pub type Progress<'a> = dyn Fn(&'static str, usize, usize) + Sync + 'a;

/// A finished run.
#[derive(Debug)]
pub struct Done {
    /// The result.
    pub model: Model,
    /// The model as the last step `quantize` found it.
    pub float: Option<Model>,
    /// What was done to get there.
    pub report: Report,
}

/// What a recipe did to a model.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The original, where figures were asked for.
    pub before: Option<Summary>,
    /// The result, where figures were asked for.
    pub after: Option<Summary>,
    /// Sizes taken for open dims: those of the data, then those that the user gave.
    pub dims: Vec<(String, i64)>,
    /// What each step did.
    pub steps: Vec<StepReport>,
    /// Comparison of original and result.
    pub verification: Option<Verification>,
    /// Accuracy of the original and of the result.
    pub accuracy: Option<(Evaluation, Evaluation)>,
    /// What the user should know.
    pub warnings: Vec<String>,
    /// Time for all steps in seconds, calibration included, verification and evaluation not.
    pub seconds: f64,
}

/// What a step did.
#[derive(Debug, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum StepReport {
    /// What was edited.
    Edit(EditReport),
    /// What was cut out.
    Extract(ExtractReport),
    /// What was converted.
    Convert(ConvertReport),
    /// Which passes fired, and how often.
    Simplify(SimplifyReport),
    /// Which channels went.
    Prune(PruneReport),
    /// Weights were set to zero.
    Sparse(SparseReport),
    /// What was quantized.
    Quantize(QuantizeReport),
    /// What computes in 16 bits.
    Precision(PrecisionReport),
    /// Which weights share values.
    Share(ShareReport),
}

/// What the step `simplify` did.
#[derive(Debug, Serialize)]
pub struct SimplifyReport {
    /// Passes that changed something: name, times, milliseconds.
    pub passes: Vec<(&'static str, usize, f64)>,
    /// Ops that contradict their operator.
    pub findings: Vec<(String, String)>,
    /// Why patterns did not fire: pass, op, reason.
    pub misses: Vec<(&'static str, String, String)>,
}

/// Runs the recipe on the model, or on a copy where the model is needed afterwards: by the caller,
/// who then holds it too, or to compare with. `figures` says whether to sum up original and result.
///
/// # Errors
/// When a step fails, or changes numbers that it must not change.
pub fn run(
    recipe: &Recipe,
    original: Arc<Model>,
    figures: bool,
    progress: &Progress,
) -> Result<Done, RecipeError> {
    let _: Version = recipe.tensorrt.parse()?;
    let dims = input_sizes(&recipe.data, &original)?;
    let mut runner =
        Runner { recipe, progress, engine: None, warnings: Vec::new(), dims: dims.clone() };
    let needs_engine = !recipe.verify.skip
        || recipe.evaluate.is_some()
        || recipe.step.iter().any(|s| match s {
            Step::Prune(_) => recipe.has_data(),
            Step::Quantize(_) | Step::Precision(_) | Step::Share(_) => true,
            _ => false,
        });
    if needs_engine {
        runner.engine = Some(engine::by_name(&recipe.engine)?);
    }
    runner.warn_of_overridable(&original);
    let before = figures.then(|| summarize(&original, &dims));
    let mut compared = (!recipe.verify.skip).then(|| Compared::new(&original));
    let evaluated = recipe.evaluate.as_ref().map(|_| original.clone());
    let mut model = original;
    let mut steps = Vec::new();
    let mut seconds = 0.0;
    let mut float = None;
    for step in &recipe.step {
        if let Some(c) = compared.as_mut().filter(|_| step.effect() != Effect::Exact) {
            runner.verify_exact(&c.exact_since, &model, c.pending.take())?;
        }
        let interface = step.effect() == Effect::Interface;
        let before = compared.as_ref().filter(|_| interface).map(|_| model.clone());
        if matches!(step, Step::Quantize(_)) {
            float = Some(model.as_ref().clone());
        }
        let start = Instant::now();
        steps.push(runner.step(step, Arc::make_mut(&mut model))?);
        seconds += start.elapsed().as_secs_f64();
        let Some(c) = &mut compared else { continue };
        match step.effect() {
            Effect::Exact => c.pending = Some(step.name()),
            Effect::Lossy => c.exact_since = model.clone(),
            Effect::Interface => {
                if let Some(before) = before {
                    runner.verify_edit(&before, &model)?;
                }
                if runner.step(step, Arc::make_mut(&mut c.baseline)).is_err() {
                    c.baseline = model.clone();
                }
                c.exact_since = model.clone();
            }
        }
    }
    let verification = match compared {
        None => None,
        Some(c) => {
            let lossy = recipe.step.iter().any(|s| s.effect() == Effect::Lossy);
            if lossy {
                runner.verify_exact(&c.exact_since, &model, c.pending)?;
            }
            Some(runner.verify_all(&c.baseline, &model, lossy, c.pending)?)
        }
    };
    let accuracy = evaluated.map(|original| runner.evaluate(&original, &model)).transpose()?;
    let report = Report {
        before,
        after: figures.then(|| summarize(&model, &dims)),
        dims,
        steps,
        verification,
        accuracy: accuracy.flatten(),
        warnings: runner.warnings,
        seconds,
    };
    Ok(Done { model: Arc::unwrap_or_clone(model), float, report })
}

/// What results are compared with.
struct Compared {
    /// The original, its interface edited as asked.
    baseline: Arc<Model>,
    /// Where the present run of steps that keep the numbers began.
    exact_since: Arc<Model>,
    /// The last step of that run, when it was not verified yet.
    pending: Option<&'static str>,
}

impl Compared {
    fn new(original: &Arc<Model>) -> Compared {
        Compared { baseline: original.clone(), exact_since: original.clone(), pending: None }
    }
}

/// Sizes for the open dims of the inputs: what the data have, and what the user says.
///
/// # Errors
/// When the data cannot be read, or a size is given to a dim that the model does not have.
pub fn input_sizes(
    options: &DataOptions,
    original: &Model,
) -> Result<Vec<(String, i64)>, RecipeError> {
    let given = options.bindings()?;
    // Summing up a model infers all its shapes: only where there is a name to look for.
    if !given.is_empty()
        && let Some(stray) = summarize(original, &[]).stray_dim(&given)
    {
        return Err(stray.into());
    }
    let mut dims = match options.data.is_empty() {
        true => Vec::new(),
        false => {
            let source = data::open(options, original, 0)?;
            data::observed_sizes(source.as_ref(), original)?
        }
    };
    dims.extend(given);
    Ok(dims)
}

pub(super) struct Runner<'a> {
    pub(super) recipe: &'a Recipe,
    pub(super) progress: &'a Progress<'a>,
    engine: Option<Arc<dyn Engine>>,
    warnings: Vec<String>,
    /// Sizes of open dims.
    dims: Vec<(String, i64)>,
}

impl Runner<'_> {
    pub(super) fn engine(&self) -> &dyn Engine {
        self.engine.as_deref().expect("invariant: loaded when a step needs it")
    }

    /// Files of IR version 3 and older list all weights among the inputs.
    fn warn_of_overridable(&mut self, m: &Model) {
        let g = &m.graph;
        let n = g.inputs().iter().filter(|v| g.initializer(**v).is_some()).count();
        let frozen = |s: &Step| match s {
            Step::Simplify(o) => o.enable.iter().chain(&o.only).any(|p| p == "freeze-inputs"),
            Step::Edit(o) => o.freeze_inputs,
            _ => false,
        };
        if n > 0 && !self.recipe.step.iter().any(frozen) {
            self.warnings.push(format!(
                "{n} inputs have a default, so callers may replace it and nothing counts on it; \
                 `--freeze-inputs` makes constants of them"
            ));
        }
    }

    fn step(&mut self, step: &Step, model: &mut Model) -> Result<StepReport, RecipeError> {
        Ok(match step {
            Step::Edit(o) => StepReport::Edit(surgery::edit(model, o)?),
            Step::Extract(o) => StepReport::Extract(surgery::extract(model, o)?),
            Step::Convert(o) => StepReport::Convert(convert::convert(model, o)?),
            Step::Simplify(o) => StepReport::Simplify(simplify(model, o, self.recipe.explain)?),
            Step::Prune(o) if o.mode != Mode::Channels => {
                let report = self.sparsify(model, o)?;
                self.warnings.extend(report.warnings.iter().cloned());
                StepReport::Sparse(report)
            }
            Step::Prune(o) => {
                let report = self.prune(model, o)?;
                self.warnings.extend(report.warnings.iter().cloned());
                StepReport::Prune(report)
            }
            Step::Quantize(o) => {
                let options = &self.recipe.data;
                if o.needs_data() && !self.recipe.has_data() {
                    return Err(RecipeError::NoData);
                }
                let source = match o.needs_data() {
                    true => Some(data::open(options, model, 0)?),
                    false => None,
                };
                let all = source.as_ref().map_or(0, |s| s.len());
                let progress = |done| (self.progress)("calibrate", done, all);
                let report =
                    quantize::apply(model, o, self.engine(), source.as_deref(), &progress)?;
                self.warnings.extend(report.warnings.iter().cloned());
                StepReport::Quantize(report)
            }
            Step::Share(o) => StepReport::Share(self.share(o, model)?),
            Step::Precision(o) => {
                let report = self.precision(o, model)?;
                self.warnings.extend(report.warnings.iter().cloned());
                StepReport::Precision(report)
            }
        })
    }

    /// Converts to 16-bit floats; ranges are observed where there is data.
    fn precision(
        &self,
        o: &PrecisionOptions,
        model: &mut Model,
    ) -> Result<PrecisionReport, RecipeError> {
        let options = &self.recipe.data;
        if options.data.is_empty() && options.random.is_none() {
            return Ok(precision::convert(model, o, None)?);
        }
        let source = data::open(options, model, 0)?;
        let all = source.len();
        let progress = |done| (self.progress)("observe", done, all);
        let observation =
            Observation { engine: self.engine(), data: source.as_ref(), progress: &progress };
        Ok(precision::convert(model, o, Some(&observation))?)
    }

    fn prune(&mut self, model: &mut Model, o: &PruneOptions) -> Result<PruneReport, RecipeError> {
        if !self.recipe.has_data() {
            return Ok(prune::prune_with(model, o, None, &self.dims)?);
        }
        let source = data::open(&self.recipe.data, model, 0)?;
        let (engine, progress) = (self.engine(), self.progress);
        let data = Calibration { engine, source: source.as_ref(), progress };
        let mut report = prune::prune_with(model, o, Some(data), &self.dims)?;
        if let (Some(cut), Some(recovery)) = (report.as_cut.take(), &mut report.recovery) {
            recovery.top1_before = self.accuracy(&cut)?.map(|e| e.top1);
        }
        Ok(report)
    }

    fn sparsify(
        &mut self,
        model: &mut Model,
        o: &PruneOptions,
    ) -> Result<SparseReport, RecipeError> {
        if !self.recipe.has_data() {
            return Ok(prune::sparsify(model, o, None)?);
        }
        let source = data::open(&self.recipe.data, model, 0)?;
        let (engine, progress) = (self.engine(), self.progress);
        let data = Calibration { engine, source: source.as_ref(), progress };
        let mut report = prune::sparsify(model, o, Some(data))?;
        if let (Some(cut), Some(recovery)) = (report.as_cut.take(), &mut report.recovery) {
            recovery.top1_before = self.accuracy(&cut)?.map(|e| e.top1);
        }
        Ok(report)
    }

    /// Shares weights; what they are multiplied with is observed where that is asked for.
    fn share(&self, o: &ShareOptions, model: &mut Model) -> Result<ShareReport, RecipeError> {
        let options = &self.recipe.data;
        if !o.weighted || (options.data.is_empty() && options.random.is_none()) {
            return Ok(share::share(model, o, None)?);
        }
        let source = data::open(options, model, 0)?;
        let all = source.len();
        let progress = |done| (self.progress)("observe", done, all);
        let samples =
            Samples { engine: self.engine(), source: source.as_ref(), progress: &progress };
        Ok(share::share(model, o, Some(samples))?)
    }
}

/// Runs the step `simplify`.
fn simplify(
    model: &mut Model,
    o: &SimplifyOptions,
    explain: bool,
) -> Result<SimplifyReport, RecipeError> {
    let mut cx = Cx { explain, ..o.cx()? };
    pass::simplify(model, &mut cx)?;
    let fired = cx.stats.iter().filter(|(_, s)| s.fired > 0);
    Ok(SimplifyReport {
        passes: fired.map(|(n, s)| (*n, s.fired, s.time.as_secs_f64() * 1e3)).collect(),
        findings: cx.findings,
        misses: cx.misses.into_iter().map(|(p, op, m)| (p, op, m.to_string())).collect(),
    })
}
