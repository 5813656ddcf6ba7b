//! Accuracy of classifiers on labelled data.

use std::time::Instant;

use serde::Serialize;

use crate::data::Source;
use crate::engine::{Engine, EngineError, Observer, Progress, RunError, all_cores, run_all};
use crate::ir::{Model, Tensor};
use crate::verify::largest;

/// Accuracy of one model.
#[derive(Clone, Debug, Serialize)]
pub struct Evaluation {
    /// Labelled samples.
    pub samples: usize,
    /// Share whose label got the largest score.
    pub top1: f64,
    /// Share whose label got one of the five largest scores.
    pub top5: f64,
    /// Name of the output that holds the scores.
    pub output: String,
    /// Name of the engine.
    pub engine: &'static str,
    /// Seconds for all samples.
    pub seconds: f64,
}

/// Why a model cannot be evaluated.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum EvaluateError {
    #[error("the data have no labels: give --labels, or an .npz file that holds them")]
    NoLabels,
    #[error("the model has no output of scores [N, C]: output {name:?} is {got}")]
    NoScores { name: String, got: String },
    #[error("label {label} at sample {sample}, but the model tells only {classes} classes apart")]
    LabelRange { label: i64, sample: usize, classes: usize },
    #[error(transparent)]
    Run(#[from] RunError),
}

impl From<EngineError> for EvaluateError {
    fn from(e: EngineError) -> EvaluateError {
        EvaluateError::Run(e.into())
    }
}

/// Runs all samples and compares the largest scores of the first output with the labels.
///
/// # Errors
/// When there are no labels or no scores, or a run fails.
pub fn evaluate(
    model: &Model,
    engine: &dyn Engine,
    source: &dyn Source,
    progress: Progress,
) -> Result<Evaluation, EvaluateError> {
    let labels = source.labels().ok_or(EvaluateError::NoLabels)?;
    let session = engine.prepare(model, &[])?;
    let start = Instant::now();
    let make = || Count { labels, batch: source.batch(), ..Count::default() };
    let count = run_all(&*session, source, all_cores(), make, progress)?;
    if let Some((label, sample, classes)) = count.out_of_range {
        return Err(EvaluateError::LabelRange { label, sample, classes });
    }
    let output = model.graph.outputs().first().map(|v| model.graph.value(*v).name().to_owned());
    let output = output.unwrap_or_default();
    if let Some(got) = count.no_scores {
        return Err(EvaluateError::NoScores { name: output, got });
    }
    let share = |n: usize| n as f64 / count.samples.max(1) as f64;
    Ok(Evaluation {
        samples: count.samples,
        top1: share(count.top1),
        top5: share(count.top5),
        output,
        engine: engine.name(),
        seconds: start.elapsed().as_secs_f64(),
    })
}

#[derive(Default)]
struct Count<'a> {
    labels: &'a [i64],
    batch: usize,
    samples: usize,
    top1: usize,
    top5: usize,
    out_of_range: Option<(i64, usize, usize)>,
    no_scores: Option<String>,
}

impl Observer for Count<'_> {
    fn outputs(&mut self, sample: usize, outputs: Vec<Tensor>) {
        let Some(scores) = outputs.first() else { return };
        let rows = scores.to_f64().filter(|_| scores.dtype().is_float());
        let classes = scores.dims().get(1).copied().unwrap_or(0);
        let flat = scores.dims().iter().skip(2).all(|&d| d == 1);
        let (Some(rows), true, true) = (rows, flat, classes >= 2) else {
            self.no_scores = Some(format!("{}{:?}", scores.dtype(), scores.dims()));
            return;
        };
        let first = sample * self.batch;
        for (i, (row, &label)) in
            rows.chunks_exact(classes).zip(self.labels.iter().skip(first)).enumerate()
        {
            let Some(own) = usize::try_from(label).ok().filter(|l| *l < classes) else {
                self.out_of_range = Some((label, first + i, classes));
                return;
            };
            self.samples += 1;
            self.top1 += usize::from(largest(row) == own);
            let ahead = row
                .iter()
                .enumerate()
                .filter(|(c, v)| **v > row[own] || (**v == row[own] && *c < own));
            self.top5 += usize::from(!row[own].is_nan() && ahead.count() < 5);
        }
    }

    fn merge(&mut self, o: Self) {
        self.samples += o.samples;
        self.top1 += o.top1;
        self.top5 += o.top5;
        self.out_of_range = self.out_of_range.or(o.out_of_range);
        self.no_scores = self.no_scores.take().or(o.no_scores);
    }
}
