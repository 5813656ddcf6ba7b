//! QLinearConv and its kin as float operators.

use super::Strip;
use crate::ir::{Op, OpId, Tensor, ValueId};

/// Where an operator has its quantized operands (each with scale and zero point behind it) and the
/// scale of its result, whose zero point follows.
struct Layout {
    float: &'static str,
    operands: &'static [usize],
    result: usize,
}

fn layout(op_type: &str) -> Option<Layout> {
    let (float, operands, result): (_, &[usize], _) = match op_type {
        "QLinearConv" => ("Conv", &[0, 3], 6),
        "QLinearMatMul" => ("MatMul", &[0, 3], 6),
        "QLinearAdd" => ("Add", &[0, 3], 6),
        "QLinearMul" => ("Mul", &[0, 3], 6),
        "QGemm" => ("Gemm", &[0, 3], 7),
        "QLinearSigmoid" => ("Sigmoid", &[0], 3),
        "QLinearLeakyRelu" => ("LeakyRelu", &[0], 3),
        "QLinearSoftmax" => ("Softmax", &[0], 3),
        "QLinearAveragePool" => ("AveragePool", &[0], 3),
        "QLinearGlobalAveragePool" => ("GlobalAveragePool", &[0], 3),
        _ => return None,
    };
    Some(Layout { float, operands, result })
}

impl Strip<'_> {
    /// An operator on quantized operands becomes the float one.
    pub(super) fn compute(&mut self, op: OpId) -> Option<()> {
        let node = self.g.op(op).clone();
        if node.op_type == "QLinearConcat" {
            return self.concat(op);
        }
        let layout = layout(&node.op_type)?;
        if node.int_or("channels_last", 0) != 0 {
            return None;
        }
        let y = self.g.result(op, 0)?;
        let at = |i: usize| [i, i + 1, i + 2].map(|k| self.g.operand(op, k));
        let triples: Vec<_> = layout.operands.iter().map(|i| at(*i)).collect();
        let axes = match node.op_type.as_str() {
            "QLinearConv" => [0, 0],
            "QGemm" if node.int_or("transB", 0) != 0 => [-1, 0],
            _ => [-1, -1],
        };
        let mut operands: Vec<Option<ValueId>> = Vec::new();
        for (triple, axis) in triples.iter().zip(axes) {
            operands.push(Some(self.float(*triple, axis)?));
        }
        let bias = match node.op_type.as_str() {
            "QLinearConv" => self.g.operand(op, 8),
            "QGemm" => self.g.operand(op, 6),
            _ => None,
        };
        if let Some(b) = bias {
            operands.push(Some(self.bias(b, triples[0][1], triples[1][1])?));
        }
        let mut float = Op::new(layout.float).named(node.name.clone());
        float.attrs.clone_from(&node.attrs);
        for attr in ["channels_last", "opset"] {
            float.remove_attr(attr);
        }
        let scale = self.g.operand(op, layout.result);
        let zero = self.g.operand(op, layout.result + 1);
        if scale.is_none() || self.g.is_output(y) {
            // QGemm may return float; a quantized output keeps its operator.
            (scale.is_none()).then_some(())?;
            self.g.add_op(float, &operands, &[Some(y)], Some(op));
            self.g.remove_op(op);
            return Some(());
        }
        let twin = self.twin(y);
        self.g.add_op(float, &operands, &[Some(twin)], Some(op));
        let limited = self.limited(twin, scale, zero, op);
        self.note(limited, scale, zero);
        self.params.insert(y, (scale, zero));
        self.twins.insert(y, limited);
        Some(())
    }

    /// An INT32 bias, whose scale is the product of those of input and weight.
    fn bias(
        &mut self,
        b: ValueId,
        x_scale: Option<ValueId>,
        w_scale: Option<ValueId>,
    ) -> Option<ValueId> {
        let codes = self.tensor(Some(b))?;
        let x = self.tensor(x_scale)?.single()? as f32;
        let w = self.tensor(w_scale)?.to_f32()?;
        let codes_f = codes.to_i64()?;
        let scale = |i: usize| x * if w.len() == 1 { w[0] } else { w[i % w.len()] };
        let wide: Vec<f32> =
            codes_f.iter().enumerate().map(|(i, q)| *q as f32 * scale(i)).collect();
        let name = format!("{}_float", self.g.value(b).name());
        Some(self.g.add_const(&name, Tensor::of(codes.dims(), &wide)))
    }

    fn concat(&mut self, op: OpId) -> Option<()> {
        let node = self.g.op(op).clone();
        let y = self.g.result(op, 0).filter(|y| !self.g.is_output(*y))?;
        let count = (node.arity().checked_sub(2)?) / 3;
        let mut operands = Vec::new();
        for i in 0..count {
            let triple = [2, 3, 4].map(|k| self.g.operand(op, 3 * i + k));
            operands.push(Some(self.float(triple, -1)?));
        }
        let (scale, zero) = (self.g.operand(op, 0), self.g.operand(op, 1));
        let twin = self.twin(y);
        let axis = node.int_or("axis", 0);
        let concat = Op::new("Concat").named(node.name).with("axis", axis);
        self.g.add_op(concat, &operands, &[Some(twin)], Some(op));
        let limited = self.limited(twin, scale, zero, op);
        self.note(limited, scale, zero);
        self.params.insert(y, (scale, zero));
        self.twins.insert(y, limited);
        Some(())
    }
}
