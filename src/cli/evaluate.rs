//! `lapidary evaluate`.

use std::path::PathBuf;

use anyhow::Context;
use serde::Serialize;

use super::output::say;
use super::progress::Bar;
use super::{Outcome, output};
use crate::data::{self, DataOptions};
use crate::evaluate::{Evaluation, evaluate};
use crate::{engine, onnx};

/// Measure the accuracy of classifiers on labelled data.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The models
    #[arg(required = true)]
    models: Vec<PathBuf>,
    #[command(flatten)]
    data: DataOptions,
    /// What runs the models: tract or ort
    #[arg(long, default_value = "tract")]
    engine: String,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print nothing but errors
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Serialize)]
struct Row {
    model: PathBuf,
    #[serde(flatten)]
    found: Evaluation,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    anyhow::ensure!(!args.data.data.is_empty(), "no data: give --data, and --labels");
    let engine = engine::by_name(&args.engine)?;
    let mut rows = Vec::new();
    for path in &args.models {
        let name = || path.display().to_string();
        let model = onnx::load(path).with_context(name)?;
        let source = data::open(&args.data, &model, 0).with_context(name)?;
        let bar = Bar::new("evaluate", source.len(), args.quiet || args.json);
        let found =
            evaluate(&model, &*engine, &*source, &|done| bar.at(done)).with_context(name)?;
        rows.push(Row { model: path.clone(), found });
    }
    if args.json {
        output::json(&rows)?;
    } else if !args.quiet {
        print_table(&rows);
    }
    Ok(Outcome::Done)
}

fn print_table(rows: &[Row]) {
    let mut table =
        super::output::table(&["model", "top-1 %", "top-5 %", "samples", "ms per sample"]);
    for Row { model, found } in rows {
        table.add_row([
            model.display().to_string(),
            format!("{:.2}", 100.0 * found.top1),
            format!("{:.2}", 100.0 * found.top5),
            found.samples.to_string(),
            format!("{:.2}", 1000.0 * found.seconds / found.samples.max(1) as f64),
        ]);
    }
    say!("{table}");
}
