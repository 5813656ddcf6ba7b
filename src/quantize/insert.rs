//! Puts the planned Q/DQ pairs and INT8 weights into the graph.

use std::collections::BTreeMap;

use super::grid::Grid;
use super::options::QuantizeOptions;
use super::payload::Payload;
use super::placement::{Plan, WeightSite};
use super::ranges::Calibrated;
use super::tables::{self, Tables};
use crate::ir::{DType, Graph, Op, OpId, Tensor, Type, Value, ValueId};

/// Smallest scale written: the smallest positive float16, so that a scale survives a later
/// conversion. Elements of a channel that quiet vanish.
pub const MIN_SCALE: f32 = 5.960_464_5e-8;

/// A weight as INT8.
#[derive(Clone, Debug, PartialEq)]
pub struct QuantizedWeight {
    /// `round(w / scale)`, ties to even, in `[-127, 127]`.
    pub codes: Vec<i8>,
    /// One for each index of the axis, or a single one.
    pub scales: Vec<f32>,
}

impl QuantizedWeight {
    /// Quantizes `data` of the given dims symmetrically; `scale = max |w| / 127`.
    pub fn new(data: &[f32], dims: &[usize], axis: Option<usize>) -> QuantizedWeight {
        QuantizedWeight::with_levels(data, dims, axis, 127.0)
    }

    /// The same with codes in `[-levels, levels]`; `scale = max |w| / levels`.
    pub fn with_levels(
        data: &[f32],
        dims: &[usize],
        axis: Option<usize>,
        levels: f32,
    ) -> QuantizedWeight {
        let (channels, inner) = channel_layout(dims, axis);
        let mut amax = vec![0.0f32; channels];
        for_each_row(data, channels, inner, &mut |c, row| {
            amax[c] = row.iter().fold(amax[c], |m, x| m.max(x.abs()));
        });
        let scales: Vec<f32> = amax.iter().map(|a| (a / levels).max(MIN_SCALE)).collect();
        let mut codes = Vec::with_capacity(data.len());
        for_each_row(data, channels, inner, &mut |c, row| {
            let code = |x: &f32| (x / scales[c]).round_ties_even().clamp(-levels, levels) as i8;
            codes.extend(row.iter().map(code));
        });
        QuantizedWeight { codes, scales }
    }

    /// The values that the codes stand for.
    pub fn dequantized(&self, dims: &[usize], axis: Option<usize>) -> Vec<f32> {
        let (channels, inner) = channel_layout(dims, axis);
        let scale = |i: usize| self.scales[i / inner % channels];
        self.codes.iter().enumerate().map(|(i, &q)| f32::from(q) * scale(i)).collect()
    }
}

/// Channels along the axis and elements of one channel that lie side by side.
fn channel_layout(dims: &[usize], axis: Option<usize>) -> (usize, usize) {
    match axis {
        Some(a) => (dims[a], dims[a + 1..].iter().product::<usize>().max(1)),
        None => (1, dims.iter().product::<usize>().max(1)),
    }
}

/// Calls `f` with the channel and the elements of each run of elements of one channel.
pub(super) fn for_each_row(
    data: &[f32],
    channels: usize,
    inner: usize,
    f: &mut dyn FnMut(usize, &[f32]),
) {
    for (i, row) in data.chunks_exact(inner).enumerate() {
        f(i % channels, row);
    }
}

/// Inserts a pair for every planned activation, of the scale of its [`Grid`], and stores the planned
/// weights. Returns how many weights it stored.
pub(super) fn insert(g: &mut Graph, plan: &Plan, c: &Calibrated, o: &QuantizeOptions) -> usize {
    let mut zeros = Zeros::default();
    let mut grids: BTreeMap<(OpId, usize), Grid> = BTreeMap::new();
    for (&value, readers) in &plan.pairs {
        let grid = c.grid(value, o.payload);
        grids.extend(readers.keys().map(|reader| (*reader, grid)));
        let mut shared = None;
        for &(op, slot) in readers.keys() {
            let dequantized = match shared.filter(|_| !plan.dedicated) {
                Some(v) => v,
                None => insert_pair(g, value, grid, &mut zeros),
            };
            shared = Some(dequantized);
            g.set_operand(op, slot, Some(dequantized));
        }
    }
    let mut stored: BTreeMap<(ValueId, Option<usize>), ValueId> = BTreeMap::new();
    let mut tables = Tables::new();
    for site in &plan.weights {
        if plan.uint8 && g.op(site.op).is("Gather") {
            tables::store(g, site, &mut tables);
            continue;
        }
        let key = (site.value, site.axis);
        let scales = c.weight_scales.get(&site.value).map(Vec::as_slice);
        let made = match stored.get(&key) {
            Some(v) => Some(*v),
            None if o.float_weights => float_weight(g, site, o.payload, scales, &mut zeros),
            None => store_weight(g, site, o.payload, scales, &mut zeros),
        };
        if let Some(v) = made {
            stored.insert(key, v);
            g.set_operand(site.op, site.slot, Some(v));
            if let Some(grid) = grids.get(&(site.op, 0)).filter(|_| plan.uint8) {
                store_gemm_bias(g, site.op, v, grid.scale);
            }
        }
    }
    g.remove_dead(plan.weights.iter().map(|s| s.value).collect());
    stored.len() + tables.len()
}

