//! Weight sharing: the elements of a weight take few values, found by k-means.
//!
//! The result is stored as `Gather(codebook, indices)`, which any runtime computes once when it
//! loads the model, so that the file gets smaller and the speed stays; or as plain weights that
//! compress well (Han and others, "Deep Compression", arXiv 1510.00149).

mod importance;
mod kmeans;
mod options;
mod store;

use globset::{Glob, GlobSet, GlobSetBuilder};
use rayon::prelude::*;
use serde::Serialize;

pub use kmeans::{Clusters, cluster};
pub use options::{Init, Per, ShareOptions};

use crate::convert::{OpsetError, raise_opset};
use crate::data::Source;
use crate::engine::{Engine, RunError};
use crate::ir::layout::Layout;
use crate::ir::{DType, Graph, Model, Tensor};
use crate::pass;
use crate::passes::lift_constants;
use crate::prune::sparse::sites::{Site, sites};
use crate::report::zip::deflated;

/// Why weights were not shared.
#[derive(Debug, thiserror::Error)]
pub enum ShareError {
    /// The number of bits makes no sense.
    #[error("{0} bits: a codebook has 1 to 8")]
    Bits(u32),
    /// A pattern is no glob.
    #[error("bad pattern {pattern:?}: {why}")]
    Pattern {
        /// The pattern.
        pattern: String,
        /// What is wrong with it.
        why: String,
    },
    /// The model cannot be raised to the operator set that codebooks need.
    #[error("codebooks need opset {need}: {why}; `--values-only` needs none")]
    Opset {
        /// The opset that is needed.
        need: i64,
        /// What stands in the way.
        why: OpsetError,
    },
    /// Importance was asked for without data.
    #[error("--weighted needs calibration data: give --data PATH")]
    NoData,
    /// The model does not run on the data.
    #[error(transparent)]
    Run(#[from] RunError),
}

/// Samples, and what runs them.
#[derive(Clone, Copy)]
pub struct Samples<'a> {
    /// Runs the model.
    pub engine: &'a dyn Engine,
    /// The samples.
    pub source: &'a dyn Source,
    /// Told how many are done.
    pub progress: &'a (dyn Fn(usize) + Sync),
}

/// What happened to one weight.
#[derive(Clone, Debug, Serialize)]
pub struct SharedLayer {
    /// The layer that reads it first.
    pub name: String,
    /// The weight.
    pub weight: String,
    /// Sizes of its axes.
    pub dims: Vec<usize>,
    /// Number of codebooks.
    pub codebooks: usize,
    /// Ratio of signal to error in decibels; none when nothing changed.
    pub sqnr_db: Option<f64>,
    /// Bytes before.
    pub bytes_before: usize,
    /// Bytes of codebooks and indices.
    pub bytes_after: usize,
    /// Why it was left alone.
    pub skipped: Option<String>,
}

/// What weight sharing did.
#[derive(Clone, Debug, Default, Serialize)]
pub struct ShareReport {
    /// Bits of an index.
    pub bits: u32,
    /// All weights of linear layers in the order of the graph.
    pub layers: Vec<SharedLayer>,
    /// Bytes of all constants before.
    pub bytes_before: usize,
    /// Bytes of all constants after.
    pub bytes_after: usize,
    /// The constants compressed with deflate, as zip does, before.
    pub deflated_before: u64,
    /// The same after.
    pub deflated_after: u64,
}

/// Shares the weights of the linear layers of the main graph.
///
/// # Errors
/// Before anything was changed.
pub fn share(
    m: &mut Model,
    o: &ShareOptions,
    samples: Option<Samples>,
) -> Result<ShareReport, ShareError> {
    if !(1..=8).contains(&o.bits) {
        return Err(ShareError::Bits(o.bits));
    }
    let (include, exclude) = (globs(&o.include)?, globs(&o.exclude)?);
    let mut model = m.clone();
    let need = if o.pack { 21 } else { 9 };
    if !o.values_only && m.default_opset() < need {
        raise_opset(&mut model, need).map_err(|why| ShareError::Opset { need, why })?;
        pass::infer_graph(&mut model.graph, need, &mut |_, _| {});
    }
    pass::visit_model(&mut model, &mut |g, _| lift_constants::lift(g));
    let all = sites(&model.graph);
    let weights = match (o.weighted, samples) {
        (false, _) => Vec::new(),
        (true, None) => return Err(ShareError::NoData),
        (true, Some(samples)) => importance::squares(&model, &all, samples)?,
    };
    let mut report = ShareReport {
        bits: o.bits,
        bytes_before: bytes(&model.graph),
        deflated_before: deflated(&model.graph),
        ..ShareReport::default()
    };
    let g = &model.graph;
    let one = |(k, site): (usize, &Site)| {
        reason(g, site, o, &include, &exclude)?;
        let importance = weights.get(k).and_then(Option::as_deref);
        Shared::of(g, site, o, importance).ok_or_else(|| "its elements are not all finite".into())
    };
    let found: Vec<Result<Shared, String>> =
        all.par_iter().enumerate().map(|(k, s)| one((k, s))).collect();
    for (site, shared) in all.iter().zip(found) {
        let mut layer = describe(&model.graph, site);
        match shared {
            Ok(shared) => {
                layer.codebooks = shared.codebooks();
                layer.sqnr_db = shared.sqnr_db(&model.graph, site);
                layer.bytes_after = store::write(&mut model.graph, site, &shared, o);
            }
            Err(why) => layer.skipped = Some(why),
        }
        report.layers.push(layer);
    }
    report.bytes_after = bytes(&model.graph);
    report.deflated_after = deflated(&model.graph);
    if report.layers.iter().any(|l| l.skipped.is_none()) {
        *m = model;
    }
    Ok(report)
}

