//! Atoms: single indices of axes of values, joined into classes that are removed together.

use std::collections::HashMap;

use crate::ir::{Graph, OpId, ValueId};

/// Number of a [`Lane`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct LaneId(pub(super) u32);

/// The operand slot of an op that reads a value.
pub(super) type Reader = (OpId, usize);

/// An axis of a value that channels run along. Each index is an atom.
#[derive(Clone, Debug)]
pub(super) struct Lane {
    pub value: ValueId,
    pub axis: usize,
    /// Set for constant vectors: the reader that this lane belongs to. Each reader may cut its own
    /// copy, so that a vector shared by accident joins nothing.
    pub reader: Option<Reader>,
    pub part: Option<Part>,
    base: u32,
    pub len: u32,
}

/// The axis is shorter than the lane: index `j` of block `b` of the lane is index `j` of the axis in
/// block `b` of axis `rows`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Part {
    pub rows: usize,
    pub groups: usize,
}

/// Longest axis and most atoms that are followed.
const MAX_LANE: usize = 1 << 22;
const MAX_ATOMS: usize = 1 << 27;

type Key = (ValueId, usize, Option<Reader>);

/// All lanes met so far and the union-find over their atoms.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    lanes: Vec<Lane>,
    index: HashMap<Key, LaneId>,
    parent: Vec<u32>,
}

/// Why there is no lane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoLane {
    /// The operand or result is missing.
    Absent,
    /// The length is not known.
    Unknown,
    /// The axis has this other length.
    Differs(usize),
    /// Another op reads the weight in other blocks.
    Clash,
}

impl Lanes {
    pub fn get(&self, id: LaneId) -> &Lane {
        &self.lanes[id.0 as usize]
    }

    pub fn ids(&self) -> impl Iterator<Item = LaneId> + use<> {
        (0..self.lanes.len() as u32).map(LaneId)
    }

    /// The lane of an axis of a value as `reader` sees it, made when it is new; true when it is.
    pub fn lane(
        &mut self,
        g: &Graph,
        value: ValueId,
        axis: usize,
        reader: Option<Reader>,
        part: Option<Part>,
    ) -> Result<(LaneId, bool), NoLane> {
        let own = reader.filter(|_| is_vector(g, value));
        let key = (value, axis, own);
        if let Some(&id) = self.index.get(&key) {
            return if self.get(id).part == part { Ok((id, false)) } else { Err(NoLane::Clash) };
        }
        let len = g.value(value).shape().and_then(|s| s.get(axis)?.size());
        let len = len.and_then(|n| n.checked_mul(part.map_or(1, |p| p.groups)));
        let room = MAX_ATOMS - self.parent.len();
        let len = len.filter(|n| *n <= room.min(MAX_LANE)).ok_or(NoLane::Unknown)? as u32;
        let base = self.parent.len() as u32;
        self.parent.extend(base..base + len);
        let id = LaneId(self.lanes.len() as u32);
        self.lanes.push(Lane { value, axis, reader: own, part, base, len });
        self.index.insert(key, id);
        Ok((id, true))
    }

    /// The lane of an axis as `reader` sees it, if channels run along it.
    pub fn find(
        &self,
        g: &Graph,
        value: ValueId,
        axis: usize,
        reader: Option<Reader>,
    ) -> Option<LaneId> {
        let own = reader.filter(|_| is_vector(g, value));
        self.index.get(&(value, axis, own)).copied()
    }

    /// The class of an atom, named by its lowest atom.
    pub fn root(&mut self, lane: LaneId, i: u32) -> u32 {
        let base = self.get(lane).base;
        self.find_root(base + i)
    }

    fn find_root(&mut self, mut x: u32) -> u32 {
        while self.parent[x as usize] != x {
            let up = self.parent[self.parent[x as usize] as usize];
            self.parent[x as usize] = up;
            x = up;
        }
        x
    }

    /// Atom `i` of `a` is removed if and only if atom `j` of `b` is.
    pub fn join(&mut self, a: LaneId, i: u32, b: LaneId, j: u32) {
        let (x, y) = (self.root(a, i), self.root(b, j));
        self.parent[x.max(y) as usize] = x.min(y);
    }

    /// Joins two lanes of one length index by index.
    pub fn join_all(&mut self, a: LaneId, b: LaneId) {
        for i in 0..self.get(a).len {
            self.join(a, i, b, i);
        }
    }

    /// The two lanes have the same classes in the same order.
    pub fn equal(&mut self, a: LaneId, b: LaneId) -> bool {
        let n = self.get(a).len;
        n == self.get(b).len && (0..n).all(|i| self.root(a, i) == self.root(b, i))
    }

    pub fn atom_count(&self) -> usize {
        self.parent.len()
    }
}

/// A constant with at most one axis longer than 1: cheap to have one copy for each reader.
fn is_vector(g: &Graph, value: ValueId) -> bool {
    g.const_tensor(value).is_some_and(|t| t.dims().iter().filter(|d| **d != 1).count() <= 1)
}
