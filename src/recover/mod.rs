//! Recovery of accuracy after a cut: from unlabelled samples, in closed form, without training.
//!
//! Layers are fitted one after the other in the order of the graph. Each reads what the cut model,
//! fitted up to there, gives it, and should give what the original gave in that place: so that the
//! errors of the layers before are made good, too. A layer whose result goes into a residual sum
//! should give the original's sum less the shortcut as it is now. Rows are sampled from the places
//! of each result, as many as the layer has weights to determine; the same places in both models.

mod activation;
pub(crate) mod cholesky;
mod descent;
mod fit;
pub(crate) mod grid;
pub(crate) mod layer;
pub(crate) mod linalg;
mod patches;
mod report;
mod solve;
pub(crate) mod sparse;
mod tape;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use rayon::prelude::*;

pub use fit::Recover;
pub use grid::Rounding;
pub use report::{LayerRecovery, RecoveryReport};

use crate::data::Source;
use crate::engine::{Engine, Observer, RunError, all_cores, run_all};
use crate::ir::{Graph, Model, OpId, Tensor, ValueId, all_finite};
use activation::Target;
use fit::{Linear, Problem};
use grid::{Fitted, Grid};
use layer::Layer;
use linalg::Mat;
use report::Written;
use sparse::Pattern;
use tape::Tape;

/// Indices that stay of axes of values of the original; axes that are not named stay whole.
pub type Kept = BTreeMap<(ValueId, usize), Vec<u32>>;

/// Samples and what runs them.
#[derive(Clone, Copy)]
pub struct Calibration<'a> {
    /// Runs the models.
    pub engine: &'a dyn Engine,
    /// The samples.
    pub source: &'a dyn Source,
    /// Told of long work: what, how much is done, how much there is.
    pub progress: &'a (dyn Fn(&'static str, usize, usize) + Sync),
}

