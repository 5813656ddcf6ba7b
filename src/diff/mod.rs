//! How two models differ: which nodes correspond, and what changed in and around them.
//!
//! Nodes are matched by name and by canonical hashes of what lies above and below them (see
//! `matching`); everything else follows from the match. Weights are compared last, each pair
//! once, and bytes that provably are the same (the same place in the same mapped file) are not read.

mod facts;
mod header;
mod matching;
mod node;
mod weights;

use std::collections::HashMap;

use serde::{Serialize, Serializer};

use crate::ir::{Graph, Model, OpId, ValueId};
use crate::pass::infer_graph;
pub use weights::{Effort, WeightDiff};

/// All differences between two models.
#[derive(Clone, Debug, Serialize)]
pub struct Diff {
    /// What differs outside of graphs: operator sets, producer, metadata, functions.
    pub header: Vec<Change>,
    /// The main graph, then subgraphs and functions that both models have.
    pub graphs: Vec<GraphDiff>,
    /// How the weights were compared.
    pub effort: Effort,
}

/// Something that has a before and an after; `None` where one side lacks it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Change {
    /// What it is, such as `attribute strides`.
    pub what: String,
    /// In the first model.
    pub before: Option<String>,
    /// In the second model.
    pub after: Option<String>,
}

/// Differences between two graphs.
#[derive(Clone, Debug, Serialize)]
pub struct GraphDiff {
    /// Where the graph is: empty for the main graph, else the op and attribute that hold it, or the
    /// function.
    pub path: String,
    /// Inputs, outputs and what else belongs to the graph as a whole.
    pub graph: Vec<Change>,
    /// Every node of both graphs in order; a removed one stands after the node that it followed.
    /// JSON has only those that differ.
    #[serde(serialize_with = "only_different")]
    pub nodes: Vec<NodeDiff>,
}

/// How a node differs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Not at all.
    Same,
    /// By its name only.
    Renamed,
    /// Only the types of its results differ, because what it reads does.
    Shape,
    /// By operator, attributes, operands, weights or subgraphs.
    Changed,
    /// It is in the second model only.
    Added,
    /// It is in the first model only.
    Removed,
}

/// A node of one or both graphs.
#[derive(Clone, Debug, Serialize)]
pub struct NodeDiff {
    /// How it differs.
    pub kind: Kind,
    /// Its operator, in the second model where it has one.
    pub op: String,
    /// The node in the first model.
    pub before: Option<NodeRef>,
    /// The node in the second model.
    pub after: Option<NodeRef>,
    /// Operator, attributes, operands and subgraphs that differ.
    pub changes: Vec<Change>,
    /// Constant operands that differ.
    pub weights: Vec<WeightDiff>,
    /// Result types that differ.
    pub shapes: Vec<Change>,
}

/// A node in one of the graphs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct NodeRef {
    /// The op.
    #[serde(skip)]
    pub id: OpId,
    /// Its place in the order of the graph, `Constant`s not counted.
    pub index: usize,
    /// Its name, else that of its first result.
    pub name: String,
}

impl NodeDiff {
    /// Its name, in the second model where it is there.
    pub fn name(&self) -> &str {
        self.after.as_ref().or(self.before.as_ref()).map_or("", |n| &n.name)
    }
}

impl Diff {
    /// Nothing differs.
    pub fn is_empty(&self) -> bool {
        let same = |g: &GraphDiff| g.graph.is_empty() && g.count(Kind::Same) == g.nodes.len();
        self.header.is_empty() && self.graphs.iter().all(same)
    }

    /// Number of nodes, over all graphs, that differ in this way.
    pub fn count(&self, kind: Kind) -> usize {
        self.graphs.iter().map(|g| g.count(kind)).sum()
    }
}

impl GraphDiff {
    /// Number of nodes that differ in this way.
    pub fn count(&self, kind: Kind) -> usize {
        self.nodes.iter().filter(|n| n.kind == kind).count()
    }
}

fn only_different<S: Serializer>(nodes: &[NodeDiff], s: S) -> Result<S::Ok, S::Error> {
    s.collect_seq(nodes.iter().filter(|n| n.kind != Kind::Same))
}

