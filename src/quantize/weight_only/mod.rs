//! Weight-only quantization: weights are stored in 8 or 4 bits behind DequantizeLinear and activations
//! stay float.
//!
//! INT8 without blocks has one scale for each output channel. With blocks, weights of MatMul and Gemm
//! have one scale for each block along the axis that is summed over (operator set 21).
//! TensorRT keeps INT4 weights of blocks of 64 or 128 in their matrix products; ONNX Runtime turns
//! DequantizeLinear and MatMul into MatMulNBits.

mod awq;
mod blocks;
mod gptq;
mod inputs;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::options::{Profile, QuantizeOptions};
use super::placement::{Decision, Linear, WeightSite, linear, plan};
use super::tables::{self, Tables};
use super::{Payload, QuantizeError, QuantizeReport, cost, insert, raise_to};
use crate::data::Source;
use crate::engine::{Engine, Progress};
use crate::ir::{DType, Graph, Model, OpId, ValueId};
use crate::target::tensorrt::check_qdq;
use blocks::{Blocks, Matrix};

/// How weights are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightType {
    /// INT8, symmetric.
    Int8,
    /// INT4, symmetric.
    Int4,
    /// UINT4 with zero points, for ONNX Runtime.
    Uint4,
}

impl WeightType {
    fn dtype(self) -> DType {
        match self {
            WeightType::Int8 => DType::I8,
            WeightType::Int4 => DType::I4,
            WeightType::Uint4 => DType::U4,
        }
    }
}

/// How weights are rounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WeightAlgorithm {
    /// To nearest, with the clipping of each block that errs least.
    #[default]
    Rtn,
    /// GPTQ: the error of each column is made up for by those that follow; needs data.
    Gptq,
    /// AWQ: channels that matter are scaled up before; needs data.
    Awq,
}

/// Samples to look at and what runs the model on them.
pub(super) struct Samples<'a> {
    pub engine: &'a dyn Engine,
    pub data: &'a dyn Source,
    pub progress: Progress<'a>,
}

/// A weight to be quantized, `columns` being the axis that is summed over.
struct Target {
    linear: Linear,
    /// Axis of the weight that is summed over.
    axis: usize,
}

/// Stores the weights of the main graph in few bits.
///
/// # Errors
/// When GPTQ or AWQ lack samples, UINT4 is asked for TensorRT, or the operator set cannot be raised.
pub(super) fn quantize(
    m: &mut Model,
    o: &QuantizeOptions,
    ty: WeightType,
    samples: Option<&Samples>,
) -> Result<QuantizeReport, QuantizeError> {
    super::check_types(o)?;
    let block = match (ty, o.block) {
        (WeightType::Int8, block) => block,
        (_, block) => Some(block.unwrap_or(128)),
    };
    if ty == WeightType::Uint4 && o.profile != Profile::OnnxruntimeCpu {
        return Err(QuantizeError::AsymmetricForTensorRt);
    }
    if block.is_some_and(|b| b < 16 || !b.is_power_of_two()) {
        return Err(QuantizeError::Block(block.unwrap_or(0)));
    }
    raise_to(m, if block.is_some() { 21 } else { 13 })?;
    let before = check_qdq(m);
    let mut report = QuantizeReport {
        bytes_before: cost::constant_bytes(&m.graph),
        ..QuantizeReport::default()
    };
    let plan = plan(&m.graph, &QuantizeOptions { profile: Profile::Minimal, ..o.clone() })?;
    let mut decisions = plan.decisions.clone();
    let mut targets = Vec::new();
    let mut per_channel = Vec::new();
    for site in &plan.weights {
        let Some(l) = linear(&m.graph, site.op) else { continue };
        let outcome = match block {
            None => {
                per_channel.push(*site);
                Ok("weight per channel".to_owned())
            }
            Some(block) => blocked_axis(&m.graph, &l, block).map(|axis| {
                targets.push(Target { linear: l, axis });
                format!("weight in blocks of {block} along axis {axis}")
            }),
        };
        note(&m.graph, &mut decisions, site.op, outcome);
    }
    let mut zeros = insert::Zeros::default();
    let (g, int8) = (&mut m.graph, Payload::Int8);
    let mut coded = insert::coded_weights(g, per_channel.iter(), int8, &BTreeMap::new());
    let mut stored = insert::Stored::new();
    for site in &per_channel {
        insert::replace_weight(g, site, &mut stored, |g, key| {
            Some(insert::store_weight(g, site, int8, coded.remove(&key)?, &mut zeros))
        });
    }
    if let Some(block) = block {
        store_blocks(m, o, ty, block, &targets, samples)?;
    }
    let tables = if o.embeddings { embeddings(&mut m.graph, o.profile, ty, block) } else { 0 };
    m.graph.remove_dead(plan.weights.iter().map(|s| s.value).collect());
    report.quantized_ops = targets.len() + per_channel.len();
    report.quantized_weights = report.quantized_ops + tables;
    report.weighted_ops = decisions.iter().filter(|d| d.weighted || d.quantized).count();
    report.ops = decisions;
    report.bytes_after = cost::constant_bytes(&m.graph);
    if block.is_some_and(|b| b < 64) && o.profile != Profile::OnnxruntimeCpu {
        report.warnings.push("TensorRT documents blocks of 64 and 128 only".into());
    }
    super::finish(m, o, report, &before)
}

