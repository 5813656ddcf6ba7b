//! What `docs/simplify.md` promises, on the models of this repository. `scripts/random_graphs.py`
//! holds random graphs to the same.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;

use lapidary::engine::TractEngine;
use lapidary::ir::{Graph, Model, Op, OpId, Patch};
use lapidary::onnx;
use lapidary::pass::{self, Cx, Miss, PassInfo, Rewrite, Selection, Semantics, Site, run_rewrites};
use lapidary::verify::{self, Verdict};

/// Growth of a file that nobody notices.
const SMALL: usize = 64 << 10;

/// All binary models that the repository has.
fn models() -> Vec<(String, Model)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let mut paths: Vec<_> = ["models", "onnx", "prune", "passes"]
        .iter()
        .flat_map(|folder| walk(&root.join(folder)))
        .filter(|p| p.extension().is_some_and(|e| e == "onnx" || e == "onnxtxt"))
        .collect();
    paths.sort();
    // Some fixtures hold weights by a header that only their own tests read.
    let load = |p: &std::path::PathBuf| Some((p.display().to_string(), onnx::load(p).ok()?));
    let models: Vec<_> = paths.iter().filter_map(load).collect();
    assert!(models.len() > 100, "only {} of {} models load", models.len(), paths.len());
    models
}

fn walk(folder: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten().map(|e| e.path());
    entries.flat_map(|p| if p.is_dir() { walk(&p) } else { vec![p] }).collect()
}

fn simplified(model: &Model) -> Model {
    let mut result = model.clone();
    let mut cx = Cx { check: true, ..Cx::default() };
    pass::simplify(&mut result, &mut cx).expect("simplifies");
    assert!(!cx.exhausted);
    result
}

fn bytes(model: &Model) -> Vec<u8> {
    onnx::to_bytes(model).expect("encodes").0.to_vec()
}

/// The model as a reader of its file sees it.
fn reread(model: &Model) -> Model {
    let file = tempfile::Builder::new().suffix(".onnx").tempfile().expect("a file");
    std::fs::write(file.path(), bytes(model)).expect("writes");
    onnx::load(file.path()).expect("reads")
}

/// Name, element type and rank of inputs and outputs, in order.
fn interface(g: &Graph) -> Vec<String> {
    let show = |v: &lapidary::ir::ValueId| {
        let value = g.value(*v);
        format!("{}: {:?} {:?}", value.name(), value.dtype(), value.rank())
    };
    g.inputs().iter().chain(g.outputs()).map(show).collect()
}

fn domains(g: &Graph) -> HashSet<String> {
    g.ops().map(|op| g.op(op).domain.clone()).collect()
}

/// Nodes by the names that exactly one of them has.
fn named(g: &Graph) -> Vec<OpId> {
    let mut by_name: BTreeMap<String, Option<OpId>> = BTreeMap::new();
    for op in g.ops().filter(|op| !g.op(*op).name.is_empty()) {
        let name = g.op(op).name.clone();
        by_name.entry(name).and_modify(|o| *o = None).or_insert(Some(op));
    }
    by_name.into_values().flatten().collect()
}

#[test]
fn interface_opset_domains_metadata_and_size_stay() {
    for (path, model) in models() {
        let result = reread(&simplified(&model));
        let model = reread(&model);
        assert_eq!(interface(&model.graph), interface(&result.graph), "{path}");
        for (domain, version) in &result.opsets {
            assert!(
                model.opsets.contains(&(domain.clone(), *version)),
                "{path}: {domain} {version}"
            );
        }
        let new: Vec<_> =
            domains(&result.graph).difference(&domains(&model.graph)).cloned().collect();
        assert!(new.iter().all(String::is_empty), "{path}: {new:?}");
        assert_eq!(model.ir_version, result.ir_version, "{path}");
        assert_eq!(model.graph.name, result.graph.name, "{path}");
        let header = |m: &Model| {
            let version = (m.producer_version.clone(), m.model_version, m.domain.clone());
            (m.producer_name.clone(), version, m.doc.clone(), m.metadata.clone())
        };
        assert_eq!(header(&model), header(&result), "{path}");
        assert_eq!(model.graph.notes, result.graph.notes, "{path}");
        let (before, after) = (bytes(&model).len(), bytes(&result).len());
        assert!(after <= before + before / 100 + SMALL, "{path}: {before} bytes became {after}");
    }
}

#[test]
fn two_runs_agree_and_a_second_one_changes_nothing() {
    for (path, model) in models() {
        let result = simplified(&model);
        assert_eq!(bytes(&result), bytes(&simplified(&model)), "{path}");
        let again = simplified(&reread(&result));
        assert_eq!(bytes(&result), bytes(&again), "{path}: a second run changes more");
    }
}

