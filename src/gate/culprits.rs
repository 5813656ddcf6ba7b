//! Which layers a number comes from, and which of them grew.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::{Measures, Metric};

/// A part of the model that a budget is exceeded by.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Culprit {
    /// Its name.
    pub name: String,
    /// Its operator; empty for activations and operators themselves.
    pub op: String,
    /// What it took in the baseline; `None` without one, 0 for what is new.
    pub before: Option<f64>,
    /// What it takes.
    pub after: f64,
}

/// As many as fit in a cell.
const SHOWN: usize = 3;

/// The parts that grew the most over the baseline, else the largest ones. `twins` gives the names
/// in the baseline of parts that are called otherwise there.
pub(super) fn culprits(
    metric: Metric,
    now: &Measures,
    before: Option<&Measures>,
    twins: &HashMap<String, String>,
) -> Vec<Culprit> {
    let old: Option<BTreeMap<String, f64>> =
        before.map(|m| parts(metric, m).into_iter().map(|(name, _, n)| (name, n)).collect());
    let mut found: Vec<Culprit> = parts(metric, now)
        .into_iter()
        .map(|(name, op, after)| {
            let before = old.as_ref().map(|old| {
                let twin = twins.get(&name).unwrap_or(&name);
                old.get(twin).copied().unwrap_or(0.0)
            });
            Culprit { name, op, before, after }
        })
        .filter(|c| c.after > c.before.unwrap_or(0.0))
        .collect();
    let weight = |c: &Culprit| c.after - c.before.unwrap_or(0.0);
    found.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
    found.truncate(SHOWN);
    found
}

/// Name, operator and share of the parts that make up a metric.
fn parts(metric: Metric, m: &Measures) -> Vec<(String, String, f64)> {
    let layers = |value: &dyn Fn(&super::LayerCost) -> f64| {
        m.layer.iter().map(|l| (l.name.clone(), l.op.clone(), value(l))).collect()
    };
    let plain = |map: &BTreeMap<String, u64>| {
        map.iter().map(|(name, n)| (name.clone(), String::new(), *n as f64)).collect()
    };
    match metric {
        Metric::FileBytes | Metric::DownloadBytes => layers(&|l| l.bytes as f64),
        Metric::Params => layers(&|l| l.params as f64),
        Metric::Macs => layers(&|l| l.macs.unwrap_or(0) as f64),
        Metric::Nodes => plain(&m.ops),
        Metric::PeakActivations => plain(&m.alive),
    }
}
