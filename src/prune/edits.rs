//! What ops state about lengths: attributes and integer constants to rewrite after a cut.

use std::collections::BTreeMap;

use super::flat;
use super::groups::Groups;
use super::sizes::{self, Literal};
use super::slice::Keeps;
use super::trace::{OpLinks, place};
use crate::ir::{AttrValue, DType, Graph, OpId, Tensor};
use crate::ops::axes::{AxisLink, AxisRef, Place};

/// Changes to attributes and to integer constants.
#[derive(Default)]
pub(super) struct Edits {
    attrs: Vec<(OpId, &'static str, AttrValue)>,
    ints: BTreeMap<(OpId, usize), Vec<i64>>,
    /// Lists that were absent because all lengths were equal.
    lists: Vec<(OpId, usize, Vec<i64>)>,
}

impl Edits {
    /// What the ops around the lanes that lose atoms must state differently.
    pub fn plan(g: &Graph, opset: i64, groups: &Groups, keeps: &Keeps) -> Edits {
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
            let links: OpLinks = flat::links(g, op, opset).into();
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
            AxisLink::BlockCount(axis, attr) => {
                let (Some(keep), Some(n)) = (keep(*axis), length(g, op, *axis)) else { return };
                let blocks = usize::try_from(g.op(op).int_or(attr, 1)).unwrap_or(1).max(1);
                let mut left: Vec<usize> =
                    keep.iter().map(|k| *k as usize / (n / blocks).max(1)).collect();
                left.dedup();
                self.attrs.push((op, attr, AttrValue::Int(left.len() as i64)));
            }
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

    pub fn apply(self, g: &mut Graph) {
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
