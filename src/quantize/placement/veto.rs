//! Why a linear op stays in float: W2, W5–W8, L9, L16, N13, N16, N17 and what the user says.

use std::collections::BTreeSet;

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::super::QuantizeError;
use super::super::options::{Profile, QuantizeOptions};
use super::super::payload::Payload;
use super::walk::{is_shape_arithmetic, may_be_f32};
use super::weighted::Linear;
use crate::ir::{DType, Dim, Graph, OpId, Slot};

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
}

/// A reason to leave a linear op in float.
pub(super) struct Veto {
    pub id: &'static str,
    pub summary: &'static str,
    /// The rule is advice: profile `minimal` does without it.
    pub soft: bool,
    pub check: fn(&Case) -> Option<String>,
}

/// All of them; the first that applies is reported.
pub(super) static VETOES: &[Veto] = &[
    Veto { id: "user", summary: "include and exclude patterns", soft: false, check: user },
    Veto { id: "N13", summary: "first and last linear ops on request", soft: false, check: ends },
    Veto { id: "W5", summary: "no MatMul of two activations", soft: false, check: two_activations },
    Veto { id: "N17", summary: "only stored weights", soft: false, check: stored },
    Veto { id: "N16", summary: "no weight that other graphs use", soft: false, check: private },
    Veto { id: "L9", summary: "only float32", soft: false, check: float32 },
    Veto { id: "L16", summary: "no shape arithmetic", soft: false, check: shape },
    Veto { id: "W2", summary: "no grouped or 3-D ConvTranspose", soft: false, check: transposed },
    Veto { id: "W6", summary: "depthwise Conv in TensorRT's sizes", soft: true, check: depthwise },
    Veto { id: "W7", summary: "no op too small to gain", soft: true, check: small },
];

/// The first rule that keeps the op in float, and why.
pub(super) fn veto(case: &Case) -> Option<(&'static str, String)> {
    let minimal = case.options.profile != Profile::Tensorrt;
    let disabled = |id: &str| case.options.disable_rule.iter().any(|d| d.eq_ignore_ascii_case(id));
    let active = VETOES.iter().filter(|v| !(v.soft && (minimal || disabled(v.id))));
    active.into_iter().find_map(|v| (v.check)(case).map(|why| (v.id, why)))
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
    if c.op.rule == "W5" {
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
    (c.op.rule == "W5").then(|| "multiplies two activations".into())
}

fn stored(c: &Case) -> Option<String> {
    if c.g.is_const(c.op.input) {
        return Some("its input is constant".into());
    }
    match c.g.const_tensor(c.op.weight) {
        None => Some("its weight is computed, not stored; simplify folds what is constant".into()),
        Some(t) if t.rank() < 2 => Some("its weight is a vector".into()),
        Some(t) if t.is_empty() => Some("its weight is empty".into()),
        Some(t) if t.raw().is_none() => Some("its weight is stored sparsely".into()),
        Some(_) => None,
    }
}

fn private(c: &Case) -> Option<String> {
    if c.g.is_output(c.op.weight) {
        return Some("its weight is a graph output".into());
    }
    let captured = c.g.uses(c.op.weight).iter().any(|(_, s)| matches!(s, Slot::Capture(_)));
    captured.then(|| "a subgraph uses its weight".into())
}

fn float32(c: &Case) -> Option<String> {
    let weight = c.g.const_tensor(c.op.weight)?;
    if weight.dtype() != DType::F32 {
        return Some(format!("its weight is {}", weight.dtype()));
    }
    if !may_be_f32(c.g, c.op.input) {
        return Some("its input is not float32".into());
    }
    let finite = weight.to_f32().is_some_and(|w| w.iter().all(|v| v.is_finite()));
    (!finite).then(|| "its weight holds NaN or infinity".into())
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
