//! `lapidary sensitivity`.

use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use super::args::{check_new, load};
use super::output::say;
use super::progress::Bars;
use super::{Outcome, output};
use crate::data::{self, DataOptions, Source};
use crate::engine::{self, Engine};
use crate::ir::Model;
use crate::prune::{self, Curve, GroupSensitivity, SensitivityOptions, SensitivityReport};
use crate::quantize::{Method, Profile, QuantizeOptions, noise_by_layer};
use crate::recover::{Calibration, Recover};
use crate::report::chart::Chart;
use crate::report::page;
use crate::verify::LayerNoise;
use crate::{onnx, pass};

/// Measure what each layer costs when it alone is quantized, or pruned, and fit a plan
#[derive(clap::Args)]
pub(super) struct Args {
    /// The model
    model: PathBuf,
    /// Cut the channels of each group at several ratios, instead of quantizing each layer
    #[arg(long)]
    prune: bool,
    #[command(flatten)]
    options: SensitivityOptions,
    /// How the range of an activation is chosen
    #[arg(long, value_enum, default_value_t = Method::Auto, conflicts_with = "prune")]
    method: Method,
    /// Which ops are quantized
    #[arg(long, value_enum, default_value_t = Profile::Tensorrt, conflicts_with = "prune")]
    profile: Profile,
    #[command(flatten)]
    data: DataOptions,
    /// What runs models: tract, or ort with ORT_DYLIB_PATH set
    #[arg(long, default_value = "tract")]
    engine: String,
    /// Do not simplify first; quantizing wants batch normalization folded
    #[arg(long)]
    no_simplify: bool,
    /// Draw the ranking into this .svg or .png file
    #[arg(long, value_name = "FILE")]
    plot: Option<PathBuf>,
    /// Overwrite the file of --plot
    #[arg(long)]
    force: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print nothing but errors
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Serialize)]
struct Found<'a, T: Serialize> {
    model: &'a Path,
    #[serde(flatten)]
    found: T,
}

#[derive(Serialize)]
struct Layers<'a> {
    layers: &'a [LayerNoise],
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    if let Some(file) = &args.plot {
        check_new(file, args.force, "name another file")?;
        let known = file.extension().is_some_and(|e| e == "svg" || e == "png");
        anyhow::ensure!(known, "--plot {}: charts are written as .svg or .png", file.display());
    }
    let engine = engine::by_name(&args.engine)?;
    let mut model = load(&args.model)?;
    if !args.no_simplify {
        pass::simplify(&mut model, &mut pass::Cx::default())?;
    }
    let chart = match args.prune {
        true => by_group(args, &model, &*engine)?,
        false => by_layer(args, &model, &*engine)?,
    };
    if let (Some(file), Some(chart)) = (&args.plot, chart) {
        onnx::write_whole(file, &chart.titled().encode(file)?)?;
    }
    Ok(Outcome::Done)
}

/// Each linear op quantized alone.
fn by_layer(args: &Args, model: &Model, engine: &dyn Engine) -> anyhow::Result<Option<Chart>> {
    let given = !args.data.data.is_empty() || args.data.random.is_some();
    anyhow::ensure!(given, "no data: give --data PATH, or --random N for a trial");
    let name = || args.model.display().to_string();
    let source = data::open(&args.data, model, 0).with_context(name)?;
    let options =
        QuantizeOptions { method: args.method, profile: args.profile, ..Default::default() };
    let bars = Bars::new(args.quiet || args.json);
    let progress = |done, all| bars.at("quantize one layer", done, all);
    let layers = noise_by_layer(model, &options, engine, &*source, &progress).with_context(name)?;
    drop(bars);
    if args.json {
        output::json(&Found { model: &args.model, found: Layers { layers: &layers } })?;
    } else if !args.quiet {
        print_layers(&layers);
    }
    Ok(page::sensitivity(&layers))
}