/// A weight as codebooks and indices. Slices along `axis` share a codebook, `each` of them.
struct Shared {
    axis: usize,
    each: usize,
    /// Values of a codebook, the last of one or more times where there are fewer.
    size: usize,
    codebooks: Vec<f32>,
    /// For each element the number of its value in its codebook.
    indices: Vec<u8>,
    dims: Vec<usize>,
    dtype: DType,
}

impl Shared {
    /// `importance` has a factor for each channel of the input; `None` when an element is not finite.
    fn of(g: &Graph, site: &Site, o: &ShareOptions, importance: Option<&[f64]>) -> Option<Shared> {
        let t = g.const_tensor(site.weight)?;
        let data = t.to_f32().filter(|d| d.iter().all(|v| v.is_finite()))?;
        let (dims, axis) = (t.dims().to_vec(), site.channel_axis(g)?);
        let n = dims[axis];
        let each = match o.per {
            Per::Tensor => n,
            Per::Channel => 1,
            Per::Group => o.group_size.clamp(1, n),
        };
        let layout = Layout::new(&dims, Some(axis));
        let block = |i: usize| layout.channel(i) / each;
        let mut elements: Vec<Vec<u32>> = vec![Vec::new(); n.div_ceil(each)];
        (0..data.len()).for_each(|i| elements[block(i)].push(i as u32));
        let factors = importance.and_then(|h| site.spread(g, h));
        let size = 1usize << o.bits;
        let clusters = |(k, at): (usize, &Vec<u32>)| {
            let values: Vec<f32> = at.iter().map(|i| data[*i as usize]).collect();
            let factors: Option<Vec<f64>> =
                factors.as_ref().map(|f| at.iter().map(|i| f[*i as usize]).collect());
            cluster(&values, factors.as_deref(), size, o.init, o.seed ^ k as u64)
        };
        let found: Vec<Clusters> = elements.par_iter().enumerate().map(clusters).collect();
        let mut indices = vec![0; data.len()];
        let mut codebooks = Vec::with_capacity(found.len() * size);
        for (at, found) in elements.iter().zip(found) {
            at.iter().zip(&found.indices).for_each(|(i, k)| indices[*i as usize] = *k);
            let last = found.centers.last().copied().unwrap_or(0.0);
            codebooks.extend(&found.centers);
            codebooks.resize(codebooks.len().next_multiple_of(size), last);
        }
        Some(Shared { axis, each, size, codebooks, indices, dims, dtype: t.dtype() })
    }

    fn codebooks(&self) -> usize {
        self.codebooks.len() / self.size
    }

    /// Number of the codebook of each slice along the axis.
    fn books(&self) -> impl Iterator<Item = usize> {
        let each = self.each;
        (0..self.dims[self.axis]).map(move |i| i / each)
    }

    fn values(&self) -> Vec<f32> {
        let layout = Layout::new(&self.dims, Some(self.axis));
        let value = |(i, k): (usize, &u8)| {
            self.codebooks[layout.channel(i) / self.each * self.size + usize::from(*k)]
        };
        self.indices.iter().enumerate().map(value).collect()
    }

    fn sqnr_db(&self, g: &Graph, site: &Site) -> Option<f64> {
        let old = g.const_tensor(site.weight)?.to_f32()?;
        let (mut signal, mut noise) = (0.0, 0.0);
        for (a, b) in old.iter().zip(self.values()) {
            signal += f64::from(*a).powi(2);
            noise += (f64::from(*a) - f64::from(b)).powi(2);
        }
        (noise > 0.0 && signal > 0.0).then(|| 10.0 * (signal / noise).log10())
    }
}

/// Why a weight is left alone.
fn reason(
    g: &Graph,
    site: &Site,
    o: &ShareOptions,
    include: &GlobSet,
    exclude: &GlobSet,
) -> Result<(), String> {
    let len = g.const_tensor(site.weight).map_or(0, Tensor::len);
    let any = |set: &GlobSet| site.names.iter().any(|n| set.is_match(n));
    if any(exclude) {
        return Err("excluded".into());
    }
    if !include.is_empty() && !any(include) {
        return Err("not among the included layers".into());
    }
    if len < o.min_size {
        return Err(format!("{len} elements, fewer than --min-size"));
    }
    if len > u32::MAX as usize {
        return Err("too large".into());
    }
    Ok(())
}

fn describe(g: &Graph, site: &Site) -> SharedLayer {
    let t = g.const_tensor(site.weight);
    let bytes = t.map_or(0, Tensor::byte_len);
    SharedLayer {
        name: site.names.get(1).cloned().unwrap_or_default(),
        weight: g.value(site.weight).name().to_owned(),
        dims: t.map(|t| t.dims().to_vec()).unwrap_or_default(),
        codebooks: 0,
        sqnr_db: None,
        bytes_before: bytes,
        bytes_after: bytes,
        skipped: None,
    }
}

fn bytes(g: &Graph) -> usize {
    g.values().filter_map(|v| g.const_tensor(v)).map(Tensor::byte_len).sum()
}

fn globs(patterns: &[String]) -> Result<GlobSet, ShareError> {
    let mut set = GlobSetBuilder::new();
    let bad = |p: &str, e: &globset::Error| ShareError::Pattern {
        pattern: p.to_owned(),
        why: e.kind().to_string(),
    };
    for p in patterns {
        set.add(Glob::new(p).map_err(|e| bad(p, &e))?);
    }
    set.build().map_err(|e| bad("", &e))
}
