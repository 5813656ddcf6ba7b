//! Weights set to zero one by one: unstructured, and 2:4 for TensorRT's sparse tensor cores.
//!
//! Shapes stay as they are. Unstructured pruning takes the counts of `torch.nn.utils.prune`; of
//! equal weights the lower index stays. 2:4 keeps the two largest of every four consecutive weights
//! along the axis that the op sums over: input channels of a Conv at each tap, axis K of a Gemm or
//! MatMul, which is what TensorRT's kernels and `polygraphy inspect sparsity` ask for. Before that
//! the channels are reordered so that more stays (Pool and Yu, "Channel Permutations for N:M
//! Sparsity", NeurIPS 2021), wherever the dependency groups prove that a reordering changes nothing.

mod goal;
mod magnitude;
mod reorder;
mod search;
pub(crate) mod sites;
mod two_four;

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use super::select::{Patterns, check_ratio, removed};
use super::{Analysis, Mode, PruneError, PruneOptions, outcome};
use crate::ir::{Graph, Model, Tensor, ValueId};
use crate::recover::sparse::{Kind, recover_sparse};
use crate::recover::{Calibration, Recover, RecoveryReport};
use crate::report::zip::deflated;
use crate::verify;
use sites::Site;

/// What happened to one weight.
#[derive(Clone, Debug, Serialize)]
pub struct SparseLayer {
    /// The layer that reads it first.
    pub name: String,
    /// The weight.
    pub weight: String,
    /// Sizes of its axes.
    pub dims: Vec<usize>,
    /// Elements that are zero before.
    pub zeros_before: usize,
    /// Elements that are zero after.
    pub zeros_after: usize,
    /// Sum of the magnitudes that stay, relative to all; in the order that the model has.
    pub kept_in_order: f64,
    /// The same as it was done, channels reordered.
    pub kept: f64,
    /// Why it was left alone.
    pub skipped: Option<String>,
}

/// What setting weights to zero did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct SparseReport {
    /// Which weights could go.
    pub mode: Mode,
    /// All weights of linear layers in the order of the graph.
    pub layers: Vec<SparseLayer>,
    /// Channels that were moved for 2:4.
    pub channels_moved: usize,
    /// Elements of the weights that were pruned.
    pub elements: usize,
    /// How many of them are zero after.
    pub zeros: usize,
    /// Bytes of all constants.
    pub bytes: usize,
    /// The same compressed with deflate, as zip does, before.
    pub deflated_before: u64,
    /// The same after.
    pub deflated_after: u64,
    /// What the user should look at.
    pub warnings: Vec<String>,
    /// How the weights that stay made up for those that went.
    pub recovery: Option<RecoveryReport>,
    /// How a goal was met.
    pub goal: Option<verify::Search>,
    /// The model before that, for whoever wants to measure the difference.
    #[serde(skip)]
    pub as_cut: Option<Box<Model>>,
}

/// Sets weights of the main graph to zero. With calibration data those that stay make up for those
/// that go, unless the options say otherwise; which go is chosen by what their loss costs then, unless
/// an importance is given. With a goal the fewest layers that it needs stay as they are.
///
/// # Errors
/// Before anything was changed: patterns and ratios that make no sense, weights that hold NaN, data on
/// which the model does not run, a goal without data.
pub fn sparsify(
    m: &mut Model,
    o: &PruneOptions,
    data: Option<Calibration>,
) -> Result<SparseReport, PruneError> {
    let data = data.map(|c| (c, !c.source.is_synthetic()));
    let update = match (o.recover, data) {
        (None, Some((c, true))) => Some(c),
        (None | Some(Recover::None), _) => None,
        (Some(Recover::Reconstruct), Some((c, _))) => Some(c),
        (Some(_), None) => return Err(PruneError::NoData),
        (Some(_), Some(_)) => return Err(PruneError::Update),
    };
    let goal = match (o.max_drop, data) {
        (Some(max_drop), Some((c, true))) => Some((max_drop, c)),
        (Some(_), _) => return Err(PruneError::GoalData),
        (None, _) => None,
    };
    let analysis = Analysis::as_it_is(m, false);
    let patterns = Patterns::of(o)?;
    let mut cut = Cut::plan(&analysis, o, &patterns)?;
    cut.update = update;
    let names: Vec<&[String]> = cut.sites.iter().map(|s| &s.names[..]).collect();
    let warnings = patterns.unmatched(&names);
    let mut report = SparseReport { mode: o.mode, warnings, ..SparseReport::default() };
    if let Some((max_drop, c)) = goal {
        report.goal = Some(goal::meet(&mut cut, max_drop, o.metric, c)?);
    }
    report.channels_moved = cut.moved;
    report.deflated_before = deflated(&m.graph);
    let mut model = cut.masked(&|_| true);
    report.layers = cut.describe(&analysis, o.mode);
    if let Some(c) = cut.update.filter(|_| cut.masks.iter().any(Option::is_some)) {
        report.as_cut = Some(Box::new(model.clone()));
        report.recovery = Some(cut.make_up(&mut model, c)?);
    }
    for (site, (mask, layer)) in cut.sites.iter().zip(cut.masks.iter().zip(&mut report.layers)) {
        layer.zeros_after = sites::zeros(model.graph.const_tensor(site.weight));
        if let Some(mask) = mask {
            report.elements += mask.len();
            report.zeros += layer.zeros_after;
        }
    }
    if cut.masks.iter().any(Option::is_some) {
        *m = model;
    }
    report.bytes = constants(&m.graph).map(Tensor::byte_len).sum();
    report.deflated_after = deflated(&m.graph);
    Ok(report)
}

