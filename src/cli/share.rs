//! `lapidary share`.

use super::change::ChangeArgs;
use super::output::say;
use super::{Outcome, change, output};
use crate::recipe::Step;
use crate::share::{ShareOptions, ShareReport};

/// Let weights share a few values, so that the file gets smaller
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    options: ShareOptions,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let mut recipe = args.change.recipe();
    recipe.step.push(Step::Share(args.options.clone()));
    change::run(&recipe, &args.change.model, &args.change.output, "shared")
}

pub(super) fn print(report: &ShareReport) {
    let shared = report.layers.iter().filter(|l| l.skipped.is_none()).count();
    say!("share: {shared} of {} weights in {} bits", report.layers.len(), report.bits);
    let mut table =
        output::table(&["layer", "shape", "codebooks", "SQNR", "bytes", "left alone because"]);
    for l in &report.layers {
        let dims: Vec<String> = l.dims.iter().map(usize::to_string).collect();
        let db = l.sqnr_db.map_or(String::new(), |x| format!("{x:.1} dB"));
        table.add_row([
            l.name.clone(),
            dims.join("x"),
            if l.codebooks > 0 { l.codebooks.to_string() } else { String::new() },
            db,
            output::bytes(l.bytes_after),
            l.skipped.clone().unwrap_or_default(),
        ]);
    }
    say!("{table}");
    say!(
        "weights: {} -> {}; zipped {} -> {}",
        output::bytes(report.bytes_before),
        output::bytes(report.bytes_after),
        output::bytes(report.deflated_before as usize),
        output::bytes(report.deflated_after as usize),
    );
}
