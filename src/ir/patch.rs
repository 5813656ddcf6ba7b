//! Patches: lists of edits that a rewrite plans on a shared graph and that are applied whole.

use std::borrow::Cow;

use super::{AttrValue, Graph, Op, OpId, Tensor, Type, Value, ValueId};

/// Why a rewrite did not fire; `--explain` prints it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Miss(pub Cow<'static, str>);

impl From<&'static str> for Miss {
    fn from(why: &'static str) -> Miss {
        Miss(Cow::Borrowed(why))
    }
}

impl From<String> for Miss {
    fn from(why: String) -> Miss {
        Miss(Cow::Owned(why))
    }
}

/// A value in a [`Patch`]: one of the graph, or one that the patch makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ref {
    /// A value of the graph.
    Old(ValueId),
    /// The value that the patch makes with this number.
    New(usize),
}

impl From<ValueId> for Ref {
    fn from(v: ValueId) -> Ref {
        Ref::Old(v)
    }
}

#[derive(Debug)]
enum Edit {
    NewConst(String, Tensor),
    NewValue(String, Option<Type>),
    NewOp(Op, Vec<Option<Ref>>, Vec<Option<Ref>>),
    Remove(OpId),
    SetOperand(OpId, usize, Option<Ref>),
    SetResult(OpId, usize, ValueId),
    TruncateOperands(OpId, usize),
    ReplaceUses(ValueId, Ref),
    SetData(ValueId, Tensor),
    SetAttr(OpId, String, AttrValue),
    RemoveAttr(OpId, String),
}

/// A list of edits, in order, planned against the graph as it is and applied whole or not at all.
#[derive(Debug)]
pub struct Patch {
    anchor: OpId,
    edits: Vec<Edit>,
    made: usize,
    growth: i64,
}

impl Patch {
    /// An empty patch; new ops will stand where `anchor` stands.
    pub fn at(anchor: OpId) -> Patch {
        Patch { anchor, edits: Vec::new(), made: 0, growth: 0 }
    }

    /// Adds a constant.
    pub fn constant(&mut self, name: impl Into<String>, data: Tensor) -> Ref {
        self.growth += byte_len(&data);
        self.edits.push(Edit::NewConst(name.into(), data));
        self.new_ref()
    }

    /// Adds a value, to be the result of a new op.
    pub fn value(&mut self, name: impl Into<String>, ty: Option<Type>) -> Ref {
        self.edits.push(Edit::NewValue(name.into(), ty));
        self.new_ref()
    }

    fn new_ref(&mut self) -> Ref {
        self.made += 1;
        Ref::New(self.made - 1)
    }

    /// Adds an op with one new result.
    pub fn op(&mut self, op: Op, operands: &[Ref], result: impl Into<String>) -> Ref {
        let made = self.value(result, None);
        let operands = operands.iter().map(|r| Some(*r)).collect();
        self.edits.push(Edit::NewOp(op, operands, vec![Some(made)]));
        made
    }

    /// Adds an op that makes the given values from now on; whatever made them loses them.
    pub fn op_into(&mut self, op: Op, operands: Vec<Option<Ref>>, results: Vec<Option<Ref>>) {
        self.edits.push(Edit::NewOp(op, operands, results));
    }

    /// Adds an op in the place of `old`: it takes over all results of `old`, which goes.
    pub fn replace(&mut self, g: &Graph, old: OpId, op: Op, operands: Vec<Option<Ref>>) {
        let results = g.results(old).into_iter().map(|v| v.map(Ref::Old)).collect();
        self.edits.push(Edit::NewOp(op, operands, results));
        self.remove(old);
    }

    /// Removes an op.
    pub fn remove(&mut self, op: OpId) {
        self.edits.push(Edit::Remove(op));
    }

    /// Puts a value into an operand slot.
    pub fn set_operand(&mut self, op: OpId, i: usize, value: Option<Ref>) {
        self.edits.push(Edit::SetOperand(op, i, value));
    }

    /// Makes an existing op the producer of an existing value.
    pub fn set_result(&mut self, op: OpId, i: usize, value: ValueId) {
        self.edits.push(Edit::SetResult(op, i, value));
    }

    /// Drops operand slots from `n` on.
    pub fn truncate_operands(&mut self, op: OpId, n: usize) {
        self.edits.push(Edit::TruncateOperands(op, n));
    }

    /// Makes every reader of `old` read `new`.
    pub fn replace_uses(&mut self, old: ValueId, new: impl Into<Ref>) {
        self.edits.push(Edit::ReplaceUses(old, new.into()));
    }

    /// Turns a value into a constant.
    pub fn set_data(&mut self, value: ValueId, data: Tensor) {
        self.growth += byte_len(&data);
        self.edits.push(Edit::SetData(value, data));
    }

