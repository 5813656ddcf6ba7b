//! What a cut took from each layer, for pictures.

use rayon::prelude::*;

use super::groups::Groups;
use super::importance::{self, Importance};
use super::lanes::Lane;
use crate::ir::{Graph, OpId};

/// Norms of the weights of a layer by the channel that they make.
#[derive(Clone, Debug)]
pub struct ChannelNorms {
    /// Its name.
    pub layer: String,
    /// Which norm: `L1`, `L2` or `L∞`.
    pub norm: &'static str,
    /// All channels.
    pub before: Vec<f32>,
    /// Which of them stay.
    pub kept: Vec<bool>,
    /// Those that stay, without the inputs that went; empty when it is not known.
    pub after: Vec<f32>,
}

/// Both graphs around a cut, with the layers that lost channels and which stay of each.
#[derive(Clone, Debug)]
pub struct Cuts {
    before: Graph,
    after: Graph,
    layers: Vec<(Lane, OpId, Vec<bool>)>,
    kind: Importance,
}

impl Cuts {
    pub(super) fn new(
        before: &Graph,
        after: &Graph,
        groups: &Groups,
        gone: &[bool],
        kind: Importance,
    ) -> Cuts {
        let lost = |lane| groups.classes(lane).iter().any(|c| gone[*c as usize]);
        let mut sources: Vec<_> =
            groups.groups.iter().flat_map(|g| &g.sources).filter(|(lane, _)| lost(*lane)).collect();
        sources.sort_unstable_by_key(|(lane, op)| (*op, *lane));
        sources.dedup();
        let kept = |lane| groups.classes(lane).iter().map(|c| !gone[*c as usize]).collect();
        let layer = |(lane, op): &_| (groups.lanes.get(*lane).clone(), *op, kept(*lane));
        let layers = sources.into_iter().map(layer).collect();
        Cuts { before: before.clone(), after: after.clone(), layers, kind }
    }

    /// Norms of the channels of these layers, in the order of the graph.
    pub fn norms(&self) -> Vec<ChannelNorms> {
        let one = |layer| importance::channel_norms(&self.before, &self.after, layer, self.kind);
        self.layers.par_iter().filter_map(one).collect()
    }
}
