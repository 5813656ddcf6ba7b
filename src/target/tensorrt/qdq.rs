//! What TensorRT's parser and builder take of Q/DQ: a linter for files.
//!
//! The rules: L1 symmetric, L2 zero-point type, L5 positive finite scales, L6 scale shape, L7
//! per-channel on constants only, L8 explicit axis, L9 scale type, L10 operator set, L11 no INT32,
//! L12 no integer operators, L14 ignored attributes, L15 byte inputs, L16 shape tensors and dynamic
//! axes, N19 pairs without a use. L3, L4 and L17 concern arithmetic and command-line flags, not
//! files; L13 allows what is found.

use crate::ir::{DType, Graph, Model, Op, OpId, Tensor, ValueId, for_each_graph};
use crate::target::{Finding, Severity};

/// Checks all Q/DQ and integer operators of a model, subgraphs and functions included. An empty list
/// means that nothing was found.
pub fn check_qdq(m: &Model) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut visit = |g: &Graph, opset: i64| {
        for op in g.order() {
            let mut check = Check { g, op, opset, findings: &mut findings };
            check.run();
        }
        for v in g.inputs() {
            byte_input(g, *v, &mut findings);
        }
    };
    for_each_graph(&m.graph, &mut |g| visit(g, m.default_opset()));
    for f in &m.functions {
        let opset = crate::ir::opset_of(&f.opsets, "").unwrap_or(m.default_opset());
        for_each_graph(&f.graph, &mut |g| visit(g, opset));
    }
    findings
}

/// Operators that compute on integers outside Q/DQ and that TensorRT's parser does not know.
pub(super) const INTEGER_OPS: [&str; 7] = [
    "ConvInteger",
    "DynamicQuantizeLinear",
    "MatMulInteger",
    "QLinearConv",
    "QLinearMatMul",
    "QLinearAdd",
    "QLinearMul",
];

/// What L1 says of a stored zero point.
pub(super) const NOT_ZERO: &str = "the zero point is not zero";
/// What L2 says of UINT8.
pub(super) const UINT8: &str = "UINT8 is read as INT8";

struct Check<'a> {
    g: &'a Graph,
    op: OpId,
    opset: i64,
    findings: &'a mut Vec<Finding>,
}