    /// Sets an attribute.
    pub fn set_attr(&mut self, op: OpId, name: &str, value: impl Into<AttrValue>) {
        self.edits.push(Edit::SetAttr(op, name.into(), value.into()));
    }

    /// Removes an attribute.
    pub fn remove_attr(&mut self, op: OpId, name: &str) {
        self.edits.push(Edit::RemoveAttr(op, name.into()));
    }

    /// Removes `op`, whose first result equals `source`: readers read `source` instead.
    ///
    /// # Errors
    /// A graph output must keep its name and cannot be an input, a constant or another output.
    pub fn bypass(&mut self, g: &Graph, op: OpId, source: ValueId) -> Result<(), Miss> {
        let result = g.result(op, 0).ok_or("the op has no result")?;
        if g.results(op).iter().skip(1).flatten().any(|v| !g.is_unused(*v)) {
            return Err("another result of the op is in use".into());
        }
        if !g.is_output(result) {
            self.replace_uses(result, source);
            self.remove(op);
            return Ok(());
        }
        if g.is_output(source) {
            return Err("it joins two graph outputs".into());
        }
        let Some((producer, slot)) = g.producer(source) else {
            return Err("it joins a graph output with an input or a constant".into());
        };
        self.remove(op);
        self.edits.push(Edit::SetResult(producer, slot, result));
        self.replace_uses(source, result);
        Ok(())
    }

    /// States that applying the patch frees the data of `value`, if it holds any.
    pub fn frees(&mut self, g: &Graph, value: ValueId) {
        self.growth -= g.const_tensor(value).map_or(0, byte_len);
    }

    /// Bytes that the constants of the graph grow by, as far as the patch was told.
    pub fn growth(&self) -> i64 {
        self.growth
    }

    /// Nothing would change.
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }
}

fn byte_len(data: &Tensor) -> i64 {
    i64::try_from(data.byte_len()).unwrap_or(i64::MAX / 4)
}

impl Graph {
    /// Applies all edits of a patch and removes what they left without a reader.
    pub fn apply(&mut self, patch: Patch) {
        let mut made: Vec<ValueId> = Vec::with_capacity(patch.made);
        let mut loose: Vec<ValueId> = Vec::new();
        for edit in patch.edits {
            let value = |r: Ref, made: &[ValueId]| match r {
                Ref::Old(v) => v,
                Ref::New(k) => made[k],
            };
            match edit {
                Edit::NewConst(name, data) => made.push(self.add_const(&name, data)),
                Edit::NewValue(name, ty) => made.push(self.add_value(Value::new(name, ty))),
                Edit::NewOp(op, operands, results) => {
                    let operands: Vec<_> =
                        operands.into_iter().map(|r| r.map(|r| value(r, &made))).collect();
                    let results: Vec<_> =
                        results.into_iter().map(|r| r.map(|r| value(r, &made))).collect();
                    let anchor = Some(patch.anchor).filter(|a| self.has_op(*a));
                    self.add_op(op, &operands, &results, anchor);
                }
                Edit::Remove(op) => {
                    loose.extend(self.reads(op));
                    self.remove_op(op);
                }
                Edit::SetOperand(op, i, v) => {
                    loose.extend(self.operand(op, i));
                    let v = v.map(|r| value(r, &made));
                    self.set_operand(op, i, v);
                }
                Edit::SetResult(op, i, v) => {
                    loose.extend(self.result(op, i));
                    self.set_result(op, i, Some(v));
                }
                Edit::TruncateOperands(op, n) => {
                    loose.extend(self.operands(op).into_iter().skip(n).flatten());
                    self.truncate_operands(op, n);
                }
                Edit::ReplaceUses(old, new) => {
                    let new = value(new, &made);
                    self.replace_uses(old, new);
                    loose.push(old);
                }
                Edit::SetData(v, data) => {
                    if let Some(op) = self.producer_op(v) {
                        loose.extend(self.results(op).into_iter().flatten());
                    }
                    self.set_data(v, data);
                }
                Edit::SetAttr(op, name, v) => self.edit_op(op).set_attr(&name, v),
                Edit::RemoveAttr(op, name) => self.edit_op(op).remove_attr(&name),
            }
        }
        loose.extend(made);
        self.remove_dead(loose);
    }

    /// Removes those of `candidates` that nothing reads, the ops that only made them, and so on
    /// backwards.
    pub fn remove_dead(&mut self, mut candidates: Vec<ValueId>) {
        while let Some(v) = candidates.pop() {
            if !self.has_value(v) || !self.is_unused(v) {
                continue;
            }
            match self.producer_op(v) {
                Some(op) => {
                    if self.results(op).into_iter().flatten().all(|r| self.is_unused(r)) {
                        candidates.extend(self.reads(op));
                        self.remove_op(op);
                    }
                }
                None => {
                    self.remove_value_if_unused(v);
                }
            }
        }
    }
}