/// What goes of which weights.
struct Cut<'a> {
    /// The model with channels in their new order, and all weights.
    dense: Model,
    /// Channels that were moved.
    moved: usize,
    sites: Vec<Site>,
    /// For each weight its ratio, or why it is left alone.
    plan: Vec<Result<f64, String>>,
    masks: Masks,
    kind: Kind,
    /// The samples with which the weights that stay make up for the others.
    update: Option<Calibration<'a>>,
}

impl<'a> Cut<'a> {
    fn plan(
        analysis: &Analysis,
        o: &PruneOptions,
        patterns: &Patterns,
    ) -> Result<Cut<'a>, PruneError> {
        let mut dense = analysis.model.clone();
        let sites = sites::sites(&dense.graph);
        let ratio = check_ratio(o.ratio)?;
        let mut plan: Vec<_> = sites.iter().map(|s| patterns.ratio(&s.names, ratio)).collect();
        let mut moved = 0;
        let masks = match o.mode {
            Mode::TwoFour => {
                for (site, plan) in sites.iter().zip(&mut plan).filter(|(_, p)| p.is_ok()) {
                    let listed = !o.include.is_empty() && patterns.includes(&site.names);
                    if let Err(why) = two_four::eligible(&dense.graph, site, listed) {
                        *plan = Err(why);
                    }
                }
                let chosen = sites.iter().zip(&plan).filter(|(_, p)| p.is_ok());
                let chosen: Vec<&Site> = chosen.map(|(s, _)| s).collect();
                if !o.no_permute {
                    let order = reorder::order(analysis, &chosen);
                    moved = order.moved();
                    dense = analysis.reordered(&order)?;
                }
                two_four_masks(&dense.graph, &sites, &plan)?
            }
            _ => unstructured_masks(&dense.graph, &sites, &plan, o, patterns)?,
        };
        let kind = match o.mode {
            _ if o.importance.is_some() => Kind::Fixed,
            Mode::TwoFour => Kind::TwoFour,
            _ => Kind::Count,
        };
        Ok(Cut { dense, moved, sites, plan, masks, kind, update: None })
    }

    /// The model with zeros in the weights of these sites.
    fn masked(&self, chosen: &dyn Fn(usize) -> bool) -> Model {
        let mut model = self.dense.clone();
        for (k, (site, mask)) in self.sites.iter().zip(&self.masks).enumerate() {
            if let Some(mask) = mask.as_ref().filter(|_| chosen(k)) {
                set_zeros(&mut model.graph, site, mask);
            }
        }
        model
    }

    /// What may change in the weights of these sites.
    fn kinds(&self, chosen: &dyn Fn(usize) -> bool) -> BTreeMap<ValueId, Kind> {
        let open = (0..self.sites.len()).filter(|k| self.masks[*k].is_some() && chosen(*k));
        open.map(|k| (self.sites[k].weight, self.kind)).collect()
    }

    fn describe(&self, analysis: &Analysis, mode: Mode) -> Vec<SparseLayer> {
        let old = &analysis.model.graph;
        let one = |(k, site): (usize, &Site)| {
            let mut layer = site.describe(old);
            layer.skipped = self.plan[k].as_ref().err().cloned();
            if let (Some(mask), Some(t)) = (&self.masks[k], old.const_tensor(site.weight)) {
                layer.kept = magnitude::kept_share(&self.dense.graph, site, mask);
                layer.kept_in_order = match mode {
                    Mode::TwoFour => two_four::kept_share(t, site.axis),
                    _ => layer.kept,
                };
            }
            layer
        };
        self.sites.iter().enumerate().map(one).collect()
    }

    /// Makes up for the weights that went.
    fn make_up(&self, model: &mut Model, c: Calibration) -> Result<RecoveryReport, PruneError> {
        let sqnr_before = outcome::measure(&self.dense, model, c).sqnr_db;
        let report = recover_sparse(&self.dense, model, &self.kinds(&|_| true), true, c)?;
        let sqnr_after = outcome::measure(&self.dense, model, c).sqnr_db;
        Ok(RecoveryReport { sqnr_before, sqnr_after, ..report })
    }
}

