//! Pass fixtures: each runs only the passes that its header names, and the snapshot is the diff.
//!
//! `fixtures/passes/<pass>/<case>.onnxtxt`, with headers
//! - `# pass: NAME`, once or more: the passes that run (default: the name of the folder);
//! - `# tract: no (reason)`: the outputs are not compared;
//! - `# fill: …`: random weights, see `support`.
//!
//! Cases whose name begins with `miss_` must not change, all others must.

#[path = "passes/documented.rs"]
mod documented;
#[path = "passes/promises.rs"]
mod promises;
#[path = "support/scale.rs"]
mod scale;
mod support;

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use lapidary::engine::{Engine, TractEngine};
use lapidary::ir::{DType, Dim, Graph, Model, Tensor, ValueId};
use lapidary::onnx::text::{self, PrintOptions};
use lapidary::pass::{self, Cx, Selection, Semantics};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/passes")
}

#[test]
fn fixtures() {
    let failures = RefCell::new(Vec::new());
    insta::with_settings!({prepend_module_to_snapshot => false, omit_expression => true}, {
        insta::glob!("../fixtures/passes", "**/*.onnxtxt", |path| {
            match run_fixture(path) {
                Ok(diff) => insta::assert_snapshot!(diff),
                Err(what) => failures.borrow_mut().push(format!("{}: {what}", path.display())),
            }
        });
    });
    let failures = failures.into_inner();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn every_pass_has_cases_that_fire_and_cases_that_do_not() {
    let mut lacking = Vec::new();
    for info in pass::all_passes() {
        let cases = std::fs::read_dir(folder().join(info.name)).into_iter().flatten().flatten();
        let names: Vec<String> =
            cases.map(|c| c.file_name().to_string_lossy().into_owned()).collect();
        let misses = names.iter().filter(|n| n.starts_with("miss_")).count();
        if misses == 0 || misses == names.len() {
            lacking.push(info.name);
        }
    }
    assert!(lacking.is_empty(), "passes without firing or without missing cases: {lacking:?}");
}

#[test]
fn every_page_has_the_fixed_headings() {
    for info in pass::all_passes() {
        let page = info.page();
        let headings: Vec<&str> = page.lines().filter(|l| l.starts_with('#')).collect();
        let title = format!("# {}", info.name);
        let want = [
            title.as_str(),
            "## What it does",
            "## Before/after",
            "## When it applies",
            "## What it preserves",
            "## Limits",
        ];
        assert_eq!(headings, want, "{}", info.name);
    }
}

/// Runs the passes of a fixture with every check that needs no expectation, and gives the diff.
fn run_fixture(path: &Path) -> Result<String, String> {
    let source = std::fs::read_to_string(path).map_err(|e| e.to_string())?;
    let mut passes: Vec<String> =
        support::header(&source, "pass").into_iter().map(str::to_owned).collect();
    if passes.is_empty() {
        let folder = path.parent().and_then(Path::file_name).ok_or("it stands in no folder")?;
        passes.push(folder.to_string_lossy().into_owned());
    }
    let before = support::parse_fixture(&source)?;
    let mut after = before.clone();
    simplify(&mut after, &passes)?;
    let (old, new) = (print(&before), print(&after));
    let parsed = text::parse(&new).map_err(|e| format!("what it prints does not parse: {e}"))?;
    ensure(print(&parsed) == new, || format!("text and back is not the same:\n{new}"))?;
    let mut again = after.clone();
    simplify(&mut again, &passes)?;
    ensure(print(&again) == new, || format!("a second run changes more:\n{}", print(&again)))?;
    check_interface(&before, &after)?;
    if !support::header(&source, "tract").iter().any(|h| h.starts_with("no")) {
        let exact =
            |p: &String| pass::find_pass(p).is_some_and(|info| info.semantics == Semantics::Exact);
        let tolerance = if passes.iter().all(exact) { 1e-6 } else { 1e-4 };
        check_agreement(&before, &after, tolerance)?;
    }
    let misses = path.file_name().is_some_and(|n| n.to_string_lossy().starts_with("miss_"));
    ensure((old == new) == misses, || format!("it fires, or does not:\n{old}\n{new}"))?;
    Ok(diff(&old, &new))
}

fn ensure(holds: bool, what: impl FnOnce() -> String) -> Result<(), String> {
    if holds { Ok(()) } else { Err(what()) }
}

fn simplify(model: &mut Model, passes: &[String]) -> Result<(), String> {
    let selection = Selection::new(passes, &[], &[]).map_err(|e| e.to_string())?;
    let mut cx = Cx { selection, check: true, ..Cx::default() };
    pass::simplify(model, &mut cx).map_err(|e| e.to_string())?;
    ensure(!cx.exhausted, || "the passes do not come to rest".into())?;
    ensure(cx.findings.is_empty(), || format!("inference objects: {:?}", cx.findings))?;
    model.graph.check().map_err(|e| e.to_string())
}

fn print(model: &Model) -> String {
    text::print(model, &PrintOptions { max_elements: None, ..PrintOptions::default() })
}

/// Inputs that a caller must feed.
fn fed(g: &Graph) -> Vec<ValueId> {
    g.inputs().iter().copied().filter(|v| g.initializer(*v).is_none()).collect()
}

/// Names and order of inputs and outputs stay; no size that was known is lost.
fn check_interface(before: &Model, after: &Model) -> Result<(), String> {
    let names = |g: &Graph, list: &[_]| -> Vec<String> {
        list.iter().map(|v| g.value(*v).name().to_owned()).collect()
    };
    let (a, b) = (&before.graph, &after.graph);
    ensure(names(a, &fed(a)) == names(b, &fed(b)), || "the inputs change".into())?;
    ensure(names(a, a.outputs()) == names(b, b.outputs()), || "the outputs change".into())?;
    for (v, w) in a.outputs().iter().zip(b.outputs()) {
        let (Some(old), Some(new)) = (a.value(*v).shape(), b.value(*w).shape()) else { continue };
        let kept = |(x, y): (&Dim, &Dim)| x.known().is_none() || x == y;
        let same = old.len() == new.len() && old.iter().zip(new).all(kept);
        ensure(same, || format!("output shape {old:?} becomes {new:?}"))?;
    }
    Ok(())
}

/// Both models give the same outputs for the same random inputs.
fn check_agreement(before: &Model, after: &Model, tolerance: f64) -> Result<(), String> {
    let feeds = random_feeds(&before.graph);
    let run = |model: &Model| -> Result<Vec<Tensor>, String> {
        let session = TractEngine.prepare(model, &[]).map_err(|e| e.to_string())?;
        session.run(&feeds, &mut |_, _| {}).map_err(|e| e.to_string())
    };
    for (a, b) in run(before)?.iter().zip(&run(after)?) {
        let same = (a.dtype(), a.dims()) == (b.dtype(), b.dims());
        ensure(same, || format!("{:?} became {:?}", a.dims(), b.dims()))?;
        let (Some(x), Some(y)) = (a.to_f64(), b.to_f64()) else {
            ensure(a.data() == b.data(), || "an output changes".into())?;
            continue;
        };
        let largest = x.iter().filter(|v| v.is_finite()).fold(1.0f64, |m, v| m.max(v.abs()));
        let rounding = largest * if a.dtype() == DType::F16 { 1e-2 } else { tolerance };
        let close =
            |p: f64, q: f64| p == q || (p.is_nan() && q.is_nan()) || (p - q).abs() <= rounding;
        for (&p, &q) in x.iter().zip(&y) {
            ensure(close(p, q), || format!("an output changes from {p} to {q}"))?;
        }
    }
    Ok(())
}

/// Every symbol is 2; floats are in -2..2, integers in 0..3.
fn random_feeds(g: &Graph) -> Vec<(String, Tensor)> {
    let mut rng = fastrand::Rng::with_seed(7);
    let mut feeds = Vec::new();
    for v in fed(g) {
        let value = g.value(v);
        let size = |d: &Dim| d.substitute(&|_| Some(Dim::Known(2))).size().unwrap_or(2);
        let dims: Vec<usize> = value.shape().expect("a typed input").iter().map(size).collect();
        let n = dims.iter().product::<usize>();
        let dtype = value.dtype().expect("a typed input");
        let tensor = match dtype {
            DType::I64 => Tensor::of(&dims, &(0..n).map(|_| rng.i64(0..3)).collect::<Vec<_>>()),
            DType::I32 => Tensor::of(&dims, &(0..n).map(|_| rng.i32(0..3)).collect::<Vec<_>>()),
            DType::Bool => {
                let bytes: Vec<u8> = (0..n).map(|_| u8::from(rng.bool())).collect();
                Tensor::new(dtype, dims, bytes.into()).expect("one byte each")
            }
            _ => {
                let floats: Vec<f32> = (0..n).map(|_| rng.f32() * 4.0 - 2.0).collect();
                Tensor::from_f32(dtype, &dims, &floats).expect("a float input")
            }
        };
        feeds.push((value.name().to_owned(), tensor));
    }
    feeds
}

/// Lines that go, come and stay, long lists of elements cut short.
fn diff(old: &str, new: &str) -> String {
    let (a, b): (Vec<&str>, Vec<&str>) = (old.lines().collect(), new.lines().collect());
    let mut longest = vec![vec![0usize; b.len() + 1]; a.len() + 1];
    for i in (0..a.len()).rev() {
        for j in (0..b.len()).rev() {
            longest[i][j] = match a[i] == b[j] {
                true => longest[i + 1][j + 1] + 1,
                false => longest[i + 1][j].max(longest[i][j + 1]),
            };
        }
    }
    let (mut i, mut j, mut out) = (0, 0, String::new());
    let mut line =
        |sign: char, text: &str| out.push_str(format!("{sign} {}\n", cut(text)).as_str());
    while i < a.len() || j < b.len() {
        if i < a.len() && j < b.len() && a[i] == b[j] {
            line(' ', a[i]);
            (i, j) = (i + 1, j + 1);
        } else if i < a.len() && (j == b.len() || longest[i + 1][j] >= longest[i][j + 1]) {
            line('-', a[i]);
            i += 1;
        } else {
            line('+', b[j]);
            j += 1;
        }
    }
    out
}

fn cut(line: &str) -> String {
    const WIDTH: usize = 120;
    match line.char_indices().nth(WIDTH) {
        Some((at, _)) => format!("{}…", &line[..at]),
        None => line.to_owned(),
    }
}

/// Work is counted, not timed: how often a rewrite is tried, for each op.
#[test]
fn work_is_proportional_to_the_size() {
    let tries = |count: usize| {
        let mut model = scale::blocks(count);
        let ops = model.graph.op_count();
        let mut cx = Cx::default();
        pass::simplify(&mut model, &mut cx).expect("simplifies");
        let after = model.graph.op_count();
        assert!(2 * after < ops, "{ops} ops became {after}");
        let tried: usize = cx.stats.values().map(|s| s.tried).sum();
        (tried as f64 / ops as f64, cx.rounds)
    };
    let (small, rounds) = tries(10);
    for count in [100, 1_000] {
        let (large, more) = tries(count);
        assert_eq!(more, rounds, "{count} blocks take more rounds");
        assert!(large < 1.1 * small, "{small} tries for each op of 10 blocks, {large} of {count}");
    }
}

#[test]
fn a_large_graph_takes_seconds_at_most() {
    let mut g = Graph::new("long");
    let ty = |dims: &[usize]| {
        lapidary::ir::Type::tensor(DType::F32, dims.iter().map(|&d| d.into()).collect::<Vec<_>>())
    };
    let input = lapidary::ir::Value::new("x", Some(ty(&[1, 8])));
    let mut v = g.add_input(input);
    for i in 0..100_000 {
        let next = g.add_named(&format!("v{i}"));
        let op_type = ["Relu", "Identity", "Abs", "Sigmoid"][i % 4];
        g.add_op(lapidary::ir::Op::new(op_type), &[Some(v)], &[Some(next)], None);
        v = next;
    }
    g.set_outputs(vec![v]);
    let opsets = vec![(String::new(), 17)];
    let mut model = Model { ir_version: 8, opsets, graph: g, ..Model::default() };
    let start = std::time::Instant::now();
    let mut cx = Cx::default();
    pass::simplify(&mut model, &mut cx).expect("simplifies");
    assert!(!cx.exhausted);
    assert!(model.graph.op_count() <= 75_000);
    let fired: BTreeMap<_, _> = cx.stats.iter().map(|(name, s)| (*name, s.fired)).collect();
    assert_eq!(fired["eliminate-identity"], 25_000);
    assert!(start.elapsed().as_secs() < 20, "it took {:?}", start.elapsed());
}
