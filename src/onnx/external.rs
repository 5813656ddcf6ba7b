//! Weights in files beside the model, confined to the model's own folder.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use memmap2::Mmap;
use sha1::{Digest, Sha1};

use super::load::read_proto;
use super::{LoadError, pb};

/// Data files of one model, each mapped when a tensor first refers to it. Mapping reads nothing.
pub(super) struct ExternalFiles {
    folder: Option<PathBuf>,
    maps: HashMap<String, Bytes>,
}

/// The pairs in `TensorProto.external_data`.
struct Place<'a> {
    location: &'a str,
    offset: usize,
    length: Option<usize>,
    checksum: Option<&'a str>,
}

impl ExternalFiles {
    pub(super) fn in_folder(folder: Option<&Path>) -> ExternalFiles {
        ExternalFiles { folder: folder.map(Path::to_owned), maps: HashMap::new() }
    }

    /// The bytes of a tensor whose data is external; `want` is what its dims need.
    pub(super) fn bytes(
        &mut self,
        t: &pb::TensorProto,
        want: Option<usize>,
    ) -> Result<Bytes, LoadError> {
        let fail = |what: String| LoadError::External { name: t.name().to_owned(), what };
        let place = Place::parse(t).map_err(fail)?;
        let file = self.file(&place).map_err(fail)?;
        let length =
            place.length.or(want).unwrap_or_else(|| file.len().saturating_sub(place.offset));
        let end = place.offset.checked_add(length).filter(|&end| end <= file.len());
        let Some(end) = end else {
            return Err(fail(format!(
                "{} holds {} bytes, but bytes {} to {} are asked for; the file is truncated or \
                 belongs to another model",
                place.location,
                file.len(),
                place.offset,
                place.offset.saturating_add(length),
            )));
        };
        Ok(file.slice(place.offset..end))
    }

    fn file(&mut self, place: &Place) -> Result<Bytes, String> {
        if let Some(map) = self.maps.get(place.location) {
            return Ok(map.clone());
        }
        let folder = self.folder.as_deref().ok_or("the model has no folder to look in")?;
        let path = confined(folder, place.location)?;
        let map = map_file(&path).map_err(|e| format!("cannot read {}: {e}", path.display()))?;
        if let Some(sum) = place.checksum {
            let found: String = Sha1::digest(&map).iter().map(|b| format!("{b:02x}")).collect();
            if !found.eq_ignore_ascii_case(sum) {
                return Err(format!("{} has SHA1 {found}, not {sum}", path.display()));
            }
        }
        self.maps.insert(place.location.to_owned(), map.clone());
        Ok(map)
    }
}

/// Locations of all data files that the model in `path` refers to, each once, in order; none of them
/// is opened.
///
/// # Errors
/// When the file is no valid ONNX model.
pub fn external_files(path: &Path) -> Result<Vec<String>, LoadError> {
    let model = read_proto(path)?;
    let mut found = Vec::new();
    model.graph.iter().for_each(|g| graph_locations(g, &mut found));
    model.functions.iter().for_each(|f| node_locations(&f.node, &mut found));
    Ok(found)
}

fn graph_locations(g: &pb::GraphProto, found: &mut Vec<String>) {
    g.initializer.iter().for_each(|t| location(t, found));
    node_locations(&g.node, found);
}

fn node_locations(nodes: &[pb::NodeProto], found: &mut Vec<String>) {
    for a in nodes.iter().flat_map(|n| &n.attribute) {
        a.t.as_deref().into_iter().chain(&a.tensors).for_each(|t| location(t, found));
        a.g.as_deref().into_iter().chain(&a.graphs).for_each(|g| graph_locations(g, found));
    }
}

fn location(t: &pb::TensorProto, found: &mut Vec<String>) {
    let at = t.external_data.iter().find(|e| e.key() == "location").map(|e| e.value());
    if let Some(at) = at.filter(|at| !found.iter().any(|f| f == at)) {
        found.push(at.to_owned());
    }
}

