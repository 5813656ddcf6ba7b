//! `lapidary convert`.

use super::change::ChangeArgs;
use super::output::say;
use super::{Outcome, change};
use crate::convert::{ConvertOptions, ConvertReport};
use crate::precision::PrecisionOptions;
use crate::recipe::Step;

/// Convert a model to another version of the operator set, or to 16-bit floats.
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    options: ConvertOptions,
    #[command(flatten)]
    half: PrecisionOptions,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let to_opset = args.options != ConvertOptions::default();
    anyhow::ensure!(
        to_opset || args.half.is_asked(),
        "nothing to convert to: give --opset, --fp16 or --bf16"
    );
    let mut recipe = args.change.recipe();
    if to_opset {
        recipe.step.push(Step::Convert(args.options.clone()));
    }
    if args.half.is_asked() {
        recipe.step.push(Step::Precision(args.half.clone()));
    }
    let suffix = match (args.half.fp16, args.half.bf16) {
        (true, _) => "fp16",
        (_, true) => "bf16",
        _ => "converted",
    };
    change::run(&recipe, &args.change.model, &args.change.output, suffix)
}

pub(super) fn print(report: &ConvertReport) {
    let ((from, to), (old, new)) = (report.opset, report.ir_version);
    say!("convert: operator set {from} → {to}, IR version {old} → {new}");
    for r in &report.rewritten {
        say!("rewritten for version {}: {} {}", r.version, r.count, r.op_type);
    }
}
