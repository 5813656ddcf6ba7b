//! Spaces: activations whose channels can be rescaled together without a change of the result.
//!
//! A space is grown from one activation through ops that are positively homogeneous and keep
//! channels apart: where `x` becomes `x / s`, so does what they make of it. It ends where a weight
//! takes the factor in: rows of the ops that make its values are divided by `s`, columns of those
//! that read them multiplied. Any other op, a graph input or an output forbids the space.

use std::collections::{BTreeMap, BTreeSet};

use super::super::placement::linear;
use crate::ir::layout::Layout;
use crate::ir::{Graph, OpId, Slot, ValueId};

/// How a constant takes factors in: element `i` belongs to channel
/// `block(i) * dims[axis] + index(i)`, `block` counting equal parts, `index` along the axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Edit {
    pub op: OpId,
    pub slot: usize,
    pub axis: usize,
    pub blocks: usize,
    /// Divided by the factors; else multiplied.
    pub divide: bool,
}

impl Edit {
    /// The channel of every element of a constant of these dims.
    pub(super) fn channels(&self, dims: &[usize]) -> impl Iterator<Item = usize> + use<> {
        let len: usize = dims.iter().product();
        let layout = Layout::new(dims, Some(self.axis));
        let (each, part) = (dims[self.axis], (len / self.blocks.max(1)).max(1));
        let blocks = self.blocks;
        (0..len).map(move |i| {
            let block = if blocks == 1 { 0 } else { i / part };
            block * each + layout.channel(i)
        })
    }
}

/// Activations of one set of channel factors.
#[derive(Clone, Debug, Default)]
pub(super) struct Space {
    pub channels: usize,
    /// The activations and the axes of their channels.
    pub values: BTreeMap<ValueId, usize>,
    pub edits: BTreeSet<Edit>,
    /// Results of `Clip` from 0 to a maximum: not homogeneous, but as good where no element meets
    /// the maximum.
    pub clips: Vec<(ValueId, f64)>,
    /// Products of two activations.
    pub products: BTreeSet<OpId>,
}

/// The axis of the channels that a linear op reads, in an input of this rank.
pub(super) fn input_axis(g: &Graph, op: OpId, rank: usize) -> Option<usize> {
    match linear(g, op)?.rule {
        "W1" => Some(1).filter(|a| *a < rank),
        _ => rank.checked_sub(1),
    }
}

/// The edit that multiplies the columns of a linear op whose input is `value`; `None` where its
/// weight cannot take it.
pub(super) fn reader(g: &Graph, op: OpId, slot: usize, axis: usize, n: usize) -> Option<Edit> {
    let l = linear(g, op).filter(|l| l.input_slot == slot && slot == 0)?;
    let dims = g.const_tensor(l.weight)?.dims();
    g.sole_use(l.weight)?;
    let rank = g.value(l.input).rank()?;
    let edit = |axis, blocks| Some(Edit { op, slot: 1, axis, blocks, divide: false });
    let node = g.op(op);
    match l.rule {
        "W1" if axis == 1 => {
            let group = usize::try_from(node.int_or("group", 1)).ok()?;
            (dims[1] * group == n && dims[0] % group == 0).then_some(())?;
            edit(1, group)
        }
        "W3" if axis == 1 && node.int_or("transA", 0) == 0 => {
            let axis = usize::from(node.int_or("transB", 0) != 0);
            (dims[axis] == n).then_some(())?;
            edit(axis, 1)
        }
        "W4" if dims.len() == 2 && axis + 1 == rank && dims[0] == n => edit(0, 1),
        _ => None,
    }
}

