//! `lapidary inspect`.

mod details;

use std::path::{Path, PathBuf};

use comfy_table::{ContentArrangement, Table};
use serde::Serialize;

use details::{layer_table, range_table, weight_table};

use super::Outcome;
use super::args::load;
use super::output::{bytes, count, say, table};
use crate::onnx;
use crate::report::inspect::{self, Layer, Port, Summary};
use crate::report::numbers::{percent, short};
use crate::report::ranges::{QuantRange, ranges};
use crate::report::weights::{self, WeightStats};

/// Show what is in a model: size, cost, precision, dims. Several models stand side by side.
#[derive(clap::Args)]
pub(super) struct Args {
    /// The models
    #[arg(required = true, value_name = "MODEL")]
    models: Vec<PathBuf>,
    /// List every op that has weights
    #[arg(long)]
    layers: bool,
    /// List the type of every value
    #[arg(long)]
    shapes: bool,
    /// Read the weights and list their statistics, histograms and zeros
    #[arg(long)]
    weights: bool,
    /// List the range of every quantized tensor
    #[arg(long)]
    ranges: bool,
    /// Size of a symbolic dim, such as batch=8; `input:axis=8` for a dim without a name
    #[arg(long, value_name = "NAME=SIZE", value_parser = parse_dim)]
    dim: Vec<(String, i64)>,
    /// Print JSON: a list with one entry for each model
    #[arg(long)]
    json: bool,
}

/// What is printed about one model.
#[derive(Serialize)]
struct Report {
    model: String,
    file_bytes: u64,
    external_files: Vec<String>,
    external_bytes: u64,
    #[serde(flatten)]
    summary: Summary,
    /// Share of zeros in the weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    sparsity: Option<f64>,
    /// Every tensor with constant scales.
    quantized: Vec<QuantRange>,
    #[serde(skip_serializing_if = "Option::is_none")]
    weights: Option<Vec<WeightStats>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    layers: Option<Vec<Layer>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    shapes: Option<Vec<Port>>,
}

pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let reports: Vec<Report> =
        args.models.iter().map(|path| report(path, args)).collect::<Result<_, _>>()?;
    let text = match args.json {
        true => serde_json::to_string_pretty(&reports)?,
        false => tables(&reports, args.ranges),
    };
    say!("{text}");
    Ok(Outcome::Done)
}

fn tables(reports: &[Report], ranges: bool) -> String {
    let names: Vec<&str> = reports.iter().map(|r| &r.model[..]).collect();
    let mut overview = table(&[&[""], &names[..]].concat());
    overview.set_content_arrangement(ContentArrangement::Dynamic);
    rows(&mut overview, reports);
    let mut text = overview.to_string();
    for r in reports {
        if let Some(layers) = &r.layers {
            text += &format!("\n\n{}\n{}", r.model, layer_table(layers));
        }
        if let Some(weights) = &r.weights {
            text += &format!("\n\n{}\n{}", r.model, weight_table(weights));
        }
        if ranges && !r.quantized.is_empty() {
            text += &format!("\n\n{}\n{}", r.model, range_table(&r.quantized));
        }
        if let Some(shapes) = &r.shapes {
            let mut values = table(&["value", "type"]);
            for port in shapes {
                values.add_row([&port.name, &port.ty]);
            }
            text += &format!("\n\n{}\n{values}", r.model);
        }
    }
    text
}

fn report(path: &Path, args: &Args) -> anyhow::Result<Report> {
    let model = load(path)?;
    let folder = path.parent().unwrap_or(Path::new(""));
    let external_files = onnx::external_files(path)?;
    let size = |file: PathBuf| std::fs::metadata(file).map_or(0, |m| m.len());
    let summary = inspect::summarize(&model, &args.dim);
    // Among several models, each name need only fit one of them.
    if let Some(stray) = summary.stray_dim(&args.dim).filter(|_| args.models.len() == 1) {
        return Err(stray.into());
    }
    let weights = args.weights.then(|| weights::weights(&model));
    Ok(Report {
        model: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        file_bytes: size(path.to_owned()),
        external_bytes: external_files.iter().map(|f| size(folder.join(f))).sum(),
        external_files,
        summary,
        sparsity: weights.as_deref().and_then(weights::sparsity),
        quantized: ranges(&model),
        weights,
        layers: args.layers.then(|| inspect::layers(&model, &args.dim)),
        shapes: args.shapes.then(|| inspect::values(&model, &args.dim)),
    })
}

