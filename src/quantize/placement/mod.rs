//! Where Q/DQ pairs go: the placement rules, one file for each family.
//!
//! Linear ops are the anchors: each is quantized unless a rule of `veto` says why not. Their
//! inputs get pairs; then `EXTENSIONS` add readers where TensorRT fuses or keeps INT8 flowing:
//! residual additions, Concat, pools. A tensor has at most one pair, which all its quantized readers
//! share (N14); nothing is placed behind an op for its own sake (N1, N2), inside softmax,
//! normalization or activation functions (N9, N11) or on constants (N18).

mod attention;
mod elementwise;
mod moving;
mod norm;
mod residual;
mod scales;
mod veto;
mod walk;
mod weighted;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

pub(crate) use walk::is_shape_arithmetic;
pub use weighted::{Linear, linear};

use super::QuantizeError;
use super::options::{Profile, QuantizeOptions};
use super::payload::Payload;
use crate::ir::{Graph, OpId, Slot, ValueId};

/// What was decided for one linear op, and by which rule.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Decision {
    /// Label of the op.
    pub node: String,
    /// Its operator.
    pub op_type: String,
    /// It computes on INT8.
    pub quantized: bool,
    /// Id of the rule that decided.
    pub rule: &'static str,
    /// Why, in words.
    pub reason: String,
}

/// A weight to be stored as INT8.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WeightSite {
    /// The op that reads it.
    pub op: OpId,
    /// In which slot.
    pub slot: usize,
    /// The weight.
    pub value: ValueId,
    /// Axis of its scales; `None` for one scale.
    pub axis: Option<usize>,
}

/// Where Q/DQ pairs go.
#[derive(Clone, Debug, Default)]
pub struct Plan {
    /// For each activation that gets a pair: the slots that read it and the rules that say so.
    pub pairs: BTreeMap<ValueId, BTreeMap<(OpId, usize), &'static str>>,
    /// Weights to be stored as INT8.
    pub weights: Vec<WeightSite>,
    /// One for every linear op, in graph order.
    pub decisions: Vec<Decision>,
    /// Sets of activations that share one scale; each has a pair.
    pub scale_groups: Vec<Vec<ValueId>>,
    /// Activations whose largest magnitude is known without data.
    pub fixed: BTreeMap<ValueId, f32>,
    quantized: BTreeSet<OpId>,
    /// Residual additions that fuse with the quantized op before them.
    fused: BTreeSet<OpId>,
    same_scale: Vec<(ValueId, ValueId)>,
}

/// A rule that adds readers to a plan.
struct Extension {
    id: &'static str,
    summary: &'static str,
    apply: fn(&Graph, &mut Plan),
}

/// In the order they run: residuals first, since pools and Concat ask what follows quantized ops and
/// who reads pairs; plain arithmetic then takes what is left.
static EXTENSIONS: &[Extension] = &[
    Extension {
        id: "N11",
        summary: "Conv -> LayerNormalization: a pair between",
        apply: norm::apply,
    },
    Extension {
        id: "N3",
        summary: "residual Add: a pair on the shortcut, none on the branch that fuses",
        apply: residual::apply,
    },
    Extension {
        id: "N7",
        summary: "pools between quantized ops compute on INT8",
        apply: moving::pools,
    },
    Extension {
        id: "N6",
        summary: "Concat read by quantized ops only: pairs of one scale on its inputs",
        apply: moving::concat,
    },
    Extension {
        id: "N4",
        summary: "arithmetic of two activations shares pairs that are there anyway",
        apply: elementwise::apply,
    },
    Extension { id: "N8", summary: "data movement keeps the scale", apply: scales::across_moves },
];

/// Id and summary of every rule, for `--explain` and documentation.
pub fn rules() -> impl Iterator<Item = (&'static str, &'static str)> {
    let vetoes = veto::VETOES.iter().map(|v| (v.id, v.summary));
    let more = [
        ("T4", "attention in INT8, on request, up to 512 tokens"),
        ("T5", "attention in FP8, for heads of 9 to 256 channels"),
    ];
    vetoes.chain(EXTENSIONS.iter().map(|e| (e.id, e.summary))).chain(more)
}

