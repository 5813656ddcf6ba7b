//! What the user may choose.

use serde::{Deserialize, Serialize};

/// How channels are ranked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Norm {
    /// Sum of the magnitudes of the weights that make a channel.
    L1,
    /// Root of the sum of their squares.
    #[default]
    L2,
    /// Largest magnitude.
    Linf,
    /// By chance.
    Random,
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
    /// Share of the channels to remove
    #[arg(long, default_value_t = 0.3, value_name = "RATIO")]
    pub ratio: f64,
    /// Rank the channels of all layers together instead of layer by layer
    #[arg(long)]
    pub global: bool,
    /// How channels are ranked
    #[arg(long, value_enum, default_value_t = Norm::L2)]
    pub norm: Norm,
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
    /// Seed of the norm 'random'
    #[arg(id = "prune-seed", long = "prune-seed", value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

impl Default for PruneOptions {
    fn default() -> PruneOptions {
        PruneOptions {
            ratio: 0.3,
            global: false,
            norm: Norm::L2,
            round_to: 1,
            include: Vec::new(),
            exclude: Vec::new(),
            layers: Vec::new(),
            max_ratio: 1.0,
            seed: 0,
        }
    }
}