/// Adds a row for each property that some model has.
fn rows(table: &mut Table, reports: &[Report]) {
    type Cell = fn(&Report) -> String;
    let properties: [(&str, Cell); 17] = [
        ("file", |r| bytes(r.file_bytes as usize)),
        ("external data", |r| match r.external_files.len() {
            0 => String::new(),
            n => format!("{} in {n} file(s)", bytes(r.external_bytes as usize)),
        }),
        ("opset", |r| {
            let opsets = r.summary.opsets.iter();
            let opsets: Vec<String> = opsets.map(|(d, v)| format!("{d} {v}")).collect();
            format!("{} (IR {})", opsets.join(", "), r.summary.ir_version)
        }),
        ("producer", |r| r.summary.producer.clone()),
        ("inputs", |r| ports(&r.summary.inputs)),
        ("outputs", |r| ports(&r.summary.outputs)),
        ("dims", dims),
        ("nodes", |r| r.summary.nodes.to_string()),
        ("", operators),
        ("functions", |r| match r.summary.functions {
            0 => String::new(),
            n => format!("{n}, not counted"),
        }),
        ("parameters", |r| count(r.summary.params as f64)),
        ("MACs", macs),
        ("weights", stored),
        ("precision", precision),
        ("quantization", quantization),
        ("zeros", zeros),
        ("peak activations", |r| match r.summary.peak_activation_bytes {
            Some(n) => match r.summary.peak_activation_op.as_deref() {
                Some(op) if !op.is_empty() => format!("{}\nat {op}", bytes(n)),
                _ => bytes(n),
            },
            None => match r.summary.free.is_empty() {
                true => "unknown: some sizes depend on data".into(),
                false => format!("depend on {}", r.summary.free.join(", ")),
            },
        }),
    ];
    for (name, cell) in properties {
        let cells: Vec<String> = reports.iter().map(cell).collect();
        if cells.iter().any(|c| !c.is_empty()) {
            table.add_row([vec![name.to_owned()], cells].concat());
        }
    }
}

fn ports(ports: &[Port]) -> String {
    const SHOWN: usize = 6;
    const WIDTH: usize = 72;
    let short = |p: &Port| {
        let line = format!("{}: {}", p.name, p.ty);
        match line.char_indices().nth(WIDTH) {
            Some((end, _)) => format!("{}…", &line[..end]),
            None => line,
        }
    };
    let mut lines: Vec<String> = ports.iter().take(SHOWN).map(short).collect();
    if ports.len() > SHOWN {
        lines.push(format!("… {} more", ports.len() - SHOWN));
    }
    lines.join("\n")
}

fn dims(r: &Report) -> String {
    let bound = r.summary.bound.iter().map(|b| {
        let note = if b.assumed { " (assumed)" } else { "" };
        format!("{} = {}{note}", b.name, b.value)
    });
    let free = r.summary.free.iter().map(|f| format!("{f} open: give it with --dim {f}=…"));
    bound.chain(free).collect::<Vec<_>>().join("\n")
}

fn operators(r: &Report) -> String {
    const SHOWN: usize = 10;
    let ops = &r.summary.ops;
    let mut parts: Vec<String> =
        ops.iter().take(SHOWN).map(|o| format!("{} {}", o.count, o.op)).collect();
    if ops.len() > SHOWN {
        parts.push(format!("{} other", ops[SHOWN..].iter().map(|o| o.count).sum::<usize>()));
    }
    parts.chunks(3).map(|line| line.join(", ")).collect::<Vec<_>>().join("\n")
}

