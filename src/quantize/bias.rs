//! Bias correction: rounding a weight shifts the mean of what the op computes; the bias takes the
//! shift back. Other shifts of biases (`recover::absorb`) are written likewise.
//!
//! The shift of output channel `o` is `sum over c of (Wq - W)[o, c, …] * mean(x[c])`, the means
//! taken over the calibration data. Biases stay float; an op without one gets one.

use super::placement::{Linear, WeightSite};
use super::weight::QuantizedWeight;
use crate::ir::{DType, Graph, OpId, Tensor, ValueId};

/// A bias to be written.
pub(super) struct Correction {
    op: OpId,
    slot: usize,
    bias: Tensor,
    /// Of the bias where it is a new one.
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
    let data = tensor.as_f32()?;
    let rounded = QuantizedWeight::new(&data, dims, site.axis).dequantized(dims, site.axis);
    let error: Vec<f64> =
        rounded.iter().zip(&*data).map(|(q, w)| f64::from(*q) - f64::from(*w)).collect();
    lowered(g, l, &shift(g, l, &error, means)?)
}

/// What a linear op without a bias would give for inputs that are the same everywhere, one number for
/// each channel, if these were its weights.
pub(super) fn shift(g: &Graph, l: &Linear, weights: &[f64], inputs: &[f64]) -> Option<Vec<f64>> {
    let dims = g.const_tensor(l.weight)?.dims();
    match l.rule {
        "W1" => conv_shift(weights, dims, g.op(l.op).int_or("group", 1), inputs),
        "W3" => gemm_shift(g, l, weights, dims, inputs),
        "W4" if l.weight_slot == 1 && dims.len() == 2 => matrix_shift(weights, dims, false, inputs),
        _ => None,
    }
}

/// The bias of a linear op made lower, channel by channel. `None` where it takes none, or scales it.
pub(super) fn lowered(g: &Graph, l: &Linear, by: &[f64]) -> Option<Correction> {
    let scales = ["alpha", "beta"].iter().any(|name| g.op(l.op).float_or(name, 1.0) != 1.0);
    let (op, slot) = slot(g, l).filter(|_| l.rule != "W3" || !scales)?;
    let (old, dims, bias) = match g.operand(op, slot) {
        None => (None, vec![by.len()], vec![0.0; by.len()]),
        Some(b) => {
            let t = g.const_tensor(b).filter(|t| t.dtype() == DType::F32)?;
            (Some(b), t.dims().to_vec(), t.to_f32()?)
        }
    };
    // The bias may be [n], or [1, ..., n] in an Add.
    if bias.len() != by.len() || dims.last() != Some(&by.len()) {
        return None;
    }
    let bias: Vec<f32> = bias.iter().zip(by).map(|(b, s)| (f64::from(*b) - s) as f32).collect();
    let name = match old {
        Some(old) => g.value(old).name().to_owned(),
        None => format!("{}_bias", g.value(l.weight).name()),
    };
    Some(Correction { op, slot, bias: Tensor::of(&dims, &bias), name, old })
}

/// Where the bias of a linear op is: in its third slot, for MatMul in the Add behind it.
pub(super) fn slot(g: &Graph, l: &Linear) -> Option<(OpId, usize)> {
    if l.rule != "W4" {
        return Some((l.op, 2));
    }
    let (add, slot) = g.sole_use(g.result(l.op, 0)?)?;
    let bias = 1 - slot.min(1);
    let fits = g.op(add).is("Add") && g.const_operand(add, bias).is_some();
    fits.then_some((add, bias))
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
    matrix_shift(error, dims, op.int_or("transB", 0) != 0, means)
}

/// For a weight of `[k, n]`, or `[n, k]` when it is transposed.
fn matrix_shift(
    error: &[f64],
    dims: &[usize],
    transposed: bool,
    means: &[f64],
) -> Option<Vec<f64>> {
    let (n, k) = if transposed { (dims[0], dims[1]) } else { (dims[1], dims[0]) };
    if means.len() != k || error.is_empty() {
        return None;
    }
    if transposed {
        let dot = |row: &[f64]| row.iter().zip(means).map(|(e, m)| e * m).sum();
        return Some(error.chunks_exact(k).map(dot).collect());
    }
    let mut shift = vec![0.0; n];
    for (row, mean) in error.chunks_exact(n).zip(means) {
        shift.iter_mut().zip(row).for_each(|(s, e)| *s += e * mean);
    }
    Some(shift)
}

impl Correction {
    /// Writes the bias.
    pub(super) fn apply(self, g: &mut Graph) {
        if let Some(old) = self.old.filter(|v| g.sole_use(*v).is_some()) {
            return g.set_data(old, self.bias);
        }
        let bias = g.add_const(&self.name, self.bias);
        g.set_operand(self.op, self.slot, Some(bias));
        g.remove_dead(self.old.into_iter().collect());
    }
}