/// For each weight which elements go; `None` where all stay.
type Masks = Vec<Option<Vec<bool>>>;

fn two_four_masks(
    g: &Graph,
    all: &[Site],
    plan: &[Result<f64, String>],
) -> Result<Masks, PruneError> {
    let one = |(site, plan): (&Site, &Result<f64, String>)| {
        if plan.is_err() {
            return Ok(None);
        }
        let values = site.magnitudes(g)?;
        let tensor = g.const_tensor(site.weight);
        Ok(tensor.zip(site.axis).and_then(|(t, axis)| two_four::mask(&values, t.dims(), axis)))
    };
    all.par_iter().zip(plan).map(one).collect()
}

fn unstructured_masks(
    g: &Graph,
    all: &[Site],
    plan: &[Result<f64, String>],
    o: &PruneOptions,
    patterns: &Patterns,
) -> Result<Masks, PruneError> {
    let cap = check_ratio(o.max_ratio)?;
    let scores: Vec<Option<Vec<f32>>> = (0u64..)
        .zip(all.iter().zip(plan))
        .map(|(k, (site, plan))| match (plan, o.by_chance()) {
            (Err(_), _) => Ok(None),
            (Ok(_), false) => site.magnitudes(g).map(Some),
            (Ok(_), true) => {
                let mut rng = fastrand::Rng::with_seed(o.seed ^ (k << 32));
                site.magnitudes(g).map(|v| Some(v.iter().map(|_| rng.f32()).collect()))
            }
        })
        .collect::<Result<_, PruneError>>()?;
    let mut masks: Masks = vec![None; all.len()];
    let together = |k: &usize| o.global && !patterns.overridden(&all[*k].names);
    let open = (0..all.len()).filter(|k| scores[*k].is_some());
    let (pool, single): (Vec<usize>, Vec<usize>) = open.partition(together);
    let get = |k: &usize| scores[*k].as_deref().unwrap_or_default();
    let lists: Vec<&[f32]> = pool.iter().map(get).collect();
    let count = removed(lists.iter().map(|l| l.len()).sum(), o.ratio.min(cap));
    for (k, mask) in pool.into_iter().zip(magnitude::lowest(&lists, count)) {
        masks[k] = Some(mask);
    }
    let alone = |k: usize| {
        let values = get(&k);
        let ratio = plan[k].as_ref().map_or(0.0, |r| r.min(cap));
        (k, magnitude::lowest(&[values], removed(values.len(), ratio)).pop())
    };
    for (k, mask) in single.into_par_iter().map(alone).collect::<Vec<_>>() {
        masks[k] = mask;
    }
    Ok(masks)
}

/// Sets the marked elements to zero and leaves all other bits as they are.
fn set_zeros(g: &mut Graph, site: &Site, mask: &[bool]) {
    let Some(t) = g.const_tensor(site.weight) else { return };
    let (width, Some(raw)) = (t.dtype().bits() / 8, t.raw()) else { return };
    let mut bytes = raw.to_vec();
    for (element, gone) in bytes.chunks_exact_mut(width.max(1)).zip(mask) {
        if *gone {
            element.fill(0);
        }
    }
    if let Ok(new) = Tensor::new(t.dtype(), t.dims().to_vec(), bytes.into()) {
        g.set_data(site.weight, new);
    }
}

fn constants(g: &Graph) -> impl Iterator<Item = &Tensor> {
    g.values().filter_map(|v| g.const_tensor(v))
}
