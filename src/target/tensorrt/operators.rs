//! O1, O3, D1, D2: operators that the parser knows, and their element types.

use std::collections::HashMap;
use std::sync::LazyLock;

use crate::ir::{DType, Graph, Model, OpId, ValueId};
use crate::target::{Finding, Severity, Version};

/// A row of `operators.tsv`.
struct Row {
    /// First version that knows the operator, since 8.6; `None`: none does.
    since: Option<(u32, u32)>,
    types: Vec<DType>,
}

static TABLE: LazyLock<HashMap<&'static str, Row>> = LazyLock::new(|| {
    let rows = include_str!("operators.tsv").lines().skip(1);
    rows.filter_map(|line| {
        let mut cells = line.split('\t');
        let name = cells.next()?;
        let since = cells.next()?.split_once('.');
        let since = since.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        let types = cells.next()?.split_whitespace().filter_map(DType::from_name).collect();
        Some((name, Row { since, types }))
    })
    .collect()
});

pub(super) fn check(m: &Model, g: &Graph, op: OpId, version: Version, findings: &mut Vec<Finding>) {
    let node = g.op(op);
    if m.function(node).is_some() {
        if !version.at_least(9, 0) {
            let why = "local functions are taken from TensorRT 9 on";
            findings.push(
                Finding::error("O3", g.label(op), why, "inline it")
                    .repaired_by("simplify MODEL --enable inline-functions"),
            );
        }
        return;
    }
    if !node.domain.is_empty() {
        findings.extend(foreign(g, op));
        return;
    }
    element_types(g, op, findings);
    let row = TABLE.get(node.op_type.as_str());
    let Some(row) = row.filter(|r| r.since.is_some_and(|(a, b)| version.at_least(a, b))) else {
        // The rules of Q/DQ say more about these.
        if !super::qdq::INTEGER_OPS.contains(&node.op_type.as_str()) {
            let why = match row.and_then(|r| r.since) {
                Some((a, b)) => format!("TensorRT {version} has no {}; {a}.{b} does", node.op_type),
                None => format!("TensorRT has no {}", node.op_type),
            };
            let fix = "simplify, which may remove it; else express it by other operators";
            findings
                .push(Finding::error("O1", g.label(op), why, fix).repaired_by("simplify MODEL"));
        }
        return;
    };
    let dtype = main_value(g, op).and_then(|v| g.value(v).dtype());
    let outside = |d: &DType| {
        !row.types.is_empty() && !row.types.contains(d) && computes(*d) && *d != DType::F64
    };
    if let Some(dtype) = dtype.filter(outside) {
        let why = format!("{} is not documented for {dtype}", node.op_type);
        let fix = "cast to a type that the operator takes, if the parser refuses it";
        findings.push(Finding::error("D2", g.label(op), why, fix).rated(Severity::Warning));
    }
}

/// An operator of another domain.
fn foreign(g: &Graph, op: OpId) -> Option<Finding> {
    let node = g.op(op);
    if super::qdq::is_contrib_quantization(node) {
        return None;
    }
    let name = node.full_type();
    if ["com.microsoft", "com.microsoft.nchwc", "ai.onnx.ml", "ai.onnx.training"]
        .contains(&node.domain.as_str())
    {
        let why = format!("{name} is not known to TensorRT");
        let fix = "export the model without this runtime's own operators";
        return Some(Finding::error("O3", g.label(op), why, fix));
    }
    let why = format!("{name} needs a TensorRT plugin of the name {:?}", node.op_type);
    let finding = Finding::error("O3", g.label(op), why, "load the plugin's library");
    Some(finding.rated(Severity::Warning))
}

/// The value whose type the table of operators is about.
fn main_value(g: &Graph, op: OpId) -> Option<ValueId> {
    match g.op(op).op_type.as_str() {
        "If" | "Loop" | "Scan" | "QuantizeLinear" | "DequantizeLinear" => None,
        "Where" => g.operand(op, 1),
        "OneHot" => g.operand(op, 2),
        "Constant" | "ConstantOfShape" | "RandomNormal" | "RandomUniform" | "HannWindow"
        | "HammingWindow" | "BlackmanWindow" => g.result(op, 0),
        _ => g.operand(op, 0),
    }
}

/// TensorRT computes on the type.
fn computes(d: DType) -> bool {
    use DType::{BF16, Bool, F16, F32, F64, I32, I64};
    [BF16, Bool, F16, F32, F64, I32, I64].contains(&d)
}

/// D1: types that TensorRT does not have.
fn element_types(g: &Graph, op: OpId, findings: &mut Vec<Finding>) {
    let node = g.op(op);
    let quantizes = ["QuantizeLinear", "DequantizeLinear"].contains(&node.op_type.as_str());
    if quantizes || super::qdq::INTEGER_OPS.contains(&node.op_type.as_str()) {
        return;
    }
    let values = g.operands(op).into_iter().chain(g.results(op)).flatten();
    let mut dtypes = values.filter_map(|v| g.value(v).dtype().map(|d| (v, d)));
    let Some((v, dtype)) = dtypes.find(|(_, d)| !computes(*d) || *d == DType::F64) else {
        return;
    };
    let name = g.value(v).name();
    if dtype == DType::F64 {
        let why = format!("{name:?} is double, which TensorRT casts to float32");
        let finding = Finding::error("D1", g.label(op), why, "export in float32");
        findings.push(finding.rated(Severity::Warning));
    } else if dtype != DType::U8 || !(node.is("Cast") || node.is("CastLike")) {
        if dtype == DType::I8 && node.is("Cast") && g.is_const(v) {
            let why = "a stored int8 tensor goes through Cast, not DequantizeLinear";
            let fix = "simplify, which makes DequantizeLinear of Cast and Mul";
            findings
                .push(Finding::error("D1", g.label(op), why, fix).repaired_by("simplify MODEL"));
            return;
        }
        let why = format!("{name:?} is {dtype}, which TensorRT does not compute on");
        findings.push(Finding::error("D1", g.label(op), why, "cast it to a type TensorRT has"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_knows_the_schemas() {
        let missing: Vec<&str> = crate::ops::schemas()
            .map(|s| s.op_type)
            .filter(|op| TABLE.get(op).is_none_or(|r| r.since.is_some() && r.types.is_empty()))
            .collect();
        // Newer than the table, and refused: no row is needed.
        assert_eq!(missing, ["LinearAttention", "CausalConvWithState", "BitCast", "CumProd"]);
    }
}
