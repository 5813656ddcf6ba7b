//! Operators between Q and DQ that move, choose or pad elements, and the ranges that pass them.

use std::collections::BTreeMap;

use super::Strip;
use crate::ir::{Graph, OpId, Tensor, ValueId};
use crate::ops::{self, Quant, dequantized};

/// The result holds elements of the first operand (Concat: of all), or numbers between them.
fn keeps_range(g: &Graph, op: OpId) -> bool {
    let node = g.op(op);
    let passes = ops::schema(node).is_some_and(|s| s.quant == Quant::PassThrough);
    let blends = ["MaxPool", "Resize", "Upsample"].iter().any(|t| node.is(t));
    passes || (blends && node.str("mode") != Some("cubic"))
}

/// Magnitude of what a Pad puts around, as far as it is known; zero where it repeats elements.
fn padding(g: &Graph, op: OpId) -> Option<f32> {
    if !g.op(op).is("Pad") {
        return None;
    }
    match g.operand(op, 2) {
        Some(_) if matches!(g.op(op).str("mode"), None | Some("constant")) => {
            g.const_operand(op, 2)?.single().map(|v| (v as f32).abs())
        }
        _ => Some(0.0),
    }
}

/// Gives results of data movement the range of what they are made of, where they have none.
pub(super) fn spread(g: &Graph, ranges: &mut BTreeMap<ValueId, f32>) {
    for op in g.order() {
        let padding = padding(g, op);
        if !(keeps_range(g, op) || g.op(op).is("Relu") || padding.is_some()) {
            continue;
        }
        let count = if g.op(op).is("Concat") { g.op(op).arity() } else { 1 };
        let of = |i| ranges.get(&g.operand(op, i)?).copied();
        let Some(all) = (0..count).map(of).collect::<Option<Vec<f32>>>() else { continue };
        let amax = all.into_iter().fold(padding.unwrap_or(0.0), f32::max);
        for v in g.results(op).into_iter().flatten() {
            ranges.entry(v).or_insert(amax);
        }
    }
}

impl Strip<'_> {
    /// The op moves to the float values behind its quantized operands.
    pub(super) fn move_data(&mut self, op: OpId) -> Option<()> {
        let node = self.g.op(op).clone();
        if node.is("ArgMax") || node.is("ArgMin") {
            let twin = *self.twins.get(&self.g.operand(op, 0)?)?;
            self.g.set_operand(op, 0, Some(twin));
            return Some(());
        }
        if !(keeps_range(self.g, op) || node.is("Pad")) {
            return None;
        }
        let results = self.g.results(op);
        let [y, rest @ ..] = &results[..] else { return None };
        let y = (*y)?;
        let quantized = results.iter().flatten().copied().collect::<Vec<_>>();
        // The second result of MaxPool holds indices.
        let splits = node.is("Split");
        if quantized.iter().any(|v| self.g.is_output(*v))
            || (!splits && rest.iter().any(Option::is_some))
        {
            return None;
        }
        let mut operands = self.g.operands(op);
        let source = operands.first().copied().flatten()?;
        let all = if node.is("Concat") { operands.len() } else { 1 };
        for v in &mut operands[..all] {
            *v = Some(*self.twins.get(&(*v)?)?);
        }
        if node.is("Pad") {
            self.pad_value(op, source, &mut operands)?;
        }
        let params = self.params.get(&source).copied();
        let made: Vec<Option<ValueId>> = match splits {
            true => results.iter().map(|v| v.map(|v| self.twin(v))).collect(),
            false => vec![Some(self.twin(y))],
        };
        if let Some(params) = params {
            self.params.extend(quantized.iter().map(|v| (*v, params)));
        }
        self.g.add_op(node, &operands, &made, Some(op));
        Some(())
    }

    /// What a Pad puts around quantized data, in float.
    fn pad_value(
        &mut self,
        op: OpId,
        source: ValueId,
        operands: &mut Vec<Option<ValueId>>,
    ) -> Option<()> {
        if !matches!(self.g.op(op).str("mode"), None | Some("constant")) {
            return Some(());
        }
        let (scale, zero) = *self.params.get(&source)?;
        let scale = self.tensor(scale)?;
        let zero = self.tensor(zero);
        let code = match operands.get(2).copied().flatten() {
            Some(v) => self.tensor(Some(v))?,
            None => {
                let dtype = zero.as_ref().map_or(crate::ir::DType::U8, Tensor::dtype);
                Tensor::new(dtype, vec![], vec![0u8; dtype.bits().div_ceil(8)].into()).ok()?
            }
        };
        let wide = dequantized(&code, &scale, zero.as_ref(), 0, 0)?;
        let name = format!("{}_pad", self.g.value(source).name());
        let v = self.g.add_const(&name, Tensor::scalar(wide.to_f32()?.first().copied()?));
        operands.resize(operands.len().max(3), None);
        operands[2] = Some(v);
        Some(())
    }

    /// `DequantizeLinear(Gather(codes, …))` and its like, of one scale: the movement of a float constant.
    pub(super) fn table(&mut self, op: OpId) -> Option<()> {
        let y = self.g.result(op, 0)?;
        let moved = self.g.operand(op, 0)?;
        let mover = self.g.producer_op(moved).filter(|m| keeps_range(self.g, *m))?;
        let node = self.g.op(mover).clone();
        if !node.domain.is_empty() || node.is("Concat") || self.g.results(mover).len() != 1 {
            return None;
        }
        let scale = self.tensor(self.g.operand(op, 1)).filter(|s| s.single().is_some())?;
        let zero = self.tensor(self.g.operand(op, 2));
        let codes = self.g.operand(mover, 0)?;
        let wide = dequantized(&self.tensor(Some(codes))?, &scale, zero.as_ref(), 0, 0)?;
        let name = format!("{}_float", self.g.value(codes).name());
        let table = self.g.add_const(&name, wide);
        let mut operands = self.g.operands(mover);
        operands[0] = Some(table);
        let read: Vec<ValueId> = self.g.reads(op).collect();
        self.g.remove_op(op);
        self.g.add_op(node, &operands, &[Some(y)], Some(mover));
        self.g.remove_dead(read);
        Some(())
    }
}
