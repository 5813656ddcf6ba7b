//! A graph as people look at it: nodes with places, facts and states.

mod draw;
mod layout;

use std::collections::HashMap;

use rayon::prelude::*;
use serde::Serialize;

use super::inspect::fed_inputs;
use super::scene::CHARACTER;
use super::weights::{self, WeightStats};
use crate::ir::{AttrValue, Graph, Model, Op, OpId, Tensor, ValueId};
use crate::ops::{self, Quant};
use crate::pass::infer_graph;

/// The main graph of a model, laid out from top to bottom.
#[derive(Clone, Debug, Default, Serialize)]
pub struct View {
    /// Inputs, then ops in order (without `Constant`s), then outputs.
    pub nodes: Vec<Node>,
    /// Edges between them.
    pub edges: Vec<Edge>,
    /// Size of the whole in pixels.
    pub size: (f64, f64),
    #[serde(skip)]
    at: HashMap<OpId, usize>,
}

/// A node.
#[derive(Clone, Debug, Serialize)]
pub struct Node {
    /// Left, top, width and height.
    #[serde(rename = "box")]
    pub place: [f64; 4],
    /// What it is drawn as.
    pub kind: Kind,
    /// Operator, or name of the input or output.
    pub op: String,
    /// Node name, else that of the first result.
    pub name: String,
    /// What stands below the operator: sizes of the weight, or the type.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// How it differs from its counterpart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<State>,
    /// The counterpart's index.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub twin: Option<usize>,
    /// Attributes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub attrs: Vec<(String, String)>,
    /// What it reads.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reads: Vec<Port>,
    /// What it makes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub makes: Vec<Port>,
}

/// What a node is drawn as.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An input or output of the graph.
    Port,
    /// An op that multiplies by weights.
    Linear,
    /// An op that quantizes or dequantizes.
    Quant,
    /// Any other op.
    Other,
}

/// How a node differs from its counterpart in the other model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// In its attributes, operands, weights or types.
    Changed,
    /// It is only in the result.
    Added,
    /// It is only in the original.
    Removed,
}

/// A value that a node reads or makes.
#[derive(Clone, Debug, Serialize)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its type.
    #[serde(rename = "type")]
    pub ty: String,
    /// Statistics, where it is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stats: Option<WeightStats>,
}

/// An edge.
#[derive(Clone, Debug, Serialize)]
pub struct Edge {
    /// Index of the node that makes the value.
    pub from: usize,
    /// Index of the node that reads it.
    pub to: usize,
    /// Points from the lower side of one to the upper side of the other.
    pub points: Vec<(f64, f64)>,
    /// Type of the value.
    #[serde(rename = "type")]
    pub ty: String,
}

const ROW: f64 = 66.0;
const LINE: f64 = 15.0;
const LONGEST_NOTE: usize = 28;

/// Lays out the main graph of a model. Types are inferred first. `with_weights` says whether to
/// read the weights for their statistics.
pub fn view(model: &Model, with_weights: bool) -> View {
    let mut g = model.graph.clone();
    infer_graph(&mut g, model.default_opset(), &mut |_, _| {});
    let mut view = View::default();
    let mut maker: HashMap<ValueId, usize> = HashMap::new();
    for v in fed_inputs(&g) {
        maker.insert(v, view.nodes.len());
        view.nodes.push(end(&g, v, "input"));
    }
    let ops: Vec<OpId> = g.order().into_iter().filter(|op| !is_stored(g.op(*op))).collect();
    for op in &ops {
        view.at.insert(*op, view.nodes.len());
        let results = g.results(*op).into_iter().flatten();
        maker.extend(results.map(|v| (v, view.nodes.len())));
        view.nodes.push(node(&g, *op));
    }
    let mut links: Vec<(usize, usize, ValueId)> = Vec::new();
    for op in &ops {
        let to = view.at[op];
        links.extend(reads(&g, *op).into_iter().filter_map(|v| Some((*maker.get(&v)?, to, v))));
    }
    for v in g.outputs() {
        let to = view.nodes.len();
        view.nodes.push(end(&g, *v, "output"));
        links.extend(maker.get(v).map(|from| (*from, to, *v)));
    }
    links.sort_by_key(|(from, to, _)| (*from, *to));
    links.dedup_by_key(|(from, to, _)| (*from, *to));
    if with_weights {
        add_statistics(&g, &ops, &mut view);
    }
    view.place(&g, &links);
    view
}

/// A `Constant` that holds a tensor counts as a weight, not as a node.
fn is_stored(op: &Op) -> bool {
    op.is("Constant") && op.tensor("value").is_some()
}

