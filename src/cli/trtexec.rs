//! `lapidary trtexec`.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;
use serde::Serialize;

use super::Outcome;
use super::args::load;
use super::output::{self, count, say};
use crate::ir::Model;
use crate::target::engine::{self, EngineReport};
use crate::target::{Exports, LineOptions, Version, removed_flag, shell_line, trtexec_args};

/// Print the trtexec line that builds an engine, run it, or show what trtexec says of an engine.
///
/// Flags after `--` are passed on; those that the version has dropped are refused. With
/// `--layer-info`, nothing is built: the files that trtexec exported are joined to the model.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The model
    model: PathBuf,
    /// TensorRT version, such as 8.6, 10 or 11 [default: that of the trtexec found, else 11]
    #[arg(long, value_name = "VERSION")]
    tensorrt: Option<Version>,
    /// The program [default: the one in $TENSORRT or PATH]
    #[arg(long, value_name = "FILE")]
    trtexec: Option<PathBuf>,
    /// Run the line, and show the engine's layers afterwards
    #[arg(long)]
    run: bool,
    /// Likeliest size of an open dim; `input:axis=8` for a dim without a name
    #[arg(long, value_name = "NAME=SIZE", value_parser = super::inspect::parse_dim)]
    dim: Vec<(String, i64)>,
    /// Smallest size of an open dim
    #[arg(long, value_name = "NAME=SIZE", value_parser = super::inspect::parse_dim)]
    min_dim: Vec<(String, i64)>,
    /// Largest size of an open dim
    #[arg(long, value_name = "NAME=SIZE", value_parser = super::inspect::parse_dim)]
    max_dim: Vec<(String, i64)>,
    /// Try kernels for 2:4 sparse weights: those that are sparse (enable), or all, cut to it (force)
    #[arg(long, value_parser = ["enable", "force"])]
    sparsity: Option<String>,
    /// Build for this core of the DLA, and for the GPU where it cannot run an op
    #[arg(long, value_name = "CORE")]
    dla: Option<u32>,
    /// Keep timings in this file, for faster builds later
    #[arg(long, value_name = "FILE")]
    timing_cache: Option<PathBuf>,
    /// Let trtexec write layers and their times beside the model
    #[arg(long)]
    export: bool,
    /// Read layers that trtexec wrote with --exportLayerInfo
    #[arg(long, value_name = "FILE", conflicts_with = "run")]
    layer_info: Option<PathBuf>,
    /// Read times that trtexec wrote with --exportProfile
    #[arg(long, value_name = "FILE", requires = "layer_info")]
    profile: Option<PathBuf>,
    /// Show at most so many layers, those that take longest first
    #[arg(long, value_name = "N", default_value_t = 30)]
    top: usize,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// More flags for trtexec
    #[arg(last = true, value_name = "FLAG")]
    extra: Vec<String>,
}

#[derive(Serialize)]
struct Line<'a> {
    version: Version,
    program: String,
    args: &'a [String],
    line: String,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let model = load(&args.model)?;
    if let Some(layers) = &args.layer_info {
        return show(args, &model, layers, args.profile.as_deref());
    }
    let found = args.trtexec.clone().or_else(find);
    let version = match (args.tensorrt, &found) {
        (Some(version), _) => version,
        (None, Some(program)) => version_of(program)?,
        (None, None) => Version::default(),
    };
    for flag in &args.extra {
        if let Some(removed) = removed_flag(flag, version) {
            return Err(removed.into());
        }
    }
    let export = (args.export || args.run).then(|| Exports::beside(&args.model));
    let options = LineOptions {
        min: args.min_dim.clone(),
        opt: args.dim.clone(),
        max: args.max_dim.clone(),
        sparsity: args.sparsity.clone(),
        dla: args.dla,
        timing_cache: args.timing_cache.clone(),
        export: export.clone(),
        extra: args.extra.clone(),
    };
    let flags = trtexec_args(&args.model, &model, version, &options);
    let program = match &found {
        Some(path) => path.display().to_string(),
        None => "trtexec".to_owned(),
    };
    let line = shell_line(&program, &flags);
    match (args.run, export) {
        (true, Some(export)) => {
            let program = found.context(
                "trtexec is not here: name it with --trtexec, or set TENSORRT to the folder of TensorRT",
            )?;
            eprintln!("{line}");
            let status = Command::new(&program).args(&flags).status();
            let status = status.with_context(|| format!("cannot run {}", program.display()))?;
            anyhow::ensure!(status.success(), "trtexec failed: {status}");
            show(args, &model, &export.layer_info, Some(&export.profile))
        }
        _ => {
            match args.json {
                true => output::json(&Line { version, program, args: &flags, line })?,
                false => say!("{line}"),
            }
            Ok(Outcome::Done)
        }
    }
}

