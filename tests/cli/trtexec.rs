//! `lapidary trtexec`: lines, dropped flags, and layers read back.

use super::{RESNET, Scratch, fails, json, lapidary};

#[test]
fn lines_by_version() {
    let line = |args: &[&str]| {
        let report = json(&[&["trtexec", RESNET, "--json"], args].concat());
        report["line"].as_str().expect("a line").to_owned()
    };
    assert!(line(&["--tensorrt", "8.6"]).contains(" --fp16 "));
    assert!(line(&["--tensorrt", "10.15"]).contains(" --stronglyTyped "));
    let newest = line(&["--tensorrt", "11", "--sparsity", "enable", "--timing-cache", "t.cache"]);
    assert!(newest.contains(" --sparsity=enable ") && !newest.contains("--stronglyTyped"));
    assert!(newest.contains(" --timingCacheFile=t.cache"), "{newest}");
    let exported = line(&["--tensorrt", "11", "--export", "--", "--skipInference"]);
    assert!(exported.contains("--exportLayerInfo=fixtures/models/resnet8.layers.json"));
    assert!(exported.ends_with(" --skipInference"), "{exported}");
}

#[test]
fn dropped_flags_are_refused_with_what_replaces_them() {
    let refused = |version: &str, flag: &str| {
        fails(2, &["trtexec", RESNET, "--tensorrt", version, "--", flag])
    };
    assert!(refused("10", "--workspace=4096").contains("--memPoolSize=workspace"));
    assert!(refused("10.7", "--explicitBatch").contains("explicit batch"));
    assert!(refused("11", "--buildOnly").contains("--skipInference"));
    assert!(refused("11", "--int8").contains("lapidary quantize"));
}

const LAYERS: &str = r#"{"Layers": [
    {"Name": "Reformatting CopyNode for Input Tensor 0", "LayerType": "Reformat", "Metadata": "",
     "Inputs": [{"Name": "input", "Format/Datatype": "Row major linear FP32"}], "Outputs": []},
    {"Name": "conv1 + relu1", "LayerType": "CaskConvolution",
     "Inputs": [{"Name": "r", "Format/Datatype": "Four wide channel vectorized row major Int8 format"}],
     "Outputs": [], "Metadata": "[ONNX Layer: NODE]\u001e[ONNX Layer: elsewhere]"}
], "Bindings": ["input", "output"]}"#;

const PROFILE: &str = r#"[
  { "count" : 20 }
, { "name" : "Reformatting CopyNode for Input Tensor 0", "timeMs" : 2, "averageMs" : 0.1, "medianMs" : 0.1, "percentage" : 20 }
, { "name" : "conv1 + relu1", "timeMs" : 8, "averageMs" : 0.4, "medianMs" : 0.4, "percentage" : 80 }
]"#;

#[test]
fn layers_and_times_are_joined_to_nodes() {
    let dir = Scratch::new();
    let inspected = json(&["inspect", RESNET, "--layers", "--json"]);
    let node = inspected[0]["layers"][0]["name"].as_str().expect("a name").to_owned();
    let layers = dir.write("l.json", LAYERS.replace("NODE", &node).as_bytes());
    let profile = dir.write("p.json", PROFILE.as_bytes());
    let args = ["trtexec", RESNET, "--layer-info", &layers, "--profile", &profile];
    let report = json(&[&args[..], &["--json"]].concat());
    let conv = &report["layers"][1];
    assert_eq!((&conv["precision"], &conv["share"]), (&"int8".into(), &0.8.into()));
    assert_eq!(conv["nodes"][0][0], node.as_str());
    assert_eq!(report["unknown_nodes"][0], "elsewhere");
    let table = lapidary(&args);
    let text = String::from_utf8_lossy(&table.stdout);
    assert!(text.contains("80.0 %") && text.contains("Reformat"), "{text}");
    let brief = dir.write("b.json", br#"{"Layers": ["conv1 + relu1"]}"#);
    let errors = fails(2, &["trtexec", RESNET, "--layer-info", &brief]);
    assert!(errors.contains("--profilingVerbosity=detailed"), "{errors}");
}

/// A program that says the version of TensorRT 10.15, and writes what the real one would.
#[cfg(unix)]
#[test]
fn the_line_is_run_where_trtexec_is() {
    use std::os::unix::fs::PermissionsExt;
    let dir = Scratch::new();
    let model = dir.path("m.onnx");
    std::fs::copy(super::repository(RESNET), &model).expect("copies");
    let script = format!(
        "#!/bin/sh\necho '&&&& RUNNING TensorRT.trtexec [TensorRT v101502] # trtexec'\n\
         for a in \"$@\"; do case \"$a\" in\n\
         --exportLayerInfo=*) cat > \"${{a#*=}}\" <<'X'\n{LAYERS}\nX\n;;\n\
         --exportProfile=*) cat > \"${{a#*=}}\" <<'X'\n{PROFILE}\nX\n;;\n\
         --broken) exit 3;;\nesac; done\n"
    );
    let program = dir.write("trtexec", script.as_bytes());
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o755)).expect("a program");
    let line = json(&["trtexec", &model, "--trtexec", &program, "--json"]);
    assert_eq!(line["version"], "10.15");
    let done = lapidary(&["trtexec", &model, "--trtexec", &program, "--run"]);
    let text = String::from_utf8_lossy(&done.stdout);
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    assert!(text.contains("int8") && text.contains("0.4000"), "{text}");
    let args = ["trtexec", &model, "--trtexec", &program, "--run", "--", "--broken"];
    assert!(fails(2, &args).contains("trtexec failed"));
}
