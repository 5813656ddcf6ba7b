//! What a group is made of.

use serde::Serialize;

use super::groups::Group;
use super::select::Patterns;
use super::{Analysis, PruneError, PruneOptions};

/// A group laid open.
#[derive(Clone, Debug, Serialize)]
pub struct Explanation {
    /// Its first source layer.
    pub name: String,
    /// Channels.
    pub channels: usize,
    /// How many of them can be chosen; more channels than choices go together, or in blocks.
    pub choices: usize,
    /// Blocks that stay equally long.
    pub blocks: usize,
    /// Layers that make the channels, with their weight and its axis.
    pub makers: Vec<String>,
    /// Layers that read the channels, with their weight and its axis.
    pub readers: Vec<String>,
    /// All axes that lose channels with it: value, axis, length and how many of it are in the group.
    pub axes: Vec<AxisPart>,
    /// Why nothing may be cut.
    pub pinned: Option<String>,
    /// An op that takes statistics over its channels: cutting changes what is left.
    pub approximate: Option<String>,
}

/// An axis that channels of a group run along.
#[derive(Clone, Debug, Serialize)]
pub struct AxisPart {
    /// Name of the value.
    pub value: String,
    /// It is a constant.
    pub constant: bool,
    /// The axis.
    pub axis: usize,
    /// Its length.
    pub length: usize,
    /// Indices that belong to the group.
    pub inside: usize,
}

impl Analysis {
    /// Lays open the groups one of whose source layers or weights matches the pattern.
    ///
    /// # Errors
    /// When the pattern is no glob.
    pub fn explain(&self, pattern: &str) -> Result<Vec<Explanation>, PruneError> {
        let options = PruneOptions { include: vec![pattern.to_owned()], ..PruneOptions::default() };
        let patterns = Patterns::of(&options)?;
        let all = (0u32..).zip(self.groups());
        let matching = all.filter(|(_, g)| patterns.ratio(&g.names, 0.0).is_ok());
        Ok(matching.map(|(k, g)| self.lay_open(k, g)).collect())
    }

    fn lay_open(&self, k: u32, group: &Group) -> Explanation {
        let g = self.graph();
        let inside = |lane| {
            let classes = self.groups.classes(lane).iter();
            classes.filter(|c| self.groups.group_of[**c as usize] == k).count()
        };
        let weight = |(lane, op): &(_, _)| {
            let lane = self.groups.lanes.get(*lane);
            format!("{}: {} axis {}", g.label(*op), g.value(lane.value).name(), lane.axis)
        };
        let readers = self.groups.sinks.iter().filter(|s| inside(s.0) > 0);
        let mut readers: Vec<String> = readers.map(weight).collect();
        readers.dedup();
        let axis = |lane| {
            let part = inside(lane);
            let lane = self.groups.lanes.get(lane);
            (part > 0).then(|| AxisPart {
                value: g.value(lane.value).name().to_owned(),
                constant: g.is_const(lane.value),
                axis: lane.axis,
                length: lane.len as usize,
                inside: part,
            })
        };
        Explanation {
            name: group.name.clone(),
            channels: group.channels(),
            choices: group.choices(),
            blocks: group.cells.len(),
            makers: group.sources.iter().map(weight).collect(),
            readers,
            axes: self.groups.lanes.ids().filter_map(axis).collect(),
            pinned: group.pinned.clone(),
            approximate: group.approximate.clone(),
        }
    }
}
