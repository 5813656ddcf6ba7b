//! Which passes run, in which order.

use super::changes::{Changes, Seen};
use super::driver::{Scope, run_rewrites, run_rewrites_from};
use super::{Cx, Limits, Pass, PassError, PassInfo, Rewrite};
use crate::ir::{Graph, Model, for_each_graph, opset_of};
use crate::passes::*;

/// Which passes the user wants.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    only: Option<Vec<String>>,
    enabled: Vec<String>,
    disabled: Vec<String>,
}

impl Selection {
    /// Runs all passes but `disabled` and those that wait to be `enabled`, or, if `only` is not
    /// empty, just those.
    ///
    /// # Errors
    /// When a name is no pass.
    pub fn new(
        only: &[String],
        enabled: &[String],
        disabled: &[String],
    ) -> Result<Selection, PassError> {
        for name in only.iter().chain(enabled).chain(disabled) {
            if find_pass(name).is_none() {
                let valid: Vec<&str> = all_passes().map(|p| p.name).collect();
                return Err(PassError::UnknownPass { name: name.clone(), valid: valid.join(", ") });
            }
        }
        Ok(Selection {
            only: Some(only.to_vec()).filter(|o| !o.is_empty()),
            enabled: enabled.to_vec(),
            disabled: disabled.to_vec(),
        })
    }

    /// The pass with this name may run.
    pub fn allows(&self, name: &str) -> bool {
        let is = |n: &String| n == name;
        let asked_for = self.enabled.iter().any(is)
            || match &self.only {
                Some(only) => only.iter().any(is),
                None => !ON_REQUEST.iter().any(|p| p.info().name == name),
            };
        asked_for && !self.disabled.iter().any(is)
    }
}

/// Passes over the whole model that run, before all others, only where they are asked for by name.
static ON_REQUEST: &[&dyn Pass] =
    &[&freeze_inputs::FreezeInputs, &inline_functions::InlineFunctions];

/// Passes over the whole model that run first.
static NORMALIZE: &[&dyn Pass] = &[
    &inline_exported::InlineExported,
    &lift_constants::LiftConstants,
    // What nothing reads would keep fusions from seeing a sole reader.
    &remove_dead::RemoveDead,
];

/// Rewrites that run together until none fires. At one op they are tried in this order.
static SIMPLIFY: &[&dyn Rewrite] = &[
    // Known results first: everything below then sees constants.
    &fold_constants::FoldConstants,
    // What goes away altogether before what is merged.
    &eliminate_identity::EliminateIdentity,
    &eliminate_noop::EliminateNoop,
    &eliminate_unit::EliminateUnit,
    &eliminate_idempotent::EliminateIdempotent,
    &eliminate_inverse::EliminateInverse,
    &eliminate_sequences::EliminateSequences,
    &eliminate_optionals::EliminateOptionals,
    &merge_qdq::MergeQdq,
    &fuse_dequantize_transpose::FuseDequantizeTranspose,
    &eliminate_overwrite::EliminateOverwrite,
    &eliminate_expand::EliminateExpand,
    &fold_reshape_shape::FoldReshapeShape,
    &merge_reshapes::MergeReshapes,
    &move_reshapes::MoveReshapes,
    &merge_transposes::MergeTransposes,
    &lower_einsum::LowerEinsum,
    &merge_casts::MergeCasts,
    &merge_clips::MergeClips,
    &merge_concats::MergeConcats,
    &merge_slices::MergeSlices,
    &merge_splits::MergeSplits,
    &merge_pads::MergePads,
    &merge_reduces::MergeReduces,
    &narrow_concat::NarrowConcat,
    &fuse_space_to_depth::FuseSpaceToDepth,
    &fuse_keepdims::FuseKeepdims,
    &fuse_gather_unsqueeze::FuseGatherUnsqueeze,
    &merge_unsqueezes::MergeUnsqueezes,
    &fuse_pad::FusePad,
    &fuse_conv_bn::FuseConvBn,
    &fuse_gemm_bn::FuseGemmBn,
    &fuse_scale::FuseScale,
    // A constant summand goes into the bias, which needs no Gemm of known rank.
    &fuse_bias::FuseBias,
    &fuse_matmul_add::FuseMatmulAdd,
    &fuse_gemm_transpose::FuseGemmTranspose,
    // Named operators before their factors are merged with others.
    &fuse_instance_norm::FuseInstanceNorm,
    &fuse_layer_norm::FuseLayerNorm,
    &fuse_rms_norm::FuseRmsNorm,
    &fuse_rotary_embedding::FuseRotaryEmbedding,
    &fuse_attention::FuseAttention,
    &fuse_gelu::FuseGelu,
    &fuse_mish::FuseMish,
    &fuse_softsign::FuseSoftsign,
    &fuse_leaky_relu::FuseLeakyRelu,
    &fuse_hard_swish::FuseHardSwish,
    &fuse_log_softmax::FuseLogSoftmax,
    &fuse_dequantize::FuseDequantize,
    &fuse_division::FuseDivision,
    &merge_constants::MergeConstants,
    &fuse_input_scale::FuseInputScale,
];

