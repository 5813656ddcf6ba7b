//! What a model is compared with: another file, the file at a git revision, or the lock.

use std::fs::File;
use std::path::{Component, Path, PathBuf};
use std::process::{Command, Stdio};
use std::str::FromStr;

use super::{GateError, Lock, Measures, measure};
use crate::ir::Model;
use crate::onnx;

/// Where the baseline comes from.
#[derive(Clone, Debug, PartialEq)]
pub enum BaselineSpec {
    /// The numbers in a lock file, if there is one.
    Lock,
    /// A model.
    File(PathBuf),
    /// The same path at a git revision.
    Git(String),
}

impl FromStr for BaselineSpec {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<BaselineSpec, Self::Err> {
        Ok(match text.strip_prefix("git:") {
            Some(revision) => BaselineSpec::Git(revision.to_owned()),
            None => BaselineSpec::File(PathBuf::from(text)),
        })
    }
}

/// What a model is compared with.
pub enum Baseline {
    /// Nothing: there is no baseline.
    None,
    /// There is a baseline, but it lacks this model.
    New,
    /// Numbers.
    Numbers(Measures),
    /// A whole model.
    Model(Box<Old>),
}

/// A model of the baseline.
pub struct Old {
    /// The model.
    pub model: Model,
    /// What it takes.
    pub measures: Measures,
}

impl Baseline {
    /// What the baseline takes.
    pub fn measures(&self) -> Option<&Measures> {
        match self {
            Baseline::None | Baseline::New => None,
            Baseline::Numbers(m) => Some(m),
            Baseline::Model(old) => Some(&old.measures),
        }
    }

    /// Finds the baseline of the model in `path`, which the lock knows as `name`.
    ///
    /// # Errors
    /// When the revision or file cannot be read.
    pub fn find(
        spec: &BaselineSpec,
        path: &Path,
        name: &str,
        lock: Option<&Lock>,
        dims: &[(String, i64)],
        compress: bool,
    ) -> Result<Baseline, GateError> {
        match spec {
            BaselineSpec::Lock => Ok(match lock.map(|l| l.model.get(name)) {
                None => Baseline::None,
                Some(None) => Baseline::New,
                Some(Some(measures)) => Baseline::Numbers(measures.clone()),
            }),
            BaselineSpec::File(old) => open(old, dims, compress),
            BaselineSpec::Git(revision) => {
                let folder = tempfile::tempdir()
                    .map_err(|e| GateError::Git(format!("no temporary folder: {e}")))?;
                match checkout(revision, path, folder.path())? {
                    Some(old) => open(&old, dims, compress),
                    None => Ok(Baseline::New),
                }
            }
        }
    }
}

fn open(path: &Path, dims: &[(String, i64)], compress: bool) -> Result<Baseline, GateError> {
    let model = onnx::load(path).map_err(|e| GateError::model(path, e))?;
    let measures = measure(&model, path, dims, compress)?;
    Ok(Baseline::Model(Box::new(Old { model, measures })))
}

/// Writes the model of a revision and its external data into `to`; `None` when the revision does not
/// have it. Filters run, so that files in Git LFS come out whole.
fn checkout(revision: &str, path: &Path, to: &Path) -> Result<Option<PathBuf>, GateError> {
    let absolute = std::path::absolute(path)
        .map_err(|source| GateError::Read { path: path.to_owned(), source })?;
    let folder = absolute.parent().unwrap_or(Path::new("/"));
    if revision.is_empty() || revision.starts_with('-') {
        return Err(GateError::Git(format!("{revision:?} is no git revision")));
    }
    let mut known =
        git(folder, &["rev-parse", "--quiet", "--verify", &format!("{revision}^{{commit}}")]);
    if !known.output().map_err(no_git)?.status.success() {
        return Err(GateError::Git(format!(
            "git does not know the revision {revision:?} here; in a shallow clone, fetch it first \
             (actions/checkout: fetch-depth: 0)"
        )));
    }
    let name = absolute.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let target = to.join(&name);
    if !extract(revision, folder, &name, &target)? {
        return Ok(None);
    }
    let external = onnx::external_files(&target).map_err(|e| GateError::model(path, e))?;
    for location in external {
        // Anything but a plain path inside the folder is refused when the model is read.
        if Path::new(&location).components().all(|c| matches!(c, Component::Normal(_))) {
            let file = to.join(&location);
            let parent = file.parent().unwrap_or(to);
            std::fs::create_dir_all(parent)
                .map_err(|source| GateError::Read { path: parent.to_owned(), source })?;
            extract(revision, folder, &location, &file)?;
        }
    }
    Ok(Some(target))
}

fn git(folder: &Path, args: &[&str]) -> Command {
    let mut command = Command::new("git");
    command.arg("-C").arg(folder).args(args).stdin(Stdio::null());
    command
}

fn no_git(e: std::io::Error) -> GateError {
    GateError::Git(format!("cannot run git: {e}"))
}

/// Writes a file of a revision; false when the revision does not have it.
fn extract(revision: &str, folder: &Path, name: &str, to: &Path) -> Result<bool, GateError> {
    let object = format!("{revision}:./{name}");
    if !git(folder, &["cat-file", "-e", &object]).output().map_err(no_git)?.status.success() {
        return Ok(false);
    }
    let file =
        File::create(to).map_err(|source| GateError::Read { path: to.to_owned(), source })?;
    let mut command = git(folder, &["cat-file", "--filters", &object]);
    let done =
        command.stdout(file).stderr(Stdio::piped()).spawn().and_then(|c| c.wait_with_output());
    let done = done.map_err(no_git)?;
    if !done.status.success() {
        let why = String::from_utf8_lossy(&done.stderr).trim().to_owned();
        return Err(GateError::Git(format!("git cannot show {object}: {why}")));
    }
    Ok(true)
}
