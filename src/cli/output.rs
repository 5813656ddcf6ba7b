//! Tables, numbers and JSON for people and machines.

use std::io::Write;

use comfy_table::{CellAlignment, LineStyle, Table, presets};
use serde::Serialize;

/// `println!`, but that nobody reads on, as behind `| head`, is no panic.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::cli::output::print(&format!("{}\n", format_args!($($text)*)))
    };
}
pub(super) use say;

pub(super) use crate::report::numbers::{bytes, change, count};
use crate::verify::Search;

/// An empty table with a header.
pub(super) fn table(header: &[&str]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::UTF8_HORIZONTAL_ONLY.row_separator(LineStyle::none()));
    table.set_header(header.to_vec());
    table
}

/// How a goal was met; `kept` says in what way layers stayed as they were.
pub(super) fn search(search: &Search, kept: &str) {
    say!(
        "  {:?} drop {:.3} -> {:.3} (at most {}), {} layers {kept}, {} variants, {:.1} s",
        search.metric,
        search.drop_before,
        search.drop_after,
        search.max_drop,
        search.kept.len(),
        search.tried,
        search.seconds,
    );
}

/// Right-aligns all columns but the first.
pub(super) fn align_numbers(table: &mut Table) {
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
}

/// Prints a report as JSON.
pub(super) fn json(report: &impl Serialize) -> anyhow::Result<()> {
    say!("{}", serde_json::to_string_pretty(report)?);
    Ok(())
}

/// Writes text to standard output; where that is closed, as behind `| head`, nothing happens.
pub(super) fn print(text: &str) {
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
}
