//! Following channels through the graph, from the weights that make them, by the operators' rules.

use std::collections::HashMap;
use std::rc::Rc;

use super::flat;
use super::lanes::{LaneId, Lanes, NoLane, Part, Reader};
use crate::ir::DType::{I8, U8};
use crate::ir::{DType, Graph, OpId, Slot, ValueId};
use crate::ops::axes::{self, AxisLink, AxisRef, Place, Refusal};

/// The links of an op, or why it has none.
pub(super) type OpLinks = Rc<Result<Vec<AxisLink>, Refusal>>;

/// What following the channels found.
pub(super) struct Trace<'a> {
    pub g: &'a Graph,
    pub opset: i64,
    pub lanes: Lanes,
    links: HashMap<OpId, OpLinks>,
    pub queue: Vec<LaneId>,
    /// Which option of which `Either` of which op was taken.
    pub chosen: HashMap<(OpId, usize), usize>,
    /// For some `Either`s, how many options to pass over.
    pub skip: HashMap<(OpId, usize), usize>,
    /// Choices between several options, each with the lane that met it first.
    pub choices: Vec<((OpId, usize), LaneId)>,
    /// Weight lanes that make channels, each with its op.
    pub sources: Vec<(LaneId, OpId)>,
    /// Weight lanes that meet channels in a sum, each with its op.
    pub sinks: Vec<(LaneId, OpId)>,
    /// Computed operands that meet channels in a sum.
    pub pairs: Vec<(LaneId, OpId, AxisRef)>,
    /// Lanes whose so many blocks stay equally long.
    pub equal: Vec<(LaneId, usize)>,
    /// What statistics are taken over may be cut.
    pub approximate: bool,
    /// Lanes that statistics are taken over, with the op.
    pub near: Vec<(LaneId, String)>,
    /// Lanes that must stay as they are, with the reason.
    pub pins: Vec<(LaneId, String)>,
    /// Lanes that must have the same classes in the same order, else both are pinned.
    pub checks: Vec<(LaneId, OpId, AxisRef)>,
}