/// Passes that run between rounds of rewrites, until nothing changes.
static BETWEEN: &[&dyn Pass] = &[
    &inline_if::InlineIf,
    // What loops need not do, before it is done as often as they run.
    &trim_bodies::TrimBodies,
    &hoist_invariants::HoistInvariants,
    &unroll_loops::UnrollLoops,
    // A branch or body may have brought Constants with it.
    &lift_constants::LiftConstants,
    &merge_common::MergeCommon,
    &remove_dead::RemoveDead,
    // Equal Transposes are one by now.
    &move_transposes::MoveTransposes,
];

/// Rewrites that run when all of the above have come to rest: what they gain depends on which ops are
/// left next to theirs.
static LATE: &[&dyn Rewrite] = &[
    &merge_factors::MergeFactors,
    &unflatten_matmuls::UnflattenMatmuls,
    &fuse_slices::FuseSlices,
    &fuse_gathers::FuseGathers,
    &flatten_matmuls::FlattenMatmuls,
];

/// Passes over the whole model that run last.
static CLEAN_UP: &[&dyn Pass] = &[
    // Shared constants cannot be rewritten in place, so nothing may come after.
    &deduplicate_initializers::DeduplicateInitializers,
];

/// Rounds after which a fixpoint is given up; reaching it fails in tests.
const MAX_ROUNDS: usize = 20;

/// All passes, in the order they run.
pub fn all_passes() -> impl Iterator<Item = &'static PassInfo> {
    let first = ON_REQUEST.iter().chain(NORMALIZE).map(|p| p.info());
    let middle = SIMPLIFY.iter().map(|r| r.info()).chain(BETWEEN.iter().map(|p| p.info()));
    let last = LATE.iter().map(|r| r.info()).chain(CLEAN_UP.iter().map(|p| p.info()));
    let all = first.chain(middle).chain(last);
    let mut seen = std::collections::HashSet::new();
    all.filter(move |info| seen.insert(info.name))
}

/// The pass with this name.
pub fn find_pass(name: &str) -> Option<&'static PassInfo> {
    all_passes().find(|p| p.name == name)
}

/// Simplifies a model: every selected pass until nothing changes.
///
/// # Errors
/// When a pass breaks the graph.
pub fn simplify(m: &mut Model, cx: &mut Cx) -> Result<(), PassError> {
    cx.room = room(m, &cx.limits);
    cx.changes = Changes::default();
    run_passes(ON_REQUEST, m, cx)?;
    run_passes(NORMALIZE, m, cx)?;
    settle(m, cx)?;
    if cx.check && cx.may_go_on() {
        let rest = revision(m);
        cx.changes.forget();
        settle(m, cx)?;
        cx.exhausted |= revision(m) != rest;
    }
    if !cx.findings.is_empty() {
        cx.changes.forget();
        infer(m, cx);
    }
    run_passes(CLEAN_UP, m, cx)
}

