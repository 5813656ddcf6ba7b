//! The command as users run it: results, messages and exit codes.

#[path = "cli/gate.rs"]
mod gate;
#[path = "cli/surgery.rs"]
mod surgery;
#[path = "cli/trtexec.rs"]
mod trtexec;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn lapidary(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lapidary"))
        .args(args)
        .current_dir(repository(""))
        .output()
        .expect("the command starts")
}

/// Runs the command, which must exit with 0, and reads its JSON.
fn json(args: &[&str]) -> Value {
    let out = lapidary(args);
    let errors = String::from_utf8_lossy(&out.stderr);
    assert_eq!(out.status.code(), Some(0), "{args:?}: {errors}");
    serde_json::from_slice(&out.stdout).expect("prints JSON")
}

/// Runs the command, which must exit with `code`, and gives what it says on standard error.
fn fails(code: i32, args: &[&str]) -> String {
    let out = lapidary(args);
    let errors = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(code), "{args:?}: {errors}");
    assert!(!errors.contains("panicked"), "{errors}");
    errors
}

struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Scratch {
        Scratch(tempfile::tempdir().expect("a folder"))
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn write(&self, name: &str, data: &[u8]) -> String {
        std::fs::write(self.0.path().join(name), data).expect("writes");
        self.path(name)
    }
}

const RESNET: &str = "fixtures/models/resnet8.onnx";
const CALIBRATION: [&str; 6] =
    ["--data", "fixtures/data/calib-256-images-idx3-ubyte", "--mean", "0.286", "--std", "0.353"];

#[test]
fn the_whole_job_from_a_recipe() {
    let dir = Scratch::new();
    let out = dir.path("small.onnx");
    let recipe = "fixtures/recipes/fashion-mnist.toml";
    let report = json(&["optimize", RESNET, "--recipe", recipe, "-o", &out, "--json"]);
    assert!(report["after"]["macs"].as_i64() < report["before"]["macs"].as_i64());
    assert!(report["after"]["int8_ops"].as_f64() > Some(0.8), "{}", report["after"]["int8_ops"]);
    let bytes = |side: &str| report[side]["weight_bytes"].as_f64().expect("a number");
    assert!(bytes("after") < 0.3 * bytes("before"));
    let top1 = |i: usize| report["accuracy"][i]["top1"].as_f64().expect("a number");
    assert!((top1(0) - 0.908).abs() < 0.002, "{}", top1(0));
    assert!(top1(1) > 0.85, "{}", top1(1));
    let line = report["trtexec"].as_str().expect("a line");
    assert!(line.starts_with("trtexec --onnx=") && !line.contains("--int8"), "{line}");
}

#[test]
fn int8_costs_less_than_half_a_point_on_the_fixtures() {
    let dir = Scratch::new();
    for name in ["resnet8", "mobilenet", "vit"] {
        let (model, out) = (format!("fixtures/models/{name}.onnx"), dir.path(name));
        let images = "fixtures/data/test-1000-images-idx3-ubyte";
        let labels = "fixtures/data/test-1000-labels-idx1-ubyte";
        let mut args = vec!["optimize", &model, "--int8", "-o", &out, "--json"];
        args.extend(CALIBRATION);
        args.extend(["--evaluate", images, "--labels", labels]);
        let report = json(&args);
        let top1 = |i: usize| report["accuracy"][i]["top1"].as_f64().expect("a number");
        // Half a point, and three of the 1,000 images for chance.
        assert!(top1(1) >= top1(0) - 0.008, "{name}: {} -> {}", top1(0), top1(1));
    }
}

#[test]
fn two_runs_write_the_same_bytes() {
    let dir = Scratch::new();
    let write = |name: &str| {
        let out = dir.path(name);
        let mut args = vec!["optimize", RESNET, "--prune", "0.25", "--int8", "-o", &out, "--quiet"];
        args.extend(CALIBRATION);
        let done = lapidary(&args);
        assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
        assert!(done.stdout.is_empty());
        std::fs::read(out).expect("was written")
    };
    assert!(write("a.onnx") == write("b.onnx"));
}

#[test]
fn flags_and_recipe_files_are_the_same_thing() {
    let dir = Scratch::new();
    let args =
        ["optimize", RESNET, "--prune", "0.5", "--int8", "--data", "x.npz", "--print-recipe"];
    let printed = lapidary(&args);
    assert_eq!(printed.status.code(), Some(0));
    let file = dir.write("recipe.toml", &printed.stdout);
    let again = lapidary(&["optimize", RESNET, "--recipe", &file, "--print-recipe"]);
    let text = String::from_utf8_lossy(&again.stdout).replace(&dir.path(""), "");
    assert_eq!(text, String::from_utf8_lossy(&printed.stdout));
    let set = lapidary(&[
        "optimize",
        RESNET,
        "--int8",
        "--set",
        "quantize.skip-last=1",
        "--print-recipe",
    ]);
    assert!(String::from_utf8_lossy(&set.stdout).contains("skip-last = 1"));
}

