//! `lapidary gate` in a repository, as continuous integration runs it.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

/// A git repository with a model, and the commands that a pull request runs in it.
struct Repository(tempfile::TempDir);

/// Three layers, without their weights.
const BODY: &str = "{
    [stem] a = MatMul (x, w1)
    [stem_act] b = Relu (a)
    [neck] c = MatMul (b, w2)
    [head] y = MatMul (c, w3)
}";

const CONFIG: &str = r#"
[gate]
max-opset = 17
forbid-domains = ["com.microsoft"]

[[gate.model]]
path = "models/*.onnx"
params = ["100k", "+2%"]
macs = "+2%"
file-bytes = "+10%"
target = "tensorrt-10"
"#;

impl Repository {
    /// A repository whose branch `main` has the model with a middle of width 32.
    fn new() -> Repository {
        let r = Repository(tempfile::tempdir().expect("a folder"));
        std::fs::create_dir(r.path("models")).expect("a folder");
        r.write("lapidary.toml", CONFIG);
        r.model(32);
        r.git(&["init", "--quiet", "--initial-branch=main"]);
        r.git(&["add", "."]);
        r.commit("A model and its budgets");
        r
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).expect("writes");
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).expect("reads")
    }

    /// Writes the model with a middle of this width, its weights outside of it.
    fn model(&self, width: usize) {
        let tensor = |name: &str, rows: usize, columns: usize| {
            let numbers: Vec<String> =
                (0..rows * columns).map(|i| format!("{}.0", (i * 7 + rows) % 13)).collect();
            format!("float[{rows},{columns}] {name} = {{{}}}", numbers.join(", "))
        };
        let weights = [tensor("w1", 16, width), tensor("w2", width, 8), tensor("w3", 8, 4)];
        let head = "<ir_version: 8, opset_import: [\"\" : 17]>";
        let ports = "net (float[1,16] x) => (float[1,4] y)";
        let text = format!("{head}\n{ports}\n<{}> {BODY}", weights.join(", "));
        self.write("net.onnxtxt", &text);
        let out = self.path("models/net.onnx").display().to_string();
        let source = self.path("net.onnxtxt").display().to_string();
        let args = ["simplify", &source, "-o", &out, "--force", "--quiet", "--external-data=64"];
        let done = self.lapidary(&[&args[..], &["--only", "remove-dead"]].concat());
        assert_eq!(done.status.code(), Some(0), "{}", String::from_utf8_lossy(&done.stderr));
        std::fs::remove_file(self.path("net.onnxtxt")).expect("removes");
    }

    fn git(&self, args: &[&str]) {
        let done = Command::new("git").args(args).current_dir(self.0.path()).output();
        let done = done.expect("git starts");
        assert!(done.status.success(), "{args:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn commit(&self, what: &str) {
        let me = ["-c", "user.name=Test", "-c", "user.email=test@example.org"];
        self.git(&[&me[..], &["commit", "--quiet", "--all", "--message", what]].concat());
    }

    fn lapidary(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_lapidary"))
            .args(args)
            .current_dir(self.0.path())
            .env("GITHUB_STEP_SUMMARY", self.path("summary.md"))
            .output()
            .expect("the command starts")
    }

    /// Runs the gate, which must exit with `code`, and gives what it prints.
    fn gate(&self, code: i32, args: &[&str]) -> String {
        let done = self.lapidary(&[&["gate"], args].concat());
        let errors = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(code), "{args:?}: {errors}");
        assert!(!errors.contains("panicked"), "{errors}");
        if code == 2 {
            errors.into_owned()
        } else {
            String::from_utf8_lossy(&done.stdout).into_owned()
        }
    }
}

#[test]
fn a_pull_request_that_doubles_a_layer_fails_and_one_that_shrinks_it_passes() {
    let r = Repository::new();
    r.git(&["switch", "--quiet", "--create", "larger"]);
    r.model(64);
    r.commit("A wider neck");
    let table = r.gate(1, &["--baseline", "git:main"]);
    let row = |budget: &str| {
        table.lines().find(|l| l.contains(budget)).unwrap_or_else(|| panic!("{table}")).to_owned()
    };
    assert!(row(" params ").contains("100k"), "{table}");
    let grown = table.lines().find(|l| l.contains("+2%")).expect("a relative limit");
    assert!(grown.contains("EXCEEDED") && grown.contains("stem (MatMul) 512 → 1.02 k"), "{table}");
    assert!(table.contains("neck (MatMul) 256 → 512"), "{table}");
    assert!(!table.contains("head (MatMul)"), "{table}");
    assert!(row("target").contains("ok"), "{table}");

    r.git(&["switch", "--quiet", "main"]);
    r.git(&["switch", "--quiet", "--create", "smaller"]);
    r.model(16);
    r.commit("A narrower neck");
    let table = r.gate(0, &["--baseline", "git:main"]);
    assert!(table.contains("all budgets are kept") && !table.contains("EXCEEDED"), "{table}");
}