/// The program in `$TENSORRT`, or in the folders of `PATH`.
fn find() -> Option<PathBuf> {
    let name = if cfg!(windows) { "trtexec.exe" } else { "trtexec" };
    let root = std::env::var_os("TENSORRT").map(PathBuf::from);
    let own = root.into_iter().flat_map(|r| [r.join("bin").join(name), r.join(name)]);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let common: Vec<PathBuf> = std::env::split_paths(&path).map(|f| f.join(name)).collect();
    own.chain(common).find(|p| p.is_file())
}

/// What the program says that it is.
fn version_of(program: &Path) -> anyhow::Result<Version> {
    let out = Command::new(program)
        .arg("--help")
        .output()
        .with_context(|| format!("cannot run {}", program.display()))?;
    let text =
        [String::from_utf8_lossy(&out.stdout), String::from_utf8_lossy(&out.stderr)].concat();
    Version::in_output(&text).with_context(|| {
        format!("{} does not say its version; give it with --tensorrt", program.display())
    })
}

fn show(
    args: &Args,
    model: &Model,
    layers: &Path,
    profile: Option<&Path>,
) -> anyhow::Result<Outcome> {
    let read = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let times = profile.map(read).transpose()?;
    let report = engine::read(model, &read(layers)?, times.as_deref())
        .with_context(|| layers.display().to_string())?;
    match args.json {
        true => output::json(&report)?,
        false => say!("{}", tables(&report, args.top)),
    }
    Ok(Outcome::Done)
}

fn tables(r: &EngineReport, top: usize) -> String {
    let percent =
        |share: Option<f64>| share.map_or(String::new(), |s| format!("{:.1} %", 100.0 * s));
    let mut by_type = output::table(&["precision", "layers", "time"]);
    for (name, p) in &r.precisions {
        by_type.add_row([name.clone(), p.layers.to_string(), percent(p.share)]);
    }
    output::align_numbers(&mut by_type);
    let mut sorted: Vec<_> = r.layers.iter().collect();
    sorted.sort_by(|a, b| b.average_ms.unwrap_or(0.0).total_cmp(&a.average_ms.unwrap_or(0.0)));
    let head = ["ONNX nodes", "layer", "precision", "ms", "time", "MACs"];
    let mut layers = output::table(&head);
    for l in sorted.iter().take(top) {
        let nodes: Vec<String> = l.nodes.iter().map(|(n, op)| format!("{n} ({op})")).collect();
        layers.add_row([
            if nodes.is_empty() { format!("– {}", short(&l.name)) } else { nodes.join("\n") },
            l.kind.clone(),
            l.precision.clone(),
            l.average_ms.map_or(String::new(), |ms| format!("{ms:.4}")),
            percent(l.share),
            l.macs.map_or(String::new(), |n| count(n as f64)),
        ]);
    }
    let mut text = format!("{by_type}\n\n{layers}");
    if sorted.len() > top {
        text += &format!("\n… {} more layers (--top)", sorted.len() - top);
    }
    let list = |names: &[String]| {
        const SHOWN: usize = 5;
        let mut text = names.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
        if names.len() > SHOWN {
            text += &format!(" and {} more", names.len() - SHOWN);
        }
        text
    };
    if !r.unnamed_nodes.is_empty() {
        text += &format!("\nfolded, or fused without a trace: {}", list(&r.unnamed_nodes));
    }
    if !r.unknown_nodes.is_empty() {
        text += &format!("\nnot in this model: {}", list(&r.unknown_nodes));
    }
    text
}

fn short(name: &str) -> String {
    const SHOWN: usize = 60;
    match name.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.to_owned(),
    }
}
