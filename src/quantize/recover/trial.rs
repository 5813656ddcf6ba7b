//! Trials: what a variant of a model loses by quantization, calibrated on a few samples and judged
//! on others.

use std::collections::BTreeMap;

use super::super::collect::Observed;
use super::super::placement::Plan;
use super::super::ranges::{choose, observe_plan};
use super::super::{
    Calibrated, Payload, QuantizeError, QuantizeOptions, calibrate_plan, correct_biases, insert,
};
use crate::data::{DataError, Source};
use crate::engine::{Engine, Feeds, Observer, RunError, all_cores, run_all};
use crate::ir::{Model, Tensor, ValueId};
use crate::verify::largest;

/// Samples that a trial is calibrated on at most, and that layers are fitted to.
pub(super) const CALIBRATED: usize = 32;
/// Samples that judge a trial.
pub(super) const JUDGED: usize = 16;

/// Runs `from..from + len` of a source.
#[derive(Clone, Copy)]
pub(in super::super) struct Part<'a> {
    source: &'a dyn Source,
    from: usize,
    len: usize,
}

impl<'a> Part<'a> {
    pub(in super::super) fn new(source: &'a dyn Source, from: usize, len: usize) -> Part<'a> {
        Part { source, from, len }
    }
}

impl Source for Part<'_> {
    fn len(&self) -> usize {
        self.len
    }

    fn get(&self, i: usize) -> Result<Feeds, DataError> {
        self.source.get(self.from + i)
    }

    fn batch(&self) -> usize {
        self.source.batch()
    }
}

/// What tries variants.
pub(in super::super) struct Judge<'a> {
    pub engine: &'a dyn Engine,
    pub calibration: Part<'a>,
    judged: Part<'a>,
    /// Outputs of the float model for the judged samples.
    reference: BTreeMap<usize, Vec<Tensor>>,
}

impl<'a> Judge<'a> {
    /// For a float model. A third of the samples, `most` at most, judges, the others calibrate, up to
    /// `calibrated`; all do both where there are fewer than 12.
    ///
    /// # Errors
    /// When the model does not run.
    pub(super) fn new(
        m: &Model,
        engine: &'a dyn Engine,
        source: &'a dyn Source,
        most: usize,
        calibrated: usize,
    ) -> Result<Judge<'a>, QuantizeError> {
        let n = source.len();
        let held_out = if n < 12 { 0 } else { (n / 3).min(most) };
        let calibrated = (n - held_out).min(calibrated);
        let calibration = Part { source, from: 0, len: calibrated };
        // Far from the samples that calibrate: neighbours are often alike.
        let from = if held_out == 0 { 0 } else { n - held_out };
        let judged = Part { source, from, len: if held_out == 0 { n } else { held_out } };
        let session = engine.prepare(m, &[]).map_err(RunError::from)?;
        let kept = run_all(&*session, &judged, all_cores(), Keep::default, &|_| {})?;
        Ok(Judge { engine, calibration, judged, reference: kept.0 })
    }

    /// How near the outputs of a model are to those of the float model on the judged samples.
    ///
    /// # Errors
    /// When the model does not run.
    pub(super) fn score(&self, m: &Model) -> Result<Score, QuantizeError> {
        let session = self.engine.prepare(m, &[]).map_err(RunError::from)?;
        let make = || Noise { judge: self, per_sample: BTreeMap::new() };
        let found = run_all(&*session, &self.judged, all_cores(), make, &|_| {})?;
        let mut all = Sums::default();
        found.per_sample.values().for_each(|s| all.add(s));
        Ok(all.score())
    }

    /// Share of the judged samples that the float model gets right, as [`Score::top1`] counts.
    pub(super) fn float_top1(&self) -> Option<f64> {
        let mut all = Sums::default();
        for (sample, outputs) in &self.reference {
            let mut own = Sums::default();
            own.observe_rows(outputs, outputs, self.labels_of(*sample));
            all.add(&own);
        }
        all.score().top1
    }

    fn labels_of(&self, sample: usize) -> Option<&[i64]> {
        let batch = self.judged.batch();
        let first = (self.judged.from + sample) * batch;
        self.judged.source.labels()?.get(first..first + batch)
    }

    /// What the planned activations are on the few samples, and the channels of values along axes.
    ///
    /// # Errors
    /// When the model does not run.
    pub(super) fn observe(
        &self,
        m: &Model,
        plan: &Plan,
        o: &QuantizeOptions,
        axes: &BTreeMap<ValueId, usize>,
    ) -> Result<Observed, QuantizeError> {
        observe_plan(m, plan, o, axes, (self.engine, &self.calibration, &|_| {}))
    }

    /// The model quantized by the plan and what was seen, biases corrected or not.
    ///
    /// # Errors
    /// When the model does not run.
    pub(super) fn quantized(
        &self,
        m: &Model,
        plan: &Plan,
        o: &QuantizeOptions,
        seen: &Observed,
        correct: bool,
    ) -> Result<Score, QuantizeError> {
        self.score(&written(m, plan, o, &choose(&m.graph, plan, o, seen), correct))
    }

    /// The model quantized by the plan, calibrated on a few samples, biases corrected unless that is
    /// off.
    ///
    /// # Errors
    /// When the model does not run.
    pub(super) fn corrected(
        &self,
        m: &Model,
        plan: &Plan,
        o: &QuantizeOptions,
    ) -> Result<Score, QuantizeError> {
        let c = calibrate_plan(m, plan, o, self.engine, &self.calibration, &|_| {})?;
        self.score(&written(m, plan, o, &c, corrects(o)))
    }
}