impl<'a> Trace<'a> {
    /// Follows every channel of the graph that a weight makes. Where an axis is divided in two, it
    /// follows the first part; `skip` says where to pass over so many. `approximate` lets channels go
    /// that statistics are taken over.
    pub fn run(
        g: &'a Graph,
        opset: i64,
        approximate: bool,
        skip: HashMap<(OpId, usize), usize>,
    ) -> Trace<'a> {
        let mut trace = Trace {
            g,
            opset,
            lanes: Lanes::default(),
            links: HashMap::new(),
            queue: Vec::new(),
            chosen: HashMap::new(),
            skip,
            choices: Vec::new(),
            pairs: Vec::new(),
            sources: Vec::new(),
            sinks: Vec::new(),
            equal: Vec::new(),
            approximate,
            near: Vec::new(),
            pins: Vec::new(),
            checks: Vec::new(),
        };
        for op in g.order() {
            let links = trace.links(op);
            for link in links.as_ref().iter().flatten() {
                trace.seed(op, link);
            }
        }
        trace.drain();
        trace.check_lengths();
        trace
    }

    /// The links of an op.
    pub fn links(&mut self, op: OpId) -> OpLinks {
        let (g, opset) = (self.g, self.opset);
        let make = || Rc::new(flat::links(g, op, opset));
        Rc::clone(self.links.entry(op).or_insert_with(make))
    }

    fn seed(&mut self, op: OpId, link: &AxisLink) {
        let lane = match *link {
            AxisLink::Source { weight, .. } | AxisLink::Made(weight)
                if self.is_weight(op, weight) =>
            {
                self.lane(op, weight, None)
            }
            AxisLink::Blocked { part, rows, groups, source: true, .. }
                if self.is_weight(op, part) =>
            {
                self.lane(op, part, Some(Part { rows, groups }))
            }
            _ => return,
        };
        if let Ok(lane) = lane {
            self.sources.push((lane, op));
        }
    }

    /// The axis is one of a weight whose channels can be ranked.
    fn is_weight(&self, op: OpId, axis: AxisRef) -> bool {
        let AxisRef::Operand(slot, _) = axis else { return false };
        let Some(value) = self.g.operand(op, slot) else { return false };
        let ranked = |d: DType| d.is_float() || matches!(d, I8 | U8);
        match self.g.const_tensor(value) {
            Some(t) => ranked(t.dtype()) && t.raw().is_some(),
            None => {
                self.g.value(value).dtype().is_some_and(ranked) && axes::is_weight(self.g, value)
            }
        }
    }

    pub fn value_of(&self, op: OpId, axis: AxisRef) -> Option<ValueId> {
        place(self.g, op, axis).map(|at| at.0)
    }

    /// The lane of an axis of an op; a new one is queued.
    pub fn lane(&mut self, op: OpId, axis: AxisRef, part: Option<Part>) -> Result<LaneId, NoLane> {
        let (value, axis, reader) = place(self.g, op, axis).ok_or(NoLane::Absent)?;
        let (id, new) = self.lanes.lane(self.g, value, axis, reader, part)?;
        if new {
            self.queue.push(id);
        }
        Ok(id)
    }

    fn drain(&mut self) {
        while let Some(lane) = self.queue.pop() {
            self.visit(lane);
        }
    }

    /// Follows a lane into every op that touches its value.
    fn visit(&mut self, id: LaneId) {
        let lane = self.lanes.get(id).clone();
        let (value, g) = (lane.value, self.g);
        if g.is_input(value) {
            self.pin(id, "it is a graph input".into());
        }
        if g.is_output(value) {
            self.pin(id, "it is a graph output".into());
        }
        match (g.producer(value), g.const_tensor(value)) {
            (Some((op, slot)), _) => self.follow(id, op, AxisRef::Result(slot, lane.axis)),
            (None, Some(t)) if t.raw().is_none() || t.dtype().bits() < 8 => {
                self.pin(id, "a constant is stored in a form that cannot be cut".into());
            }
            (None, Some(_)) => {}
            (None, None) if !g.is_input(value) => self.pin(id, "it comes from outside".into()),
            (None, None) => {}
        }
        for (op, slot) in g.uses(value) {
            match slot {
                Slot::Operand(i) => {
                    let at = (op, i as usize);
                    if lane.reader.is_none_or(|r| r == at) {
                        self.follow(id, op, AxisRef::Operand(at.1, lane.axis));
                    }
                }
                _ if lane.reader.is_none() => {
                    let why = format!("{}: a subgraph reads it", g.label(op));
                    self.pin(id, why);
                }
                _ => {}
            }
        }
    }

    pub fn pin(&mut self, lane: LaneId, why: String) {
        self.pins.push((lane, why));
    }

    pub fn pin_at(&mut self, lane: LaneId, op: OpId, why: &str) {
        self.pin(lane, format!("{}: {why}", self.g.label(op)));
    }

    /// Applies what the rule of `op` says about one of its axes.
    fn follow(&mut self, id: LaneId, op: OpId, at: AxisRef) {
        let links = self.links(op);
        let links = match links.as_ref() {
            Ok(links) => links,
            Err(why) => return self.pin_at(id, op, why),
        };
        let mut followed = false;
        for (k, link) in links.iter().enumerate() {
            followed |= self.apply(id, op, at, k, link);
        }
        if !followed {
            self.pin_at(id, op, "it does not keep this axis apart from others");
        }
    }

    /// Applies one link if it speaks of the axis; true when it did.
    fn apply(&mut self, id: LaneId, op: OpId, at: AxisRef, k: usize, link: &AxisLink) -> bool {
        match link {
            AxisLink::Same(refs) if refs.contains(&at) => self.same(id, op, at, refs, false),
            AxisLink::Broadcast(refs) if refs.contains(&at) => self.same(id, op, at, refs, true),
            AxisLink::Source { weight, result } if at == *weight || at == *result => {
                self.same(id, op, at, &[*weight, *result], false);
            }
            AxisLink::Contract(a, b) if at == *a || at == *b => {
                self.same(id, op, at, &[*a, *b], false);
                self.contracted(op, *a, *b);
            }
            AxisLink::Blocked { axis, part, rows, groups, source } => {
                if at != *axis && at != *part {
                    return false;
                }
                let spec = Some(Part { rows: *rows, groups: *groups });
                let sides = (self.lane(op, *axis, None), self.lane(op, *part, spec));
                if let Some((a, p)) = self.pair(id, op, sides) {
                    self.lanes.join_all(a, p);
                    self.equal.push((a, *groups));
                    if !source {
                        self.sinks.push((p, op));
                    }
                }
            }
            AxisLink::Equal(axis, groups) if at == *axis => {
                self.equal.push((id, *groups));
                return false;
            }
            AxisLink::Whole(axis, blocks) if at == *axis => {
                self.whole(id, op, *blocks);
                return false;
            }
            AxisLink::Map(a, b, pairs) if at == *a || at == *b => self.map(id, op, *a, *b, pairs),
            AxisLink::Either(options) => return self.either(id, op, at, k, options),
            AxisLink::Mixed(axis) if at == *axis => {
                self.pin_at(id, op, "it mixes the values along this axis");
            }
            AxisLink::Statistics(axis, blocks) if at == *axis => self.statistics(id, op, *blocks),
            AxisLink::Fixed(axis, why) if at == *axis => self.pin_at(id, op, why),
            AxisLink::Lengths { of, at: place } => {
                for (e, _) in of.iter().enumerate().filter(|(_, r)| **r == at) {
                    self.length(id, op, at, *place, e);
                }
                return false;
            }
            AxisLink::Bound { on, at: Place::Operand(slot), .. } if at == *on => {
                if self.g.const_operand(op, *slot).is_none() {
                    self.pin_at(id, op, "its bounds are computed");
                }
                return false;
            }
            AxisLink::Measured(axis, e) if at == *axis => self.measured(id, op, *e),
            _ => return false,
        }
        true
    }

    pub fn length_of(&self, op: OpId, at: AxisRef) -> Option<usize> {
        let (value, axis, _) = place(self.g, op, at)?;
        self.g.value(value).shape()?.get(axis)?.size()
    }

    pub fn no_lane(&mut self, id: LaneId, op: OpId, why: NoLane) {
        let why = match why {
            NoLane::Absent => return,
            NoLane::Unknown => "the length of an axis that goes with it is not known".to_owned(),
            NoLane::Differs(n) => {
                format!("it meets an axis of {n} where it has {}", self.lanes.get(id).len)
            }
            NoLane::Clash => "its weight is read in two ways".to_owned(),
        };
        self.pin_at(id, op, &why);
    }

    pub fn has_lane(&self, op: OpId, at: AxisRef) -> bool {
        place(self.g, op, at)
            .is_some_and(|(v, axis, reader)| self.lanes.find(self.g, v, axis, reader).is_some())
    }
}

/// The value, axis and reader that an axis of an op means.
pub(super) fn place(
    g: &Graph,
    op: OpId,
    axis: AxisRef,
) -> Option<(ValueId, usize, Option<Reader>)> {
    match axis {
        AxisRef::Operand(slot, axis) => Some((g.operand(op, slot)?, axis, Some((op, slot)))),
        AxisRef::Result(slot, axis) => Some((g.result(op, slot)?, axis, None)),
    }
}
