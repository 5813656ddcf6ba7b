//! The report of a change as one HTML page that needs no other file and no network.

mod charts;
mod tables;

use std::fmt::Write as _;

pub use charts::{
    activations, by_layer, channels, narrowed, noise, prune_sensitivity, sensitivity, trade_off,
};

use super::chart::{Chart, Data};
use super::inspect::Summary;
use super::scene::{colours, escape};
use super::view::{self, Node, State, View, view};
use crate::diff::{Diff, Kind, NodeRef, diff};
use crate::ir::Model;
use crate::verify::Verification;

/// One of the two models.
pub struct Side<'a> {
    /// Its file name.
    pub name: String,
    /// Size of the file and its external data.
    pub bytes: Option<u64>,
    /// The model.
    pub model: &'a Model,
    /// What is in it.
    pub summary: &'a Summary,
}

/// What a page shows.
pub struct Page<'a> {
    /// The original.
    pub before: Side<'a>,
    /// The result.
    pub after: Side<'a>,
    /// The command that made it.
    pub command: Option<String>,
    /// The recipe, as TOML.
    pub recipe: Option<String>,
    /// What each step did, in a line.
    pub steps: Vec<String>,
    /// The line that builds an engine.
    pub trtexec: Option<String>,
    /// Comparison of the two.
    pub verification: Option<&'a Verification>,
    /// Top-1 accuracy of both.
    pub accuracy: Option<(f64, f64)>,
    /// What the user should know.
    pub warnings: &'a [String],
    /// Charts, those that belong together behind each other.
    pub charts: Vec<Chart>,
}

impl Page<'_> {
    /// The page as HTML.
    pub fn html(&self) -> String {
        let mut views = [view(self.before.model, true), view(self.after.model, true)];
        pair(&mut views, &diff(self.before.model, self.after.model));
        let title = match self.before.name == self.after.name {
            true => self.after.name.clone(),
            false => format!("{} → {}", self.before.name, self.after.name),
        };
        let body = self.body(&views);
        fill(include_str!("page.html"), &|key| match key {
            "version" => env!("CARGO_PKG_VERSION").to_owned(),
            "title" => escape(&title),
            "colours" => colours(),
            "style" => include_str!("page.css").to_owned(),
            "script" => concat!(include_str!("pane.js"), include_str!("page.js")).to_owned(),
            "graphs" => graphs(&views),
            _ => body.clone(),
        })
    }

    fn body(&self, views: &[View; 2]) -> String {
        let mut out = String::new();
        if let Some(command) = &self.command {
            let _ = writeln!(out, "<pre aria-label=\"command\">{}</pre>", escape(command));
        }
        for warning in self.warnings {
            let _ = writeln!(out, "<p class=\"warning\">{}</p>", escape(warning));
        }
        out += "<div class=\"facts\">\n<section>\n";
        out += &tables::summary(self);
        out += "</section>\n<section>\n";
        if !self.steps.is_empty() {
            out += "<h2>Steps</h2>\n<ul>\n";
            for step in &self.steps {
                let _ = writeln!(out, "<li>{}</li>", escape(step));
            }
            out += "</ul>\n";
        }
        if let Some(v) = self.verification {
            out += &tables::verification(v);
        }
        out += "</section>\n</div>\n";
        out += &self.graph_section(views);
        let of = |data: fn(&Data) -> bool| -> Vec<&Chart> {
            self.charts.iter().filter(|c| data(&c.data)).collect()
        };
        out += &figures("Layers", "layers", &of(|d| matches!(d, Data::Layers { .. })));
        out += &figures("Channels", "channels", &of(|d| matches!(d, Data::Channels { .. })));
        out += &figures("Activations", "activations", &of(|d| matches!(d, Data::Histogram { .. })));
        if let Some(recipe) = &self.recipe {
            let _ = writeln!(out, "<h2>Recipe</h2>\n<pre>{}</pre>", escape(recipe));
        }
        if let Some(line) = &self.trtexec {
            let _ = writeln!(out, "<h2>Engine</h2>\n<pre>{}</pre>", escape(line));
        }
        out
    }

    fn graph_section(&self, views: &[View; 2]) -> String {
        let count = |side: usize, state: State| {
            views[side].nodes.iter().filter(|n| n.state == Some(state)).count()
        };
        let mut out = String::from("<h2>Graph</h2>\n<div class=\"tools\" role=\"search\">\n");
        out += "<input type=\"search\" id=\"search\" placeholder=\"Search operators, nodes, values ( / )\" \
                aria-label=\"Search the graph\">\n<output id=\"count\" for=\"search\"></output>\n";
        for (state, ink, n) in [
            ("changed", "after", count(1, State::Changed)),
            ("added", "added", count(1, State::Added)),
            ("removed", "mark", count(0, State::Removed)),
        ] {
            let _ = writeln!(
                out,
                "<button type=\"button\" class=\"key {ink}\" data-state=\"{state}\">{n} {state}</button>"
            );
        }
        out += "<button type=\"button\" id=\"closer\" aria-label=\"Zoom in\">+</button>\n\
                <button type=\"button\" id=\"farther\" aria-label=\"Zoom out\">−</button>\n\
                <button type=\"button\" id=\"fit\">Fit</button>\n</div>\n\
                <ul class=\"results\" id=\"results\" aria-label=\"Nodes found\"></ul>\n\
                <div class=\"panes\">\n";
        for (i, (side, view)) in [&self.before, &self.after].into_iter().zip(views).enumerate() {
            let name = escape(&side.name);
            let ops = view.nodes.len();
            let _ = writeln!(
                out,
                "<div class=\"pane\"><h3>{}: {name}</h3><canvas id=\"pane{i}\" tabindex=\"0\" \
                 aria-label=\"Graph of {name}, {ops} nodes. Arrow keys move, plus and minus zoom; the \
                 search lists nodes.\"></canvas></div>",
                SIDES[i]
            );
        }
        out + "</div>\n<p class=\"note\">Drag to move; click for facts, then the wheel zooms.</p>\n\
               <div class=\"details\" id=\"details\" aria-live=\"polite\"></div>\n"
    }
}