/// Why recovery failed.
#[derive(Debug, thiserror::Error)]
pub enum RecoverError {
    /// There is nothing to fit to.
    #[error("recovery needs samples, but the calibration data hold none")]
    NoSamples,
    /// A model cannot be run.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Rows of all targets that are held at once, in bytes.
const TARGETS: usize = 1 << 29;
/// Most elements of the inputs of one layer.
const MAX_INPUTS: usize = 1 << 25;

/// Fits the layers of `cut` to what the layers of the same ids in `original` give.
///
/// # Errors
/// When there are no samples, or a model cannot be run.
pub fn recover(
    original: &Model,
    cut: &mut Model,
    kept: &Kept,
    method: Recover,
    c: Calibration,
) -> Result<RecoveryReport, RecoverError> {
    let jobs = jobs_of(&original.graph, &cut.graph, kept, c.source.len(), &|_| false);
    in_turn(original, cut, &jobs, method, c)
}

/// Fits layers one after the other.
fn in_turn(
    original: &Model,
    cut: &mut Model,
    jobs: &[Job],
    method: Recover,
    c: Calibration,
) -> Result<RecoveryReport, RecoverError> {
    let start = Instant::now();
    if c.source.is_empty() {
        return Err(RecoverError::NoSamples);
    }
    let mut report = RecoveryReport {
        method,
        samples: c.source.len() * c.source.batch(),
        ..RecoveryReport::default()
    };
    let mut tape = Tape::new(c.engine, c.source);
    let mut done = 0;
    while done < jobs.len() {
        let mut bytes = 0;
        let fits = |j: &&Job| {
            bytes += j.bytes(c.source.len());
            bytes <= TARGETS
        };
        let count = jobs[done..].iter().take_while(fits).count().max(1);
        let batch = &jobs[done..done + count];
        let targets = targets(original, batch, c)?;
        for (k, (job, targets)) in batch.iter().zip(targets).enumerate() {
            (c.progress)("recover", done + k, jobs.len());
            let later: Vec<ValueId> = jobs[done + k + 1..].iter().flat_map(Job::wants).collect();
            let name = cut.graph.label(job.layer.op);
            match job.run(cut, &mut tape, &targets, &later, method)? {
                Ok(layer) => report.layers.push(LayerRecovery { name, ..layer }),
                Err(why) => report.skipped.push((name, why.to_owned())),
            }
            tape.forget(&cut.graph, job.layer.output);
        }
        done += count;
    }
    report.seconds = start.elapsed().as_secs_f64();
    Ok(report)
}

/// One layer to be fitted.
struct Job {
    layer: Layer,
    target: Target,
    /// Which weights are zero, where that is so.
    pattern: Option<Pattern>,
    /// Weights are rounded.
    grid: Option<Grid>,
    keep: Option<Vec<u32>>,
    /// Channels of the result after the cut.
    channels: usize,
    fan_in: usize,
    /// Rows from each sample.
    rows: usize,
    seed: u64,
}

/// Rows of one sample of a target, and the dims of the result they come from.
struct Rows {
    dims: Vec<usize>,
    data: Option<Vec<f32>>,
}

/// The layers whose inputs the cut has changed, and those that are `changed` themselves, in the order
/// of the graph.
fn jobs_of(
    original: &Graph,
    cut: &Graph,
    kept: &Kept,
    samples: usize,
    changed: &dyn Fn(&Job) -> bool,
) -> Vec<Job> {
    let mut tainted: BTreeSet<ValueId> = kept.keys().map(|k| k.0).collect();
    let mut jobs = Vec::new();
    for (seed, op) in (0..).zip(cut.order()) {
        let reads_tainted = cut.reads(op).any(|v| tainted.contains(&v));
        let job = Job::of(original, cut, op, kept, samples, seed);
        let own = job.as_ref().is_some_and(changed);
        if !reads_tainted && !own {
            continue;
        }
        tainted.extend(cut.results(op).into_iter().flatten());
        jobs.extend(job.filter(|j| own || tainted.contains(&j.layer.input)));
    }
    jobs
}

/// Rows that a layer is fitted to: many times its unknowns, as far as they fit into the memory.
fn wanted_rows(fan_in: usize, groups: usize) -> usize {
    let fitting = MAX_INPUTS / fan_in.saturating_mul(groups).max(1);
    (32 * fan_in).clamp(16384, 65536).min(fitting.max(2 * fan_in))
}

/// What the original gives at the sampled places: for each job the rows of each sample.
fn targets(original: &Model, jobs: &[Job], c: Calibration) -> Result<Vec<Vec<Rows>>, RecoverError> {
    let mut values: Vec<ValueId> = jobs.iter().map(|j| j.target.value).collect();
    values.sort_unstable();
    values.dedup();
    let names: Vec<String> =
        values.iter().map(|v| original.graph.value(*v).name().to_owned()).collect();
    let session = c.engine.prepare(original, &names).map_err(RunError::from)?;
    let make = || Gather { jobs, values: &values, rows: jobs.iter().map(|_| Vec::new()).collect() };
    let progress = |done| (c.progress)("original", done, c.source.len());
    let found = run_all(&*session, c.source, all_cores(), make, &progress)?;
    let sorted = |mut rows: Vec<(usize, Rows)>| {
        rows.sort_by_key(|(sample, _)| *sample);
        rows.into_iter().map(|(_, r)| r).collect()
    };
    Ok(found.rows.into_iter().map(sorted).collect())
}

struct Gather<'a> {
    jobs: &'a [Job],
    values: &'a [ValueId],
    /// For each job, samples and their rows.
    rows: Vec<Vec<(usize, Rows)>>,
}

impl Observer for Gather<'_> {
    fn tap(&mut self, sample: usize, index: usize, value: Tensor) {
        for (job, rows) in self.jobs.iter().zip(&mut self.rows) {
            if job.target.value == self.values[index] {
                let (dims, mut data) = (value.dims().to_vec(), Vec::new());
                let places = job.places(sample, &dims);
                let got = job.layer.channels_at(&value, &places, job.keep.as_deref(), &mut data);
                rows.push((sample, Rows { dims, data: got.map(|()| data) }));
            }
        }
    }

    fn merge(&mut self, other: Self) {
        self.rows.iter_mut().zip(other.rows).for_each(|(a, b)| a.extend(b));
    }
}

