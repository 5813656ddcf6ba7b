//! How much two outputs may differ by rounding alone; the rules stand in the parent's docs.

use std::collections::HashMap;

use super::OutputDiff;
use crate::ir::{DType, Graph, OpId, Tensor, ValueId};

/// What the original model says about rounding.
pub(super) struct Tolerance {
    depth: f64,
    steps: bool,
    /// Outputs whose natural scale is one.
    unit: Vec<String>,
}

impl Tolerance {
    pub(super) fn of(g: &Graph) -> Tolerance {
        let unit = g.outputs().iter().filter(|v| is_unit(g, **v));
        Tolerance {
            depth: depth(g) as f64,
            steps: has_steps(g),
            unit: unit.map(|v| g.value(*v).name().to_owned()).collect(),
        }
    }

    /// What is too different in an output, if anything. `moved` is how much the output of the
    /// original changes with its inputs, where that is known.
    pub(super) fn excess(&self, o: &OutputDiff, moved: Option<&OutputDiff>) -> Option<String> {
        const ROUNDINGS: f64 = 256.0;
        const UNSTABLE_DB: f64 = 24.0;
        if o.bit_equal {
            return None;
        }
        if o.non_finite > 0 {
            let n = o.non_finite;
            return Some(format!("{n} elements became or ceased to be NaN or infinite"));
        }
        if let Some(equal) = o.equal {
            let enough = if self.steps { 0.99 } else { 1.0 };
            return (equal < enough)
                .then(|| format!("{:.2} % of elements differ", 100.0 * (1.0 - equal)));
        }
        let epsilon = match DType::from_name(&o.dtype) {
            Some(DType::F64) => f64::EPSILON,
            Some(DType::F16) => f64::from(half::f16::EPSILON),
            Some(DType::BF16) => f64::from(half::bf16::EPSILON),
            _ => f64::from(f32::EPSILON),
        };
        let scale = if self.unit.contains(&o.name) { o.scale.max(1.0) } else { o.scale };
        let tolerance = ROUNDINGS * self.depth.max(1.0).sqrt() * epsilon * scale;
        let enough_db = if self.steps { 30.0 } else { 60.0 };
        let unstable_db = moved.and_then(|m| m.sqnr_db).map_or(f64::INFINITY, |s| s - UNSTABLE_DB);
        let sqnr = o.sqnr_db.unwrap_or(f64::INFINITY);
        let fine = o.max_abs <= tolerance || sqnr >= enough_db || sqnr >= unstable_db;
        (!fine).then(|| {
            format!(
                "differs by up to {:.3e} where {tolerance:.3e} is rounding (SQNR {sqnr:.1} dB)",
                o.max_abs
            )
        })
    }
}

/// The same numbers, each up to eight roundings off; other tensors than `float` as they are.
pub(super) fn nudged(t: &Tensor, seed: u64) -> Tensor {
    const ROUNDINGS: f32 = 8.0;
    let Some(numbers) = t.to_vec::<f32>() else { return t.clone() };
    let mut rng = fastrand::Rng::with_seed(seed);
    let near = |x: &f32| x * (1.0 + ROUNDINGS * f32::EPSILON * (2.0 * rng.f32() - 1.0));
    Tensor::of(t.dims(), &numbers.iter().map(near).collect::<Vec<f32>>())
}

/// The value comes, moved at most, from a function onto an interval of unit size, whose rounding is
/// relative to that and not to what it happens to give.
fn is_unit(g: &Graph, v: ValueId) -> bool {
    const MOVES: [&str; 9] = [
        "Cast",
        "Concat",
        "Flatten",
        "Identity",
        "Reshape",
        "Slice",
        "Squeeze",
        "Transpose",
        "Unsqueeze",
    ];
    const UNIT: [&str; 5] = ["Erf", "HardSigmoid", "Sigmoid", "Softmax", "Tanh"];
    let mut at = v;
    while let Some(op) = g.producer_op(at) {
        let kind = g.op(op).op_type.as_str();
        if UNIT.contains(&kind) {
            return true;
        }
        match g.operand(op, 0) {
            Some(before) if MOVES.contains(&kind) => at = before,
            _ => return false,
        }
    }
    false
}

/// Number of ops on the longest path.
fn depth(g: &Graph) -> usize {
    let mut at: HashMap<OpId, usize> = HashMap::new();
    let mut deepest = 0;
    for op in g.order() {
        let before = g.reads(op).filter_map(|v| at.get(&g.producer_op(v)?).copied()).max();
        let inner = g.op(op).bodies.iter().map(depth).max().unwrap_or(0);
        let here = before.unwrap_or(0) + 1 + inner;
        deepest = deepest.max(here);
        at.insert(op, here);
    }
    deepest
}

/// Some op rounds, compares or chooses: a last bit may change its result by a whole step.
fn has_steps(g: &Graph) -> bool {
    const STEPS: [&str; 20] = [
        "ArgMax",
        "ArgMin",
        "Cast",
        "Ceil",
        "DynamicQuantizeLinear",
        "Equal",
        "Floor",
        "Greater",
        "GreaterOrEqual",
        "If",
        "Less",
        "LessOrEqual",
        "Loop",
        "Mod",
        "NonMaxSuppression",
        "NonZero",
        "QuantizeLinear",
        "Round",
        "TopK",
        "Unique",
    ];
    g.ops().any(|op| {
        let node = g.op(op);
        let reads_floats =
            g.operand(op, 0).is_none_or(|v| g.value(v).dtype().is_none_or(DType::is_float));
        let makes_floats =
            g.result(op, 0).is_some_and(|v| g.value(v).dtype().is_some_and(DType::is_float));
        let step = STEPS.contains(&node.op_type.as_str())
            && reads_floats
            && !(node.is("Cast") && makes_floats);
        step || node.op_type.starts_with("QLinear") || node.bodies.iter().any(has_steps)
    })
}
