//! `lapidary verify`.

use std::path::PathBuf;

use super::args::load;
use super::output::say;
use super::progress::Bar;
use super::{Outcome, output};
use crate::data::{self, DataOptions, Source, Taken};
use crate::engine;
use crate::pass::Semantics;
use crate::verify::{OutputDiff, Verdict, Verification, compare};

/// Random samples that are compared when no data are given.
const SAMPLES: usize = 4;

/// Compare the outputs of two models on the same inputs.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The original
    original: PathBuf,
    /// The result
    result: PathBuf,
    #[command(flatten)]
    data: DataOptions,
    /// What runs the models: tract or ort
    #[arg(long, default_value = "tract")]
    engine: String,
    /// Accept differences: at least this signal-to-difference ratio in every output
    #[arg(long, value_name = "DB")]
    min_sqnr: Option<f64>,
    /// Accept differences: at least this share of samples with the same largest class, in percent
    #[arg(long, value_name = "PERCENT")]
    min_top1: Option<f64>,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Print nothing but errors
    #[arg(short, long)]
    quiet: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let (original, result) = (load(&args.original)?, load(&args.result)?);
    let engine = engine::by_name(&args.engine)?;
    let source = data::open(&args.data, &original, SAMPLES)?;
    let source = Taken(&*source, args.data.samples.unwrap_or(usize::MAX));
    let lossy = args.min_sqnr.is_some() || args.min_top1.is_some();
    let semantics = if lossy { Semantics::Lossy } else { Semantics::Reassociates };
    let bar = Bar::new("verify", source.len(), args.quiet || args.json);
    let n = source.len();
    let found = compare(&original, &result, &*engine, &source, n, semantics, &|done| bar.at(done));
    drop(bar);
    let missed = missed_goals(args, &found);
    if args.json {
        output::json(&found)?;
    } else if !args.quiet && !matches!(found.verdict, Verdict::NotVerified(_)) {
        print_table(&found);
    }
    for what in &missed {
        eprintln!("{what}");
    }
    match &found.verdict {
        Verdict::NotVerified(why) => anyhow::bail!("not verified: {why}"),
        Verdict::Disagree(_) => Ok(Outcome::GoalMissed),
        _ if !missed.is_empty() => Ok(Outcome::GoalMissed),
        _ => Ok(Outcome::Done),
    }
}

fn missed_goals(args: &Args, found: &Verification) -> Vec<String> {
    let mut missed = Vec::new();
    if let Verdict::Disagree(why) = &found.verdict {
        missed.push(format!("the models disagree: {why}"));
    }
    let sqnr = found.min_sqnr_db();
    if let Some(want) = args.min_sqnr.filter(|want| sqnr < *want) {
        missed.push(format!("SQNR is {sqnr:.1} dB, below {want}"));
    }
    match (args.min_top1, found.min_top1()) {
        (Some(want), Some(top1)) if 100.0 * top1 < want => {
            missed.push(format!("top-1 agreement is {:.2} %, below {want}", 100.0 * top1));
        }
        (Some(_), None) => missed.push("no output is [N, C]: no top-1 agreement".to_owned()),
        _ => {}
    }
    missed
}

pub(super) fn print_table(found: &Verification) {
    let mut table =
        super::output::table(&["output", "max abs", "max rel", "cosine", "SQNR dB", "top-1 %"]);
    for o in &found.outputs {
        table.add_row(row(o));
    }
    say!("{table}");
    let kind = if found.synthetic { "random" } else { "given" };
    let verdict = match &found.verdict {
        Verdict::Agree if found.outputs.iter().all(|o| o.bit_equal) => "equal bit by bit",
        Verdict::Agree => "agree up to rounding",
        Verdict::Reported => "compared",
        Verdict::Disagree(_) => "DISAGREE",
        Verdict::NotVerified(_) => "not verified",
    };
    say!("{verdict} on {} {kind} samples ({})", found.samples, found.engine);
}

fn row(o: &OutputDiff) -> Vec<String> {
    let number =
        |v: Option<f64>, digits: usize| v.map_or("–".into(), |v| format!("{v:.digits$}"));
    if let Some(what) = &o.mismatch {
        return vec![o.name.clone(), what.clone()];
    }
    if let Some(equal) = o.equal {
        let share = format!("{:.2} % equal", 100.0 * equal);
        return vec![o.name.clone(), format!("{:.3e}", o.max_abs), share];
    }
    vec![
        o.name.clone(),
        format!("{:.3e}", o.max_abs),
        format!("{:.3e}", o.max_rel),
        number(o.cosine, 6),
        number(o.sqnr_db, 1),
        number(o.top1.map(|v| 100.0 * v), 2),
    ]
}
