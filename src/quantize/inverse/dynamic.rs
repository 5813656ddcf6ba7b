//! `Cast(MatMulInteger(DynamicQuantizeLinear(x), w)) * (x_scale * w_scale)` as `MatMul(x, w)`.

use super::Strip;
use crate::ir::{Op, OpId, Tensor, ValueId};
use crate::ops::dequantized;

impl Strip<'_> {
    /// MatMulInteger or ConvInteger behind DynamicQuantizeLinear, with the float tail.
    pub(super) fn integer(&mut self, op: OpId) -> Option<()> {
        let quantizer = self.g.producer_op(self.g.operand(op, 0)?)?;
        if !self.g.op(quantizer).is("DynamicQuantizeLinear") {
            return None;
        }
        let x = self.g.operand(quantizer, 0)?;
        let x_scale = self.g.result(quantizer, 1)?;
        let (cast, _) = self.g.sole_use(self.g.result(op, 0)?)?;
        if !self.g.op(cast).is("Cast") {
            return None;
        }
        let (mul, slot) = self.g.sole_use(self.g.result(cast, 0)?)?;
        let scales = self.g.operand(mul, 1 - slot.min(1))?;
        let product = self.g.producer_op(scales)?;
        if !(self.g.op(mul).is("Mul") && self.g.op(product).is("Mul")) {
            return None;
        }
        let factors = [self.g.operand(product, 0)?, self.g.operand(product, 1)?];
        let other = *factors.iter().find(|v| **v != x_scale)?;
        factors.contains(&x_scale).then_some(())?;
        let weight = self.tensor(self.g.operand(op, 1))?;
        let conv = self.g.op(op).is("ConvInteger");
        let scale = self.tensor(Some(other))?;
        let scale = Tensor::vector(&scale.to_f32()?);
        let zero = self.tensor(self.g.operand(op, 3));
        let axis = if conv { 0 } else { -1 };
        let wide = dequantized(&weight, &scale, zero.as_ref(), axis, 0)?;
        let y = self.g.result(mul, 0)?;
        self.replace(op, mul, conv, x, wide, y);
        Some(())
    }

    fn replace(&mut self, op: OpId, mul: OpId, conv: bool, x: ValueId, w: Tensor, y: ValueId) {
        let node = self.g.op(op);
        let mut float = Op::new(if conv { "Conv" } else { "MatMul" }).named(node.name.clone());
        float.attrs.clone_from(&node.attrs);
        let name = self
            .g
            .operand(op, 1)
            .map_or_else(String::new, |v| format!("{}_float", self.g.value(v).name()));
        let w = self.g.add_const(&name, w);
        let read: Vec<ValueId> = self.g.reads(mul).collect();
        self.g.add_op(float, &[Some(x), Some(w)], &[Some(y)], Some(op));
        self.g.remove_op(mul);
        self.g.remove_dead(read);
    }
}
