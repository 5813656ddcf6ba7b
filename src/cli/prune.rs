//! `lapidary prune`.

use std::path::Path;

use anyhow::Context;

use super::args::{check_new, load};
use super::change::ChangeArgs;
use super::output::say;
use super::{Outcome, change, output};
use crate::prune::{Analysis, Mode, PruneOptions, PruneReport, SparseReport};
use crate::recipe::{SimplifyOptions, Step};
use crate::recover::RecoveryReport;
use crate::report::groups;
use crate::{onnx, pass};

/// Remove whole channels, and everything downstream shrinks with them; or set single weights to zero
#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    change: ChangeArgs,
    #[command(flatten)]
    options: PruneOptions,
    /// Do not simplify first
    #[arg(long)]
    no_simplify: bool,
    /// Lay open the groups with a layer or weight that matches, and do nothing; `--plot groups=FILE`
    /// draws them
    #[arg(long, value_name = "GLOB")]
    explain_group: Option<String>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    if let Some(pattern) = &args.explain_group {
        return explain(args, pattern);
    }
    let mut recipe = args.change.recipe();
    if !args.no_simplify {
        recipe.step.push(Step::Simplify(SimplifyOptions::default()));
    }
    recipe.step.push(Step::Prune(args.options.clone()));
    change::run(&recipe, &args.change.model, &args.change.output, "pruned")
}

/// Prints, and draws, what groups are made of.
fn explain(args: &Args, pattern: &str) -> anyhow::Result<Outcome> {
    let mut files = Vec::new();
    for plot in &args.change.output.pictures.plot {
        let file = plot.strip_prefix("groups=").map(Path::new);
        let file = file.with_context(|| format!("--plot {plot}: write it as groups=FILE here"))?;
        check_new(file, args.change.output.force, "name another file")?;
        let known = file.extension().is_some_and(|e| e == "svg" || e == "png");
        anyhow::ensure!(known, "--plot {plot}: charts are written as .svg or .png");
        files.push(file);
    }
    let mut model = load(&args.change.model)?;
    if !args.no_simplify {
        pass::simplify(&mut model, &mut pass::Cx::default())?;
    }
    let found = Analysis::with(&model, args.options.approximate).explain(pattern)?;
    anyhow::ensure!(!found.is_empty(), "no group has a layer or weight that matches {pattern:?}");
    for file in files {
        onnx::write_whole(file, &groups::scene(&found).encode(file)?)?;
    }
    if args.change.output.json {
        output::json(&found)?;
        return Ok(Outcome::Done);
    }
    for group in found {
        say!("{}: {} channels, {} choices", group.name, group.channels, group.choices);
        if group.blocks > 1 {
            say!("  {} blocks stay equally long", group.blocks);
        }
        if let Some(why) = &group.pinned {
            say!("  left alone: {why}");
        }
        group.makers.iter().for_each(|m| say!("  made by {m}"));
        group.readers.iter().for_each(|r| say!("  read by {r}"));
        let mut table = output::table(&["value", "axis", "length", "in the group", ""]);
        for a in group.axes {
            let kind = if a.constant { "constant" } else { "" };
            let numbers = [a.axis, a.length, a.inside].map(|n| n.to_string());
            table.add_row([&a.value, &numbers[0], &numbers[1], &numbers[2], kind]);
        }
        say!("{table}");
    }
    Ok(Outcome::Done)
}

pub(super) fn print(report: &PruneReport) {
    let cut = report.groups.iter().filter(|g| g.after < g.before).count();
    say!(
        "prune: {cut} of {} groups cut, {} of {} channels left",
        report.groups.len(),
        report.channels_after,
        report.channels_before,
    );
    let mut table = output::table(&["group", "members", "channels", "left alone because"]);
    for g in &report.groups {
        let channels = match g.after == g.before {
            true => g.before.to_string(),
            false => format!("{} → {}", g.before, g.after),
        };
        let why = g.pinned.clone().unwrap_or_default();
        table.add_row([g.name.clone(), g.members.len().to_string(), channels, why]);
    }
    say!("{table}");
    if let Some(g) = &report.goal {
        say!("goal: {:.3} of the {} may be left, {:.3} are", g.goal, g.what, g.left);
    }
    if let Some(r) = &report.recovery {
        print_recovery(r);
    }
}

fn print_recovery(r: &RecoveryReport) {
    let db = |x: Option<f64>| x.map_or("exact".to_owned(), |x| format!("{x:.1} dB"));
    let top1 = r.top1_before.map(|t| format!("; accuracy as cut {:.2} %", 100.0 * t));
    say!(
        "recover: {} layers by {}, {} samples, {:.1} s: outputs {} -> {}{}",
        r.layers.len(),
        format!("{:?}", r.method).to_lowercase(),
        r.samples,
        r.seconds,
        db(r.sqnr_before),
        db(r.sqnr_after),
        top1.unwrap_or_default(),
    );
    for (layer, why) in &r.skipped {
        say!("  {layer} left as it is: {why}");
    }
}

pub(super) fn print_sparse(report: &SparseReport) {
    let share = 100.0 * report.zeros as f64 / report.elements.max(1) as f64;
    let moved = match report.mode {
        Mode::TwoFour => format!(", {} channels moved", report.channels_moved),
        _ => String::new(),
    };
    say!("prune: {} of {} weights are zero ({share:.1} %){moved}", report.zeros, report.elements);
    let header = ["layer", "shape", "zeros", "magnitude kept", "in order", "left alone because"];
    let mut table = output::table(&header);
    let percent = |x: f64| format!("{:.1} %", 100.0 * x);
    for l in &report.layers {
        let dims: Vec<String> = l.dims.iter().map(usize::to_string).collect();
        let zeros = match l.zeros_after == l.zeros_before {
            true => l.zeros_after.to_string(),
            false => format!("{} → {}", l.zeros_before, l.zeros_after),
        };
        let done = l.skipped.is_none();
        let show = |x: f64, wanted: bool| if wanted { percent(x) } else { String::new() };
        table.add_row([
            l.name.clone(),
            dims.join("x"),
            zeros,
            show(l.kept, done),
            show(l.kept_in_order, done && report.mode == Mode::TwoFour),
            l.skipped.clone().unwrap_or_default(),
        ]);
    }
    say!("{table}");
    say!(
        "zipped: {} -> {} of {}",
        output::bytes(report.deflated_before as usize),
        output::bytes(report.deflated_after as usize),
        output::bytes(report.bytes),
    );
    if let Some(search) = &report.goal {
        output::search(search, "kept whole");
    }
    if let Some(r) = &report.recovery {
        print_recovery(r);
    }
}
