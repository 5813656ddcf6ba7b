//! The numbers of a model that budgets limit.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde::{Deserialize, Serialize};

use super::{GateError, Metric};
use crate::ir::{Graph, Model, OpId, for_each_graph};
use crate::onnx;
use crate::report::inspect;
use crate::report::liveness::liveness;

/// What a model takes, as far as it was measured.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Measures {
    /// Bytes of the file and its external data.
    pub file_bytes: u64,
    /// The same after gzip.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub download_bytes: Option<u64>,
    /// Elements of weights.
    pub params: u64,
    /// Multiply-accumulates of one run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macs: Option<i64>,
    /// Number of nodes.
    pub nodes: u64,
    /// Bytes of activations that are alive at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_activations: Option<u64>,
    /// How often each operator occurs.
    pub ops: BTreeMap<String, u64>,
    /// Ops that have weights.
    pub layer: Vec<LayerCost>,
    /// The largest activations at the peak.
    pub alive: BTreeMap<String, u64>,
}

/// What one op takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LayerCost {
    /// Node name, else the name of its result.
    pub name: String,
    /// Operator.
    pub op: String,
    /// Elements of its weights.
    pub params: u64,
    /// Multiply-accumulates.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub macs: Option<i64>,
    /// Bytes of its weights.
    pub bytes: u64,
}

impl Measures {
    /// The value of a metric, if it is known.
    pub fn value(&self, metric: Metric) -> Option<f64> {
        match metric {
            Metric::FileBytes => Some(self.file_bytes as f64),
            Metric::DownloadBytes => self.download_bytes.map(|n| n as f64),
            Metric::Params => Some(self.params as f64),
            Metric::Macs => self.macs.map(|n| n as f64),
            Metric::Nodes => Some(self.nodes as f64),
            Metric::PeakActivations => self.peak_activations.map(|n| n as f64),
        }
    }
}

/// Activations at the peak that are remembered.
const ALIVE: usize = 8;

/// Measures a model that was read from `path`. Only `compress` reads the weights.
///
/// # Errors
/// When its files cannot be read.
pub fn measure(
    model: &Model,
    path: &Path,
    dims: &[(String, i64)],
    compress: bool,
) -> Result<Measures, GateError> {
    let files = files(path)?;
    let fail = |source| GateError::Read { path: path.to_owned(), source };
    let mut file_bytes = 0;
    for file in &files {
        file_bytes += file.metadata().map_err(fail)?.len();
    }
    let summary = inspect::summarize(model, dims);
    let live = liveness(model, dims);
    let alive = live.iter().flat_map(|l| &l.alive).take(ALIVE);
    let bytes = bytes_by_layer(&model.graph);
    let layer = |l: inspect::Layer| LayerCost {
        bytes: bytes.get(&l.name).copied().unwrap_or(0),
        params: l.params as u64,
        macs: l.macs.and_then(|m| m.parse().ok()),
        name: l.name,
        op: l.op,
    };
    Ok(Measures {
        file_bytes,
        download_bytes: if compress { Some(compressed(&files).map_err(fail)?) } else { None },
        params: summary.params as u64,
        // A sum that leaves something out is no sum.
        macs: summary.macs.filter(|_| summary.macs_unknown_ops == 0),
        nodes: summary.nodes as u64,
        peak_activations: live.as_ref().map(|l| l.peak_bytes as u64),
        ops: summary.ops.iter().map(|o| (o.op.clone(), o.count as u64)).collect(),
        layer: inspect::layers(model, dims).into_iter().map(layer).collect(),
        alive: alive.map(|a| (a.name.clone(), a.bytes as u64)).collect(),
    })
}

/// The model's file and its external data.
fn files(path: &Path) -> Result<Vec<PathBuf>, GateError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let external = onnx::external_files(path).map_err(|e| GateError::model(path, e))?;
    let external = external.into_iter().map(|f| folder.join(f));
    Ok(std::iter::once(path.to_owned()).chain(external).collect())
}

/// Bytes of the files after gzip at its usual level, 6.
fn compressed(files: &[PathBuf]) -> io::Result<u64> {
    struct Count(u64);
    impl Write for Count {
        fn write(&mut self, buf: &[u8]) -> io::Result<usize> {
            self.0 += buf.len() as u64;
            Ok(buf.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut sum = 0;
    for file in files {
        let mut encoder = GzEncoder::new(Count(0), Compression::default());
        io::copy(&mut File::open(file)?, &mut encoder)?;
        sum += encoder.finish()?.0;
    }
    Ok(sum)
}

/// Bytes of constants by the op that reads them, by its name or that of its result. What only
/// prepares constants, as DequantizeLinear on weights, counts for the op behind it.
fn bytes_by_layer(graph: &Graph) -> BTreeMap<String, u64> {
    let mut bytes: BTreeMap<String, u64> = BTreeMap::new();
    for_each_graph(graph, &mut |g| {
        for op in g.order() {
            let own: usize = g
                .operands(op)
                .into_iter()
                .flatten()
                .filter_map(|v| g.const_tensor(v))
                .map(|t| t.byte_len())
                .sum();
            if own > 0 {
                *bytes.entry(g.short_name(layer_behind(g, op))).or_default() += own as u64;
            }
        }
    });
    bytes
}

fn layer_behind(g: &Graph, mut op: OpId) -> OpId {
    loop {
        let prepares = g.reads(op).all(|v| {
            g.is_const(v) || g.producer(v).is_some_and(|p| g.reads(p.0).all(|v| g.is_const(v)))
        });
        let next = g.result(op, 0).and_then(|v| g.sole_use(v)).filter(|_| prepares);
        match next {
            Some((reader, _)) => op = reader,
            None => return op,
        }
    }
}
