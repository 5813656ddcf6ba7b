//! Arguments that commands share.

use std::path::{Path, PathBuf};

use crate::ir::{Graph, Model, Tensor, ValueId};
use crate::onnx::{self, ExternalData, SaveOptions};

/// Where the result goes and how it is written.
#[derive(clap::Args)]
#[command(next_help_heading = "Output")]
pub(super) struct OutputArgs {
    /// Where to write the result [default: beside the model]
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// Overwrite the output file
    #[arg(long)]
    pub(super) force: bool,
    /// Put weights of at least SIZE (such as 1K, 64M) into one file beside the model
    #[arg(long, value_name = "SIZE", num_args = 0..=1, require_equals = true,
          default_missing_value = "1K", value_parser = parse_size)]
    pub(super) external_data: Option<usize>,
    /// Store weights that get smaller by it in coordinate format, as sparse values of Constant nodes
    /// (operator set 11); ONNX Runtime reads them, TensorRT does not
    #[arg(long)]
    pub(super) sparse_initializers: bool,
    #[command(flatten)]
    pub(super) pictures: PictureArgs,
    /// Print the report as JSON
    #[arg(long)]
    pub(super) json: bool,
    /// Print nothing but errors
    #[arg(short, long)]
    pub(super) quiet: bool,
}

/// What is drawn of a change.
#[derive(clap::Args)]
#[command(next_help_heading = "Output")]
pub(super) struct PictureArgs {
    /// Write an HTML page with both graphs, figures and charts
    #[arg(long, value_name = "FILE")]
    pub(super) report: Option<PathBuf>,
    /// Write a chart as .svg or .png: size, macs, sqnr, channels:LAYER or histogram:TENSOR; repeat
    /// for more
    #[arg(long, value_name = "CHART=FILE")]
    pub(super) plot: Vec<String>,
}

impl OutputArgs {
    /// The output file: as given, or `<stem>.<suffix>.onnx` beside the model.
    ///
    /// # Errors
    /// When it exists and may not be overwritten, or its folder is missing
    pub(super) fn path(&self, model: &Path, suffix: &str) -> anyhow::Result<PathBuf> {
        let path = self.output.clone().unwrap_or_else(|| {
            let stem = model.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            model.with_file_name(format!("{stem}.{suffix}.onnx"))
        });
        check_new(&path, self.force, "name another file with -o")?;
        Ok(path)
    }

    /// Writes the result
    pub(super) fn save(&self, model: &Model, path: &Path) -> anyhow::Result<()> {
        let external_data = match self.external_data {
            Some(from) => ExternalData::Above(from),
            None => ExternalData::Auto,
        };
        let mut sparse;
        let model = match self.sparse_initializers {
            false => model,
            true => {
                let opset = model.default_opset();
                if opset < onnx::SPARSE_CONSTANTS {
                    anyhow::bail!(
                        "--sparse-initializers needs operator set {}, the model has {opset}: `lapidary \
                         convert` raises it",
                        onnx::SPARSE_CONSTANTS
                    );
                }
                sparse = model.clone();
                sparsify(&mut sparse.graph);
                &sparse
            }
        };
        onnx::save(model, path, SaveOptions { external_data })?;
        Ok(())
    }
}

/// Stores constants in coordinate format where that takes fewer bytes, as new ones, which the file has
/// as `Constant` nodes. Operands of ops only: other places of the file take dense tensors.
fn sparsify(g: &mut Graph) {
    let constants: Vec<ValueId> = g.values().filter(|v| !g.is_output(*v)).collect();
    for v in constants {
        if let Some(sparse) = g.const_tensor(v).and_then(Tensor::to_sparse)
            && g.const_tensor(v).is_some_and(|t| sparse.byte_len() < t.byte_len())
        {
            g.set_data(v, sparse);
            g.facts_mut(v).init_rank = u32::MAX;
        }
    }
}

/// Makes sure that a file can be written before work begins.
///
/// # Errors
/// When it exists and may not be overwritten, or its folder is missing
pub(super) fn check_new(path: &Path, force: bool, way_out: &str) -> anyhow::Result<()> {
    if path.is_dir() {
        anyhow::bail!("{} is a folder; {way_out}", path.display());
    }
    if path.exists() && !force {
        anyhow::bail!("{} exists; {way_out}, or add --force", path.display());
    }
    if let Some(folder) = path.parent().filter(|p| !p.as_os_str().is_empty() && !p.is_dir()) {
        anyhow::bail!("folder {} does not exist", folder.display());
    }
    Ok(())
}

/// A size in bytes with an optional suffix: `4096`, `64K`, `1.5M`, `2G`.
pub(super) fn parse_size(text: &str) -> Result<usize, String> {
    let text = text.trim();
    let lower = text.to_ascii_lowercase();
    let digits = lower.trim_end_matches('b').trim_end_matches('i');
    let (number, factor) = match digits.chars().last() {
        Some('k') => (&digits[..digits.len() - 1], 1u64 << 10),
        Some('m') => (&digits[..digits.len() - 1], 1 << 20),
        Some('g') => (&digits[..digits.len() - 1], 1 << 30),
        _ => (digits, 1),
    };
    let value: f64 = number.trim().parse().map_err(|_| format!("{text:?} is no size"))?;
    if !(value >= 0.0 && value * (factor as f64) < usize::MAX as f64) {
        return Err(format!("{text:?} is no size"));
    }
    Ok((value * factor as f64) as usize)
}

/// Reads a model and names the file in errors that do not.
///
/// # Errors
/// As [`onnx::load`].
pub(super) fn load(path: &Path) -> anyhow::Result<Model> {
    onnx::load(path).map_err(|e| {
        let named = e.to_string().contains(&path.display().to_string());
        let error = anyhow::Error::new(e);
        if named { error } else { error.context(path.display().to_string()) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("4096"), Ok(4096));
        assert_eq!(parse_size("64K"), Ok(64 << 10));
        assert_eq!(parse_size("1.5MiB"), Ok(3 << 19));
        assert!(parse_size("-1").is_err());
        assert!(parse_size("lots").is_err());
    }
}