/// The space of an activation whose channels lie along `axis`, or the op that forbids it.
pub(super) fn grow(g: &Graph, value: ValueId, axis: usize) -> Result<Space, String> {
    let size = g.value(value).shape().and_then(|s| s.get(axis)?.size());
    let channels = size.filter(|n| *n > 1).ok_or("its channels are not known")?;
    let mut space = Space { channels, ..Space::default() };
    let mut queue = vec![(value, axis)];
    while let Some((v, axis)) = queue.pop() {
        if let Some(old) = space.values.get(&v) {
            if *old != axis {
                return Err("its channels lie along two axes".into());
            }
            continue;
        }
        let extent = g.value(v).shape().and_then(|s| s.get(axis)?.size());
        if extent != Some(channels) || g.is_input(v) || g.is_output(v) || g.is_capture(v) {
            return Err(format!("{} cannot be scaled", g.value(v).name()));
        }
        space.values.insert(v, axis);
        let mut grower = Grower { g, space: &mut space, queue: &mut queue, v, axis };
        let blocked = |op: OpId| format!("{} does not let factors through", g.label(op));
        let op = g.producer_op(v).ok_or("a constant")?;
        grower.backward(op).ok_or_else(|| blocked(op))?;
        for (op, slot) in g.uses(v) {
            let Slot::Operand(i) = slot else { return Err(blocked(op)) };
            grower.forward(op, i as usize).ok_or_else(|| blocked(op))?;
        }
    }
    let inside = |v: Option<ValueId>| v.is_some_and(|v| space.values.contains_key(&v));
    for &op in &space.products {
        let factors = [g.operand(op, 0), g.operand(op, 1)].map(inside);
        if factors[0] == factors[1] || !inside(g.result(op, 0)) {
            return Err(format!("{} multiplies two of its tensors", g.label(op)));
        }
    }
    Ok(space)
}

struct Grower<'a> {
    g: &'a Graph,
    space: &'a mut Space,
    queue: &'a mut Vec<(ValueId, usize)>,
    v: ValueId,
    axis: usize,
}

/// Ops with one input that keep factors and channels, axis 1 or any.
fn keeps(g: &Graph, op: OpId, axis: usize) -> bool {
    let node = g.op(op);
    let windows = ["MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool"];
    match node.op_type.as_str() {
        "Relu" | "LeakyRelu" | "Identity" => true,
        t if windows.contains(&t) => axis == 1 && g.result(op, 1).is_none(),
        "Flatten" | "Reshape" | "Squeeze" => axis == 1 && drops_unit_axes(g, op),
        _ => false,
    }
}

/// `[N, C, 1, …]` becomes `[N, C]`.
pub(super) fn drops_unit_axes(g: &Graph, op: OpId) -> bool {
    let shape = |v: Option<ValueId>| g.value(v?).shape().cloned();
    let (Some(x), Some(y)) = (shape(g.operand(op, 0)), shape(g.result(op, 0))) else {
        return false;
    };
    let unit = x.iter().skip(2).all(|d| d.size() == Some(1));
    unit && y.len() == 2 && x.len() > 2 && x[1].size().is_some() && x[1] == y[1]
}

