//! `lapidary simplify`.

use super::change::ChangeArgs;
use super::output::say;
use super::{Outcome, change, output};
use crate::recipe::{SimplifyOptions, SimplifyReport, Step};
use crate::surgery::EditOptions;

/// Simplify a model: fold constants, fuse, remove what does nothing
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    options: SimplifyOptions,
    #[command(flatten)]
    edit: EditOptions,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let mut recipe = args.change.recipe();
    let (before, after) = args.edit.clone().split();
    let edit = |o: EditOptions| (o != EditOptions::default()).then_some(Step::Edit(o));
    recipe.step.extend(edit(before));
    recipe.step.push(Step::Simplify(args.options.clone()));
    recipe.step.extend(edit(after));
    change::run(&recipe, &args.change.model, &args.change.output, "simplified")
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
