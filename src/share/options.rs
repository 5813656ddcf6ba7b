//! What the user may choose.

use serde::{Deserialize, Serialize};

/// What has a codebook of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Per {
    /// Each weight.
    #[default]
    Tensor,
    /// Each output channel.
    Channel,
    /// Every few output channels.
    Group,
}

/// Where k-means begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Init {
    /// Equal steps from the smallest to the largest element.
    Linear,
    /// Equal counts of elements between the values.
    Density,
    /// Elements at random, far ones likelier (Arthur and Vassilvitskii, 2007).
    #[default]
    #[value(name = "kmeans++")]
    #[serde(rename = "kmeans++")]
    PlusPlus,
}

/// Options of weight sharing.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
#[command(next_help_heading = "Share")]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ShareOptions {
    /// Bits of an index: a codebook has 2^BITS values
    #[arg(long, value_name = "BITS", default_value_t = 6)]
    pub bits: u32,
    /// What has a codebook of its own
    #[arg(long, value_enum, default_value_t = Per::Tensor)]
    pub per: Per,
    /// Output channels that share a codebook, with --per group
    #[arg(long, value_name = "N", default_value_t = 16)]
    pub group_size: usize,
    /// Where k-means begins
    #[arg(long, value_enum, default_value_t = Init::PlusPlus)]
    pub init: Init,
    /// Weigh the error of an element by the mean square of what it is multiplied with
    #[arg(long)]
    pub weighted: bool,
    /// Write plain weights, which compress well, instead of codebooks and indices
    #[arg(long)]
    pub values_only: bool,
    /// Two indices in a byte where they have at most 4 bits; needs opset 21
    #[arg(long, conflicts_with = "values_only")]
    pub pack: bool,
    /// Leave weights with fewer elements alone
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub min_size: usize,
    /// Share only weights whose name or layer matches one of these globs
    #[arg(id = "share-include", long = "include", value_name = "GLOB")]
    pub include: Vec<String>,
    /// Leave weights alone whose name or layer matches one of these globs
    #[arg(id = "share-exclude", long = "exclude", value_name = "GLOB")]
    pub exclude: Vec<String>,
    /// Seed of the start 'kmeans++'
    #[arg(id = "share-seed", long = "share-seed", value_name = "N", default_value_t = 0)]
    pub seed: u64,
}

impl Default for ShareOptions {
    fn default() -> ShareOptions {
        ShareOptions {
            bits: 6,
            per: Per::Tensor,
            group_size: 16,
            init: Init::PlusPlus,
            weighted: false,
            values_only: false,
            pack: false,
            min_size: 1024,
            include: Vec::new(),
            exclude: Vec::new(),
            seed: 0,
        }
    }
}
