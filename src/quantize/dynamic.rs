//! Dynamic quantization for CPU runtimes: weights are stored as INT8, activations are quantized by
//! their own range in each run.
//!
//! ```text
//! y = MatMul(x, w)      xq, xs, xz = DynamicQuantizeLinear(x)
//!                       i = MatMulInteger(xq, wq, xz)
//!                       y = Mul(Cast(i), Mul(xs, ws))
//! ```
//! MatMul and Gemm by default; Conv where a pattern of `include` names it, since ConvInteger is slow.

use std::collections::BTreeMap;

use super::options::{Profile, QuantizeOptions};
use super::placement::{Decision, Linear, linear, plan};
use super::weight::QuantizedWeight;
use super::{QuantizeError, QuantizeReport, cost, raise_to};
use crate::ir::{DType, Graph, Model, Op, OpId, Tensor, Type, Value, ValueId};
use crate::recover::linalg::transpose;

/// Oldest operator set with DynamicQuantizeLinear.
const MIN_OPSET: i64 = 11;

/// Quantizes the linear ops of the main graph in place.
///
/// # Errors
/// For profile `tensorrt`, whose parser has none of these operators.
pub(super) fn quantize(
    m: &mut Model,
    o: &QuantizeOptions,
) -> Result<QuantizeReport, QuantizeError> {
    if o.profile != Profile::OnnxruntimeCpu {
        return Err(QuantizeError::DynamicForTensorRt);
    }
    raise_to(m, MIN_OPSET)?;
    let bytes_before = cost::constant_bytes(&m.graph);
    let mut plan = plan(&m.graph, &QuantizeOptions { profile: Profile::Minimal, ..o.clone() })?;
    let g = &mut m.graph;
    let mut inputs = BTreeMap::new();
    let mut done = 0;
    let mut decisions = std::mem::take(&mut plan.decisions);
    for site in &plan.weights {
        let label = g.label(site.op);
        let Some(l) = linear(g, site.op) else { continue };
        let outcome = form(g, &l, o).map(|form| rewrite(g, &l, &form, o.reduce_range, &mut inputs));
        let why = match outcome {
            Ok(()) => {
                done += 1;
                "weights per channel, activations by their range in each run".to_owned()
            }
            Err(why) => why.to_owned(),
        };
        if let Some(d) = decisions.iter_mut().find(|d| d.node == label) {
            *d = Decision { quantized: outcome_is(&why), reason: why, ..d.clone() };
        }
    }
    g.remove_dead(plan.weights.iter().map(|s| s.value).collect());
    Ok(QuantizeReport {
        weighted_ops: decisions.iter().filter(|d| d.weighted || d.quantized).count(),
        ops: decisions,
        quantized_ops: done,
        quantized_weights: done,
        bytes_before,
        bytes_after: cost::constant_bytes(&m.graph),
        ..QuantizeReport::default()
    })
}

fn outcome_is(why: &str) -> bool {
    why.starts_with("weights per channel")
}

/// A linear op ready to be rewritten.
struct Form {
    integer: Op,
    /// The weight as the integer operator reads it, and the axis of its scales.
    weight: Vec<f32>,
    dims: Vec<usize>,
    axis: usize,
    /// Dims that let scales and bias broadcast over the result.
    broadcast: Vec<usize>,
    bias: Option<ValueId>,
}

fn form(g: &Graph, l: &Linear, o: &QuantizeOptions) -> Result<Form, &'static str> {
    let node = g.op(l.op);
    let t = g.const_tensor(l.weight).ok_or("its weight is not stored")?;
    let weight = t.to_f32().ok_or("its weight is not float")?;
    let dims = t.dims().to_vec();
    let integer = |t: &str| Op::new(t).named(format!("{}_quantized", node.name));
    match l.rule {
        "W4" if l.weight_slot == 1 && dims.len() == 2 => {
            let n = dims[1];
            let integer = integer("MatMulInteger");
            Ok(Form { integer, weight, dims, axis: 1, broadcast: vec![n], bias: None })
        }
        "W3" => {
            let plain = node.int_or("transA", 0) == 0
                && node.float_or("alpha", 1.0) == 1.0
                && node.float_or("beta", 1.0) == 1.0;
            if !plain {
                return Err("a Gemm that transposes or scales");
            }
            let (weight, dims) = match node.int_or("transB", 0) {
                0 => (weight, dims),
                _ => (transpose(&weight, dims[1]), vec![dims[1], dims[0]]),
            };
            let broadcast = vec![dims[1]];
            let (integer, bias) = (integer("MatMulInteger"), g.operand(l.op, 2));
            Ok(Form { integer, weight, dims, axis: 1, broadcast, bias })
        }
        "W1" if !o.include.is_empty() => {
            let mut op = integer("ConvInteger");
            op.attrs.clone_from(&node.attrs);
            let mut broadcast = vec![1; dims.len()];
            broadcast[1] = dims[0];
            let bias = g.operand(l.op, 2);
            if bias.is_some_and(|b| g.const_tensor(b).is_none()) {
                return Err("its bias is computed");
            }
            Ok(Form { integer: op, weight, dims, axis: 0, broadcast, bias })
        }
        "W1" => Err("Conv is left out: ConvInteger is slow; --include Conv asks for it"),
        _ => Err("there is no integer operator for it"),
    }
}

