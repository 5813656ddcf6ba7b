//! Which ops compute in 16 bits.

use std::collections::{BTreeMap, BTreeSet};

use super::constants::{self, F16_MAX};
use super::types::{self, Takes};
use super::{Cx, Ranges};
use crate::ir::{DType, Graph, OpId, ValueId};

/// What was decided for one graph. Ops that touch no float32 are in neither set.
#[derive(Default)]
pub(super) struct Plan {
    /// Ops that compute in 16 bits.
    pub half: BTreeSet<OpId>,
    /// Ops that stay, with rule and reason.
    pub kept: BTreeMap<OpId, (&'static str, String)>,
}

/// The graph does work that is worth a conversion.
pub(super) fn has_heavy_op(g: &Graph) -> bool {
    let mut found = false;
    crate::ir::for_each_graph(g, &mut |g| found |= g.ops().any(|op| is_heavy(g, op)));
    found
}

/// Most of the time of a network goes into these.
pub(super) fn is_heavy(g: &Graph, op: OpId) -> bool {
    const HEAVY: [&str; 11] = [
        "Attention",
        "Conv",
        "ConvTranspose",
        "DeformConv",
        "Einsum",
        "GRU",
        "Gemm",
        "LSTM",
        "LinearAttention",
        "MatMul",
        "RNN",
    ];
    let node = g.op(op);
    node.domain.is_empty() && HEAVY.contains(&node.op_type.as_str())
}

/// The op reads its operand whatever its type, and its result does not depend on the values.
pub(super) fn reads_any_type(g: &Graph, op: OpId) -> bool {
    g.op(op).is("Shape") || g.op(op).is("Size")
}

/// The value is float32.
pub(super) fn is_f32(g: &Graph, v: ValueId) -> bool {
    g.value(v).dtype() == Some(DType::F32)
}

/// Whether operand `slot` of a converted op is read in 16 bits.
pub(super) fn reads_half(g: &Graph, op: OpId, slot: usize, cx: &Cx) -> bool {
    let row = types::row(&g.op(op).op_type, cx.opset);
    row.is_some_and(|r| r.operand(slot, cx.half) == Takes::Half)
}

/// Whether result `slot` of a converted op is made in 16 bits.
pub(super) fn makes_half(g: &Graph, op: OpId, slot: usize, cx: &Cx) -> bool {
    let row = types::row(&g.op(op).op_type, cx.opset);
    row.is_some_and(|r| r.result(slot, cx.half) == Takes::Half)
}

pub(super) fn decide(g: &Graph, cx: &Cx, ranges: Option<&Ranges>) -> Plan {
    let mut plan = Plan::default();
    let exact = exact_integers(g);
    for op in g.order() {
        let touches = |v: &Option<ValueId>| v.is_some_and(|v| is_f32(g, v));
        let (operands, results) = (g.operands(op), g.results(op));
        if !operands.iter().chain(&results).any(touches) || reads_any_type(g, op) {
            continue;
        }
        let case = Case { g, op, cx, ranges, operands: &operands, results: &results };
        let vetoed = case
            .types()
            .or_else(|| case.asked())
            .or_else(|| exact.contains(&op).then(|| keep("F2", "it carries exact integers")))
            .or_else(|| case.scatters())
            .or_else(|| case.constants())
            .or_else(|| case.magnitudes())
            .or_else(|| case.sums());
        match vetoed {
            Some(why) => _ = plan.kept.insert(op, why),
            None => _ = plan.half.insert(op),
        }
    }
    plan
}

fn keep(rule: &'static str, reason: impl Into<String>) -> (&'static str, String) {
    (rule, reason.into())
}

type Veto = Option<(&'static str, String)>;

struct Case<'a> {
    g: &'a Graph,
    op: OpId,
    cx: &'a Cx<'a>,
    ranges: Option<&'a Ranges>,
    operands: &'a [Option<ValueId>],
    results: &'a [Option<ValueId>],
}

impl Case<'_> {
    /// F1, F3, F4: the operator takes the type.
    fn types(&self) -> Veto {
        let node = self.g.op(self.op);
        if !node.bodies.is_empty() {
            return Some(keep("F4", "its subgraphs are converted inside"));
        }
        if !node.domain.is_empty() || node.has_ref_attrs() {
            return Some(keep("F1", "the operator is not known"));
        }
        let values = self.operands.iter().chain(self.results).flatten();
        if values.into_iter().any(|v| self.g.value(*v).dtype().is_none()) {
            return Some(keep("F1", "a type is not known"));
        }
        let Some(row) = types::row(&node.op_type, self.cx.opset) else {
            return Some(keep("F1", "the operator is not known"));
        };
        let attr_types = [
            "Bernoulli",
            "BlackmanWindow",
            "EyeLike",
            "HammingWindow",
            "HannWindow",
            "MelWeightMatrix",
            "RandomNormal",
            "RandomNormalLike",
            "RandomUniform",
            "RandomUniformLike",
            "STFT",
            "Range",
            "CumSum",
            "CumProd",
        ];
        if attr_types.contains(&node.op_type.as_str()) {
            return Some(keep("F1", "the operator stays in float32"));
        }
        let half = self.cx.half;
        let slots = |values: &[Option<ValueId>], takes: &dyn Fn(usize) -> Takes| -> Vec<Takes> {
            let float = |v: &Option<ValueId>| v.is_some_and(|v| is_f32(self.g, v));
            let all = values.iter().enumerate().filter(|(_, v)| float(v));
            all.map(|(i, _)| takes(i)).collect()
        };
        let reads = slots(self.operands, &|i| row.operand(i, half));
        let makes = slots(self.results, &|i| row.result(i, half));
        let all = || reads.iter().chain(&makes);
        // The statistics of LayerNormalization stay float32 whatever it normalizes.
        let stays = |t: &&Takes| **t == Takes::FloatOnly;
        let fixed = makes.iter().any(|t| stays(&t)) && !node.is("LayerNormalization");
        if all().any(|t| matches!(t, Takes::Unknown | Takes::NoFloat))
            || fixed
            || !all().any(|t| *t == Takes::Half)
        {
            let newer = half == DType::BF16
                && types::needs(&node.op_type, self.cx.opset, half) > self.cx.opset;
            let rule = if newer { "F3" } else { "F1" };
            return Some(keep(rule, format!("{} takes no {half}", node.op_type)));
        }
        None
    }

