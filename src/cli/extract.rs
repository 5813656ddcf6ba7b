//! `lapidary extract`.

use super::change::ChangeArgs;
use super::output::say;
use super::{Outcome, change};
use crate::recipe::Step;
use crate::surgery::{ExtractOptions, ExtractReport};

/// Cut out the part of a model between two sets of values.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    options: ExtractOptions,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let none = args.options == ExtractOptions::default();
    anyhow::ensure!(!none, "nothing to extract: give --inputs, --outputs or both");
    let mut recipe = args.change.recipe();
    recipe.step.push(Step::Extract(args.options.clone()));
    change::run(&recipe, &args.change.model, &args.change.output, "extracted")
}

pub(super) fn print(report: &ExtractReport) {
    say!("extract: {} of {} nodes", report.nodes, report.nodes_before);
    for (what, list) in [("input", &report.inputs), ("output", &report.outputs)] {
        for (name, ty) in list {
            say!("{what} {name}: {ty}");
        }
    }
}
