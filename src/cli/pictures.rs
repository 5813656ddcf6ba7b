//! `--report` and `--plot`: pages and charts of a change.

use std::path::{Path, PathBuf};

use anyhow::Context;

use super::args::{PictureArgs, check_new};
use crate::data;
use crate::engine;
use crate::ir::Model;
use crate::onnx;
use crate::recipe::{Recipe, Report, StepReport};
use crate::report::chart::Chart;
use crate::report::page::{self, Page, Side};
use crate::verify::compare_layers;

/// What is to be drawn, and where it goes.
pub(super) struct Pictures {
    report: Option<PathBuf>,
    plots: Vec<(String, PathBuf)>,
}

impl Pictures {
    /// Reads the arguments before the work begins.
    ///
    /// # Errors
    /// When one is malformed, or a file is there already.
    pub(super) fn of(args: &PictureArgs, force: bool) -> anyhow::Result<Pictures> {
        let mut plots = Vec::new();
        for plot in &args.plot {
            let parts = plot.rsplit_once('=').filter(|(chart, _)| !chart.is_empty());
            let (chart, file) = parts
                .with_context(|| format!("--plot {plot}: write it as CHART=FILE.svg or .png"))?;
            let alone = ["size", "macs", "sqnr", "sensitivity"].contains(&chart);
            anyhow::ensure!(
                alone || chart.starts_with("channels:") || chart.starts_with("histogram:"),
                "there is no chart {chart:?}: there are size, macs, sqnr, sensitivity, \
                 channels:LAYER and histogram:TENSOR"
            );
            let file = PathBuf::from(file);
            let known = file.extension().is_some_and(|e| e == "svg" || e == "png");
            anyhow::ensure!(known, "--plot {plot}: charts are written as .svg or .png");
            plots.push((chart.to_owned(), file));
        }
        for file in args.report.iter().chain(plots.iter().map(|p| &p.1)) {
            check_new(file, force, "name another file")?;
        }
        Ok(Pictures { report: args.report.clone(), plots })
    }

    /// There is something to draw.
    pub(super) fn wanted(&self) -> bool {
        self.report.is_some() || !self.plots.is_empty()
    }

    /// The models must be run for it.
    pub(super) fn needs_noise(&self) -> bool {
        self.report.is_some() || self.plots.iter().any(|(chart, _)| chart == "sqnr")
    }

    /// All files that are written.
    pub(super) fn files(&self) -> impl Iterator<Item = &Path> {
        self.report.iter().chain(self.plots.iter().map(|p| &p.1)).map(PathBuf::as_path)
    }

    /// Draws and writes.
    ///
    /// # Errors
    /// When there is no such chart, or a file cannot be written.
    pub(super) fn write(&self, page: &Page) -> anyhow::Result<()> {
        for (chart, file) in &self.plots {
            let found = page.charts.iter().find(|c| c.id == *chart).with_context(|| {
                format!("this change has no chart {chart:?}: {}", known_charts(&page.charts))
            })?;
            onnx::write_whole(file, &found.titled().encode(file)?)?;
        }
        if let Some(file) = &self.report {
            onnx::write_whole(file, page.html().as_bytes())?;
        }
        Ok(())
    }
}

fn known_charts(charts: &[Chart]) -> String {
    const SHOWN: usize = 12;
    if charts.is_empty() {
        return "there is none".to_owned();
    }
    let mut ids: Vec<&str> = charts.iter().take(SHOWN).map(|c| &c.id[..]).collect();
    if charts.len() > SHOWN {
        ids.push("…");
    }
    format!("there are {}", ids.join(", "))
}

/// The models of a change.
pub(super) struct Change<'a> {
    pub(super) original: &'a Model,
    /// What quantization started from; the original where nothing was quantized.
    pub(super) base: &'a Model,
    pub(super) result: &'a Model,
    /// Files of the original and the result.
    pub(super) paths: (&'a Path, &'a Path),
}

