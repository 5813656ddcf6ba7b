//! Where weights go, and files that appear whole or not at all.

use std::fs;
use std::path::Path;

use lapidary::ir::Model;
use lapidary::onnx::{self, ExternalData, SaveOptions};

use crate::support::parse_fixture;

const ABOVE_1K: SaveOptions = SaveOptions { external_data: ExternalData::Above(1024) };

fn model() -> Model {
    parse_fixture(
        "# fill: big seed=1\n# fill: inner seed=2\n# fill: small seed=3
        <ir_version: 8, opset_import: [\"\" : 17]>
        g (bool c, float[N,32] x) => (float[N,32] y) <float[32,32] big, float[32] small> {
          m = MatMul (x, big)
          y = If (c) <then_branch = t () => (float[N,32] a) <float[40,32] inner> {
                        s = Add (m, small)\n r = ReduceSum <keepdims = 0> (inner)\n a = Add (s, r)
                      },
                      else_branch = e () => (float[N,32] b) { b = Neg (m) }>
        }",
    )
    .expect("fixture")
}

/// All that is in a model, weights included.
fn content(model: &Model) -> Vec<u8> {
    onnx::to_bytes(model).expect("bytes").0.to_vec()
}

fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("folder").flatten();
    let mut names: Vec<String> =
        entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn large_weights_go_beside_the_model() {
    let (dir, model) = (tempfile::tempdir().expect("folder"), model());
    let path = dir.path().join("m.onnx");
    onnx::save(&model, &path, ABOVE_1K).expect("saved");
    assert_eq!(names(dir.path()), ["m.onnx", "m.onnx.data"]);
    let data = fs::metadata(dir.path().join("m.onnx.data")).expect("data").len();
    assert!((9216..9216 + 64).contains(&data), "big and inner, aligned: {data}");
    assert!(fs::metadata(&path).expect("model").len() < 2048);
    assert_eq!(content(&onnx::load(&path).expect("loaded")), content(&model));
    assert_eq!(onnx::external_files(&path).expect("listed"), ["m.onnx.data"]);
}

#[test]
fn text_formats_hold_external_data_too() {
    let (dir, model) = (tempfile::tempdir().expect("folder"), model());
    for name in ["m.onnxtxt", "m.textproto", "m.json"] {
        let path = dir.path().join(name);
        onnx::save(&model, &path, ABOVE_1K).expect("saved");
        assert!(fs::metadata(&path).expect("model").len() < 8000, "{name}");
        assert_eq!(content(&onnx::load(&path).expect("loaded")), content(&model), "{name}");
    }
}

#[test]
fn a_model_may_be_written_over_its_own_files() {
    let (dir, model) = (tempfile::tempdir().expect("folder"), model());
    let path = dir.path().join("m.onnx");
    onnx::save(&model, &path, ABOVE_1K).expect("saved");
    let mapped = onnx::load(&path).expect("loaded");
    onnx::save(&mapped, &path, ABOVE_1K).expect("saved over itself");
    assert_eq!(content(&mapped), content(&model));
    assert_eq!(content(&onnx::load(&path).expect("loaded")), content(&model));
    onnx::save(&mapped, &path, SaveOptions::default()).expect("saved in one file");
    assert_eq!(content(&onnx::load(&path).expect("loaded")), content(&model));
}

#[test]
fn failure_leaves_the_old_files() {
    let (dir, model) = (tempfile::tempdir().expect("folder"), model());
    let path = dir.path().join("m.onnx");
    onnx::save(&model, &path, ABOVE_1K).expect("saved");
    let old = fs::read(dir.path().join("m.onnx.data")).expect("data");
    // A folder in the place of the data file: the data cannot get its name.
    let blocked = dir.path().join("b.onnx");
    fs::create_dir_all(dir.path().join("b.onnx.data/x")).expect("folder");
    fs::write(&blocked, "old").expect("written");
    onnx::save(&model, &blocked, ABOVE_1K).expect_err("blocked");
    assert_eq!(fs::read(&blocked).expect("old"), b"old");
    assert_eq!(fs::read(dir.path().join("m.onnx.data")).expect("data"), old);
    assert_eq!(names(dir.path()), ["b.onnx", "b.onnx.data", "m.onnx", "m.onnx.data"]);
}

#[cfg(unix)]
#[test]
fn links_are_followed_and_devices_written_to() {
    let (dir, model) = (tempfile::tempdir().expect("folder"), model());
    let (real, link) = (dir.path().join("real.onnx"), dir.path().join("link.onnx"));
    fs::write(&real, "old").expect("written");
    std::os::unix::fs::symlink(&real, &link).expect("linked");
    onnx::save(&model, &link, SaveOptions::default()).expect("saved");
    assert!(link.is_symlink());
    assert_eq!(content(&onnx::load(&real).expect("loaded")), content(&model));
    let null = Path::new("/dev/null");
    onnx::save(&model, null, SaveOptions::default()).expect("saved");
    assert!(!null.metadata().expect("there").is_file());
}

#[test]
fn an_output_that_the_file_declares_wrongly_is_declared_right_once_it_is_known() {
    let text = "<ir_version: 8, opset_import: [\"\" : 17]>
        g (float[2,3] x) => (float y) { y = Relu (x) }";
    let mut m = onnx::text::parse(text).expect("valid text");
    let declared = |m: &Model| {
        let again = onnx::from_bytes(content(m).into(), None).expect("loads");
        again.graph.value(again.graph.outputs()[0]).sizes()
    };
    assert_eq!(declared(&m), Some(vec![]), "as it is, until something is inferred");
    lapidary::pass::infer_model(&mut m, &mut |_, _| {});
    assert_eq!(declared(&m), Some(vec![2, 3]));
}
