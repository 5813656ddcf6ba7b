//! S1–S4: what dynamic shapes cost, and where they fail.

use crate::ir::{Graph, OpId, ValueId};
use crate::target::{Finding, Severity};

/// S3: inputs of the network with open sizes.
pub(super) fn inputs(g: &Graph, findings: &mut Vec<Finding>) {
    for &v in g.inputs().iter().filter(|v| g.initializer(**v).is_none()) {
        let value = g.value(v);
        match value.shape() {
            None => {
                let why = "an input whose number of axes is not known";
                findings.push(Finding::error("S1", value.name(), why, "declare its shape"));
            }
            Some(shape) => {
                let open: Vec<String> = shape
                    .iter()
                    .enumerate()
                    .filter(|(_, d)| d.size().is_none())
                    .map(|(i, _)| i.to_string())
                    .collect();
                if !open.is_empty() {
                    let why = format!("axis {} is open", open.join(", "));
                    let fix = "give --minShapes, --optShapes and --maxShapes to trtexec";
                    let finding = Finding::error("S3", value.name(), why, fix);
                    findings.push(finding.rated(Severity::Note));
                }
            }
        }
    }
}

pub(super) fn check(g: &Graph, op: OpId, findings: &mut Vec<Finding>) {
    match g.op(op).op_type.as_str() {
        "NonZero" | "NonMaxSuppression" => {
            let why = "the size of the result depends on data";
            let fix = "expect memory for the upper bound; do this step outside where it matters";
            let finding = Finding::error("S2", g.label(op), why, fix);
            findings.push(finding.rated(Severity::Warning));
        }
        "Conv" | "ConvTranspose" => channels(g, op, findings),
        "If" => branches(g, op, findings),
        "Loop" => collected(g, op, findings),
        _ => {}
    }
}

fn channels(g: &Graph, op: OpId, findings: &mut Vec<Finding>) {
    let shape = g.operand(op, 0).and_then(|v| g.value(v).shape());
    if shape.is_some_and(|s| s.get(1).is_some_and(|d| d.size().is_none())) {
        let why = "the number of channels is not known when the engine is built";
        let fix = "fix the size where it comes from";
        findings.push(
            Finding::error("S1", g.label(op), why, fix)
                .rated(Severity::Warning)
                .repaired_by("simplify MODEL"),
        );
    }
}

/// S4: both branches return tensors of the same rank.
fn branches(g: &Graph, op: OpId, findings: &mut Vec<Finding>) {
    let node = g.op(op);
    let (Some(a), Some(b)) = (node.body("then_branch"), node.body("else_branch")) else { return };
    let rank = |g: &Graph, v: &ValueId| g.value(*v).rank();
    for (i, (x, y)) in a.outputs().iter().zip(b.outputs()).enumerate() {
        if let (Some(m), Some(n)) = (rank(a, x), rank(b, y))
            && m != n
        {
            let why = format!("output {i} has {m} axes in one branch and {n} in the other");
            let fix = "make the condition constant, or give both branches the same rank";
            findings
                .push(Finding::error("S4", g.label(op), why, fix).repaired_by("simplify MODEL"));
        }
    }
}

/// S4: what a Loop collects has a fixed length.
fn collected(g: &Graph, op: OpId, findings: &mut Vec<Finding>) {
    let carried = g.op(op).arity().saturating_sub(2);
    let collects = g.results(op).iter().skip(carried).flatten().next().is_some();
    let fixed = g.operand(op, 0).is_some_and(|v| g.is_const(v));
    if collects && !fixed {
        let why = "it collects a result in each round, and the number of rounds is not fixed";
        let fix = "fix the number of rounds";
        let finding = Finding::error("S4", g.label(op), why, fix);
        findings.push(finding.rated(Severity::Warning).repaired_by("simplify MODEL"));
    }
}
