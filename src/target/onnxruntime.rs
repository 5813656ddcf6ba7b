//! R1, R2, R3: what the CPU provider of ONNX Runtime takes, and what it makes of Q/DQ.
//!
//! `onnxruntime.tsv` lists its kernels (`scripts/onnxruntime_table.py` makes it): domain, operator,
//! versions, element types of the first operand.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::{Finding, Severity};
use crate::ir::{DType, Graph, Model, OpId, opset_of};

struct Kernel {
    first: i64,
    last: i64,
    /// `None`: any.
    types: Option<Vec<DType>>,
}

static TABLE: LazyLock<HashMap<(&'static str, &'static str), Vec<Kernel>>> = LazyLock::new(|| {
    let mut table: HashMap<_, Vec<Kernel>> = HashMap::new();
    for line in include_str!("onnxruntime.tsv").lines().skip(1) {
        let cells: Vec<&str> = line.split('\t').collect();
        let [domain, op, first, last, types] = cells[..] else { continue };
        let any = ["*", "function"].contains(&types);
        let kernel = Kernel {
            first: first.parse().unwrap_or(1),
            last: last.parse().unwrap_or(i64::MAX),
            types: (!any).then(|| types.split(' ').filter_map(DType::from_name).collect()),
        };
        table.entry((domain, op)).or_default().push(kernel);
    }
    table
});

pub(super) fn check(m: &Model) -> Vec<Finding> {
    let mut findings = Vec::new();
    walk(m, &m.graph, m.default_opset(), &mut findings);
    for f in &m.functions {
        let opset = opset_of(&f.opsets, "").unwrap_or(m.default_opset());
        walk(m, &f.graph, opset, &mut findings);
    }
    findings
}

fn walk(m: &Model, g: &Graph, opset: i64, findings: &mut Vec<Finding>) {
    for op in g.order() {
        if m.function(g.op(op)).is_none() {
            findings.extend(kernel(m, g, op, opset));
            findings.extend(odd_quantization(g, op));
        }
        for body in &g.op(op).bodies {
            walk(m, body, opset, findings);
        }
    }
}

/// R3: pairs that ONNX Runtime (1.32) optimizes to something else.
fn odd_quantization(g: &Graph, op: OpId) -> Option<Finding> {
    if !g.op(op).is("QuantizeLinear") {
        return None;
    }
    let dtype = |i| g.operand(op, i).and_then(|v| g.value(v).dtype());
    let before = g.operand(op, 0).and_then(|v| g.producer_op(v)).map(|op| g.op(op));
    let why = match (dtype(1), dtype(2)) {
        (Some(DType::F16), Some(d)) if d.is_int() => {
            "a float16 scale: quantized biases get scales that underflow, Concat does not load"
        }
        (_, Some(DType::F8E4M3FN)) if before.is_some_and(|b| b.is("Clip") || b.is("Relu")) => {
            "FP8 behind Clip or Relu: it does not load, or loses the Relu"
        }
        _ => return None,
    };
    let fix = "run it with graph optimizations off";
    Some(Finding::error("R3", g.label(op), why, fix).rated(Severity::Warning))
}

fn kernel(m: &Model, g: &Graph, op: OpId, opset: i64) -> Option<Finding> {
    let node = g.op(op);
    if node.is("Constant") {
        return None;
    }
    let name = node.full_type();
    let version = if node.domain.is_empty() { opset } else { m.opset(&node.domain).unwrap_or(1) };
    let kernels = TABLE.get(&(node.domain.as_str(), node.op_type.as_str()));
    let fitting = |k: &&Kernel| k.first <= version && version <= k.last;
    let kernels: Vec<&Kernel> = kernels.into_iter().flatten().filter(fitting).collect();
    if kernels.is_empty() {
        let why = format!("ONNX Runtime's CPU provider has no {name} of operator set {version}");
        let fix = "register the library of the operator, or raise the operator set";
        return Some(Finding::error("R1", g.label(op), why, fix));
    }
    let dtype = g.operand(op, 0).and_then(|v| g.value(v).dtype())?;
    let takes = |k: &&Kernel, d: DType| k.types.as_ref().is_none_or(|t| t.contains(&d));
    let fits = |d| kernels.iter().any(|k| takes(k, d));
    if fits(dtype) || (dtype == DType::F16 && fits(DType::F32)) {
        return None;
    }
    let why = format!("no kernel of {name} takes {dtype}");
    Some(Finding::error("R2", g.label(op), why, "cast to a type that the kernel takes"))
}