/// Operands, then captures.
fn reads(g: &Graph, op: OpId) -> Vec<ValueId> {
    g.operands(op).into_iter().flatten().chain(g.captures(op)).collect()
}

fn end(g: &Graph, v: ValueId, what: &str) -> Node {
    let port = port(g, v);
    Node {
        place: [0.0; 4],
        kind: Kind::Port,
        op: what.to_owned(),
        name: port.name.clone(),
        note: port.ty.clone(),
        state: None,
        twin: None,
        attrs: Vec::new(),
        reads: Vec::new(),
        makes: vec![port],
    }
}

fn node(g: &Graph, id: OpId) -> Node {
    let op = g.op(id);
    let makes: Vec<Port> = g.results(id).into_iter().flatten().map(|v| port(g, v)).collect();
    let first = || makes.first().map(|p| p.name.clone()).unwrap_or_default();
    let weight = match ops::schema(op).map(|s| s.quant) {
        Some(Quant::Weighted(slot)) => g.operand(id, slot).and_then(|v| sizes(g, v)),
        _ => None,
    };
    let kind = match op.op_type.as_str() {
        _ if weight.is_some() => Kind::Linear,
        t if t.ends_with("QuantizeLinear") || t.ends_with("DequantizeLinear") => Kind::Quant,
        _ => Kind::Other,
    };
    Node {
        place: [0.0; 4],
        kind,
        op: op.full_type(),
        name: if op.name.is_empty() { first() } else { op.name.clone() },
        note: weight.unwrap_or_default(),
        state: None,
        twin: None,
        attrs: op.attrs.iter().map(|a| (a.name.clone(), show(op, &a.value))).collect(),
        reads: reads(g, id).into_iter().map(|v| port(g, v)).collect(),
        makes,
    }
}

/// Sizes of a value with a known shape: `64x3x7x7`.
fn sizes(g: &Graph, v: ValueId) -> Option<String> {
    let sizes: Vec<String> = g.value(v).sizes()?.iter().map(usize::to_string).collect();
    Some(sizes.join("×"))
}

fn port(g: &Graph, v: ValueId) -> Port {
    let value = g.value(v);
    let ty = match super::stored::constant(g, v) {
        Some(t) => tensor_type(t),
        None => value.ty.as_ref().map_or("?".to_owned(), |t| t.to_string()),
    };
    Port { name: value.name().to_owned(), ty, stats: None }
}

fn tensor_type(t: &Tensor) -> String {
    let dims: Vec<String> = t.dims().iter().map(usize::to_string).collect();
    format!("{}[{}]", t.dtype(), dims.join(","))
}

/// An attribute in one line, long ones shortened.
fn show(op: &Op, value: &AttrValue) -> String {
    fn list<T: std::fmt::Display>(items: &[T]) -> String {
        const SHOWN: usize = 32;
        let mut parts: Vec<String> = items.iter().take(SHOWN).map(T::to_string).collect();
        if items.len() > SHOWN {
            parts.push(format!("… {} more", items.len() - SHOWN));
        }
        format!("[{}]", parts.join(", "))
    }
    let text = |s: &bytes::Bytes| super::scene::shorten(&String::from_utf8_lossy(s), 200);
    match value {
        AttrValue::Float(v) => v.to_string(),
        AttrValue::Int(v) => v.to_string(),
        AttrValue::Str(s) => text(s),
        AttrValue::Tensor(t) => match t.single() {
            Some(v) => format!("{} {v}", tensor_type(t)),
            None => tensor_type(t),
        },
        AttrValue::Graph(i) => {
            format!("subgraph of {} ops", op.bodies.get(*i).map_or(0, Graph::op_count))
        }
        AttrValue::Type(t) => t.to_string(),
        AttrValue::Floats(v) => list(v),
        AttrValue::Ints(v) => list(v),
        AttrValue::Strs(v) => list(&v.iter().map(text).collect::<Vec<_>>()),
        AttrValue::Tensors(v) => list(&v.iter().map(tensor_type).collect::<Vec<_>>()),
        AttrValue::Graphs(v) => format!("{} subgraphs", v.len()),
        AttrValue::Types(v) => list(&v.iter().map(ToString::to_string).collect::<Vec<_>>()),
        AttrValue::Ref(name, _) => format!("attribute {name} of the function"),
    }
}

