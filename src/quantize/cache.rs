//! Ranges of activations in files: our own JSON, TensorRT's calibration cache, or the Q/DQ of another
//! model.
//!
//! TensorRT's cache has one line for each tensor, `name: 3c010a14`, the float32 bits of `amax / 127`
//! in hexadecimal, behind a line such as `TRT-8601-EntropyCalibration2`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::inverse::strip;
use crate::onnx;

/// Why ranges cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CacheError {
    /// The file cannot be read or written.
    #[error("{path}: {source}")]
    File {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: std::io::Error,
    },
    /// It is none of the formats.
    #[error("{path}: {what}")]
    Format {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The model cannot be loaded.
    #[error(transparent)]
    Model(#[from] onnx::LoadError),
}

/// The JSON form.
#[derive(Serialize, Deserialize)]
struct File {
    format: String,
    version: u32,
    /// Largest magnitude that is not clipped, by the name of the tensor.
    ranges: BTreeMap<String, f32>,
}

const FORMAT: &str = "lapidary-ranges";

/// Reads ranges by tensor name from a file of any of the formats.
///
/// # Errors
/// When the file cannot be read or is none of them.
pub fn read(path: &Path) -> Result<BTreeMap<String, f32>, CacheError> {
    let format = |what: String| CacheError::Format { path: path.to_owned(), what };
    let kind = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
    if ["onnx", "onnxtxt", "textproto", "pbtxt"].contains(&kind) {
        let mut m = onnx::load(path)?;
        let found = strip(&mut m).ranges;
        return Ok(found
            .into_iter()
            .map(|(v, a)| (m.graph.value(v).name().to_owned(), a))
            .collect());
    }
    let text = std::fs::read_to_string(path)
        .map_err(|source| CacheError::File { path: path.to_owned(), source })?;
    if text.starts_with("TRT-") {
        return tensorrt(&text).map_err(format);
    }
    let file: File = serde_json::from_str(&text).map_err(|e| format(e.to_string()))?;
    match (file.format.as_str(), file.version) {
        (FORMAT, 1) => Ok(file.ranges),
        (f, v) => Err(format(format!("unknown format {f:?} version {v}"))),
    }
}

fn tensorrt(text: &str) -> Result<BTreeMap<String, f32>, String> {
    let mut ranges = BTreeMap::new();
    for (i, line) in text.lines().enumerate().skip(1).filter(|(_, l)| !l.trim().is_empty()) {
        let bad = || format!("line {}: no `name: scale` in hexadecimal", i + 1);
        let (name, hex) = line.rsplit_once(':').ok_or_else(bad)?;
        let bits = u32::from_str_radix(hex.trim(), 16).map_err(|_| bad())?;
        let amax = f32::from_bits(bits) * 127.0;
        if !(amax.is_finite() && amax >= 0.0) {
            return Err(bad());
        }
        ranges.insert(name.trim().to_owned(), amax);
    }
    Ok(ranges)
}

/// The text of a file with these ranges: JSON where its name ends so, else TensorRT's cache.
pub fn render(path: &Path, ranges: &BTreeMap<String, f32>) -> String {
    if path.extension().is_some_and(|e| e.eq_ignore_ascii_case("json")) {
        let file = File { format: FORMAT.into(), version: 1, ranges: ranges.clone() };
        return serde_json::to_string_pretty(&file).unwrap_or_default() + "\n";
    }
    let lines = ranges.iter().map(|(n, a)| format!("{n}: {:08x}\n", (a / 127.0).to_bits()));
    std::iter::once("TRT-8601-EntropyCalibration2\n".to_owned()).chain(lines).collect()
}

/// Writes ranges; the file appears whole or not at all.
///
/// # Errors
/// When it cannot be written.
pub fn write(path: &Path, ranges: &BTreeMap<String, f32>) -> Result<(), CacheError> {
    let fail = |source| CacheError::File { path: path.to_owned(), source };
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let file = tempfile::NamedTempFile::new_in(folder).map_err(fail)?;
    std::fs::write(file.path(), render(path, ranges)).map_err(fail)?;
    file.persist(path).map_err(|e| fail(e.error))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_formats_keep_the_ranges() {
        let folder = tempfile::tempdir().expect("folder");
        let ranges = BTreeMap::from([("a:0".to_owned(), 1.27f32), ("b".to_owned(), 254.0)]);
        for name in ["r.json", "r.cache"] {
            let path = folder.path().join(name);
            write(&path, &ranges).expect("written");
            let got = read(&path).expect("read");
            assert!(got.iter().zip(&ranges).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < 1e-4));
        }
        let text = render(&folder.path().join("x.cache"), &ranges);
        assert!(text.contains("a:0: 3c23d70a\n") && text.contains("b: 40000000\n"), "{text}");
    }

    #[test]
    fn other_files_are_refused() {
        let folder = tempfile::tempdir().expect("folder");
        for text in [
            "",
            "{}",
            "TRT-1-X\nname",
            "TRT-1-X\na: zz",
            "{\"format\":\"x\",\"version\":1,\"ranges\":{}}",
        ] {
            let path = folder.path().join("r.cache");
            std::fs::write(&path, text).expect("written");
            assert!(read(&path).is_err(), "{text}");
        }
        assert!(read(&folder.path().join("none.json")).is_err());
    }
}
