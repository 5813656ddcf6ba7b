//! Budgets for models in continuous integration: numbers, rules and behaviour, absolute or against
//! a baseline.

mod baseline;
mod budgets;
mod config;
mod culprits;
pub mod format;
mod limit;
mod lock;
mod measure;
mod rules;
mod runtime;

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

pub use baseline::{Baseline, BaselineSpec, Old};
pub use budgets::{Budgets, Metric};
pub use config::{CONFIG, Config};
pub use culprits::Culprit;
pub use limit::{Limit, ParseLimitError};
pub(crate) use lock::write_whole;
pub use lock::{LOCK, Lock};
pub use measure::{LayerCost, Measures, measure};
pub use runtime::Runtime;

use crate::ir::Model;
use crate::onnx::LoadError;
use crate::report::numbers;

/// Why a gate cannot say whether budgets are kept.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum GateError {
    #[error("{path}: {what}")]
    Config { path: PathBuf, what: String },
    #[error("{0}")]
    Budget(String),
    #[error("cannot read {path}")]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{path}")]
    Model { path: PathBuf, source: LoadError },
    #[error("{0}")]
    Git(String),
    #[error("{model}: {what}")]
    Unmeasured { model: String, what: String },
}

impl GateError {
    fn model(path: &Path, source: LoadError) -> GateError {
        GateError::Model { path: path.to_owned(), source }
    }
}

/// Whether a budget is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Status {
    /// It is.
    Passed,
    /// It is not.
    Exceeded,
    /// The baseline does not have the model.
    New,
}

/// One budget of one model.
#[derive(Clone, Debug, Serialize)]
pub struct Check {
    /// Path of the model.
    pub model: String,
    /// Key of the budget.
    pub budget: &'static str,
    /// Whether it is kept.
    pub status: Status,
    /// What the budget says.
    pub limit: String,
    /// What the model takes, for people.
    pub value: String,
    /// The same as a number.
    pub number: Option<f64>,
    /// The baseline's number.
    pub baseline: Option<f64>,
    /// What the budget is exceeded by.
    pub culprits: Vec<Culprit>,
    /// Violations of a rule: where and what.
    pub found: Vec<(String, String)>,
    /// The number counts bytes.
    #[serde(skip)]
    pub is_bytes: bool,
}

impl Check {
    fn new(model: &str, budget: &'static str, limit: String) -> Check {
        Check {
            model: model.to_owned(),
            budget,
            status: Status::Passed,
            limit,
            value: String::new(),
            number: None,
            baseline: None,
            culprits: Vec::new(),
            found: Vec::new(),
            is_bytes: false,
        }
    }

    /// The number as people read it.
    pub fn show(&self, n: f64) -> String {
        if self.is_bytes { numbers::bytes(n as usize) } else { numbers::count(n) }
    }

    /// What the number comes from, in a few words.
    pub fn because(&self) -> String {
        const SHOWN: usize = 3;
        let culprit = |c: &Culprit| {
            let op = if c.op.is_empty() { String::new() } else { format!(" ({})", c.op) };
            match c.before {
                None => format!("{}{op} {}", c.name, self.show(c.after)),
                Some(0.0) => format!("{}{op} new, {}", c.name, self.show(c.after)),
                Some(n) => format!("{}{op} {} → {}", c.name, self.show(n), self.show(c.after)),
            }
        };
        let found = |(place, what): &(String, String)| match (place.is_empty(), what.is_empty()) {
            (true, _) => what.clone(),
            (_, true) => place.clone(),
            _ => format!("{place}: {what}"),
        };
        let mut parts: Vec<String> = self.culprits.iter().map(culprit).collect();
        parts.extend(self.found.iter().take(SHOWN).map(found));
        if self.found.len() > SHOWN {
            parts.push(format!("… {} more", self.found.len() - SHOWN));
        }
        parts.join("\n")
    }

    /// One line: what is wrong.
    pub fn message(&self) -> String {
        let mut text = match self.found.is_empty() {
            true => format!("{} is {}, the limit is {}", self.budget, self.value, self.limit),
            false => format!("{} {}: {}", self.budget, self.limit, self.value),
        };
        if let Some(n) = self.baseline {
            text += &format!(", the baseline {}", self.show(n));
        }
        let because = self.because().replace('\n', "; ");
        if because.is_empty() { text } else { format!("{text} ({because})") }
    }
}

/// A model to check.
pub struct Job<'a> {
    /// Its path as reports name it.
    pub name: &'a str,
    /// The model.
    pub model: &'a Model,
    /// What was measured.
    pub measures: &'a Measures,
    /// Its budgets.
    pub budgets: &'a Budgets,
    /// What it is compared with.
    pub baseline: &'a Baseline,
    /// How models are run.
    pub runtime: &'a Runtime<'a>,
}

/// Checks all budgets of a model, in a fixed order.
///
/// # Errors
/// When a budget has no meaning, needs a number that is not known, or a baseline that is not there.
pub fn check(job: &Job) -> Result<Vec<Check>, GateError> {
    let mut checks = Vec::new();
    let twins = match job.baseline {
        Baseline::Model(old) => crate::diff::twins(&old.model, job.model).into_iter().collect(),
        _ => HashMap::new(),
    };
    for metric in Metric::ALL {
        for limit in job.budgets.limits(metric) {
            checks.push(number(job, metric, limit, &twins)?);
        }
    }
    for rule in rules::check(job.model, job.budgets)? {
        let mut check = Check::new(job.name, rule.budget, rule.limit);
        check.value = match rule.found.len() {
            0 => "kept".to_owned(),
            1 => "broken once".to_owned(),
            n => format!("broken {n} times"),
        };
        if !rule.found.is_empty() {
            check.status = Status::Exceeded;
        }
        check.found = rule.found;
        checks.push(check);
    }
    checks.extend(runtime::check(job)?);
    Ok(checks)
}

fn number(
    job: &Job,
    metric: Metric,
    limit: &Limit,
    twins: &HashMap<String, String>,
) -> Result<Check, GateError> {
    let fail = |what: String| GateError::Unmeasured { model: job.name.to_owned(), what };
    let before = job.baseline.measures();
    let mut check = Check::new(job.name, metric.name(), limit.to_string());
    check.is_bytes = metric.is_bytes();
    let value = job.measures.value(metric).ok_or_else(|| {
        fail(format!(
            "{} is not known: some sizes depend on data or on open dims; give those with --dim",
            metric.name()
        ))
    })?;
    check.number = Some(value);
    check.value = check.show(value);
    check.baseline = before.and_then(|m| m.value(metric));
    let most = match (limit.most(check.baseline), job.baseline) {
        (Some(most), _) => most,
        (None, Baseline::New) => {
            check.status = Status::New;
            return Ok(check);
        }
        (None, Baseline::None) => {
            return Err(fail(format!(
                "{} {limit} needs a baseline: give --baseline, or write {LOCK} with --update",
                metric.name()
            )));
        }
        (None, _) => {
            return Err(fail(format!("the baseline does not know {}; renew it", metric.name())));
        }
    };
    // A limit of growth is computed in floating point; half a unit is none.
    if value > most + 0.5_f64.min(most.abs() * 1e-9) {
        check.status = Status::Exceeded;
        check.culprits = culprits::culprits(metric, job.measures, before, twins);
    }
    if limit.is_relative() {
        check.limit = format!("{limit} ({})", check.show(most));
    }
    Ok(check)
}
