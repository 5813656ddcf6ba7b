//! Cutting: weights, biases and constants, attributes, lengths written down, and types.

use std::collections::BTreeMap;

use super::PruneError;
use super::groups::Groups;
use super::lanes::{Lane, LaneId, Part, Reader};
use super::sizes::{self, Literal};
use super::trace::{OpLinks, place};
use crate::ir::{AttrValue, DType, Dim, Graph, Op, OpId, Slot, Tensor, Type, ValueId};
use crate::ops::axes::{self, AxisLink, AxisRef, Place};
use crate::ops::{self, InferCx};

/// What stays of one axis of a tensor.
#[derive(Clone, Debug, PartialEq)]
struct Cut {
    axis: usize,
    part: Option<Part>,
    keep: Vec<u32>,
}

/// Takes the classes marked in `gone` out of the graph.
///
/// # Errors
/// When something does not fit afterwards: a bug, since groups are checked before.
pub(super) fn cut(
    g: &mut Graph,
    opset: i64,
    groups: &Groups,
    gone: &[bool],
) -> Result<(), PruneError> {
    let keeps = Keeps::of(groups, gone);
    let edits = Edits::plan(g, opset, groups, &keeps);
    let constants = keeps.constants(g, groups);
    for (value, cuts) in constants {
        cut_constant(g, value, &cuts)?;
    }
    edits.apply(g);
    for (lane, keep) in keeps.iter() {
        let lane = groups.lanes.get(lane);
        if !g.has_value(lane.value) || g.const_tensor(lane.value).is_some() {
            continue;
        }
        let ty = g.facts_mut(lane.value).ty.as_mut().and_then(Type::as_tensor_mut);
        if let Some(dim) = ty.and_then(|t| t.shape.as_mut()?.get_mut(lane.axis)) {
            *dim = Dim::from(keep.len());
        }
    }
    Ok(())
}

/// Fills the slices that consume the marked classes with zeros: the model that cutting them must
/// equal.
pub(super) fn mask_consumers(g: &mut Graph, groups: &Groups, gone: &[bool]) {
    let mut sinks: Vec<LaneId> = groups.sinks.iter().map(|s| s.0).collect();
    sinks.sort_unstable();
    sinks.dedup();
    for id in sinks {
        let lane = groups.lanes.get(id);
        let (Some(t), classes) = (g.const_tensor(lane.value), groups.classes(id)) else { continue };
        let dead: Vec<bool> = classes.iter().map(|c| gone[*c as usize]).collect();
        if dead.contains(&true)
            && let Some(t) = zeroed(t, lane, &dead)
        {
            g.set_data(lane.value, t);
        }
    }
}

/// Multiplies computed operands that meet the marked classes in a sum with zeros there.
pub(super) fn mask_pairs(g: &mut Graph, groups: &Groups, gone: &[bool]) {
    let mut pairs = groups.pairs.clone();
    pairs.sort_unstable();
    pairs.dedup();
    for (lane, op, at) in pairs {
        let AxisRef::Operand(slot, axis) = at else { continue };
        let factor = |c: &u32| if gone[*c as usize] { 0.0 } else { 1.0f32 };
        let mask: Vec<f32> = groups.classes(lane).iter().map(factor).collect();
        let Some(value) = g.operand(op, slot) else { continue };
        let Some(rank) = g.value(value).rank() else { continue };
        if !mask.contains(&0.0) || g.value(value).dtype() != Some(DType::F32) {
            continue;
        }
        let mut dims = vec![1; rank - axis];
        dims[0] = mask.len();
        let mask = g.add_const("mask", Tensor::of(&dims, &mask));
        let masked = g.add_named("masked");
        g.add_op(Op::new("Mul"), &[Some(value), Some(mask)], &[Some(masked)], Some(op));
        g.set_operand(op, slot, Some(masked));
    }
}

fn zeroed(t: &Tensor, lane: &Lane, dead: &[bool]) -> Option<Tensor> {
    let mut bytes = t.raw()?.to_vec();
    let width = t.dtype().bits() / 8;
    let n = t.dims()[lane.axis];
    let inner = t.dims()[lane.axis + 1..].iter().product::<usize>() * width;
    let outer: usize = t.dims()[..lane.axis].iter().product();
    let (rows, groups) = lane.part.map_or((0, 1), |p| (p.rows, p.groups));
    if inner == 0 || (groups > 1 && rows != 0) {
        return None;
    }
    for (at, slice) in bytes.chunks_mut(inner).enumerate() {
        let block = if groups > 1 { at / n / (outer / groups) } else { 0 };
        if dead[block * n + at % n] {
            slice.fill(0);
        }
    }
    Tensor::new(t.dtype(), t.dims().to_vec(), bytes.into()).ok()
}

