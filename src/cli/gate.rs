//! `lapidary gate`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::Serialize;

use super::Outcome;
use super::args::load;
use super::output::{self, say};
use crate::data::DataOptions;
use crate::engine;
use crate::gate::{
    Baseline, BaselineSpec, Budgets, CONFIG, Check, Config, Job, LOCK, Lock, Measures, Runtime,
    Status, check, format, measure,
};

/// Check models against budgets, as in continuous integration; exit with 1 when one is exceeded.
///
/// Budgets come from flags and from the nearest `lapidary.toml`. Growth (`+2%`) is measured against
/// `--baseline`, else against the numbers in `lapidary.lock`, which `--update` writes.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The models [default: those that lapidary.toml names]
    #[arg(value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// Budgets [default: lapidary.toml in this folder or the nearest above it]
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What growth is measured against: a model, or git:REVISION for the same file at a revision
    #[arg(long, value_name = "MODEL|git:REV")]
    baseline: Option<String>,
    /// The file with the numbers of the baseline [default: lapidary.lock beside lapidary.toml]
    #[arg(long, value_name = "FILE")]
    lock: Option<PathBuf>,
    /// Measure the models and write the lock file; nothing is checked
    #[arg(long)]
    update: bool,
    #[command(flatten)]
    budgets: Budgets,
    #[command(flatten)]
    data: DataOptions,
    /// What runs models: tract, or ort with ORT_DYLIB_PATH set [default: tract]
    #[arg(long, help_heading = "Running")]
    engine: Option<String>,
    #[command(flatten)]
    reports: Reports,
}

/// Where the result goes.
#[derive(clap::Args)]
#[command(next_help_heading = "Reports")]
struct Reports {
    /// Print JSON
    #[arg(long, conflicts_with = "github")]
    json: bool,
    /// Write a Markdown table [default: to the terminal]
    #[arg(long, value_name = "FILE", num_args = 0..=1, require_equals = true,
          default_missing_value = "-")]
    markdown: Option<PathBuf>,
    /// Write JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write SARIF 2.1.0
    #[arg(long, value_name = "FILE")]
    sarif: Option<PathBuf>,
    /// In GitHub Actions: annotate what is exceeded and append the table to the job summary
    #[arg(long)]
    github: bool,
    /// Print nothing but errors
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    passed: bool,
    checks: &'a [Check],
    measures: &'a BTreeMap<String, Measures>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let found = args.config.clone().or_else(|| Config::find(Path::new(".")));
    let mut config = match &found {
        Some(path) => Config::read(path)?,
        None => Config::default(),
    };
    if found.is_none() {
        config.folder = PathBuf::from(".");
    }
    config.folder = config.folder.canonicalize().context("the current folder")?;
    let models = models(args, &config)?;
    let lock_path = args.lock.clone().unwrap_or_else(|| config.folder.join(LOCK));
    let lock = Lock::read(&lock_path)?;
    if args.update {
        return update(args, &config, &models, lock, &lock_path);
    }
    let (checks, measures) = check_all(args, &config, &models, lock.as_ref())?;
    anyhow::ensure!(
        !checks.is_empty(),
        "no budgets: give them as flags (lapidary gate --help lists them) or in {CONFIG}"
    );
    let passed = checks.iter().all(|c| c.status != Status::Exceeded);
    if args.reports.json {
        output::json(&Report { passed, checks: &checks, measures: &measures })?;
    }
    write_reports(&args.reports, &checks)?;
    match passed {
        true => Ok(Outcome::Done),
        false => Ok(Outcome::GoalMissed),
    }
}

/// Paths of the models, with what reports and the lock call them: their path relative to the folder
/// of the configuration.
fn models(args: &Args, config: &Config) -> anyhow::Result<Vec<(PathBuf, String)>> {
    let paths: Vec<PathBuf> = match args.models.is_empty() {
        false => args.models.clone(),
        true => config.models().into_iter().map(|p| config.folder.join(p)).collect(),
    };
    anyhow::ensure!(
        !paths.is_empty(),
        "no models: name them, or list them as [[gate.model]] in {CONFIG}"
    );
    let named = |path: PathBuf| {
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let whole = folder.canonicalize().unwrap_or_else(|_| folder.to_owned());
        let whole = whole.join(path.file_name().unwrap_or_default());
        let name = whole.strip_prefix(&config.folder).unwrap_or(&path);
        let name = name.to_string_lossy().replace('\\', "/");
        (path, name)
    };
    Ok(paths.into_iter().map(named).collect())
}

fn update(
    args: &Args,
    config: &Config,
    models: &[(PathBuf, String)],
    lock: Option<Lock>,
    path: &Path,
) -> anyhow::Result<Outcome> {
    // Named models are renewed one by one; else what is gone from the configuration goes.
    let mut lock = lock.filter(|_| !args.models.is_empty()).unwrap_or_default();
    let dims = data(args, config).bindings()?;
    for (path, name) in models {
        let budgets = config.budgets(name, &args.budgets)?;
        let compress = !budgets.download_bytes.is_empty();
        lock.model.insert(name.clone(), measure(&load(path)?, path, &dims, compress)?);
    }
    lock.write(path)?;
    if !args.reports.quiet {
        say!("wrote {} with {} model(s)", path.display(), lock.model.len());
    }
    Ok(Outcome::Done)
}