/// Plans the pairs of a graph whose types are inferred.
///
/// # Errors
/// When a pattern is no glob or a rule to be disabled does not exist.
pub fn plan(g: &Graph, o: &QuantizeOptions) -> Result<Plan, QuantizeError> {
    plan_except(g, o, &BTreeSet::new())
}

/// As [`plan`], with some linear ops kept in float.
///
/// # Errors
/// As [`plan`].
pub(super) fn plan_except(
    g: &Graph,
    o: &QuantizeOptions,
    float: &BTreeSet<OpId>,
) -> Result<Plan, QuantizeError> {
    let unknown = o.disable_rule.iter().find(|d| !rules().any(|r| r.0.eq_ignore_ascii_case(d)));
    if let Some(name) = unknown {
        let valid = rules().map(|r| r.0).collect::<Vec<_>>().join(", ");
        return Err(QuantizeError::UnknownRule { name: name.clone(), valid });
    }
    let mut plan = Plan::default();
    anchor(g, o, float, &mut plan)?;
    if o.profile == Profile::OnnxruntimeCpu {
        results(g, &mut plan);
    }
    if o.profile == Profile::Tensorrt {
        let disabled = |id: &str| o.disable_rule.iter().any(|d| d.eq_ignore_ascii_case(id));
        for rule in EXTENSIONS.iter().filter(|r| !disabled(r.id)) {
            (rule.apply)(g, &mut plan);
        }
        let fp8 = o.payload == Payload::Fp8;
        if (fp8 && !disabled("T5")) || (o.attention && !fp8 && !disabled("T4")) {
            attention::apply(g, &mut plan, fp8);
        }
    }
    plan.scale_groups = scales::groups(&plan);
    Ok(plan)
}

/// C1. ONNX Runtime's CPU provider makes an integer kernel of a linear op only where its result is
/// quantized as well: the result, or that of the Relu or Clip behind it, gets a pair for all that
/// read it.
fn results(g: &Graph, plan: &mut Plan) {
    for site in plan.weights.clone() {
        let Some(mut v) = g.result(site.op, 0) else { continue };
        if let Some((next, 0)) = g.sole_use(v)
            && (g.op(next).is("Relu") || g.op(next).is("Clip"))
        {
            v = g.result(next, 0).unwrap_or(v);
        }
        let uses = g.uses(v);
        let operands = uses.iter().all(|(_, s)| matches!(s, Slot::Operand(_)));
        if uses.is_empty() || !operands || g.is_output(v) || !walk::may_be_f32(g, v) {
            continue;
        }
        for (op, slot) in uses {
            if let Slot::Operand(i) = slot {
                plan.read(v, op, i as usize, "C1");
            }
        }
    }
}

/// Decides on every linear op and places pairs on the inputs of those that are quantized.
fn anchor(
    g: &Graph,
    o: &QuantizeOptions,
    float: &BTreeSet<OpId>,
    plan: &mut Plan,
) -> Result<(), QuantizeError> {
    let globs = veto::Globs::new(o)?;
    let ops: Vec<Linear> = g.order().into_iter().filter_map(|op| linear(g, op)).collect();
    // MatMuls of two activations are no layers: the first and last N are counted without them.
    let layers = ops.iter().filter(|l| l.rule != "W5").count();
    let heads = if o.skip_head { walk::heads(g) } else { BTreeSet::new() };
    let mut layer = 0;
    for op in &ops {
        let case =
            veto::Case { g, op, at: (layer, layers), heads: &heads, options: o, globs: &globs };
        let accuracy = || ("accuracy", "kept in float to meet --max-drop".to_owned());
        let vetoed = veto::veto(&case).or_else(|| float.contains(&op.op).then(accuracy));
        layer += usize::from(op.rule != "W5");
        if vetoed.is_none() {
            plan.read(op.input, op.op, op.input_slot, op.rule);
            let axis = op.axis(g, o.convtranspose_axis);
            let site = WeightSite { op: op.op, slot: op.weight_slot, value: op.weight, axis };
            plan.weights.push(site);
            plan.quantized.insert(op.op);
        }
        let quantized = vetoed.is_none();
        let (rule, reason) = vetoed.unwrap_or_else(|| (op.rule, accepted(op, g, o)));
        let op_type = g.op(op.op).full_type();
        plan.decisions.push(Decision { node: g.label(op.op), op_type, quantized, rule, reason });
    }
    Ok(())
}