/// Rounds of rewrites and passes until nothing changes.
fn settle(m: &mut Model, cx: &mut Cx) -> Result<(), PassError> {
    loop {
        let before = revision(m);
        cx.rounds += 1;
        cx.misses.clear();
        infer(m, cx);
        rewrite(SIMPLIFY, |c| &mut c.simplify, m, cx)?;
        run_passes(BETWEEN, m, cx)?;
        if revision(m) == before {
            rewrite(LATE, |c| &mut c.late, m, cx)?;
        }
        if revision(m) == before || !cx.may_go_on() {
            break;
        }
        if cx.rounds >= MAX_ROUNDS {
            cx.exhausted = true;
            break;
        }
    }
    Ok(())
}

/// Types, shapes and contradictions of what changed.
fn infer(m: &mut Model, cx: &mut Cx) {
    let opset = m.default_opset();
    note(m, cx);
    let mut changes = std::mem::take(&mut cx.changes);
    let mut report = |op, what| cx.findings.push((op, what));
    let stale = changes.inference.take();
    let done = stale.is_some_and(|s| changes.infer(&mut m.graph, s, opset, &mut report));
    if !done {
        changes.forget();
        changes.inference.take();
        cx.findings.clear();
        super::infer::infer_model(m, &mut |op, what| cx.findings.push((op, what)));
    }
    cx.changes = changes;
}

/// Notes what edits of the main graph touched.
fn note(m: &mut Model, cx: &mut Cx) {
    cx.changes.note(&mut m.graph);
    let g = &m.graph;
    if !m.functions.is_empty() || g.ops().any(|op| !g.op(op).bodies.is_empty()) {
        cx.changes.forget();
    }
}

/// Applies rewrites in the main graph and in local functions until none of them fires. `seen` says
/// what changed since they last did.
fn rewrite(
    rewrites: &[&dyn Rewrite],
    seen: fn(&mut Changes) -> &mut Seen,
    m: &mut Model,
    cx: &mut Cx,
) -> Result<(), PassError> {
    let opset = m.default_opset();
    note(m, cx);
    let scope = seen(&mut cx.changes).take().map_or(Scope::All, Scope::Near);
    let touched = run_rewrites_from(&mut m.graph, opset, rewrites, scope, cx)?;
    cx.changes.add(&touched);
    // They have come to rest.
    seen(&mut cx.changes).take();
    for function in &mut m.functions {
        let opset = opset_of(&function.opsets, "").unwrap_or(opset);
        run_rewrites(&mut function.graph, opset, rewrites, cx)?;
    }
    Ok(())
}

/// Bytes that constants may grow by.
fn room(m: &Model, limits: &Limits) -> i64 {
    let bytes = limits.fold_growth.unwrap_or_else(|| {
        let mut stored = 0usize;
        let mut add = |g: &Graph| {
            let sizes = g.values().filter_map(|v| g.const_tensor(v)).map(|t| t.byte_len());
            stored = sizes.fold(stored, usize::saturating_add);
        };
        for_each_graph(&m.graph, &mut add);
        m.functions.iter().for_each(|f| for_each_graph(&f.graph, &mut add));
        (64 << 10) + stored / 100
    });
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

fn revision(m: &Model) -> u64 {
    m.functions.iter().map(|f| f.graph.revision()).sum::<u64>() + m.graph.revision()
}

fn run_passes(passes: &[&dyn Pass], m: &mut Model, cx: &mut Cx) -> Result<(), PassError> {
    for pass in passes {
        let info = pass.info();
        if !cx.selection.allows(info.name) || !cx.may_go_on() {
            continue;
        }
        let start = std::time::Instant::now();
        let before = revision(m);
        if cx.changes.is_settled(info.name, before) {
            continue;
        }
        pass.run(m, cx)?;
        let stats = cx.stats.entry(info.name).or_default();
        stats.time += start.elapsed();
        let changed = revision(m) != before;
        cx.changes.settle(info.name, before, changed);
        if changed {
            stats.fired += 1;
            cx.applied += 1;
            cx.last = Some((info.name, None));
        }
        if cx.check {
            let graphs = m.functions.iter().map(|f| &f.graph).chain([&m.graph]);
            for g in graphs {
                let broken = |violation| PassError::Broken { pass: info.name, violation };
                g.check().map_err(broken)?;
            }
        }
    }
    Ok(())
}
