//! Folders of images.

use std::path::{Path, PathBuf};

use super::DataError;
use super::preprocess::Preprocess;
use crate::ir::Tensor;

const EXTENSIONS: [&str; 4] = ["jpg", "jpeg", "png", "bmp"];

/// The images in a folder, sorted by name; where it has only subfolders, theirs, with the index of
/// the subfolder as label.
pub(super) fn list(folder: &Path) -> Result<(Vec<PathBuf>, Option<Vec<i64>>), DataError> {
    let (files, folders) = entries(folder)?;
    if !files.is_empty() {
        return Ok((files, None));
    }
    let (mut all, mut labels) = (Vec::new(), Vec::new());
    for (class, sub) in folders.iter().enumerate() {
        let files = entries(sub)?.0;
        labels.extend(files.iter().map(|_| class as i64));
        all.extend(files);
    }
    match all.is_empty() {
        true => Err(DataError::NoImages { path: folder.to_owned() }),
        false => Ok((all, Some(labels))),
    }
}

/// Image files and subfolders of a folder, each sorted.
fn entries(folder: &Path) -> Result<(Vec<PathBuf>, Vec<PathBuf>), DataError> {
    let fail = |source| DataError::Read { path: folder.to_owned(), source };
    let (mut files, mut folders) = (Vec::new(), Vec::new());
    for entry in std::fs::read_dir(folder).map_err(fail)? {
        let path = entry.map_err(fail)?.path();
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        if path.is_dir() {
            folders.push(path);
        } else if EXTENSIONS.iter().any(|e| e.eq_ignore_ascii_case(extension)) {
            files.push(path);
        }
    }
    files.sort();
    folders.sort();
    Ok((files, folders))
}

/// Decodes and prepares one image.
pub(super) fn read(path: &Path, prepare: &Preprocess) -> Result<Tensor, DataError> {
    let fail = |what: String| DataError::Image { path: path.to_owned(), what };
    let read = |source| DataError::Read { path: path.to_owned(), source };
    // By content: files with the wrong ending are common.
    let reader = image::ImageReader::open(path).map_err(read)?;
    let reader = reader.with_guessed_format().map_err(read)?;
    let image = reader.decode().map_err(|e| fail(e.to_string()))?;
    prepare.image(image).ok_or_else(|| fail("the model takes no image".to_owned()))
}
