//! Equalization: channels of an activation get factors, so that all use the range of one scale.
//!
//! With per-channel weights nothing is to be gained between the rows of a weight, but activations
//! have one scale: a quiet channel next to a loud one keeps few of the 255 levels. Dividing channel
//! `c` of `x` by `s[c]` and multiplying the columns of what reads it is exact (cross-layer
//! equalization: Nagel and others, arXiv 1906.04721; between normalization and matrices SmoothQuant:
//! Xiao and others, arXiv 2211.10438). `s[c] = a[c]^alpha / w[c]^beta` with the largest magnitudes
//! `a` of the channels and `w` of the columns; alpha and beta are searched for each space by the
//! noise expected at the readers, relative to what they give:
//! rounding adds `step^2 / 12` to each element, the step being that of the codes that activations get
//! (`grid`), and that of INT8 for each row of weights.
//!
//! A `Clip` from 0 to `m` is met as far as calibration has seen: a channel that reaches `m` keeps
//! its factor, others grow to `m` at most, so that what `Clip` cuts off beyond is what the range of
//! the scale cuts off too.

use super::super::collect::Observed;
use super::super::grid::Codes;
use super::super::placement::{Plan, linear};
use super::space::{self, Edit, Space};
use crate::ir::layout::Layout;
use crate::ir::{Graph, Op, OpId, Tensor, Value, ValueId};

/// Exponents of the magnitudes of activations and of columns that are tried.
const EXPONENTS: [(f64, f64); 9] = [
    (0.25, 0.0),
    (0.5, 0.0),
    (0.75, 0.0),
    (1.0, 0.0),
    (0.25, 0.75),
    (0.4, 0.6),
    (0.5, 0.5),
    (0.65, 0.35),
    (0.8, 0.2),
];
/// Part of the expected noise that must go for factors to be worth it.
const WORTH: f64 = 0.05;
/// As [`WORTH`], where an op has to be added.
const WORTH_AN_OP: f64 = 0.2;
/// Smallest factor relative to the largest.
const SMALLEST: f64 = 1.0 / 512.0;
/// The same times the number of samples: a channel that few were quiet in may be loud in others.
const UNSEEN: f64 = 0.5;
/// How close a channel may come to the maximum of a Clip.
const MARGIN: f64 = 0.95;

/// A set of factors that can be found.
pub(super) struct Site {
    pub space: Space,
    /// Pairs inside, with the linear ops that read them and the number of other readers.
    pairs: Vec<(ValueId, Vec<Edit>, usize)>,
    /// No op takes the factors in: a Mul behind this value does.
    pub insert_behind: Option<ValueId>,
}

impl Site {
    /// Only weights of one scale for each channel take the factors in: rounding them loses nothing.
    pub(super) fn is_free(&self) -> bool {
        let depthwise = |e: &Edit| e.blocks == self.space.channels;
        self.pairs.iter().all(|(_, readers, others)| *others == 0 && readers.iter().all(depthwise))
    }

    /// The values to observe, with their axes.
    pub(super) fn observed(&self) -> impl Iterator<Item = (ValueId, usize)> + '_ {
        let clips = self.space.clips.iter().map(|c| c.0);
        self.pairs.iter().map(|p| p.0).chain(clips).map(|v| (v, self.space.values[&v]))
    }
}

/// Sites of a planned graph: spaces, and, if `insert`, single activations that matrices read.
pub(super) fn sites(g: &Graph, plan: &Plan, insert: bool) -> Vec<Site> {
    let mut sites: Vec<Site> = Vec::new();
    for (&v, readers) in &plan.pairs {
        if sites.iter().any(|s| s.space.values.contains_key(&v)) {
            continue;
        }
        let Some(rank) = g.value(v).rank() else { continue };
        let axis = readers.keys().find_map(|(op, _)| space::input_axis(g, *op, rank));
        let Some(axis) = axis else { continue };
        match space::grow(g, v, axis) {
            Ok(space) => {
                let inside = space.values.keys().filter_map(|v| pair(g, plan, *v, &space));
                let pairs = inside.collect();
                sites.push(Site { pairs, space, insert_behind: None });
            }
            Err(_) if insert => sites.extend(alone(g, plan, v, axis)),
            Err(_) => {}
        }
    }
    sites
}

