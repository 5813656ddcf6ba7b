//! What is in a model, without reading its weights.

use std::collections::BTreeMap;

use serde::Serialize;

use super::bind::{self, Binding};
use super::stored::{params, stored_bytes};
use super::{cost, liveness};
use crate::ir::{Atom, Dim, Graph, Model, ValueId, for_each_graph};

/// A model at a glance.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// `ir_version`.
    pub ir_version: i64,
    /// Operator sets: domain (`ai.onnx` for the default one) and version.
    pub opsets: BTreeMap<String, i64>,
    /// Tool that wrote the file, and its version.
    pub producer: String,
    /// Inputs that a caller must feed.
    pub inputs: Vec<Port>,
    /// Outputs.
    pub outputs: Vec<Port>,
    /// Sizes that the counts below take for symbols.
    pub bound: Vec<Binding>,
    /// Symbols of the inputs that have no size.
    pub free: Vec<String>,
    /// Number of ops; those in subgraphs count, `Constant`s do not.
    pub nodes: usize,
    /// How often each operator occurs, most frequent first.
    pub ops: Vec<OpCount>,
    /// Number of ops of other domains, which have no known cost.
    pub foreign_ops: usize,
    /// Number of local functions.
    pub functions: usize,
    /// Elements of float and quantized weights that ops read.
    pub params: usize,
    /// Multiply-accumulates of one run; `None` when they depend on free symbols.
    pub macs: Option<i64>,
    /// The same as an expression, when it has symbols of the inputs and no others.
    pub macs_formula: Option<String>,
    /// Number of ops whose multiply-accumulates are not known; the count leaves them out.
    pub macs_unknown_ops: usize,
    /// Bytes of all stored tensors.
    pub weight_bytes: usize,
    /// The same by element type.
    pub bytes_by_type: BTreeMap<&'static str, usize>,
    /// Ops that multiply by constant weights.
    pub weighted_ops: usize,
    /// Share of `weighted_ops` that compute in 8-bit integers.
    pub int8_ops: f64,
    /// Share of `macs` that are done in 8-bit integers, when they are known.
    pub int8_macs: Option<f64>,
    /// Weighted ops by what they compute in.
    pub precisions: BTreeMap<String, usize>,
    /// Bytes of activations that are alive at once, at most, as [`Liveness`](liveness::Liveness)
    /// counts them.
    pub peak_activation_bytes: Option<usize>,
    /// The op while which they are.
    pub peak_activation_op: Option<String>,
}

/// A graph input or output.
#[derive(Clone, Debug, Serialize)]
pub struct Port {
    /// Its name.
    pub name: String,
    /// Its type, such as `float[N,3,224,224]`.
    #[serde(rename = "type")]
    pub ty: String,
}

/// An operator and how often it occurs.
#[derive(Clone, Debug, Serialize)]
pub struct OpCount {
    /// Operator.
    pub op: String,
    /// Number of ops.
    pub count: usize,
}

/// An op with constant weights.
#[derive(Clone, Debug, Serialize)]
pub struct Layer {
    /// Node name, else the name of its result.
    pub name: String,
    /// Operator.
    pub op: String,
    /// Sizes of the weight.
    pub weight: Vec<usize>,
    /// Elements of its weights.
    pub params: usize,
    /// Bytes of them; weights that several ops read count for each.
    pub bytes: usize,
    /// Multiply-accumulates, as far as they are known.
    pub macs: Option<String>,
    /// What it computes in.
    pub precision: String,
    /// Type of its first result.
    pub output: String,
}

/// A size was given to a dim that no input has.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("no dim is called {name:?}: {}", have(.open))]
pub struct StrayDim {
    /// The name given.
    pub name: String,
    /// Names of the open dims of the inputs.
    pub open: Vec<String>,
}

fn have(open: &[String]) -> String {
    match open.is_empty() {
        true => "all dims of the inputs are fixed".to_owned(),
        false => format!("the inputs have {}", open.join(", ")),
    }
}

