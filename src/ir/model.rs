//! A model: the main graph and what the file says around it.

use bytes::Bytes;

use super::{AttrValue, Graph, Spelling};

/// A whole ONNX model.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// `ir_version`.
    pub ir_version: i64,
    /// Operator sets: domain (empty for the default one) and version, in the order of the file.
    pub opsets: Vec<(String, i64)>,
    /// Name of the tool that wrote the model.
    pub producer_name: String,
    /// Its version.
    pub producer_version: String,
    /// Domain of the model.
    pub domain: String,
    /// Version of the model; `None` when the file has none.
    pub model_version: Option<i64>,
    /// Doc string.
    pub doc: String,
    /// `metadata_props`.
    pub metadata: Vec<(String, String)>,
    /// The main graph.
    pub graph: Graph,
    /// Local functions.
    pub functions: Vec<Function>,
    /// Encoded fields that Lapidary carries but does not read, each with its field number.
    pub extra: Vec<(u32, Bytes)>,
    /// How the file writes its header.
    pub spelling: Spelling,
}

/// A local function: an operator defined by a graph.
#[derive(Clone, Debug, Default)]
pub struct Function {
    /// Operator domain.
    pub domain: String,
    /// Operator name.
    pub name: String,
    /// Overload; usually empty.
    pub overload: String,
    /// The body; its inputs and outputs are those of the function.
    pub graph: Graph,
    /// Attributes without a default.
    pub attr_names: Vec<String>,
    /// Attributes with a default.
    pub attr_defaults: Vec<super::Attr>,
    /// Graphs that the defaults refer to by index.
    pub attr_bodies: Vec<Graph>,
    /// Operator sets of the body.
    pub opsets: Vec<(String, i64)>,
    /// Doc string.
    pub doc: String,
    /// `metadata_props`.
    pub metadata: Vec<(String, String)>,
    /// How the file writes its header.
    pub spelling: Spelling,
}

impl Model {
    /// The version of an operator set; empty for the default domain.
    pub fn opset(&self, domain: &str) -> Option<i64> {
        opset_of(&self.opsets, domain)
    }

    /// The version of the default operator set; 1 when the file does not say.
    pub fn default_opset(&self) -> i64 {
        self.opset("").unwrap_or(1)
    }

    /// The local function that an op calls.
    pub fn function(&self, op: &super::Op) -> Option<&Function> {
        self.functions
            .iter()
            .find(|f| f.name == op.op_type && f.domain == op.domain && f.overload == op.overload)
    }
}

/// The version of `domain` among `opsets`.
pub fn opset_of(opsets: &[(String, i64)], domain: &str) -> Option<i64> {
    opsets.iter().find(|(d, _)| d == domain).map(|(_, v)| *v)
}

/// Calls `f` on the graph and on every subgraph in it, innermost first.
pub fn for_each_graph<'a>(graph: &'a Graph, f: &mut dyn FnMut(&'a Graph)) {
    for op in graph.ops() {
        for body in &graph.op(op).bodies {
            for_each_graph(body, f);
        }
    }
    f(graph);
}

/// Number of ops, those in subgraphs included and `Constant`s left out, as peers count.
pub fn count_nodes(graph: &Graph) -> usize {
    let mut n = 0;
    for_each_graph(graph, &mut |g| n += g.ops().filter(|op| !g.op(*op).is("Constant")).count());
    n
}

/// Attribute values that hold tensors, for passes over all stored data.
pub fn attr_tensors(value: &AttrValue) -> &[super::Tensor] {
    match value {
        AttrValue::Tensor(t) => std::slice::from_ref(t),
        AttrValue::Tensors(ts) => ts,
        _ => &[],
    }
}