impl Job {
    /// The op as a layer to be fitted.
    fn of(
        original: &Graph,
        cut: &Graph,
        op: OpId,
        kept: &Kept,
        samples: usize,
        seed: u64,
    ) -> Option<Job> {
        let layer = Layer::of(cut, op)?;
        let target = Target::of(original, layer.output);
        let axis = cut.value(target.value).rank().map(|r| layer.channel_axis(r));
        let keep = axis.and_then(|a| kept.get(&(target.value, a)).cloned());
        let (channels, fan_in) = (layer.out_channels(cut)?, layer.fan_in(cut)?);
        let rows = wanted_rows(fan_in, layer.groups).div_ceil(samples.max(1));
        Some(Job { layer, target, pattern: None, grid: None, keep, channels, fan_in, rows, seed })
    }

    fn bytes(&self, samples: usize) -> usize {
        self.rows.saturating_mul(samples).saturating_mul(4 * self.channels)
    }

    /// The values that fitting it reads.
    fn wants(&self) -> Vec<ValueId> {
        [self.layer.input].into_iter().chain(self.target.shortcut).collect()
    }

    /// The places of a sample's result that are looked at, in order.
    fn places(&self, sample: usize, dims: &[usize]) -> Vec<usize> {
        let all = self.layer.places(dims);
        if all <= self.rows {
            return (0..all).collect();
        }
        let mut rng = fastrand::Rng::with_seed((self.seed << 32) ^ sample as u64);
        let mut places = rng.choose_multiple(0..all, self.rows);
        places.sort_unstable();
        places
    }

