//! Engines as `trtexec` describes them: `--exportLayerInfo` and `--exportProfile`.
//!
//! Layer information is `{"Layers": […]}`, each layer an object under
//! `--profilingVerbosity=detailed` and just its name otherwise. `Metadata` holds the ONNX nodes that a
//! layer comes from, as `[ONNX Layer: name]`. A profile is a list: an object with `count`, then one
//! with `name`, `timeMs`, `averageMs`, `medianMs` and `percentage` for each layer.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use serde::{Deserialize, Serialize};

use crate::ir::{Model, for_each_graph};
use crate::report::inspect;

/// The file is not what `trtexec` writes.
#[derive(Debug, thiserror::Error)]
pub enum EngineFileError {
    /// It is no JSON of the expected form.
    #[error("this is no {what} of trtexec: {source}")]
    Form {
        /// What it should be.
        what: &'static str,
        /// What the parser says.
        source: serde_json::Error,
    },
    /// It holds names only.
    #[error(
        "the layer information holds names only; build the engine with --profilingVerbosity=detailed"
    )]
    NamesOnly,
}

/// An engine joined to the model that it was built from.
#[derive(Clone, Debug, Serialize)]
pub struct EngineReport {
    /// Layers in the order of the engine.
    pub layers: Vec<EngineLayer>,
    /// Number of layers and their share of the time, by precision.
    pub precisions: BTreeMap<String, PrecisionShare>,
    /// Nodes of the model that no layer names: folded, or fused without a trace.
    pub unnamed_nodes: Vec<String>,
    /// Nodes that layers name and the model does not have.
    pub unknown_nodes: Vec<String>,
}

/// A layer of an engine.
#[derive(Clone, Debug, Serialize)]
pub struct EngineLayer {
    /// Its name.
    pub name: String,
    /// Its type, such as `CaskConvolution` or `Reformat`.
    pub kind: String,
    /// What it computes in, by the format of its first input that holds numbers.
    pub precision: String,
    /// ONNX nodes that it comes from, each with its operator (`?` when the model lacks it).
    pub nodes: Vec<(String, String)>,
    /// Multiply-accumulates of those nodes, where they are known.
    pub macs: Option<i64>,
    /// Mean time of a run in milliseconds, when there is a profile.
    pub average_ms: Option<f64>,
    /// Share of the time of all layers.
    pub share: Option<f64>,
}

/// What runs in one precision.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct PrecisionShare {
    /// Number of layers.
    pub layers: usize,
    /// Share of the time, when there is a profile.
    pub share: Option<f64>,
}

