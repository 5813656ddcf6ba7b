//! What a check finds, and how it is written down.

use serde::Serialize;

/// How bad a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The user should know.
    Note,
    /// It may fail, or give something else than is meant.
    Warning,
    /// The target rejects the model or reads it wrongly.
    Error,
}

impl Severity {
    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Note => "note",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }
}

/// Something in a model that a target rejects, or reads differently.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Finding {
    /// Id of the rule.
    pub id: &'static str,
    /// How bad it is.
    pub severity: Severity,
    /// Label of the node, or what else in the model is concerned.
    pub node: String,
    /// What is wrong.
    pub why: String,
    /// What to do about it.
    pub fix: &'static str,
    /// The arguments of `lapidary` that do it, `MODEL` standing for the file.
    pub command: Option<&'static str>,
}

impl Finding {
    /// An error that no command repairs.
    pub fn error(
        id: &'static str,
        node: impl Into<String>,
        why: impl Into<String>,
        fix: &'static str,
    ) -> Finding {
        let (node, why) = (node.into(), why.into());
        Finding { id, severity: Severity::Error, node, why, fix, command: None }
    }

    /// The same of another severity.
    pub fn rated(self, severity: Severity) -> Finding {
        Finding { severity, ..self }
    }

    /// The same with the command that repairs it.
    pub fn repaired_by(self, command: &'static str) -> Finding {
        Finding { command: Some(command), ..self }
    }
}
