//! Which constants hold the same elements.

use std::collections::HashMap;

use xxhash_rust::xxh3::xxh3_64;

use crate::ir::{DType, Graph, Tensor, TensorData, ValueId};
use crate::pass::Hashes;

/// Groups of constants with equal type, dims and elements, oldest first in each, ordered by their
/// first member. Elements are looked at only where type, dims and byte size agree, and hashed at
/// most once in a run.
pub(super) fn equal_constants(
    g: &Graph,
    hashes: &mut Hashes,
    counts: impl Fn(&Graph, ValueId) -> bool,
) -> Vec<Vec<ValueId>> {
    let mut by_kind: HashMap<(DType, &[usize], usize), Vec<ValueId>> = HashMap::new();
    for v in g.values().filter(|v| counts(g, *v)) {
        if let Some(t) = g.const_tensor(v).filter(|t| matches!(t.data(), TensorData::Raw(_))) {
            by_kind.entry((t.dtype(), t.dims(), t.byte_len())).or_default().push(v);
        }
    }
    let mut groups = Vec::new();
    #[allow(clippy::iter_over_hash_type)] // sorted below
    for mut members in by_kind.into_values().filter(|m| m.len() > 1) {
        members.sort_by_key(|v| (g.value(*v).init_rank, *v));
        let mut by_hash: HashMap<u64, Vec<Vec<ValueId>>> = HashMap::new();
        for v in members {
            let Some(t) = g.const_tensor(v) else { continue };
            let same_hash = by_hash.entry(hash(t, hashes)).or_default();
            let equals = |group: &&mut Vec<ValueId>| {
                g.const_tensor(group[0]).is_some_and(|first| same_elements(first, t))
            };
            match same_hash.iter_mut().find(equals) {
                Some(group) => group.push(v),
                None => same_hash.push(vec![v]),
            }
        }
        groups.extend(by_hash.into_values().flatten().filter(|group| group.len() > 1));
    }
    groups.sort_unstable();
    groups
}

pub(super) fn hash(t: &Tensor, hashes: &mut Hashes) -> u64 {
    match t.raw() {
        Some(raw) => hashes.of(raw, xxh3_64),
        None => 0,
    }
}

pub(super) fn same_elements(a: &Tensor, b: &Tensor) -> bool {
    a.same_storage(b) || matches!((a.raw(), b.raw()), (Some(a), Some(b)) if a == b)
}