impl<'a> Place<'a> {
    fn parse(t: &'a pb::TensorProto) -> Result<Place<'a>, String> {
        let get = |key: &str| t.external_data.iter().find(|e| e.key() == key).map(|e| e.value());
        let number = |key: &str| match get(key) {
            None => Ok(None),
            Some(text) => {
                text.trim().parse().map(Some).map_err(|_| format!("{key} {text:?} is no size"))
            }
        };
        Ok(Place {
            location: get("location").ok_or("no location is given")?,
            offset: number("offset")?.unwrap_or(0),
            length: number("length")?,
            checksum: get("checksum").filter(|s| !s.is_empty()),
        })
    }
}

/// The file at `location` in `folder`, if it really lies there: no absolute path, no `..`, no
/// symbolic link that leads out, no hard link that may be a file elsewhere.
fn confined(folder: &Path, location: &str) -> Result<PathBuf, String> {
    let relative = Path::new(location);
    let plain =
        relative.components().all(|c| matches!(c, Component::Normal(_) | Component::CurDir));
    if location.is_empty() || location.contains(['\\', '\0']) || !plain {
        return Err(format!("location {location:?} is not a plain path inside the model's folder"));
    }
    let folder = folder.canonicalize().map_err(|e| format!("{}: {e}", folder.display()))?;
    let path = folder.join(relative);
    let real = path
        .canonicalize()
        .map_err(|e| format!("{} is missing ({e}); copy it beside the model", path.display()))?;
    if !real.starts_with(&folder) {
        return Err(format!(
            "{} is a link to {}, outside the model's folder; copy the file there instead",
            path.display(),
            real.display()
        ));
    }
    let meta = real.metadata().map_err(|e| format!("{}: {e}", real.display()))?;
    if !meta.is_file() {
        return Err(format!("{} is not a regular file", real.display()));
    }
    #[cfg(unix)]
    if std::os::unix::fs::MetadataExt::nlink(&meta) > 1 {
        return Err(format!(
            "{} is a hard link and may be a file elsewhere; copy it instead",
            real.display()
        ));
    }
    Ok(real)
}

/// Maps a file without reading it. As long as a map lives, mapping the same file again gives the
/// same bytes at the same place, so that tensors of two models that share a file are seen to be the
/// same.
pub(crate) fn map_file(path: &Path) -> io::Result<Bytes> {
    let file = File::open(path)?;
    let meta = file.metadata()?;
    if !meta.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    if meta.len() == 0 {
        return Ok(Bytes::new());
    }
    let key = identity(&meta);
    let mut maps = MAPS.lock().unwrap_or_else(PoisonError::into_inner);
    maps.retain(|(_, map)| map.strong_count() > 0);
    let known = maps.iter().find(|(k, _)| key.is_some() && *k == key).and_then(|m| m.1.upgrade());
    let map = match known {
        Some(map) => map,
        None => {
            // SAFETY: a map is unsound only if the file shrinks or changes while it lives. Lapidary
            // never writes to a file in place (it renames a finished one over it); that others do
            // not is the contract of every tool that maps models.
            let map = unsafe { Mmap::map(&file)? };
            let map = Arc::new(MappedFile { map, file: Mutex::new(file) });
            maps.push((key, Arc::downgrade(&map)));
            map
        }
    };
    Ok(Bytes::from_owner(Shared(map)))
}

/// Device, inode, size and time of change of a file; `None` where the system has no such thing.
type Identity = Option<(u64, u64, u64, (i64, i64))>;

/// Maps that may still be alive.
static MAPS: Mutex<Vec<(Identity, Weak<MappedFile>)>> = Mutex::new(Vec::new());

/// A file in memory.
pub(super) struct MappedFile {
    map: Mmap,
    /// Locked while its position matters.
    file: Mutex<File>,
}

impl MappedFile {
    /// The file that the bytes lie in, and where; `None` when they come from no file.
    pub(super) fn of(bytes: &Bytes) -> Option<(Arc<MappedFile>, usize)> {
        let maps = MAPS.lock().unwrap_or_else(PoisonError::into_inner);
        maps.iter().filter_map(|(_, map)| map.upgrade()).find_map(|map| {
            let start = (bytes.as_ptr() as usize).checked_sub(map.map.as_ptr() as usize)?;
            let inside = start.checked_add(bytes.len())? <= map.map.len();
            inside.then_some((map, start))
        })
    }

    /// The whole file.
    pub(super) fn bytes(&self) -> &[u8] {
        &self.map
    }

    /// Copies a part of the file to the end of another, inside the system where it can do that.
    pub(super) fn copy_to(&self, start: u64, len: usize, out: &mut impl Write) -> io::Result<()> {
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(start))?;
        let copied = io::copy(&mut Read::take(&mut *file, len as u64), out)?;
        if copied == len as u64 { Ok(()) } else { Err(io::ErrorKind::UnexpectedEof.into()) }
    }
}

struct Shared(Arc<MappedFile>);

impl AsRef<[u8]> for Shared {
    fn as_ref(&self) -> &[u8] {
        &self.0.map
    }
}

#[cfg(unix)]
fn identity(meta: &std::fs::Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    Some((meta.dev(), meta.ino(), meta.len(), (meta.mtime(), meta.mtime_nsec())))
}

#[cfg(not(unix))]
fn identity(_: &std::fs::Metadata) -> Identity {
    None
}