impl Grower<'_> {
    fn push(&mut self, v: Option<ValueId>) -> Option<()> {
        self.queue.push((v?, self.axis));
        Some(())
    }

    fn edit(&mut self, op: OpId, slot: usize, axis: usize, divide: bool) -> Option<()> {
        let t = self.g.const_operand(op, slot)?;
        (t.dims().get(axis) == Some(&self.space.channels)).then_some(())?;
        self.space.edits.insert(Edit { op, slot, axis, blocks: 1, divide });
        Some(())
    }

    /// The axis of an operand, broadcast to `self.v`, that meets the channels.
    fn aligned(&self, rank: usize) -> Option<usize> {
        (self.axis + rank).checked_sub(self.g.value(self.v).rank()?)
    }

    /// A constant operand of elementwise ops takes the factors in.
    fn edit_aligned(&mut self, op: OpId, slot: usize, divide: bool) -> Option<()> {
        let axis = self.aligned(self.g.const_operand(op, slot)?.rank())?;
        self.edit(op, slot, axis, divide)
    }

    fn bias(&mut self, op: OpId) -> Option<()> {
        match self.g.operand(op, 2) {
            None => Some(()),
            Some(b) => {
                let axis = self.g.const_tensor(b)?.rank().checked_sub(1)?;
                self.edit(op, 2, axis, true)
            }
        }
    }

    /// The op that makes the value divides it, or its inputs are of the space too.
    fn backward(&mut self, op: OpId) -> Option<()> {
        let (g, node) = (self.g, self.g.op(op));
        let rank = g.value(self.v).rank()?;
        let last = self.axis + 1 == rank;
        let plain = |name: &str| node.float_or(name, 1.0) == 1.0;
        node.domain.is_empty().then_some(())?;
        match node.op_type.as_str() {
            "Conv" | "Gemm" | "MatMul" => {
                let l = linear(g, op).filter(|l| l.weight_slot == 1)?;
                g.sole_use(l.weight)?;
                let axis = match l.rule {
                    "W1" if self.axis == 1 => 0,
                    "W3" if last && plain("alpha") && plain("beta") => {
                        usize::from(node.int_or("transB", 0) == 0)
                    }
                    "W4" if last && g.const_tensor(l.weight)?.rank() == 2 => 1,
                    _ => return None,
                };
                self.edit(op, 1, axis, true)?;
                if l.rule == "W4" { Some(()) } else { self.bias(op) }
            }
            "LayerNormalization" if last => {
                let axis = node.int_or("axis", -1);
                (axis == -1 || axis == i64::try_from(self.axis).ok()?).then_some(())?;
                self.edit(op, 1, 0, true)?;
                self.bias(op)
            }
            "Add" | "Sub" => (0..2).try_for_each(|slot| self.term(op, slot)),
            "Mul" => self.factor_behind(op),
            "Clip" => self.clip(op),
            _ if keeps(g, op, self.axis) => self.push(g.operand(op, 0)),
            _ => None,
        }
    }

    /// A term of a sum is of the space, or takes the factors in.
    fn term(&mut self, op: OpId, slot: usize) -> Option<()> {
        let v = self.g.operand(op, slot)?;
        if self.g.is_const(v) {
            return self.edit_aligned(op, slot, true);
        }
        (self.g.value(v).rank()? == self.g.value(self.v).rank()?).then_some(())?;
        self.push(Some(v))
    }

    fn factor_behind(&mut self, op: OpId) -> Option<()> {
        let g = self.g;
        let constant = (0..2).find(|s| g.const_operand(op, *s).is_some());
        if let Some(slot) = constant {
            return match g.const_operand(op, slot)?.len() {
                1 => self.push(g.operand(op, 1 - slot)),
                _ => self.edit_aligned(op, slot, true),
            };
        }
        self.space.products.insert(op);
        let gate = |v: ValueId| {
            let made = g.producer_op(v).map_or("", |p| g.op(p).op_type.as_str());
            matches!(made, "Sigmoid" | "HardSigmoid" | "Tanh" | "Softmax")
        };
        let rank = g.value(self.v).rank()?;
        let same = |v: &ValueId| g.value(*v).rank() == Some(rank) && !gate(*v);
        let x = (0..2).filter_map(|s| g.operand(op, s)).find(same);
        self.push(x)
    }

    /// `Clip(0, max)`; without a maximum it is a Relu.
    fn clip(&mut self, op: OpId) -> Option<()> {
        let (g, result) = (self.g, self.g.result(op, 0)?);
        let low = g.const_operand(op, 1)?.single()?;
        (low == 0.0).then_some(())?;
        if let Some(max) = g.operand(op, 2) {
            let max = g.const_tensor(max)?.single().filter(|m| *m > 0.0)?;
            if !self.space.clips.contains(&(result, max)) {
                self.space.clips.push((result, max));
            }
        }
        self.push(g.operand(op, 0))?;
        self.push(Some(result))
    }

    /// A reader of the value multiplies, or its result is of the space too.
    fn forward(&mut self, op: OpId, slot: usize) -> Option<()> {
        let (g, node) = (self.g, self.g.op(op));
        node.domain.is_empty().then_some(())?;
        match node.op_type.as_str() {
            "Conv" | "Gemm" | "MatMul" => {
                let edit = reader(g, op, slot, self.axis, self.space.channels)?;
                self.space.edits.insert(edit);
                Some(())
            }
            "Add" | "Sub" => self.same_rank_result(op),
            "Mul" => match g.const_operand(op, 1 - slot.min(1)).map(|t| t.len()) {
                Some(1) => self.same_rank_result(op),
                Some(_) => self.edit_aligned(op, 1 - slot.min(1), false),
                None => {
                    self.space.products.insert(op);
                    self.same_rank_result(op)
                }
            },
            "Clip" if slot == 0 => self.clip(op),
            _ if slot == 0 && keeps(g, op, self.axis) => self.push(g.result(op, 0)),
            _ => None,
        }
    }

    fn same_rank_result(&mut self, op: OpId) -> Option<()> {
        let y = self.g.result(op, 0)?;
        (self.g.value(y).rank()? == self.g.value(self.v).rank()?).then_some(())?;
        self.push(Some(y))
    }
}
