//! Which channels go: counts, ties and ranking.

use std::collections::BTreeMap;

use globset::{Glob, GlobMatcher};

use super::groups::{Class, Groups};
use super::{PruneError, PruneOptions};

/// How many of `n` go at `ratio`: rounded half to even, as `torch.nn.utils.prune` does.
pub fn removed(n: usize, ratio: f64) -> usize {
    ((n as f64 * ratio).round_ties_even() as usize).min(n)
}

/// How many of `n` choices stay when `remove` were to go: at least one, and `channels` channels in
/// each choice make a multiple of `round_to` unless all stay.
pub fn kept(n: usize, remove: usize, channels: usize, round_to: usize) -> usize {
    let keep = n.saturating_sub(remove).max(1);
    (keep..n).find(|k| (k * channels).is_multiple_of(round_to.max(1))).unwrap_or(n)
}

/// The plan for one group.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Ratio that was asked for.
    pub ratio: f64,
    /// Choices that go.
    pub remove: usize,
    /// Why it is left alone although it could be cut.
    pub skipped: Option<String>,
}

/// Patterns of the options.
pub(super) struct Patterns {
    include: Vec<GlobMatcher>,
    exclude: Vec<GlobMatcher>,
    layers: Vec<(GlobMatcher, f64)>,
}

impl Patterns {
    /// # Errors
    /// When a pattern or ratio is malformed.
    pub fn of(o: &PruneOptions) -> Result<Patterns, PruneError> {
        let glob = |p: &str| {
            let glob = Glob::new(p);
            let bad = |e: globset::Error| PruneError::Pattern {
                pattern: p.to_owned(),
                why: e.kind().to_string(),
            };
            glob.map(|g| g.compile_matcher()).map_err(bad)
        };
        let all = |list: &[String]| list.iter().map(|p| glob(p)).collect::<Result<_, _>>();
        let mut layers = Vec::new();
        for layer in &o.layers {
            layers.push((glob(&layer.pattern)?, check_ratio(layer.ratio)?));
        }
        Ok(Patterns { include: all(&o.include)?, exclude: all(&o.exclude)?, layers })
    }

    /// The ratio for layers of these names, or why they are left alone.
    pub fn ratio(&self, names: &[String], default: f64) -> Result<f64, String> {
        let any = |list: &[GlobMatcher]| {
            list.iter().find(|m| names.iter().any(|n| m.is_match(n))).map(|m| m.glob().clone())
        };
        if let Some(glob) = any(&self.exclude) {
            return Err(format!("excluded by {:?}", glob.glob()));
        }
        if !self.include.is_empty() && any(&self.include).is_none() {
            return Err("not among the included layers".into());
        }
        let own = |(m, _): &&(GlobMatcher, f64)| names.iter().any(|n| m.is_match(n));
        Ok(self.layers.iter().rev().find(own).map_or(default, |l| l.1))
    }

    /// Layers of these names have a ratio of their own.
    pub fn overridden(&self, names: &[String]) -> bool {
        self.layers.iter().any(|(m, _)| names.iter().any(|n| m.is_match(n)))
    }

    /// One warning for each pattern that matches no layer; `layers` are the names of each.
    pub fn unmatched(&self, layers: &[&[String]]) -> Vec<String> {
        let own = self.layers.iter().map(|l| &l.0);
        let all = self.include.iter().chain(&self.exclude).chain(own);
        let matches = |m: &GlobMatcher| layers.iter().any(|l| l.iter().any(|n| m.is_match(n)));
        let warning = |m: &GlobMatcher| format!("no layer or weight matches {:?}", m.glob().glob());
        all.filter(|m| !matches(m)).map(warning).collect()
    }

    /// One of the names is listed as included.
    pub fn includes(&self, names: &[String]) -> bool {
        self.include.iter().any(|m| names.iter().any(|n| m.is_match(n)))
    }
}

pub(super) fn check_ratio(ratio: f64) -> Result<f64, PruneError> {
    if (0.0..=1.0).contains(&ratio) { Ok(ratio) } else { Err(PruneError::Ratio(ratio)) }
}