#[test]
fn recipes_with_mistakes_name_them() {
    let dir = Scratch::new();
    let typo = dir.write("typo.toml", b"[[step]]\nkind = \"prune\"\nratoi = 0.3\n");
    let errors = fails(2, &["optimize", RESNET, "--recipe", &typo, "-o", &dir.path("o.onnx")]);
    assert!(errors.contains("typo.toml") && errors.contains("ratoi"), "{errors}");
    let errors = fails(2, &["optimize", RESNET, "--int8", "--set", "prune.ratio=1"]);
    assert!(errors.contains("no step \"prune\""), "{errors}");
}

#[test]
fn files_that_are_no_models() {
    let dir = Scratch::new();
    let out = dir.path("o.onnx");
    let errors = fails(2, &["simplify", &dir.path("absent.onnx"), "-o", &out]);
    assert!(errors.contains("absent.onnx") && errors.contains("No such file"), "{errors}");
    assert_eq!(errors.matches("No such file").count(), 1, "{errors}");
    let text = dir.write("text.onnx", b"this is no protobuf at all");
    let errors = fails(2, &["simplify", &text, "-o", &out]);
    assert!(errors.contains("is not an ONNX model"), "{errors}");
    let whole = std::fs::read(repository(RESNET)).expect("reads");
    let half = dir.write("half.onnx", &whole[..whole.len() / 2]);
    let errors = fails(2, &["simplify", &half, "-o", &out]);
    assert!(errors.contains("half.onnx is truncated or damaged"), "{errors}");
    assert!(!Path::new(&out).exists());
}

#[test]
fn missing_external_data_is_named() {
    let dir = Scratch::new();
    let model = dir.path("m.onnx");
    let args = ["simplify", RESNET, "-o", &model, "--external-data=64", "--no-verify", "--quiet"];
    assert_eq!(lapidary(&args).status.code(), Some(0));
    let data = format!("{model}.data");
    assert!(Path::new(&data).exists());
    assert_eq!(json(&["verify", RESNET, &model, "--json"])["verdict"]["kind"], "agree");
    std::fs::remove_file(&data).expect("removes");
    let errors = fails(2, &["simplify", &model, "-o", &dir.path("o.onnx")]);
    assert!(errors.contains("m.onnx.data is missing"), "{errors}");
}

#[test]
fn data_that_do_not_fit_the_model() {
    let dir = Scratch::new();
    let out = dir.path("o.onnx");
    let images = "fixtures/data/calib-256-images-idx3-ubyte";
    let named = format!("picture={images}");
    let errors = fails(2, &["quantize", RESNET, "--data", &named, "-o", &out]);
    assert!(errors.contains("no input \"picture\"") && errors.contains("input"), "{errors}");
    let labels = "fixtures/data/test-1000-labels-idx1-ubyte";
    let errors = fails(2, &["quantize", RESNET, "--data", labels, "-o", &out]);
    assert!(errors.contains("1, 28, 28") || errors.contains("1,28,28"), "{errors}");
    let errors = fails(2, &["quantize", RESNET, "-o", &out]);
    assert!(errors.contains("--data") && errors.contains("--random"), "{errors}");
}

#[test]
fn nothing_is_overwritten_unasked() {
    let dir = Scratch::new();
    let out = dir.write("o.onnx", b"precious");
    let errors = fails(2, &["simplify", RESNET, "-o", &out]);
    assert!(errors.contains("exists") && errors.contains("--force"), "{errors}");
    assert_eq!(std::fs::read(&out).expect("reads"), b"precious");
    let errors = fails(2, &["simplify", RESNET, "-o", &dir.path("no/such/folder/o.onnx")]);
    assert!(errors.contains("does not exist"), "{errors}");
    let done = lapidary(&["simplify", RESNET, "-o", &out, "--force", "--quiet"]);
    assert_eq!(done.status.code(), Some(0));
}

#[test]
fn verify_tells_models_apart() {
    let errors = fails(1, &["verify", RESNET, "fixtures/models/mobilenet.onnx", "--quiet"]);
    assert!(errors.contains("disagree"), "{errors}");
    let report = json(&["verify", RESNET, RESNET, "--json"]);
    assert_eq!(report["verdict"]["kind"], "agree");
}

