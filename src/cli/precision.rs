//! The table of a conversion to 16-bit floats.

use super::output;
use super::output::say;
use crate::precision::PrecisionReport;

pub(super) fn print(report: &PrecisionReport, explain: bool) {
    say!(
        "precision: {} ops in 16 bits, {} in float32, {} casts, {} constants converted",
        report.converted,
        report.kept.len(),
        report.casts,
        report.constants,
    );
    if let Some(opset) = report.raised_to {
        say!("operator set raised to {opset}");
    }
    if !report.limited.is_empty() {
        say!("limited to the range of float16: {}", report.limited.join(", "));
    }
    if report.vanished > 0 {
        say!("{} elements of constants became zero", report.vanished);
    }
    let listed: Vec<_> =
        report.kept.iter().filter(|k| explain || ["F2", "F6"].contains(&k.rule)).collect();
    if listed.is_empty() {
        return;
    }
    let mut table = output::table(&["op in float32", "rule", "because"]);
    for k in listed {
        table.add_row([&k.node[..], k.rule, &k.reason]);
    }
    say!("{table}");
}