fn add_statistics(g: &Graph, ops: &[OpId], view: &mut View) {
    let stored = |op: &OpId| -> Vec<(usize, ValueId)> {
        let of = |(i, v): (usize, ValueId)| super::stored::constant(g, v).map(|_| (i, v));
        reads(g, *op).into_iter().enumerate().filter_map(of).collect()
    };
    let found: Vec<Vec<(usize, Option<WeightStats>)>> = ops
        .par_iter()
        .map(|op| stored(op).into_iter().map(|(i, v)| (i, weights::of_value(g, v))).collect())
        .collect();
    for (op, found) in ops.iter().zip(found) {
        let at = view.at[op];
        for (i, stats) in found {
            view.nodes[at].reads[i].stats = stats;
        }
    }
}

impl View {
    /// Index of the node of an op.
    pub fn index(&self, op: OpId) -> Option<usize> {
        self.at.get(&op).copied()
    }

    fn place(&mut self, g: &Graph, links: &[(usize, usize, ValueId)]) {
        for node in &mut self.nodes {
            let name = if node.kind == Kind::Port { &node.name } else { &node.op };
            let longest = name.chars().count().max(node.note.chars().count()).min(LONGEST_NOTE);
            let lines = if node.note.is_empty() { 1.0 } else { 2.0 };
            node.place[2] = (longest as f64 * CHARACTER * 12.0 + 20.0).round();
            node.place[3] = lines * LINE + 12.0;
        }
        let widths: Vec<f64> = self.nodes.iter().map(|n| n.place[2]).collect();
        let ends: Vec<(usize, usize)> = links.iter().map(|(a, b, _)| (*a, *b)).collect();
        let found = layout::layout(&widths, &ends);
        let middle = |layer: usize| layer as f64 * ROW + ROW / 2.0;
        for (node, (x, layer)) in self.nodes.iter_mut().zip(&found.nodes) {
            let [_, _, w, h] = node.place;
            node.place = [(x - w / 2.0).round(), (middle(*layer) - h / 2.0).round(), w, h];
        }
        for ((from, to, v), bends) in links.iter().zip(found.bends) {
            let (a, b) = (self.nodes[*from].place, self.nodes[*to].place);
            let mut points = vec![(a[0] + a[2] / 2.0, a[1] + a[3])];
            points.extend(bends.into_iter().map(|(x, layer)| (x.round(), middle(layer))));
            points.push((b[0] + b[2] / 2.0, b[1]));
            let ty = g.value(*v).ty.as_ref().map_or("?".to_owned(), ToString::to_string);
            self.edges.push(Edge { from: *from, to: *to, points: straightened(points), ty });
        }
        self.size = (found.width.ceil(), found.layers as f64 * ROW);
    }
}

/// Without the points that lie on the line between their neighbours.
fn straightened(points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    let mut out: Vec<(f64, f64)> = Vec::with_capacity(points.len());
    for (i, p) in points.iter().enumerate() {
        let on_line = match (out.last(), points.get(i + 1)) {
            (Some(last), Some(next)) => last.0 == p.0 && p.0 == next.0,
            _ => false,
        };
        if !on_line {
            out.push(*p);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::text;

    #[test]
    fn nodes_edges_and_facts() {
        let m = text::parse(
            "<ir_version: 9, opset_import: [\"\" : 17]>
            m (float[N,3] x, float[N,2] u) => (float[N,2] y)
            <float[3,2] w = {1, 0, 2, 0, 0, 3}> {
                c = Constant <value = float[2] {1, 2}> ()
                h = MatMul (x, w)
                b = Add (h, c)
                y = Add (b, u)
            }",
        )
        .expect("the text parses");
        let v = view(&m, true);
        let ops: Vec<&str> = v.nodes.iter().map(|n| &n.op[..]).collect();
        assert_eq!(ops, ["input", "input", "MatMul", "Add", "Add", "output"]);
        let edges: Vec<(usize, usize)> = v.edges.iter().map(|e| (e.from, e.to)).collect();
        assert_eq!(edges, [(0, 2), (1, 4), (2, 3), (3, 4), (4, 5)]);
        let matmul = &v.nodes[2];
        assert_eq!((matmul.kind, &matmul.note[..]), (Kind::Linear, "3×2"));
        assert_eq!(matmul.reads[1].stats.as_ref().map(|s| s.zeros), Some(3));
        assert_eq!(v.nodes[3].reads[1].ty, "float[2]");
        assert!(v.edges.iter().all(|e| e.points.first() < e.points.last() || e.points.len() > 1));
        let y = |i: usize| v.nodes[i].place[1];
        assert!(y(0) < y(2) && y(2) < y(3) && y(3) < y(4) && y(4) < y(5) && y(1) > y(0));
    }
}
