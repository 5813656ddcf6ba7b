//! The budgets of a model: flags of `lapidary gate`, and keys in `lapidary.toml`.

use serde::{Deserialize, Serialize};

use super::limit::{Limit, one_or_many};

/// Limits and rules that a model must keep. Sizes take `k`, `M`, `G` (and `Ki`, `Mi`, `Gi`); `+2%`
/// and `+10k` mean growth over the baseline.
#[derive(Clone, Debug, Default, PartialEq, clap::Args, Serialize, Deserialize)]
#[command(next_help_heading = "Budgets (a limit such as 25.6M, or +2% over the baseline)")]
#[serde(rename_all = "kebab-case", default, deny_unknown_fields)]
pub struct Budgets {
    /// Bytes of the file, external data included
    #[arg(long, value_name = "LIMIT", allow_hyphen_values = true)]
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub file_bytes: Vec<Limit>,
    /// Bytes of the file compressed by gzip, as a server sends it
    #[arg(long, value_name = "LIMIT", allow_hyphen_values = true)]
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub download_bytes: Vec<Limit>,
    /// Elements of weights
    #[arg(long, value_name = "LIMIT", allow_hyphen_values = true)]
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub params: Vec<Limit>,
    /// Multiply-accumulates of one run
    #[arg(long, value_name = "LIMIT", allow_hyphen_values = true)]
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub macs: Vec<Limit>,
    /// Number of nodes
    #[arg(long, value_name = "LIMIT", allow_hyphen_values = true)]
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<Limit>,
    /// Bytes of activations that are alive at once
    #[arg(long, value_name = "LIMIT", allow_hyphen_values = true)]
    #[serde(deserialize_with = "one_or_many", skip_serializing_if = "Vec::is_empty")]
    pub peak_activations: Vec<Limit>,
    /// Newest operator set of the default domain
    #[arg(long, value_name = "VERSION")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_opset: Option<i64>,
    /// Only these operators, as patterns: Conv, com.microsoft::*
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_ops: Vec<String>,
    /// None of these operators
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forbid_ops: Vec<String>,
    /// Only operators of these domains; ai.onnx is the default one
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_domains: Vec<String>,
    /// No operators of these domains
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forbid_domains: Vec<String>,
    /// Only values of these element types: float, float16, int8, int64, …
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub allow_dtypes: Vec<String>,
    /// No values of these element types
    #[arg(long, value_name = "PATTERN", value_delimiter = ',')]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub forbid_dtypes: Vec<String>,
    /// What must take the model: tensorrt, tensorrt-10, tensorrt-8.6 or onnxruntime-cpu
    #[arg(long, value_name = "TARGET")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Time of a run over that of the baseline model, such as 1.1
    #[arg(long, value_name = "RATIO")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<f64>,
    /// Least signal-to-difference ratio to the outputs of the baseline model
    #[arg(long, value_name = "DB")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_sqnr: Option<f64>,
    /// Least share of samples with the same largest class as in the baseline model
    #[arg(long, value_name = "PERCENT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_agreement: Option<f64>,
    /// Least top-1 accuracy on the labelled data
    #[arg(long, value_name = "PERCENT")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_accuracy: Option<f64>,
    /// Most that top-1 accuracy may fall below the baseline model's
    #[arg(long, value_name = "POINTS")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy_drop: Option<f64>,
}

/// Something that is measured and limited by numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Metric {
    FileBytes,
    DownloadBytes,
    Params,
    Macs,
    Nodes,
    PeakActivations,
}

impl Metric {
    /// All metrics in the order of reports.
    pub const ALL: [Metric; 6] = [
        Metric::FileBytes,
        Metric::DownloadBytes,
        Metric::Params,
        Metric::Macs,
        Metric::Nodes,
        Metric::PeakActivations,
    ];

    /// Its key and flag.
    pub fn name(self) -> &'static str {
        match self {
            Metric::FileBytes => "file-bytes",
            Metric::DownloadBytes => "download-bytes",
            Metric::Params => "params",
            Metric::Macs => "macs",
            Metric::Nodes => "nodes",
            Metric::PeakActivations => "peak-activations",
        }
    }

    /// It counts bytes.
    pub fn is_bytes(self) -> bool {
        matches!(self, Metric::FileBytes | Metric::DownloadBytes | Metric::PeakActivations)
    }
}

impl Budgets {
    /// The limits on a metric.
    pub fn limits(&self, metric: Metric) -> &[Limit] {
        match metric {
            Metric::FileBytes => &self.file_bytes,
            Metric::DownloadBytes => &self.download_bytes,
            Metric::Params => &self.params,
            Metric::Macs => &self.macs,
            Metric::Nodes => &self.nodes,
            Metric::PeakActivations => &self.peak_activations,
        }
    }

    /// Some budget compares outputs or times with a baseline model.
    pub fn runs_baseline(&self) -> bool {
        self.latency.is_some()
            || self.min_sqnr.is_some()
            || self.min_agreement.is_some()
            || self.accuracy_drop.is_some()
    }

    /// Some limit is growth over a baseline.
    pub fn is_relative(&self) -> bool {
        Metric::ALL.iter().any(|m| self.limits(*m).iter().any(Limit::is_relative))
    }
}
