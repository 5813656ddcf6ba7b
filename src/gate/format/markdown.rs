//! A table for job summaries and comments on pull requests.

use crate::gate::{Check, Status};

/// One table over all budgets, what is exceeded first.
pub fn markdown(checks: &[Check]) -> String {
    let exceeded = checks.iter().filter(|c| c.status == Status::Exceeded).count();
    let head = match exceeded {
        0 => "### Model budgets: all kept".to_owned(),
        n => format!("### Model budgets: {n} of {} exceeded", checks.len()),
    };
    let mut text = format!(
        "{head}\n\n| | model | budget | value | limit | baseline | because of |\n|---|---|---|--:|--:|--:|---|\n"
    );
    let mut sorted: Vec<&Check> = checks.iter().collect();
    sorted.sort_by_key(|c| c.status != Status::Exceeded);
    for c in sorted {
        let sign = match c.status {
            Status::Passed => "✅",
            Status::Exceeded => "❌",
            Status::New => "new",
        };
        let baseline = c.baseline.map(|n| c.show(n)).unwrap_or_default();
        let because = c.because();
        let cells = [sign, &c.model, c.budget, &c.value, &c.limit, &baseline, &because].map(cell);
        text += &format!("| {} |\n", cells.join(" | "));
    }
    text
}

fn cell(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;").replace('|', "\\|");
    text.replace('\n', "<br>")
}
