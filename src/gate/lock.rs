//! `lapidary.lock`: measured numbers to commit, which later runs measure growth against.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{GateError, Measures};

/// Name of the file.
pub const LOCK: &str = "lapidary.lock";

/// Numbers of models by their paths.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Lock {
    /// Version of the format.
    version: u32,
    /// Models by their path, relative to the folder of the file, with `/` on all systems.
    #[serde(default)]
    pub model: BTreeMap<String, Measures>,
}

const VERSION: u32 = 1;

impl Default for Lock {
    fn default() -> Lock {
        Lock { version: VERSION, model: BTreeMap::new() }
    }
}

impl Lock {
    /// Reads the file; `None` when there is none.
    ///
    /// # Errors
    /// When it cannot be read, or was written by a newer version.
    pub fn read(path: &Path) -> Result<Option<Lock>, GateError> {
        let text = match std::fs::read_to_string(path) {
            Ok(text) => text,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(GateError::Read { path: path.to_owned(), source }),
        };
        let fail = |what: String| GateError::Config { path: path.to_owned(), what };
        let lock: Lock = toml::from_str(&text).map_err(|e| fail(e.to_string()))?;
        match lock.version {
            VERSION => Ok(Some(lock)),
            v => Err(fail(format!("is of version {v}, but this program reads version {VERSION}"))),
        }
    }

    /// Writes the file, in the place of one that is there.
    ///
    /// # Errors
    /// When that fails; an old file stays as it is then.
    pub fn write(&self, path: &Path) -> Result<(), GateError> {
        let fail = |what: String| GateError::Config { path: path.to_owned(), what };
        let text = toml::to_string(self).map_err(|e| fail(e.to_string()))?;
        let head =
            "# Written by `lapidary gate --update`. Commit it: growth is measured against it.\n";
        write_whole(path, &format!("{head}{text}")).map_err(|e| fail(e.to_string()))
    }
}

/// Writes a file under another name and renames it.
pub(crate) fn write_whole(path: &Path, text: &str) -> std::io::Result<()> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let mut builder = tempfile::Builder::new();
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o644));
    let mut file = builder.tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.persist(path).map(|_| ()).map_err(|e| e.error)
}
