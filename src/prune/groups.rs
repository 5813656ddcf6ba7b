//! Groups: classes of atoms whose removal is interchangeable.

use std::collections::HashMap;

use super::lanes::{LaneId, Lanes};
use super::trace::Trace;
use crate::ir::{Graph, OpId};
use crate::ops::AxisRef;

/// A class of atoms that are removed together, numbered from 0.
pub(super) type Class = u32;

/// A set of choices of which some are kept. A choice takes one class out of each cell.
#[derive(Clone, Debug)]
pub struct Group {
    /// Its first source layer.
    pub name: String,
    /// Cells of equal size: the classes of one cell may be cut in any combination, as long as
    /// every cell keeps equally many.
    pub(super) cells: Vec<Vec<Class>>,
    /// Weight lanes that make the channels, each with its op.
    pub(super) sources: Vec<(LaneId, OpId)>,
    /// Names of the source layers and of their weights, for patterns.
    pub(super) names: Vec<String>,
    /// All layers that lose channels or inputs with it.
    pub members: Vec<String>,
    /// Operators that make and read its channels: alike for groups that look alike.
    pub kind: String,
    /// Why nothing may be cut.
    pub pinned: Option<String>,
    /// An op that takes statistics over its channels: cutting changes what is left.
    pub approximate: Option<String>,
}

impl Group {
    /// Number of choices.
    pub fn choices(&self) -> usize {
        self.cells.first().map_or(0, Vec::len)
    }

    /// Number of channels: choices in all cells.
    pub fn channels(&self) -> usize {
        self.choices() * self.cells.len()
    }
}

/// Lanes, classes and groups of a graph.
pub(super) struct Groups {
    pub lanes: Lanes,
    /// Version of the default operator set.
    pub opset: i64,
    /// Class of each atom of each lane, in the order of the lanes.
    class_of: Vec<Class>,
    starts: Vec<usize>,
    pub class_count: usize,
    /// Group of each class; `u32::MAX` for classes that no weight makes.
    pub group_of: Vec<u32>,
    pub groups: Vec<Group>,
    pub sinks: Vec<(LaneId, OpId)>,
    /// Computed operands that meet channels in a sum.
    pub pairs: Vec<(LaneId, OpId, AxisRef)>,
}

/// Most ways of dividing axes that are tried.
const MAX_ROUNDS: usize = 4;

impl Groups {
    /// Finds the groups of a graph. Where an axis is divided and following the first part leads to
    /// nothing that can be cut, the other parts are tried.
    /// `approximate` lets channels go that statistics are taken over.
    pub fn find(g: &Graph, opset: i64, approximate: bool) -> Groups {
        let mut skip = HashMap::new();
        let mut best: Option<Groups> = None;
        for _ in 0..MAX_ROUNDS {
            let trace = Trace::run(g, opset, approximate, skip.clone());
            let choices = trace.choices.clone();
            let found = Groups::form(trace);
            let stuck: Vec<_> = choices.iter().filter(|(_, lane)| !found.is_open(*lane)).collect();
            for (choice, _) in &stuck {
                *skip.entry(*choice).or_insert(0) += 1;
            }
            let done = stuck.is_empty();
            if best.as_ref().is_none_or(|b| b.open_channels() < found.open_channels()) {
                best = Some(found);
            }
            if done {
                break;
            }
        }
        best.unwrap_or_else(|| Groups::form(Trace::run(g, opset, approximate, HashMap::new())))
    }

    /// Something along the lane can be cut.
    pub fn is_open(&self, lane: LaneId) -> bool {
        let group = |c: &Class| self.groups.get(self.group_of[*c as usize] as usize);
        self.classes(lane).iter().any(|c| group(c).is_some_and(|g| g.pinned.is_none()))
    }

    /// Channels of some layer all go together, so that none can.
    pub fn are_tied(&self) -> bool {
        (0u32..).zip(&self.groups).any(|(k, group)| {
            let inside = |lane: LaneId| {
                self.classes(lane).iter().filter(|c| self.group_of[**c as usize] == k).count()
            };
            let one = group.pinned.is_some() && group.channels() == 1;
            one && group.sources.iter().any(|(lane, _)| inside(*lane) > 1)
        })
    }

    fn open_channels(&self) -> usize {
        self.groups.iter().filter(|g| g.pinned.is_none()).map(Group::channels).sum()
    }

    /// Forms the groups of what a trace found.
    fn form(mut trace: Trace<'_>) -> Groups {
        let (class_of, starts, class_count) = number(&mut trace.lanes);
        let forming =
            Forming { lanes: &trace.lanes, class_of: &class_of, starts: &starts, class_count };
        let pins = forming.pins(&trace.pins);
        let blocks = forming.blocks(&trace.equal);
        let mut found = forming.by_signature(&pins);
        forming.join_blocks(&mut found, &trace.equal);
        let groups = forming.finish(&trace, found, &pins, &blocks);
        let mut group_of = vec![u32::MAX; class_count];
        for (k, group) in (0u32..).zip(&groups) {
            group.cells.iter().flatten().for_each(|c| group_of[*c as usize] = k);
        }
        let Trace { lanes, sinks, pairs, opset, .. } = trace;
        Groups { opset, class_of, starts, class_count, group_of, groups, sinks, pairs, lanes }
    }

