//! A graph in the language of Graphviz.

use std::fmt::Write as _;

use super::view::{Kind, View};

/// The graph as a `digraph`: ops as boxes with their weights, inputs and outputs as ellipses, edges
/// with their types.
pub fn dot(view: &View, name: &str) -> String {
    let mut out = format!("digraph {} {{\n  node [shape=box, fontname=monospace];\n", quoted(name));
    for (i, node) in view.nodes.iter().enumerate() {
        let head = if node.kind == Kind::Port { &node.name } else { &node.op };
        let label = match node.note.as_str() {
            "" => head.clone(),
            note => format!("{head}\n{note}"),
        };
        let shape = if node.kind == Kind::Port { ", shape=ellipse" } else { "" };
        let (label, tip) = (quoted(&label), quoted(&node.name));
        let _ = writeln!(out, "  n{i} [label={label}, tooltip={tip}{shape}];");
    }
    for edge in &view.edges {
        let _ = writeln!(out, "  n{} -> n{} [label={}];", edge.from, edge.to, quoted(&edge.ty));
    }
    out + "}\n"
}

/// A string of the DOT language.
fn quoted(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!("\"{text}\"")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::text;
    use crate::report::view::view;

    #[test]
    fn names_are_quoted() {
        let model = text::parse(
            "<ir_version: 9, opset_import: [\"\" : 17]>
            m (float[2] x) => (float[2] y) { y = Relu (x) }",
        )
        .expect("the text parses");
        let out = dot(&view(&model, false), "a \"quoted\" \\ name");
        assert!(out.starts_with("digraph \"a \\\"quoted\\\" \\\\ name\" {"), "{out}");
        assert!(out.contains("n0 -> n1 [label=\"float[2]\"];") && out.contains("shape=ellipse"));
    }
}
