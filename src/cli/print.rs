//! `lapidary print`.

use std::path::{Path, PathBuf};

use super::args::load;
use super::{Outcome, output};
use crate::onnx::{self, Format, SaveOptions, text};
use crate::report::dot::dot;
use crate::report::view::view;

/// Print a model in ONNX's textual syntax, or convert it to another format.
///
/// Without `--output`, tensors with many elements are shortened for people. With it, everything is
/// written, in the format that the extension names: `.onnx`, `.onnxtxt`, `.textproto` or `.json`; or
/// the main graph is drawn: `.dot` for Graphviz, `.svg` or `.png`.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The model
    model: PathBuf,
    /// Write to this file instead of the terminal
    #[arg(short, long)]
    output: Option<PathBuf>,
    /// Overwrite the output file
    #[arg(long)]
    force: bool,
    /// Show at most so many elements of a tensor [default: 8, or all with --output]
    #[arg(long, value_name = "N")]
    max_elements: Option<usize>,
    /// Print only nodes whose name, operator or output matches this glob pattern
    #[arg(long, value_name = "PATTERN")]
    node: Option<String>,
}

/// Elements shown on the terminal.
const SHOWN: usize = 8;

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let model = load(&args.model)?;
    let nodes = match &args.node {
        Some(pattern) => Some(globset::Glob::new(pattern)?.compile_matcher()),
        None => None,
    };
    if let Some(path) = args.output.as_ref().filter(|p| p.exists() && !args.force) {
        anyhow::bail!("{} exists; name another file with -o, or add --force", path.display());
    }
    let partial = nodes.is_some() || args.max_elements.is_some();
    match &args.output {
        Some(path) if is_picture(path) => {
            anyhow::ensure!(!partial, "--node and --max-elements do not work with pictures");
            let name = args.model.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let view = view(&model, false);
            let bytes = match path.extension().is_some_and(|e| e == "dot") {
                true => dot(&view, &name).into_bytes(),
                false => view.scene(&name).encode(path)?,
            };
            onnx::write_whole(path, &bytes)?;
        }
        Some(path) if !partial => {
            onnx::save(&model, path, SaveOptions::default())?;
        }
        Some(path) => {
            anyhow::ensure!(
                Format::of(path) == Format::OnnxText,
                "--node and --max-elements work with ONNX text only; name the output *.onnxtxt"
            );
            let options = text::PrintOptions { max_elements: args.max_elements, nodes };
            onnx::write_whole(path, text::print(&model, &options).as_bytes())?;
        }
        None => {
            let max_elements = Some(args.max_elements.unwrap_or(SHOWN));
            let text = text::print(&model, &text::PrintOptions { max_elements, nodes });
            output::print(&text);
        }
    }
    Ok(Outcome::Done)
}

fn is_picture(path: &Path) -> bool {
    let extension = path.extension().and_then(|e| e.to_str());
    matches!(extension, Some("dot" | "svg" | "png"))
}