fn macs(r: &Report) -> String {
    let s = &r.summary;
    let mut text = match (s.macs, &s.macs_formula) {
        (Some(n), _) => count(n as f64),
        (None, Some(formula)) if formula.len() <= 60 => formula.clone(),
        (None, _) => match s.free.is_empty() {
            true => "unknown: some sizes depend on data".into(),
            false => format!("depend on {}", s.free.join(", ")),
        },
    };
    if s.macs_unknown_ops > 0 {
        text += &format!(" without {} op(s) of unknown shape", s.macs_unknown_ops);
    }
    if s.foreign_ops > 0 {
        text += &format!(", {} op(s) of other domains not counted", s.foreign_ops);
    }
    text
}

fn stored(r: &Report) -> String {
    let mut types: Vec<(&str, usize)> =
        r.summary.bytes_by_type.iter().map(|(t, n)| (*t, *n)).collect();
    types.sort_by_key(|(_, n)| std::cmp::Reverse(*n));
    let types: Vec<String> = types.iter().map(|(t, n)| format!("{t} {}", bytes(*n))).collect();
    format!("{}\n{}", bytes(r.summary.weight_bytes), types.join(", "))
}

fn precision(r: &Report) -> String {
    let s = &r.summary;
    if s.weighted_ops == 0 {
        return String::new();
    }
    let kinds: Vec<String> = s.precisions.iter().map(|(p, n)| format!("{n} {p}")).collect();
    let mut text = format!("{} weighted ops: {}", s.weighted_ops, kinds.join(", "));
    if s.int8_ops > 0.0 {
        text += &format!("\nINT8: {} of ops", percent(s.int8_ops));
        if let Some(share) = s.int8_macs {
            text += &format!(", {} of MACs", percent(share));
        }
    }
    text
}

fn quantization(r: &Report) -> String {
    let part = |weight: bool, what: &str| {
        let of: Vec<_> = r.quantized.iter().filter(|q| q.weight == weight).collect();
        let (mut least, mut most) = (f64::INFINITY, 0f64);
        for q in &of {
            let reach = q.range.0.abs().max(q.range.1.abs());
            (least, most) = (least.min(reach), most.max(reach));
        }
        let span = format!("{} {what} up to ±{} … ±{}", of.len(), short(least), short(most));
        (!of.is_empty()).then_some(span)
    };
    let both = [part(false, "activations"), part(true, "weights")];
    both.into_iter().flatten().collect::<Vec<_>>().join("\n")
}

fn zeros(r: &Report) -> String {
    let Some(share) = r.sparsity else { return String::new() };
    let weights = r.weights.as_deref().unwrap_or_default();
    let able = weights.iter().filter(|w| w.two_four.is_some()).count();
    let two_four = weights.iter().filter(|w| w.is_two_four()).count();
    format!("{}; {two_four} of {able} weights are 2:4 sparse", percent(share))
}

pub(super) fn parse_dim(text: &str) -> Result<(String, i64), String> {
    let (name, value) = text.split_once('=').ok_or("write it as name=value, such as batch=1")?;
    let value = value.trim().parse().map_err(|_| format!("{value:?} is no integer"))?;
    Ok((name.trim().to_owned(), value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overview_fits_one_screen() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models");
        let models = vec![folder.join("resnet8.onnx"), folder.join("vit.onnx")];
        let args = Args {
            models,
            layers: false,
            shapes: false,
            weights: true,
            ranges: false,
            dim: Vec::new(),
            json: false,
        };
        let reports: Vec<Report> =
            args.models.iter().map(|m| report(m, &args).expect("it loads")).collect();
        let text = tables(&reports, false);
        let text = text.split("\n\n").next().unwrap_or_default();
        assert!(text.lines().count() <= 30, "{text}");
        assert!(text.lines().all(|l| l.chars().count() <= 160), "{text}");
        for word in ["resnet8.onnx", "vit.onnx", "MACs", "2.64 M", "9.31 M", "zeros"] {
            assert!(text.contains(word), "{word} is missing from\n{text}");
        }
    }

    #[test]
    fn dims_are_pairs() {
        assert_eq!(parse_dim("batch = 4"), Ok(("batch".to_owned(), 4)));
        assert!(parse_dim("batch").is_err());
    }
}