    /// Fits the layer and writes it; the reason where that cannot be.
    fn run(
        &self,
        cut: &mut Model,
        tape: &mut Tape,
        targets: &[Rows],
        later: &[ValueId],
        method: Recover,
    ) -> Result<Result<LayerRecovery, &'static str>, RecoverError> {
        let sample = |i: usize, values: &[&Tensor]| {
            let dims = &targets.get(i)?.dims;
            let places = self.places(i, dims);
            let (mut inputs, mut shortcut) = (Vec::new(), Vec::new());
            self.layer.inputs_at(values[0], dims, &places, &mut inputs)?;
            if let Some(s) = values.get(1) {
                self.layer.channels_at(s, &places, None, &mut shortcut)?;
            }
            Some((inputs, shortcut))
        };
        let found = tape.run(cut, &self.wants(), later, sample)?;
        let (mut inputs, mut shortcut, mut want) = (Vec::new(), Vec::new(), Vec::new());
        let mine = |f: fn(&(Vec<f32>, Vec<f32>)) -> usize| found.iter().flatten().map(f).sum();
        inputs.reserve_exact(mine(|(x, _)| x.len()));
        shortcut.reserve_exact(mine(|(_, s)| s.len()));
        want.reserve_exact(targets.iter().filter_map(|t| Some(t.data.as_ref()?.len())).sum());
        let training = found.len() - found.len() / 5;
        let mut trained = 0;
        for (i, (mine, theirs)) in found.into_iter().zip(targets).enumerate() {
            let (Some((x, s)), Some(y)) = (mine, &theirs.data) else {
                return Ok(Err("its shapes in the two models do not fit"));
            };
            if i < training {
                trained += y.len();
            }
            inputs.extend(x);
            shortcut.extend(s);
            want.extend_from_slice(y);
        }
        let held_out = (want.len() - trained) / self.channels.max(1);
        let data = Data { inputs, shortcut, want, held_out };
        Ok(self.fit(&mut cut.graph, &data, method))
    }

    fn fit(&self, g: &mut Graph, d: &Data, method: Recover) -> Result<LayerRecovery, &'static str> {
        let (groups, n, k) = (self.layer.groups, self.channels, self.fan_in);
        let rows = d.want.len() / n.max(1);
        let has_shortcut = self.target.shortcut.is_some();
        if rows == 0
            || d.inputs.len() != rows * groups * k
            || (has_shortcut && d.shortcut.len() != d.want.len())
        {
            return Err("its shapes in the two models do not fit");
        }
        let finite = |data: &[f32]| all_finite(bytemuck::cast_slice(data));
        if !finite(&d.inputs) || !finite(&d.want) {
            return Err("its inputs or results are not all finite");
        }
        let weights = self.layer.weights(g).ok_or("its weight cannot be read")?;
        let bias = self.layer.bias_values(g, n).ok_or("its bias cannot be read")?;
        let old = Linear { weights, bias };
        let one = |group: usize| self.fit_group(d, &old, group, method);
        let fitted: Vec<_> = (0..groups).into_par_iter().map(one).collect();
        let db = |errors: Vec<(f64, f64)>| {
            let (error, signal) = errors.iter().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
            10.0 * (signal.max(1e-30) / error.max(1e-30)).log10()
        };
        let all = |of: fn(&Fitted) -> &[f32]| -> Vec<f32> {
            fitted.iter().flat_map(|f| of(&f.2).iter().copied()).collect()
        };
        let new = Written {
            weights: all(|f| &f.linear.weights),
            bias: all(|f| &f.linear.bias),
            scales: all(|f| &f.scales),
        };
        if !self.layer.write(g, &new.weights, &new.bias) {
            return Err("its fitted weights leave the range of their type");
        }
        Ok(LayerRecovery {
            name: String::new(),
            rows,
            db_before: db(fitted.iter().map(|f| f.0).collect()),
            db_after: db(fitted.iter().map(|f| f.1).collect()),
            written: self.grid.map(|_| (self.layer.op, new)),
        })
    }

    /// Fits one group of the results; squared errors and squares of what is wanted before and after.
    fn fit_group(
        &self,
        d: &Data,
        old: &Linear,
        group: usize,
        method: Recover,
    ) -> ((f64, f64), (f64, f64), Fitted) {
        let (n, k) = (self.channels, self.fan_in);
        let (rows, each) = (d.want.len() / n, n / self.layer.groups);
        let (from, to) = (group * each, (group + 1) * each);
        let part = |all| Mat::new(all, n).columns(from, each).packed();
        let x = Mat::new(&d.inputs, self.layer.groups * k).columns(group * k, k).packed();
        let (y, s) =
            (part(&d.want[..]), self.target.shortcut.as_ref().map(|_| part(&d.shortcut[..])));
        let problem = Problem {
            inputs: Mat { rows, ..Mat::new(&x, k) },
            want: Mat { rows, ..Mat::new(&y, each) },
            shortcut: s.as_ref().map(|s| Mat { rows, ..Mat::new(s, each) }),
            activation: self.target.activation,
            biased: self.layer.bias.is_some(),
        };
        let old = Linear {
            weights: old.weights[from * k..to * k].to_vec(),
            bias: old.bias[from..to].to_vec(),
        };
        let plain = |linear| Fitted { linear, scales: Vec::new() };
        let new = match (&self.pattern, self.grid) {
            (_, Some(grid)) => grid::fit(&problem, &old, d.held_out, grid),
            (None, None) => plain(problem.fit(method, &old, d.held_out)),
            (Some(p), None) => {
                let dense = p.dense.get(from * k..to * k).unwrap_or_default();
                plain(sparse::fit(&problem, &old, dense, p, d.held_out))
            }
        };
        (problem.errors(&old), problem.errors(&new.linear), new)
    }
}

/// All samples of one layer.
struct Data {
    inputs: Vec<f32>,
    shortcut: Vec<f32>,
    want: Vec<f32>,
    /// Rows at the end that choose between variants.
    held_out: usize,
}
