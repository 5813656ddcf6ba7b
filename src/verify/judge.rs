//! What a variant of a model loses, fitted to a part of the samples and judged on others; and the
//! fewest layers that must stay as they are for a goal.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::largest;
use crate::data::{DataError, Source};
use crate::engine::{Engine, Feeds, Observer, RunError, all_cores, run_all};
use crate::ir::{Model, OpId, Tensor};

/// Samples that a trial is calibrated on at most, and that layers are fitted to.
pub(crate) const CALIBRATED: usize = 32;
/// Samples that judge a trial.
pub(crate) const JUDGED: usize = 16;
/// Samples that judge accuracy, which is coarse.
const JUDGED_BY_LABELS: usize = 256;

/// What a goal is about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Metric {
    /// Accuracy on labels, or agreement with the float model where there are none, in points.
    Top1,
    /// Noise of the outputs in percent of their magnitude: 1 is an SQNR of 40 dB, 10 of 20 dB.
    #[default]
    Sqnr,
    /// What the cosine of the outputs lacks to 1, in percent.
    Cosine,
}

/// Runs `from..from + len` of a source.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    source: &'a dyn Source,
    from: usize,
    len: usize,
}

impl<'a> Part<'a> {
    pub(crate) fn new(source: &'a dyn Source, from: usize, len: usize) -> Part<'a> {
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
pub(crate) struct Judge<'a> {
    pub engine: &'a dyn Engine,
    pub calibration: Part<'a>,
    judged: Part<'a>,
    /// Outputs of the float model for the judged samples.
    reference: BTreeMap<usize, Vec<Tensor>>,
}

impl<'a> Judge<'a> {
    /// For a goal: accuracy is coarse and takes more samples than noise does.
    ///
    /// # Errors
    /// When the model does not run.
    pub(crate) fn for_goal(
        m: &Model,
        engine: &'a dyn Engine,
        source: &'a dyn Source,
        accuracy: bool,
    ) -> Result<Judge<'a>, RunError> {
        let most = if accuracy { JUDGED_BY_LABELS } else { JUDGED };
        Judge::new(m, engine, source, most, CALIBRATED)
    }

    /// For a float model. A third of the samples, `most` at most, judges, the others calibrate, up to
    /// `calibrated`; a single one does both.
    ///
    /// # Errors
    /// When the model does not run.
    pub(crate) fn new(
        m: &Model,
        engine: &'a dyn Engine,
        source: &'a dyn Source,
        most: usize,
        calibrated: usize,
    ) -> Result<Judge<'a>, RunError> {
        let n = source.len();
        let held_out = if n < 2 { 0 } else { (n / 3).clamp(1, most) };
        let calibrated = (n - held_out).min(calibrated);
        let calibration = Part { source, from: 0, len: calibrated };
        // Far from the samples that calibrate: neighbours are often alike.
        let from = if held_out == 0 { 0 } else { n - held_out };
        let judged = Part { source, from, len: if held_out == 0 { n } else { held_out } };
        let session = engine.prepare(m, &[])?;
        let kept = run_all(&*session, &judged, all_cores(), Keep::default, &|_| {})?;
        Ok(Judge { engine, calibration, judged, reference: kept.0 })
    }

    /// Whether decibels grow by more than `least` and what chance may make of the judged samples.
    pub(crate) fn gains(&self, before: f64, after: f64, least: f64) -> bool {
        /// Decibels that chance makes of one sample.
        const CHANCE: f64 = 1.0;
        after > before + least + CHANCE / self.judged.len.max(1) as f64
    }

    /// How near the outputs of a model are to those of the float model on the judged samples.
    ///
    /// # Errors
    /// When the model does not run.
    pub(crate) fn score(&self, m: &Model) -> Result<Score, RunError> {
        let session = self.engine.prepare(m, &[])?;
        let make = || Noise { judge: self, per_sample: BTreeMap::new() };
        let found = run_all(&*session, &self.judged, all_cores(), make, &|_| {})?;
        let mut all = Sums::default();
        found.per_sample.values().for_each(|s| all.add(s));
        Ok(all.score())
    }

    /// Share of the judged samples that the float model gets right, as [`Score::top1`] counts.
    pub(crate) fn float_top1(&self) -> Option<f64> {
        let mut all = Sums::default();
        for (sample, outputs) in &self.reference {
            let mut own = Sums::default();
            own.observe_rows(outputs, outputs, self.labels_of(*sample));
            all.add(&own);
        }
        all.score().top1
    }

    /// What a variant with this score has lost, in the units of the metric; `None` where it has no
    /// accuracy.
    pub(crate) fn drop(&self, s: &Score, metric: Metric) -> Option<f64> {
        Some(match metric {
            Metric::Sqnr => 100.0 * 10f64.powf(-s.sqnr_db / 20.0),
            Metric::Cosine => 100.0 * (1.0 - s.cosine),
            Metric::Top1 => 100.0 * (self.float_top1()? - s.top1?),
        })
    }