fn pair(g: &Graph, plan: &Plan, v: ValueId, s: &Space) -> Option<(ValueId, Vec<Edit>, usize)> {
    let readers = plan.pairs.get(&v)?;
    let edit =
        |(op, slot): &(OpId, usize)| space::reader(g, *op, *slot, *s.values.get(&v)?, s.channels);
    let edits: Vec<Edit> = readers.keys().filter_map(edit).collect();
    let others = readers.len() - edits.len();
    Some((v, edits, others))
}

/// An activation that quantized matrices read, and perhaps others that do not matter here.
fn alone(g: &Graph, plan: &Plan, v: ValueId, axis: usize) -> Option<Site> {
    let channels = g.value(v).shape()?.get(axis)?.size().filter(|n| *n > 1)?;
    let mut space = Space { channels, ..Space::default() };
    space.values.insert(v, axis);
    let (v, edits, others) = pair(g, plan, v, &space)?;
    let matrices = edits.iter().all(|e| linear(g, e.op).is_some_and(|l| l.rule != "W1"));
    if !matrices || others > 0 || edits.is_empty() || g.is_input(v) {
        return None;
    }
    space.edits.extend(edits.iter().copied());
    let pairs = vec![(v, edits, 0)];
    Some(Site { space, pairs, insert_behind: Some(v) })
}

/// What a linear op makes of the channels of its input.
struct Reader {
    /// For each channel the sum of the squares of the weights that read it.
    squares: Vec<f64>,
    /// For each row the largest weight of each of its channels, from the first channel on.
    rows: Vec<(usize, Vec<f64>)>,
    taps: f64,
    /// Expected sum of the squares of what it gives.
    signal: f64,
}

impl Reader {
    fn new(g: &Graph, e: &Edit, channels: usize, mean_squares: &[f64]) -> Option<Reader> {
        let l = linear(g, e.op)?;
        let t = g.const_tensor(l.weight)?;
        let (dims, data) = (t.dims(), t.to_f32()?);
        let out_axis = usize::from(l.rule != "W1" && e.axis == 0);
        let outs = dims[out_axis];
        let mut squares = vec![0.0; channels];
        let mut rows = vec![(usize::MAX, vec![0.0f64; dims[e.axis]]); outs];
        let layout = Layout::new(dims, Some(out_axis));
        // Groups are blocks of rows: their channels begin at one.
        let per_block = outs / e.blocks.max(1);
        for (i, (w, c)) in data.iter().zip(e.channels(dims)).enumerate() {
            let o = layout.channel(i);
            let w = f64::from(w.abs());
            squares[c] += w * w;
            let first = o / per_block.max(1) * dims[e.axis];
            let (from, largest) = &mut rows[o];
            *from = if e.blocks == 1 { 0 } else { first };
            let at = largest.get_mut(c - *from)?;
            *at = at.max(w);
        }
        let taps = data.len() as f64 / (outs * dims[e.axis]).max(1) as f64;
        let signal = squares.iter().zip(mean_squares).map(|(q, m)| q * m).sum::<f64>();
        Some(Reader { squares, rows, taps, signal: signal.max(1e-30) })
    }

    /// Expected noise of what it gives, relative to the signal, for factors `s`.
    fn noise(&self, s: &[f64], activation: f64, mean_squares: &[f64]) -> f64 {
        let from_input: f64 = self.squares.iter().zip(s).map(|(q, s)| q * s * s).sum();
        let mut from_weight = 0.0;
        for (from, largest) in &self.rows {
            let (mut amax, mut power) = (0.0f64, 0.0);
            for (i, w) in largest.iter().enumerate() {
                let s = s[from + i];
                amax = amax.max(w * s);
                power += mean_squares[from + i] / (s * s);
            }
            from_weight += rounding(amax / 127.0) * power * self.taps;
        }
        (activation * from_input + from_weight) / self.signal
    }
}

