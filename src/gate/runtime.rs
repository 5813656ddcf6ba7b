//! Budgets on what models do: time, outputs, accuracy.

use std::time::Instant;

use super::{Baseline, Check, GateError, Job, Old, Status};
use crate::data::{self, DataOptions, Source, Taken};
use crate::engine::{Engine, Session};
use crate::evaluate::evaluate;
use crate::ir::Model;
use crate::pass::Semantics;
use crate::verify::{Verdict, compare};

/// How models are run.
pub struct Runtime<'a> {
    /// What runs them; `None` when no budget needs it.
    pub engine: Option<&'a dyn Engine>,
    /// The samples.
    pub data: &'a DataOptions,
}

/// Random samples for outputs and times when no data are given.
const SAMPLES: usize = 4;
/// Pairs of runs that are timed, at least, and the seconds that they may take beyond that.
const PAIRS: usize = 11;
const SECONDS: f64 = 2.0;

/// Checks the budgets that need runs.
///
/// # Errors
/// When data or the baseline model are missing, or a model does not run.
pub(super) fn check(job: &Job) -> Result<Vec<Check>, GateError> {
    let mut checks = Vec::new();
    let b = job.budgets;
    if b.latency.is_some() || b.min_sqnr.is_some() || b.min_agreement.is_some() {
        match job.baseline {
            Baseline::Model(old) => {
                latency(job, old, &mut checks)?;
                agreement(job, old, &mut checks)?;
            }
            Baseline::New => {
                for (budget, limit) in [
                    ("latency", b.latency),
                    ("min-sqnr", b.min_sqnr),
                    ("min-agreement", b.min_agreement),
                ] {
                    checks.extend(limit.map(|limit| skipped(job, budget, limit)));
                }
            }
            _ => return Err(fail(job, NEEDS_MODEL)),
        }
    }
    accuracy(job, &mut checks)?;
    Ok(checks)
}

const NEEDS_MODEL: &str = "latency, min-sqnr, min-agreement and accuracy-drop need the baseline \
                           model itself: --baseline old.onnx or git:REVISION";

fn fail(job: &Job, what: impl std::fmt::Display) -> GateError {
    GateError::Unmeasured { model: job.name.to_owned(), what: what.to_string() }
}

fn engine<'a>(job: &Job<'a>) -> Result<&'a dyn Engine, GateError> {
    job.runtime.engine.ok_or_else(|| fail(job, "no engine"))
}

fn skipped(job: &Job, budget: &'static str, limit: f64) -> Check {
    let mut check = Check::new(job.name, budget, limit.to_string());
    check.status = Status::New;
    check
}

fn found(job: &Job, budget: &'static str, limit: f64, value: f64, ok: bool, text: String) -> Check {
    let mut check = Check::new(job.name, budget, limit.to_string());
    check.number = Some(value);
    check.value = text;
    check.status = if ok { Status::Passed } else { Status::Exceeded };
    check
}

/// Runs both models in turns on the same samples; the figure is the median of the ratios.
fn latency(job: &Job, old: &Old, checks: &mut Vec<Check>) -> Result<(), GateError> {
    let Some(limit) = job.budgets.latency else { return Ok(()) };
    let source = open(job, &old.model)?;
    let prepare = |m: &Model| engine(job)?.prepare(m, &[]).map_err(|e| fail(job, e));
    let (before, after) = (prepare(&old.model)?, prepare(job.model)?);
    let (mut ratios, start) = (Vec::new(), Instant::now());
    let mut i = 0;
    // The first pair warms up.
    while ratios.len() < PAIRS + 1 || start.elapsed().as_secs_f64() < SECONDS {
        let feeds = source.get(i % source.len().max(1)).map_err(|e| fail(job, e))?;
        let time = |session: &dyn Session| {
            let start = Instant::now();
            session.run(&feeds, &mut |_, _| {}).map_err(|e| fail(job, e))?;
            Ok::<f64, GateError>(start.elapsed().as_secs_f64().max(1e-9))
        };
        // Who goes first changes, so that neither profits from what the other has warmed.
        let ratio = match i % 2 {
            0 => {
                let x = time(&*before)?;
                time(&*after)? / x
            }
            _ => {
                let y = time(&*after)?;
                y / time(&*before)?
            }
        };
        ratios.push(ratio);
        i += 1;
    }
    let mut ratios = ratios.split_off(1);
    ratios.sort_by(f64::total_cmp);
    let median = ratios[ratios.len() / 2];
    let text = format!("{median:.3}× in {} pairs of runs", ratios.len());
    checks.push(found(job, "latency", limit, median, median <= limit, text));
    Ok(())
}

