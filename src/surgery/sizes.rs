//! Lists of sizes in which the number of samples stands, computed when the model runs.

use super::batch::{Walk, Why};
use super::place::Place;
use crate::ir::{DType, Dim, Graph, Op, OpId, Tensor, ValueId};
use crate::pass::infer_op;

impl Walk {
    /// Spreads an operand that depends on no sample along an axis.
    pub(super) fn spread(
        &mut self,
        g: &mut Graph,
        op: OpId,
        slot: usize,
        axis: usize,
        place: &Place,
    ) -> Result<(), Why> {
        const OWN: &str = "a constant that it reads holds something else for each sample";
        let v = g.operand(op, slot).ok_or("an operand is missing")?;
        let mut sizes = self.sizes.get(&v).cloned().ok_or("its sizes are not known")?;
        let mut one = v;
        if sizes.get(axis) != Some(&Dim::Known(1)) {
            let first = g.const_tensor(v).and_then(|t| first_of_equal(t, axis)).ok_or(OWN)?;
            one = g.add_const(&format!("{}_one", g.value(v).name()), first);
        }
        if self.opset < 8 {
            return Err(OWN.to_owned());
        }
        sizes[axis] = Dim::Known(1);
        let list = known(&sizes)?;
        let shape = self.list(g, op, &list, axis, place)?;
        let name = format!("{}_spread", g.value(v).name());
        let result = g.add_named(&name);
        let expand =
            g.add_op(Op::new("Expand"), &[Some(one), Some(shape)], &[Some(result)], Some(op));
        let _ = infer_op(g, expand, self.opset, &mut |_, _| {});
        self.set_operand(g, op, slot, result);
        Ok(())
    }

    /// A list of sizes with the length of the samples' axis as element `e`.
    pub(super) fn list(
        &mut self,
        g: &mut Graph,
        op: OpId,
        list: &[i64],
        e: usize,
        place: &Place,
    ) -> Result<ValueId, Why> {
        let mut number = self.number(g);
        let times = (&place.outer * &place.inner).known().ok_or("its sizes are not known")?;
        let add = |g: &mut Graph, node: Op, operands: &[ValueId], name: &str| {
            let result = g.add_named(name);
            let operands: Vec<_> = operands.iter().copied().map(Some).collect();
            let made = g.add_op(node, &operands, &[Some(result)], Some(op));
            let _ = infer_op(g, made, self.opset, &mut |_, _| {});
            result
        };
        if times != 1 {
            let factor = g.add_const("batch_factor", Tensor::vector(&[times]));
            number = add(g, Op::new("Mul"), &[number, factor], "batch_times");
        }
        let mut parts = Vec::new();
        if e > 0 {
            parts.push(g.add_const("sizes_before", Tensor::vector(&list[..e])));
        }
        parts.push(number);
        if e + 1 < list.len() {
            parts.push(g.add_const("sizes_after", Tensor::vector(&list[e + 1..])));
        }
        Ok(add(g, Op::new("Concat").with("axis", 0i64), &parts, "sizes"))
    }

    /// The number of samples, as a vector of one.
    fn number(&mut self, g: &mut Graph) -> ValueId {
        if let Some(v) = self.number {
            return v;
        }
        let first = g.uses(self.source).first().map(|u| u.0);
        let anchor = g.order().into_iter().next().or(first);
        let (shape, number) = (g.add_named("batch_shape"), g.add_named("batch_size"));
        let zero = g.add_const("batch_axis", Tensor::vector(&[0i64]));
        let of = g.add_op(Op::new("Shape"), &[Some(self.source)], &[Some(shape)], anchor);
        let pick = Op::new("Gather").with("axis", 0i64);
        let pick = g.add_op(pick, &[Some(shape), Some(zero)], &[Some(number)], anchor);
        for op in [of, pick] {
            let _ = infer_op(g, op, self.opset, &mut |_, _| {});
        }
        self.number = Some(number);
        number
    }

    pub(super) fn set_operand(&mut self, g: &mut Graph, op: OpId, slot: usize, v: ValueId) {
        let old = g.operand(op, slot);
        g.set_operand(op, slot, Some(v));
        g.remove_dead(old.into_iter().collect());
        self.rewritten += 1;
    }
}

/// All sizes, which must be known.
pub(super) fn known(shape: &[Dim]) -> Result<Vec<i64>, Why> {
    let sizes: Option<Vec<i64>> = shape.iter().map(Dim::known).collect();
    sizes.ok_or_else(|| "its sizes are not known".to_owned())
}

/// The first slice along an axis, when all are equal bit by bit.
fn first_of_equal(t: &Tensor, axis: usize) -> Option<Tensor> {
    let (bytes, width) = (t.raw()?, t.dtype().bits() / 8);
    if width == 0 || t.dtype() == DType::Str || !t.dtype().bits().is_multiple_of(8) {
        return None;
    }
    let dims = t.dims();
    let length = *dims.get(axis)?;
    let run = dims[axis + 1..].iter().product::<usize>() * width;
    if run == 0 || length == 0 {
        return None;
    }
    let mut first = Vec::new();
    for block in bytes.chunks(run * length) {
        let head = block.get(..run)?;
        if block.chunks(run).any(|slice| slice != head) {
            return None;
        }
        first.extend_from_slice(head);
    }
    let mut dims = dims.to_vec();
    dims[axis] = 1;
    Tensor::new(t.dtype(), dims, first.into()).ok()
}
