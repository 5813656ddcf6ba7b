//! Files that are broken or mean harm.

use std::fs;
use std::path::Path;

use lapidary::onnx::{self, LoadError, SaveError, SaveOptions};
use proptest::prelude::*;

/// A folder with `model/m.onnxtxt`, whose weight `w` of eight bytes lies at `place`, and
/// `model/w.bin` with sixteen bytes.
fn scene(place: &str) -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("folder");
    let model = dir.path().join("model");
    fs::create_dir(&model).expect("folder");
    fs::write(model.join("w.bin"), [0; 16]).expect("written");
    fs::write(dir.path().join("secret"), [7; 16]).expect("written");
    let text = format!("g () => (float[2] w) <float[2] w = [{place}]> {{}}");
    fs::write(model.join("m.onnxtxt"), text).expect("written");
    dir
}

fn refusal(dir: &tempfile::TempDir) -> String {
    match onnx::load(&dir.path().join("model/m.onnxtxt")) {
        Err(e @ LoadError::External { .. }) => e.to_string(),
        Err(e) => panic!("another error: {e}"),
        Ok(_) => panic!("loaded"),
    }
}

#[test]
fn external_data_inside_the_folder_is_read() {
    for place in [
        r#""location": "w.bin""#,
        r#""location": "./w.bin", "offset": "8", "length": "8""#,
        r#""location": "w.bin", "checksum": "e129f27c5103bc5cc44bcdf0a15e160d445066ff""#,
    ] {
        let dir = scene(place);
        let model = onnx::load(&dir.path().join("model/m.onnxtxt")).expect(place);
        let w = model.graph.find_value("w").and_then(|v| model.graph.initializer(v));
        assert_eq!(w.and_then(|t| t.to_f32()), Some(vec![0.0; 2]));
    }
}

#[test]
fn external_data_outside_the_folder_is_refused() {
    for location in ["../secret", "sub/../../secret", "/etc/passwd", "", "..\\\\secret", "."] {
        let dir = scene(&format!("\"location\": \"{location}\""));
        let message = refusal(&dir);
        let expected = ["not a plain path inside the model's folder", "not a regular file"];
        assert!(expected.iter().any(|e| message.contains(e)), "{location}: {message}");
        assert!(message.contains("external data of tensor \"w\""), "{message}");
    }
}

