//! Models, functions, graphs and nodes as text.

use std::fmt::Write;

use super::super::pb;
use super::PrintOptions;
use super::print_value::{attr, name, pairs, quoted, tensor, ty, value_name};

const INDENT: &str = "   ";

/// The whole text.
pub(super) fn model(m: &pb::ModelProto, options: &PrintOptions) -> String {
    let mut p = Printer { out: String::new(), depth: 0, max: options.max_elements };
    if let Some(wanted) = &options.nodes {
        let graphs = m.graph.iter().map(|g| &g.node).chain(m.functions.iter().map(|f| &f.node));
        graphs.for_each(|nodes| p.some_nodes(nodes, wanted));
        return p.out;
    }
    p.header(m);
    p.graph(&m.graph.clone().unwrap_or_default());
    p.out.push('\n');
    for f in &m.functions {
        p.function(f);
    }
    p.out
}

/// Text under construction.
pub(super) struct Printer {
    pub(super) out: String,
    pub(super) max: Option<usize>,
    depth: usize,
}

impl Printer {
    fn line(&mut self) {
        self.out.push('\n');
        self.indent();
    }

    fn indent(&mut self) {
        for _ in 0..self.depth {
            self.out.push_str(INDENT);
        }
    }

    fn header(&mut self, m: &pb::ModelProto) {
        _ = write!(self.out, "<\n{INDENT}ir_version: {}", m.ir_version());
        self.key("opset_import");
        opsets(&m.opset_import, &mut self.out);
        for (key, text) in [
            ("producer_name", &m.producer_name),
            ("producer_version", &m.producer_version),
            ("domain", &m.domain),
        ] {
            self.text(key, text);
        }
        if let Some(version) = m.model_version {
            self.key("model_version");
            _ = write!(self.out, "{version}");
        }
        self.text("doc_string", &m.doc_string);
        if !m.metadata_props.is_empty() {
            self.key("metadata_props");
            pairs(&m.metadata_props, &mut self.out);
        }
        self.out.push_str("\n>\n");
    }

    fn key(&mut self, key: &str) {
        _ = write!(self.out, ",\n{INDENT}{key}: ");
    }

    fn text(&mut self, key: &str, text: &Option<String>) {
        if let Some(text) = text {
            self.key(key);
            quoted(text.as_bytes(), &mut self.out);
        }
    }

    fn function(&mut self, f: &pb::FunctionProto) {
        _ = write!(self.out, "<\n{INDENT}domain: ");
        quoted(f.domain().as_bytes(), &mut self.out);
        self.text("overload", &f.overload);
        self.text("doc_string", &f.doc_string);
        self.key("opset_import");
        opsets(&f.opset_import, &mut self.out);
        self.out.push_str("\n>\n");
        name(f.name(), &mut self.out);
        self.out.push(' ');
        if !f.attribute.is_empty() || !f.attribute_proto.is_empty() {
            self.out.push('<');
            for (i, a) in f.attribute.iter().enumerate() {
                self.comma(i);
                name(a, &mut self.out);
            }
            for (i, a) in f.attribute_proto.iter().enumerate() {
                self.comma(f.attribute.len() + i);
                attr(a, self);
            }
            self.out.push_str("> ");
        }
        self.names("(", &f.input, ") => ");
        self.names("(", &f.output, ")\n");
        if !f.value_info.is_empty() {
            self.out.push('<');
            self.depth += 1;
            for (i, info) in f.value_info.iter().enumerate() {
                self.out.push_str(if i == 0 { "" } else { "," });
                self.line();
                self.value_info(info);
            }
            self.depth -= 1;
            self.out.push_str("\n>\n");
        }
        self.nodes(&f.node);
        self.out.push('\n');
    }

    fn comma(&mut self, i: usize) {
        self.out.push_str(if i == 0 { "" } else { ", " });
    }

    fn names(&mut self, open: &str, names: &[String], close: &str) {
        self.out.push_str(open);
        for (i, n) in names.iter().enumerate() {
            self.comma(i);
            value_name(n, &mut self.out);
        }
        self.out.push_str(close);
    }

