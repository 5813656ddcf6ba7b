//! `lapidary prune`.

use super::change::ChangeArgs;
use super::output::say;
use super::{Outcome, change, output};
use crate::prune::{PruneOptions, PruneReport};
use crate::recipe::Step;

/// Remove whole channels, and everything downstream shrinks with them
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    options: PruneOptions,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let mut recipe = args.change.recipe();
    recipe.step.push(Step::Prune(args.options.clone()));
    change::run(&recipe, &args.change.model, &args.change.output, "pruned")
}

pub(super) fn print(report: &PruneReport) {
    let cut = report.groups.iter().filter(|g| g.after < g.before).count();
    say!(
        "prune: {cut} of {} groups cut, {} of {} channels left",
        report.groups.len(),
        report.channels_after,
        report.channels_before,
    );
    let mut table = output::table(&["group", "members", "channels", "left alone because"]);
    for g in &report.groups {
        let channels = match g.after == g.before {
            true => g.before.to_string(),
            false => format!("{} → {}", g.before, g.after),
        };
        let why = g.pinned.clone().unwrap_or_default();
        table.add_row([g.name.clone(), g.members.len().to_string(), channels, why]);
    }
    say!("{table}");
}
