//! Which nodes of two graphs correspond.
//!
//! Two proposals are made: one trusts names first, as of models from one exporter; the other trusts
//! structure first, for exporters that number nodes, where one more node renames all after it.
//! Structure is the hash of everything above a node and of everything below it (as Weisfeiler and
//! Lehman colour graphs, but along the order), with attributes and weights and then without, so all
//! nodes around a change still match from one side. What neither names nor hashes match is aligned in order, by operator. The proposal that
//! leaves more nodes alike wins; in doubt, names.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;

use similar::{Algorithm, DiffTag, capture_diff_slices};

use super::Pair;
use super::facts::{Facts, Source, source};
use crate::ir::{Graph, ValueId};

/// The match of two graphs; indices are places in [`Facts::order`].
pub(super) struct Matched {
    pub a: Facts,
    pub b: Facts,
    /// For each node of `a`, that of `b`.
    pub to: Vec<Option<usize>>,
    /// For each node of `b`, that of `a`.
    pub from: Vec<Option<usize>>,
    /// Inputs of `b` and those of `a` that they correspond to.
    pub inputs: HashMap<ValueId, ValueId>,
}

/// Matches the nodes of two graphs.
pub(super) fn match_nodes(pair: &Pair) -> Matched {
    let inputs = match_inputs(pair.a, pair.b);
    let number: HashMap<ValueId, u64> =
        pair.a.inputs().iter().zip(0u64..).map(|(v, n)| (*v, n)).collect();
    // Far from the numbers of inputs.
    const UNKNOWN: u64 = 1 << 40;
    let name_a =
        |v: ValueId| number.get(&v).or_else(|| pair.outer_a.get(&v)).copied().unwrap_or(UNKNOWN);
    let name_b = |v: ValueId| match inputs.get(&v) {
        Some(twin) => name_a(*twin),
        None => pair.outer_b.get(&v).copied().unwrap_or(UNKNOWN + 1),
    };
    let (a, b) = (Facts::of(pair.a, &name_a), Facts::of(pair.b, &name_b));
    let propose = |names_first| {
        let mut p = Proposal::new(pair, &a, &b);
        p.fill(names_first);
        (p.score(), p.to, p.from)
    };
    let (by_name, by_structure) = (propose(true), propose(false));
    let (_, to, from) = if by_name.0 >= by_structure.0 { by_name } else { by_structure };
    Matched { a, b, to, from, inputs }
}

/// Inputs of `b` with those of `a`: by name, then in order.
fn match_inputs(a: &Graph, b: &Graph) -> HashMap<ValueId, ValueId> {
    let fed = |g: &Graph| -> Vec<ValueId> {
        g.inputs().iter().copied().filter(|v| g.initializer(*v).is_none()).collect()
    };
    let (mut left, mut right) = (fed(a), fed(b));
    let mut twins = HashMap::new();
    right.retain(|w| {
        let twin = left.iter().position(|v| a.value(*v).name() == b.value(*w).name());
        twin.map(|i| twins.insert(*w, left.remove(i))).is_none()
    });
    twins.extend(right.into_iter().zip(left));
    twins
}

struct Proposal<'a> {
    pair: &'a Pair<'a>,
    a: &'a Facts,
    b: &'a Facts,
    to: Vec<Option<usize>>,
    from: Vec<Option<usize>>,
}