/// Zero points: one constant for all of a length, since files of small models are full of them.
#[derive(Default)]
pub(super) struct Zeros(BTreeMap<(Option<usize>, i16, DType), ValueId>);

impl Zeros {
    /// `n` of them, or a scalar.
    fn of(&mut self, g: &mut Graph, dtype: DType, n: Option<usize>, code: i16) -> ValueId {
        let tensor = || {
            let (dims, codes) = (n.map_or(vec![], |n| vec![n]), vec![code as u8; n.unwrap_or(1)]);
            Tensor::new(dtype, dims, codes.into()).expect("invariant: codes fill the dims")
        };
        *self.0.entry((n, code, dtype)).or_insert_with(|| g.add_const("zero_point", tensor()))
    }
}

/// `value -> QuantizeLinear -> DequantizeLinear`, per tensor; returns the result. The nodes go without a
/// name: their results tell what they belong to.
fn insert_pair(g: &mut Graph, value: ValueId, grid: Grid, zeros: &mut Zeros) -> ValueId {
    let name = g.value(value).name().to_owned();
    let anchor = g.producer_op(value).or_else(|| g.uses(value).first().map(|u| u.0));
    let ty = g.value(value).ty.clone();
    let scale = g.add_const(&format!("{name}_s"), Tensor::scalar(grid.scale));
    let zero = zeros.of(g, grid.dtype, None, grid.zero_point);
    let shape = g.value(value).shape().cloned();
    let coded = Some(Type::tensor(grid.dtype, shape));
    let quantized = g.add_value(Value::new(format!("{name}_q"), coded));
    let result = g.add_value(Value::new(format!("{name}_dq"), ty));
    let op = |t: &str| Op::new(t).with("axis", 0i64);
    let scales = [Some(scale), Some(zero)];
    let operands = |v| [&[Some(v)][..], &scales[..]].concat();
    g.add_op(op("QuantizeLinear"), &operands(value), &[Some(quantized)], anchor);
    g.add_op(op("DequantizeLinear"), &operands(quantized), &[Some(result)], anchor);
    result
}

/// The weight as a constant of the type behind a DequantizeLinear of explicit axis.
/// Its scales are `scales` or, without, `max |w| / largest code`.
pub(super) fn store_weight(
    g: &mut Graph,
    site: &WeightSite,
    payload: Payload,
    scales: Option<&[f32]>,
    zeros: &mut Zeros,
) -> Option<ValueId> {
    let tensor = g.const_tensor(site.value)?.clone();
    let data = tensor.to_f32()?;
    let own = || weight_scales(&data, tensor.dims(), site.axis, payload);
    let scales = scales.map_or_else(own, <[f32]>::to_vec);
    let (channels, inner) = channel_layout(tensor.dims(), site.axis);
    let code = |(i, x): (usize, &f32)| payload.encode(x / scales[i / inner % channels]);
    let codes = data.iter().enumerate().map(code).collect();
    let codes = payload.tensor(tensor.dims().to_vec(), codes);
    let name = g.value(site.value).name().to_owned();
    let codes = g.add_const(&format!("{name}_q"), codes);
    Some(dequantize_weight(g, site, &tensor, codes, &scales, (payload, zeros)))
}

/// The weight in float with QuantizeLinear and DequantizeLinear behind it.
fn float_weight(
    g: &mut Graph,
    site: &WeightSite,
    payload: Payload,
    scales: Option<&[f32]>,
    zeros: &mut Zeros,
) -> Option<ValueId> {
    let tensor = g.const_tensor(site.value)?.clone();
    let data = tensor.to_f32()?;
    let own = || weight_scales(&data, tensor.dims(), site.axis, payload);
    let scales = scales.map_or_else(own, <[f32]>::to_vec);
    let name = g.value(site.value).name().to_owned();
    let dims = tensor.dims().iter().map(|&d| d.into()).collect();
    let ty = Some(Type::tensor(payload.dtype(), Some(dims)));
    let codes = g.add_value(Value::new(format!("{name}_q"), ty));
    let result = dequantize_weight(g, site, &tensor, codes, &scales, (payload, zeros));
    let dequantize = g.producer_op(result)?;
    let operands = [Some(site.value), g.operand(dequantize, 1), g.operand(dequantize, 2)];
    let op = Op::new("QuantizeLinear").with("axis", site.axis.map_or(0, |a| a as i64));
    g.add_op(op, &operands, &[Some(codes)], Some(site.op));
    Some(result)
}