#[test]
fn diff_tells_what_changed() {
    let dir = Scratch::new();
    let out = dir.path("pruned.onnx");
    let pruned = ["prune", RESNET, "--ratio", "0.25", "-o", &out];
    let args = [&pruned[..], &["--no-simplify", "--no-verify", "--quiet"]].concat();
    assert_eq!(lapidary(&args).status.code(), Some(0));
    let same = json(&["diff", RESNET, RESNET, "--exit-code", "--json"]);
    assert_eq!(same["different"], false);
    assert_eq!(same["effort"]["read_bytes"], 0);
    let found = json(&["diff", RESNET, &out, "--json"]);
    assert_eq!((&found["nodes"]["added"], &found["nodes"]["removed"]), (&0.into(), &0.into()));
    assert!(found["nodes"]["changed"].as_u64() > Some(5), "{}", found["nodes"]);
    let weights = found["graphs"][0]["nodes"][0]["weights"].as_array().expect("a list");
    assert!(weights.iter().any(|w| w["before"] != w["after"]), "{weights:?}");
    assert_eq!(lapidary(&["diff", RESNET, &out, "--exit-code", "--quiet"]).status.code(), Some(1));
    assert_eq!(lapidary(&["diff", RESNET, &out, "--quiet"]).status.code(), Some(0));
    let page = lapidary(&["diff", RESNET, &out, "--markdown"]);
    assert!(String::from_utf8_lossy(&page.stdout).contains("| | before | after | change |"));
}

#[test]
fn unknown_passes_are_an_error() {
    let dir = Scratch::new();
    let args = ["simplify", RESNET, "-o", &dir.path("o.onnx"), "--disable", "fuse-everything"];
    let errors = fails(2, &args);
    assert!(errors.contains("fuse-everything") && errors.contains("fuse-conv-bn"), "{errors}");
    let page = lapidary(&["explain", "fuse-conv-bn"]);
    assert!(String::from_utf8_lossy(&page.stdout).contains("What it does"));
    fails(2, &["explain", "no-such-pass"]);
}

#[test]
fn completions_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let out = lapidary(&["completions", shell]);
        assert!(String::from_utf8_lossy(&out.stdout).contains("lapidary"), "{shell}");
    }
}

#[test]
fn a_page_of_what_a_recipe_did() {
    let dir = Scratch::new();
    let (out, page) = (dir.path("small.onnx"), dir.path("page.html"));
    let (chart, channels) = (dir.path("size.png"), dir.path("channels.svg"));
    let (plot, plots) =
        (format!("size={chart}"), format!("channels:/layers/layers.2/conv1/Conv={channels}"));
    let recipe = "fixtures/recipes/fashion-mnist.toml";
    let args = ["optimize", RESNET, "--recipe", recipe, "-o", &out, "--report", &page];
    let args = [&args[..], &["--plot", &plot, "--plot", &plots, "--quiet"]].concat();
    let done = lapidary(&args);
    assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
    let html = std::fs::read_to_string(&page).expect("was written");
    for part in [
        "Signal to quantization noise",
        "L2 norm of each channel",
        "clip at",
        "kind = &quot;prune&quot;",
    ] {
        assert!(html.contains(part), "{part} is missing");
    }
    assert!(std::fs::read(&chart).expect("was written").starts_with(b"\x89PNG"));
    assert!(std::fs::read_to_string(&channels).expect("was written").starts_with("<svg xmlns="));
    let errors = fails(2, &args);
    assert!(errors.contains("exists"), "{errors}");
    let none = ["report", RESNET, &out, "--no-verify", "--plot", "colour=x.svg"];
    assert!(fails(2, &none).contains("there are size, macs"));
}

#[test]
fn a_graph_is_drawn() {
    let dir = Scratch::new();
    for (name, start) in
        [("g.dot", "digraph \"resnet8.onnx\" {"), ("g.svg", "<svg "), ("g.png", "")]
    {
        let out = dir.path(name);
        let done = lapidary(&["print", RESNET, "-o", &out]);
        assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
        let bytes = std::fs::read(&out).expect("was written");
        assert!(bytes.len() > 1000 && bytes.starts_with(start.as_bytes()), "{name}");
    }
}

#[test]
fn inspect_reads_weights_and_ranges_when_asked() {
    let dir = Scratch::new();
    let out = dir.path("int8.onnx");
    let mut args = vec!["quantize", RESNET, "-o", &out, "--quiet"];
    args.extend(CALIBRATION);
    assert_eq!(lapidary(&args).status.code(), Some(0));
    let report = &json(&["inspect", &out, "--weights", "--layers", "--json"])[0];
    let quantized = report["quantized"].as_array().expect("a list");
    assert!(quantized.iter().any(|q| q["weight"] == true && q["scales"] == 16));
    assert!(quantized.iter().any(|q| q["weight"] == false && q["scales"] == 1));
    let weights = report["weights"].as_array().expect("a list");
    assert!(weights.iter().any(|w| w["type"] == "int8" && w["two_four"].is_array()));
    assert!(report["layers"][1]["bytes"].as_u64() > Some(0));
    let text = lapidary(&["inspect", &out, "--weights", "--ranges"]);
    let text = String::from_utf8_lossy(&text.stdout);
    for part in ["activations up to ±", "weights are 2:4 sparse", "histogram", "least scale"] {
        assert!(text.contains(part), "{part} is missing from {text}");
    }
}

