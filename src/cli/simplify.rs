//! `lapidary simplify`.

use std::path::PathBuf;

use super::Outcome;
use crate::{onnx, pass};

/// Simplify a model: fold constants, fuse, remove what does nothing.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The model.
    model: PathBuf,
    /// Where to write the result.
    #[arg(short, long)]
    output: PathBuf,
    /// Do not compare the outputs of original and result.
    #[arg(long)]
    no_verify: bool,
    /// Print nothing but errors.
    #[arg(short, long)]
    quiet: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let mut model = onnx::load(&args.model)?;
    let mut cx = pass::Cx::default();
    pass::simplify(&mut model, &mut cx)?;
    onnx::save(&model, &args.output, onnx::SaveOptions::default())?;
    Ok(Outcome::Done)
}