    fn labels_of(&self, sample: usize) -> Option<&[i64]> {
        let batch = self.judged.batch();
        let first = (self.judged.from + sample) * batch;
        self.judged.source.labels()?.get(first..first + batch)
    }
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
pub(crate) struct Score {
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

/// A linear op changed alone, by quantization or zeros.
#[derive(Clone, Debug, Serialize)]
pub struct LayerNoise {
    /// Label of the op.
    pub node: String,
    /// Its operator.
    pub op_type: String,
    /// SQNR of the outputs in decibels.
    pub sqnr_db: f64,
    /// Their cosine to those of the float model.
    pub cosine: f64,
    /// Accuracy on labels, or agreement with the float model where there are none; `None` when the
    /// first output is no matrix of scores.
    pub top1: Option<f64>,
    #[serde(skip)]
    pub(crate) op: OpId,
}

/// How a goal was met.
#[derive(Clone, Debug, Serialize)]
pub struct Search {
    /// What the goal is about.
    pub metric: Metric,
    /// The goal: the drop that is allowed.
    pub max_drop: f64,
    /// The drop with all layers changed.
    pub drop_before: f64,
    /// The drop with these layers as they were, on samples that trials were not calibrated on.
    pub drop_after: f64,
    /// The goal is met.
    pub met: bool,
    /// Labels of the layers that stay as they were, the one that loses most first.
    pub kept: Vec<String>,
    /// Each layer changed alone, the most sensitive first; empty when the goal was met at once.
    pub ranking: Vec<LayerNoise>,
    /// Variants tried.
    pub tried: usize,
    /// Seconds it took.
    pub seconds: f64,
}

impl Search {
    /// With all layers changed, and none kept so far.
    pub(crate) fn begun(metric: Metric, max_drop: f64, drop_before: f64) -> Search {
        Search {
            metric,
            max_drop,
            drop_before,
            drop_after: drop_before,
            met: drop_before <= max_drop,
            kept: Vec::new(),
            ranking: Vec::new(),
            tried: 0,
            seconds: 0.0,
        }
    }

    /// With the layers of these ranks kept.
    pub(crate) fn settle(&mut self, ranking: Vec<LayerNoise>, kept: &[usize], drop_after: f64) {
        self.kept = kept.iter().map(|i| ranking[*i].node.clone()).collect();
        (self.drop_after, self.met) = (drop_after, drop_after <= self.max_drop);
        self.ranking = ranking;
    }
}

/// A variant: what it is, the ranks of the layers that stay as they are, and its drop.
pub(crate) type Variant<T> = (T, Vec<usize>, f64);

/// The fewest of `count` ranked layers, the one that costs most being the first, that must stay as
/// they are for a drop of at most `max_drop`: by bisection over how many of the first do; then `again`
/// of them, from the one that costs least, are tried one by one without. `attempt` makes the variant in
/// which layers of these ranks stay.
///
/// # Errors
/// Those of `attempt`.
pub(crate) fn fewest<T, E>(
    count: usize,
    max_drop: f64,
    again: usize,
    mut attempt: impl FnMut(&[usize]) -> Result<(T, f64), E>,
) -> Result<Variant<T>, E> {
    let mut without = |kept: Vec<usize>| {
        let (made, drop) = attempt(&kept)?;
        Ok((made, kept, drop))
    };
    let (mut low, mut high) = (0, count);
    let mut best = without((0..high).collect())?;
    while high - low > 1 {
        let middle = low.midpoint(high);
        let variant = without((0..middle).collect())?;
        if variant.2 <= max_drop {
            (high, best) = (middle, variant);
        } else {
            low = middle;
        }
    }
    // The last one is needed: without it bisection went up.
    for i in best.1.clone().into_iter().rev().skip(1).take(again) {
        let kept: Vec<usize> = best.1.iter().copied().filter(|k| *k != i).collect();
        let variant = without(kept)?;
        if variant.2 <= max_drop {
            best = variant;
        }
    }
    Ok(best)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewest_layers_stay() {
        // Each layer costs something; 1 and 4 cost most, and 2 nothing.
        let costs = [3.0, 9.0, 0.0, 2.0, 8.0];
        let drop = |ranked: &[usize], kept: &[usize]| -> f64 {
            let cut = (0..ranked.len()).filter(|i| !kept.contains(i));
            cut.map(|i| costs[ranked[i]]).sum()
        };
        let ranked = [1, 2, 4, 0, 3];
        let found = |goal, again| {
            let tried = |kept: &[usize]| Ok::<_, ()>(((), drop(&ranked, kept)));
            fewest(ranked.len(), goal, again, tried).expect("no errors").1
        };
        assert_eq!(found(5.0, 0), [0, 1, 2]);
        assert_eq!(found(5.0, 9), [0, 2]);
        assert_eq!(found(-1.0, 9), [0, 1, 2, 3, 4]);
        assert_eq!(found(0.0, 9), [0, 2, 3, 4]);
    }
}