#[test]
fn groups_and_trade_offs_are_drawn() {
    let dir = Scratch::new();
    let (groups, curve) = (dir.path("groups.svg"), dir.path("curve.png"));
    let explain = ["prune", RESNET, "--explain-group", "*"];
    let plot = format!("groups={groups}");
    let found = json(&[&explain[..], &["--plot", &plot, "--json"]].concat());
    assert!(found.as_array().is_some_and(|g| g.len() > 3), "{found}");
    let svg = std::fs::read_to_string(&groups).expect("drawn");
    assert!(svg.contains("channels") && svg.contains("left alone"));
    fails(2, &[&explain[..], &["--plot", "macs=x.svg"]].concat());
    let together = ["sensitivity", RESNET, "--prune", "--together", "--ratios", "0.2,0.4"];
    let random = ["--random", "4", "--dim", "batch=1", "--plot", &curve, "--json"];
    let found = json(&[&together[..], &random[..]].concat());
    let points = found["points"].as_array().expect("points");
    assert!(points.len() == 2 && points[0]["macs"].as_f64() > points[1]["macs"].as_f64());
    assert!(std::fs::metadata(&curve).is_ok_and(|m| m.len() > 1000));
}

#[test]
fn sparse_weights_are_constants_that_the_engine_reads() {
    let dir = Scratch::new();
    let (dense, sparse) = (dir.path("dense.onnx"), dir.path("sparse.onnx"));
    let prune = ["prune", RESNET, "--mode", "unstructured", "--ratio", "0.9", "--quiet", "-o"];
    assert_eq!(lapidary(&[&prune[..], &[&dense]].concat()).status.code(), Some(0));
    let more = [sparse.as_str(), "--sparse-initializers"];
    assert_eq!(lapidary(&[&prune[..], &more].concat()).status.code(), Some(0));
    let size = |path: &str| std::fs::metadata(path).expect("a file").len();
    assert!(2 * size(&sparse) < size(&dense));
    let model = lapidary::onnx::load(Path::new(&sparse)).expect("it loads");
    let g = &model.graph;
    let stored = g.ops().filter(|op| g.op(*op).tensor("sparse_value").is_some()).count();
    assert!(stored > 8, "a sparse initializer is refused by the ONNX checker");
    json(&["verify", &dense, &sparse, "--random", "2", "--dim", "batch=1", "--json"]);
    let [all, counted] = [&dense, &sparse].map(|path| json(&["inspect", path, "--json"]));
    assert_eq!(counted[0]["params"], all[0]["params"]);
    assert!(all[0]["params"].as_u64() > Some(0));
    let again = dir.path("again.onnx");
    json(&["simplify", &sparse, "-o", &again, "--json"]);
    assert!(size(&again) <= size(&sparse), "sparse weights stay sparse");
}

#[test]
fn convert_to_sixteen_bits() {
    let dir = Scratch::new();
    let out = dir.path("half.onnx");
    let mut args = vec!["convert", RESNET, "--fp16", "-o", &out, "--json"];
    args.extend(CALIBRATION);
    let report = json(&args);
    let bytes = |side: &str| report[side]["weight_bytes"].as_f64().expect("a number");
    assert!(bytes("after") < 0.52 * bytes("before"));
    assert_eq!(report["verification"]["interface"], Value::Array(vec![]), "inputs stay float32");
    let both = fails(2, &["convert", RESNET, "--fp16", "--bf16", "-o", &out]);
    assert!(both.contains("cannot be used with"), "{both}");
    let none = fails(2, &["convert", RESNET, "-o", &dir.path("none.onnx")]);
    assert!(none.contains("--fp16"), "{none}");
}

#[test]
fn rules_are_explained() {
    let said = |name: &str| {
        let out = lapidary(&["explain", name]);
        assert_eq!(out.status.code(), Some(0));
        String::from_utf8_lossy(&out.stdout).into_owned()
    };
    assert!(said("w7").contains("without it (--rules -W7)"));
    assert!(said("L5").contains("scale"));
    assert!(said("rules").contains("T8"));
    assert!(fails(2, &["explain", "W99"]).contains("explain rules"));
}
