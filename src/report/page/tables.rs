//! Tables of a page.

use std::fmt::Write as _;

use super::Page;
use crate::report::numbers::{bytes, change, count, percent};
use crate::report::scene::escape;
use crate::verify::{OutputDiff, Verdict, Verification};

/// Before and after at a glance.
pub(super) fn summary(page: &Page) -> String {
    let (a, b) = (page.before.summary, page.after.summary);
    let mut rows = Rows::new(&["", "before", "after", "change"]);
    let size = |n: f64| bytes(n as usize);
    if let (Some(x), Some(y)) = (page.before.bytes, page.after.bytes) {
        rows.numbers("file", x as f64, y as f64, size);
    }
    rows.numbers("nodes", a.nodes as f64, b.nodes as f64, |n| n.to_string());
    rows.numbers("parameters", a.params as f64, b.params as f64, count);
    if let (Some(x), Some(y)) = (a.macs, b.macs) {
        rows.numbers("MACs", x as f64, y as f64, count);
    }
    rows.numbers("weight bytes", a.weight_bytes as f64, b.weight_bytes as f64, size);
    if let (Some(x), Some(y)) = (a.peak_activation_bytes, b.peak_activation_bytes) {
        rows.numbers("peak activations", x as f64, y as f64, size);
    }
    if a.int8_ops > 0.0 || b.int8_ops > 0.0 {
        rows.texts("INT8 share of linear ops", percent(a.int8_ops), percent(b.int8_ops));
        let share = |s: Option<f64>| s.map_or("–".to_owned(), percent);
        rows.texts("INT8 share of MACs", share(a.int8_macs), share(b.int8_macs));
    }
    if let Some((x, y)) = page.accuracy {
        let show = |x: f64| format!("{:.2} %", 100.0 * x);
        let points = format!("{:+.2} points", 100.0 * (y - x));
        rows.row(&["top-1 accuracy", &show(x), &show(y), &points]);
    }
    let opset = |s: &crate::report::inspect::Summary| {
        let parts: Vec<String> = s.opsets.iter().map(|(d, v)| format!("{d} {v}")).collect();
        parts.join(", ")
    };
    rows.texts("opset", opset(a), opset(b));
    let dims: Vec<String> = b.bound.iter().map(|d| format!("{} = {}", d.name, d.value)).collect();
    let mut out = format!("<h2>Summary</h2>\n{}", rows.end());
    if !dims.is_empty() {
        let _ = writeln!(out, "<p class=\"note\">Counted with {}.</p>", escape(&dims.join(", ")));
    }
    out
}

/// How the outputs differ.
pub(super) fn verification(v: &Verification) -> String {
    let verdict = match &v.verdict {
        Verdict::Agree if v.outputs.iter().all(|o| o.bit_equal) => "equal bit by bit".to_owned(),
        Verdict::Agree => "agree up to rounding".to_owned(),
        Verdict::Reported => "compared; the change is lossy".to_owned(),
        Verdict::Disagree(why) => format!("disagree: {why}"),
        Verdict::NotVerified(why) => format!("not verified: {why}"),
    };
    let kind = if v.synthetic { "random" } else { "given" };
    let mut out = format!(
        "<h2>Outputs</h2>\n<p>{} on {} {kind} samples ({})</p>\n",
        escape(&verdict),
        v.samples,
        v.engine
    );
    if !v.outputs.is_empty() {
        let header = ["output", "largest difference", "relative", "cosine", "SQNR", "same top-1"];
        let mut rows = Rows::new(&header);
        v.outputs.iter().for_each(|o| rows.output(o));
        out += &rows.end();
    }
    out
}

/// Rows of a table, of which all columns but the first hold numbers.
struct Rows(String);

impl Rows {
    fn new(header: &[&str]) -> Rows {
        let mut out = String::from("<div class=\"scroll\"><table><thead><tr>");
        for (i, cell) in header.iter().enumerate() {
            let class = if i == 0 { "" } else { " class=\"number\"" };
            let _ = write!(out, "<th scope=\"col\"{class}>{cell}</th>");
        }
        Rows(out + "</tr></thead><tbody>\n")
    }

    fn row(&mut self, cells: &[&str]) {
        self.0 += "<tr>";
        for (i, cell) in cells.iter().enumerate() {
            let cell = escape(cell);
            let _ = match i {
                0 => write!(self.0, "<td>{cell}</td>"),
                _ => write!(self.0, "<td class=\"number\">{cell}</td>"),
            };
        }
        self.0 += "</tr>\n";
    }

    fn numbers(&mut self, name: &str, x: f64, y: f64, show: impl Fn(f64) -> String) {
        self.row(&[name, &show(x), &show(y), &change(x, y)]);
    }

    fn texts(&mut self, name: &str, x: String, y: String) {
        let change = if x == y { "=" } else { "" };
        self.row(&[name, &x, &y, change]);
    }

    fn output(&mut self, o: &OutputDiff) {
        let number =
            |v: Option<f64>, digits: usize| v.map_or("–".into(), |v| format!("{v:.digits$}"));
        if let Some(what) = &o.mismatch {
            return self.row(&[&o.name, what]);
        }
        if let Some(equal) = o.equal {
            return self.row(&[
                &o.name,
                &format!("{:.3e}", o.max_abs),
                &format!("{:.2} % equal", 100.0 * equal),
            ]);
        }
        self.row(&[
            &o.name,
            &format!("{:.3e}", o.max_abs),
            &format!("{:.3e}", o.max_rel),
            &number(o.cosine, 6),
            &o.sqnr_db.map_or("–".into(), |v| format!("{v:.1} dB")),
            &o.top1.map_or("–".into(), |v| format!("{:.2} %", 100.0 * v)),
        ]);
    }

    fn end(self) -> String {
        self.0 + "</tbody></table></div>\n"
    }
}