/// Mean square of the error of rounding to steps.
fn rounding(step: f64) -> f64 {
    step.powi(2) / 12.0
}

/// One pair of a site with what is known of it.
struct Activation<'a> {
    plan: &'a Plan,
    /// Ends of each channel, zero between them.
    ends: Vec<(f64, f64)>,
    mean_squares: Vec<f64>,
    readers: Vec<Reader>,
    others: usize,
}

/// Factors for a site and the expected noise before and after, relative to the signal; `None` when
/// they are not worth it.
pub(super) fn factors(
    g: &Graph,
    plan: &Plan,
    site: &Site,
    seen: &Observed,
) -> Option<(Vec<f64>, f64, f64)> {
    let n = site.space.channels;
    let mut tensors = Vec::new();
    for (v, edits, others) in &site.pairs {
        let s = seen.by_channel(*v, n)?;
        let mean_squares = s.mean_squares();
        let readers: Option<Vec<Reader>> =
            edits.iter().map(|e| Reader::new(g, e, n, &mean_squares)).collect();
        tensors.push(Activation {
            plan,
            ends: s.reach(),
            mean_squares,
            readers: readers?,
            others: *others,
        });
    }
    let bounds = bounds(&site.space, seen)?;
    let noise = |s: &[f64]| tensors.iter().map(|t| t.noise(s)).sum::<f64>();
    let before = noise(&vec![1.0; n]);
    let (a, w) = (loudness(&tensors, n), columns(&tensors, n));
    let samples = site.pairs.iter().filter_map(|(v, _, _)| seen.samples(*v)).min()?;
    let smallest = SMALLEST.max(UNSEEN / samples as f64);
    let candidate = |(alpha, beta): &(f64, f64)| {
        let raw = |c: usize| a[c].powf(*alpha) / w[c].powf(*beta);
        let mut s: Vec<f64> = (0..n).map(raw).collect();
        let top = s.iter().copied().fold(0.0, f64::max);
        for (s, (low, high)) in s.iter_mut().zip(&bounds) {
            *s = (*s / top).max(smallest).clamp(*low, *high);
        }
        (noise(&s), s)
    };
    let (after, s) = EXPONENTS.iter().map(candidate).min_by(|x, y| x.0.total_cmp(&y.0))?;
    let worth = if site.insert_behind.is_some() { WORTH_AN_OP } else { WORTH };
    let finite = s.iter().all(|s| s.is_finite() && *s > 0.0);
    (finite && after < (1.0 - worth) * before).then_some((s, before, after))
}

impl Activation<'_> {
    fn noise(&self, s: &[f64]) -> f64 {
        let ends = self.ends.iter().zip(s).map(|((low, high), s)| (low / s, high / s));
        let wider = |all: (f64, f64), one: (f64, f64)| (all.0.min(one.0), all.1.max(one.1));
        let (low, high) = ends.fold((0.0, 0.0), wider);
        let (low, high) = (low as f32, high as f32);
        let step = rounding(Codes::between(self.plan, low, high).step(high.max(-low)));
        let linear: f64 = self.readers.iter().map(|r| r.noise(s, step, &self.mean_squares)).sum();
        let signal = self.mean_squares.iter().sum::<f64>().max(1e-30);
        let others = step * s.iter().map(|s| s * s).sum::<f64>() / signal;
        linear + others * self.others as f64
    }
}

/// Factors that every channel may take, because of Clip.
fn bounds(s: &Space, seen: &Observed) -> Option<Vec<(f64, f64)>> {
    let free = if s.clips.is_empty() { f64::INFINITY } else { 1.0 };
    let mut bounds = vec![(0.0, free); s.channels];
    for (v, max) in &s.clips {
        let amax = seen.by_channel(*v, s.channels)?.amax();
        for ((low, _), a) in bounds.iter_mut().zip(amax) {
            *low = f64::max(*low, (a / (MARGIN * max)).min(1.0));
        }
    }
    Some(bounds)
}