/// For each lane that loses atoms, the indices that stay.
struct Keeps(BTreeMap<LaneId, Vec<u32>>);

impl Keeps {
    fn of(groups: &Groups, gone: &[bool]) -> Keeps {
        let mut out = BTreeMap::new();
        for lane in groups.lanes.ids() {
            let classes = groups.classes(lane);
            let keep: Vec<u32> = (0u32..)
                .zip(classes)
                .filter(|(_, c)| !gone[**c as usize])
                .map(|(i, _)| i)
                .collect();
            if keep.len() < classes.len() {
                out.insert(lane, keep);
            }
        }
        Keeps(out)
    }

    fn iter(&self) -> impl Iterator<Item = (LaneId, &Vec<u32>)> {
        self.0.iter().map(|(lane, keep)| (*lane, keep))
    }

    /// What stays of an axis of an op's operand or result, if anything goes.
    fn at(&self, g: &Graph, groups: &Groups, op: OpId, axis: AxisRef) -> Option<&Vec<u32>> {
        let (value, axis, reader) = place(g, op, axis)?;
        self.0.get(&groups.lanes.find(g, value, axis, reader)?)
    }

    /// Constants to cut: for each, the lanes with what stays, in the order of the lanes.
    fn constants(&self, g: &Graph, groups: &Groups) -> BTreeMap<ValueId, Vec<(Lane, Cut)>> {
        let mut out: BTreeMap<ValueId, Vec<(Lane, Cut)>> = BTreeMap::new();
        for (id, keep) in self.iter() {
            let lane = groups.lanes.get(id);
            if g.const_tensor(lane.value).is_some() {
                let cut = Cut { axis: lane.axis, part: lane.part, keep: keep.clone() };
                out.entry(lane.value).or_default().push((lane.clone(), cut));
            }
        }
        out
    }
}

/// Cuts a constant, once for each way in which its readers want it: the first keeps the name.
fn cut_constant(g: &mut Graph, value: ValueId, cuts: &[(Lane, Cut)]) -> Result<(), PruneError> {
    let Some(tensor) = g.const_tensor(value).cloned() else { return Ok(()) };
    let name = g.value(value).name().to_owned();
    let mut ways: Vec<(Vec<Cut>, Vec<Reader>)> = Vec::new();
    let uses = g.uses(value);
    if g.is_output(value) || uses.iter().any(|u| !matches!(u.1, Slot::Operand(_))) {
        ways.push((Vec::new(), Vec::new()));
    }
    for (op, slot) in uses {
        let Slot::Operand(slot) = slot else { continue };
        let at = (op, slot as usize);
        let mine = cuts.iter().filter(|(lane, _)| lane.reader.is_none_or(|r| r == at));
        let way: Vec<Cut> = mine.map(|(_, cut)| cut.clone()).collect();
        match ways.iter_mut().find(|(w, _)| *w == way) {
            Some((_, readers)) => readers.push(at),
            None => ways.push((way, vec![at])),
        }
    }
    for (k, (way, readers)) in ways.into_iter().enumerate() {
        let data = cut_tensor(&tensor, &way).ok_or(PruneError::Cut { name: name.clone() })?;
        if k == 0 {
            if !way.is_empty() {
                g.set_data(value, data);
            }
            continue;
        }
        let copy = g.add_const(&name, data);
        for (op, slot) in readers {
            g.set_operand(op, slot, Some(copy));
        }
    }
    Ok(())
}

fn cut_tensor(t: &Tensor, cuts: &[Cut]) -> Option<Tensor> {
    let mut whole = cuts.iter().filter(|c| c.part.is_none());
    let t = whole.try_fold(t.clone(), |t, c| select(&t, c.axis, &c.keep))?;
    let mut parts = cuts.iter().filter_map(|c| Some((c, c.part?)));
    parts.try_fold(t, |t, (c, part)| select_part(&t, c.axis, part, &c.keep))
}

/// The slices of `t` with these indices along `axis`.
fn select(t: &Tensor, axis: usize, keep: &[u32]) -> Option<Tensor> {
    let raw = t.raw()?;
    let width = t.dtype().bits() / 8;
    let n = *t.dims().get(axis)?;
    if width == 0 || keep.iter().any(|k| *k as usize >= n) {
        return None;
    }
    let inner = t.dims()[axis + 1..].iter().product::<usize>() * width;
    let outer: usize = t.dims()[..axis].iter().product();
    let mut bytes = Vec::with_capacity(outer * keep.len() * inner);
    for o in 0..outer {
        for &k in keep {
            let at = (o * n + k as usize) * inner;
            bytes.extend_from_slice(&raw[at..at + inner]);
        }
    }
    let mut dims = t.dims().to_vec();
    dims[axis] = keep.len();
    Tensor::new(t.dtype(), dims, bytes.into()).ok()
}