impl Summary {
    /// The first of `dims` that no input has.
    pub fn stray_dim(&self, dims: &[(String, i64)]) -> Option<StrayDim> {
        let bound = self.bound.iter().map(|b| b.name.clone());
        let open: Vec<String> = bound.chain(self.free.iter().cloned()).collect();
        let stray = dims.iter().map(|d| &d.0).find(|name| !open.contains(name))?;
        Some(StrayDim { name: stray.clone(), open })
    }
}

/// Counts what is in a model. `dims` gives sizes to symbols of the inputs; symbols that look like a
/// batch and are not given count as 1. Weights are not read.
pub fn summarize(model: &Model, dims: &[(String, i64)]) -> Summary {
    let bound = bind::bind(model, dims);
    let g = &bound.graph;
    let costs = cost::costs(g);
    let weighted: Vec<_> = costs.ops.iter().filter(|c| c.weight.is_some()).collect();
    let mut precisions = BTreeMap::new();
    for c in &weighted {
        *precisions.entry(c.precision.clone()).or_insert(0) += 1;
    }
    let int8 = weighted.iter().filter(|c| c.precision == "int8").count();
    let macs = costs.macs.known();
    let stored = stored_bytes(model);
    let (peak_activation_bytes, peak_activation_op) =
        liveness::of_graph(g).map(|l| (l.peak_bytes, l.peak_op)).unzip();
    Summary {
        ir_version: model.ir_version,
        opsets: model.opsets.iter().map(|(d, v)| (domain_name(d).to_owned(), *v)).collect(),
        producer: [&model.producer_name[..], &model.producer_version].join(" ").trim().to_owned(),
        inputs: fed_inputs(&model.graph).map(|v| port(&model.graph, v)).collect(),
        outputs: outputs(&model.graph, g),
        free: bound.free,
        bound: bound.bindings,
        nodes: crate::ir::count_nodes(&model.graph),
        ops: histogram(model),
        foreign_ops: foreign_ops(model),
        functions: model.functions.len(),
        params: params(&model.graph),
        macs,
        macs_formula: formula(&costs.macs),
        macs_unknown_ops: costs.unknown,
        weight_bytes: stored.values().sum(),
        bytes_by_type: stored,
        weighted_ops: weighted.len(),
        int8_ops: share(int8 as f64, weighted.len() as f64),
        int8_macs: macs.map(|all| share(costs.int8.known().unwrap_or(0) as f64, all as f64)),
        precisions,
        peak_activation_bytes,
        peak_activation_op,
    }
}

/// Every op with constant weights, in order; subgraphs included. `dims` as in [`summarize`].
pub fn layers(model: &Model, dims: &[(String, i64)]) -> Vec<Layer> {
    let bound = bind::bind(model, dims);
    let costs = cost::costs(&bound.graph);
    let layer = |c: cost::OpCost| {
        let weight = c.weight?;
        let macs = c.macs.map(|m| m.to_string());
        let (params, bytes, precision) = (c.params, c.bytes, c.precision);
        let (name, op, output) = (c.name, c.op, c.output);
        Some(Layer { name, op, weight, params, bytes, macs, precision, output })
    };
    costs.ops.into_iter().filter_map(layer).collect()
}

/// Every value of the main graph that an op makes, in order, with its type.
pub fn values(model: &Model, dims: &[(String, i64)]) -> Vec<Port> {
    let bound = bind::bind(model, dims);
    let g = &bound.graph;
    g.order().into_iter().flat_map(|op| g.results(op)).flatten().map(|v| port(g, v)).collect()
}

fn share(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

fn formula(macs: &Dim) -> Option<String> {
    let mut named = matches!(macs, Dim::Sym(_));
    macs.for_each_symbol(&mut |atom| named &= matches!(atom, Atom::Name(_)));
    named.then(|| macs.to_string())
}

fn domain_name(domain: &str) -> &str {
    if domain.is_empty() { "ai.onnx" } else { domain }
}

/// Inputs without a default.
pub(crate) fn fed_inputs(g: &Graph) -> impl Iterator<Item = ValueId> + '_ {
    g.inputs().iter().copied().filter(|v| g.initializer(*v).is_none())
}