/// Values of DynamicQuantizeLinear: codes, scale, zero point.
type Quantized = [ValueId; 3];

fn rewrite(
    g: &mut Graph,
    l: &Linear,
    f: &Form,
    reduce_range: bool,
    inputs: &mut BTreeMap<ValueId, Quantized>,
) {
    let [codes, x_scale, x_zero] =
        *inputs.entry(l.input).or_insert_with(|| quantize_input(g, l.input, l.op));
    let name = g.value(l.weight).name().to_owned();
    let levels = if reduce_range { 63.0 } else { 127.0 };
    let w = QuantizedWeight::with_levels(&f.weight, &f.dims, Some(f.axis), levels);
    let weight = g.add_const(&format!("{name}_quantized"), Tensor::of(&f.dims, &w.codes));
    let scale = g.add_const(&format!("{name}_scale"), Tensor::of(&f.broadcast, &w.scales));
    let y = g.result(l.op, 0).expect("invariant: a linear op has a result");
    let y_name = g.value(y).name().to_owned();
    let shape = g.value(y).shape().cloned();
    let at = Some(l.op);
    let like = |g: &mut Graph, what: &str, d: DType| {
        let ty = Type::tensor(d, shape.clone());
        g.add_value(Value::new(format!("{y_name}_{what}"), Some(ty)))
    };
    let sum = like(g, "integer", DType::I32);
    let operands = [Some(codes), Some(weight), Some(x_zero)];
    g.add_op(f.integer.clone(), &operands, &[Some(sum)], at);
    let float = like(g, "float", DType::F32);
    let cast = Op::new("Cast").with("to", i64::from(DType::F32.code()));
    g.add_op(cast, &[Some(sum)], &[Some(float)], at);
    let scales = g.add_named(&format!("{y_name}_scale"));
    g.add_op(Op::new("Mul"), &[Some(x_scale), Some(scale)], &[Some(scales)], at);
    let bias = f.bias.map(|b| {
        match g
            .const_tensor(b)
            .and_then(|t| (f.broadcast.len() > 1).then(|| t.reshaped(f.broadcast.clone()))?)
        {
            Some(t) => g.add_const(&format!("{name}_bias"), t),
            None => b,
        }
    });
    let scaled = if bias.is_some() { like(g, "scaled", DType::F32) } else { y };
    g.add_op(Op::new("Mul"), &[Some(float), Some(scales)], &[Some(scaled)], at);
    if bias.is_some() {
        g.add_op(Op::new("Add"), &[Some(scaled), bias], &[Some(y)], at);
    }
    g.remove_op(l.op);
    g.remove_dead(f.bias.into_iter().collect());
}

fn quantize_input(g: &mut Graph, x: ValueId, at: OpId) -> Quantized {
    let name = g.value(x).name().to_owned();
    let shape = g.value(x).shape().cloned();
    let mut value = |what: &str, d: DType, shape| {
        let ty = Type::tensor(d, shape);
        g.add_value(Value::new(format!("{name}_{what}"), Some(ty)))
    };
    let codes = value("quantized", DType::U8, shape);
    let scale = value("scale", DType::F32, Some(vec![]));
    let zero = value("zero_point", DType::U8, Some(vec![]));
    let anchor = g.producer_op(x).unwrap_or(at);
    let op = Op::new("DynamicQuantizeLinear").named(format!("{name}_quantize"));
    g.add_op(op, &[Some(x)], &[Some(codes), Some(scale), Some(zero)], Some(anchor));
    [codes, scale, zero]
}