/// In each block of axis `part.rows`, the slices along `axis` that the block keeps.
fn select_part(t: &Tensor, axis: usize, part: Part, keep: &[u32]) -> Option<Tensor> {
    let (rows, n) = (*t.dims().get(part.rows)?, *t.dims().get(axis)?);
    if !rows.is_multiple_of(part.groups)
        || !keep.len().is_multiple_of(part.groups)
        || part.rows != 0
    {
        return None;
    }
    let per_block = rows / part.groups;
    let mut bytes = Vec::new();
    let mut dims = Vec::new();
    for (b, keep) in keep.chunks(keep.len() / part.groups).enumerate() {
        let block: Vec<u32> = (b * per_block..(b + 1) * per_block).map(|r| r as u32).collect();
        let own: Option<Vec<u32>> =
            keep.iter().map(|k| k.checked_sub(u32::try_from(b * n).ok()?)).collect();
        let piece = select(&select(t, part.rows, &block)?, axis, &own?)?;
        bytes.extend_from_slice(piece.raw()?);
        dims = piece.dims().to_vec();
    }
    *dims.get_mut(part.rows)? = rows;
    Tensor::new(t.dtype(), dims, bytes.into()).ok()
}

/// Changes to attributes and to integer constants.
#[derive(Default)]
struct Edits {
    attrs: Vec<(OpId, &'static str, AttrValue)>,
    ints: BTreeMap<(OpId, usize), Vec<i64>>,
    /// Lists that were absent because all lengths were equal.
    lists: Vec<(OpId, usize, Vec<i64>)>,
}

impl Edits {
    fn plan(g: &Graph, opset: i64, groups: &Groups, keeps: &Keeps) -> Edits {
        let mut ops: Vec<OpId> = keeps
            .iter()
            .flat_map(|(lane, _)| {
                let value = groups.lanes.get(lane).value;
                g.uses(value).into_iter().map(|u| u.0).chain(g.producer_op(value))
            })
            .collect();
        ops.sort_unstable();
        ops.dedup();
        let mut edits = Edits::default();
        for op in ops {
            let cx = InferCx::new(g, op, opset);
            let links: OpLinks = axes::links(ops::schema(g.op(op)), &cx).into();
            let keep = |axis| keeps.at(g, groups, op, axis);
            for link in links.as_ref().iter().flatten() {
                edits.plan_link(g, op, link, &keep);
            }
        }
        edits
    }

    fn plan_link<'k>(
        &mut self,
        g: &Graph,
        op: OpId,
        link: &AxisLink,
        keep: &dyn Fn(AxisRef) -> Option<&'k Vec<u32>>,
    ) {
        match link {
            AxisLink::Lengths { of, at } if of.iter().any(|r| keep(*r).is_some()) => match at {
                Place::Attr(name) => self.length_attr(g, op, name, of, keep),
                Place::Operand(slot) => self.length_list(g, op, *slot, of, keep),
            },
            AxisLink::Bound { on, at, element } => {
                let (Some(keep), Some(n)) = (keep(*on), length(g, op, *on)) else { return };
                self.change(g, op, *at, *element, |v| moved(v, n, keep));
            }
            AxisLink::Indices { on, slot, result } => {
                if keep(*on).is_none() && keep(*result).is_none() {
                    return;
                }
                let Some(old) = g.const_operand(op, *slot).and_then(|t| t.to_i64()) else { return };
                let n = length(g, op, *on).unwrap_or(0);
                let stay = |j: &u32| old.get(*j as usize).copied();
                let kept: Vec<i64> = match keep(*result) {
                    Some(keep) => keep.iter().filter_map(stay).collect(),
                    None => old.clone(),
                };
                let new = kept.into_iter().map(|i| match keep(*on) {
                    Some(keep) => moved(if i < 0 { i + n as i64 } else { i }, n, keep),
                    None => i,
                });
                self.ints.insert((op, *slot), new.collect());
            }
            _ => {}
        }
    }

