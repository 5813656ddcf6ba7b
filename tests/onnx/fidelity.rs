//! Loading and saving loses nothing.

use std::path::{Path, PathBuf};

use lapidary::ir::Model;
use lapidary::onnx::{self, LoadError, SaveOptions};

/// Writes under `name` and reads that again.
fn through(model: &Model, folder: &Path, name: &str) -> (Vec<u8>, Model) {
    let path = folder.join(name);
    onnx::save(model, &path, SaveOptions::default()).expect("saved");
    let bytes = std::fs::read(&path).expect("written");
    (bytes, onnx::load(&path).unwrap_or_else(|e| panic!("{name}: {e}")))
}

/// `everything.textproto` fills every field of every message, except segments, which are refused,
/// and external data, which loading resolves.
#[test]
fn every_field_survives_in_every_format() {
    let source = Path::new("fixtures/onnx/everything.textproto");
    let text = std::fs::read_to_string(source).expect("fixture");
    let model = onnx::load(source).expect("valid");
    let dir = tempfile::tempdir().expect("folder");
    let (binary, model) = through(&model, dir.path(), "a.onnx");
    let (_, model) = through(&model, dir.path(), "b.json");
    let (again, model) = through(&model, dir.path(), "c.onnx");
    assert!(binary == again, "the binary files differ");
    let (last, _) = through(&model, dir.path(), "d.textproto");
    assert_eq!(String::from_utf8(last).expect("UTF-8"), text);
}

fn models_in(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).expect("folder").flatten() {
            match entry.path() {
                p if p.is_dir() => folders.push(p),
                p if p.extension().is_some_and(|e| e == "onnx") => found.push(p),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

/// Models without external data come back byte for byte.
fn assert_same_bytes(folder: &Path) {
    for path in models_in(folder) {
        let shown = path.display();
        let model = match onnx::load(&path) {
            Ok(model) => model,
            Err(e) => panic!("{shown}: {e}"),
        };
        if !onnx::external_files(&path).expect("readable").is_empty() {
            continue;
        }
        let (bytes, _) = onnx::to_bytes(&model).expect("saved");
        let original = std::fs::read(&path).expect("readable");
        assert!(bytes == original, "{shown} changes");
    }
}

#[test]
fn fixtures_come_back_byte_for_byte() {
    assert_same_bytes(Path::new("fixtures/models"));
}

/// Set `LAPIDARY_ZOO` to folders of models, separated as in `PATH`.
#[test]
fn zoo_models_come_back_byte_for_byte() {
    let Some(folders) = std::env::var_os("LAPIDARY_ZOO") else { return };
    std::env::split_paths(&folders).for_each(|folder| assert_same_bytes(&folder));
}

#[test]
fn segments_are_refused() {
    let text = "graph { initializer { dims: 1 data_type: 1 name: \"w\" segment { begin: 0 } } }";
    let dir = tempfile::tempdir().expect("folder");
    let path = dir.path().join("m.textproto");
    std::fs::write(&path, text).expect("written");
    let error = onnx::load(&path).expect_err("refused");
    assert!(matches!(&error, LoadError::TensorField { what, .. } if what.contains("segments")));
}
