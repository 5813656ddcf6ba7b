//! Why a linear op stays in float: W2, W5–W7, N13, N16, N17, N20, T1, T8, what the types forbid (L7,
//! L9, L16) and what the user says.

use std::collections::BTreeSet;

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::super::QuantizeError;
use super::super::options::QuantizeOptions;
use super::super::payload::Payload;
use super::Rules;
use super::walk::{has_layer_norm, may_be_f32};
use super::weighted::{Linear, Transposed};
use crate::ir::{DType, Dim, Graph, OpId, Slot, ValueId};
use crate::ops::is_shape_arithmetic;

/// What a veto looks at.
pub(super) struct Case<'a> {
    pub g: &'a Graph,
    pub op: &'a Linear,
    /// Position among the linear ops, and their number.
    pub at: (usize, usize),
    /// Linear ops with no other one between them and an output, where these are asked for.
    pub heads: &'a BTreeSet<OpId>,
    pub options: &'a QuantizeOptions,
    pub globs: &'a Globs,
    pub rules: &'a Rules,
    /// The matrix behind a Transpose that takes the place of the weight (W9).
    pub stored: Option<Transposed>,
}

impl Case<'_> {
    /// The value that is stored.
    fn weight(&self) -> ValueId {
        self.stored.map_or(self.op.weight, |t| t.value)
    }

    /// The op multiplies two activations.
    fn of_activations(&self) -> bool {
        self.stored.is_none() && !self.g.is_const(self.op.weight)
    }
}