fn data(args: &Args, config: &Config) -> DataOptions {
    let given = args.data != DataOptions::default();
    config.data.clone().filter(|_| !given).unwrap_or_else(|| args.data.clone())
}

fn check_all(
    args: &Args,
    config: &Config,
    models: &[(PathBuf, String)],
    lock: Option<&Lock>,
) -> anyhow::Result<(Vec<Check>, BTreeMap<String, Measures>)> {
    let data = data(args, config);
    let dims = data.bindings()?;
    let spec = match args.baseline.as_ref().or(config.baseline.as_ref()) {
        None => BaselineSpec::Lock,
        Some(text) => match text.parse() {
            Ok(BaselineSpec::File(file)) if args.baseline.is_none() => {
                BaselineSpec::File(config.folder.join(file))
            }
            Ok(spec) => spec,
            Err(never) => match never {},
        },
    };
    let one_for_many = matches!(spec, BaselineSpec::File(_)) && models.len() > 1;
    anyhow::ensure!(!one_for_many, "one baseline model, but {} models", models.len());
    let name = args.engine.as_ref().or(config.engine.as_ref());
    let (mut checks, mut all) = (Vec::new(), BTreeMap::new());
    for (path, model_name) in models {
        let budgets = config.budgets(model_name, &args.budgets)?;
        let runs = budgets.runs_baseline() || budgets.min_accuracy.is_some();
        let engine = match runs {
            true => Some(engine::by_name(name.map_or("tract", |n| n))?),
            false => None,
        };
        let compress = !budgets.download_bytes.is_empty();
        let model = load(path)?;
        let measures = measure(&model, path, &dims, compress)?;
        let needed = budgets.runs_baseline() || budgets.is_relative() || spec != BaselineSpec::Lock;
        let baseline = match needed || lock.is_some() {
            true => Baseline::find(&spec, path, model_name, lock, &dims, compress)?,
            false => Baseline::None,
        };
        checks.extend(check(&Job {
            name: model_name,
            model: &model,
            measures: &measures,
            budgets: &budgets,
            baseline: &baseline,
            runtime: &Runtime { engine: engine.as_deref(), data: &data },
        })?);
        all.insert(model_name.clone(), measures);
    }
    Ok((checks, all))
}

fn write_reports(args: &Reports, checks: &[Check]) -> anyhow::Result<()> {
    let to = |path: &Path, text: &str| {
        crate::gate::write_whole(path, text)
            .with_context(|| format!("cannot write {}", path.display()))
    };
    let on_terminal = args.markdown.as_deref() == Some(Path::new("-")) && !args.json;
    match &args.markdown {
        Some(_) if on_terminal => say!("{}", format::markdown(checks).trim_end()),
        Some(path) => to(path, &format::markdown(checks))?,
        None => {}
    }
    if !args.json && !args.quiet && !on_terminal {
        say!("{}", table(checks));
    }
    if let Some(path) = &args.junit {
        to(path, &format::junit(checks))?;
    }
    if let Some(path) = &args.sarif {
        to(path, &(serde_json::to_string_pretty(&format::sarif(checks))? + "\n"))?;
    }
    if args.github {
        output::print(&format::annotations(checks));
        if let Some(summary) = std::env::var_os("GITHUB_STEP_SUMMARY") {
            let open = std::fs::File::options().append(true).create(true).open(&summary);
            let write = |mut file: std::fs::File| {
                std::io::Write::write_all(&mut file, format::markdown(checks).as_bytes())
            };
            open.and_then(write).context("cannot write the job summary")?;
        }
    }
    Ok(())
}

fn table(checks: &[Check]) -> String {
    let several = checks.iter().any(|c| c.model != checks[0].model);
    let head = ["", "model", "budget", "value", "limit", "baseline", "because of"];
    let skip = |i: usize| i == 1 && !several;
    let pick = |cells: Vec<String>| -> Vec<String> {
        cells.into_iter().enumerate().filter(|(i, _)| !skip(*i)).map(|(_, c)| c).collect()
    };
    let head: Vec<&str> =
        head.iter().enumerate().filter(|(i, _)| !skip(*i)).map(|(_, c)| *c).collect();
    let mut table = output::table(&head);
    table.set_content_arrangement(comfy_table::ContentArrangement::Dynamic);
    for c in checks {
        let sign = match c.status {
            Status::Passed => "ok",
            Status::Exceeded => "EXCEEDED",
            Status::New => "new",
        };
        let baseline = c.baseline.map(|n| c.show(n)).unwrap_or_default();
        table.add_row(pick(vec![
            sign.to_owned(),
            c.model.clone(),
            c.budget.to_owned(),
            c.value.clone(),
            c.limit.clone(),
            baseline,
            c.because(),
        ]));
    }
    let exceeded = checks.iter().filter(|c| c.status == Status::Exceeded).count();
    let verdict = match exceeded {
        0 => "all budgets are kept".to_owned(),
        n => format!("{n} of {} budgets exceeded", checks.len()),
    };
    format!("{table}\n{verdict}")
}