/// Biases are corrected.
pub(super) fn corrects(o: &QuantizeOptions) -> bool {
    !o.no_bias_correction && o.payload == Payload::Int8
}

/// The model quantized by the plan, biases corrected if `correct`.
pub(super) fn written(
    m: &Model,
    plan: &Plan,
    o: &QuantizeOptions,
    c: &Calibrated,
    correct: bool,
) -> Model {
    let mut m = m.clone();
    if correct {
        correct_biases(&mut m.graph, plan, c);
    }
    insert::insert(&mut m.graph, plan, c, o);
    m
}

#[derive(Default)]
struct Keep(BTreeMap<usize, Vec<Tensor>>);

impl Observer for Keep {
    fn outputs(&mut self, sample: usize, outputs: Vec<Tensor>) {
        self.0.insert(sample, outputs);
    }

    fn merge(&mut self, other: Self) {
        self.0.extend(other.0);
    }
}

/// How near outputs are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Score {
    /// Over all float outputs.
    pub sqnr_db: f64,
    pub cosine: f64,
    /// Share of the rows of the first output, `[N, C]`, whose largest element is the label, or,
    /// without labels, where it is for the float model.
    pub top1: Option<f64>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Sums {
    signal: f64,
    noise: f64,
    other: f64,
    dot: f64,
    rows: usize,
    hits: usize,
}

impl Sums {
    fn add(&mut self, o: &Sums) {
        self.signal += o.signal;
        self.noise += o.noise;
        self.other += o.other;
        self.dot += o.dot;
        self.rows += o.rows;
        self.hits += o.hits;
    }

    fn score(&self) -> Score {
        let length = (self.signal * self.other).sqrt();
        Score {
            sqnr_db: 10.0 * (self.signal.max(1e-30) / self.noise.max(1e-30)).log10(),
            cosine: if length > 0.0 { self.dot / length } else { 1.0 },
            top1: (self.rows > 0).then(|| self.hits as f64 / self.rows as f64),
        }
    }

    fn observe(&mut self, want: &[f32], got: &[f32]) {
        for (a, b) in want.iter().zip(got).filter(|(a, _)| a.is_finite()) {
            let (a, b) = (f64::from(*a), f64::from(*b));
            self.signal += a * a;
            // What became NaN or infinite is all noise.
            let (b, lost) = if b.is_finite() { (b, 0.0) } else { (0.0, 1.0) };
            self.noise += (a - b).powi(2) + lost;
            self.other += b * b;
            self.dot += a * b;
        }
    }

    fn observe_rows(&mut self, want: &[Tensor], got: &[Tensor], labels: Option<&[i64]>) {
        let (Some(want), Some(got)) = (want.first(), got.first()) else { return };
        let &[_, classes] = want.dims() else { return };
        let (Some(a), Some(b)) = (want.to_f64(), got.to_f64()) else { return };
        if classes < 2 || got.dims() != want.dims() {
            return;
        }
        for (i, (a, b)) in a.chunks_exact(classes).zip(b.chunks_exact(classes)).enumerate() {
            let label = labels.and_then(|l| usize::try_from(*l.get(i)?).ok());
            self.rows += 1;
            self.hits += usize::from(largest(b) == label.unwrap_or_else(|| largest(a)));
        }
    }
}

struct Noise<'a> {
    judge: &'a Judge<'a>,
    per_sample: BTreeMap<usize, Sums>,
}

impl Observer for Noise<'_> {
    fn outputs(&mut self, sample: usize, outputs: Vec<Tensor>) {
        let want = self.judge.reference.get(&sample).map_or(&[][..], Vec::as_slice);
        let sums = self.per_sample.entry(sample).or_default();
        for (a, b) in want.iter().zip(&outputs).filter(|(a, _)| a.dtype().is_float()) {
            if let (Some(a), Some(b)) = (a.to_f32(), b.to_f32()) {
                sums.observe(&a, &b);
            }
        }
        sums.observe_rows(want, &outputs, self.judge.labels_of(sample));
    }

    fn merge(&mut self, other: Self) {
        self.per_sample.extend(other.per_sample);
    }
}