fn print_layers(layers: &[LayerNoise]) {
    let mut table = output::table(&["layer", "operator", "SQNR dB", "cosine", "top-1 %"]);
    for l in layers {
        table.add_row([
            l.node.clone(),
            l.op_type.clone(),
            format!("{:.2}", l.sqnr_db),
            format!("{:.6}", l.cosine),
            l.top1.map_or("-".into(), |t| format!("{:.2}", 100.0 * t)),
        ]);
    }
    output::align_numbers(&mut table);
    say!("{table}");
}

/// Each group of channels cut alone at several ratios.
fn by_group(args: &Args, model: &Model, engine: &dyn Engine) -> anyhow::Result<Option<Chart>> {
    let source: Box<dyn Source> = data::open(&args.data, model, 4)?;
    let mut dims = match args.data.data.is_empty() {
        true => Vec::new(),
        false => data::observed_sizes(source.as_ref(), model)?,
    };
    dims.extend(args.data.bindings()?);
    let bars = Bars::new(args.quiet || args.json);
    let progress = |what: &'static str, done, all| bars.at(what, done, all);
    let data = Calibration { engine, source: source.as_ref(), progress: &progress };
    if args.options.together {
        let curve = prune::curve(model, &args.options, data, &dims)?;
        drop(bars);
        if args.json {
            output::json(&Found { model: &args.model, found: &curve })?;
        } else if !args.quiet {
            print_curve(&curve, args.options.recover);
        }
        return Ok(page::trade_off(&curve.points));
    }
    let report = prune::sensitivity(model, &args.options, data, &dims)?;
    drop(bars);
    if args.json {
        output::json(&Found { model: &args.model, found: &report })?;
    } else if !args.quiet {
        print_groups(&report, args.options.recover);
    }
    Ok(page::prune_sensitivity(&report.groups))
}

fn print_curve(curve: &Curve, recover: Recover) {
    say!(
        "trade-off: {} samples, all groups together{}",
        curve.samples,
        if recover == Recover::None { "" } else { ", after recovery" },
    );
    let mut table =
        output::table(&["ratio", "MACs left %", "params left %", "SQNR dB", "agreement %"]);
    for p in &curve.points {
        table.add_row([
            p.ratio.to_string(),
            format!("{:.1}", 100.0 * p.macs),
            format!("{:.1}", 100.0 * p.params),
            p.sqnr_db.map_or("exact".to_owned(), |db| format!("{db:.1}")),
            p.agreement.map_or(String::new(), |a| format!("{:.1}", 100.0 * a)),
        ]);
    }
    output::align_numbers(&mut table);
    say!("{table}");
}

fn print_groups(report: &SensitivityReport, recover: Recover) {
    say!(
        "sensitivity: {} groups, {} samples, each group alone{}",
        report.groups.len(),
        report.samples,
        if recover == Recover::None { "" } else { ", after recovery" },
    );
    let mut table =
        output::table(&["group", "channels", "left", "MACs left %", "SQNR dB", "agreement %"]);
    for g in &report.groups {
        add_group(&mut table, g);
    }
    output::align_numbers(&mut table);
    say!("{table}");
    if let Some(plan) = &report.plan {
        say!("leaves {:.1} % of the MACs at the least error:", 100.0 * plan.macs);
        let flags: Vec<String> =
            plan.layers.iter().map(|l| format!("--layer '{}={:.3}'", l.pattern, l.ratio)).collect();
        say!("  prune --ratio 0 {}", flags.join(" \\\n    "));
    }
}

fn add_group(table: &mut comfy_table::Table, g: &GroupSensitivity) {
    for (i, p) in g.points.iter().enumerate() {
        let first = |text: String| if i == 0 { text } else { String::new() };
        table.add_row([
            first(g.name.clone()),
            first(g.channels.to_string()),
            p.channels.to_string(),
            format!("{:.1}", 100.0 * p.macs),
            p.sqnr_db.map_or("exact".to_owned(), |db| format!("{db:.1}")),
            p.agreement.map_or(String::new(), |a| format!("{:.1}", 100.0 * a)),
        ]);
    }
}
