//! `lapidary check`.

use std::path::PathBuf;

use super::args::load;
use super::output::say;
use super::{Outcome, output};
use crate::target::{self, Finding, Severity, Target, rules};

/// Say what a target rejects, reads differently or is slow at.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The model
    #[arg(required_unless_present = "explain")]
    model: Option<PathBuf>,
    /// tensorrt (the newest), tensorrt-8.6, tensorrt-10, tensorrt-11, with -dla behind it for a DLA, or
    /// onnxruntime-cpu
    #[arg(long, default_value = "tensorrt", value_name = "TARGET")]
    target: String,
    /// Print the page about a rule, or with `all` the list of them
    #[arg(long, value_name = "RULE")]
    explain: Option<String>,
    /// Fail on warnings, too
    #[arg(long)]
    strict: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "sarif")]
    json: bool,
    /// Print SARIF 2.1.0
    #[arg(long)]
    sarif: bool,
    /// Print nothing but errors of the command itself
    #[arg(short, long)]
    quiet: bool,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    if let Some(id) = &args.explain {
        return explain(id);
    }
    let target: Target = args.target.parse()?;
    let path = args.model.as_ref().expect("invariant: clap requires it");
    let findings = target::check(&load(path)?, target);
    if args.json {
        output::json(&serde_json::json!({
            "model": path.display().to_string(),
            "target": target.to_string(),
            "findings": findings,
        }))?;
    } else if args.sarif {
        output::json(&target::sarif(path, &findings))?;
    } else if !args.quiet {
        print(&findings, target, &path.display().to_string());
    }
    let limit = if args.strict { Severity::Warning } else { Severity::Error };
    let failed = findings.iter().any(|f| f.severity >= limit);
    Ok(if failed { Outcome::GoalMissed } else { Outcome::Done })
}

fn explain(id: &str) -> anyhow::Result<Outcome> {
    if id == "all" {
        let mut table = output::table(&["rule", "what it asks"]);
        for r in rules::RULES {
            table.add_row([r.id, r.title]);
        }
        say!("{table}");
        return Ok(Outcome::Done);
    }
    let Some(rule) = rules::find(id) else {
        let ids: Vec<&str> = rules::RULES.iter().map(|r| r.id).collect();
        anyhow::bail!("no rule is called {id:?}; the rules are: {}", ids.join(", "));
    };
    say!("{}: {}\n\n{}", rule.id, rule.title, rule.page);
    Ok(Outcome::Done)
}

fn print(findings: &[Finding], target: Target, path: &str) {
    if !findings.is_empty() {
        let mut table = output::table(&["rule", "", "node", "why", "fix"]);
        let alike = |a: &Finding, b: &Finding| (a.id, &a.why, a.fix) == (b.id, &b.why, b.fix);
        for (i, f) in findings.iter().enumerate() {
            if findings[..i].iter().any(|earlier| alike(earlier, f)) {
                continue;
            }
            let more = findings[i + 1..].iter().filter(|later| alike(later, f)).count();
            let node = match more {
                0 => f.node.clone(),
                n => format!("{} and {n} more", f.node),
            };
            let command = f.command.map(|c| format!(": lapidary {}", c.replace("MODEL", path)));
            let fix = format!("{}{}", f.fix, command.unwrap_or_default());
            table.add_row([f.id, f.severity.name(), &node, &f.why, &fix]);
        }
        say!("{table}");
    }
    let count = |s| findings.iter().filter(|f| f.severity == s).count();
    say!(
        "{target}: {} errors, {} warnings, {} notes",
        count(Severity::Error),
        count(Severity::Warning),
        count(Severity::Note),
    );
}