/// The bias of a Gemm as INT32 behind DequantizeLinear, in the steps of the products of its input's
/// and its weight's codes: only then ONNX Runtime makes an integer kernel of it. (For Conv it does so
/// itself.) The bias stays as it is where a code would not fit.
fn store_gemm_bias(g: &mut Graph, op: OpId, weight: ValueId, step: f32) -> Option<()> {
    let plain = |name: &str| g.op(op).float_or(name, 1.0) == 1.0;
    (g.op(op).is("Gemm") && plain("alpha") && plain("beta")).then_some(())?;
    let old = g.operand(op, 2)?;
    let bias = g.const_tensor(old).filter(|t| t.rank() == 1 && !g.is_output(old))?.to_f32()?;
    let scales = g.const_operand(g.producer_op(weight)?, 1)?.to_f32()?;
    let scale = |i: usize| scales.get(if scales.len() == 1 { 0 } else { i }).map(|s| s * step);
    let steps: Vec<f32> = (0..bias.len()).map(scale).collect::<Option<_>>()?;
    let codes: Vec<f64> =
        bias.iter().zip(&steps).map(|(b, s)| (f64::from(*b) / f64::from(*s)).round()).collect();
    let fits = codes.iter().all(|c| c.abs() < f64::from(1 << 30));
    let wide = steps.iter().all(|s| *s >= f32::MIN_POSITIVE);
    (fits && wide).then_some(())?;
    let codes: Vec<i32> = codes.into_iter().map(|c| c as i32).collect();
    let name = g.value(old).name().to_owned();
    let stored = g.add_const(&format!("{name}_q"), Tensor::vector(&codes));
    let scale = g.add_const(&format!("{name}_s"), Tensor::vector(&steps));
    let ty = g.value(old).ty.clone();
    let result = g.add_value(Value::new(format!("{name}_dq"), ty));
    let dequantize = Op::new("DequantizeLinear").with("axis", 0i64);
    g.add_op(dequantize, &[Some(stored), Some(scale)], &[Some(result)], Some(op));
    g.set_operand(op, 2, Some(result));
    g.remove_dead(vec![old]);
    Some(())
}

/// `max |w| / largest code`, for each channel or for all.
fn weight_scales(data: &[f32], dims: &[usize], axis: Option<usize>, payload: Payload) -> Vec<f32> {
    let (channels, inner) = channel_layout(dims, axis);
    let mut amax = vec![0.0f32; channels];
    for_each_row(data, channels, inner, &mut |c, row| {
        amax[c] = row.iter().fold(amax[c], |m, x| m.max(x.abs()));
    });
    amax.iter().map(|a| (a / payload.largest()).max(MIN_SCALE)).collect()
}

fn dequantize_weight(
    g: &mut Graph,
    site: &WeightSite,
    tensor: &Tensor,
    codes: ValueId,
    scales: &[f32],
    (payload, zeros): (Payload, &mut Zeros),
) -> ValueId {
    let name = g.value(site.value).name().to_owned();
    let (scale, zero) = match site.axis {
        Some(_) => (Tensor::vector(scales), Some(scales.len())),
        None => (Tensor::scalar(scales[0]), None),
    };
    let scale = g.add_const(&format!("{name}_s"), scale);
    let zero = zeros.of(g, payload.dtype(), zero, 0);
    let dims = tensor.dims().iter().map(|&d| d.into()).collect();
    let ty = Some(Type::tensor(DType::F32, Some(dims)));
    let result = g.add_value(Value::new(format!("{name}_dq"), ty));
    let axis = site.axis.map_or(0, |a| a as i64);
    let op = Op::new("DequantizeLinear");
    add_dequantize(g, op.with("axis", axis), [codes, scale, zero], result, site.op);
    result
}

fn add_dequantize(g: &mut Graph, op: Op, from: [ValueId; 3], to: ValueId, anchor: OpId) {
    g.add_op(op, &from.map(Some), &[Some(to)], Some(anchor));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_round_ties_to_even_and_keep_the_extremes() {
        let w = QuantizedWeight::new(&[127.0, -127.0, 0.5, 1.5], &[4], None);
        assert_eq!((w.codes, w.scales), (vec![127, -127, 0, 2], vec![1.0]));
    }

    #[test]
    fn scales_run_along_the_axis() {
        let data = [1.0, 2.0, 3.0, 10.0, 20.0, 30.0];
        let rows = QuantizedWeight::new(&data, &[2, 3], Some(0));
        assert_eq!(rows.scales, [3.0 / 127.0, 30.0 / 127.0]);
        let columns = QuantizedWeight::new(&data, &[2, 3], Some(1));
        assert_eq!(columns.scales, [10.0 / 127.0, 20.0 / 127.0, 30.0 / 127.0]);
        for (a, b) in columns.dequantized(&[2, 3], Some(1)).iter().zip(data) {
            assert!((a - b).abs() <= 30.0 / 254.0);
        }
        assert_eq!(columns.codes[3..], [127, 127, 127]);
    }

    #[test]
    fn dead_channels_get_a_positive_scale() {
        let w = QuantizedWeight::new(&[0.0, 0.0, 1.0, -1.0], &[2, 2], Some(0));
        assert_eq!(w.scales, [MIN_SCALE, 1.0 / 127.0]);
        assert_eq!(w.codes, [0, 0, 127, -127]);
    }
}