    /// F2: the user says so.
    fn asked(&self) -> Veto {
        let node = self.g.op(self.op);
        let matches = [&node.name, &node.op_type].iter().any(|n| self.cx.keep.is_match(n.as_str()));
        matches.then(|| keep("F2", "matches a pattern of --keep-float"))
    }

    /// F6: constants fit.
    fn constants(&self) -> Veto {
        let weights = self.g.op(self.op).is("DequantizeLinear");
        if !weights
            && crate::ops::is_shape_arithmetic(
                self.g,
                self.results.iter().flatten().next().copied()?,
            )
        {
            return Some(keep("F2", "it computes shapes"));
        }
        for v in self.operands.iter().flatten().filter(|v| is_f32(self.g, **v)) {
            let Some(data) = self.g.const_tensor(*v).and_then(crate::ir::Tensor::to_f32) else {
                continue;
            };
            let loss = constants::loss(&data, self.cx.half);
            let name = self.g.value(*v).name();
            if loss.overflows > 0 {
                let n = loss.overflows;
                return Some(keep("F6", format!("{n} elements of {name:?} overflow")));
            }
            if loss.vanishes == data.len() && !data.is_empty() {
                return Some(keep("F6", format!("{name:?} vanishes")));
            }
        }
        None
    }

    /// Largest magnitude seen of a value; `None` where nothing was seen.
    fn amax(&self, v: ValueId) -> Option<f32> {
        let range = self.ranges?.get(&v).filter(|r| r.count > 0)?;
        Some(range.amax())
    }

