//! `lapidary optimize`.

use std::path::PathBuf;

use anyhow::Context;

use super::change::ChangeArgs;
use super::{Outcome, change};
use crate::data::DataOptions;
use crate::precision::PrecisionOptions;
use crate::prune::PruneOptions;
use crate::quantize::QuantizeOptions;
use crate::recipe::{Recipe, SimplifyOptions, Step};
use crate::recover::Recover;

/// Do the whole job: simplify, prune, quantize, verify, evaluate.
#[derive(clap::Args)]
#[command(
    after_help = "The flags build a recipe; --print-recipe shows it. Options of a step that \
has no flag here go into a recipe file or --set, such as --set quantize.skip-last=1."
)]
pub(super) struct Args {
    /// Read steps and data from a recipe file; data and running flags given here win
    #[arg(long, value_name = "FILE", conflicts_with_all = ["prune", "target_macs", "int8"])]
    recipe: Option<PathBuf>,
    /// Remove this share of the channels, such as 0.3
    #[arg(long, value_name = "RATIO")]
    prune: Option<f64>,
    /// Prune until at most this share of the multiply-accumulates is left, such as 0.5
    #[arg(long, value_name = "SHARE", conflicts_with = "prune")]
    target_macs: Option<f64>,
    /// How accuracy is won back after pruning [default: with --data
    /// reconstruct, or affine above ten million parameters]
    #[arg(long, value_enum, value_name = "HOW")]
    recover: Option<Recover>,
    /// Keep a multiple of N channels [default: 8 with --int8, whose kernels want it, else 1]
    #[arg(long, value_name = "N")]
    round_to: Option<usize>,
    /// Quantize to INT8; needs --data
    #[arg(long)]
    int8: bool,
    /// Labelled samples to measure the accuracy on; labels by --labels or in the file
    #[arg(long, value_name = "PATH")]
    evaluate: Option<String>,
    /// Set an option of a step: STEP.OPTION=VALUE, the value as in TOML; repeat for more
    #[arg(long, value_name = "STEP.OPTION=VALUE")]
    set: Vec<String>,
    /// Print the recipe that the flags make, and do nothing
    #[arg(long)]
    print_recipe: bool,
    #[command(flatten)]
    half: PrecisionOptions,
    #[command(flatten)]
    change: ChangeArgs,
}

pub(super) fn run(args: &Args, matches: &clap::ArgMatches) -> anyhow::Result<Outcome> {
    let mut recipe = match &args.recipe {
        Some(file) => from_file(args, file, matches)?,
        None => from_flags(args)?,
    };
    for set in &args.set {
        recipe = with_option(&recipe, set)?;
    }
    if args.print_recipe {
        print!("{}", toml::to_string(&recipe)?);
        return Ok(Outcome::Done);
    }
    change::run(&recipe, &args.change.model, &args.change.output, "optimized")
}

fn from_flags(args: &Args) -> anyhow::Result<Recipe> {
    let mut recipe = args.change.recipe();
    recipe.step.push(Step::Simplify(SimplifyOptions::default()));
    if args.prune.is_some() || args.target_macs.is_some() {
        let default = PruneOptions::default();
        let options = PruneOptions {
            ratio: args.prune.unwrap_or(default.ratio),
            target_macs: args.target_macs,
            recover: args.recover,
            round_to: args.round_to.unwrap_or(if args.int8 { 8 } else { 1 }),
            ..default
        };
        recipe.step.push(Step::Prune(options));
        recipe.step.push(Step::Simplify(SimplifyOptions::default()));
    }
    if args.int8 {
        recipe.step.push(Step::Quantize(QuantizeOptions::default()));
    }
    if args.half.is_asked() {
        recipe.step.push(Step::Precision(args.half.clone()));
    }
    if let Some(path) = &args.evaluate {
        let evaluate = DataOptions { data: vec![path.clone()], ..recipe.data.clone() };
        recipe.evaluate = Some(DataOptions { random: None, samples: None, ..evaluate });
    }
    recipe.data.labels = None;
    Ok(recipe)
}

/// The file's recipe; flags that were given on the command line replace what it says.
fn from_file(
    args: &Args,
    file: &std::path::Path,
    matches: &clap::ArgMatches,
) -> anyhow::Result<Recipe> {
    let given = |id: &str| matches.value_source(id) == Some(clap::parser::ValueSource::CommandLine);
    let mut recipe = Recipe::read(file)?;
    let flags = from_flags(args)?;
    if given("data") || given("random") {
        recipe.data = flags.data;
    }
    if flags.evaluate.is_some() {
        recipe.evaluate = flags.evaluate;
    }
    recipe.explain |= flags.explain;
    if given("engine") {
        recipe.engine = flags.engine;
    }
    if given("tensorrt") {
        recipe.tensorrt = flags.tensorrt;
    }
    if given("no-verify") {
        recipe.verify.skip = true;
    }
    if given("verify-samples") {
        recipe.verify.samples = flags.verify.samples;
    }
    Ok(recipe)
}

/// The recipe with one option of all steps of a kind set.
fn with_option(recipe: &Recipe, set: &str) -> anyhow::Result<Recipe> {
    let usage = || format!("--set {set}: write it as STEP.OPTION=VALUE");
    let (key, value) = set.split_once('=').with_context(usage)?;
    let (step, option) = key.split_once('.').with_context(usage)?;
    // A value that is no TOML is a string.
    let value = toml::from_str::<toml::Table>(&format!("v = {value}"))
        .ok()
        .and_then(|mut t| t.remove("v"))
        .unwrap_or_else(|| toml::Value::String(value.to_owned()));
    let mut table = toml::Table::try_from(recipe)?;
    let steps = table.get_mut("step").and_then(toml::Value::as_array_mut);
    let mut found = false;
    for s in steps.into_iter().flatten().filter_map(toml::Value::as_table_mut) {
        if s.get("kind").and_then(toml::Value::as_str) == Some(step) {
            s.insert(option.to_owned(), value.clone());
            found = true;
        }
    }
    if !found {
        anyhow::bail!("--set {set}: the recipe has no step {step:?}");
    }
    table.try_into().with_context(|| format!("--set {set}"))
}
