//! `lapidary simplify`.

use super::args::load;
use super::change::ChangeArgs;
use super::output::say;
use super::{Outcome, change, output};
use crate::ir::Model;
use crate::pass::{self, Cx, Semantics};
use crate::recipe::{SimplifyOptions, SimplifyReport, Step};
use crate::surgery::EditOptions;
use crate::verify::{self, Verdict};
use crate::{data, engine};

/// Simplify a model: fold constants, fuse, remove what does nothing
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    options: SimplifyOptions,
    #[command(flatten)]
    edit: EditOptions,
    /// Write nothing, but find the edit that changes an output: its pass and its node
    #[arg(long, conflicts_with_all = ["no-verify", "stop_after", "output"])]
    bisect: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    if args.bisect {
        return bisect(args);
    }
    let mut recipe = args.change.recipe();
    let (before, after) = args.edit.clone().split();
    let edit = |o: EditOptions| (o != EditOptions::default()).then_some(Step::Edit(o));
    recipe.step.extend(edit(before));
    recipe.step.push(Step::Simplify(args.options.clone()));
    recipe.step.extend(edit(after));
    change::run(&recipe, &args.change.model, &args.change.output, "simplified")
}

/// Exit code 1 when an edit changes an output.
fn bisect(args: &Args) -> anyhow::Result<Outcome> {
    let run = &args.change.run;
    let original = load(&args.change.model)?;
    let engine = engine::by_name(&run.engine)?;
    let samples = run.verify.samples;
    let source = data::open(&args.change.data, &original, samples)?;
    let simplify = |model: &mut Model, stop_after: Option<usize>| {
        let mut cx = Cx { stop_after, ..args.options.cx()? };
        pass::simplify(model, &mut cx).map(|()| cx)
    };
    let mut differs = |model: &Model| {
        let source = source.as_ref();
        let how = Semantics::Reassociates;
        match verify::compare(&original, model, &*engine, source, samples, how, &|_| {}).verdict {
            Verdict::Disagree(why) => Ok(Some(why)),
            Verdict::NotVerified(why) => Err(anyhow::anyhow!("not verified: {why}")),
            _ => Ok(None),
        }
    };
    let found = verify::bisect(&original, &simplify, &mut differs)?;
    if args.change.output.json {
        output::json(&found)?;
    } else {
        match &found.culprit {
            None => say!("none of {} edits changes an output", found.edits),
            Some(c) => {
                let node = c.node.as_ref().map(|n| format!(" at node {n}")).unwrap_or_default();
                say!("edit {} of {}, by pass {}{node}: {}", c.edit, found.edits, c.pass, c.why);
            }
        }
    }
    Ok(if found.culprit.is_some() { Outcome::GoalMissed } else { Outcome::Done })
}

pub(super) fn print(report: &SimplifyReport) {
    if !report.passes.is_empty() {
        let fired = report.passes.iter().map(|(name, times, _)| format!("{name} {times}"));
        say!("simplify: {}", fired.collect::<Vec<_>>().join(", "));
    }
    for (op, what) in &report.findings {
        say!("warning: {op} contradicts its operator: {what}");
    }
    if !report.misses.is_empty() {
        let mut table = output::table(&["pass", "node", "did not fire because"]);
        for (pass, op, why) in &report.misses {
            table.add_row([*pass, op, why]);
        }
        say!("{table}");
    }
}
