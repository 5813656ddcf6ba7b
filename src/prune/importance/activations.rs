//! Second moments of the channels that constant weights read, and scores from them.

use std::collections::BTreeMap;

use super::super::PruneError;
use super::super::groups::{Class, Groups};
use super::super::lanes::LaneId;
use super::super::options::PruneOptions;
use super::Importance;
use crate::engine::{Observer, RunError, all_cores, run_all};
use crate::ir::{Graph, Model, OpId, Tensor, ValueId};
use crate::recover::layer::Layer;
use crate::recover::linalg::Mat;
use crate::recover::{Calibration, RecoverError};

/// Most channels of a value whose products with each other are kept.
const MAX_CHANNELS: usize = 4096;

/// Moments of values over the calibration data.
pub(crate) struct Moments(BTreeMap<ValueId, Moment>);

/// Moments of the channels of one value, over the sampled places.
pub(super) struct Moment {
    pub mean: Vec<f64>,
    pub mean_magnitude: Vec<f64>,
    /// Products of each two channels about their means, averaged; only the squares, where there are
    /// too many channels for all.
    pub products: Vec<f64>,
}

/// A weight that reads channels of a group: its lane, its op as a layer.
pub(super) struct Reader {
    pub lane: LaneId,
    pub layer: Layer,
}

/// The layers that read channels of open groups.
pub(super) fn readers(g: &Graph, groups: &Groups) -> Vec<Reader> {
    let mut sinks: Vec<(LaneId, OpId)> = groups.sinks.clone();
    sinks.sort_unstable();
    sinks.dedup();
    let all = sinks.into_iter().filter(|(lane, _)| groups.is_open(*lane));
    all.filter_map(|(lane, op)| Some(Reader { lane, layer: Layer::shared(g, op)? })).collect()
}

impl Moments {
    /// Moments of what the readers of open groups in the main graph of the model read; `g` is the graph
    /// that the groups are of.
    ///
    /// # Errors
    /// When a sample cannot be had or run.
    pub fn collect(
        model: &Model,
        g: &Graph,
        groups: &Groups,
        c: Calibration,
    ) -> Result<Moments, PruneError> {
        let mut layers: BTreeMap<ValueId, Layer> = BTreeMap::new();
        for r in readers(g, groups) {
            layers.entry(r.layer.input).or_insert(r.layer);
        }
        layers.retain(|v, _| model.graph.has_value(*v) && !model.graph.is_input(*v));
        if layers.is_empty() || c.source.is_empty() {
            return Ok(Moments(BTreeMap::new()));
        }
        let names: Vec<String> =
            layers.keys().map(|v| model.graph.value(*v).name().to_owned()).collect();
        let run = || -> Result<Vec<Rows>, RunError> {
            let session = c.engine.prepare(model, &names)?;
            let layers: Vec<&Layer> = layers.values().collect();
            let make = || Gather {
                layers: &layers,
                samples: c.source.len(),
                rows: layers.iter().map(|_| Vec::new()).collect(),
            };
            let progress = |done| (c.progress)("activations", done, c.source.len());
            Ok(run_all(&*session, c.source, all_cores(), make, &progress)?.rows)
        };
        let rows = run().map_err(RecoverError::from)?;
        let all = layers.keys().copied().zip(rows);
        Ok(Moments(all.filter_map(|(v, rows)| Some((v, Moment::of(rows)?))).collect()))
    }

    pub(super) fn get(&self, v: ValueId) -> Option<&Moment> {
        self.0.get(&v)
    }
}

/// Rows of each sample, and how long a row is.
type Rows = Vec<(usize, usize, Vec<f32>)>;

struct Gather<'a> {
    layers: &'a [&'a Layer],
    samples: usize,
    rows: Vec<Rows>,
}