    /// F2: what was seen fits.
    fn magnitudes(&self) -> Veto {
        let limit = self.cx.options.max_activation;
        let smallest_normal = half::f16::MIN_POSITIVE.to_f32();
        for v in self.operands.iter().chain(self.results).flatten() {
            let Some(amax) = self.amax(*v) else { continue };
            let name = self.g.value(*v).name();
            if amax > limit && !self.is_mask(*v, amax) {
                return Some(keep("F2", format!("{name:?} reaches {amax:.4e}")));
            }
            if amax > 0.0 && amax < smallest_normal {
                return Some(keep("F2", format!("{name:?} does not exceed {amax:.4e}")));
            }
        }
        None
    }

    /// Large numbers that only mean "not this one" in front of Softmax.
    fn is_mask(&self, v: ValueId, amax: f32) -> bool {
        let range = self.ranges.and_then(|r| r.get(&v));
        amax <= F16_MAX && range.is_some_and(|r| r.max <= self.cx.options.max_activation)
    }

    /// F2: a sum over an unknown number of updates, as in graph networks, loses what each one adds;
    /// ONNX Runtime has no kernel for it in 16 bits either.
    fn scatters(&self) -> Veto {
        let reduction = self.g.op(self.op).str("reduction").unwrap_or("none");
        let scatters = self.g.op(self.op).op_type.starts_with("Scatter");
        (scatters && reduction != "none")
            .then(|| keep("F2", format!("it combines any number of updates ({reduction})")))
    }

    /// F2: sums stay in range on the way, even when all terms are as large as the largest.
    fn sums(&self) -> Veto {
        let node = self.g.op(self.op);
        let t = node.op_type.as_str();
        let sums = t.starts_with("Reduce") && !["ReduceMax", "ReduceMin"].contains(&t);
        if !sums && t != "GlobalAveragePool" {
            return None;
        }
        let x = self.operands.first().copied().flatten()?;
        let y = self.results.first().copied().flatten()?;
        let amax = f64::from(self.amax(x)?);
        let count = |v: ValueId| -> Option<f64> {
            Some(self.g.value(v).sizes()?.iter().product::<usize>() as f64)
        };
        let terms = (count(x)? / count(y)?.max(1.0)).max(1.0);
        let each = if ["ReduceSumSquare", "ReduceL2"].contains(&t) { amax * amax } else { amax };
        let worst = terms * each;
        (worst > f64::from(F16_MAX))
            .then(|| keep("F2", format!("{terms:.0} terms of up to {each:.4e} could overflow")))
    }
}

/// Ops between a float and the integer that it is turned into: 16 bits hold no integers beyond 2048.
fn exact_integers(g: &Graph) -> BTreeSet<OpId> {
    let mut found = BTreeSet::new();
    for op in g.order().into_iter().rev() {
        let node = g.op(op);
        let to_int = node.is("Cast")
            && g.operand(op, 0).is_some_and(|v| is_f32(g, v))
            && g.result(op, 0)
                .and_then(|v| g.value(v).dtype())
                .is_some_and(|d| d.is_int() || d == DType::F64);
        if to_int {
            found.insert(op);
            trace(g, op, &mut found);
        }
    }
    found
}

fn trace(g: &Graph, from: OpId, found: &mut BTreeSet<OpId>) {
    const POINTWISE: [&str; 14] = [
        "Add",
        "Sub",
        "Mul",
        "Div",
        "Floor",
        "Ceil",
        "Round",
        "Mod",
        "Cast",
        "Min",
        "Max",
        "Clip",
        "Unsqueeze",
        "Reshape",
    ];
    let mut stack = vec![from];
    while let Some(op) = stack.pop() {
        for v in g.operands(op).into_iter().flatten().filter(|v| is_f32(g, *v)) {
            let Some(before) = g.producer_op(v) else { continue };
            let node = g.op(before);
            let pointwise = node.domain.is_empty() && POINTWISE.contains(&node.op_type.as_str());
            if pointwise && found.insert(before) {
                stack.push(before);
            }
        }
    }
}
