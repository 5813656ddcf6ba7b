//! What the commands that change a model share: arguments, the run, the tables.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::args::{OutputArgs, load};
use super::output::say;
use super::pictures::{self, Change, Pictures};
use super::progress::Bars;
use super::{Outcome, output};
use crate::data::DataOptions;
use crate::recipe::{self, Done, Recipe, Report, StepReport, VerifyOptions};
use crate::report::inspect::Summary;
use crate::target::{LineOptions, trtexec_line};
use crate::verify::{Verdict, Verification};

/// Arguments of every command that changes a model.
#[derive(clap::Args)]
pub(super) struct ChangeArgs {
    /// The model
    pub(super) model: PathBuf,
    #[command(flatten)]
    pub(super) output: OutputArgs,
    #[command(flatten)]
    pub(super) data: DataOptions,
    #[command(flatten)]
    pub(super) run: RunArgs,
}

/// How models are run and compared.
#[derive(clap::Args)]
#[command(next_help_heading = "Running")]
pub(super) struct RunArgs {
    /// What runs models: tract, or ort with ORT_DYLIB_PATH set
    #[arg(long, default_value = "tract")]
    pub(super) engine: String,
    #[command(flatten)]
    pub(super) verify: VerifyOptions,
    /// Say why patterns did not fire and what was decided for each op
    #[arg(long)]
    pub(super) explain: bool,
    /// TensorRT version that the result is for, such as 8.6, 10 or 11
    #[arg(long, default_value = "11", value_name = "VERSION")]
    pub(super) tensorrt: String,
}

impl ChangeArgs {
    /// A recipe without steps.
    pub(super) fn recipe(&self) -> Recipe {
        Recipe {
            data: self.data.clone(),
            engine: self.run.engine.clone(),
            verify: self.run.verify.clone(),
            tensorrt: self.run.tensorrt.clone(),
            explain: self.run.explain,
            ..Recipe::default()
        }
    }
}

/// Runs a recipe over a file, writes the result and prints what happened.
pub(super) fn run(
    recipe: &Recipe,
    model: &Path,
    args: &OutputArgs,
    suffix: &str,
) -> anyhow::Result<Outcome> {
    let path = args.path(model, suffix)?;
    let pictures = Pictures::of(&args.pictures, args.force)?;
    let original = Arc::new(load(model)?);
    let drawn = pictures.wanted().then(|| original.clone());
    let figures = args.json || !args.quiet || pictures.wanted();
    let bars = Bars::new(args.quiet || args.json);
    let done = recipe::run(recipe, original, figures, &|what, done, all| bars.at(what, done, all));
    drop(bars);
    let Done { model: result, float, report } = match done {
        Err(e @ recipe::RecipeError::Disagrees { .. }) => {
            eprintln!("{}: {e}", model.display());
            return Ok(Outcome::GoalMissed);
        }
        other => other?,
    };
    args.save(&result, &path)?;
    let version = recipe.tensorrt.parse()?;
    let dla = recipe.is_for_dla().then_some(0);
    let options = LineOptions { opt: report.dims.clone(), dla, ..LineOptions::default() };
    let line = || trtexec_line(&path, &result, version, &options);
    if let Some(original) = &drawn {
        let base = float.as_ref().unwrap_or(original);
        let change = Change { original, base, result: &result, paths: (model, &path) };
        let noise = pictures.needs_noise();
        pictures.write(&pictures::page(recipe, &change, &report, &line(), noise)?)?;
    }
    if args.json {
        let mut json = serde_json::to_value(&report)?;
        json["model"] = model.display().to_string().into();
        json["output"] = path.display().to_string().into();
        json["trtexec"] = line().into();
        output::json(&json)?;
    } else if !args.quiet {
        print(&report, recipe.explain);
        say!("\nwrote {}", path.display());
        pictures.files().for_each(|file| say!("wrote {}", file.display()));
        say!("build the engine with:\n  {}", line());
    }
    // The process ends: the system takes the memory back faster than the models give it back.
    std::mem::forget((result, float, drawn));
    Ok(Outcome::Done)
}

fn print(report: &Report, explain: bool) {
    for step in &report.steps {
        match step {
            StepReport::Edit(e) => super::edit::print(e),
            StepReport::Extract(e) => super::extract::print(e),
            StepReport::Convert(c) => super::convert::print(c),
            StepReport::Simplify(s) => super::simplify::print(s),
            StepReport::Prune(p) => super::prune::print(p),
            StepReport::Sparse(s) => super::prune::print_sparse(s),
            StepReport::Share(s) => super::share::print(s),
            StepReport::Quantize(q) => super::quantize::print(q, explain),
            StepReport::Precision(p) => super::precision::print(p, explain),
        }
    }
    if let (Some(before), Some(after)) = (&report.before, &report.after) {
        say!("{}", before_after(before, after, report));
    }
    if let Some(v) = &report.verification {
        print_verification(v);
    }
    for warning in &report.warnings {
        say!("warning: {warning}");
    }
}

/// The table that people look at.
fn before_after(a: &Summary, b: &Summary, report: &Report) -> comfy_table::Table {
    let mut table = output::table(&["", "before", "after", "change"]);
    let mut row = |name: &str, x: f64, y: f64, show: &dyn Fn(f64) -> String| {
        table.add_row([name.to_owned(), show(x), show(y), output::change(x, y)]);
    };
    let plain = |n: f64| output::count(n);
    row("nodes", a.nodes as f64, b.nodes as f64, &|n| format!("{n}"));
    row("parameters", a.params as f64, b.params as f64, &plain);
    if let (Some(x), Some(y)) = (a.macs, b.macs) {
        row("MACs", x as f64, y as f64, &plain);
    }
    let bytes = |n: f64| output::bytes(n as usize);
    row("weight bytes", a.weight_bytes as f64, b.weight_bytes as f64, &bytes);
    let percent = |x: Option<f64>| x.map_or("-".to_owned(), |x| format!("{:.1} %", 100.0 * x));
    if b.int8_ops > 0.0 || a.int8_ops > 0.0 {
        table.add_row([
            "INT8 share of linear ops".to_owned(),
            percent(Some(a.int8_ops)),
            percent(Some(b.int8_ops)),
            String::new(),
        ]);
        table.add_row([
            "INT8 share of MACs".to_owned(),
            percent(a.int8_macs),
            percent(b.int8_macs),
            String::new(),
        ]);
    }
    if let Some((x, y)) = &report.accuracy {
        let points = format!("{:+.2} points", 100.0 * (y.top1 - x.top1));
        table.add_row([
            "top-1 accuracy".to_owned(),
            format!("{:.2} %", 100.0 * x.top1),
            format!("{:.2} %", 100.0 * y.top1),
            points,
        ]);
    }
    table.add_row([
        "time".to_owned(),
        String::new(),
        format!("{:.2} s", report.seconds),
        String::new(),
    ]);
    output::align_numbers(&mut table);
    table
}

/// One row for each output.
pub(super) fn print_verification(v: &Verification) {
    match &v.verdict {
        Verdict::NotVerified(why) => say!("not verified: {why}"),
        _ => super::verify::print_table(v),
    }
}
