//! Bias correction: rounding a weight shifts the mean of what the op computes; the bias takes the
//! shift back.
//!
//! The shift of output channel `o` is `sum over c of (Wq - W)[o, c, …] * mean(x[c])`, the means
//! taken over the calibration data. Biases stay float; an op without one gets one.

use super::insert::QuantizedWeight;
use super::placement::{Linear, WeightSite};
use crate::ir::{Graph, OpId, Tensor, ValueId};

/// A bias to be written.
pub(super) struct Correction {
    op: OpId,
    slot: usize,
    bias: Vec<f32>,
    name: String,
    old: Option<ValueId>,
}

/// The corrected bias of a linear op, from the means of its input's channels. `None` where the op
/// takes no bias or the means do not fit.
pub(super) fn correction(
    g: &Graph,
    l: &Linear,
    site: &WeightSite,
    means: &[f64],
) -> Option<Correction> {
    let tensor = g.const_tensor(site.value)?;
    let dims = tensor.dims();
    let data = tensor.to_f32()?;
    let rounded = QuantizedWeight::new(&data, dims, site.axis).dequantized(dims, site.axis);
    let error: Vec<f64> =
        rounded.iter().zip(&data).map(|(q, w)| f64::from(*q) - f64::from(*w)).collect();
    let shift = match l.rule {
        "W1" => conv_shift(&error, dims, g.op(l.op).int_or("group", 1), means)?,
        "W3" => gemm_shift(g, l, &error, dims, means)?,
        "W4" => return None,
        _ => return None,
    };
    let (old, bias) = match g.operand(l.op, 2) {
        None => (None, vec![0.0; shift.len()]),
        Some(b) => (Some(b), g.const_tensor(b)?.to_f32()?),
    };
    if bias.len() != shift.len() || old.is_some_and(|b| g.value(b).rank() != Some(1)) {
        return None;
    }
    let bias = bias.iter().zip(&shift).map(|(b, s)| (f64::from(*b) - s) as f32).collect();
    let name = g.value(old.unwrap_or(site.value)).name().to_owned() + "_corrected";
    Some(Correction { op: l.op, slot: 2, bias, name, old })
}

fn conv_shift(error: &[f64], dims: &[usize], group: i64, means: &[f64]) -> Option<Vec<f64>> {
    let (out, each) = (dims[0], dims[1]);
    let group = usize::try_from(group).ok().filter(|g| *g > 0 && out % g == 0)?;
    if means.len() != each * group {
        return None;
    }
    let kernel: usize = dims[2..].iter().product();
    let shift = |o: usize| {
        let first = o / (out / group) * each;
        let taps = error[o * each * kernel..(o + 1) * each * kernel].chunks_exact(kernel);
        taps.zip(&means[first..]).map(|(t, m)| t.iter().sum::<f64>() * m).sum()
    };
    Some((0..out).map(shift).collect())
}

fn gemm_shift(
    g: &Graph,
    l: &Linear,
    error: &[f64],
    dims: &[usize],
    means: &[f64],
) -> Option<Vec<f64>> {
    let op = g.op(l.op);
    if op.int_or("transA", 0) != 0
        || op.float_or("alpha", 1.0) != 1.0
        || op.float_or("beta", 1.0) != 1.0
    {
        return None;
    }
    let transposed = op.int_or("transB", 0) != 0;
    let (n, k) = if transposed { (dims[0], dims[1]) } else { (dims[1], dims[0]) };
    if means.len() != k {
        return None;
    }
    let at = |i: usize, j: usize| if transposed { error[i * k + j] } else { error[j * n + i] };
    Some((0..n).map(|i| (0..k).map(|j| at(i, j) * means[j]).sum()).collect())
}

impl Correction {
    /// Writes the bias.
    pub(super) fn apply(self, g: &mut Graph) {
        let bias = g.add_const(&self.name, Tensor::vector(&self.bias));
        g.set_operand(self.op, self.slot, Some(bias));
        g.remove_dead(self.old.into_iter().collect());
    }
}
