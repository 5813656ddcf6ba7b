//! One op on its way from a version of its operator to the next.

use std::borrow::Cow;

use crate::ir::{AttrValue, DType, Dim, Graph, Op, OpId, Shape, Tensor, ValueId, known_sizes};

/// What is in the way.
pub(super) type Why = Cow<'static, str>;

/// An op that an adapter rewrites in its graph.
pub(super) struct Step<'g> {
    /// The graph.
    pub g: &'g mut Graph,
    /// The op.
    pub op: OpId,
    /// The version that the model goes to in the end.
    pub to: i64,
    /// The neighbouring version that this step goes to: what is made must be right there.
    pub at: i64,
}

impl Step<'_> {
    pub fn node(&self) -> &Op {
        self.g.op(self.op)
    }

    pub fn dtype(&self, slot: usize) -> Option<DType> {
        self.g.value(self.g.operand(self.op, slot)?).dtype()
    }

    pub fn shape(&self, slot: usize) -> Option<&Shape> {
        self.g.value(self.g.operand(self.op, slot)?).shape()
    }

    pub fn rank(&self, slot: usize) -> Option<usize> {
        self.shape(slot).map(Vec::len)
    }

    /// The value in an operand slot.
    pub fn operand(&self, slot: usize) -> Result<ValueId, Why> {
        self.g.operand(self.op, slot).ok_or_else(|| format!("it has no operand {slot}").into())
    }

    /// Result `slot` is there and something reads it.
    pub fn is_read(&self, slot: usize) -> bool {
        self.g.result(self.op, slot).is_some_and(|v| !self.g.is_unused(v))
    }

    /// Shape of a result.
    pub fn result_shape(&self, slot: usize) -> Option<&Shape> {
        self.g.value(self.g.result(self.op, slot)?).shape()
    }

    /// Sizes of a result, when all are known.
    pub fn result_sizes(&self, slot: usize) -> Option<Vec<usize>> {
        known_sizes(self.result_shape(slot)?)
    }

    /// The integers in an operand, when they are known.
    pub fn ints(&self, slot: usize) -> Option<Vec<i64>> {
        if let Some(t) = self.tensor(slot) {
            return t.to_i64();
        }
        let value = self.g.value(self.g.operand(self.op, slot)?);
        value.sym.as_ref()?.iter().map(Dim::known).collect()
    }

    pub fn has(&self, slot: usize) -> bool {
        self.g.operand(self.op, slot).is_some()
    }

    /// The data of an operand that is constant, be it by a `Constant`.
    pub fn tensor(&self, slot: usize) -> Option<&Tensor> {
        let v = self.g.operand(self.op, slot)?;
        if let Some(t) = self.g.const_tensor(v) {
            return Some(t);
        }
        let maker = self.g.op(self.g.producer_op(v)?);
        if maker.is("Constant") { maker.tensor("value") } else { None }
    }

    /// A name for something new that belongs to the op.
    fn name(&self, what: &str) -> String {
        let first = || self.g.result(self.op, 0).map(|v| self.g.value(v).name());
        match self.node().name.as_str() {
            "" => format!("{}_{what}", first().unwrap_or_default()),
            name => format!("{name}_{what}"),
        }
    }

    pub fn constant(&mut self, what: &str, data: Tensor) -> ValueId {
        let name = self.name(what);
        self.g.add_const(&name, data)
    }

    pub fn set_constant(&mut self, slot: usize, what: &str, data: Tensor) {
        let v = self.constant(what, data);
        self.g.set_operand(self.op, slot, Some(v));
    }

    /// A new op before this one, and its result.
    pub fn add(&mut self, op: Op, operands: &[ValueId], what: &str) -> ValueId {
        let name = self.name(what);
        let result = self.g.add_named(&name);
        let operands: Vec<_> = operands.iter().copied().map(Some).collect();
        self.g.add_op(op, &operands, &[Some(result)], Some(self.op));
        result
    }

    /// Puts a new op between the first result of this one and all who read it.
    pub fn append(&mut self, op: Op, others: &[ValueId], what: &str) -> Result<(), Why> {
        let result = self.g.result(self.op, 0).ok_or("it has no result")?;
        let name = self.name(what);
        let inner = self.g.add_named(&name);
        self.g.set_result(self.op, 0, Some(inner));
        let operands: Vec<_> = [inner].iter().chain(others).copied().map(Some).collect();
        self.g.add_op(op, &operands, &[Some(result)], Some(self.op));
        Ok(())
    }

    /// A new op before this one that makes a value which is there already.
    pub fn add_into(&mut self, op: Op, operands: &[ValueId], result: ValueId) {
        let operands: Vec<_> = operands.iter().copied().map(Some).collect();
        self.g.add_op(op, &operands, &[Some(result)], Some(self.op));
    }

    /// A new op makes the first result from now on, under the name of this one, which goes.
    pub fn finish(&mut self, op: Op, operands: &[ValueId]) -> Result<(), Why> {
        let result = self.g.result(self.op, 0).ok_or("it has no result")?;
        let op = op.named(self.node().name.clone());
        self.add_into(op, operands, result);
        let read: Vec<ValueId> = self.g.reads(self.op).collect();
        self.g.remove_op(self.op);
        self.g.remove_dead(read);
        Ok(())
    }

    /// A scalar of the element type of operand `slot`.
    pub fn scalar_like(&mut self, slot: usize, what: &str, value: f32) -> Result<ValueId, Why> {
        let dtype = self.dtype(slot).ok_or("the element type of its input is not known")?;
        let tensor = Tensor::from_f32(dtype, &[], &[value]).ok_or("its type is no float")?;
        Ok(self.constant(what, tensor))
    }

    /// Moves a constant operand of integers into an attribute, and drops its slot, which must be
    /// the last; false when it is absent.
    pub fn operand_to_ints(&mut self, slot: usize, attr: &str) -> Result<bool, Why> {
        if !self.has(slot) {
            self.g.truncate_operands(self.op, slot);
            return Ok(false);
        }
        let ints = self.ints(slot).ok_or_else(|| format!("its {attr} are not constant"))?;
        self.drop_operand(slot);
        self.set_attr(attr, ints);
        Ok(true)
    }

    /// Drops operand slots from `slot` on.
    pub fn drop_operand(&mut self, slot: usize) {
        let read = self.g.operands(self.op).into_iter().skip(slot).flatten().collect();
        self.g.truncate_operands(self.op, slot);
        self.g.remove_dead(read);
    }

    /// Moves an attribute of integers into an operand slot; false when it is absent.
    pub fn ints_to_operand(&mut self, attr: &str, slot: usize) -> Result<bool, Why> {
        let v = match self.node().attr(attr) {
            None => return Ok(false),
            Some(AttrValue::Ints(v)) => self.constant(attr, Tensor::vector(&v.clone())),
            Some(AttrValue::Int(v)) => self.constant(attr, Tensor::vector(&[*v])),
            Some(AttrValue::Ref(..)) => self.referred(attr, "value_ints")?,
            Some(_) => return Err(format!("{attr} is no list of integers").into()),
        };
        self.move_to(attr, slot, v);
        Ok(true)
    }

    /// Moves a float attribute into an operand slot, as a scalar of the type of operand 0.
    pub fn float_to_operand(&mut self, attr: &str, slot: usize) -> Result<(), Why> {
        let v = match self.node().attr(attr) {
            None => return Ok(()),
            Some(AttrValue::Float(v)) => {
                let v = *v;
                match self.dtype(0) {
                    Some(dtype) => {
                        let t = Tensor::from_f32(dtype, &[], &[v]).ok_or("its type is no float")?;
                        self.constant(attr, t)
                    }
                    None => {
                        let c = self.constant(attr, Tensor::scalar(v));
                        self.cast_like_input(c, attr)?
                    }
                }
            }
            Some(AttrValue::Ref(..)) => {
                let c = self.referred(attr, "value_float")?;
                self.cast_like_input(c, attr)?
            }
            Some(_) => return Err(format!("{attr} is no float").into()),
        };
        self.move_to(attr, slot, v);
        Ok(())
    }

    fn cast_like_input(&mut self, v: ValueId, attr: &str) -> Result<ValueId, Why> {
        let like = self.g.operand(self.op, 0).filter(|_| self.to >= 15);
        let like = like.ok_or("the element type of its input is not known")?;
        Ok(self.add(Op::new("CastLike"), &[v, like], attr))
    }

    /// A `Constant` whose value is an attribute of the function around.
    fn referred(&mut self, attr: &str, field: &str) -> Result<ValueId, Why> {
        if self.to < 12 {
            return Err(format!("{attr} is an attribute of the function around it").into());
        }
        let value = self.node().attr(attr).cloned().ok_or("an attribute is missing")?;
        Ok(self.add(Op::new("Constant").with(field, value), &[], attr))
    }

    fn move_to(&mut self, attr: &str, slot: usize, v: ValueId) {
        self.g.edit_op(self.op).remove_attr(attr);
        self.g.set_operand(self.op, slot, Some(v));
    }

    pub fn set_attr(&mut self, name: &str, value: impl Into<AttrValue>) {
        self.g.edit_op(self.op).set_attr(name, value);
    }

    pub fn drop_attr(&mut self, name: &str) -> Result<(), Why> {
        self.g.edit_op(self.op).remove_attr(name);
        Ok(())
    }

    pub fn rename_attr(&mut self, from: &str, to: &str) -> Result<(), Why> {
        if let Some(attr) = self.g.edit_op(self.op).attrs.iter_mut().find(|a| a.name == from) {
            attr.name = to.to_owned();
        }
        Ok(())
    }

    pub fn rename(&mut self, op_type: &str) {
        self.g.edit_op(self.op).op_type = op_type.to_owned();
    }

    /// Drops results from `n` on, which nothing may read.
    pub fn truncate_results(&mut self, n: usize) -> Result<(), Why> {
        let results = self.g.results(self.op);
        if results.len() <= n {
            return Ok(());
        }
        if results[n..].iter().flatten().any(|v| !self.g.is_unused(*v)) {
            return Err("it has results that the later version does not".into());
        }
        let (op, operands) = (self.node().clone(), self.g.operands(self.op));
        let new = self.g.add_op(op, &operands, &results[..n], Some(self.op));
        self.g.remove_op(self.op);
        self.op = new;
        Ok(())
    }

    /// The attribute is not there, or its value is written in the op.
    pub fn own_attr(&self, name: &str) -> Result<(), Why> {
        match self.node().attr(name) {
            Some(AttrValue::Ref(..)) => {
                Err(format!("{name} is an attribute of the function around it").into())
            }
            _ => Ok(()),
        }
    }
}