/// Why a linear op stays in float: the rule, or what else says so, and its check.
type Veto = (&'static str, fn(&Case) -> Option<String>);

/// All of them; the first that applies is reported.
static VETOES: &[Veto] = &[
    ("user", user),
    ("N13", ends),
    ("W5", two_activations),
    ("N17", computed),
    ("L7", stored),
    ("N16", private),
    ("L9", float32),
    ("L16", shape),
    ("W2", transposed),
    ("T8", vocabulary),
    ("N20", unsupported),
    ("W6", depthwise),
    ("W7", small),
];

/// The first rule that keeps the op in float, and why.
pub(super) fn veto(case: &Case) -> Option<(&'static str, String)> {
    if case.stored.is_none() && case.op.rule != "W5" && !case.rules.on(case.op.rule) {
        return Some((case.op.rule, format!("rule {} is off", case.op.rule)));
    }
    let transformers = || matches!(case.op.rule, "W3" | "W4") || case.stored.is_some();
    if !case.rules.on("T1") && transformers() && has_layer_norm(case.g) {
        return Some(("T1", "rule T1 is off".into()));
    }
    let active = VETOES.iter().filter(|(id, _)| case.rules.on(id));
    active.into_iter().find_map(|(id, check)| check(case).map(|why| (*id, why)))
}

/// Compiled include and exclude patterns.
pub(super) struct Globs {
    include: Option<GlobSet>,
    exclude: GlobSet,
}

impl Globs {
    pub(super) fn new(o: &QuantizeOptions) -> Result<Globs, QuantizeError> {
        let set = |patterns: &[String]| {
            let mut builder = GlobSetBuilder::new();
            for p in patterns {
                builder.add(Glob::new(p)?);
            }
            builder.build()
        };
        let include = if o.include.is_empty() { None } else { Some(set(&o.include)?) };
        Ok(Globs { include, exclude: set(&o.exclude)? })
    }

    fn hit(set: &GlobSet, g: &Graph, op: OpId) -> bool {
        set.is_match(&g.op(op).name) || set.is_match(g.op(op).full_type())
    }

    /// The user wants the op in float.
    pub(super) fn excludes(&self, g: &Graph, op: OpId) -> bool {
        Globs::hit(&self.exclude, g, op)
    }
}

fn user(c: &Case) -> Option<String> {
    if c.globs.excludes(c.g, c.op.op) {
        return Some("excluded by pattern".into());
    }
    let include = c.globs.include.as_ref()?;
    (!Globs::hit(include, c.g, c.op.op)).then(|| "matches no include pattern".into())
}

fn ends(c: &Case) -> Option<String> {
    if c.op.rule == "W5" && c.stored.is_none() {
        return None;
    }
    let (i, n) = c.at;
    if c.heads.contains(&c.op.op) {
        return Some("the last linear op before an output".into());
    }
    if i < c.options.skip_first {
        return Some(format!("among the first {} linear ops", c.options.skip_first));
    }
    (i + c.options.skip_last >= n)
        .then(|| format!("among the last {} linear ops", c.options.skip_last))
}

fn two_activations(c: &Case) -> Option<String> {
    (c.op.rule == "W5" && c.stored.is_none()).then(|| "multiplies two activations".into())
}

fn computed(c: &Case) -> Option<String> {
    (c.op.rule != "W5" && c.of_activations())
        .then(|| "its weight is computed, not stored; simplify folds what is constant".into())
}

fn stored(c: &Case) -> Option<String> {
    if c.g.is_const(c.op.input) {
        return Some("its input is constant".into());
    }
    match c.g.const_tensor(c.weight()) {
        Some(t) if t.rank() < 2 => Some("its weight is a vector".into()),
        Some(t) if t.is_empty() => Some("its weight is empty".into()),
        Some(t) if t.raw().is_none() => Some("its weight is stored sparsely".into()),
        _ => None,
    }
}

fn private(c: &Case) -> Option<String> {
    if c.of_activations() {
        return None;
    }
    if c.g.is_output(c.op.weight) {
        return Some("its weight is a graph output".into());
    }
    let captured = c.g.uses(c.op.weight).iter().any(|(_, s)| matches!(s, Slot::Capture(_)));
    captured.then(|| "a subgraph uses its weight".into())
}

fn float32(c: &Case) -> Option<String> {
    if !may_be_f32(c.g, c.op.input) {
        return Some("its input is not float32".into());
    }
    let Some(weight) = c.g.const_tensor(c.weight()) else {
        return (!may_be_f32(c.g, c.op.weight)).then(|| "its weight is not float32".into());
    };
    if weight.dtype() != DType::F32 {
        return Some(format!("its weight is {}", weight.dtype()));
    }
    (!weight.is_finite_f32()).then(|| "its weight holds NaN or infinity".into())
}

/// A matrix that makes a graph output of at least 8,192 features, eight times those it reads: scores
/// of a vocabulary.
fn vocabulary(c: &Case) -> Option<String> {
    const WORDS: usize = 8192;
    let (out, each) = match c.stored {
        Some(t) => {
            let dims = c.g.const_tensor(t.value)?.dims();
            (dims[0].max(dims[1]), dims[0].min(dims[1]))
        }
        None if matches!(c.op.rule, "W3" | "W4") => c.op.channels(c.g)?,
        None => return None,
    };
    if out < WORDS || out / 8 < each {
        return None;
    }
    let mut v = c.g.result(c.op.op, 0)?;
    for _ in 0..4 {
        if c.g.is_output(v) {
            return Some(format!("scores of a vocabulary of {out}: store it in 4 bits instead"));
        }
        v = c.g.result(c.g.sole_use(v)?.0, 0)?;
    }
    None
}

/// NVIDIA's support matrix: FP8 from compute capability 8.9 on; up to 7.5 the builder finds no INT8
/// kernel for some ConvTranspose.
fn unsupported(c: &Case) -> Option<String> {
    let have = c.options.compute_capability?;
    if c.options.payload == Payload::Fp8 && have < 8.9 {
        return Some(format!("FP8 needs compute capability 8.9, not {have}"));
    }
    (c.op.rule == "W2" && have <= 7.5)
        .then(|| format!("ConvTranspose may have no INT8 kernel on compute capability {have}"))
}

fn shape(c: &Case) -> Option<String> {
    is_shape_arithmetic(c.g, c.op.input).then(|| "its input is computed from shapes".into())
}

fn transposed(c: &Case) -> Option<String> {
    if c.op.rule != "W2" {
        return None;
    }
    let group = c.g.op(c.op.op).int_or("group", 1);
    if group != 1 {
        return Some(format!("ConvTranspose of {group} groups: TensorRT has no INT8 kernel"));
    }
    let rank = c.g.const_tensor(c.op.weight)?.rank();
    (rank != 4).then(|| format!("{}-D ConvTranspose: TensorRT has no INT8 kernel", rank - 2))
}

fn depthwise(c: &Case) -> Option<String> {
    let group = c.g.op(c.op.op).int_or("group", 1);
    if c.op.rule != "W1" || group == 1 {
        return None;
    }
    let dims = c.g.const_tensor(c.op.weight)?.dims();
    if dims[1] >= 16 && dims[0] >= 16 {
        return None;
    }
    let kernel = &dims[2..];
    (dims[0] % 8 != 0 || kernel.iter().any(|&k| k < 3)).then(|| {
        format!("grouped Conv of {} channels, kernel {kernel:?}: needs channels in eights and a kernel of 3 or more", dims[0])
    })
}

fn small(c: &Case) -> Option<String> {
    let (out, each) = c.op.channels(c.g)?;
    if c.options.payload == Payload::Fp8 && c.op.rule == "W1" {
        let volume: usize = c.g.const_tensor(c.op.weight)?.dims()[2..].iter().product();
        if volume > 32 && (out <= 16 || each <= 16) {
            return Some(format!("FP8 Conv of {volume} taps from {each} to {out} channels"));
        }
    }
    match c.op.rule {
        "W1" => {
            let group = c.g.op(c.op.op).int_or("group", 1);
            let kernel = &c.g.const_tensor(c.op.weight)?.dims()[2..];
            let square = kernel.windows(2).all(|k| k[0] == k[1]);
            let aligned = out % 8 == 0 || each % 8 == 0;
            let wide = c.at.0 == 0 || out >= 16 || each >= 16;
            let fits = (each >= 16 && out >= 16) || group != 1 || (aligned && wide && square);
            (!fits).then(|| format!("Conv from {each} to {out} channels, kernel {kernel:?}"))
        }
        "W3" | "W4" if out < 16 || each < 16 => Some(format!("{each} x {out} matrix")),
        "W3" | "W4" => rows(c).filter(|&m| m == 1).map(|_| "a matrix times one vector".into()),
        _ => None,
    }
}

/// Rows of the activation, when all its sizes are known.
fn rows(c: &Case) -> Option<i64> {
    let shape = c.g.value(c.op.input).shape()?;
    let rank = shape.len();
    let transposed = c.op.rule == "W3" && c.g.op(c.op.op).int_or("transA", 0) != 0;
    let contracted = match (c.op.weight_slot, transposed) {
        (0, _) | (_, true) => rank.checked_sub(2)?,
        _ => rank.checked_sub(1)?,
    };
    let others = shape.iter().enumerate().filter(|(i, _)| *i != contracted).map(|(_, d)| d);
    Dim::product(others).known()
}
