//! How much each channel matters.

mod activations;
mod elimination;
mod weights;

use serde::{Deserialize, Serialize};

use super::groups::{Class, Groups};
use super::{PruneError, PruneOptions};
use crate::ir::Graph;

pub(super) use activations::Moments;
pub(in crate::prune) use weights::channel_norms;

/// How channels are ranked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Importance {
    /// Sum of the magnitudes of the weights that make a channel.
    L1,
    /// Root of the sum of their squares.
    #[default]
    L2,
    /// Largest magnitude.
    Linf,
    /// Magnitude of the scale of the batch normalization that follows; L2 where none does.
    BnScale,
    /// Square of the L2 norm over the sum of the squares that are no smaller (LAMP, arXiv
    /// 2010.07611): comparable from layer to layer.
    Lamp,
    /// Sum of the distances to the layer's other channels (geometric median, arXiv 1811.00250).
    Fpgm,
    /// Mean magnitude of the activation, from the data.
    MeanActivation,
    /// Variance of the activation, from the data.
    ActivationVariance,
    /// Squares of the weights that read a channel times the mean square of the channel: the diagonal
    /// of the Hessian of the layers' errors (OBD), from the data.
    Hessian,
    /// How much the layers that read the channel err without it, once their other weights make up
    /// for it as well as they can: channels go one by one (OBS), from the data.
    Reconstruction,
    /// By chance.
    Random,
}

/// How the scores of the weights that make one channel become one score.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aggregate {
    /// Their mean.
    #[default]
    Mean,
    /// Their sum.
    Sum,
    /// The largest.
    Max,
    /// That of the first layer.
    First,
}

/// What the scores of one layer are divided by before they meet others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Normalize {
    /// Their mean.
    #[default]
    Mean,
    /// Their sum.
    Sum,
    /// The largest.
    Max,
    /// Nothing.
    None,
}

impl Importance {
    /// It looks at activations.
    pub fn needs_data(self) -> bool {
        matches!(
            self,
            Importance::MeanActivation
                | Importance::ActivationVariance
                | Importance::Hessian
                | Importance::Reconstruction
        )
    }
}

impl Aggregate {
    fn of(self, scores: &[f64]) -> f64 {
        match self {
            Aggregate::Sum => scores.iter().sum(),
            Aggregate::Mean => scores.iter().sum::<f64>() / scores.len().max(1) as f64,
            Aggregate::Max => scores.iter().copied().fold(0.0, f64::max),
            Aggregate::First => scores.first().copied().unwrap_or(0.0),
        }
    }
}

impl Normalize {
    fn apply(self, scores: &mut [f64]) {
        let sum: f64 = scores.iter().sum();
        let by = match self {
            Normalize::None => 1.0,
            Normalize::Sum => sum,
            Normalize::Mean => sum / scores.len().max(1) as f64,
            Normalize::Max => scores.iter().copied().fold(0.0, f64::max),
        };
        if by > 0.0 {
            scores.iter_mut().for_each(|s| *s /= by);
        }
    }
}

/// For each class its score; classes of groups that are pinned score 0.
///
/// # Errors
/// When a weight is not a float tensor or holds NaN, or data are needed and missing.
pub(super) fn scores(
    g: &Graph,
    groups: &Groups,
    o: &PruneOptions,
    moments: Option<&Moments>,
) -> Result<Vec<f64>, PruneError> {
    let kind = o.importance();
    if kind == Importance::Random {
        let mut rng = fastrand::Rng::with_seed(o.seed);
        return Ok((0..groups.class_count).map(|_| rng.f64()).collect());
    }
    if !kind.needs_data() {
        return weights::scores(g, groups, kind, o);
    }
    // Where no weight reads a channel, the weights that make it speak for it.
    let mut out = weights::scores(g, groups, Importance::L2, o)?;
    let moments = moments.ok_or(PruneError::ImportanceData)?;
    let found = match kind {
        Importance::Reconstruction => elimination::scores(g, groups, moments),
        _ => activations::scores(g, groups, moments, kind, o),
    };
    for (class, score) in found {
        out[class as usize] = score;
    }
    Ok(out)
}

/// Classes of a group and where they are along one lane: for each class the indices.
fn atoms(groups: &Groups, k: u32, classes: &[Class]) -> Vec<(Class, Vec<usize>)> {
    let mut out: Vec<(Class, Vec<usize>)> = Vec::new();
    let mut at = std::collections::HashMap::new();
    for (i, &c) in classes.iter().enumerate() {
        if groups.group_of[c as usize] == k {
            let slot = *at.entry(c).or_insert_with(|| {
                out.push((c, Vec::new()));
                out.len() - 1
            });
            out[slot].1.push(i);
        }
    }
    out
}
