//! Tables of layers, weights and ranges.

use comfy_table::{CellAlignment, Table};

use crate::cli::output::{align_numbers, bytes, count, table};
use crate::report::inspect::Layer;
use crate::report::numbers::{percent, short};
use crate::report::ranges::QuantRange;
use crate::report::weights::WeightStats;

pub(super) fn weight_table(weights: &[WeightStats]) -> Table {
    let header = ["weight", "type", "min", "max", "mean", "std", "zeros", "2:4", "histogram"];
    let mut out = table(&header);
    for w in weights {
        let (lo, hi) = w.range.map_or(("–".into(), "–".into()), |(a, b)| (short(a), short(b)));
        let zeros = if w.is_empty() { 0.0 } else { w.zeros as f64 / w.len() as f64 };
        let blocks = |(ok, all): (usize, usize)| percent(ok as f64 / all as f64);
        out.add_row([
            w.name.clone(),
            format!("{}[{}]", w.dtype, join(&w.dims, ",")),
            lo,
            hi,
            short(w.mean),
            short(w.std),
            percent(zeros),
            w.two_four.map(blocks).unwrap_or_default(),
            sparkline(&w.histogram),
        ]);
    }
    align(&mut out, &[1, 8]);
    out
}

/// Counts as bars one character high, two bins in each.
fn sparkline(counts: &[u64]) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let pairs: Vec<u64> = counts.chunks(2).map(|c| c.iter().sum()).collect();
    let most = pairs.iter().copied().max().unwrap_or(0).max(1);
    let bar = |n: &u64| match n {
        0 => ' ',
        n => BARS[((*n as f64 / most as f64 * 7.0).round() as usize).min(7)],
    };
    pairs.iter().map(bar).collect()
}

pub(super) fn range_table(ranges: &[QuantRange]) -> Table {
    let mut out =
        table(&["tensor", "kind", "type", "scales", "least scale", "scale", "from", "to"]);
    for q in ranges {
        out.add_row([
            q.tensor.clone(),
            if q.weight { "weight" } else { "activation" }.to_owned(),
            q.dtype.to_owned(),
            q.scales.to_string(),
            short(q.scale.0),
            short(q.scale.1),
            short(q.range.0),
            short(q.range.1),
        ]);
    }
    align(&mut out, &[1, 2]);
    out
}

/// Numbers to the right, all columns but the first and `text` being numbers.
fn align(table: &mut Table, text: &[usize]) {
    align_numbers(table);
    for column in text {
        if let Some(column) = table.column_mut(*column) {
            column.set_cell_alignment(CellAlignment::Left);
        }
    }
}

fn join(dims: &[usize], by: &str) -> String {
    dims.iter().map(usize::to_string).collect::<Vec<_>>().join(by)
}

pub(super) fn layer_table(layers: &[Layer]) -> Table {
    let header = ["layer", "op", "weight", "params", "bytes", "MACs", "precision", "output"];
    let mut out = table(&header);
    for l in layers {
        let macs = l.macs.as_deref().unwrap_or("?");
        out.add_row([
            l.name.clone(),
            l.op.clone(),
            join(&l.weight, "x"),
            count(l.params as f64),
            bytes(l.bytes),
            macs.parse::<f64>().map_or_else(|_| macs.to_owned(), count),
            l.precision.clone(),
            l.output.clone(),
        ]);
    }
    align(&mut out, &[1, 2, 6, 7]);
    out
}
