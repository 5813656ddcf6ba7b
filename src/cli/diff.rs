//! `lapidary diff`.

use std::path::PathBuf;

use serde::Serialize;

use super::Outcome;
use super::args::load;
use super::output::{self, bytes, count, say};
use crate::diff::{Change, Diff, GraphDiff, Ignore, Kind, NodeDiff, WeightDiff, diff_ignoring};
use crate::report::inspect::{Summary, summarize};

/// Compare two models: nodes, attributes, shapes, weights, inputs and outputs, metadata.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The first model
    before: PathBuf,
    /// The second model
    after: PathBuf,
    /// Exit with 1 when the models differ
    #[arg(long)]
    exit_code: bool,
    /// Leave out doc strings, metadata and producer
    #[arg(long)]
    ignore_metadata: bool,
    /// List nodes of which only result types or the name differ
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long, conflicts_with = "markdown")]
    json: bool,
    /// Print Markdown, as for a comment on a pull request
    #[arg(long)]
    markdown: bool,
    /// Print nothing but errors
    #[arg(short, long)]
    quiet: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    before: String,
    after: String,
    different: bool,
    nodes: Counts,
    totals: [Totals; 2],
    #[serde(flatten)]
    diff: &'a Diff,
}

/// Number of nodes by how they differ.
#[derive(Serialize)]
struct Counts {
    added: usize,
    removed: usize,
    changed: usize,
    shape: usize,
    renamed: usize,
    same: usize,
}

/// What people look at first.
#[derive(Serialize)]
struct Totals {
    nodes: usize,
    parameters: usize,
    macs: Option<i64>,
    weight_bytes: usize,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let (a, b) = (load(&args.before)?, load(&args.after)?);
    let found = diff_ignoring(&a, &b, Ignore { metadata: args.ignore_metadata });
    let n = |kind| found.count(kind);
    let totals = |s: Summary| Totals {
        nodes: s.nodes,
        parameters: s.params,
        macs: s.macs,
        weight_bytes: s.weight_bytes,
    };
    let report = Report {
        before: args.before.display().to_string(),
        after: args.after.display().to_string(),
        different: !found.is_empty(),
        nodes: Counts {
            added: n(Kind::Added),
            removed: n(Kind::Removed),
            changed: n(Kind::Changed),
            shape: n(Kind::Shape),
            renamed: n(Kind::Renamed),
            same: n(Kind::Same),
        },
        totals: [totals(summarize(&a, &[])), totals(summarize(&b, &[]))],
        diff: &found,
    };
    if args.json {
        output::json(&report)?;
    } else if args.markdown {
        say!("{}", markdown(&report, args.all));
    } else if !args.quiet {
        say!("{}", text(&report, args.all));
    }
    match report.different && args.exit_code {
        true => Ok(Outcome::GoalMissed),
        false => Ok(Outcome::Done),
    }
}

/// One sentence.
fn headline(r: &Report) -> String {
    if !r.different {
        return "no differences".to_owned();
    }
    let n = &r.nodes;
    let parts = [
        (n.added, "added"),
        (n.removed, "removed"),
        (n.changed, "changed"),
        (n.shape, "with other shapes only"),
        (n.renamed, "renamed only"),
        (n.same, "the same"),
    ];
    let parts = parts.iter().filter(|p| p.0 > 0).map(|(n, what)| format!("{n} {what}"));
    format!("nodes: {}", parts.collect::<Vec<_>>().join(", "))
}

/// Rows of totals that differ: name, before, after, change.
fn totals(r: &Report) -> Vec<[String; 4]> {
    let [x, y] = &r.totals;
    let mut rows = Vec::new();
    let mut row = |name: &str, x: f64, y: f64, show: &dyn Fn(f64) -> String| {
        if x != y {
            rows.push([name.to_owned(), show(x), show(y), output::change(x, y)]);
        }
    };
    row("nodes", x.nodes as f64, y.nodes as f64, &|n| n.to_string());
    row("parameters", x.parameters as f64, y.parameters as f64, &count);
    if let Some((m, n)) = x.macs.zip(y.macs) {
        row("MACs", m as f64, n as f64, &count);
    }
    row("weight bytes", x.weight_bytes as f64, y.weight_bytes as f64, &|n| bytes(n as usize));
    rows
}

fn sign(node: &NodeDiff) -> char {
    match node.kind {
        Kind::Added => '+',
        Kind::Removed => '-',
        Kind::Same => ' ',
        _ => '~',
    }
}

