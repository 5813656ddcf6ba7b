//! What TensorRT's ONNX parser and builder take.
//!
//! Sources: the parser's table of operators (`operators.tsv`: operator, first version, element types
//! of the main operand; versions 8.6, 10.0, 10.1, 10.15 and 11.0 of it compared), its checkers, and
//! NVIDIA's documentation of explicit quantization.

mod operators;
mod qdq;
mod restrictions;
mod shapes;

pub use qdq::check_qdq;

use super::{Finding, Severity, Version};
use crate::ir::{DType, Graph, Model, OpId};

/// Checks a model whose types are inferred against all rules.
pub(super) fn check(m: &Model, version: Version) -> Vec<Finding> {
    let mut findings = Vec::new();
    operator_set(m, version, &mut findings);
    shapes::inputs(&m.graph, &mut findings);
    walk(m, &m.graph, version, &mut findings);
    for f in &m.functions {
        walk(m, &f.graph, version, &mut findings);
    }
    findings.extend(check_qdq(m));
    precision(m, version, &mut findings);
    findings
}

/// As [`check`], for a version that builds for a DLA.
pub(super) fn check_for_dla(m: &Model, version: Version) -> Vec<Finding> {
    let mut findings: Vec<Finding> = check(m, version).into_iter().map(for_dla).collect();
    if !version.knows_dla() {
        let why = format!("TensorRT {version} does not build for a DLA");
        findings.push(Finding::error("V2", "model", why, "use TensorRT 10.7, or 11.4 and later"));
    }
    findings
}

/// A finding as a DLA sees it: UINT8 and zero points other than zero are taken with a flag, open sizes
/// are not.
fn for_dla(f: Finding) -> Finding {
    match f.id {
        "L1" | "L2" if [qdq::NOT_ZERO, qdq::UINT8].contains(&&f.why[..]) => Finding {
            severity: Severity::Note,
            fix: "build with trtexec --uint8AsymmetricQuantizationDLA",
            command: None,
            ..f
        },
        "S3" => Finding {
            severity: Severity::Error,
            fix: "fix the sizes: a DLA takes none that are open",
            command: Some("edit MODEL --set-dim NAME=SIZE"),
            ..f
        },
        _ => f,
    }
}

fn operator_set(m: &Model, version: Version, findings: &mut Vec<Finding>) {
    let (newest, lower) = match version {
        v if v.at_least(11, 0) => (25, "convert MODEL --opset 25"),
        v if v.at_least(10, 15) => (24, "convert MODEL --opset 24"),
        v if v.at_least(10, 0) => (20, "convert MODEL --opset 20"),
        _ => (17, "convert MODEL --opset 17"),
    };
    let opset = m.default_opset();
    let warn = |why: String, fix| Finding::error("V1", "model", why, fix).rated(Severity::Warning);
    if opset < 9 {
        let why = format!("operator set {opset}; TensorRT documents 9 and later");
        findings.push(warn(why, "raise the operator set").repaired_by("convert MODEL --opset 13"));
    } else if opset > newest {
        let why = format!("operator set {opset}; TensorRT {version} documents up to {newest}");
        let fix = "take it to an older operator set, or use a newer TensorRT";
        findings.push(warn(why, fix).repaired_by(lower));
    }
}

fn walk(m: &Model, g: &Graph, version: Version, findings: &mut Vec<Finding>) {
    for op in g.order() {
        operators::check(m, g, op, version, findings);
        if g.op(op).domain.is_empty() {
            restrictions::check(g, op, findings);
            shapes::check(g, op, findings);
        }
        for body in &g.op(op).bodies {
            walk(m, body, version, findings);
        }
    }
}

/// L13, L17: how the version gets its precision.
fn precision(m: &Model, version: Version, findings: &mut Vec<Finding>) {
    let mut weight = None;
    let mut pairs = 0;
    let mut float = None;
    crate::ir::for_each_graph(&m.graph, &mut |g| {
        for op in g.ops() {
            let node = g.op(op);
            if node.is("DequantizeLinear") {
                pairs += 1;
                if g.operand(op, 0).is_some_and(|v| g.is_const(v)) {
                    weight = weight.take().or_else(|| Some(g.label(op)));
                }
                float = float.or_else(|| is_float32(g, op).then_some(()));
            }
        }
    });
    if let Some(node) = weight.filter(|_| !version.at_least(9, 0)) {
        let fix = "write them in float with QuantizeLinear";
        let why = "TensorRT 8 does not take weights that are stored as INT8";
        findings.push(
            Finding::error("L13", node, why, fix)
                .repaired_by("quantize MODEL --from-quantized --float-weights"),
        );
    }
    if pairs == 0 {
        return;
    }
    let note = |why: &str, fix| Finding::error("L17", "model", why, fix).rated(Severity::Note);
    if !version.at_least(10, 12) {
        let why = "this version takes precision from flags";
        findings.push(note(why, "build with trtexec --int8 --fp16"));
    } else if float.is_some() {
        let why = "what is not quantized computes in float32";
        findings.push(note(why, "convert it to float16").repaired_by("convert MODEL --fp16"));
    }
}

fn is_float32(g: &Graph, op: OpId) -> bool {
    g.result(op, 0).is_some_and(|v| g.value(v).dtype() == Some(DType::F32))
}