/// Magnitude of each channel relative to the loudest.
fn loudness(tensors: &[Activation], n: usize) -> Vec<f64> {
    let mut a = vec![SMALLEST; n];
    for t in tensors {
        let amax: Vec<f64> = t.ends.iter().map(|(low, high)| high.max(-low)).collect();
        let top = amax.iter().copied().fold(0.0, f64::max);
        a.iter_mut()
            .zip(&amax)
            .for_each(|(a, x)| *a = a.max(if top > 0.0 { x / top } else { 0.0 }));
    }
    a
}

/// Largest weight of each column relative to all; rows of one channel do not count.
fn columns(tensors: &[Activation], n: usize) -> Vec<f64> {
    let mut w = vec![0.0f64; n];
    for r in
        tensors.iter().flat_map(|t| &t.readers).filter(|r| r.rows.iter().any(|r| r.1.len() > 1))
    {
        let mut own = vec![0.0f64; n];
        for (from, largest) in &r.rows {
            largest.iter().enumerate().for_each(|(i, x)| own[from + i] = own[from + i].max(*x));
        }
        let top = own.iter().copied().fold(0.0, f64::max).max(1e-30);
        w.iter_mut().zip(own).for_each(|(w, o)| *w = w.max(o / top));
    }
    if w.iter().all(|w| *w == 0.0) {
        return vec![1.0; n];
    }
    w.into_iter().map(|w| w.max(SMALLEST)).collect()
}

/// Writes the factors into the constants, and the op, where one has to be added. False, and nothing
/// changes, when a number would leave the range of its type.
pub(super) fn apply(g: &mut Graph, site: &Site, s: &[f64]) -> bool {
    let mut new: Vec<(OpId, usize, Tensor)> = Vec::new();
    for e in &site.space.edits {
        let known = new.iter().position(|n| (n.0, n.1) == (e.op, e.slot));
        let tensor = match known {
            Some(i) => Some(&new[i].2),
            None => g.const_operand(e.op, e.slot),
        };
        let Some(scaled) = tensor.and_then(|t| scaled(t, e, s)) else { return false };
        match known {
            Some(i) => new[i].2 = scaled,
            None => new.push((e.op, e.slot, scaled)),
        }
    }
    for (op, slot, tensor) in new {
        let Some(old) = g.operand(op, slot) else { continue };
        if g.sole_use(old).is_some() {
            g.set_data(old, tensor);
        } else {
            let name = format!("{}_equalized", g.value(old).name());
            let copy = g.add_const(&name, tensor);
            g.set_operand(op, slot, Some(copy));
        }
    }
    if let Some(v) = site.insert_behind {
        insert_mul(g, v, site, s);
    }
    true
}

fn scaled(t: &Tensor, e: &Edit, s: &[f64]) -> Option<Tensor> {
    let data = t.to_f32()?;
    let factor = |c: usize| if e.divide { 1.0 / s[c] } else { s[c] };
    let new: Vec<f32> = data
        .iter()
        .zip(e.channels(t.dims()))
        .map(|(x, c)| (f64::from(*x) * factor(c)) as f32)
        .collect();
    let same = |(a, b): (&f32, &f32)| a.is_finite() == b.is_finite();
    data.iter().zip(&new).all(same).then(|| Tensor::from_f32(t.dtype(), t.dims(), &new))?
}

/// `v -> Mul(1 / s)`, read by the ops whose weights have taken `s` in.
fn insert_mul(g: &mut Graph, v: ValueId, site: &Site, s: &[f64]) {
    let name = g.value(v).name().to_owned();
    let anchor = site.space.edits.first().map(|e| e.op);
    let inverse: Vec<f32> = s.iter().map(|s| (1.0 / s) as f32).collect();
    let factors = g.add_const(&format!("{name}_smoothing"), Tensor::vector(&inverse));
    let ty = g.value(v).ty.clone();
    let result = g.add_value(Value::new(format!("{name}_smoothed"), ty));
    let op = Op::new("Mul").named(format!("{name}_Mul"));
    g.add_op(op, &[Some(v), Some(factors)], &[Some(result)], anchor);
    for e in &site.space.edits {
        g.set_operand(e.op, 0, Some(result));
    }
}