impl<'a> Proposal<'a> {
    fn new(pair: &'a Pair<'a>, a: &'a Facts, b: &'a Facts) -> Proposal<'a> {
        let (to, from) = (vec![None; a.order.len()], vec![None; b.order.len()]);
        Proposal { pair, a, b, to, from }
    }

    fn name_a(&self, i: usize) -> &'a str {
        &self.pair.a.op(self.a.order[i]).name
    }

    fn name_b(&self, j: usize) -> &'a str {
        &self.pair.b.op(self.b.order[j]).name
    }

    fn type_a(&self, i: usize) -> String {
        self.pair.a.op(self.a.order[i]).full_type()
    }

    fn type_b(&self, j: usize) -> String {
        self.pair.b.op(self.b.order[j]).full_type()
    }

    fn fill(&mut self, names_first: bool) {
        if names_first {
            self.by_name(true);
        }
        let (a, b) = (self.a, self.b);
        self.by(|i| Some(a.exact_up[i]), |j| Some(b.exact_up[j]));
        self.by(|i| Some(a.exact_down[i]), |j| Some(b.exact_down[j]));
        self.by(|i| Some((a.up[i], a.down[i])), |j| Some((b.up[j], b.down[j])));
        self.by(|i| Some(a.up[i]), |j| Some(b.up[j]));
        self.by(|i| Some(a.down[i]), |j| Some(b.down[j]));
        self.by_name(true);
        self.in_order();
        self.by_name(false);
    }

    /// Matches nodes by name, and by operator as well if `same_type` says so.
    fn by_name(&mut self, same_type: bool) {
        let key = |name: &'a str, ty: String| {
            Some((name, if same_type { ty } else { String::new() })).filter(|(n, _)| !n.is_empty())
        };
        let key_a: Vec<_> =
            (0..self.to.len()).map(|i| key(self.name_a(i), self.type_a(i))).collect();
        let key_b: Vec<_> =
            (0..self.from.len()).map(|j| key(self.name_b(j), self.type_b(j))).collect();
        self.by(|i| key_a[i].clone(), |j| key_b[j].clone());
    }

    fn join(&mut self, i: usize, j: usize) {
        self.to[i] = Some(j);
        self.from[j] = Some(i);
    }

    /// Matches nodes with equal keys: those of equal names first, then those of equal details; what
    /// is left in order, when equally many are left on both sides.
    fn by<K: Hash + Eq>(
        &mut self,
        key_a: impl Fn(usize) -> Option<K>,
        key_b: impl Fn(usize) -> Option<K>,
    ) {
        let mut groups: HashMap<K, (Vec<usize>, Vec<usize>)> = HashMap::new();
        for i in (0..self.to.len()).filter(|i| self.to[*i].is_none()) {
            if let Some(key) = key_a(i) {
                groups.entry(key).or_default().0.push(i);
            }
        }
        for j in (0..self.from.len()).filter(|j| self.from[*j].is_none()) {
            if let Some(group) = key_b(j).and_then(|key| groups.get_mut(&key)) {
                group.1.push(j);
            }
        }
        #[allow(clippy::iter_over_hash_type)] // groups do not touch each other
        for (mut left, mut right) in groups.into_values().filter(|g| !g.1.is_empty()) {
            let (a, b) = (self.a, self.b);
            let (x, y): (Vec<_>, Vec<_>) = (
                left.iter().map(|i| self.name_a(*i)).collect(),
                right.iter().map(|j| self.name_b(*j)).collect(),
            );
            self.twins(&mut left, &mut right, &x, &y);
            let x: Vec<u64> = left.iter().map(|i| a.detail[*i]).collect();
            let y: Vec<u64> = right.iter().map(|j| b.detail[*j]).collect();
            self.twins(&mut left, &mut right, &x, &y);
            if left.len() == right.len() {
                left.into_iter().zip(right).for_each(|(i, j)| self.join(i, j));
            }
        }
    }

    /// Joins members of a group with equal keys, in order, and takes them out of it.
    fn twins<K: Hash + Eq>(
        &mut self,
        left: &mut Vec<usize>,
        right: &mut Vec<usize>,
        x: &[K],
        y: &[K],
    ) {
        let mut waiting: HashMap<&K, Vec<usize>> = HashMap::new();
        for (j, key) in right.iter().zip(y).rev() {
            waiting.entry(key).or_default().push(*j);
        }
        for (i, key) in left.iter().zip(x) {
            if let Some(j) = waiting.get_mut(key).and_then(Vec::pop) {
                self.join(*i, j);
            }
        }
        left.retain(|i| self.to[*i].is_none());
        right.retain(|j| self.from[*j].is_none());
    }

    /// Aligns what is left between matched nodes, by operator (Myers' longest common subsequence).
    fn in_order(&mut self) {
        let x: Vec<Token> = (0..self.to.len())
            .map(|i| self.to[i].map_or_else(|| Token::Type(self.type_a(i)), Token::Matched))
            .collect();
        let y: Vec<Token> = (0..self.from.len())
            .map(|j| match self.from[j] {
                Some(_) => Token::Matched(j),
                None => Token::Type(self.type_b(j)),
            })
            .collect();
        for step in capture_diff_slices(Algorithm::Myers, &x, &y) {
            if step.tag() != DiffTag::Equal {
                continue;
            }
            for (i, j) in step.old_range().zip(step.new_range()) {
                if self.to[i].is_none() && self.from[j].is_none() {
                    self.join(i, j);
                }
            }
        }
    }

    /// Number of matched nodes that are alike: details and where operands come from.
    fn score(&self) -> usize {
        let alike = |(i, j): (usize, Option<usize>)| {
            j.is_some_and(|j| self.a.detail[i] == self.b.detail[j] && self.same_wiring(i, j))
        };
        self.to.iter().copied().enumerate().filter(|pair| alike(*pair)).count()
    }

    fn same_wiring(&self, i: usize, j: usize) -> bool {
        let (a, b) = (self.pair.a, self.pair.b);
        let (x, y) = (a.operands(self.a.order[i]), b.operands(self.b.order[j]));
        x.len() == y.len()
            && x.into_iter().zip(y).all(|(v, w)| match (source(a, v), source(b, w)) {
                (Source::Made(p, s), Source::Made(q, t)) => {
                    s == t && self.to[self.a.index[&p]] == Some(self.b.index[&q])
                }
                (x, y) => std::mem::discriminant(&x) == std::mem::discriminant(&y),
            })
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Token {
    Matched(usize),
    Type(String),
}

impl Matched {
    /// All nodes of both graphs: those of the second in its order, each followed by the removed ones
    /// that followed it in the first.
    pub(super) fn in_order(&self) -> Vec<(Option<usize>, Option<usize>)> {
        let mut pairs = Vec::with_capacity(self.to.len() + self.from.len());
        let mut told: HashSet<usize> = HashSet::new();
        let removed = |mut i: usize, pairs: &mut Vec<_>, told: &mut HashSet<usize>| {
            while i < self.to.len() && self.to[i].is_none() && told.insert(i) {
                pairs.push((Some(i), None));
                i += 1;
            }
        };
        removed(0, &mut pairs, &mut told);
        for (j, i) in self.from.iter().enumerate() {
            pairs.push((*i, Some(j)));
            if let Some(i) = i {
                removed(i + 1, &mut pairs, &mut told);
            }
        }
        pairs
    }
}