/// A node that makes the same values by the same operator still has its name and its notes.
#[test]
fn what_survives_keeps_its_name() {
    for (path, model) in models() {
        let result = simplified(&model);
        let (a, b) = (&model.graph, &result.graph);
        let survivors = named(a);
        let makers: HashMap<Vec<&str>, OpId> =
            b.ops().map(|op| (result_names(b, op), op)).collect();
        for op in &survivors {
            let Some(&other) = makers.get(&result_names(a, *op)) else { continue };
            let (old, new): (&Op, &Op) = (a.op(*op), b.op(other));
            if old.op_type == new.op_type && !new.is("Constant") {
                assert_eq!(old.name, new.name, "{path}");
                assert_eq!((&old.doc, &old.metadata), (&new.doc, &new.metadata), "{path}");
            }
        }
    }
}

fn result_names(g: &Graph, op: OpId) -> Vec<&str> {
    g.results(op).into_iter().flatten().map(|v| g.value(v).name()).collect()
}

#[test]
fn only_and_disable_run_what_they_say() {
    let fired = |model: &Model, only: &[String], disable: &[String]| -> Vec<&'static str> {
        let selection = Selection::new(only, &[], disable).expect("known names");
        let mut cx = Cx { selection, ..Cx::default() };
        pass::simplify(&mut model.clone(), &mut cx).expect("simplifies");
        cx.stats.iter().filter(|(_, s)| s.fired > 0).map(|(name, _)| *name).collect()
    };
    let mut seen = 0;
    for (path, model) in models().into_iter().step_by(2) {
        for name in fired(&model, &[], &[]) {
            seen += 1;
            let name = name.to_owned();
            let only = fired(&model, std::slice::from_ref(&name), &[]);
            assert!(only.iter().all(|n| *n == name), "{path}: {only:?} beside {name}");
            let rest = fired(&model, &[], std::slice::from_ref(&name));
            assert!(!rest.contains(&name.as_str()), "{path}: {name} runs");
        }
    }
    assert!(seen > 30, "{seen}");
    assert!(Selection::new(&["fuse-everything".to_owned()], &[], &[]).is_err());
    assert!(Selection::new(&[], &["nothing".to_owned()], &[]).is_err());
    assert!(Selection::new(&[], &[], &["".to_owned()]).is_err());
}

/// Takes one Relu of the model for an Abs.
struct Wrong;

static WRONG: PassInfo = PassInfo {
    name: "wrong-on-purpose",
    summary: "takes a Relu for an Abs",
    semantics: Semantics::Exact,
    source: "",
};

impl Rewrite for Wrong {
    fn info(&self) -> &'static PassInfo {
        &WRONG
    }

    fn roots(&self) -> &'static [&'static str] {
        &["Relu"]
    }

    fn plan(&self, g: &Graph, at: OpId, _: &Site) -> Result<Patch, Miss> {
        let op = g.op(at);
        if op.name != "wrong" || !op.is("Relu") {
            return Err("it is not the one".into());
        }
        let mut patch = Patch::at(at);
        let operands = g.operands(at).into_iter().map(|v| v.map(Into::into)).collect();
        patch.replace(g, at, Op::new("Abs").named(&op.name), operands);
        Ok(patch)
    }
}

#[test]
fn bisection_finds_the_pass_and_the_node() {
    let text = "<ir_version: 8, opset_import: [\"\" : 17]>
        g (float[2,8] x) => (float[2,8] y)
        {
            a = Identity (x)
            b = Neg (a)
            [wrong] c = Relu (b)
            d = Relu (c)
            e = Transpose <perm = [1, 0]> (d)
            f = Transpose <perm = [1, 0]> (e)
            y = Neg (f)
        }";
    let model = onnx::text::parse(text).expect("parses");
    let engine = TractEngine;
    let source = lapidary::data::open(&Default::default(), &model, 2).expect("random inputs");
    let mut differs = |m: &Model| {
        let how = Semantics::Reassociates;
        let v = verify::compare(&model, m, &engine, source.as_ref(), 2, how, &|_| {});
        Ok::<_, pass::PassError>(match v.verdict {
            Verdict::Disagree(why) => Some(why),
            other => {
                assert_eq!(other, Verdict::Agree);
                None
            }
        })
    };
    let right = |m: &mut Model, stop_after: Option<usize>| {
        let mut cx = Cx { stop_after, ..Cx::default() };
        pass::simplify(m, &mut cx).map(|()| cx)
    };
    let fine = verify::bisect(&model, &right, &mut differs).expect("runs");
    assert!(fine.edits > 2 && fine.culprit.is_none(), "{fine:?}");
    // First some edits that are right, then the wrong one, then more that are right.
    let only = Selection::new(&["eliminate-identity".to_owned()], &[], &[]).expect("known");
    let wrong = |m: &mut Model, stop_after: Option<usize>| {
        let mut cx = Cx { stop_after, selection: only.clone(), ..Cx::default() };
        pass::simplify(m, &mut cx)?;
        cx.selection = Selection::default();
        run_rewrites(&mut m.graph, 17, &[&Wrong], &mut cx)?;
        pass::simplify(m, &mut cx).map(|()| cx)
    };
    let found = verify::bisect(&model, &wrong, &mut differs).expect("runs");
    let culprit = found.culprit.expect("an edit is wrong");
    assert_eq!((culprit.pass, culprit.node.as_deref()), ("wrong-on-purpose", Some("wrong (Relu)")));
    assert_eq!(culprit.edit, 2);
    assert!(found.edits > 2);
}