#[test]
fn the_lock_file_is_a_baseline_too() {
    let r = Repository::new();
    let errors = r.gate(2, &[]);
    assert!(errors.contains("--baseline") && errors.contains("--update"), "{errors}");
    r.gate(0, &["--update"]);
    let lock = r.read("lapidary.lock");
    assert!(lock.contains("models/net.onnx") && lock.contains("name = \"stem\""), "{lock}");
    r.gate(0, &[]);
    r.gate(0, &["--update"]);
    assert_eq!(lock, r.read("lapidary.lock"));
    r.model(64);
    let report: Value = serde_json::from_str(&r.gate(1, &["--json"])).expect("JSON");
    assert_eq!(report["passed"], false);
    let checks = report["checks"].as_array().expect("a list");
    let params = checks.iter().find(|c| c["limit"].as_str().is_some_and(|l| l.starts_with("+2%")));
    let culprit = &params.expect("the relative limit")["culprits"][0];
    assert_eq!((&culprit["name"], &culprit["before"]), (&"stem".into(), &512.0.into()));
    std::fs::copy(r.path("models/net.onnx"), r.path("models/new.onnx")).expect("copies");
    let table = r.gate(1, &[]);
    assert!(table.contains("models/new.onnx") && table.contains(" new "), "{table}");
}

#[test]
fn every_report_says_what_is_wrong() {
    let r = Repository::new();
    r.git(&["switch", "--quiet", "--create", "larger"]);
    r.model(64);
    let args = ["--junit", "j.xml", "--sarif", "s.json", "--markdown=m.md", "--github", "--quiet"];
    let printed = r.gate(1, &[&["--baseline", "git:main"], &args[..]].concat());
    let first = printed.lines().next().expect("an annotation");
    assert!(first.starts_with("::error file=models/net.onnx,title=lapidary gate%3A "), "{first}");
    let junit = r.read("j.xml");
    assert!(junit.contains("<testsuite name=\"models/net.onnx\""), "{junit}");
    assert!(junit.contains("stem (MatMul) 512 → 1.02 k"), "{junit}");
    let sarif: Value = serde_json::from_str(&r.read("s.json")).expect("JSON");
    let results = sarif["runs"][0]["results"].as_array().expect("a list");
    assert!(results.iter().any(|r| r["ruleId"] == "params"), "{results:?}");
    assert!(r.read("m.md").contains("| ❌ | models/net.onnx | params |"));
    assert_eq!(r.read("m.md"), r.read("summary.md"));
    assert_eq!(files(&r.path("")).iter().filter(|f| f.starts_with(".tmp")).count(), 0);
}

fn files(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten();
    entries.map(|e| e.file_name().to_string_lossy().into_owned()).collect()
}

#[test]
fn behaviour_is_compared_with_the_baseline_model() {
    let r = Repository::new();
    let model = r.path("models/net.onnx").display().to_string();
    let args = [model.as_str(), "--min-sqnr", "60", "--latency", "50"];
    let table = r.gate(0, &[&args[..], &["--baseline", "git:HEAD"]].concat());
    assert!(table.contains("min-sqnr") && table.contains("pairs of runs"), "{table}");
    let errors = r.gate(2, &args);
    assert!(errors.contains("--baseline"), "{errors}");
    r.model(64);
    let table = r.gate(1, &[&args[..], &["--baseline", "git:HEAD"]].concat());
    assert!(table.lines().any(|l| l.contains("min-sqnr") && l.contains("EXCEEDED")), "{table}");
}

#[test]
fn mistakes_are_errors_not_failures() {
    let r = Repository::new();
    let errors = r.gate(2, &["--baseline", "git:no-such-branch"]);
    assert!(errors.contains("no-such-branch") && errors.contains("fetch-depth"), "{errors}");
    assert!(r.gate(2, &["--baseline", "git:--help"]).contains("no git revision"));
    assert!(r.gate(2, &["--params", "2%"]).contains("no limit"));
    r.write("lapidary.toml", "[gate]\nparms = 1\n");
    let errors = r.gate(2, &["models/net.onnx"]);
    assert!(errors.contains("lapidary.toml") && errors.contains("parms"), "{errors}");
    r.write("lapidary.toml", "[gate]\n");
    assert!(r.gate(2, &[]).contains("no models"));
    assert!(r.gate(2, &["models/net.onnx"]).contains("no budgets"));
}
