//! The inverse: a float model from a quantized one, and the ranges that it was quantized with.
//!
//! Q/DQ pairs, operators that compute on quantized data (QLinearConv and its kin, of the standard and
//! of com.microsoft) and data movement between Q and DQ become float operators; weights and biases are
//! dequantized; DynamicQuantizeLinear with MatMulInteger or ConvInteger becomes the float operator,
//! tables of embeddings whose rows are dequantized as they are gathered become float ones.
//! What is not understood stays as it is.

mod constants;
mod dynamic;
mod moving;
mod operators;

use std::collections::BTreeMap;

use super::tables;
use crate::ir::{Graph, Model, Op, OpId, Tensor, Type, Value, ValueId};
use crate::ops::{self, Quant, dequantized};
use crate::pass::visit_graphs;

/// What was found in a quantized model.
#[derive(Clone, Debug, Default)]
pub struct Stripped {
    /// For float values that were quantized: the largest magnitude that was representable.
    pub ranges: BTreeMap<ValueId, f32>,
    /// Ops taken out or turned into float.
    pub ops: usize,
}

/// Turns a model into float, in place.
pub fn strip(m: &mut Model) -> Stripped {
    // Clip has its bounds as operands from version 11 on.
    if m.default_opset() < 11 && crate::convert::raise_opset(m, 11).is_err() {
        return Stripped::default();
    }
    crate::pass::visit_model(m, &mut |g, _| crate::passes::lift_constants::lift(g));
    crate::pass::infer_model(m, &mut |_, _| {});
    let mut main = Stripped::default();
    visit_graphs(&mut m.graph, &mut |g| {
        let (twins, params) = (BTreeMap::new(), BTreeMap::new());
        let mut strip = Strip { g, twins, params, found: Stripped::default() };
        strip.run();
        let found = strip.found;
        // The main graph is visited last.
        main = Stripped { ranges: found.ranges, ops: main.ops + found.ops };
    });
    crate::pass::infer_model(m, &mut |_, _| {});
    main.ranges.retain(|v, _| m.graph.has_value(*v));
    moving::spread(&m.graph, &mut main.ranges);
    main
}

struct Strip<'a> {
    g: &'a mut Graph,
    /// The float value behind a quantized one.
    twins: BTreeMap<ValueId, ValueId>,
    /// Scale and zero point of a quantized value.
    params: BTreeMap<ValueId, (Option<ValueId>, Option<ValueId>)>,
    found: Stripped,
}

