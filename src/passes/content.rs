//! Which constants hold the same elements.

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::ir::{DType, Graph, Tensor, TensorData, ValueId};
use crate::maps::Map;
use crate::pass::Hashes;

/// Groups of constants with equal type, dims and elements, oldest first in each, ordered by their
/// first member. Elements are looked at only where type, dims and byte size agree, a few of them
/// first, and hashed at most once in a run.
pub(super) fn equal_constants(
    g: &Graph,
    hashes: &mut Hashes,
    counts: impl Fn(&Graph, ValueId) -> bool,
) -> Vec<Vec<ValueId>> {
    let mut by_kind: Map<(DType, &[usize], usize), Vec<ValueId>> = Map::default();
    for v in g.values().filter(|v| counts(g, *v)) {
        if let Some(t) = g.const_tensor(v).filter(|t| matches!(t.data(), TensorData::Raw(_))) {
            by_kind.entry((t.dtype(), t.dims(), t.byte_len())).or_default().push(v);
        }
    }
    let mut groups = Vec::new();
    #[allow(clippy::iter_over_hash_type)] // sorted below
    for mut members in by_kind.into_values().filter(|m| m.len() > 1) {
        members.sort_by_key(|v| (g.value(*v).init_rank, *v));
        let mut by_hash: Map<u64, Vec<Vec<ValueId>>> = Map::default();
        for v in alike(g, members) {
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

/// Those that have a twin as far as a few elements tell, in the same order. Large weights that
/// differ are not read any further.
fn alike(g: &Graph, members: Vec<ValueId>) -> Vec<ValueId> {
    let samples: Vec<u64> = members
        .iter()
        .map(|v| g.const_tensor(*v).and_then(Tensor::raw).map_or(0, sample))
        .collect();
    let mut counts: Map<u64, usize> = Map::default();
    samples.iter().for_each(|s| *counts.entry(*s).or_default() += 1);
    let twins = members.into_iter().zip(samples).filter(|(_, s)| counts[s] > 1);
    twins.map(|(v, _)| v).collect()
}

/// A hash of the beginning, the middle and the end.
fn sample(raw: &bytes::Bytes) -> u64 {
    const PART: usize = 256;
    if raw.len() <= 3 * PART {
        return xxh3_64(raw);
    }
    let parts = [0, raw.len() / 2, raw.len() - PART];
    parts.iter().fold(0, |h, &at| xxh3_64_with_seed(&raw[at..at + PART], h))
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
