//! `edit`, `extract` and `convert`: what they write, and what they refuse.

use super::{RESNET, Scratch, fails, json, lapidary, repository};

/// A matrix product, a local function, a norm and a sum with another input.
const PARTS: &[u8] = br#"<ir_version: 8, opset_import: ["" : 17, "local" : 1]>
g (float[N,4] x, float[N,4] z) => (float[N,4] y)
<float[4,4] w = {1,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,2}, float[4] s = {1,2,3,4}>
{
  ["first"] a = MatMul (x, w)
  ["call"] b = local.scaled (a)
  ["norm"] c = LayerNormalization (b, s)
  ["last"] y = Add (c, z)
}
<domain: "local", opset_import: ["" : 17]>
scaled (v) => (r)
{
  two = Constant <value = float[1] {2.0}> ()
  m = Mul (v, two)
  r = Relu (m)
}
"#;

/// Runs the command, which must exit with 0 and write the model, and gives its text.
fn written(dir: &Scratch, args: &[&str]) -> String {
    let out = dir.path("out.onnx");
    let _ = std::fs::remove_file(&out);
    let done = lapidary(&[args, &["-o", &out, "--quiet"]].concat());
    let errors = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(0), "{args:?}: {errors}");
    let text = lapidary(&["print", &out]);
    String::from_utf8_lossy(&text.stdout).into_owned()
}

/// Runs the command, which must refuse, write nothing and say every part of `says`.
fn refused(dir: &Scratch, args: &[&str], says: &[&str]) {
    let out = dir.path("refused.onnx");
    let errors = fails(2, &[args, &["-o", &out]].concat());
    assert!(says.iter().all(|part| errors.contains(part)), "{args:?}: {errors}");
    assert!(!std::path::Path::new(&out).exists(), "{args:?}");
}

#[test]
fn parts_are_cut_out() {
    let dir = Scratch::new();
    let model = dir.write("parts.onnxtxt", PARTS);
    let part = written(&dir, &["extract", &model, "--inputs", "a", "--outputs", "c"]);
    // The type behind the call comes from the function's body, and the function stays.
    assert!(part.contains("(float[N,4] a) => (float[N,4] c)"), "{part}");
    assert!(part.contains("scaled (v) => (r)") && !part.contains("MatMul"), "{part}");
    let rest = written(&dir, &["extract", &model, "--inputs", "c,z"]);
    assert!(rest.contains("(float[N,4] c, float[N,4] z) => (float[N,4] y)"), "{rest}");
    assert!(!rest.contains("scaled"), "{rest}");
    let around = ["extract", &model, "--inputs", "b", "--outputs", "y"];
    refused(&dir, &around, &["do not cut \"y\" from \"z\"", "last (Add)"]);
    refused(&dir, &["extract", &model, "--outputs", "nowhere"], &["no value called \"nowhere\""]);
    refused(&dir, &["extract", &model, "--inputs", "y", "--outputs", "a"], &["do not cut \"a\""]);
}

#[test]
fn pieces_of_a_network_fit_together() {
    let dir = Scratch::new();
    let text = lapidary(&["print", RESNET]);
    let text = String::from_utf8_lossy(&text.stdout);
    let cut = text
        .lines()
        .find_map(|l| l.trim().split('"').find(|p| p.contains("Relu") && p.ends_with("output_0")));
    let cut = cut.unwrap_or("").to_owned();
    let (head, tail) = (dir.path("head.onnx"), dir.path("tail.onnx"));
    for (args, out) in [(["--outputs", &cut], &head), (["--inputs", &cut], &tail)] {
        let args = [&["extract", RESNET, "-o", out, "--quiet"][..], &args[..]].concat();
        let done = lapidary(&args);
        assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    }
    let nodes = |path: &str| json(&["inspect", path, "--json"])[0]["nodes"].as_u64();
    let sum = nodes(&head).zip(nodes(&tail)).map(|(a, b)| a + b);
    assert_eq!(sum, nodes(RESNET));
}

#[test]
fn the_interface_is_edited() {
    let dir = Scratch::new();
    let model = dir.write("parts.onnxtxt", PARTS);
    let cut = written(&dir, &["edit", &model, "--set-outputs", "b"]);
    assert!(cut.contains("(float[N,4] x, float[N,4] z) => (float[N,4] b)"), "{cut}");
    let cut = written(&dir, &["edit", &model, "--set-outputs", "b", "--remove-unused-inputs"]);
    assert!(cut.contains("(float[N,4] x) => (float[N,4] b)"), "{cut}");
    let names = ["--rename", "x=image", "--rename-dim", "N=batch", "--rename-node", "last=sum"];
    let named = written(&dir, &[&["edit", &model][..], &names[..]].concat());
    assert!(named.contains("float[batch,4] image, float[batch,4] z"), "{named}");
    assert!(named.contains("[sum]"), "{named}");
    let fixed = written(&dir, &["edit", &model, "--input-shape", "x:3,4"]);
    assert!(fixed.contains("float[3,4] x, float[3,4] z) => (float[3,4] y)"), "{fixed}");
    let fixed = written(&dir, &["simplify", &model, "--set-dim", "N=2"]);
    assert!(fixed.contains("float[2,4] x"), "{fixed}");
    refused(&dir, &["edit", &model, "--rename", "a=b"], &["a=b", "another value"]);
    refused(&dir, &["edit", &model, "--set-dim", "M=3"], &["\"M\"", "have N"]);
    let wrong = ["edit", &model, "--input-shape", "x:2,5"];
    refused(&dir, &wrong, &["first (MatMul)", "inner sizes 5 and 4"]);
    refused(&dir, &["edit", &model, "--set-outputs", "q"], &["no value called \"q\""]);
}

