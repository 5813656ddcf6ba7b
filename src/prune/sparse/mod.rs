//! Weights set to zero one by one: unstructured, and 2:4 for TensorRT's sparse tensor cores.
//!
//! Shapes stay as they are. Unstructured pruning takes the counts of `torch.nn.utils.prune`; of
//! equal weights the lower index stays. 2:4 keeps the two largest of every four consecutive weights
//! along the axis that the op sums over: input channels of a Conv at each tap, axis K of a Gemm or
//! MatMul, which is what TensorRT's kernels and `polygraphy inspect sparsity` ask for. Before that
//! the channels are reordered so that more stays (Pool and Yu, "Channel Permutations for N:M
//! Sparsity", NeurIPS 2021), wherever the dependency groups prove that a reordering changes nothing.

mod magnitude;
mod reorder;
mod search;
pub(crate) mod sites;
mod two_four;

use std::collections::BTreeMap;

use rayon::prelude::*;
use serde::Serialize;

use super::select::{Patterns, check_ratio, removed};
use super::{Analysis, Mode, PruneError, PruneOptions};
use crate::ir::{Graph, Model, Tensor, ValueId};
use crate::pass::Semantics;
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
    /// The model before that, for whoever wants to measure the difference.
    #[serde(skip)]
    pub as_cut: Option<Box<Model>>,
}

/// Sets weights of the main graph to zero. With calibration data those that stay make up for those
/// that go, unless the options say otherwise; which go is chosen by what their loss costs then, unless
/// an importance is given.
///
/// # Errors
/// Before anything was changed: patterns and ratios that make no sense, weights that hold NaN, data on
/// which the model does not run.
pub fn sparsify(
    m: &mut Model,
    o: &PruneOptions,
    data: Option<Calibration>,
) -> Result<SparseReport, PruneError> {
    let real = data.is_some_and(|c| !c.source.is_synthetic());
    let data = match (o.recover, data) {
        (None, Some(c)) if real => Some(c),
        (None | Some(Recover::None), _) => None,
        (Some(Recover::Reconstruct), Some(c)) => Some(c),
        (Some(_), None) => return Err(PruneError::NoData),
        (Some(_), Some(_)) => return Err(PruneError::Update),
    };
    let analysis = Analysis::of(m);
    let all = sites::sites(&analysis.model.graph);
    let patterns = Patterns::of(o)?;
    let mut plan = Vec::new();
    for site in &all {
        plan.push(patterns.ratio(&site.names, check_ratio(o.ratio)?));
    }
    let deflated_before = deflated(&m.graph);
    let mut model = analysis.model.clone();
    let names: Vec<&[String]> = all.iter().map(|s| &s.names[..]).collect();
    let warnings = patterns.unmatched(&names);
    let mut report = SparseReport { mode: o.mode, warnings, ..SparseReport::default() };
    let masks = match o.mode {
        Mode::TwoFour => {
            let listed = |s: &Site| !o.include.is_empty() && patterns.includes(&s.names);
            for (site, plan) in all.iter().zip(&mut plan) {
                if plan.is_ok()
                    && let Err(why) = two_four::eligible(&model.graph, site, listed(site))
                {
                    *plan = Err(why);
                }
            }
            let chosen = |k: &usize| plan[*k].is_ok();
            let chosen: Vec<&Site> = (0..all.len()).filter(chosen).map(|k| &all[k]).collect();
            if !o.no_permute {
                let order = reorder::order(&analysis, &chosen);
                report.channels_moved = order.moved();
                model = analysis.reordered(&order)?;
            }
            two_four_masks(&model.graph, &all, &plan)?
        }
        _ => unstructured_masks(&model.graph, &all, &plan, o, &patterns)?,
    };
    let dense = model.clone();
    for (k, site) in all.iter().enumerate() {
        let before = analysis.model.graph.const_tensor(site.weight);
        let mut layer = site.describe(&analysis.model.graph);
        layer.skipped = plan[k].as_ref().err().cloned();
        if let (Some(mask), Some(old)) = (&masks[k], before) {
            layer.kept_in_order = match o.mode {
                Mode::TwoFour => two_four::kept_share(old, site.axis),
                _ => magnitude::kept_share(&model.graph, site, mask),
            };
            layer.kept = magnitude::kept_share(&model.graph, site, mask);
            set_zeros(&mut model.graph, site, mask);
            layer.zeros_after = sites::zeros(model.graph.const_tensor(site.weight));
            report.elements += old.len();
        }
        report.layers.push(layer);
    }
    if let Some(c) = data.filter(|_| masks.iter().any(Option::is_some)) {
        let kind = match o.mode {
            _ if o.importance.is_some() => Kind::Fixed,
            Mode::TwoFour => Kind::TwoFour,
            _ => Kind::Count,
        };
        let chosen = all.iter().zip(&masks).filter(|(_, mask)| mask.is_some());
        let kinds = chosen.map(|(site, _)| (site.weight, kind)).collect();
        report.as_cut = Some(Box::new(model.clone()));
        report.recovery = Some(update(&dense, &mut model, &kinds, c)?);
    }
    for ((site, mask), layer) in all.iter().zip(&masks).zip(&mut report.layers) {
        layer.zeros_after = sites::zeros(model.graph.const_tensor(site.weight));
        report.zeros += if mask.is_some() { layer.zeros_after } else { 0 };
    }
    if masks.iter().any(Option::is_some) {
        *m = model;
    }
    report.bytes = constants(&m.graph).map(Tensor::byte_len).sum();
    (report.deflated_before, report.deflated_after) = (deflated_before, deflated(&m.graph));
    Ok(report)
}

/// Makes up for the weights that went.
fn update(
    dense: &Model,
    model: &mut Model,
    kinds: &BTreeMap<ValueId, Kind>,
    c: Calibration,
) -> Result<RecoveryReport, PruneError> {
    let sqnr = |m: &Model| {
        let n = c.source.len();
        let progress = |done| (c.progress)("compare", done, n);
        let lossy = Semantics::Lossy;
        let found = verify::compare(dense, m, c.engine, c.source, n, lossy, &progress);
        Some(found.min_sqnr_db()).filter(|db| db.is_finite())
    };
    let sqnr_before = sqnr(model);
    let report = recover_sparse(dense, model, kinds, c)?;
    Ok(RecoveryReport { sqnr_before, sqnr_after: sqnr(model), ..report })
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