impl Check<'_> {
    fn found(&mut self, id: &'static str, why: impl Into<String>, fix: &'static str) {
        let mut finding = Finding::error(id, self.g.label(self.op), why, fix);
        finding.command = match id {
            "L1" | "L2" | "L11" | "L12" => Some("quantize MODEL --from-quantized"),
            _ => None,
        };
        if ["L14", "N19"].contains(&id) {
            finding.severity = Severity::Warning;
        }
        self.findings.push(finding);
    }

    /// L10: the operator set is older than `need`.
    fn too_old(&mut self, need: i64, why: impl Into<String>) {
        let (fix, command) = (
            "raise the operator set",
            match need {
                ..=13 => "convert MODEL --opset 13",
                14..=19 => "convert MODEL --opset 19",
                20..=21 => "convert MODEL --opset 21",
                _ => "convert MODEL --opset 23",
            },
        );
        let found = Finding::error("L10", self.g.label(self.op), why, fix);
        self.findings.push(found.repaired_by(command));
    }

    fn run(&mut self) {
        let node = self.g.op(self.op);
        let quantizes = node.op_type == "QuantizeLinear";
        let dequantizes = node.op_type == "DequantizeLinear";
        if (node.domain.is_empty() && INTEGER_OPS.contains(&node.op_type.as_str()))
            || is_contrib_quantization(node)
        {
            let why = format!("TensorRT has no {}", node.full_type());
            self.found("L12", why, "quantize the float model to QDQ");
        } else if node.domain.is_empty() && (quantizes || dequantizes) {
            self.zero_point(quantizes);
            self.scale(quantizes);
            self.types(quantizes);
            self.surroundings(quantizes);
        }
    }

    /// The value behind Identity and Cast.
    fn source(&self, slot: usize) -> Option<ValueId> {
        let mut v = self.g.operand(self.op, slot)?;
        while let Some(op) = self.g.producer_op(v) {
            if !(self.g.op(op).is("Cast") || self.g.op(op).is("Identity")) {
                break;
            }
            v = self.g.operand(op, 0)?;
        }
        Some(v)
    }

    fn constant(&self, slot: usize) -> Option<&Tensor> {
        let v = self.source(slot)?;
        let maker = self.g.producer_op(v).map(|op| self.g.op(op));
        self.g.const_tensor(v).or_else(|| maker.filter(|o| o.is("Constant"))?.tensor("value"))
    }

    fn dtype(&self, slot: usize) -> Option<DType> {
        self.g.operand(self.op, slot).and_then(|v| self.g.value(v).dtype())
    }

    fn zero_point(&mut self, quantizes: bool) {
        let Some(_) = self.g.operand(self.op, 2) else { return };
        let dtype = self.dtype(2).or_else(|| self.constant(2).map(Tensor::dtype));
        match self.constant(2) {
            None => self.found("L1", "the zero point is computed", "store the zero point"),
            Some(t) if t.raw().is_some_and(|raw| raw.iter().any(|b| *b != 0)) => {
                self.found("L1", NOT_ZERO, "quantize symmetrically");
            }
            Some(_) => {}
        }
        use DType::{F4E2M1, F8E4M3FN, I4, I8, I32, U8};
        match dtype {
            Some(U8) => self.found("L2", UINT8, "use INT8 with amax / 127"),
            Some(I32) => {} // L11 says it.
            Some(d) if ![I8, I4, F8E4M3FN, F4E2M1].contains(&d) => {
                self.found("L2", format!("TensorRT has no {d}"), "use INT8");
            }
            _ => {}
        }
        let payload = if quantizes { None } else { self.dtype(0) };
        if let (Some(a), Some(b)) = (payload, dtype)
            && a != b
        {
            let why = format!("data of {a} with a zero point of {b}");
            self.found("L2", why, "give both the same type");
        }
    }

    fn scale(&mut self, quantizes: bool) {
        let Some(tensor) = self.constant(1).cloned() else {
            return self.found("L5", "the scale is computed", "store the scale");
        };
        let scales = tensor.to_f32().unwrap_or_default();
        if scales.is_empty() || !scales.iter().all(|s| s.is_finite() && *s > 0.0) {
            self.found(
                "L5",
                "a scale is not positive and finite",
                "give it a small positive scale",
            );
        }
        let rank = self.g.operand(self.op, 0).and_then(|v| self.g.value(v).rank());
        if rank == Some(0) {
            self.found("L6", "scalar data", "leave scalars in float");
        }
        let zeros = self.constant(2).map(Tensor::len);
        if zeros.is_some_and(|n| n != tensor.len()) {
            self.found("L6", "scale and zero point differ in size", "give both the same shape");
        }
        if tensor.len() > 1 {
            self.per_channel(&tensor, rank, quantizes);
        }
    }

    fn per_channel(&mut self, scale: &Tensor, rank: Option<usize>, quantizes: bool) {
        let node = self.g.op(self.op);
        let (axis, block) = (node.int("axis"), node.int_or("block_size", 0));
        if !self.is_weight(quantizes) {
            let fix = "give activations one scale";
            self.found("L7", "several scales on an activation", fix);
        }
        if self.opset < 13 {
            self.too_old(13, "scales along an axis need operator set 13");
        }
        match axis {
            None => self.found("L8", "no axis is written", "write the axis"),
            Some(a) if a < 0 => self.found("L8", format!("axis {a}"), "count the axis from 0"),
            Some(a) if rank.is_some_and(|r| a as usize >= r) => {
                self.found("L8", format!("axis {a} is out of range"), "correct the axis");
            }
            Some(a) if block == 0 => {
                let data = self.g.operand(self.op, 0).map(|v| self.g.value(v));
                let size = data.and_then(|v| v.shape()?.get(a as usize)?.size());
                if scale.rank() != 1 || size.is_some_and(|n| n != scale.len()) {
                    let why = format!("{:?} scales along an axis of {size:?}", scale.dims());
                    self.found("L6", why, "one scale for each index of the axis");
                } else if size.is_none() && rank.is_some() {
                    self.found("L16", "the axis of the scales is dynamic", "make it static");
                }
            }
            Some(_) => self.blocks(scale, rank),
        }
    }

    fn blocks(&mut self, scale: &Tensor, rank: Option<usize>) {
        if self.opset < 21 {
            self.too_old(21, "blocked scales need operator set 21");
        }
        let data = self.g.operand(self.op, 0).and_then(|v| self.g.value(v).sizes());
        let differ = data.filter(|d| d.len() == scale.rank()).map(|d| {
            let pairs = d.iter().zip(scale.dims()).enumerate();
            pairs
                .filter(|(_, (a, b))| a != b)
                .map(|(i, (a, b))| (i, *b > 0 && a % b == 0))
                .collect()
        });
        let ok = differ.is_some_and(|d: Vec<(usize, bool)>| {
            d.len() == 1 && d[0].1 && rank.is_some_and(|r| d[0].0 + 2 >= r)
        });
        if !ok {
            let fix = "block one of the last two axes, evenly";
            self.found("L6", "scales that do not block one of the last two axes", fix);
        }
    }

    /// The data is a constant, for DequantizeLinear perhaps behind a QuantizeLinear.
    fn is_weight(&self, quantizes: bool) -> bool {
        let Some(v) = self.source(0) else { return false };
        let maker = self.g.producer_op(v);
        let behind = maker.filter(|op| !quantizes && self.g.op(*op).is("QuantizeLinear"));
        let root = behind.and_then(|op| self.g.operand(op, 0)).unwrap_or(v);
        let made = self.g.producer_op(root);
        self.g.is_const(root) || made.is_some_and(|op| self.g.op(op).is("Constant"))
    }

    fn types(&mut self, quantizes: bool) {
        let (data, scale) = (self.dtype(0), self.constant(1).map(Tensor::dtype));
        if data == Some(DType::I32) {
            let fix =
                if quantizes { "never quantize shape tensors" } else { "keep the bias in float" };
            self.found(if quantizes { "L16" } else { "L11" }, "INT32 data", fix);
        }
        use DType::{BF16, F16, F32};
        if scale.is_some_and(|d| ![F32, F16, BF16].contains(&d)) {
            self.found("L9", "the scale is no float32, float16 or bfloat16", "use float32");
        }
        let half = scale.is_some_and(|d| d != F32) || (quantizes && data.is_some_and(|d| d != F32));
        if half && data != Some(DType::I32) && self.opset < 19 {
            self.too_old(19, "16-bit floats in Q/DQ need operator set 19");
        }
        if quantizes
            && self.opset < 23
            && let (Some(a), Some(b)) = (data, scale)
            && a != b
            && data != Some(DType::I32)
        {
            self.found("L9", format!("{a} data with a scale of {b}"), "use one type");
        }
        let payload = self.dtype(2).or(if quantizes { None } else { data });
        let need = match payload {
            Some(d) if d.is_small_float() && d.bits() == 8 => 19,
            Some(DType::I4) => 21,
            Some(DType::F4E2M1) => 23,
            _ => 10,
        };
        if self.opset < need {
            let why = format!("this type needs operator set {need}");
            self.too_old(need, why);
        }
    }

    fn surroundings(&mut self, quantizes: bool) {
        let node = self.g.op(self.op);
        if node.attr("precision").is_some() || node.int("saturate").is_some_and(|s| s != 1) {
            self.found("L14", "precision and saturate are ignored", "remove the attribute");
        }
        let Some(result) = self.g.result(self.op, 0) else { return };
        if quantizes {
            let is_dq = |op: &OpId| self.g.op(*op).is("DequantizeLinear");
            let readers: Vec<OpId> = self.g.uses(result).into_iter().map(|u| u.0).collect();
            if readers.is_empty() || !readers.iter().all(is_dq) {
                let fix = "follow each QuantizeLinear by a DequantizeLinear";
                self.found("N19", "something else than DequantizeLinear reads INT8", fix);
            }
            if let Some(v) = self.g.operand(self.op, 0) {
                self.shape_tensor(v);
            }
        } else if self.g.is_unused(result) {
            self.found("N19", "nothing reads the result", "remove it");
        }
    }

    fn shape_tensor(&mut self, v: ValueId) {
        let value = self.g.value(v);
        if value.dtype().is_some_and(DType::is_int)
            || crate::ops::is_shape_arithmetic(self.g, v) && !self.g.is_const(v)
        {
            self.found("L16", "a shape tensor is quantized", "leave shape arithmetic alone");
        }
    }
}

/// A quantized operator of ONNX Runtime's own.
pub(super) fn is_contrib_quantization(node: &Op) -> bool {
    let t = node.op_type.as_str();
    let quantized = t.starts_with("QLinear")
        || t.starts_with("QAttention")
        || t.starts_with("DynamicQuantize")
        || ["QuantizeLinear", "DequantizeLinear", "MatMulNBits", "MatMulIntegerToFloat", "QGemm"]
            .contains(&t);
    node.domain == "com.microsoft" && quantized
}

/// L15: a graph input of bytes goes through Cast or DequantizeLinear.
fn byte_input(g: &Graph, v: ValueId, findings: &mut Vec<Finding>) {
    if g.value(v).dtype() != Some(DType::U8) {
        return;
    }
    let wrong = g.uses(v).into_iter().map(|u| u.0).find(|op| !g.op(*op).is("Cast"));
    if let Some(op) = wrong {
        let why = format!("reads the UINT8 input {:?} without a Cast", g.value(v).name());
        findings.push(Finding::error("L15", g.label(op), why, "cast byte inputs to float first"));
    }
}
