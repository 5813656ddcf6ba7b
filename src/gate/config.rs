//! `lapidary.toml`: budgets for every model, and for those whose path matches a pattern.
//!
//! ```toml
//! [gate]                       # for every model
//! baseline = "git:origin/main" # what growth is measured against; else lapidary.lock
//! params = "+2%"
//! forbid-domains = ["com.microsoft"]
//!
//! [[gate.model]]               # for these on top
//! path = "models/mobile/*.onnx"
//! file-bytes = ["10MB", "+1%"]
//! ```

use std::path::{Path, PathBuf};

use globset::{GlobBuilder, GlobMatcher};
use serde::Deserialize;
use toml::{Table, Value};

use super::{Budgets, GateError};
use crate::data::DataOptions;

/// Name of the file.
pub const CONFIG: &str = "lapidary.toml";

/// Budgets from a file.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The folder that paths and patterns are relative to.
    pub folder: PathBuf,
    /// What growth is measured against.
    pub baseline: Option<String>,
    /// What runs models.
    pub engine: Option<String>,
    /// Samples.
    pub data: Option<DataOptions>,
    common: Table,
    models: Vec<(GlobMatcher, Table)>,
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read or says something that is not understood.
    pub fn read(path: &Path) -> Result<Config, GateError> {
        let fail = |what: String| GateError::Config { path: path.to_owned(), what };
        let text = std::fs::read_to_string(path).map_err(|e| fail(e.to_string()))?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut config = parse(&text).map_err(fail)?;
        config.folder = folder.to_owned();
        if let Some(data) = &mut config.data {
            data.resolve_paths(folder);
        }
        Ok(config)
    }

    /// The nearest configuration file in `folder` or above it.
    pub fn find(folder: &Path) -> Option<PathBuf> {
        let folder = folder.canonicalize().ok()?;
        folder.ancestors().map(|f| f.join(CONFIG)).find(|f| f.is_file())
    }

    /// The budgets of a model, by its path relative to the folder of the file: those for every
    /// model, then those of each matching entry, then `over`; later ones win.
    ///
    /// # Errors
    /// When a budget has no meaning.
    pub fn budgets(&self, path: &str, over: &Budgets) -> Result<Budgets, GateError> {
        let mut table = self.common.clone();
        for (_, entry) in self.models.iter().filter(|(glob, _)| glob.is_match(path)) {
            table.extend(entry.clone());
        }
        table.extend(Table::try_from(over).map_err(|e| GateError::Budget(e.to_string()))?);
        table.try_into().map_err(|e: toml::de::Error| GateError::Budget(e.message().to_owned()))
    }

    /// Paths, relative to the folder of the file, of all models that some entry names, sorted.
    /// Hidden folders and those called `target` or `node_modules` are not searched.
    pub fn models(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        if !self.models.is_empty() {
            self.walk(&self.folder, Path::new(""), &mut found);
        }
        found.sort();
        found
    }

    fn walk(&self, folder: &Path, relative: &Path, found: &mut Vec<PathBuf>) {
        let Ok(entries) = std::fs::read_dir(folder) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let path = relative.join(&name);
            let Ok(kind) = entry.file_type() else { continue };
            let skipped = name.to_string_lossy().starts_with('.')
                || ["target", "node_modules"].iter().any(|skip| name == *skip);
            if kind.is_dir() && !skipped {
                self.walk(&entry.path(), &path, found);
            } else if kind.is_file() && self.models.iter().any(|(glob, _)| glob.is_match(&path)) {
                found.push(path);
            }
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    gate: Table,
}

fn parse(text: &str) -> Result<Config, String> {
    let File { gate: mut common } = toml::from_str(text).map_err(|e| e.to_string())?;
    let mut config = Config::default();
    if let Some(value) = common.remove("baseline") {
        config.baseline = Some(value.try_into().map_err(|_| "baseline is no text".to_owned())?);
    }
    if let Some(value) = common.remove("engine") {
        config.engine = Some(value.try_into().map_err(|_| "engine is no text".to_owned())?);
    }
    if let Some(value) = common.remove("data") {
        config.data = Some(value.try_into().map_err(|e| format!("gate.data: {}", e.message()))?);
    }
    let entries = match common.remove("model") {
        Some(Value::Array(entries)) => entries,
        Some(_) => return Err("gate.model is no list: write [[gate.model]]".to_owned()),
        None => Vec::new(),
    };
    for entry in entries {
        let Value::Table(mut entry) = entry else {
            return Err("gate.model is no list of tables: write [[gate.model]]".to_owned());
        };
        let Some(Value::String(pattern)) = entry.remove("path") else {
            return Err("an entry of [[gate.model]] has no path".to_owned());
        };
        let glob = GlobBuilder::new(&pattern).literal_separator(true).build();
        check(&entry).map_err(|e| format!("[[gate.model]] {pattern:?}: {e}"))?;
        config.models.push((glob.map_err(|e| e.to_string())?.compile_matcher(), entry));
    }
    check(&common).map_err(|e| format!("[gate]: {e}"))?;
    config.common = common;
    Ok(config)
}

fn check(table: &Table) -> Result<(), String> {
    let read: Result<Budgets, toml::de::Error> = table.clone().try_into();
    read.map(|_| ()).map_err(|e| e.message().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_and_flags_override() {
        let config = parse(
            "[gate]\nparams = \"+2%\"\nnodes = 100\nbaseline = \"git:main\"\n\
             [[gate.model]]\npath = \"a/*.onnx\"\nnodes = [10, \"+1%\"]\n",
        )
        .expect("parses");
        assert_eq!(config.baseline.as_deref(), Some("git:main"));
        let over = Budgets { max_opset: Some(17), ..Budgets::default() };
        let show = |path: &str| {
            let b = config.budgets(path, &over).expect("budgets");
            let nodes: Vec<String> = b.nodes.iter().map(ToString::to_string).collect();
            (nodes.join(" "), b.params[0].to_string(), b.max_opset)
        };
        assert_eq!(show("a/m.onnx"), ("10 +1%".to_owned(), "+2%".to_owned(), Some(17)));
        assert_eq!(show("a/b/m.onnx").0, "100");
    }

    #[test]
    fn mistakes_are_named() {
        let error = |text: &str| parse(text).expect_err("a mistake");
        assert!(error("[gate]\nparms = 1").contains("parms"));
        assert!(error("[gate]\nparams = \"2%\"").contains("no limit"));
        assert!(error("[gaet]\nparams = 1").contains("gaet"));
        assert!(error("[[gate.model]]\nparams = 1").contains("no path"));
        assert!(error("[[gate.model]]\npath = \"*\"\nparms = 1").contains("parms"));
    }
}