const SIDES: [&str; 2] = ["before", "after"];

/// Charts of which one is shown at a time.
fn figures(title: &str, group: &str, charts: &[&Chart]) -> String {
    if charts.is_empty() {
        return String::new();
    }
    let mut out = format!(
        "<h2>{title}</h2>\n<div class=\"pick\"><select data-picks=\"{group}\" aria-label=\"{title}\">\n"
    );
    for (i, chart) in charts.iter().enumerate() {
        let _ = writeln!(out, "<option value=\"{group}-{i}\">{}</option>", escape(&chart.title));
    }
    out += "</select></div>\n";
    for (i, chart) in charts.iter().enumerate() {
        let svg = chart.scene().to_svg(false);
        let _ = writeln!(out, "<figure id=\"{group}-{i}\" data-of=\"{group}\">{svg}</figure>");
    }
    out
}

/// Replaces each `{{key}}` of a template.
fn fill(template: &str, value: &dyn Fn(&str) -> String) -> String {
    let mut out = String::new();
    let mut parts = template.split("{{");
    out += parts.next().unwrap_or_default();
    for part in parts {
        match part.split_once("}}") {
            Some((key, rest)) => {
                out += &value(key);
                out += rest;
            }
            None => out += part,
        }
    }
    out
}

/// Both views as JSON that can stand in a script element.
fn graphs(views: &[View; 2]) -> String {
    let with_name = |(view, name): (&View, &str)| {
        let mut json = serde_json::to_value(view).unwrap_or_default();
        json["name"] = name.into();
        json
    };
    let both: Vec<_> = views.iter().zip(SIDES).map(with_name).collect();
    serde_json::Value::from(both).to_string().replace('<', "\\u003c")
}

/// Marks which nodes correspond and how they differ. A node that differs only in the types that its
/// operands bring counts as the same.
fn pair(views: &mut [View; 2], found: &Diff) {
    let [before, after] = views;
    let nodes = found.graphs.iter().filter(|g| g.path.is_empty()).flat_map(|g| &g.nodes);
    for node in nodes {
        let at = |view: &View, side: &Option<NodeRef>| side.as_ref().and_then(|n| view.index(n.id));
        let (a, b) = (at(before, &node.before), at(after, &node.after));
        let state = match node.kind {
            Kind::Same | Kind::Renamed | Kind::Shape => None,
            Kind::Changed => Some(State::Changed),
            Kind::Added => Some(State::Added),
            Kind::Removed => Some(State::Removed),
        };
        for (view, index, twin) in [(&mut *before, a, b), (&mut *after, b, a)] {
            if let Some(n) = index.and_then(|i| view.nodes.get_mut(i)) {
                (n.state, n.twin) = (state, twin);
            }
        }
    }
    let is_port = |n: &Node| n.kind == view::Kind::Port;
    for (i, port) in after.nodes.iter_mut().enumerate().filter(|(_, n)| is_port(n)) {
        let same = |n: &Node| is_port(n) && n.op == port.op && n.name == port.name;
        if let Some(j) = before.nodes.iter().position(same) {
            (port.twin, before.nodes[j].twin) = (Some(j), Some(i));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::text;
    use crate::report::inspect::summarize;

    fn model(body: &str) -> Model {
        let head = "<ir_version: 9, opset_import: [\"\" : 17]>";
        text::parse(&format!("{head}\n{body}")).expect("the text parses")
    }

    fn html(a: &Model, b: &Model) -> String {
        let (x, y) = (summarize(a, &[]), summarize(b, &[]));
        let side =
            |model, summary| Side { name: "<m>.onnx".into(), bytes: Some(10), model, summary };
        let page = Page {
            before: side(a, &x),
            after: side(b, &y),
            command: Some("lapidary simplify '<b>'".into()),
            recipe: Some("tensorrt = \"11\"".into()),
            steps: vec!["simplify: 1".into()],
            trtexec: None,
            verification: None,
            accuracy: Some((0.5, 0.25)),
            warnings: &["a < b".to_owned()],
            charts: by_layer(a, b, &[]),
        };
        page.html()
    }

    #[test]
    fn a_page_stands_alone_and_escapes_what_models_say() {
        let a = model(
            "m (float[1,3] x) => (float[1,2] y) <float[3,2] w = {1, 0, 2, 0, 0, 3}> {
                h = MatMul (x, w)
                y = Relu (h)
            }",
        );
        let mut b = a.clone();
        let op = b.graph.order()[1];
        b.graph.op_facts_mut(op).name = "</script><script>alert(1)</script>".into();
        let page = html(&a, &b);
        assert_eq!(page.matches("<script").count(), 2);
        assert!(!page.contains("<b>") && !page.contains("{{"), "{page}");
        assert!(
            !page.contains("http://")
                || page.matches("http://").count()
                    == page.matches("http://www.w3.org/2000/svg").count()
        );
        assert!(!page.contains("src=") && !page.contains("@import") && !page.contains("url("));
        for part in ["default-src 'none'", "-25.00 points", "tensorrt = ", "data-of=\"layers\""] {
            assert!(page.contains(part), "{part} is missing");
        }
    }
}
