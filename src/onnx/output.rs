//! Files that appear whole or not at all.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use tempfile::NamedTempFile;

use super::SaveError;

/// Where a path leads.
pub(super) enum Target {
    /// An ordinary file, there or not, links followed.
    File(PathBuf),
    /// A device or a pipe.
    Stream(PathBuf),
}

impl Target {
    /// # Errors
    /// When the path is that of a folder.
    pub(super) fn of(path: &Path) -> Result<Target, SaveError> {
        match path.metadata() {
            Ok(meta) if meta.is_dir() => {
                let source = io::ErrorKind::IsADirectory.into();
                Err(SaveError::Write { path: path.to_owned(), source })
            }
            Ok(meta) if !meta.is_file() => Ok(Target::Stream(path.to_owned())),
            Ok(_) if path.is_symlink() => {
                Ok(Target::File(path.canonicalize().unwrap_or_else(|_| path.to_owned())))
            }
            _ => Ok(Target::File(path.to_owned())),
        }
    }
}

/// A complete file that does not have its name yet.
pub(super) struct Pending {
    temp: NamedTempFile,
    path: PathBuf,
}

type Fill<'a> = &'a dyn Fn(&mut BufWriter<&mut File>) -> io::Result<()>;

fn folder(path: &Path) -> &Path {
    path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn temporary(path: &Path) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(".lapidary-");
    // Temporary files are private by default; a model is an ordinary file.
    #[cfg(unix)]
    builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666));
    builder.tempfile_in(folder(path))
}

/// Asks for all the room on the disk at once, which is cheaper than page by page. Where the system
/// cannot do it, writing does.
fn allocate(file: &File, len: usize) {
    const WORTH_ASKING: usize = 1 << 20;
    #[cfg(target_os = "linux")]
    if len >= WORTH_ASKING {
        use rustix::fs::{FallocateFlags, fallocate};
        let _ = fallocate(file, FallocateFlags::empty(), 0, len as u64);
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (file, len, WORTH_ASKING);
}

/// Writes straight into a device or a pipe.
pub(super) fn stream(path: &Path, fill: Fill) -> Result<(), SaveError> {
    let write = || {
        let mut file = File::options().write(true).open(path)?;
        let mut out = BufWriter::new(&mut file);
        fill(&mut out)?;
        out.flush()
    };
    write().map_err(|source| SaveError::Write { path: path.to_owned(), source })
}

/// Writes a file that appears whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), SaveError> {
    let fill = |out: &mut BufWriter<&mut File>| out.write_all(bytes);
    match Target::of(path)? {
        Target::File(path) => Pending::write(path, bytes.len(), &fill)?.finish(),
        Target::Stream(path) => stream(&path, &fill),
    }
}

impl Pending {
    /// Writes a file of `len` bytes for `path`, under another name in the same folder. It goes when
    /// it is dropped.
    pub(super) fn write(path: PathBuf, len: usize, fill: Fill) -> Result<Pending, SaveError> {
        let write = || {
            let mut temp = temporary(&path)?;
            allocate(temp.as_file(), len);
            let mut out = BufWriter::new(temp.as_file_mut());
            fill(&mut out)?;
            out.flush()?;
            drop(out);
            Ok(temp)
        };
        match write() {
            Ok(temp) => Ok(Pending { temp, path }),
            Err(source) => Err(SaveError::Write { path, source }),
        }
    }

    /// Gives the file its name, in the place of one that had it.
    pub(super) fn finish(self) -> Result<(), SaveError> {
        match self.temp.persist(&self.path) {
            Ok(_) => Ok(()),
            Err(e) => Err(SaveError::Write { path: self.path, source: e.error }),
        }
    }

    /// Gives two files that belong together their names. When the second cannot have its own, the
    /// first is taken back.
    pub(super) fn finish_both(first: Pending, second: Pending) -> Result<(), SaveError> {
        let path = first.path.clone();
        let fail = |source| SaveError::Write { path: path.clone(), source };
        let old = if path.exists() {
            let aside = temporary(&path).map_err(fail)?.into_temp_path();
            std::fs::rename(&path, &aside).map_err(fail)?;
            Some(aside)
        } else {
            None
        };
        let result = first.finish().and_then(|()| second.finish());
        if result.is_err() {
            // Best effort: the error to report is the first one.
            _ = match old {
                Some(aside) => std::fs::rename(&aside, &path),
                None => std::fs::remove_file(&path),
            };
        }
        result
    }
}