    /// Classes along a lane.
    pub fn classes(&self, lane: LaneId) -> &[Class] {
        let at = self.starts[lane.0 as usize];
        &self.class_of[at..at + self.lanes.get(lane).len as usize]
    }
}

/// Numbers the classes by their first atom.
fn number(lanes: &mut Lanes) -> (Vec<Class>, Vec<usize>, usize) {
    const NONE: Class = Class::MAX;
    let mut of_root = vec![NONE; lanes.atom_count()];
    let (mut class_of, mut starts) = (Vec::with_capacity(lanes.atom_count()), Vec::new());
    let mut count = 0;
    for lane in lanes.ids() {
        starts.push(class_of.len());
        for i in 0..lanes.get(lane).len {
            let root = lanes.root(lane, i) as usize;
            if of_root[root] == NONE {
                of_root[root] = count;
                count += 1;
            }
            class_of.push(of_root[root]);
        }
    }
    (class_of, starts, count as usize)
}

struct Forming<'a> {
    lanes: &'a Lanes,
    class_of: &'a [Class],
    starts: &'a [usize],
    class_count: usize,
}

/// Classes by signature: which group each is in, and the groups' numbers joined by blocks.
struct Signatures {
    of_class: Vec<u32>,
    parent: Vec<u32>,
}

fn mix(hash: &mut u64, with: u64) {
    *hash = (*hash ^ with).wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(23);
}

impl Forming<'_> {
    fn classes(&self, lane: LaneId) -> &[Class] {
        let at = self.starts[lane.0 as usize];
        &self.class_of[at..at + self.lanes.get(lane).len as usize]
    }

    /// The first reason for which each class is pinned, as a number of a pin.
    fn pins(&self, pins: &[(LaneId, String)]) -> Vec<Option<u32>> {
        let mut out = vec![None; self.class_count];
        for (k, (lane, _)) in (0u32..).zip(pins) {
            for &class in self.classes(*lane) {
                out[class as usize].get_or_insert(k);
            }
        }
        out
    }

    /// In which blocks of which lanes each class has atoms, as a hash.
    fn blocks(&self, equal: &[(LaneId, usize)]) -> Vec<u64> {
        let mut out = vec![0; self.class_count];
        for (k, &(lane, groups)) in (1u64..).zip(equal) {
            let classes = self.classes(lane);
            if groups <= 1 || classes.is_empty() || !classes.len().is_multiple_of(groups) {
                continue;
            }
            for (i, &class) in classes.iter().enumerate() {
                let block = i / (classes.len() / groups);
                mix(&mut out[class as usize], (k << 32) ^ block as u64);
            }
        }
        out
    }

    /// Classes on the same lanes, pinned alike, belong together.
    fn by_signature(&self, pins: &[Option<u32>]) -> Signatures {
        let mut signature = vec![0u64; self.class_count];
        for lane in self.lanes.ids() {
            for &class in self.classes(lane) {
                mix(&mut signature[class as usize], u64::from(lane.0) + 1);
            }
        }
        let mut number: HashMap<(u64, Option<u32>), u32> = HashMap::new();
        let of_class = signature
            .iter()
            .zip(pins)
            .map(|(s, p)| {
                let next = number.len() as u32;
                *number.entry((*s, *p)).or_insert(next)
            })
            .collect();
        let parent = (0..number.len() as u32).collect();
        Signatures { of_class, parent }
    }

    /// Groups that share a lane of blocks lose equally many channels in each block.
    fn join_blocks(&self, found: &mut Signatures, equal: &[(LaneId, usize)]) {
        for &(lane, _) in equal.iter().filter(|(_, groups)| *groups > 1) {
            let mut first = None;
            for &class in self.classes(lane) {
                let root = found.root(found.of_class[class as usize]);
                let with = *first.get_or_insert(root);
                let with = found.root(with);
                found.parent[root.max(with) as usize] = root.min(with);
            }
        }
    }

    fn finish(
        &self,
        trace: &Trace<'_>,
        mut found: Signatures,
        pins: &[Option<u32>],
        blocks: &[u64],
    ) -> Vec<Group> {
        let count = found.parent.len();
        let mut members: Vec<Vec<Class>> = vec![Vec::new(); count];
        for class in 0..self.class_count as u32 {
            let root = found.root(found.of_class[class as usize]);
            members[root as usize].push(class);
        }
        let sources = self.lanes_of(&mut found, &trace.sources);
        let sinks = self.lanes_of(&mut found, &trace.sinks);
        let first = |(lane, op): &(LaneId, String)| {
            self.classes(*lane).first().map(|class| (*class, op.clone()))
        };
        let near: Vec<(Class, String)> = trace.near.iter().filter_map(first).collect();
        let mut groups = Vec::new();
        for (k, classes) in members.iter().enumerate() {
            if classes.is_empty() || sources[k].is_empty() {
                continue;
            }
            let cells = self.cells(&found, classes, blocks);
            let approximate = near.iter().filter(|(c, _)| classes.binary_search(c).is_ok());
            let approximate = approximate.map(|(_, op)| op.clone()).next();
            let pin = classes.iter().filter_map(|c| pins[*c as usize]).min();
            let mut pinned = pin.map(|p| trace.pins[p as usize].1.clone());
            if pinned.is_none() {
                pinned = unfit(&cells, classes.len(), &trace.equal, self);
            }
            let group = describe(trace.g, self.lanes, cells, &sources[k], &sinks[k], pinned);
            groups.push(Group { approximate, ..group });
        }
        groups
    }

    /// For each group, those of the lanes that it has atoms on.
    fn lanes_of(
        &self,
        found: &mut Signatures,
        lanes: &[(LaneId, OpId)],
    ) -> Vec<Vec<(LaneId, OpId)>> {
        let mut out: Vec<Vec<(LaneId, OpId)>> = vec![Vec::new(); found.parent.len()];
        for at in lanes {
            for &class in self.classes(at.0) {
                let list = &mut out[found.root(found.of_class[class as usize]) as usize];
                if list.last() != Some(at) {
                    list.push(*at);
                }
            }
        }
        for list in &mut out {
            let mut seen = std::collections::HashSet::new();
            list.retain(|at| seen.insert(*at));
        }
        out
    }

    /// The classes by signature and blocks, in order of their first class.
    fn cells(&self, found: &Signatures, classes: &[Class], blocks: &[u64]) -> Vec<Vec<Class>> {
        let mut number: HashMap<(u32, u64), usize> = HashMap::new();
        let mut cells: Vec<Vec<Class>> = Vec::new();
        for &class in classes {
            let key = (found.of_class[class as usize], blocks[class as usize]);
            let at = *number.entry(key).or_insert_with(|| {
                cells.push(Vec::new());
                cells.len() - 1
            });
            cells[at].push(class);
        }
        cells
    }
}

