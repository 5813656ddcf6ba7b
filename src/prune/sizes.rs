//! Lengths written down in a graph: in constants, and in the arithmetic around `Shape`.

use super::lanes::LaneId;
use super::trace::{Trace, place};
use crate::ir::{Graph, OpId, Slot, ValueId};
use crate::ops::axes::{AxisLink, AxisRef, Place};

/// Most ops that are looked at to find where a length comes from or goes to.
const MAX_STEPS: usize = 256;

impl Trace<'_> {
    /// An op states the length of the axis as element `e` of a list: the list can be rewritten, or
    /// follows by itself.
    pub fn length(&mut self, id: LaneId, op: OpId, at: AxisRef, place: Place, e: usize) {
        let Place::Operand(slot) = place else { return };
        match literal(self.g, op, slot, e) {
            Some(Literal::Open | Literal::Const { .. }) => {}
            Some(Literal::Dim(v, axis)) => match self.lanes.lane(self.g, v, axis, None, None) {
                Ok((lane, new)) => {
                    if new {
                        self.queue.push(lane);
                    }
                    self.checks.push((lane, op, at));
                }
                Err(why) => self.no_lane(id, op, why),
            },
            None => self.pin_at(id, op, "it states the length in a form that cannot be rewritten"),
        }
    }

    /// `Shape` reads the length: where it goes must follow the axis.
    pub fn measured(&mut self, id: LaneId, op: OpId, e: usize) {
        let mut ends = Vec::new();
        if !spread(self.g, op, e, &mut ends, &mut { MAX_STEPS }) {
            return self.pin_at(id, op, "the length is used in a computation");
        }
        for (reader, slot, e) in ends {
            let links = self.links(reader);
            let of = links.as_ref().iter().flatten().find_map(|l| match l {
                AxisLink::Lengths { of, at: Place::Operand(s) } if *s == slot => of.get(e).copied(),
                _ => None,
            });
            match of {
                Some(axis) => self.checks.push((id, reader, axis)),
                None => self.pin_at(id, reader, "the length is used in a computation"),
            }
        }
    }

    pub fn check_lengths(&mut self) {
        for (lane, op, axis) in std::mem::take(&mut self.checks) {
            let other = place(self.g, op, axis)
                .and_then(|(v, axis, reader)| self.lanes.find(self.g, v, axis, reader));
            if other.is_some_and(|o| self.lanes.equal(lane, o)) {
                continue;
            }
            let why = "it takes the length of an axis that is cut differently";
            self.pin_at(lane, op, why);
            if let Some(other) = other {
                self.pin_at(other, op, why);
            }
        }
    }
}

/// Where an element of an integer list comes from.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Literal {
    /// 0, −1 or a missing list: nothing is stated.
    Open,
    /// Element `element` of the constant in operand slot `slot` of `op`.
    Const { op: OpId, slot: usize, element: usize },
    /// The length of this axis of this value, measured when the model runs.
    Dim(ValueId, usize),
}

/// Where element `e` of the integer list in operand slot `slot` of `op` comes from.
pub(super) fn literal(g: &Graph, op: OpId, slot: usize, e: usize) -> Option<Literal> {
    origin(g, op, slot, e, MAX_STEPS)
}

fn origin(g: &Graph, op: OpId, slot: usize, e: usize, steps: usize) -> Option<Literal> {
    let steps = steps.checked_sub(1)?;
    let Some(value) = g.operand(op, slot) else { return Some(Literal::Open) };
    if let Some(t) = g.const_tensor(value) {
        let element = *t.to_i64()?.get(e)?;
        let open = element == 0 || element == -1;
        return Some(if open { Literal::Open } else { Literal::Const { op, slot, element: e } });
    }
    if g.is_input(value) {
        return None;
    }
    let maker = g.producer_op(value)?;
    let node = g.op(maker);
    if !node.domain.is_empty() {
        return None;
    }
    match node.op_type.as_str() {
        "Identity" | "Cast" | "Unsqueeze" | "Squeeze" => origin(g, maker, 0, e, steps),
        "Concat" => {
            let mut at = 0;
            for i in 0..node.arity() {
                let n = vector_len(g, g.operand(maker, i)?)?;
                if e < at + n {
                    return origin(g, maker, i, e - at, steps);
                }
                at += n;
            }
            None
        }
        "Shape" => {
            let start = node.int_or("start", 0);
            Some(Literal::Dim(g.operand(maker, 0)?, usize::try_from(start).ok()? + e))
        }
        "Gather" => {
            let indices = g.const_operand(maker, 1)?.to_i64()?;
            let n = vector_len(g, g.operand(maker, 0)?)?;
            let at = crate::ops::normalize_axis(*indices.get(e)?, n)?;
            origin(g, maker, 0, at, steps)
        }
        "Slice" => {
            let (start, _) = slice_range(g, maker)?;
            origin(g, maker, 0, start + e, steps)
        }
        "Where" => {
            let chosen = g.const_operand(maker, 0)?.raw()?;
            let from = |n: usize| if n == 1 { 0 } else { e };
            let slot = if *chosen.get(from(chosen.len()))? != 0 { 1 } else { 2 };
            let n = vector_len(g, g.operand(maker, slot)?)?;
            origin(g, maker, slot, from(n), steps)
        }
        _ => None,
    }
}

