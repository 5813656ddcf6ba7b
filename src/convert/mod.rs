//! Conversion of a model to what another program wants: the version of the operator set.

mod opset;

use serde::{Deserialize, Serialize};

pub use opset::{OpsetError, Rewritten, convert_opset, ir_version, raise_opset};

use crate::ir::Model;

/// Options of the step `convert`.
#[derive(Clone, Debug, Default, PartialEq, clap::Args, Serialize, Deserialize)]
#[command(next_help_heading = "Convert")]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct ConvertOptions {
    /// Convert to this version of the default operator set, up or down; the IR version follows
    #[arg(long, value_name = "VERSION")]
    pub opset: Option<i64>,
}

/// What the step `convert` did.
#[derive(Clone, Debug, Serialize)]
pub struct ConvertReport {
    /// Version of the default operator set before and after.
    pub opset: (i64, i64),
    /// IR version before and after.
    pub ir_version: (i64, i64),
    /// Operators that were rewritten.
    pub rewritten: Vec<Rewritten>,
}

/// Converts a model.
///
/// # Errors
/// When an operator cannot say the same in the version wanted; the model then stays as it was.
pub fn convert(m: &mut Model, o: &ConvertOptions) -> Result<ConvertReport, OpsetError> {
    let before = (m.default_opset(), m.ir_version);
    let rewritten = match o.opset {
        Some(to) => convert_opset(m, to)?,
        None => Vec::new(),
    };
    Ok(ConvertReport {
        opset: (before.0, m.default_opset()),
        ir_version: (before.1, m.ir_version),
        rewritten,
    })
}