/// Plans how many choices of each group go.
pub(super) fn plan(
    groups: &Groups,
    scores: &[f64],
    costs: Option<&[f64]>,
    o: &PruneOptions,
) -> Result<Vec<Plan>, PruneError> {
    let patterns = Patterns::of(o)?;
    let ratio = check_ratio(o.ratio)?;
    let cap = check_ratio(o.max_ratio)?;
    let mut plans: Vec<Plan> = groups
        .groups
        .iter()
        .map(|group| match (&group.pinned, patterns.ratio(&group.names, ratio)) {
            (None, Ok(ratio)) => Plan { ratio, remove: 0, skipped: None },
            (Some(_), r) => Plan { ratio: r.unwrap_or(0.0), remove: 0, skipped: None },
            (None, Err(why)) => Plan { ratio: 0.0, remove: 0, skipped: Some(why) },
        })
        .collect();
    let open = |k: &usize| groups.groups[*k].pinned.is_none() && plans[*k].skipped.is_none();
    let open: Vec<usize> = (0..plans.len()).filter(open).collect();
    let together = o.global || o.isomorphic;
    let (ranked, single): (Vec<usize>, Vec<usize>) =
        open.iter().partition(|k| together && !patterns.overridden(&groups.groups[**k].names));
    for k in single {
        plans[k].remove = removed(groups.groups[k].choices(), plans[k].ratio.min(cap));
    }
    let mut pools: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
    for k in ranked {
        let kind = if o.isomorphic { groups.groups[k].kind.as_str() } else { "" };
        pools.entry(kind).or_default().push(k);
    }
    for pool in pools.values() {
        global(groups, scores, costs, pool, ratio, cap, &mut plans);
    }
    for &k in &open {
        let group = &groups.groups[k];
        let n = group.choices();
        plans[k].remove = n - kept(n, plans[k].remove, group.cells.len(), o.round_to);
    }
    Ok(plans)
}

/// Takes the lowest-scored choices of all groups together until as many channels are gone as `ratio`
/// of all says. With `costs`, scores add up along a group, and what counts is what a choice adds for
/// each multiplication that it saves. It counts, so that ties do not overshoot.
fn global(
    groups: &Groups,
    scores: &[f64],
    costs: Option<&[f64]>,
    ranked: &[usize],
    ratio: f64,
    cap: f64,
    plans: &mut [Plan],
) {
    let mut choices: Vec<(f64, usize, usize)> = Vec::new();
    let mut total = 0;
    for &k in ranked {
        let group = &groups.groups[k];
        total += group.channels();
        let limit = removed(group.choices(), cap).min(group.choices() - 1);
        let orders: Vec<Vec<Class>> = group.cells.iter().map(|c| order(c, scores)).collect();
        let mut before = 0.0;
        for r in 0..limit {
            let sum: f64 = orders.iter().map(|o| scores[o[r] as usize]).sum();
            let score = match costs {
                // Scores that add up count by what this choice adds, for each unit that it saves.
                Some(costs) => (sum - before) / costs[k].max(1e-12),
                None => sum / orders.len() as f64,
            };
            before = sum;
            choices.push((score, k, r));
        }
    }
    choices.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)).then(a.2.cmp(&b.2)));
    let mut left = removed(total, ratio);
    for (_, k, _) in choices {
        let cells = groups.groups[k].cells.len();
        if cells <= left {
            left -= cells;
            plans[k].remove += 1;
        }
    }
}

/// The classes of a cell in the order in which they go: low scores first, of equal ones the higher
/// index.
fn order(cell: &[Class], scores: &[f64]) -> Vec<Class> {
    let mut order = cell.to_vec();
    let score = |c: Class| scores[c as usize];
    order.sort_by(|a, b| score(*a).total_cmp(&score(*b)).then(b.cmp(a)));
    order
}

/// Marks the classes that go.
pub(super) fn choose(groups: &Groups, scores: &[f64], plans: &[Plan]) -> Vec<bool> {
    let mut gone = vec![false; groups.class_count];
    for (group, plan) in groups.groups.iter().zip(plans).filter(|(_, p)| p.remove > 0) {
        for cell in &group.cells {
            for class in order(cell, scores).into_iter().take(plan.remove) {
                gone[class as usize] = true;
            }
        }
    }
    gone
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_those_of_torch() {
        assert_eq!(64 - removed(64, 0.4), 38);
        assert_eq!(9408 - removed(9408, 0.3), 6586);
        assert_eq!(removed(5, 0.5), 2);
        assert_eq!(removed(7, 0.5), 4);
        assert_eq!(removed(10, 0.99), 10);
    }

    #[test]
    fn something_always_stays_and_multiples_round_up() {
        for n in [1, 2, 7, 10, 100] {
            assert_eq!(kept(n, n, 1, 1), 1);
            assert_eq!(kept(n, 0, 1, 1), n);
        }
        assert_eq!(kept(64, 19, 1, 8), 48);
        assert_eq!(kept(64, 63, 1, 8), 8);
        assert_eq!(kept(10, 5, 1, 8), 8);
        assert_eq!(kept(10, 1, 1, 8), 10);
        assert_eq!(kept(4, 2, 32, 8), 2);
    }
}
