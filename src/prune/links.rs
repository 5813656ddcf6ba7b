//! What the links of an op do to lanes.

use super::lanes::{LaneId, NoLane};
use super::trace::Trace;
use crate::ir::{OpId, ValueId};
use crate::ops::axes::{self, AxisLink, AxisRef};

impl Trace<'_> {
    /// Joins the lane with the other axes, index by index.
    pub fn same(&mut self, id: LaneId, op: OpId, at: AxisRef, refs: &[AxisRef], broadcast: bool) {
        let len = self.lanes.get(id).len as usize;
        for r in refs.iter().filter(|r| **r != at) {
            match self.length_of(op, *r) {
                Some(1) if broadcast && len != 1 => continue,
                Some(n) if broadcast && len == 1 && n != 1 => continue,
                _ => {}
            }
            match self.lane(op, *r, None) {
                Ok(other) if self.lanes.get(other).len as usize == len => {
                    self.lanes.join_all(id, other);
                }
                Ok(other) => {
                    let n = self.lanes.get(other).len as usize;
                    self.no_lane(id, op, NoLane::Differs(n));
                }
                Err(why) => self.no_lane(id, op, why),
            }
        }
    }

    /// Notes what sums over the channels: the weight, and where that is no constant the first factor
    /// as well.
    pub fn contracted(&mut self, op: OpId, a: AxisRef, b: AxisRef) {
        let constant = |v: Option<ValueId>| v.is_some_and(|v| self.g.const_tensor(v).is_some());
        let weight = |v: Option<ValueId>| v.is_some_and(|v| axes::is_weight(self.g, v));
        let mut sides = [a, b];
        sides.sort_by_key(|s| match self.value_of(op, *s) {
            v if constant(v) => 0,
            v if weight(v) => 1,
            _ => 2,
        });
        let [first, other] = sides;
        let v = self.value_of(op, first);
        let (constant, weight) = (constant(v), weight(v));
        let Ok(lane) = self.lane(op, first, None) else { return };
        if weight {
            self.sinks.push((lane, op));
        }
        if !constant && let Ok(lane) = self.lane(op, if weight { other } else { a }, None) {
            self.pairs.push((lane, op, if weight { other } else { a }));
        }
    }

    /// Each of so many blocks of the lane goes as a whole.
    pub fn whole(&mut self, id: LaneId, op: OpId, blocks: usize) {
        let len = self.lanes.get(id).len as usize;
        if blocks == 0 || !len.is_multiple_of(blocks) {
            return self.pin_at(id, op, "its lengths do not fit");
        }
        let each = (len / blocks).max(1) as u32;
        for i in 0..len as u32 {
            self.lanes.join(id, i - i % each, id, i);
        }
    }

    /// Statistics are taken over each of so many blocks of the lane.
    pub fn statistics(&mut self, id: LaneId, op: OpId, blocks: usize) {
        match (self.approximate, blocks) {
            (true, _) => {
                self.equal.push((id, blocks));
                self.near.push((id, self.g.label(op)));
            }
            (false, 1) => {
                self.pin_at(id, op, "it takes statistics over this axis (see --approximate)");
            }
            (false, _) => self.whole(id, op, blocks),
        }
    }

    /// Both lanes, when they are there and equally long; else `id` is pinned.
    pub fn pair(
        &mut self,
        id: LaneId,
        op: OpId,
        sides: (Result<LaneId, NoLane>, Result<LaneId, NoLane>),
    ) -> Option<(LaneId, LaneId)> {
        match sides {
            (Ok(a), Ok(b)) if self.lanes.get(a).len == self.lanes.get(b).len => Some((a, b)),
            (Ok(a), Ok(b)) => {
                let other = if a == id { b } else { a };
                let n = self.lanes.get(other).len as usize;
                self.no_lane(id, op, NoLane::Differs(n));
                None
            }
            (Err(why), _) | (_, Err(why)) => {
                self.no_lane(id, op, why);
                None
            }
        }
    }

    pub fn map(&mut self, id: LaneId, op: OpId, a: AxisRef, b: AxisRef, pairs: &[(u32, u32)]) {
        match (self.lane(op, a, None), self.lane(op, b, None)) {
            (Ok(a), Ok(b)) => {
                let (n, m) = (self.lanes.get(a).len, self.lanes.get(b).len);
                if pairs.iter().any(|&(i, j)| i >= n || j >= m) {
                    return self.pin_at(id, op, "its lengths do not fit");
                }
                for &(i, j) in pairs {
                    self.lanes.join(a, i, b, j);
                }
            }
            (Err(why), _) | (_, Err(why)) => self.no_lane(id, op, why),
        }
    }

    /// Takes the option that ties the axis to one that channels run along already, else the first.
    pub fn either(
        &mut self,
        id: LaneId,
        op: OpId,
        at: AxisRef,
        k: usize,
        all: &[AxisLink],
    ) -> bool {
        let ends = |o: usize| match &all[o] {
            AxisLink::Map(a, b, _) if at == *a => Some(*b),
            AxisLink::Map(a, b, _) if at == *b => Some(*a),
            _ => None,
        };
        let fitting: Vec<usize> = (0..all.len()).filter(|o| ends(*o).is_some()).collect();
        if fitting.is_empty() {
            return false;
        }
        let option = match self.chosen.get(&(op, k)) {
            Some(&option) => option,
            None => {
                if fitting.len() > 1 {
                    self.choices.push(((op, k), id));
                }
                let met = |o: &&usize| ends(**o).is_some_and(|r| self.has_lane(op, r));
                match self.skip.get(&(op, k)) {
                    Some(n) => fitting[n % fitting.len()],
                    None => fitting.iter().find(met).copied().unwrap_or(fitting[0]),
                }
            }
        };
        self.chosen.insert((op, k), option);
        match (&all[option], ends(option)) {
            (AxisLink::Map(a, b, pairs), Some(_)) => self.map(id, op, *a, *b, pairs),
            _ => self.pin_at(id, op, "it ties the axis to another one that is cut differently"),
        }
        true
    }
}