fn accepted(op: &Linear, g: &Graph, o: &QuantizeOptions) -> String {
    match op.axis(g, o.convtranspose_axis) {
        Some(axis) => format!("input per tensor, weight per channel of axis {axis}"),
        None => "input and weight per tensor".into(),
    }
}

impl Plan {
    /// Number of linear ops that compute in 8 bits.
    pub(super) fn quantized_count(&self) -> usize {
        self.quantized.len()
    }

    /// Drops pairs of values that `keep` refuses, and the linear ops that read them.
    pub(super) fn keep_only(&mut self, g: &Graph, keep: &dyn Fn(ValueId) -> bool) {
        let fixed = &self.fixed;
        let refused: Vec<ValueId> =
            self.pairs.keys().copied().filter(|v| !keep(*v) && !fixed.contains_key(v)).collect();
        for v in refused {
            let Some(readers) = self.pairs.remove(&v) else { continue };
            for (op, _) in readers.keys() {
                self.weights.retain(|s| s.op != *op);
                if self.quantized.remove(op) {
                    let label = g.label(*op);
                    for d in self.decisions.iter_mut().filter(|d| d.node == label) {
                        d.quantized = false;
                        d.reason = "its input was not quantized before".into();
                    }
                }
            }
        }
        let quantized = &self.quantized;
        self.pairs.values_mut().for_each(|readers| {
            readers.retain(|(op, _), rule| !rule.starts_with('W') || quantized.contains(op));
        });
        self.pairs.retain(|_, readers| !readers.is_empty());
        let pairs = &self.pairs;
        self.scale_groups.iter_mut().for_each(|s| s.retain(|v| pairs.contains_key(v)));
        self.scale_groups.retain(|s| s.len() > 1);
    }

    /// Of this plan what one linear op reads: its weight and the pair on its input.
    pub(super) fn only(&self, op: OpId) -> Plan {
        let own = |slots: &BTreeMap<(OpId, usize), &'static str>| {
            let mine = slots.iter().filter(|(s, _)| s.0 == op);
            mine.map(|(s, r)| (*s, *r)).collect::<BTreeMap<_, _>>()
        };
        let pairs = self.pairs.iter().map(|(v, slots)| (*v, own(slots)));
        Plan {
            pairs: pairs.filter(|(_, slots)| !slots.is_empty()).collect(),
            weights: self.weights.iter().filter(|w| w.op == op).copied().collect(),
            ..Plan::default()
        }
    }

    /// The linear op computes on INT8.
    pub fn is_quantized(&self, op: OpId) -> bool {
        self.quantized.contains(&op)
    }

    /// The value gets a pair.
    pub fn has_pair(&self, value: ValueId) -> bool {
        self.pairs.contains_key(&value)
    }

    /// Slot `slot` of `op` reads the pair of `value`.
    fn read(&mut self, value: ValueId, op: OpId, slot: usize, rule: &'static str) {
        self.pairs.entry(value).or_default().entry((op, slot)).or_insert(rule);
    }

    /// Every reader of the value reads its pair, and it is no graph output.
    fn all_readers_quantized(&self, g: &Graph, value: ValueId) -> bool {
        let Some(readers) = self.pairs.get(&value) else { return false };
        !g.is_output(value)
            && g.uses(value).iter().all(|(op, slot)| match slot {
                Slot::Operand(i) => readers.contains_key(&(*op, *i as usize)),
                _ => false,
            })
    }

    /// The value comes from a quantized linear op through what fuses with it.
    fn follows_quantized(&self, g: &Graph, value: ValueId) -> bool {
        let ends = |op| linear(g, op).is_some() || self.fused.contains(&op);
        walk::backbone(g, value, &ends)
            .is_some_and(|b| self.is_quantized(b.op) || self.fused.contains(&b.op))
    }
}
