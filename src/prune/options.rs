//! What the user may choose.

use serde::{Deserialize, Serialize};

use super::importance::{Aggregate, Importance, Normalize};
use crate::recover::Recover;
use crate::verify::Metric;

/// What goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Whole channels.
    #[default]
    Channels,
    /// Single weights, which become zero.
    Unstructured,
    /// Two of every four weights, for TensorRT's sparse tensor cores.
    #[value(name = "2:4")]
    #[serde(rename = "2:4")]
    TwoFour,
}

/// A ratio for the layers that match a pattern: `PATTERN=RATIO`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LayerRatio {
    /// Glob over names of nodes and weights.
    pub pattern: String,
    /// Share of the channels to remove.
    pub ratio: f64,
}

impl std::str::FromStr for LayerRatio {
    type Err = String;

    fn from_str(s: &str) -> Result<LayerRatio, String> {
        let (pattern, ratio) = s.rsplit_once('=').ok_or("expected PATTERN=RATIO")?;
        let ratio: f64 = ratio.trim().parse().map_err(|e| format!("ratio {ratio:?}: {e}"))?;
        Ok(LayerRatio { pattern: pattern.trim().to_owned(), ratio })
    }
}

impl TryFrom<String> for LayerRatio {
    type Error = String;

    fn try_from(s: String) -> Result<LayerRatio, String> {
        s.parse()
    }
}

impl From<LayerRatio> for String {
    fn from(l: LayerRatio) -> String {
        format!("{}={}", l.pattern, l.ratio)
    }
}

/// Options of channel pruning.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
#[command(next_help_heading = "Prune")]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct PruneOptions {
    /// What goes
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = Mode::Channels)]
    pub mode: Mode,
    /// Share of the channels or weights to remove
    #[arg(long, alias = "amount", default_value_t = 0.3, value_name = "RATIO")]
    #[serde(alias = "amount")]
    pub ratio: f64,
    /// Rank the channels of all layers together instead of layer by layer
    #[arg(long)]
    pub global: bool,
    /// Rank the channels of layers that look alike together
    #[arg(long, conflicts_with = "global")]
    pub isomorphic: bool,
    /// How channels are ranked [default: reconstruction with --data, else l2]
    #[arg(long, alias = "norm", value_enum, value_name = "HOW")]
    #[serde(alias = "norm")]
    pub importance: Option<Importance>,
    /// How the scores of the layers that make a channel become one
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Aggregate::Mean)]
    pub aggregate: Aggregate,
    /// What the scores of a layer are divided by
    #[arg(long, value_enum, value_name = "WHAT", default_value_t = Normalize::Mean)]
    pub normalize: Normalize,
    /// Leave at most this share of the multiply-accumulates; the ratio is searched for
    #[arg(long, value_name = "SHARE", group = "prune-target", conflicts_with = "ratio")]
    pub target_macs: Option<f64>,
    /// Leave at most this share of the parameters
    #[arg(long, value_name = "SHARE", group = "prune-target", conflicts_with = "ratio")]
    pub target_params: Option<f64>,
    /// Leave at most this share of the bytes of all weights
    #[arg(long, value_name = "SHARE", group = "prune-target", conflicts_with = "ratio")]
    pub target_bytes: Option<f64>,
    /// Leave at most this share of the time that a run takes in the engine
    #[arg(long, value_name = "SHARE", group = "prune-target", conflicts_with = "ratio")]
    pub target_latency: Option<f64>,
    /// Also cut channels that a normalization takes statistics over, as the width of a transformer:
    /// what stays is no longer exactly what it was
    #[arg(long)]
    pub approximate: bool,
    /// Prune in N steps, each followed by recovery
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub iterations: usize,
    /// Keep a multiple of N channels, rounding up
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub round_to: usize,
    /// Prune only layers whose name or weight matches one of these globs
    #[arg(id = "prune-include", long = "include", value_name = "GLOB")]
    pub include: Vec<String>,
    /// Leave layers alone whose name or weight matches one of these globs
    #[arg(id = "prune-exclude", long = "exclude", value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// A ratio of their own for layers that match, as 'layer1.*=0.5'; the last match counts
    #[arg(long = "layer", value_name = "GLOB=RATIO")]
    #[serde(rename = "layer")]
    pub layers: Vec<LayerRatio>,
    /// Never remove more than this share of a layer
    #[arg(long, default_value_t = 1.0, value_name = "RATIO")]
    pub max_ratio: f64,
    /// For 2:4, leave the channels in their order
    #[arg(long)]
    pub no_permute: bool,
    /// For single weights, keep the fewest layers whole that let the metric drop by at most X on
    /// calibration samples
    #[arg(long, value_name = "X")]
    pub max_drop: Option<f64>,
    /// What --max-drop is about
    #[arg(long, value_enum, default_value_t = Metric::Sqnr)]
    pub metric: Metric,
    /// How accuracy is won back, without labels or training [default: with --data
    /// reconstruct, or affine above ten million parameters]
    #[arg(long, value_enum, value_name = "HOW")]
    pub recover: Option<Recover>,
    /// Seed of the importance 'random'
    #[arg(id = "prune-seed", long = "prune-seed", value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

impl Default for PruneOptions {
    fn default() -> PruneOptions {
        PruneOptions {
            mode: Mode::Channels,
            ratio: 0.3,
            global: false,
            isomorphic: false,
            importance: None,
            aggregate: Aggregate::Mean,
            normalize: Normalize::Mean,
            target_macs: None,
            target_params: None,
            target_bytes: None,
            target_latency: None,
            approximate: false,
            iterations: 1,
            round_to: 1,
            include: Vec::new(),
            exclude: Vec::new(),
            layers: Vec::new(),
            max_ratio: 1.0,
            recover: None,
            no_permute: false,
            max_drop: None,
            metric: Metric::Sqnr,
            seed: 0,
        }
    }
}

impl PruneOptions {
    /// How channels are ranked.
    pub(super) fn importance(&self) -> Importance {
        self.importance.unwrap_or_default()
    }

    /// Single weights go by chance, not by magnitude.
    pub(super) fn by_chance(&self) -> bool {
        self.importance == Some(Importance::Random)
    }

    /// The goal that the ratio is searched for, if there is one.
    pub(super) fn target(&self) -> Option<(Measure, f64)> {
        let goals = [
            (Measure::Macs, self.target_macs),
            (Measure::Params, self.target_params),
            (Measure::Bytes, self.target_bytes),
            (Measure::Latency, self.target_latency),
        ];
        goals.into_iter().find_map(|(m, share)| Some((m, share?)))
    }
}

/// What pruning makes smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Measure {
    /// Multiply-accumulates of a run.
    Macs,
    /// Elements of float weights.
    Params,
    /// Bytes of all weights.
    Bytes,
    /// Time of a run.
    Latency,
}