    fn length_attr<'k>(
        &mut self,
        g: &Graph,
        op: OpId,
        name: &'static str,
        of: &[AxisRef],
        keep: &dyn Fn(AxisRef) -> Option<&'k Vec<u32>>,
    ) {
        let lengths = new_lengths(g, op, of, keep);
        match g.op(op).attr(name) {
            Some(AttrValue::Int(_)) => self.attrs.push((op, name, AttrValue::Int(lengths[0]))),
            Some(AttrValue::Ints(_)) => self.attrs.push((op, name, AttrValue::Ints(lengths))),
            _ if lengths.windows(2).all(|w| w[0] == w[1]) => {}
            _ => self.attrs.push((op, name, AttrValue::Ints(lengths))),
        }
    }

    fn length_list<'k>(
        &mut self,
        g: &Graph,
        op: OpId,
        slot: usize,
        of: &[AxisRef],
        keep: &dyn Fn(AxisRef) -> Option<&'k Vec<u32>>,
    ) {
        if g.operand(op, slot).is_none() {
            let lengths = new_lengths(g, op, of, keep);
            if lengths.windows(2).any(|w| w[0] != w[1]) {
                self.lists.push((op, slot, lengths));
            }
            return;
        }
        for (e, axis) in of.iter().enumerate() {
            let Some(kept) = keep(*axis) else { continue };
            if let Some(Literal::Const { op, slot, element }) = sizes::literal(g, op, slot, e) {
                self.change(g, op, Place::Operand(slot), element, |_| kept.len() as i64);
            }
        }
    }

    /// Changes one element of an integer list.
    fn change(&mut self, g: &Graph, op: OpId, at: Place, e: usize, f: impl Fn(i64) -> i64) {
        match at {
            Place::Operand(slot) => {
                let old = || g.const_operand(op, slot).and_then(|t| t.to_i64()).unwrap_or_default();
                let list = self.ints.entry((op, slot)).or_insert_with(old);
                if let Some(v) = list.get_mut(e) {
                    *v = f(*v);
                }
            }
            Place::Attr(name) => {
                let planned = self.attrs.iter().position(|a| a.0 == op && a.1 == name);
                let k = planned.unwrap_or_else(|| {
                    let old = g.op(op).ints(name).unwrap_or_default().to_vec();
                    self.attrs.push((op, name, AttrValue::Ints(old)));
                    self.attrs.len() - 1
                });
                if let AttrValue::Ints(list) = &mut self.attrs[k].2
                    && let Some(v) = list.get_mut(e)
                {
                    *v = f(*v);
                }
            }
        }
    }

    fn apply(self, g: &mut Graph) {
        for (op, name, value) in self.attrs {
            g.edit_op(op).set_attr(name, value);
        }
        for ((op, slot), list) in self.ints {
            let Some(value) = g.operand(op, slot) else { continue };
            let Some(data) = g.const_tensor(value).and_then(|t| like(t, &list)) else { continue };
            if g.const_tensor(value).is_some_and(|t| *t == data) {
                continue;
            }
            if g.sole_use(value).is_some() {
                g.set_data(value, data);
            } else {
                let name = g.value(value).name().to_owned();
                let copy = g.add_const(&name, data);
                g.set_operand(op, slot, Some(copy));
            }
        }
        for (op, slot, list) in self.lists {
            let name = g.result(op, 0).map(|v| g.value(v).name().to_owned()).unwrap_or_default();
            let value = g.add_const(&format!("{name}_sizes"), Tensor::vector(&list));
            g.set_operand(op, slot, Some(value));
            g.edit_op(op).remove_attr("num_outputs");
        }
    }
}

/// An integer tensor of the type of `t`, with other elements.
fn like(t: &Tensor, list: &[i64]) -> Option<Tensor> {
    let dims = if t.rank() == 0 && list.len() == 1 { vec![] } else { vec![list.len()] };
    match t.dtype() {
        DType::I64 => Some(Tensor::of(&dims, list)),
        DType::I32 => {
            let narrow: Option<Vec<i32>> = list.iter().map(|v| i32::try_from(*v).ok()).collect();
            Some(Tensor::of(&dims, &narrow?))
        }
        _ => None,
    }
}

fn length(g: &Graph, op: OpId, axis: AxisRef) -> Option<usize> {
    let (value, axis, _) = place(g, op, axis)?;
    g.value(value).shape()?.get(axis)?.size()
}

fn new_lengths<'k>(
    g: &Graph,
    op: OpId,
    of: &[AxisRef],
    keep: &dyn Fn(AxisRef) -> Option<&'k Vec<u32>>,
) -> Vec<i64> {
    let one = |r: &AxisRef| keep(*r).map(Vec::len).or_else(|| length(g, op, *r)).unwrap_or(0);
    of.iter().map(|r| one(r) as i64).collect()
}

/// A position between indices of an axis of length `n` after the cut: how many that stay lie
/// before it. The beginning and positions at or past the end stay as they are written.
fn moved(v: i64, n: usize, keep: &[u32]) -> i64 {
    let n = n as i64;
    if v == 0 || v > n {
        return v;
    }
    let at = if v < 0 { (v + n).max(0) } else { v };
    keep.iter().filter(|k| i64::from(**k) < at).count() as i64
}