fn open(job: &Job, model: &Model) -> Result<Box<dyn Source>, GateError> {
    data::open(job.runtime.data, model, SAMPLES).map_err(|e| fail(job, e))
}

fn agreement(job: &Job, old: &Old, checks: &mut Vec<Check>) -> Result<(), GateError> {
    let b = job.budgets;
    if b.min_sqnr.is_none() && b.min_agreement.is_none() {
        return Ok(());
    }
    let source = open(job, &old.model)?;
    let source = Taken(&*source, job.runtime.data.samples.unwrap_or(usize::MAX));
    let n = source.len();
    let v = compare(&old.model, job.model, engine(job)?, &source, n, Semantics::Lossy, &|_| {});
    if let Verdict::NotVerified(why) = &v.verdict {
        return Err(fail(job, why));
    }
    let broken = match &v.verdict {
        Verdict::Disagree(why) => Some(why.clone()),
        _ => (!v.interface.is_empty()).then(|| v.interface.join("; ")),
    };
    let mut push = |budget, limit: f64, value: Option<f64>, unit: &str| {
        let ok = broken.is_none() && value.is_some_and(|v| v >= limit);
        let text = value.map_or("none".to_owned(), |v| format!("{v:.2} {unit}"));
        let mut check = found(job, budget, limit, value.unwrap_or(f64::NAN), ok, text);
        check.found.extend(broken.iter().map(|why| (String::new(), why.clone())));
        if !ok {
            let worst = v.outputs.iter().map(|o| (o.name.clone(), output(o)));
            check.found.extend(worst);
        }
        checks.push(check);
    };
    if let Some(limit) = b.min_sqnr {
        push("min-sqnr", limit, Some(v.min_sqnr_db()), "dB");
    }
    if let Some(limit) = b.min_agreement {
        push("min-agreement", limit, v.min_top1().map(|share| 100.0 * share), "%");
    }
    Ok(())
}

fn output(o: &crate::verify::OutputDiff) -> String {
    match (&o.mismatch, o.sqnr_db) {
        (Some(what), _) => what.clone(),
        (None, Some(db)) => format!("SQNR {db:.1} dB, largest difference {:.3e}", o.max_abs),
        (None, None) => format!("largest difference {:.3e}", o.max_abs),
    }
}

fn accuracy(job: &Job, checks: &mut Vec<Check>) -> Result<(), GateError> {
    let b = job.budgets;
    if b.min_accuracy.is_none() && b.accuracy_drop.is_none() {
        return Ok(());
    }
    if job.runtime.data.data.is_empty() {
        return Err(fail(job, "accuracy needs labelled data: give --data and --labels"));
    }
    let top1 = |m: &Model| -> Result<f64, GateError> {
        let source = open(job, m)?;
        let found = evaluate(m, engine(job)?, &*source, &|_| {}).map_err(|e| fail(job, e))?;
        Ok(100.0 * found.top1)
    };
    let now = top1(job.model)?;
    if let Some(limit) = b.min_accuracy {
        let text = format!("{now:.2} %");
        checks.push(found(job, "min-accuracy", limit, now, now >= limit, text));
    }
    if let Some(limit) = b.accuracy_drop {
        match job.baseline {
            Baseline::Model(old) => {
                let before = top1(&old.model)?;
                let drop = before - now;
                let text = format!("{drop:.2} points ({before:.2} % → {now:.2} %)");
                // Shares of samples are sums of floats.
                checks.push(found(job, "accuracy-drop", limit, drop, drop <= limit + 1e-9, text));
            }
            Baseline::New => checks.push(skipped(job, "accuracy-drop", limit)),
            _ => return Err(fail(job, NEEDS_MODEL)),
        }
    }
    Ok(())
}