    fn value_info(&mut self, info: &pb::ValueInfoProto) {
        if let Some(t) = info.r#type.as_ref().filter(|t| t.value.is_some()) {
            ty(t, &mut self.out);
            self.out.push(' ');
        }
        value_name(info.name(), &mut self.out);
    }

    fn value_infos(&mut self, infos: &[pb::ValueInfoProto]) {
        self.out.push('(');
        for (i, info) in infos.iter().enumerate() {
            self.comma(i);
            self.value_info(info);
        }
        self.out.push(')');
    }

    /// A graph, nodes one level deeper than the line it stands in.
    pub(super) fn graph(&mut self, g: &pb::GraphProto) {
        match g.name() {
            word if super::is_float_word(word) => quoted(word.as_bytes(), &mut self.out),
            word => value_name(word, &mut self.out),
        }
        self.out.push(' ');
        self.value_infos(&g.input);
        self.out.push_str(" => ");
        self.value_infos(&g.output);
        self.line();
        let stored = g.initializer.len() + g.sparse_initializer.len();
        if stored + g.value_info.len() > 0 {
            self.out.push('<');
            self.depth += 1;
            let mut first = true;
            let mut start = |p: &mut Self| {
                p.out.push_str(if std::mem::take(&mut first) { "" } else { "," });
                p.line();
            };
            for t in &g.initializer {
                start(self);
                tensor(t, true, self.max, &mut self.out);
            }
            for t in &g.sparse_initializer {
                start(self);
                super::print_value::sparse(t, true, self.max, &mut self.out);
            }
            for info in &g.value_info {
                start(self);
                self.value_info(info);
            }
            self.depth -= 1;
            self.line();
            self.out.push('>');
            self.line();
        }
        self.nodes(&g.node);
    }

    fn nodes(&mut self, nodes: &[pb::NodeProto]) {
        self.out.push('{');
        self.depth += 1;
        for n in nodes {
            self.line();
            self.node(n);
        }
        self.depth -= 1;
        self.line();
        self.out.push('}');
    }

    fn node(&mut self, n: &pb::NodeProto) {
        if let Some(own) = &n.name {
            self.out.push('[');
            name(own, &mut self.out);
            self.out.push_str("] ");
        }
        self.names("", &n.output, if n.output.is_empty() { "= " } else { " = " });
        for part in n.domain().split('.').filter(|p| !p.is_empty()) {
            name(part, &mut self.out);
            self.out.push('.');
        }
        name(n.op_type(), &mut self.out);
        if !n.overload().is_empty() {
            self.out.push(':');
            name(n.overload(), &mut self.out);
        }
        let has_body = n.attribute.iter().any(|a| a.g.is_some() || !a.graphs.is_empty());
        if !has_body {
            self.attributes(&n.attribute);
        }
        self.names(" (", &n.input, ")");
        if has_body {
            self.attributes(&n.attribute);
        }
    }

    fn attributes(&mut self, attrs: &[pb::AttributeProto]) {
        if attrs.is_empty() {
            return;
        }
        self.out.push_str(" <");
        for (i, a) in attrs.iter().enumerate() {
            self.comma(i);
            attr(a, self);
        }
        self.out.push('>');
    }

    fn some_nodes(&mut self, nodes: &[pb::NodeProto], wanted: &globset::GlobMatcher) {
        for n in nodes {
            let own = [n.name(), n.op_type()];
            let mut names = own.into_iter().chain(n.output.iter().map(String::as_str));
            if names.any(|s| !s.is_empty() && wanted.is_match(s)) {
                self.node(n);
                self.out.push('\n');
                continue;
            }
            for a in &n.attribute {
                a.g.as_deref()
                    .into_iter()
                    .chain(&a.graphs)
                    .for_each(|g| self.some_nodes(&g.node, wanted));
            }
        }
    }
}

fn opsets(list: &[pb::OperatorSetIdProto], out: &mut String) {
    out.push('[');
    for (i, o) in list.iter().enumerate() {
        out.push_str(if i == 0 { "" } else { ", " });
        quoted(o.domain().as_bytes(), out);
        _ = write!(out, " : {}", o.version());
    }
    out.push(']');
}