fn port(g: &Graph, v: ValueId) -> Port {
    let value = g.value(v);
    let ty = value.ty.as_ref().map_or("?".to_owned(), |t| t.to_string());
    Port { name: value.name().to_owned(), ty }
}

/// Outputs as the file declares them; as inferred where it says nothing of the shape.
fn outputs(declared: &Graph, inferred: &Graph) -> Vec<Port> {
    let pairs = declared.outputs().iter().zip(inferred.outputs());
    let port = |(a, b): (&ValueId, &ValueId)| match declared.value(*a).shape() {
        Some(_) => port(declared, *a),
        None => port(inferred, *b),
    };
    pairs.map(port).collect()
}

fn histogram(model: &Model) -> Vec<OpCount> {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for_each_graph(&model.graph, &mut |g| {
        for op in g.ops().map(|id| g.op(id)).filter(|op| !op.is("Constant")) {
            *counts.entry(op.full_type()).or_default() += 1;
        }
    });
    let mut ops: Vec<OpCount> =
        counts.into_iter().map(|(op, count)| OpCount { op, count }).collect();
    ops.sort_by_key(|o| std::cmp::Reverse(o.count));
    ops
}

fn foreign_ops(model: &Model) -> usize {
    let mut n = 0;
    for_each_graph(&model.graph, &mut |g| {
        n += g.ops().filter(|op| !g.op(*op).domain.is_empty()).count();
    });
    n
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::text;

    fn model(body: &str) -> Model {
        let head = "<ir_version: 9, opset_import: [\"\" : 17], producer_name: \"hand\">";
        text::parse(&format!("{head}\n{body}")).expect("the text parses")
    }

    fn dense() -> Model {
        model(
            "m (float[batch,rows,3] x, float[batch,?,2] other) => (float[batch,rows,2] y)
            <float[3,2] w = {1, 0, 2, 0, 0, 3}, float[2] b = {1, 1}> {
                h = MatMul (x, w)
                y = Add (h, b)
                o = Relu (other)
            }",
        )
    }

    #[test]
    fn a_batch_counts_as_one_and_other_symbols_stay() {
        let s = summarize(&dense(), &[]);
        assert_eq!((s.nodes, s.params, s.weight_bytes), (3, 8, 32));
        assert_eq!(s.macs, None);
        assert_eq!(s.macs_formula.as_deref(), Some("6*rows"));
        assert_eq!(s.bound, [Binding { name: "batch".into(), value: 1, assumed: true }]);
        assert_eq!(s.free, ["other:1", "rows"]);
        assert_eq!(s.peak_activation_bytes, None);
    }

    #[test]
    fn given_dims_make_everything_known() {
        let dims = [("batch".into(), 2), ("rows".into(), 5), ("other:1".into(), 7)];
        let s = summarize(&dense(), &dims);
        assert_eq!(s.macs, Some(2 * 5 * 6));
        assert_eq!(s.outputs[0].ty, "float[batch,rows,2]");
        // Both inputs and the product.
        assert_eq!(s.peak_activation_bytes, Some(4 * (30 + 28 + 20)));
    }

    #[test]
    fn quantized_ops_are_told_from_others() {
        let m = model(
            "m (float[1,3] x) => (float[1,2] y)
            <int8[3,2] w = {1, 2, 3, 4, 5, 6}, float[2,4] v = {1, 2, 3, 4, 5, 6, 7, 8},
             float s = {0.5}, int8 z = {0}> {
                q = QuantizeLinear (x, s, z)
                d = DequantizeLinear (q, s, z)
                f = DequantizeLinear (w, s, z)
                h = MatMul (d, f)
                y = MatMul (h, v)
            }",
        );
        let s = summarize(&m, &[]);
        assert_eq!(s.params, 6 + 8);
        assert_eq!((s.weighted_ops, s.int8_ops), (2, 0.5));
        assert_eq!(s.int8_macs, Some(6.0 / 14.0));
        let layers = layers(&m, &[]);
        let precisions: Vec<&str> = layers.iter().map(|l| &l.precision[..]).collect();
        assert_eq!(precisions, ["int8", "float"]);
        assert_eq!((&layers[0].weight[..], layers[0].params), (&[3, 2][..], 6));
    }
}
