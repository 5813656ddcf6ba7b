//! `lapidary quantize`.

use super::change::ChangeArgs;
use super::output::say;
use super::{Outcome, change};
use crate::quantize::{QuantizeOptions, QuantizeReport};
use crate::recipe::{SimplifyOptions, Step};

/// Calibrate and insert INT8 Q/DQ where TensorRT wants it
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    options: QuantizeOptions,
    /// Do not simplify first; batch normalization must be folded then
    #[arg(long)]
    no_simplify: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let mut recipe = args.change.recipe();
    if !args.no_simplify {
        recipe.step.push(Step::Simplify(SimplifyOptions::default()));
    }
    recipe.step.push(Step::Quantize(args.options.clone()));
    change::run(&recipe, &args.change.model, &args.change.output, "int8")
}

pub(super) fn print(report: &QuantizeReport) {
    say!(
        "quantize: {} of {} linear ops, {} activations calibrated on {} samples in {:.1} s",
        report.quantized_ops,
        report.weighted_ops,
        report.tensors.len(),
        report.samples,
        report.calibration_seconds,
    );
}