#[test]
fn the_batch_is_opened_where_samples_stay_apart() {
    let dir = Scratch::new();
    let fixed = dir.path("fixed.onnx");
    let shape = ["edit", RESNET, "--input-shape", "4,1,28,28", "-o", &fixed, "--quiet"];
    assert_eq!(lapidary(&shape).status.code(), Some(0));
    let open = written(&dir, &["edit", &fixed, "--dynamic-batch=n"]);
    assert!(open.contains("float[n,1,28,28] input) => (float[n,10] output)"), "{open}");
    let sum = br#"<ir_version: 8, opset_import: ["" : 13]>
g (float[2,3] x) => (float[1,3] y)
<int64[1] axes = {0}>
{ ["total"] y = ReduceSum (x, axes) }
"#;
    let model = dir.write("sum.onnxtxt", sum);
    refused(&dir, &["edit", &model, "--dynamic-batch"], &["total (ReduceSum)", "samples"]);
}

#[test]
fn defaults_of_inputs_are_frozen_on_request() {
    let dir = Scratch::new();
    let old = br#"<ir_version: 3, opset_import: ["" : 11]>
g (float[2,3] x, float[3] w) => (float[2,3] y)
<float[3] w = {1,1,1}>
{ a = Mul (x, w)
  y = Relu (a) }
"#;
    let model = dir.write("old.onnxtxt", old);
    let kept = written(&dir, &["simplify", &model]);
    assert!(kept.contains("float[3] w) =>") && kept.contains("Mul"), "{kept}");
    let frozen = written(&dir, &["simplify", &model, "--freeze-inputs"]);
    assert!(frozen.contains("(float[2,3] x) =>") && !frozen.contains("Mul"), "{frozen}");
}

#[test]
fn conversion_names_what_stands_in_the_way() {
    let dir = Scratch::new();
    let model = dir.write("parts.onnxtxt", PARTS);
    let old = written(&dir, &["convert", &model, "--opset", "15"]);
    // The norm is taken apart, in the graph and in its version; the function follows.
    assert!(
        !old.contains("LayerNormalization") && old.contains("opset_import: [\"\" : 15]"),
        "{old}"
    );
    let new = written(&dir, &["convert", &model, "--opset", "21"]);
    assert!(new.contains("LayerNormalization") && new.contains("[\"\" : 21]"), "{new}");
    let bits = br#"<ir_version: 8, opset_import: ["" : 18]>
g (int32[2,3] x) => (int32[2,3] y)
{ ["mask"] a = BitwiseAnd (x, x)
  y = Abs (a) }
"#;
    let model = dir.write("bits.onnxtxt", bits);
    let down = ["convert", &model, "--opset", "17"];
    refused(&dir, &down, &["mask (BitwiseAnd)", "version 17", "came with version 18"]);
    refused(&dir, &["convert", &model, "--opset", "6"], &["from version 18", "down to 7"]);
    let old = br#"<ir_version: 3, opset_import: ["" : 9]>
g (float[2,6] x) => (float[3,4] y)
{ s = Constant <value = int64[2] {3, 4}> ()
  y = Reshape (x, s) }
"#;
    // Before version 9 a Constant was no integer, and before IR version 4 an initializer an input.
    let model = dir.write("old.onnxtxt", old);
    let down = written(&dir, &["convert", &model, "--opset", "8"]);
    assert!(down.contains("ir_version: 4") && !down.contains("Constant"), "{down}");
}

#[test]
fn surgery_on_models_with_external_data() {
    let dir = Scratch::new();
    let model = dir.path("m.onnx");
    let split = ["simplify", RESNET, "-o", &model, "--external-data=64", "--no-verify", "--quiet"];
    assert_eq!(lapidary(&split).status.code(), Some(0));
    let data = std::fs::metadata(format!("{model}.data")).expect("is there").len();
    for (i, args) in [
        &["edit", &model, "--rename", "input=image"][..],
        &["edit", &model, "--input-shape", "2,1,28,28"],
        &["convert", &model, "--opset", "13"],
        &["extract", &model, "--outputs", "output"],
    ]
    .into_iter()
    .enumerate()
    {
        let out = dir.path(&format!("{i}.onnx"));
        let done = lapidary(&[args, &["-o", &out, "--quiet"]].concat());
        assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
        let inside = std::fs::metadata(&out).expect("is there").len();
        let beside = std::fs::metadata(format!("{out}.data")).map_or(0, |m| m.len());
        assert!(inside + beside > data, "{args:?}: {inside} + {beside}");
    }
    std::fs::remove_file(format!("{model}.data")).expect("removes");
    refused(&dir, &["edit", &model, "--rename", "input=image"], &["m.onnx.data is missing"]);
    assert!(repository(RESNET).exists());
}

#[test]
fn transposes_that_stay_say_why() {
    let dir = Scratch::new();
    let text = br#"<ir_version: 8, opset_import: ["" : 17]>
g (float[2,3,4] x) => (float[N] y)
{ ["turn"] a = Transpose <perm = [0, 2, 1]> (x)
  ["flat"] b = Flatten (a)
  y = my.Op (b) }
"#;
    let text = String::from_utf8_lossy(text).replace("\"\" : 17", "\"\" : 17, \"my\" : 1");
    let model = dir.write("turn.onnxtxt", text.as_bytes());
    let args = ["simplify", &model, "-o", &dir.path("o.onnx"), "--explain", "--no-verify"];
    let done = lapidary(&args);
    let said = String::from_utf8_lossy(&done.stdout);
    let line = said.lines().find(|l| l.contains("move-transposes")).unwrap_or_default();
    assert!(line.contains("turn") && line.contains("flat (Flatten)"), "{said}");
}
