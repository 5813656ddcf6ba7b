//! Engines run graphs: for constant folding, calibration, verification and recovery.

mod feeds;
mod fold;
#[cfg(feature = "ort")]
mod ort;
mod run;
mod tract;

use std::sync::Arc;

pub use feeds::{InputSpec, list as list_inputs, match_feeds};
pub use fold::eval_op;
#[cfg(feature = "ort")]
pub use ort::OrtEngine;
pub use run::{Observer, Progress, RunError, all_cores, for_each_sample, run_all};
pub use tract::TractEngine;

use crate::ir::{Model, Tensor};

/// Named inputs of one run.
pub type Feeds = Vec<(String, Tensor)>;

/// Why an engine cannot run a model.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The engine does not support the model.
    #[error("{engine} cannot run the model{}: {what}{}", at(.node), way_out(.hint))]
    Unsupported {
        /// Name of the engine.
        engine: &'static str,
        /// Label of the node it fails at, when it says.
        node: Option<String>,
        /// What it says.
        what: String,
        /// The way out.
        hint: Option<&'static str>,
    },
    /// A run failed.
    #[error("{engine} failed{}: {what}", at(.node))]
    Run {
        /// Name of the engine.
        engine: &'static str,
        /// Label of the node it fails at, when it says.
        node: Option<String>,
        /// What it says.
        what: String,
    },
    /// The input is missing, or not of the type or shape that the model takes.
    #[error("input {name:?}: {what}")]
    Input {
        /// Name of the input.
        name: String,
        /// What is wrong.
        what: String,
    },
    /// The engine itself is not there.
    #[error("{0}")]
    Missing(String),
}

fn at(node: &Option<String>) -> String {
    node.as_ref().map(|n| format!(" at node {n}")).unwrap_or_default()
}

fn way_out(hint: &Option<&'static str>) -> String {
    hint.map(|h| format!("; {h}")).unwrap_or_default()
}

/// The engine with this name: `tract` or `ort`.
///
/// # Errors
/// When there is none, or ONNX Runtime is not part of this build or not on this machine.
pub fn by_name(name: &str) -> Result<Arc<dyn Engine>, EngineError> {
    match name {
        "tract" => Ok(Arc::new(TractEngine)),
        #[cfg(feature = "ort")]
        "ort" => Ok(Arc::new(OrtEngine::new()?)),
        #[cfg(not(feature = "ort"))]
        "ort" => Err(EngineError::Missing(
            "this build has no ONNX Runtime; `cargo install lapidary --features ort` makes one that \
             loads it from ORT_DYLIB_PATH"
                .to_owned(),
        )),
        _ => Err(EngineError::Missing(format!("no engine is called {name:?}; there are tract, ort"))),
    }
}

/// Something that runs models.
pub trait Engine: Send + Sync {
    /// Its name on the command line.
    fn name(&self) -> &'static str;

    /// Prepares a model for many runs. `taps` names values of the main graph (as in
    /// [`Value::name`](crate::ir::Value::name)) to hand out besides the outputs.
    ///
    /// # Errors
    /// When the engine cannot run the model.
    fn prepare(&self, model: &Model, taps: &[String]) -> Result<Arc<dyn Session>, EngineError>;
}

/// A model that is ready to run; runs may overlap.
pub trait Session: Send + Sync {
    /// Runs once. Outputs come back in order; `observe` gets each tapped value under its index in
    /// `taps`, as soon as it is there where the engine can do that.
    ///
    /// # Errors
    /// When an input is missing or does not fit, or the run fails.
    fn run(
        &self,
        feeds: &Feeds,
        observe: &mut dyn FnMut(usize, Tensor),
    ) -> Result<Vec<Tensor>, EngineError>;
}