impl Change {
    fn new(
        what: impl Into<String>,
        before: impl Into<Option<String>>,
        after: impl Into<Option<String>>,
    ) -> Change {
        Change { what: what.into(), before: before.into(), after: after.into() }
    }
}

/// What a comparison leaves out.
#[derive(Clone, Copy, Debug, Default)]
pub struct Ignore {
    /// Doc strings, metadata, and who wrote the file.
    pub metadata: bool,
}

/// Compares two models. Types are inferred first, so a file without `value_info` compares with one
/// that has it. Names of values inside the graphs do not count.
pub fn diff(a: &Model, b: &Model) -> Diff {
    diff_ignoring(a, b, Ignore::default())
}

/// As [`diff`], but that some things do not count.
pub fn diff_ignoring(a: &Model, b: &Model, ignore: Ignore) -> Diff {
    let mut weights = weights::Weights::default();
    let mut graphs = Vec::new();
    let (main_a, main_b) =
        (inferred(&a.graph, a.default_opset()), inferred(&b.graph, b.default_opset()));
    graph_diff(Pair::top(&main_a, &main_b, ignore), "", &mut weights, &mut graphs);
    for f in &a.functions {
        let same = |o: &&crate::ir::Function| {
            o.name == f.name && o.domain == f.domain && o.overload == f.overload
        };
        let Some(other) = b.functions.iter().find(same) else { continue };
        let opset = |m: &Model, f: &crate::ir::Function| {
            crate::ir::opset_of(&f.opsets, "").unwrap_or(m.default_opset())
        };
        let (x, y) = (inferred(&f.graph, opset(a, f)), inferred(&other.graph, opset(b, other)));
        let path = format!("function {}", header::function_name(f));
        graph_diff(Pair::top(&x, &y, ignore), &path, &mut weights, &mut graphs);
    }
    Diff { header: header::changes(a, b, ignore), graphs, effort: weights.effort() }
}

/// Names of matched nodes of the main graphs, in `b` and in `a`; the weights are not read.
pub fn twins(a: &Model, b: &Model) -> Vec<(String, String)> {
    let pair = Pair::top(&a.graph, &b.graph, Ignore::default());
    let matched = matching::match_nodes(&pair);
    let both = matched.in_order().into_iter().filter_map(|(i, j)| i.zip(j));
    both.map(|(i, j)| {
        (b.graph.short_name(matched.b.order[j]), a.graph.short_name(matched.a.order[i]))
    })
    .collect()
}

fn inferred(g: &Graph, opset: i64) -> Graph {
    let mut g = g.clone();
    infer_graph(&mut g, opset, &mut |_, _| {});
    g
}

/// Two graphs, and the values from outside that correspond: equal numbers mean the same value.
struct Pair<'a> {
    a: &'a Graph,
    b: &'a Graph,
    outer_a: HashMap<ValueId, u64>,
    outer_b: HashMap<ValueId, u64>,
    ignore: Ignore,
}

impl<'a> Pair<'a> {
    fn top(a: &'a Graph, b: &'a Graph, ignore: Ignore) -> Pair<'a> {
        Pair { a, b, outer_a: HashMap::new(), outer_b: HashMap::new(), ignore }
    }
}

/// Compares two graphs and the subgraphs in matched ops; the result goes to `out`.
fn graph_diff(
    pair: Pair,
    path: &str,
    weights: &mut weights::Weights,
    out: &mut Vec<GraphDiff>,
) -> bool {
    let matched = matching::match_nodes(&pair);
    let at = out.len();
    out.push(GraphDiff { path: path.to_owned(), graph: Vec::new(), nodes: Vec::new() });
    let mut nodes = Vec::new();
    let mut compare = node::Compare { pair: &pair, matched: &matched, weights, out, path };
    for (before, after) in matched.in_order() {
        nodes.push(compare.node(before, after));
    }
    let graph = compare.ports();
    let same = graph.is_empty() && nodes.iter().all(|n| n.kind == Kind::Same);
    out[at].graph = graph;
    out[at].nodes = nodes;
    same
}

#[cfg(test)]
mod tests;
