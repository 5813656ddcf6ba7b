//! Recipes: lists of steps over one model. Every command that changes a model is a recipe.

mod checks;
mod run;

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

pub use run::{Done, Progress, Report, SimplifyReport, StepReport, input_sizes, run};

use crate::convert::{ConvertOptions, OpsetError};
use crate::data::{self, DataOptions};
use crate::engine::EngineError;
use crate::pass::{Cx, Limits, PassError, Selection};
use crate::precision::{PrecisionError, PrecisionOptions};
use crate::prune::{self, PruneOptions};
use crate::quantize::{self, Profile, QuantizeOptions};
use crate::share::{ShareError, ShareOptions};
use crate::surgery::{EditOptions, ExtractOptions, SurgeryError};
use crate::target::ParseVersionError;

/// Steps and what they need; written by hand as TOML or built from flags.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct Recipe {
    /// What to do, in order.
    pub step: Vec<Step>,
    /// Samples for calibration and verification.
    pub data: DataOptions,
    /// Labelled samples, to measure the accuracy of original and result.
    pub evaluate: Option<DataOptions>,
    /// Which engine runs models.
    pub engine: String,
    /// How original and result are compared.
    pub verify: VerifyOptions,
    /// The TensorRT version that the result is for.
    pub tensorrt: String,
    /// Report why patterns did not fire, and what was decided for each op.
    pub explain: bool,
}

/// One step of a recipe.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Step {
    /// Choose outputs, fix or open dims, give names.
    Edit(EditOptions),
    /// Cut a part out.
    Extract(ExtractOptions),
    /// Take to another version of the operator set.
    Convert(ConvertOptions),
    /// Simplify.
    Simplify(SimplifyOptions),
    /// Remove channels.
    Prune(PruneOptions),
    /// Calibrate and insert Q/DQ.
    Quantize(QuantizeOptions),
    /// Compute in 16-bit floats.
    Precision(PrecisionOptions),
    /// Let weights share values.
    Share(ShareOptions),
}

impl Step {
    /// The name, as recipes write it.
    pub fn name(&self) -> &'static str {
        match self {
            Step::Edit(_) => "edit",
            Step::Extract(_) => "extract",
            Step::Convert(_) => "convert",
            Step::Simplify(_) => "simplify",
            Step::Prune(_) => "prune",
            Step::Quantize(_) => "quantize",
            Step::Precision(_) => "precision",
            Step::Share(_) => "share",
        }
    }

    /// What the step does to outputs that have the same name before and after.
    pub(super) fn effect(&self) -> Effect {
        match self {
            Step::Edit(_) | Step::Extract(_) => Effect::Interface,
            Step::Convert(_) | Step::Simplify(_) => Effect::Exact,
            Step::Prune(_) | Step::Quantize(_) | Step::Precision(_) | Step::Share(_) => {
                Effect::Lossy
            }
        }
    }
}

/// What a step does to a model, as far as comparing it with the original goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    /// Inputs and outputs may be others from here on: the original is edited alike, and what
    /// follows is compared with that.
    Interface,
    /// The numbers stay the same.
    Exact,
    /// The numbers change.
    Lossy,
}

/// Options of the step `simplify`.
#[derive(Clone, Debug, Default, clap::Args, Serialize, Deserialize)]
#[command(next_help_heading = "Simplify")]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct SimplifyOptions {
    /// Run only these passes
    #[arg(long, value_delimiter = ',', value_name = "PASS")]
    pub only: Vec<String>,
    /// Run these passes, too, which else wait to be asked for: freeze-inputs, inline-functions
    #[arg(long, value_delimiter = ',', value_name = "PASS")]
    pub enable: Vec<String>,
    /// Leave these passes out
    #[arg(long, value_delimiter = ',', value_name = "PASS")]
    pub disable: Vec<String>,
    /// Folding a constant may add at most this many bytes to the file
    #[arg(long, value_name = "BYTES")]
    pub fold_limit: Option<usize>,
    /// Stop after this many edits, to find the one that goes wrong
    #[arg(long, value_name = "N")]
    pub stop_after: Option<usize>,
}

