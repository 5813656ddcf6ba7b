//! Constants in 16 bits: what overflows, what vanishes.

use std::collections::BTreeMap;

use super::{Observation, PrecisionError, PrecisionReport};
use crate::ir::{AttrValue, DType, Graph, Model, OpId, Tensor, ValueId, for_each_graph};
use crate::pass::{Semantics, visit_graphs};
use crate::verify;

/// Largest finite float16.
pub(super) const F16_MAX: f32 = 65504.0;

/// What stands for minus infinity in masks: half of the range, so that adding to it stays finite.
const MASK: f32 = 32752.0;

/// Bytes of all constants, subgraphs included.
pub(super) fn bytes(graph: &Graph) -> usize {
    let mut n = 0;
    for_each_graph(graph, &mut |g| {
        let own = g.values().filter(|v| !g.is_capture(*v));
        n += own.filter_map(|v| g.initializer(v)).map(Tensor::byte_len).sum::<usize>();
    });
    n
}

/// What becomes of the elements of a constant.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Loss {
    /// Finite elements that become infinite.
    pub overflows: usize,
    /// Elements that become zero.
    pub vanishes: usize,
}

/// What `half` loses of the elements.
pub(super) fn loss(data: &[f32], half: DType) -> Loss {
    let round = |x: f32| match half {
        DType::BF16 => half::bf16::from_f32(x).to_f32(),
        _ => half::f16::from_f32(x).to_f32(),
    };
    let mut loss = Loss::default();
    for &x in data {
        let y = round(x);
        loss.overflows += usize::from(x.is_finite() && y.is_infinite());
        loss.vanishes += usize::from(x != 0.0 && y == 0.0);
    }
    loss
}

/// Limits constants that stand for minus infinity or no bound (masks, bounds of Clip) to what
/// float16 holds, where the outputs on the samples stay the same for all practical purposes.
pub(super) fn limit_masks(
    m: &mut Model,
    observation: Option<&Observation>,
    report: &mut PrecisionReport,
) -> Result<(), PrecisionError> {
    let mut limited = m.clone();
    let mut names = Vec::new();
    visit_graphs(&mut limited.graph, &mut |g| limit_graph(g, &mut names));
    if names.is_empty() {
        return Ok(());
    }
    if let Some(seen) = observation.filter(|o| !o.data.is_empty()) {
        const SAMPLES: usize = 2;
        const SAME_DB: f64 = 80.0;
        let found = verify::compare(
            m,
            &limited,
            seen.engine,
            seen.data,
            SAMPLES,
            Semantics::Lossy,
            &|_| {},
        );
        if found.min_sqnr_db() < SAME_DB {
            report.warnings.push(format!(
                "{} constants are beyond float16 and their size matters: what they meet stays in \
                 float32",
                names.len()
            ));
            return Ok(());
        }
    }
    report.limited = names;
    *m = limited;
    Ok(())
}

fn limit_graph(g: &mut Graph, names: &mut Vec<String>) {
    let mut limits: BTreeMap<ValueId, f32> = BTreeMap::new();
    for op in g.order() {
        let limit = match g.op(op).op_type.as_str() {
            _ if !g.op(op).domain.is_empty() => continue,
            "Clip" | "Max" | "Min" => F16_MAX,
            "Where" | "Add" | "Sub" | "Mul" | "Pad" | "ScatterND" | "Expand" => MASK,
            "ConstantOfShape" => {
                limit_fill(g, op, names);
                continue;
            }
            _ => continue,
        };
        for v in g.operands(op).into_iter().flatten() {
            let known = limits.entry(v).or_insert(limit);
            *known = known.min(limit);
        }
    }
    for (v, limit) in limits {
        if g.is_capture(v) || !g.is_const(v) {
            continue;
        }
        if let Some(t) = g.const_tensor(v).and_then(|t| limit_tensor(t, limit)) {
            names.push(g.value(v).name().to_owned());
            g.set_data(v, t);
        }
    }
}

/// The tensor within the limit; `None` where nothing is beyond.
fn limit_tensor(t: &Tensor, limit: f32) -> Option<Tensor> {
    let data = (t.dtype() == DType::F32).then(|| t.to_f32())??;
    let beyond = |x: &f32| x.is_finite() && x.abs() > F16_MAX;
    if !data.iter().any(beyond) {
        return None;
    }
    let within = |x: &f32| if beyond(x) { limit.copysign(*x) } else { *x };
    Some(Tensor::of(t.dims(), &data.iter().map(within).collect::<Vec<f32>>()))
}

fn limit_fill(g: &mut Graph, op: OpId, names: &mut Vec<String>) {
    let fill = g.op(op).tensor("value").and_then(|t| limit_tensor(t, MASK));
    if let Some(t) = fill {
        names.push(g.label(op));
        g.edit_op(op).set_attr("value", AttrValue::Tensor(t));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn losses() {
        let data = [1.0, 0.0, 1e-9, 1e5, f32::INFINITY, -7e4];
        assert_eq!(loss(&data, DType::F16), Loss { overflows: 2, vanishes: 1 });
        assert_eq!(loss(&data, DType::BF16), Loss::default());
    }
}
