//! `lapidary report`.

use std::path::PathBuf;

use super::Outcome;
use super::args::{PictureArgs, load};
use super::output::say;
use super::pictures::{self, Change, Pictures};
use super::progress::Bars;
use crate::data::{self, DataOptions};
use crate::engine;
use crate::pass::Semantics;
use crate::recipe::{Recipe, Report, VerifyOptions, input_sizes};
use crate::report::inspect::summarize;
use crate::verify;

/// Write an HTML page that shows two models side by side: graphs, figures, charts.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The original
    before: PathBuf,
    /// The result
    after: PathBuf,
    /// Where to write the page [default: report.html, or none with --plot]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write a chart as .svg or .png: size, macs or sqnr; repeat for more
    #[arg(long, value_name = "CHART=FILE")]
    plot: Vec<String>,
    /// Overwrite files
    #[arg(long)]
    force: bool,
    /// Print nothing but errors
    #[arg(short, long)]
    quiet: bool,
    #[command(flatten)]
    data: DataOptions,
    /// What runs the models: tract or ort
    #[arg(long, default_value = "tract")]
    engine: String,
    #[command(flatten)]
    verify: VerifyOptions,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let page = match &args.output {
        None if args.plot.is_empty() => Some(PathBuf::from("report.html")),
        other => other.clone(),
    };
    let wanted = PictureArgs { report: page, plot: args.plot.clone() };
    let wanted = Pictures::of(&wanted, args.force)?;
    let (original, result) = (load(&args.before)?, load(&args.after)?);
    let dims = input_sizes(&args.data, &original)?;
    let report = Report {
        before: Some(summarize(&original, &dims)),
        after: Some(summarize(&result, &dims)),
        dims,
        steps: Vec::new(),
        verification: verification(args, &original, &result)?,
        accuracy: None,
        warnings: Vec::new(),
        seconds: 0.0,
    };
    let change = Change {
        original: &original,
        base: &original,
        result: &result,
        paths: (&args.before, &args.after),
    };
    // No steps: what made the result is not known.
    let recipe = Recipe {
        data: args.data.clone(),
        engine: args.engine.clone(),
        verify: args.verify.clone(),
        ..Recipe::default()
    };
    wanted.write(&pictures::page(&recipe, &change, &report, "", wanted.needs_noise())?)?;
    if !args.quiet {
        wanted.files().for_each(|file| say!("wrote {}", file.display()));
    }
    Ok(Outcome::Done)
}

fn verification(
    args: &Args,
    original: &crate::ir::Model,
    result: &crate::ir::Model,
) -> anyhow::Result<Option<verify::Verification>> {
    if args.verify.skip {
        return Ok(None);
    }
    let engine = engine::by_name(&args.engine)?;
    let n = args.verify.samples;
    let source = data::open(&args.data, original, n)?;
    let bars = Bars::new(args.quiet);
    let all = source.len().min(n);
    let progress = |done| bars.at("verify", done, all);
    let lossy = Semantics::Lossy;
    Ok(Some(verify::compare(original, result, &*engine, &*source, n, lossy, &progress)))
}