impl SimplifyOptions {
    /// The state of a run with these options.
    ///
    /// # Errors
    /// When a name is no pass.
    pub fn cx(&self) -> Result<Cx, PassError> {
        Ok(Cx {
            limits: Limits { fold_growth: self.fold_limit },
            selection: Selection::new(&self.only, &self.enable, &self.disable)?,
            stop_after: self.stop_after,
            ..Cx::default()
        })
    }
}

/// How original and result are compared.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct VerifyOptions {
    /// Do not run original and result against each other
    #[arg(id = "no-verify", long = "no-verify")]
    pub skip: bool,
    /// Number of samples to compare on
    #[arg(id = "verify-samples", long = "verify-samples", default_value_t = 1, value_name = "N")]
    pub samples: usize,
}

impl Default for VerifyOptions {
    fn default() -> VerifyOptions {
        VerifyOptions { skip: false, samples: 1 }
    }
}

impl Default for Recipe {
    fn default() -> Recipe {
        Recipe {
            step: Vec::new(),
            data: DataOptions::default(),
            evaluate: None,
            engine: "tract".to_owned(),
            verify: VerifyOptions::default(),
            tensorrt: "11".to_owned(),
            explain: false,
        }
    }
}

/// Why a recipe failed. Nothing has been written then.
#[derive(Debug, thiserror::Error)]
pub enum RecipeError {
    /// The recipe file cannot be read.
    #[error("cannot read recipe {path}: {what}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What is wrong, with the line.
        what: String,
    },
    /// A step other than quantization failed.
    #[error(transparent)]
    Pass(#[from] PassError),
    /// Weights could not be shared.
    #[error(transparent)]
    Share(#[from] ShareError),
    /// The model cannot be edited that way.
    #[error(transparent)]
    Surgery(#[from] SurgeryError),
    /// The model cannot be taken to the version of the operator set.
    #[error(transparent)]
    Convert(#[from] OpsetError),
    /// Pruning failed.
    #[error(transparent)]
    Prune(#[from] prune::PruneError),
    /// Quantization failed.
    #[error(transparent)]
    Quantize(#[from] quantize::QuantizeError),
    /// Conversion to 16-bit floats failed.
    #[error(transparent)]
    Precision(#[from] PrecisionError),
    /// The engine is missing or cannot run the model.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The data cannot be read or do not fit the model.
    #[error(transparent)]
    Data(#[from] data::DataError),
    /// Quantization needs samples.
    #[error(
        "quantization needs calibration data: give --data PATH, or, for a trial without any \
         accuracy, --random N"
    )]
    NoData,
    /// The TensorRT version cannot be understood.
    #[error(transparent)]
    Version(#[from] ParseVersionError),
    /// A step that keeps the numbers changed them.
    #[error(
        "{step} must not change what the model computes, but the outputs differ: {why}. Nothing \
         was written. Please report this with the model; --no-verify writes the result all the same"
    )]
    Disagrees {
        /// The step.
        step: &'static str,
        /// How much, and where.
        why: String,
    },
    /// A size was given to a dim that the model does not have.
    #[error(transparent)]
    Dim(#[from] crate::report::inspect::StrayDim),
    /// The accuracy cannot be measured.
    #[error(transparent)]
    Evaluate(#[from] crate::evaluate::EvaluateError),
}

impl Recipe {
    /// Samples were given, real or random.
    fn has_data(&self) -> bool {
        !self.data.data.is_empty() || self.data.random.is_some()
    }

    /// A step quantizes for a DLA.
    pub fn is_for_dla(&self) -> bool {
        let for_dla =
            |s: &Step| matches!(s, Step::Quantize(o) if o.profile == Profile::TensorrtDla);
        self.step.iter().any(for_dla)
    }

    /// Reads a recipe file. Paths in it are relative to its folder.
    ///
    /// # Errors
    /// When it cannot be read or does not parse; the message names the line and the key.
    pub fn read(path: &Path) -> Result<Recipe, RecipeError> {
        let fail = |what: String| RecipeError::Read { path: path.to_owned(), what };
        let text = std::fs::read_to_string(path).map_err(|e| fail(e.to_string()))?;
        let mut recipe: Recipe = toml::from_str(&text).map_err(|e| fail(e.to_string()))?;
        let folder = path.parent().unwrap_or(Path::new("."));
        recipe.data.resolve_paths(folder);
        if let Some(evaluate) = &mut recipe.evaluate {
            evaluate.resolve_paths(folder);
        }
        Ok(recipe)
    }
}
