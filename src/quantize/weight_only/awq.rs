//! AWQ (Lin et al., "AWQ: Activation-aware weight quantization for on-device LLM compression and
//! acceleration", MLSys 2024): input channels with large activations get a larger share of the grid.
//!
//! Weights that read channel `k` are multiplied by `s[k] = mean |x[k]|^alpha` before they are rounded
//! and the activation by `1 / s[k]`; `alpha` is searched for, together for all ops that read the same
//! activation, so that one Mul serves them.

use super::blocks::{Blocks, Matrix};
use super::inputs::ChannelStats;
use super::{Target, WeightType, store};
use crate::ir::{Graph, Op, Tensor, Value, ValueId};

/// Quantizes the weights of all ops that read `x`.
pub(super) fn quantize(
    g: &mut Graph,
    x: ValueId,
    targets: &[&Target],
    ty: WeightType,
    block: usize,
    stats: Option<&ChannelStats>,
) {
    let weights: Option<Vec<Matrix>> =
        targets.iter().map(|t| Matrix::of(g.const_tensor(t.linear.weight)?, t.axis)).collect();
    let fits = |w: &Matrix, s: &ChannelStats| w.columns == s.magnitude.len();
    let scales = match (weights, stats) {
        (Some(w), Some(s)) if w.iter().all(|w| fits(w, s)) => best_scales(&w, s, ty, block),
        _ => None,
    };
    let Some(scales) = scales else {
        for t in targets {
            store(g, t, ty, block, &|w| Blocks::nearest(w, ty, block));
        }
        return;
    };
    let square: Vec<f32> = stats
        .map(|s| s.square.iter().zip(&scales).map(|(q, s)| q / (s * s)).collect())
        .unwrap_or_default();
    for t in targets {
        store(g, t, ty, block, &|w| {
            Blocks::weighted(&scaled(w, &scales), Some(&square), ty, block)
        });
    }
    let name = g.value(x).name().to_owned();
    let inverse: Vec<f32> = scales.iter().map(|s| 1.0 / s).collect();
    let factor = g.add_const(&format!("{name}_awq_scale"), Tensor::vector(&inverse));
    let ty = g.value(x).ty.clone();
    let y = g.add_value(Value::new(format!("{name}_awq"), ty));
    let op = Op::new("Mul").named(format!("{name}_awq_Mul"));
    g.add_op(op, &[Some(x), Some(factor)], &[Some(y)], Some(targets[0].linear.op));
    for t in targets {
        g.set_operand(t.linear.op, t.linear.input_slot, Some(y));
    }
}

fn scaled(w: &Matrix, scales: &[f32]) -> Matrix {
    let data = w.data.iter().enumerate().map(|(i, x)| x * scales[i % w.columns]).collect();
    Matrix { data, columns: w.columns }
}

/// The scales of least expected error of the outputs; `None` where no scaling helps.
fn best_scales(
    weights: &[Matrix],
    stats: &ChannelStats,
    ty: WeightType,
    block: usize,
) -> Option<Vec<f32>> {
    let error = |scales: &[f32]| -> f64 {
        let of = |w: &Matrix| -> f64 {
            let values = Blocks::nearest(&scaled(w, scales), ty, block).values(block);
            let each = values.iter().zip(&w.data).enumerate().map(|(i, (q, x))| {
                let k = i % w.columns;
                f64::from(stats.square[k]) * f64::from(q / scales[k] - x).powi(2)
            });
            each.sum()
        };
        weights.iter().map(of).sum()
    };
    let plain = error(&vec![1.0; stats.magnitude.len()]);
    let candidates = (1..=10).map(|step| {
        let alpha = step as f32 / 10.0;
        let mut scales: Vec<f32> =
            stats.magnitude.iter().map(|m| m.max(1e-4).powf(alpha)).collect();
        let (lo, hi) = scales.iter().fold((f32::MAX, 0f32), |(l, h), s| (l.min(*s), h.max(*s)));
        let middle = (lo * hi).sqrt();
        scales.iter_mut().for_each(|s| *s /= middle);
        (error(&scales), scales)
    });
    let best = candidates.min_by(|a, b| a.0.total_cmp(&b.0))?;
    (best.0 < plain).then_some(best.1)
}
