//! Statistics of weights, which read them.

use rayon::prelude::*;
use serde::Serialize;

use super::stored::{constant, is_param};
use crate::ir::{DType, Graph, Model, Slot, Tensor, ValueId, for_each_graph};

/// Bins of [`WeightStats::histogram`].
pub const BINS: usize = 32;

/// What the elements of a stored tensor are like. Quantized weights count as the integers that they
/// are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WeightStats {
    /// Name of the value.
    pub name: String,
    /// Element type.
    #[serde(rename = "type")]
    pub dtype: &'static str,
    /// Sizes of its axes.
    pub dims: Vec<usize>,
    /// Smallest and largest finite element; none where there is no finite one.
    pub range: Option<(f64, f64)>,
    /// Mean of the finite elements.
    pub mean: f64,
    /// Their standard deviation.
    pub std: f64,
    /// Number of elements that are zero.
    pub zeros: usize,
    /// Number of elements that are NaN or infinite.
    pub non_finite: usize,
    /// How many of the blocks of four weights along the axis that a linear op sums over hold two
    /// zeros or more, as TensorRT's sparse kernels need: those and all. Only where there is such
    /// an axis of a multiple of four elements.
    pub two_four: Option<(usize, usize)>,
    /// Counts in equal bins from the smallest to the largest element.
    pub histogram: Vec<u64>,
}

impl WeightStats {
    /// Number of elements.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// There are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Every block of four has two zeros or more.
    pub fn is_two_four(&self) -> bool {
        self.two_four.is_some_and(|(ok, all)| ok == all)
    }
}

/// Statistics of all weights, those of subgraphs included: what `params` counts, in no order that
/// means anything, but always the same.
pub fn weights(model: &Model) -> Vec<WeightStats> {
    let mut all = Vec::new();
    for_each_graph(&model.graph, &mut |g| {
        all.extend(g.values().filter(|v| is_param(g, *v)).map(|v| (g, v)));
    });
    all.par_iter().filter_map(|(g, v)| of_value(g, *v)).collect()
}

/// Share of zeros in weights.
pub fn sparsity(weights: &[WeightStats]) -> Option<f64> {
    let all: usize = weights.iter().map(WeightStats::len).sum();
    let zeros: usize = weights.iter().map(|w| w.zeros).sum();
    (all > 0).then(|| zeros as f64 / all as f64)
}

/// Some weight has two zeros in every block of four, so that TensorRT's sparse kernels can be tried.
pub fn has_two_four(g: &Graph) -> bool {
    let fits = |v: ValueId| {
        let (t, axis) = constant(g, v).zip(summed_axis(g, v))?;
        let (dims, raw) = (t.dims(), t.raw()?);
        let (n, width) = (dims[axis], t.dtype().bits() / 8);
        let inner: usize = dims[axis + 1..].iter().product();
        if n == 0 || !n.is_multiple_of(4) || inner * t.len() == 0 || width == 0 {
            return None;
        }
        let is_zero = |i: usize| raw[i * width..][..width].iter().all(|b| *b == 0);
        let block = |b: usize| {
            let first = b / inner * 4 * inner + b % inner;
            (0..4).filter(|k| is_zero(first + k * inner)).count() >= 2
        };
        let found = (0..t.len() / 4).all(block) && (0..t.len()).any(|i| !is_zero(i));
        found.then_some(())
    };
    g.values().any(|v| is_param(g, v) && fits(v).is_some())
}

/// Statistics of a stored value; `None` where there is none, or its elements are no numbers.
pub fn of_value(g: &Graph, v: ValueId) -> Option<WeightStats> {
    let t = constant(g, v)?;
    let mut stats = of_tensor(g.value(v).name(), t)?;
    stats.two_four = summed_axis(g, v).and_then(|axis| two_four(t, axis));
    Some(stats)
}

fn of_tensor(name: &str, t: &Tensor) -> Option<WeightStats> {
    let (mut lo, mut hi) = (f64::INFINITY, f64::NEG_INFINITY);
    let (mut n, mut sum, mut squares, mut zeros) = (0usize, 0.0, 0.0, 0);
    for_each_element(t, &mut |x| {
        if x.is_finite() {
            (lo, hi) = (lo.min(x), hi.max(x));
            (n, sum, squares) = (n + 1, sum + x, squares + x * x);
            zeros += usize::from(x == 0.0);
        }
    })?;
    let mut histogram = vec![0u64; BINS];
    let per_bin = BINS as f64 / (hi - lo);
    let per_bin = if per_bin.is_finite() { per_bin } else { 0.0 };
    for_each_element(t, &mut |x| {
        if x.is_finite() {
            histogram[(((x - lo) * per_bin) as usize).min(BINS - 1)] += 1;
        }
    })?;
    let mean = sum / n.max(1) as f64;
    Some(WeightStats {
        name: name.to_owned(),
        dtype: t.dtype().name(),
        dims: t.dims().to_vec(),
        range: (n > 0).then_some((lo, hi)),
        mean,
        std: (squares / n.max(1) as f64 - mean * mean).max(0.0).sqrt(),
        zeros,
        non_finite: t.len() - n,
        two_four: None,
        histogram,
    })
}

