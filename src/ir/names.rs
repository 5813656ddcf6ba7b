//! Value names of one graph.

use petgraph::stable_graph::NodeIndex;

use crate::maps::Map;

/// Which value has which name. Looked up only by key, so the order of the map never shows.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    taken: Map<String, NodeIndex>,
    next: Map<String, u32>,
}

impl Names {
    pub(super) fn get(&self, name: &str) -> Option<NodeIndex> {
        self.taken.get(name).copied()
    }

    /// Takes `wish` for `index`, or `wish_1`, `wish_2`, … when it is taken.
    pub(super) fn take(&mut self, wish: &str, index: NodeIndex) -> String {
        let mut name = wish.to_owned();
        if wish.is_empty() || self.taken.contains_key(wish) {
            let stem = if wish.is_empty() { "value" } else { wish };
            let next = self.next.entry(stem.to_owned()).or_insert(0);
            loop {
                *next += 1;
                name = format!("{stem}_{next}");
                if !self.taken.contains_key(&name) {
                    break;
                }
            }
        }
        self.taken.insert(name.clone(), index);
        name
    }

    pub(super) fn release(&mut self, name: &str, index: NodeIndex) {
        if self.taken.get(name) == Some(&index) {
            self.taken.remove(name);
        }
    }
}
