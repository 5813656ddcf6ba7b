//! `lapidary convert`.

use super::change::ChangeArgs;
use super::output::say;
use super::{Outcome, change};
use crate::convert::{ConvertOptions, ConvertReport};
use crate::recipe::Step;

/// Convert a model to another version of the operator set, up or down.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    options: ConvertOptions,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let none = args.options == ConvertOptions::default();
    anyhow::ensure!(!none, "nothing to convert to: give --opset");
    let mut recipe = args.change.recipe();
    recipe.step.push(Step::Convert(args.options.clone()));
    change::run(&recipe, &args.change.model, &args.change.output, "converted")
}

pub(super) fn print(report: &ConvertReport) {
    let ((from, to), (old, new)) = (report.opset, report.ir_version);
    say!("convert: operator set {from} → {to}, IR version {old} → {new}");
    for r in &report.rewritten {
        say!("rewritten for version {}: {} {}", r.version, r.count, r.op_type);
    }
}