#[derive(Deserialize)]
struct LayerFile {
    #[serde(rename = "Layers")]
    layers: Vec<LayerEntry>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum LayerEntry {
    Detailed(Box<Detailed>),
    /// Just its name.
    Brief(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase", default)]
#[derive(Default)]
struct Detailed {
    name: String,
    layer_type: String,
    inputs: Vec<Tensor>,
    outputs: Vec<Tensor>,
    metadata: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Tensor {
    #[serde(rename = "Format/Datatype", alias = "Format", alias = "DataType", alias = "Datatype")]
    format: String,
}

#[derive(Deserialize)]
struct ProfileEntry {
    name: Option<String>,
    #[serde(rename = "averageMs")]
    average_ms: Option<f64>,
}

/// Joins layer information, and a profile if there is one, to the model. Nodes without a name go by
/// that of their first result, as the parser of TensorRT calls them.
///
/// # Errors
/// When a file is not what `trtexec` writes.
pub fn read(
    model: &Model,
    layer_info: &str,
    profile: Option<&str>,
) -> Result<EngineReport, EngineFileError> {
    let form = |what| move |source| EngineFileError::Form { what, source };
    let file: LayerFile = serde_json::from_str(layer_info).map_err(form("layer information"))?;
    let times: Vec<ProfileEntry> = match profile {
        Some(text) => serde_json::from_str(text).map_err(form("profile"))?,
        None => Vec::new(),
    };
    let detailed = |e: LayerEntry| match e {
        LayerEntry::Detailed(d) => Some(*d),
        LayerEntry::Brief(_) => None,
    };
    let found = file.layers.len();
    let layers: Vec<Detailed> = file.layers.into_iter().filter_map(detailed).collect();
    if layers.len() < found {
        return Err(EngineFileError::NamesOnly);
    }
    let nodes = node_types(model);
    let macs: HashMap<String, i64> = inspect::layers(model, &[])
        .into_iter()
        .filter_map(|l| Some((l.name, l.macs?.parse().ok()?)))
        .collect();
    let mut times = Times::new(times);
    let layers: Vec<EngineLayer> =
        layers.iter().map(|l| layer(l, &nodes, &macs, &mut times)).collect();
    Ok(summary(layers, &nodes))
}

/// Operators of all nodes by name.
fn node_types(model: &Model) -> BTreeMap<String, String> {
    let mut types = BTreeMap::new();
    for_each_graph(&model.graph, &mut |g| {
        for id in g.ops() {
            types.insert(g.short_name(id), g.op(id).full_type());
        }
    });
    types
}

/// Times by layer name; layers of one name take theirs in order.
struct Times {
    by_name: HashMap<String, Vec<f64>>,
    total: f64,
}

impl Times {
    fn new(entries: Vec<ProfileEntry>) -> Times {
        let mut by_name: HashMap<String, Vec<f64>> = HashMap::new();
        let mut total = 0.0;
        for e in entries.into_iter().rev() {
            if let (Some(name), Some(ms)) = (e.name, e.average_ms) {
                total += ms;
                by_name.entry(name).or_default().push(ms);
            }
        }
        Times { by_name, total }
    }

    fn take(&mut self, name: &str) -> Option<f64> {
        self.by_name.get_mut(name)?.pop()
    }
}

fn layer(
    l: &Detailed,
    nodes: &BTreeMap<String, String>,
    macs: &HashMap<String, i64>,
    times: &mut Times,
) -> EngineLayer {
    let mut names = named_nodes(&l.metadata);
    if names.is_empty() {
        // Older versions join the names of fused nodes in that of the layer.
        let parts = l.name.split(" + ").filter(|part| nodes.contains_key(*part));
        names = parts.map(str::to_owned).collect();
    }
    let average_ms = times.take(&l.name);
    let known: Vec<i64> = names.iter().filter_map(|n| macs.get(n).copied()).collect();
    let op = |name: String| {
        let op = nodes.get(&name).cloned().unwrap_or_else(|| "?".to_owned());
        (name, op)
    };
    EngineLayer {
        name: l.name.clone(),
        kind: l.layer_type.clone(),
        precision: precision(l),
        nodes: names.into_iter().map(op).collect(),
        macs: (!known.is_empty()).then(|| known.iter().sum()),
        average_ms,
        share: average_ms.filter(|_| times.total > 0.0).map(|ms| ms / times.total),
    }
}

/// Names in `[ONNX Layer: name]`, each once, in order. Names may hold brackets themselves.
fn named_nodes(metadata: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for part in metadata.split("[ONNX Layer: ").skip(1) {
        let Some((name, _)) = part.rsplit_once(']') else { continue };
        if !names.iter().any(|n| n == name) {
            names.push(name.to_owned());
        }
    }
    names
}

/// Spellings of types in formats.
const TYPES: [(&str, &str); 16] = [
    ("bf16", "bf16"),
    ("bfloat16", "bf16"),
    ("fp16", "fp16"),
    ("half", "fp16"),
    ("fp32", "fp32"),
    ("fp8", "fp8"),
    ("e4m3", "fp8"),
    ("fp4", "fp4"),
    ("e2m1", "fp4"),
    ("uint8", "uint8"),
    ("int8", "int8"),
    ("int4", "int4"),
    ("int32", "int32"),
    ("int64", "int64"),
    ("bool", "bool"),
    ("float", "fp32"),
];

fn precision(l: &Detailed) -> String {
    let of = |t: &Tensor| {
        let text = t.format.to_ascii_lowercase();
        TYPES.iter().find(|(spelling, _)| text.contains(spelling)).map(|(_, name)| *name)
    };
    let all: Vec<&str> = l.inputs.iter().chain(&l.outputs).filter_map(of).collect();
    let numbers = all.iter().find(|t| !["bool", "int32", "int64"].contains(t));
    numbers.or(all.first()).map_or("?".to_owned(), |t| (*t).to_owned())
}

fn summary(layers: Vec<EngineLayer>, nodes: &BTreeMap<String, String>) -> EngineReport {
    let mut precisions: BTreeMap<String, PrecisionShare> = BTreeMap::new();
    let mut named: BTreeSet<&str> = BTreeSet::new();
    for l in &layers {
        let entry = precisions.entry(l.precision.clone()).or_default();
        entry.layers += 1;
        if let Some(share) = l.share {
            *entry.share.get_or_insert(0.0) += share;
        }
        named.extend(l.nodes.iter().map(|n| n.0.as_str()));
    }
    let unnamed = nodes.iter().filter(|(n, op)| !named.contains(n.as_str()) && *op != "Constant");
    let unnamed_nodes = unnamed.map(|(n, _)| n.clone()).collect();
    let unknown = named.iter().filter(|n| !nodes.contains_key(**n));
    let unknown_nodes = unknown.map(|n| (*n).to_owned()).collect();
    EngineReport { layers, precisions, unnamed_nodes, unknown_nodes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::text;

    #[test]
    fn layers_are_joined_to_nodes_and_times() {
        let m = text::parse(
            "<ir_version: 9, opset_import: [\"\" : 17]>
            m (float[1,4] x) => (float[1,4] y)
            <float[4,4] w = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16}> {
                [fc] h = MatMul (x, w)
                [act] i = Relu (h)
                [lost] y = Identity (i)
            }",
        )
        .expect("the text parses");
        let layers = r#"{"Layers": [
            {"Name": "copy", "LayerType": "Reformat", "Metadata": "",
             "Inputs": [{"Name": "x", "Format/Datatype": "Row major linear FP32"}]},
            {"Name": "fused", "LayerType": "gemm",
             "Metadata": "[ONNX Layer: fc]\u001f[ONNX Layer: act]\u001e[ONNX Layer: gone]",
             "Inputs": [{"Name": "c", "Format/Datatype": "Thirty-two wide channel vectorized row major Int8 format"}]}
        ], "Bindings": ["x", "y"]}"#;
        let profile = r#"[{"count": 10},
            {"name": "copy", "timeMs": 10, "averageMs": 1, "medianMs": 1, "percentage": 25},
            {"name": "fused", "timeMs": 30, "averageMs": 3, "medianMs": 3, "percentage": 75}]"#;
        let r = read(&m, layers, Some(profile)).expect("reads");
        let fused = &r.layers[1];
        assert_eq!((&fused.precision[..], fused.share), ("int8", Some(0.75)));
        let node = |i: usize| (fused.nodes[i].0.as_str(), fused.nodes[i].1.as_str());
        assert_eq!((node(0), node(1)), (("fc", "MatMul"), ("act", "Relu")));
        assert_eq!((fused.macs, &r.unknown_nodes[..]), (Some(16), &["gone".to_owned()][..]));
        assert_eq!(r.unnamed_nodes, ["lost"]);
        assert_eq!(r.precisions["fp32"], PrecisionShare { layers: 1, share: Some(0.25) });
    }

    #[test]
    fn names_alone_say_too_little() {
        let names = r#"{"Layers": ["a", "b"], "Bindings": []}"#;
        let e = read(&Model::default(), names, None).expect_err("names only");
        assert!(e.to_string().contains("detailed"));
        assert!(read(&Model::default(), "[]", None).is_err());
    }
}
