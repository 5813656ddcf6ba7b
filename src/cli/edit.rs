//! `lapidary edit`.

use super::change::ChangeArgs;
use super::output::say;
use super::{Outcome, change};
use crate::recipe::Step;
use crate::surgery::{EditOptions, EditReport};

/// Edit the interface of a model: outputs, shapes and dims, names. Nothing else changes.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    options: EditOptions,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    anyhow::ensure!(args.options != EditOptions::default(), "nothing to edit; see --help");
    let mut recipe = args.change.recipe();
    recipe.step.push(Step::Edit(args.options.clone()));
    change::run(&recipe, &args.change.model, &args.change.output, "edited")
}

pub(super) fn print(report: &EditReport) {
    for change in &report.changes {
        say!("edit: {change}");
    }
}