impl Strip<'_> {
    fn run(&mut self) {
        for op in self.g.order() {
            if !self.g.has_op(op) {
                continue;
            }
            let node = self.g.op(op);
            let standard = node.domain.is_empty();
            let known = standard || node.domain == "com.microsoft";
            let done = match node.op_type.as_str() {
                "QuantizeLinear" if known => self.quantize(op),
                "DequantizeLinear" if known => self.dequantize(op),
                "MatMulInteger" | "ConvInteger" if standard => self.integer(op),
                t if known && t.starts_with("QLinear") || (t == "QGemm" && !standard) => {
                    self.compute(op)
                }
                "Mul" if standard => tables::restore(self.g, op).or_else(|| self.move_data(op)),
                _ if standard => self.move_data(op),
                _ => None,
            };
            self.found.ops += usize::from(done.is_some());
        }
        let quantized: Vec<ValueId> = self.twins.keys().copied().collect();
        self.g.remove_dead(quantized);
    }

    fn tensor(&self, v: Option<ValueId>) -> Option<Tensor> {
        self.g.const_tensor(v?).cloned()
    }

    /// Notes what a scale and a zero point let a value be.
    fn note(&mut self, v: ValueId, scale: Option<ValueId>, zero: Option<ValueId>) {
        let (Some(scale), zero) = (self.tensor(scale), self.tensor(zero)) else { return };
        if let Some(amax) = constants::largest(&scale, zero.as_ref()) {
            let known = self.found.ranges.entry(v).or_insert(amax);
            *known = known.max(amax);
        }
    }

    fn quantize(&mut self, op: OpId) -> Option<()> {
        let (x, y) = (self.g.operand(op, 0)?, self.g.result(op, 0)?);
        if self.g.is_output(y) {
            return None;
        }
        if self.g.is_const(x) {
            self.twins.insert(y, x);
            return Some(());
        }
        let (scale, zero) = (self.g.operand(op, 1), self.g.operand(op, 2));
        let twin = self.limited(x, scale, zero, op);
        self.note(twin, scale, zero);
        self.params.insert(y, (scale, zero));
        self.twins.insert(y, twin);
        Some(())
    }

    /// The value as quantization limits it. Quantizers leave a Relu or Clip out where the range says
    /// the same: where nothing below zero can be represented and `x` may be negative, a Clip takes
    /// its place.
    fn limited(
        &mut self,
        x: ValueId,
        scale: Option<ValueId>,
        zero: Option<ValueId>,
        op: OpId,
    ) -> ValueId {
        let highest = self.tensor(scale).zip(self.tensor(zero));
        let highest = highest.and_then(|(s, z)| constants::highest_from_zero(&s, &z));
        let Some(highest) = highest.filter(|_| !self.is_never_negative(x)) else { return x };
        let name = self.g.value(x).name().to_owned();
        let low = self.g.add_const(&format!("{name}_min"), Tensor::scalar(0.0f32));
        let high = self.g.add_const(&format!("{name}_max"), Tensor::scalar(highest));
        let ty = self.g.value(x).ty.clone();
        let limited = self.g.add_value(Value::new(format!("{name}_limited"), ty));
        let clip = Op::new("Clip").named(format!("{name}_Clip"));
        self.g.add_op(clip, &[Some(x), Some(low), Some(high)], &[Some(limited)], Some(op));
        limited
    }

    fn is_never_negative(&self, mut v: ValueId) -> bool {
        const POSITIVE: [&str; 7] =
            ["Relu", "Sigmoid", "Softmax", "HardSigmoid", "Exp", "Abs", "Clip"];
        for _ in 0..16 {
            let Some(op) = self.g.producer_op(v) else { return false };
            let node = self.g.op(op);
            let moves = ops::schema(node).is_some_and(|s| s.quant == Quant::PassThrough);
            if node.domain.is_empty() && POSITIVE.contains(&node.op_type.as_str()) {
                return !node.is("Clip") || self.clips_at_zero(op);
            }
            match self.g.operand(op, 0) {
                Some(before) if moves && !node.is("Concat") => v = before,
                _ => return false,
            }
        }
        false
    }

    fn clips_at_zero(&self, op: OpId) -> bool {
        self.g.const_operand(op, 1).and_then(Tensor::single).is_some_and(|low| low >= 0.0)
    }

    fn dequantize(&mut self, op: OpId) -> Option<()> {
        let (x, y) = (self.g.operand(op, 0)?, self.g.result(op, 0)?);
        if let Some(twin) = self.twins.get(&x).copied() {
            if self.g.is_output(y) {
                self.g.add_op(Op::new("Identity"), &[Some(twin)], &[Some(y)], Some(op));
            } else {
                self.g.replace_uses(y, twin);
            }
        } else if !self.g.is_const(x) {
            return self.table(op);
        } else {
            let scale = self.tensor(self.g.operand(op, 1))?;
            let zero = self.tensor(self.g.operand(op, 2));
            let data = self.tensor(Some(x))?;
            let node = self.g.op(op);
            let (axis, block) = (node.int_or("axis", 1), node.int_or("block_size", 0));
            let wide = dequantized(&data, &scale, zero.as_ref(), axis, block)?;
            self.g.set_data(y, wide);
        }
        let read: Vec<ValueId> = self.g.reads(op).collect();
        self.g.remove_op(op);
        self.g.remove_dead(read);
        Some(())
    }

    /// The float value behind a quantized operand with its scale and zero point.
    fn float(&mut self, [x, scale, zero]: [Option<ValueId>; 3], axis: i64) -> Option<ValueId> {
        let x = x?;
        if let Some(twin) = self.twins.get(&x) {
            return Some(*twin);
        }
        let (scale, zero) = (self.tensor(scale)?, self.tensor(zero));
        let data = self.tensor(Some(x))?;
        let wide = dequantized(&data, &scale, zero.as_ref(), axis, 0)?;
        let name = format!("{}_float", self.g.value(x).name());
        Some(self.g.add_const(&name, wide))
    }

    /// A float value for a quantized result.
    fn twin(&mut self, y: ValueId) -> ValueId {
        let shape = self.g.value(y).shape().cloned();
        let name = format!("{}_float", self.g.value(y).name());
        let ty = Type::tensor(crate::ir::DType::F32, shape);
        let v = self.g.add_value(Value::new(name, Some(ty)));
        self.twins.insert(y, v);
        v
    }
}

#[cfg(test)]
mod tests;