/// Follows element `e` of the first result of `op` to every list that it ends up in: op, operand
/// slot and element. False when it goes anywhere else.
fn spread(
    g: &Graph,
    op: OpId,
    e: usize,
    ends: &mut Vec<(OpId, usize, usize)>,
    steps: &mut usize,
) -> bool {
    let Some(left) = steps.checked_sub(1) else { return false };
    *steps = left;
    let Some(value) = g.result(op, 0) else { return true };
    if g.is_output(value) {
        return false;
    }
    g.uses(value).into_iter().all(|(user, slot)| match slot {
        Slot::Operand(i) => spread_into(g, value, e, (user, i as usize), ends, steps),
        _ => false,
    })
}

fn spread_into(
    g: &Graph,
    value: ValueId,
    e: usize,
    (user, slot): (OpId, usize),
    ends: &mut Vec<(OpId, usize, usize)>,
    steps: &mut usize,
) -> bool {
    let node = g.op(user);
    match node.op_type.as_str() {
        _ if !node.domain.is_empty() => false,
        "Identity" | "Cast" => spread(g, user, e, ends, steps),
        "Unsqueeze" | "Squeeze" if slot == 0 => spread(g, user, e, ends, steps),
        "Concat" => {
            let before: Option<usize> = (0..slot).map(|i| vector_len(g, g.operand(user, i)?)).sum();
            before.is_some_and(|at| spread(g, user, at + e, ends, steps))
        }
        "Gather" if slot == 0 => {
            let Some(n) = vector_len(g, value) else { return false };
            let Some(indices) = g.const_operand(user, 1).and_then(|t| t.to_i64()) else {
                return false;
            };
            let hits = |i: &i64| crate::ops::normalize_axis(*i, n) == Some(e);
            let mut positions = indices.iter().enumerate().filter(|(_, i)| hits(i));
            positions.all(|(at, _)| spread(g, user, at, ends, steps))
        }
        "Slice" if slot == 0 => match slice_range(g, user) {
            Some((start, end)) if (start..end).contains(&e) => {
                spread(g, user, e - start, ends, steps)
            }
            Some(_) => true,
            None => false,
        },
        _ if slot > 0 => {
            ends.push((user, slot, e));
            true
        }
        _ => false,
    }
}

fn vector_len(g: &Graph, value: ValueId) -> Option<usize> {
    match &g.value(value).shape()?[..] {
        [] => Some(1),
        [n] => n.size(),
        _ => None,
    }
}

/// Start and end of a `Slice` with step 1 of a vector.
fn slice_range(g: &Graph, op: OpId) -> Option<(usize, usize)> {
    let n = i64::try_from(vector_len(g, g.operand(op, 0)?)?).ok()?;
    let one = |slot: usize, name: &str| match g.op(op).ints(name) {
        Some(list) => list.first().copied(),
        None => g.const_operand(op, slot)?.to_i64()?.first().copied(),
    };
    let step = if g.operand(op, 4).is_some() { one(4, "steps")? } else { 1 };
    let clamp = |v: i64| usize::try_from(if v < 0 { v + n } else { v }.clamp(0, n)).ok();
    let range = (clamp(one(1, "starts")?)?, clamp(one(2, "ends")?)?);
    (step == 1).then_some(range)
}