/// The page of what a recipe did. `noise` says whether to run the models for the noise of each
/// layer.
///
/// # Errors
/// When the samples cannot be had.
pub(super) fn page<'a>(
    recipe: &Recipe,
    change: &Change<'a>,
    report: &'a Report,
    trtexec: &str,
    noise: bool,
) -> anyhow::Result<Page<'a>> {
    let mut charts = page::by_layer(change.original, change.result, &report.dims);
    if noise && !recipe.verify.skip {
        charts.extend(noise_chart(recipe, change)?);
    }
    if report.steps.is_empty() {
        charts.extend(page::narrowed(change.original, change.result));
    }
    for step in &report.steps {
        match step {
            StepReport::Prune(p) => {
                charts.extend(p.cuts.iter().flat_map(|c| page::channels(&c.norms())))
            }
            StepReport::Quantize(q) => {
                charts.extend(q.search.iter().filter_map(|s| page::sensitivity(&s.ranking)));
                charts.extend(page::activations(&q.tensors));
            }
            // The others have no charts of their own.
            _ => {}
        }
    }
    let figures = report.before.as_ref().zip(report.after.as_ref());
    let (before, after) = figures.context("the models were not summed up")?;
    let side = |path: &Path, model, summary| Side {
        name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        bytes: file_bytes(path),
        model,
        summary,
    };
    Ok(Page {
        before: side(change.paths.0, change.original, before),
        after: side(change.paths.1, change.result, after),
        command: Some(command_line()),
        recipe: (!recipe.step.is_empty()).then(|| toml::to_string(recipe)).transpose()?,
        steps: report.steps.iter().map(in_a_line).collect(),
        trtexec: (!trtexec.is_empty()).then(|| trtexec.to_owned()),
        verification: report.verification.as_ref(),
        accuracy: report.accuracy.as_ref().map(|(a, b)| (a.top1, b.top1)),
        warnings: &report.warnings,
        charts,
    })
}

/// Noise of each layer, on the data or on random inputs; none where a model does not run.
fn noise_chart(recipe: &Recipe, change: &Change) -> anyhow::Result<Option<Chart>> {
    let engine = engine::by_name(&recipe.engine)?;
    let samples = recipe.verify.samples;
    let source = data::open(&recipe.data, change.base, samples)?;
    let (base, result) = (change.base, change.result);
    let found = compare_layers(base, result, &*engine, &*source, samples, &|_| {});
    Ok(found.ok().and_then(|layers| page::noise(&layers)))
}

fn in_a_line(step: &StepReport) -> String {
    match step {
        StepReport::Edit(e) => format!("edit: {}", e.changes.join("; ")),
        StepReport::Extract(e) => format!("extract: {} of {} nodes", e.nodes, e.nodes_before),
        StepReport::Convert(c) => {
            let rewritten: usize = c.rewritten.iter().map(|r| r.count).sum();
            let (from, to) = c.opset;
            format!("convert: operator set {from} to {to}, {rewritten} ops rewritten")
        }
        StepReport::Simplify(s) => {
            let fired = s.passes.iter().map(|(name, times, _)| format!("{name} {times}"));
            let fired: Vec<String> = fired.collect();
            let what = if fired.is_empty() { "nothing to do".to_owned() } else { fired.join(", ") };
            format!("simplify: {what}")
        }
        StepReport::Prune(p) => {
            let cut = p.groups.iter().filter(|g| g.after < g.before).count();
            format!(
                "prune: {cut} of {} groups cut, {} of {} channels left",
                p.groups.len(),
                p.channels_after,
                p.channels_before
            )
        }
        StepReport::Sparse(s) => {
            format!("prune: {} of {} weights are zero", s.zeros, s.elements)
        }
        StepReport::Share(s) => {
            let shared = s.layers.iter().filter(|l| l.skipped.is_none()).count();
            format!("share: {shared} weights in {} bits", s.bits)
        }
        StepReport::Precision(p) => {
            format!("precision: {} ops in 16 bits, {} in float32", p.converted, p.kept.len())
        }
        StepReport::Quantize(q) => format!(
            "quantize: {} of {} linear ops, {} activations calibrated on {} samples",
            q.quantized_ops,
            q.weighted_ops,
            q.tensors.len(),
            q.samples
        ),
    }
}

/// Bytes of a model and of the files that hold its weights.
fn file_bytes(path: &Path) -> Option<u64> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let size = |file: &Path| std::fs::metadata(file).map(|m| m.len()).ok();
    let external = onnx::external_files(path).unwrap_or_default();
    let external: u64 = external.iter().filter_map(|f| size(&folder.join(f))).sum();
    Some(size(path)? + external)
}

/// The command as it could be typed into a shell again.
fn command_line() -> String {
    let quoted = |arg: String| {
        let plain = |c: char| c.is_alphanumeric() || "-_=./,:+@%".contains(c);
        match !arg.is_empty() && arg.chars().all(plain) {
            true => arg,
            false => format!("'{}'", arg.replace('\'', "'\\''")),
        }
    };
    let mut args: Vec<String> =
        std::env::args_os().map(|a| quoted(a.to_string_lossy().into_owned())).collect();
    if let Some(program) = args.first_mut() {
        *program = "lapidary".to_owned();
    }
    args.join(" ")
}