/// Calls `f` with every element of a dense tensor of numbers.
fn for_each_element(t: &Tensor, f: &mut dyn FnMut(f64)) -> Option<()> {
    let raw = t.raw()?;
    match t.dtype() {
        DType::F32 => {
            raw.chunks_exact(4).for_each(|b| f(f64::from(bytemuck::pod_read_unaligned::<f32>(b))));
        }
        DType::I8 => raw.iter().for_each(|b| f(f64::from(*b as i8))),
        _ => t.to_f64()?.into_iter().for_each(f),
    }
    Some(())
}

/// The axis of a weight that a linear op sums over; behind a `DequantizeLinear` too.
fn summed_axis(g: &Graph, v: ValueId) -> Option<usize> {
    let rank = constant(g, v)?.rank();
    axis_of_readers(g, v, rank).filter(|axis| *axis < rank)
}

fn axis_of_readers(g: &Graph, v: ValueId, rank: usize) -> Option<usize> {
    g.uses(v).into_iter().find_map(|(op, slot)| {
        let Slot::Operand(slot) = slot else { return None };
        let node = g.op(op);
        match (node.op_type.as_str(), slot) {
            _ if !node.domain.is_empty() => None,
            ("Conv" | "ConvInteger", 1) | ("QLinearConv", 3) => Some(1),
            ("ConvTranspose", 1) => Some(0),
            ("Gemm", 1) => Some(usize::from(node.int_or("transB", 0) != 0)),
            ("MatMul" | "MatMulInteger", 1) | ("QLinearMatMul", 3) => rank.checked_sub(2),
            ("DequantizeLinear", 0) => axis_of_readers(g, g.result(op, 0)?, rank),
            _ => None,
        }
    })
}

/// Blocks of four along an axis with two zeros or more, and all blocks.
fn two_four(t: &Tensor, axis: usize) -> Option<(usize, usize)> {
    let dims = t.dims();
    let n = dims[axis];
    let inner: usize = dims[axis + 1..].iter().product();
    let outer: usize = dims[..axis].iter().product();
    if n == 0 || !n.is_multiple_of(4) || inner * outer == 0 {
        return None;
    }
    let mut is_zero = Vec::with_capacity(t.len());
    for_each_element(t, &mut |x| is_zero.push(x == 0.0))?;
    let mut conforming = 0;
    for o in 0..outer {
        for block in 0..n / 4 {
            for i in 0..inner {
                let at = |k: usize| is_zero[(o * n + block * 4 + k) * inner + i];
                conforming += usize::from((0..4).filter(|k| at(*k)).count() >= 2);
            }
        }
    }
    Some((conforming, outer * n / 4 * inner))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::text;

    fn model(body: &str) -> Model {
        let head = "<ir_version: 9, opset_import: [\"\" : 17]>";
        text::parse(&format!("{head}\n{body}")).expect("the text parses")
    }

    #[test]
    fn statistics_leave_out_what_is_not_finite() {
        let t = Tensor::vector(&[1.0f32, 0.0, -3.0, f32::NAN, f32::INFINITY, 2.0]);
        let s = of_tensor("w", &t).expect("numbers");
        assert_eq!((s.range, s.mean, s.zeros, s.non_finite), (Some((-3.0, 2.0)), 0.0, 1, 2));
        assert!((s.std - 3.5f64.sqrt()).abs() < 1e-12);
        assert_eq!((s.histogram[0], s.histogram[BINS - 1]), (1, 1));
        assert_eq!(s.histogram.iter().sum::<u64>(), 4);
        let equal = of_tensor("w", &Tensor::vector(&[5i8, 5])).expect("numbers");
        assert_eq!((equal.std, equal.histogram[0]), (0.0, 2));
        assert_eq!(of_tensor("w", &Tensor::vector::<f32>(&[])).and_then(|s| s.range), None);
    }

    #[test]
    fn blocks_of_four_run_along_the_axis_that_is_summed_over() {
        let m = model(
            "m (float[1,4] x) => (float[1,2] y, float[1,4] z)
            <float[4,2] w = {1, 1, 0, 1, 0, 0, 2, 0}, float[4,4] v = {1, 0, 0, 1, 1, 1, 0, 1,
             0, 0, 0, 0, 1, 0, 0, 0}> {
                y = MatMul (x, w)
                z = Gemm <transB = 1> (x, v)
            }",
        );
        let all = weights(&m);
        let by_name = |n: &str| all.iter().find(|w| w.name == n).expect("a weight");
        assert_eq!(by_name("w").two_four, Some((2, 2)));
        assert!(by_name("w").is_two_four());
        assert_eq!(by_name("v").two_four, Some((3, 4)));
        assert_eq!(sparsity(&all), Some(14.0 / 24.0));
    }
}
