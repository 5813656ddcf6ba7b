//! Hash maps for names and numbers of nodes. Their order is never looked at.

use foldhash::fast::RandomState;

/// A map with a hash that is quick for short keys, and seeded so that no file can choose what
/// collides.
pub type Map<K, V> = std::collections::HashMap<K, V, RandomState>;

/// A set with the same hash.
pub(crate) type Set<T> = std::collections::HashSet<T, RandomState>;
