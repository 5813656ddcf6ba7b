//! `lapidary sensitivity`.

use std::path::PathBuf;

use super::args::load;
use super::output::say;
use super::progress::Bars;
use super::{Outcome, output};
use crate::data::{self, DataOptions};
use crate::engine;
use crate::pass;
use crate::prune::{SensitivityOptions, SensitivityReport, sensitivity};
use crate::recover::Calibration;

/// Measure what each part costs when it alone is pruned, and fit a plan
#[derive(clap::Args)]
pub(super) struct Args {
    /// The model
    model: PathBuf,
    /// Cut the channels of each group at several ratios
    #[arg(long, required = true)]
    prune: bool,
    #[command(flatten)]
    options: SensitivityOptions,
    #[command(flatten)]
    data: DataOptions,
    /// What runs models: tract, or ort with ORT_DYLIB_PATH set
    #[arg(long, default_value = "tract")]
    engine: String,
    /// Do not simplify first
    #[arg(long)]
    no_simplify: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print nothing but errors
    #[arg(short, long)]
    quiet: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let engine = engine::by_name(&args.engine)?;
    let mut model = load(&args.model)?;
    if !args.no_simplify {
        pass::simplify(&mut model, &mut pass::Cx::default())?;
    }
    let source = data::open(&args.data, &model, 4)?;
    let mut dims = match args.data.data.is_empty() {
        true => Vec::new(),
        false => data::observed_sizes(source.as_ref(), &model)?,
    };
    dims.extend(args.data.bindings()?);
    let bars = Bars::new(args.quiet || args.json);
    let progress = |what: &'static str, done, all| bars.at(what, done, all);
    let data = Calibration { engine: &*engine, source: source.as_ref(), progress: &progress };
    let report = sensitivity(&model, &args.options, data, &dims)?;
    drop(bars);
    if args.json {
        output::json(&report)?;
    } else if !args.quiet {
        print(&report, args.options.recover);
    }
    Ok(Outcome::Done)
}

fn print(report: &SensitivityReport, recover: crate::recover::Recover) {
    let recovered = recover != crate::recover::Recover::None;
    say!(
        "sensitivity: {} groups, {} samples, each group alone{}",
        report.groups.len(),
        report.samples,
        if recovered { ", after recovery" } else { "" },
    );
    let mut table =
        output::table(&["group", "channels", "left", "MACs left %", "SQNR dB", "agreement %"]);
    for g in &report.groups {
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
    output::align_numbers(&mut table);
    say!("{table}");
    if let Some(plan) = &report.plan {
        say!("leaves {:.1} % of the MACs at the least error:", 100.0 * plan.macs);
        let flags: Vec<String> =
            plan.layers.iter().map(|l| format!("--layer '{}={:.3}'", l.pattern, l.ratio)).collect();
        say!("  prune --ratio 0 {}", flags.join(" \\\n    "));
    }
}