impl Signatures {
    fn root(&mut self, mut x: u32) -> u32 {
        while self.parent[x as usize] != x {
            let up = self.parent[self.parent[x as usize] as usize];
            self.parent[x as usize] = up;
            x = up;
        }
        x
    }
}

/// Why the cells allow no cut.
fn unfit(
    cells: &[Vec<Class>],
    classes: usize,
    equal: &[(LaneId, usize)],
    forming: &Forming<'_>,
) -> Option<String> {
    let mut inside = vec![false; forming.class_count];
    cells.iter().flatten().for_each(|c| inside[*c as usize] = true);
    let uneven = equal.iter().any(|&(lane, groups)| {
        let on = forming.classes(lane);
        on.iter().any(|c| inside[*c as usize]) && (groups == 0 || !on.len().is_multiple_of(groups))
    });
    let size = cells.first().map_or(0, Vec::len);
    if uneven || cells.iter().any(|c| c.len() != size) {
        return Some("blocks of channels that must stay equally long are made unequally".into());
    }
    if classes == 1 {
        return Some("all channels hang together, or there is only one".into());
    }
    if size == 1 {
        return Some("every block has only one channel".into());
    }
    None
}

fn describe(
    g: &Graph,
    lanes: &Lanes,
    cells: Vec<Vec<Class>>,
    sources: &[(LaneId, OpId)],
    sinks: &[(LaneId, OpId)],
    pinned: Option<String>,
) -> Group {
    let label = |op: OpId| match g.op(op).name.as_str() {
        "" => g.label(op),
        name => name.to_owned(),
    };
    let weight = |lane: LaneId| g.value(lanes.get(lane).value).name().to_owned();
    let mut names = Vec::new();
    let mut members: Vec<String> = Vec::new();
    for &(lane, op) in sources {
        names.extend([label(op), weight(lane)]);
    }
    for &(_, op) in sources.iter().chain(sinks) {
        members.push(label(op));
    }
    let mut seen = std::collections::HashSet::new();
    members.retain(|m| seen.insert(m.clone()));
    let types = |list: &[(LaneId, OpId)]| {
        let mut types: Vec<&str> = list.iter().map(|s| g.op(s.1).op_type.as_str()).collect();
        types.sort_unstable();
        types.join(" ")
    };
    let kind = format!("{} -> {}", types(sources), types(sinks));
    Group {
        name: sources.first().map(|s| label(s.1)).unwrap_or_default(),
        cells,
        sources: sources.to_vec(),
        names,
        members,
        kind,
        pinned,
        approximate: None,
    }
}