fn note(g: &Graph, decisions: &mut [Decision], op: OpId, outcome: Result<String, String>) {
    let label = g.label(op);
    if let Some(d) = decisions.iter_mut().find(|d| d.node == label) {
        (d.quantized, d.reason) = match outcome {
            Ok(reason) => (true, reason),
            Err(reason) => (false, reason),
        };
    }
}

/// The axis of the weight that is summed over, when blocks divide it.
fn blocked_axis(g: &Graph, l: &Linear, block: usize) -> Result<usize, String> {
    let dims = g.const_tensor(l.weight).map(|t| t.dims().to_vec()).unwrap_or_default();
    let axis = match l.rule {
        "W4" if l.weight_slot == 1 && dims.len() == 2 => 0,
        "W3" if dims.len() == 2 => usize::from(g.op(l.op).int_or("transB", 0) != 0),
        _ => return Err("blocks are for matrix products".into()),
    };
    match dims[axis] % block {
        0 => Ok(axis),
        _ => Err(format!("blocks of {block} do not divide {}", dims[axis])),
    }
}

fn store_blocks(
    m: &mut Model,
    o: &QuantizeOptions,
    ty: WeightType,
    block: usize,
    targets: &[Target],
    samples: Option<&Samples>,
) -> Result<(), QuantizeError> {
    use WeightAlgorithm::{Awq, Gptq, Rtn};
    let samples = match (o.algorithm, samples) {
        (Rtn, _) => None,
        (_, None) => return Err(QuantizeError::NoSamples),
        (_, samples) => samples,
    };
    let values: Vec<ValueId> = targets.iter().map(|t| t.linear.input).collect();
    match (o.algorithm, samples) {
        (Gptq, Some(s)) => {
            // One for all ops that read a value.
            let factors: BTreeMap<ValueId, Vec<f32>> = inputs::hessians(m, &values, s)?
                .into_iter()
                .filter_map(|(v, h)| Some((v, gptq::upper_factor(h)?)))
                .collect();
            for t in targets {
                store(&mut m.graph, t, ty, block, &|w| {
                    let fits = |u: &&Vec<f32>| u.len() == w.columns * w.columns;
                    match factors.get(&t.linear.input).filter(fits) {
                        Some(u) => gptq::quantize(w, u, ty, block),
                        None => Blocks::nearest(w, ty, block),
                    }
                });
            }
        }
        (Awq, Some(s)) => {
            let stats = inputs::channel_stats(m, &values, s)?;
            let mut groups: BTreeMap<ValueId, Vec<&Target>> = BTreeMap::new();
            for t in targets {
                groups.entry(t.linear.input).or_default().push(t);
            }
            for (x, group) in groups {
                awq::quantize(&mut m.graph, x, &group, ty, block, stats.get(&x));
            }
        }
        _ => {
            for t in targets {
                store(&mut m.graph, t, ty, block, &|w| Blocks::nearest(w, ty, block));
            }
        }
    }
    Ok(())
}

/// Stores one weight as `make` quantizes it.
fn store(
    g: &mut Graph,
    t: &Target,
    ty: WeightType,
    block: usize,
    make: &dyn Fn(&Matrix) -> Blocks,
) {
    let Some(tensor) = g.const_tensor(t.linear.weight).cloned() else { return };
    let Some(w) = Matrix::of(&tensor, t.axis) else { return };
    let made = make(&w);
    let v = made.dequantize(g, t.linear.weight, &tensor, t.axis, ty, block, t.linear.op);
    g.set_operand(t.linear.op, t.linear.weight_slot, Some(v));
}

/// Tables of Gather: one scale for each row, or for each block of it.
fn embeddings(g: &mut Graph, profile: Profile, ty: WeightType, block: Option<usize>) -> usize {
    let codes = profile == Profile::OnnxruntimeCpu && ty == WeightType::Int8 && block.is_none();
    let mut known = Tables::new();
    let mut count = 0;
    for op in g.order() {
        let table =
            g.operand(op, 0).filter(|_| g.op(op).is("Gather") && g.op(op).int_or("axis", 0) == 0);
        let Some(v) = table.filter(|v| !g.is_output(*v)) else { continue };
        let Some(t) =
            g.const_tensor(v).filter(|t| t.dtype() == DType::F32 && t.rank() == 2).cloned()
        else {
            continue;
        };
        let columns = t.dims()[1];
        let fits = block.is_none_or(|b| columns % b == 0);
        let Some(w) = Matrix::of(&t, 1).filter(|_| fits && t.dims()[0] >= 16) else { continue };
        if codes {
            let site = WeightSite { op, slot: 0, value: v, axis: Some(0) };
            count += usize::from(tables::store(g, &site, &mut known).is_some());
            continue;
        }
        let block = block.unwrap_or(columns);
        let made = Blocks::nearest(&w, ty, block);
        let new = match block == columns {
            true => made.dequantize_rows(g, v, &t, op),
            false => made.dequantize(g, v, &t, 1, ty, block, op),
        };
        g.set_operand(op, 0, Some(new));
        g.remove_dead(vec![v]);
        count += 1;
    }
    g.remove_dead(known.into_keys().collect());
    count
}
