//! Values inside of two models on the same inputs.

use super::OutputDiff;
use super::metrics::Sums;
use crate::data::{Source, Taken};
use crate::engine::{Engine, Feeds, Progress, RunError, all_cores, for_each_sample};
use crate::ir::{Graph, Model, OpId, Tensor};
use crate::ops::{self, Quant};

/// Compares the results of the linear operators that both models name alike, on the first `n` runs
/// of the source: one entry for each, in the order of the result, named as its op there. Values
/// whose type or shape changed are left out.
///
/// # Errors
/// When a model does not run.
pub fn compare_layers(
    before: &Model,
    after: &Model,
    engine: &dyn Engine,
    source: &dyn Source,
    n: usize,
    progress: Progress,
) -> Result<Vec<OutputDiff>, RunError> {
    let (labels, taps): (Vec<String>, Vec<String>) = layers(before, after).into_iter().unzip();
    if taps.is_empty() {
        return Ok(Vec::new());
    }
    let source = Taken(source, n);
    let (a, b) = (engine.prepare(before, &taps)?, engine.prepare(after, &taps)?);
    let step = |sums: &mut Vec<Sums>, _: usize, feeds: Feeds| {
        let mut want: Vec<Option<Tensor>> = vec![None; taps.len()];
        a.run(&feeds, &mut |i, t| want[i] = Some(t))?;
        b.run(&feeds, &mut |i, t| {
            if let Some(x) = want[i].take() {
                sums[i].add(&x, &t);
            }
        })?;
        Ok(())
    };
    let make = || vec![Sums::default(); taps.len()];
    let merge = |all: &mut Vec<Sums>, other: Vec<Sums>| {
        all.iter_mut().zip(&other).for_each(|(a, b)| a.merge(b));
    };
    let sums = for_each_sample(&source, all_cores(), make, step, merge, progress)?;
    let diffs = sums.iter().zip(&labels).map(|(s, label)| s.finish(label));
    Ok(diffs.filter(|d| d.mismatch.is_none()).collect())
}

/// Names of the linear ops of `after` and of their results, as far as `before` makes a value of the
/// same name and type.
fn layers(before: &Model, after: &Model) -> Vec<(String, String)> {
    let (a, b) = (&before.graph, &after.graph);
    let of = |op: OpId| {
        let schema = ops::schema(b.op(op))?;
        if !matches!(schema.quant, Quant::Weighted(_)) {
            return None;
        }
        let value = b.result(op, 0)?;
        let name = b.value(value).name();
        let twin = a.find_value(name).filter(|v| a.producer(*v).is_some())?;
        let known = |g: &Graph, v| g.value(v).sizes();
        let fits = match (known(a, twin), known(b, value)) {
            (Some(x), Some(y)) => x == y,
            _ => true,
        };
        let label = &b.op(op).name;
        let label = if label.is_empty() { name } else { label };
        fits.then(|| (label.to_owned(), name.to_owned()))
    };
    b.order().into_iter().filter_map(of).collect()
}
