//! `lapidary quantize`.

use super::change::ChangeArgs;
use super::output::say;
use super::{Outcome, change, output};
use crate::precision::PrecisionOptions;
use crate::quantize::{Payload, QuantizeOptions, QuantizeReport, WeightType};
use crate::recipe::{SimplifyOptions, Step};

/// Calibrate and insert INT8 Q/DQ where TensorRT wants it
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    options: QuantizeOptions,
    #[command(flatten)]
    half: PrecisionOptions,
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
    if args.half.is_asked() {
        recipe.step.push(Step::Precision(args.half.clone()));
    }
    change::run(&recipe, &args.change.model, &args.change.output, suffix(&args.options))
}

/// What the result is called by.
fn suffix(o: &QuantizeOptions) -> &'static str {
    match (o.strip, o.weights, o.payload) {
        (true, ..) => "float",
        (_, Some(WeightType::Int4), _) => "int4",
        (_, Some(WeightType::Uint4), _) => "uint4",
        (.., Payload::Fp8) => "fp8",
        _ => "int8",
    }
}

pub(super) fn print(report: &QuantizeReport, explain: bool) {
    if report.tensors.is_empty() {
        say!(
            "quantize: {} of {} linear ops, {} weights stored",
            report.quantized_ops,
            report.weighted_ops,
            report.quantized_weights,
        );
    } else {
        print_calibrated(report);
    }
    let others = report.others.iter().filter(|_| explain);
    let listed: Vec<_> =
        report.ops.iter().filter(|d| explain || !d.quantized).chain(others).collect();
    if listed.is_empty() {
        return;
    }
    let mut table = output::table(&["op", "precision", "rule", "because"]);
    for d in listed {
        let precision = if d.quantized { "quantized" } else { "float" };
        table.add_row([&d.node[..], precision, d.rule, &d.reason]);
    }
    say!("{table}");
}

fn print_calibrated(report: &QuantizeReport) {
    say!(
        "quantize: {} of {} linear ops, {} activations calibrated on {} samples in {:.1} s",
        report.quantized_ops,
        report.weighted_ops,
        report.tensors.len(),
        report.samples,
        report.calibration_seconds,
    );
    for r in &report.recovery {
        let verdict = if r.kept { "" } else { ", left out" };
        say!(
            "  {}: {} places, SQNR {:.2} -> {:.2} dB{verdict}, {:.1} s",
            r.method,
            r.sites,
            r.sqnr_before,
            r.sqnr_after,
            r.seconds,
        );
    }
    if let Some(search) = &report.search {
        output::search(search, "in float");
    }
}
