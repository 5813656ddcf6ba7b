//! Puts the planned Q/DQ pairs and INT8 weights into the graph.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::grid::Grid;
use super::options::QuantizeOptions;
use super::payload::Payload;
use super::placement::{Plan, WeightSite};
use super::ranges::Calibrated;
use super::tables::{self, Tables};
use crate::ir::layout::Layout;
use crate::ir::{DType, Graph, Op, OpId, Tensor, Type, Value, ValueId};

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
    let as_codes = plan.weights.iter().filter(|s| !o.float_weights && !is_table(g, plan, s));
    let mut coded = coded_weights(g, as_codes, o.payload, &c.weight_scales);
    let mut stored = Stored::new();
    let mut tables = Tables::new();
    for site in &plan.weights {
        if is_table(g, plan, site) {
            tables::store(g, site, &mut tables);
            continue;
        }
        let scales = c.weight_scales.get(&site.value).map(Vec::as_slice);
        let made = replace_weight(g, site, &mut stored, |g, key| match o.float_weights {
            true => float_weight(g, site, o.payload, scales, &mut zeros),
            false => Some(store_weight(g, site, o.payload, coded.remove(&key)?, &mut zeros)),
        });
        let grid = grids.get(&(site.op, 0)).filter(|_| plan.uint8);
        if let (Some(v), Some(grid)) = (made, grid) {
            store_gemm_bias(g, site.op, v, grid.scale);
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

/// A weight and its axis.
type Key = (ValueId, Option<usize>);

/// What stands in the place of weights.
pub(super) type Stored = BTreeMap<Key, ValueId>;

/// Puts what `make` makes of an op's weight in its place, for all ops that share it the same.
pub(super) fn replace_weight(
    g: &mut Graph,
    site: &WeightSite,
    stored: &mut Stored,
    make: impl FnOnce(&mut Graph, Key) -> Option<ValueId>,
) -> Option<ValueId> {
    let key = (site.value, site.axis);
    let made = match stored.get(&key) {
        Some(v) => *v,
        None => make(g, key)?,
    };
    stored.insert(key, made);
    g.set_operand(site.op, site.slot, Some(made));
    Some(made)
}

/// Its rows are stored as codes that are gathered.
fn is_table(g: &Graph, plan: &Plan, site: &WeightSite) -> bool {
    plan.uint8 && g.op(site.op).is("Gather")
}

/// A weight as codes.
pub(super) struct Coded {
    codes: Tensor,
    /// Of its channels, or a single one.
    scales: Vec<f32>,
}

impl Coded {
    /// The stored weight of an op. Its scales are `scales` or, without, `max |w| / largest code`.
    fn new(
        g: &Graph,
        site: &WeightSite,
        payload: Payload,
        scales: Option<&[f32]>,
    ) -> Option<Coded> {
        let tensor = g.const_tensor(site.value)?;
        let data = tensor.as_f32()?;
        let layout = Layout::new(tensor.dims(), site.axis);
        let own = || layout.scales(&data, payload.largest());
        let scales = scales.map_or_else(own, <[f32]>::to_vec);
        let codes = payload.tensor(tensor.dims().to_vec(), payload.encode(&data, layout, &scales));
        Some(Coded { codes, scales })
    }
}

/// These weights as codes, on all cores; `scales` has those of some.
pub(super) fn coded_weights<'a>(
    g: &Graph,
    sites: impl Iterator<Item = &'a WeightSite>,
    payload: Payload,
    scales: &BTreeMap<ValueId, Vec<f32>>,
) -> BTreeMap<Key, Coded> {
    let sites: BTreeMap<Key, &WeightSite> = sites.map(|s| ((s.value, s.axis), s)).collect();
    let coded = |(key, site): (Key, &WeightSite)| {
        let scales = scales.get(&site.value).map(Vec::as_slice);
        Some((key, Coded::new(g, site, payload, scales)?))
    };
    sites.into_par_iter().filter_map(coded).collect()
}

/// The weight as a constant of the type behind a DequantizeLinear of explicit axis.
pub(super) fn store_weight(
    g: &mut Graph,
    site: &WeightSite,
    payload: Payload,
    Coded { codes, scales }: Coded,
    zeros: &mut Zeros,
) -> ValueId {
    let name = format!("{}_q", g.value(site.value).name());
    let (dims, codes) = (codes.dims().to_vec(), g.add_const(&name, codes));
    dequantize_weight(g, site, &dims, codes, &scales, (payload, zeros))
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
    let data = tensor.as_f32()?;
    let own = || Layout::new(tensor.dims(), site.axis).scales(&data, payload.largest());
    let scales = scales.map_or_else(own, <[f32]>::to_vec);
    let name = g.value(site.value).name().to_owned();
    let dims = tensor.dims().iter().map(|&d| d.into()).collect();
    let ty = Some(Type::tensor(payload.dtype(), Some(dims)));
    let codes = g.add_value(Value::new(format!("{name}_q"), ty));
    let result = dequantize_weight(g, site, tensor.dims(), codes, &scales, (payload, zeros));
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

fn dequantize_weight(
    g: &mut Graph,
    site: &WeightSite,
    dims: &[usize],
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
    let dims = dims.iter().map(|&d| d.into()).collect();
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