#[cfg(unix)]
#[test]
fn links_out_of_the_folder_are_refused() {
    let dir = scene(r#""location": "link""#);
    let link = dir.path().join("model/link");
    std::os::unix::fs::symlink("../secret", &link).expect("linked");
    assert!(refusal(&dir).contains("outside the model's folder"));
    fs::remove_file(&link).expect("removed");
    fs::hard_link(dir.path().join("secret"), &link).expect("linked");
    assert!(refusal(&dir).contains("hard link"));
    fs::remove_file(&link).expect("removed");
    std::os::unix::fs::symlink("/etc", &link).expect("linked");
    let dir = scene(r#""location": "folder/passwd""#);
    std::os::unix::fs::symlink("/etc", dir.path().join("model/folder")).expect("linked");
    assert!(refusal(&dir).contains("outside the model's folder"));
}

#[test]
fn external_data_that_does_not_fit_is_refused() {
    for (place, message) in [
        (r#""location": "gone.bin""#, "is missing"),
        (r#""location": "w.bin", "offset": "9""#, "holds 16 bytes, but bytes 9 to 17"),
        (r#""location": "w.bin", "offset": "-8""#, "offset \"-8\" is no size"),
        (r#""location": "w.bin", "length": "-8""#, "length \"-8\" is no size"),
        (r#""location": "w.bin", "length": "99999999999999999999999""#, "is no size"),
        (
            r#""location": "w.bin", "length": "18446744073709551615", "offset": "8""#,
            "holds 16 bytes",
        ),
        (r#""location": "w.bin", "checksum": "00""#, "has SHA1 e129f27c"),
        (r#""offset": "0""#, "no location is given"),
    ] {
        let found = refusal(&scene(place));
        assert!(found.contains(message), "{place}: {found}");
    }
    let dir = scene(r#""location": "w.bin", "length": "16""#);
    let error = onnx::load(&dir.path().join("model/m.onnxtxt")).expect_err("refused");
    assert!(error.to_string().contains("needs 8 bytes but holds 16"), "{error}");
}

#[test]
fn what_is_no_model_is_named() {
    let dir = tempfile::tempdir().expect("folder");
    let whole = fs::read("fixtures/models/resnet8.onnx").expect("fixture");
    let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n";
    for (name, bytes, message) in [
        ("empty.onnx", &b""[..], "is empty"),
        ("lfs.onnx", pointer, "Git LFS pointer"),
        ("lfs.json", pointer, "Git LFS pointer"),
        ("page.onnx", b"<!DOCTYPE html>", "is not an ONNX model"),
        ("image.onnx", b"\x89PNG\r\n\x1a\n\0\0", "is not an ONNX model"),
        ("other.onnx", b"\x0a\x03abc", "is not an ONNX model"),
        ("cut.onnx", &whole[..whole.len() / 2], "is truncated or damaged"),
        ("cut2.onnx", &whole[..20], "is truncated or damaged"),
        ("m.json", b"{\"graph\": 1}", "is not an ONNX model"),
        ("m.textproto", b"grph {}", "is not an ONNX model"),
        ("m.onnxtxt", b"g (x\n=> y", "is not an ONNX model: line 2"),
        ("no_graph.json", b"{}", "holds no graph"),
    ] {
        let path = dir.path().join(name);
        fs::write(&path, bytes).expect("written");
        let found = onnx::load(&path).expect_err(name).to_string();
        assert!(found.contains(message), "{name}: {found}");
    }
    for missing in [dir.path().to_owned(), dir.path().join("gone.onnx")] {
        let error = onnx::load(&missing).expect_err("refused");
        assert!(error.to_string().contains("cannot read"), "{error}");
    }
}

#[test]
fn outputs_that_cannot_be_written_are_named() {
    let model = onnx::load(Path::new("fixtures/models/resnet8.onnx")).expect("fixture");
    let dir = tempfile::tempdir().expect("folder");
    fs::write(dir.path().join("file"), "").expect("written");
    for path in ["gone/m.onnx", "file/m.onnx", "."] {
        let error = onnx::save(&model, &dir.path().join(path), SaveOptions::default());
        let error = error.expect_err(path);
        assert!(matches!(&error, SaveError::Write { .. }), "{error}");
    }
    assert_eq!(fs::read_dir(dir.path()).expect("folder").count(), 1, "no rest of it is left");
}

/// Small valid models of many kinds.
fn seeds() -> Vec<Vec<u8>> {
    let everything = Path::new("fixtures/onnx/everything.textproto");
    let text = "<ir_version: 8, opset_import: [\"\" : 17]> g (float[N,2] x) => (float[N,2] y)
        <float[2,2] w = {1, 2, 3, 4}> { m = MatMul (x, w)\n y = Relu (m) }";
    [onnx::load(everything).expect("fixture"), onnx::text::parse(text).expect("text")]
        .iter()
        .map(|m| onnx::to_bytes(m).expect("bytes").0.to_vec())
        .collect()
}

#[test]
fn an_input_without_a_name_is_no_result() {
    let mut bytes = seeds().remove(0);
    let name = b"\x0a\x04w_in\x12\x0a";
    let at = bytes.windows(name.len()).position(|w| w == name).expect("the input is there");
    bytes[at] = 42;
    let model = onnx::from_bytes(bytes.into(), None).expect("loads");
    model.graph.check().expect("is sound");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    /// Damaged files load or fail, and what loads can be saved and printed.
    #[test]
    fn damaged_files_never_panic(
        which in 0usize..2,
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 1..8),
    ) {
        thread_local!(static SEEDS: Vec<Vec<u8>> = seeds());
        let mut bytes = SEEDS.with(|s| s[which].clone());
        for (at, byte, kind) in edits {
            let at = at.index(bytes.len());
            match kind {
                0 => bytes[at] = byte,
                1 => bytes.insert(at, byte),
                2 if bytes.len() > 1 => _ = bytes.remove(at),
                _ => bytes[at] ^= 1 << (byte % 8),
            }
        }
        if let Ok(model) = onnx::from_bytes(bytes.into(), None) {
            prop_assert!(model.graph.check().is_ok());
            let (saved, _) = onnx::to_bytes(&model).expect("a loaded model can be saved");
            onnx::from_bytes(saved, None).expect("a saved model can be loaded");
            onnx::text::print(&model, &Default::default());
        }
    }

    /// Any text parses or fails.
    #[test]
    fn damaged_text_never_panics(
        edits in prop::collection::vec((any::<prop::sample::Index>(), "[ -~]{0,3}", 0usize..20), 1..6),
    ) {
        thread_local!(static TEXT: String = {
            let model = onnx::load(Path::new("fixtures/onnx/everything.textproto")).expect("fixture");
            onnx::text::print(&model, &Default::default())
        });
        let mut text = TEXT.with(Clone::clone);
        for (at, new, drop) in edits {
            let at = at.index(text.len());
            let end = (at + drop).min(text.len());
            if text.is_char_boundary(at) && text.is_char_boundary(end) {
                text.replace_range(at..end, &new);
            }
        }
        _ = onnx::text::parse(&text);
    }
}