fn text(r: &Report, all: bool) -> String {
    let mut parts = vec![headline(r)];
    let rows = totals(r);
    if !rows.is_empty() {
        let mut table = output::table(&["", "before", "after", "change"]);
        table.add_rows(rows);
        output::align_numbers(&mut table);
        parts.push(table.to_string());
    }
    let header: Vec<String> = r.diff.header.iter().map(|c| format!("~ {}", change(c))).collect();
    if !header.is_empty() {
        parts.push(header.join("\n"));
    }
    for g in &r.diff.graphs {
        let mut lines: Vec<String> = g.graph.iter().map(|c| format!("~ {}", change(c))).collect();
        for node in shown(g, all) {
            lines.push(format!("{} {} ({})", sign(node), node.name(), node.op));
            lines.extend(details(node).into_iter().map(|d| format!("      {d}")));
        }
        if !lines.is_empty() {
            let title = (!g.path.is_empty()).then(|| format!("in {}:\n", g.path));
            parts.push(title.unwrap_or_default() + &lines.join("\n"));
        }
    }
    parts.extend(effort(r));
    parts.join("\n\n")
}

fn effort(r: &Report) -> Option<String> {
    let e = r.diff.effort;
    (e.shared_bytes > 0).then(|| {
        format!(
            "{} of weights lie in one file for both and were not read, {} were compared",
            bytes(e.shared_bytes as usize),
            bytes(e.read_bytes as usize)
        )
    })
}

fn shown(g: &GraphDiff, all: bool) -> impl Iterator<Item = &NodeDiff> {
    g.nodes.iter().filter(move |n| match n.kind {
        Kind::Same => false,
        Kind::Shape | Kind::Renamed => all,
        _ => true,
    })
}

fn change(c: &Change) -> String {
    let short = |text: &Option<String>| text.as_deref().map(one_line);
    match (short(&c.before), short(&c.after)) {
        (Some(x), Some(y)) => format!("{}: {x} → {y}", c.what),
        (Some(x), None) => format!("{}: {x} is gone", c.what),
        (None, Some(y)) => format!("{}: {y} is new", c.what),
        (None, None) => c.what.clone(),
    }
}

/// The text on one line of bearable length.
fn one_line(text: &str) -> String {
    const SHOWN: usize = 100;
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line,
    }
}

/// What differs in a node, a line each.
fn details(node: &NodeDiff) -> Vec<String> {
    let mut lines = Vec::new();
    if let (Some(x), Some(y)) = (&node.before, &node.after)
        && x.name != y.name
    {
        lines.push(format!("name: {} → {}", x.name, y.name));
    }
    lines.extend(node.changes.iter().map(change));
    lines.extend(node.weights.iter().map(weight));
    lines.extend(node.shapes.iter().map(change));
    lines
}

fn weight(w: &WeightDiff) -> String {
    let name = match w.before_name == w.after_name {
        true => w.after_name.clone(),
        false => format!("{} → {}", w.before_name, w.after_name),
    };
    if let Some((x, y)) = &w.values {
        return format!("constant {name}: {x:?} → {y:?}");
    }
    let Some(e) = &w.elements else {
        if w.before == w.after {
            return format!("constant {name} {}: other elements", w.after);
        }
        return format!("weight {name}: {} → {}", w.before, w.after);
    };
    let mut text = format!("weight {name} {}: ", w.after);
    if let Some(share) = e.equal {
        text += &format!("{:.2} % of the elements are equal, ", 100.0 * share);
    }
    text += &format!("largest change {:.3e} of {:.3e}", e.max_change, e.max_value);
    if let Some(db) = e.sqnr_db {
        text += &format!(", SQNR {db:.1} dB");
    }
    if e.non_finite > 0 {
        text += &format!(", {} NaN or infinite on one side", e.non_finite);
    }
    text
}

fn markdown(r: &Report, all: bool) -> String {
    let mut text = format!("### `{}` → `{}`\n\n{}\n", r.before, r.after, headline(r));
    let rows = totals(r);
    if !rows.is_empty() {
        text += "\n| | before | after | change |\n|---|--:|--:|--:|\n";
        for row in rows {
            text += &format!("| {} |\n", row.join(" | "));
        }
    }
    let mut lines: Vec<[String; 3]> = Vec::new();
    for c in &r.diff.header {
        lines.push(["~".to_owned(), "model".to_owned(), change(c)]);
    }
    for g in &r.diff.graphs {
        let place = |name: &str| match g.path.is_empty() {
            true => name.to_owned(),
            false => format!("{}/{name}", g.path),
        };
        lines.extend(g.graph.iter().map(|c| ["~".to_owned(), place("graph"), change(c)]));
        for node in shown(g, all) {
            let name = format!("{} ({})", place(node.name()), node.op);
            lines.push([sign(node).to_string(), name, details(node).join("<br>")]);
        }
    }
    if !lines.is_empty() {
        text += "\n| | node | what |\n|---|---|---|\n";
        for line in lines {
            let cells = line.map(|c| c.replace('|', "\\|").replace('\n', " "));
            text += &format!("| {} |\n", cells.join(" | "));
        }
    }
    text.trim_end().to_owned()
}