impl Observer for Gather<'_> {
    fn tap(&mut self, sample: usize, index: usize, value: Tensor) {
        let layer = self.layers[index];
        let Some(&n) = value.dims().get(layer.channel_axis(value.rank())) else { return };
        let wanted = (8 * n).clamp(4096, 16384).div_ceil(self.samples.max(1));
        let all = layer.places(value.dims());
        let mut rng = fastrand::Rng::with_seed(((index as u64) << 32) ^ sample as u64);
        let mut places = match all <= wanted {
            true => (0..all).collect(),
            false => rng.choose_multiple(0..all, wanted),
        };
        places.sort_unstable();
        let mut row = Vec::new();
        if layer.channels_at(&value, &places, None, &mut row).is_some() {
            self.rows[index].push((sample, n, row));
        }
    }

    fn merge(&mut self, other: Self) {
        self.rows.iter_mut().zip(other.rows).for_each(|(a, b)| a.extend(b));
    }
}

impl Moment {
    fn of(mut rows: Rows) -> Option<Moment> {
        rows.sort_by_key(|r| r.0);
        let n = rows.first()?.1;
        if n == 0 || rows.iter().any(|r| r.1 != n) {
            return None;
        }
        let data: Vec<f32> = rows.into_iter().flat_map(|r| r.2).collect();
        let all = Mat::new(&data, n);
        let (mean, count) = (all.means(), all.rows.max(1) as f64);
        let mut mean_magnitude = vec![0.0; n];
        let mut squares = vec![0.0; n];
        for i in 0..all.rows {
            for (c, x) in all.row(i).iter().enumerate() {
                let x = f64::from(*x);
                mean_magnitude[c] += x.abs() / count;
                squares[c] += (x - mean[c]).powi(2) / count;
            }
        }
        let products = if n > MAX_CHANNELS {
            squares
        } else {
            let mut products = all.transposed_times(all);
            for (i, row) in products.chunks_mut(n).enumerate() {
                row.iter_mut().zip(&mean).for_each(|(p, m)| *p = *p / count - mean[i] * m);
            }
            products
        };
        products.iter().all(|p| p.is_finite()).then_some(Moment { mean, mean_magnitude, products })
    }

    /// Variance of a channel.
    pub fn variance(&self, c: usize) -> f64 {
        let n = self.mean.len();
        let at = if self.products.len() == n { c } else { c * n + c };
        self.products.get(at).copied().unwrap_or(0.0).max(0.0)
    }
}

/// Scores of the classes whose channels some layer reads: the mean over these layers, each relative
/// to its own mean.
pub(super) fn scores(
    g: &Graph,
    groups: &Groups,
    moments: &Moments,
    kind: Importance,
    o: &PruneOptions,
) -> Vec<(Class, f64)> {
    let mut parts: BTreeMap<Class, Vec<f64>> = BTreeMap::new();
    let readers = readers(g, groups);
    for (k, _) in (0u32..).zip(&groups.groups).filter(|(_, group)| group.pinned.is_none()) {
        for r in &readers {
            let atoms = super::atoms(groups, k, groups.classes(r.lane));
            let Some(m) = moments.get(r.layer.input).filter(|_| !atoms.is_empty()) else {
                continue;
            };
            let Some(squares) = r.layer.squares_by_input(g) else { continue };
            let one = |&c: &usize| {
                let mean = m.mean.get(c).copied().unwrap_or(0.0);
                match kind {
                    Importance::MeanActivation => m.mean_magnitude.get(c).copied().unwrap_or(0.0),
                    Importance::ActivationVariance => m.variance(c),
                    _ => squares.get(c).copied().unwrap_or(0.0) * (m.variance(c) + mean * mean),
                }
            };
            let mut own: Vec<f64> = atoms.iter().map(|(_, a)| a.iter().map(one).sum()).collect();
            o.normalize.apply(&mut own);
            for ((class, _), score) in atoms.iter().zip(own) {
                parts.entry(*class).or_default().push(score);
            }
        }
    }
    parts.into_iter().map(|(class, scores)| (class, o.aggregate.of(&scores))).collect()
}
