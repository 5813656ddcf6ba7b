//! Every placement rule has a fixture where switching it changes the plan, and one where it must not.

use std::collections::BTreeSet;
use std::path::Path;

use lapidary::data::{self, DataOptions};
use lapidary::engine::TractEngine;
use lapidary::ir::{Graph, Model};
use lapidary::quantize::placement::{Plan, RULES};
use lapidary::quantize::{self, QuantizeError, QuantizeOptions};
use lapidary::{pass, verify};

use super::support;

/// The model of a fixture and its options.
fn load(name: &str) -> (Model, QuantizeOptions) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("fixtures/rules/{name}.onnxtxt"));
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{name}: {e}"));
    let options = support::header(&text, "options").join("\n");
    let mut m = support::parse_fixture(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
    let opset = m.default_opset();
    pass::infer_graph(&mut m.graph, opset, &mut |op, what| panic!("{name}: {op}: {what}"));
    (m, toml::from_str(&options).unwrap_or_else(|e| panic!("{name}: {e}")))
}

fn with(o: &QuantizeOptions, switch: String) -> QuantizeOptions {
    let mut o = o.clone();
    o.rules.push(switch);
    o
}

/// What the plan says, a line for each pair of a reader, weight and set of one scale.
fn lines(g: &Graph, plan: &Plan) -> BTreeSet<String> {
    let name = |v| g.value(v).name();
    let label = |op| g.result(op, 0).map_or("?", &name);
    let mut all = BTreeSet::new();
    for (v, readers) in &plan.pairs {
        let own = if plan.dedicated && readers.len() > 1 { " of its own" } else { "" };
        for ((op, slot), rule) in readers {
            let (v, y) = (name(*v), label(*op));
            all.insert(format!("operand {slot} of {y} reads a pair{own} of {v} by {rule}"));
        }
    }
    for site in &plan.weights {
        let axis = site.axis.map_or("one scale".to_owned(), |a| format!("axis {a}"));
        all.insert(format!("{} is stored for {}, {axis}", name(site.value), label(site.op)));
    }
    for set in &plan.scale_groups {
        let names: BTreeSet<&str> = set.iter().map(|v| name(*v)).collect();
        all.insert(format!("one scale: {}", Vec::from_iter(names).join(", ")));
    }
    all
}

/// What the rule changes in a fixture: `+` with it, `-` without it.
fn difference(id: &str, fixture: &str) -> String {
    let (m, o) = load(fixture);
    let plan = |switch: String| {
        let plan = quantize::plan(&m.graph, &with(&o, switch)).unwrap();
        lines(&m.graph, &plan)
    };
    let (on, off) = (plan(format!("+{id}")), plan(format!("-{id}")));
    let added = on.difference(&off).map(|l| format!("  + {l}\n"));
    added.chain(off.difference(&on).map(|l| format!("  - {l}\n"))).collect()
}

#[test]
fn every_rule_fires_and_misses() {
    let mut all = String::new();
    // N19 holds of every plan; the linter's fixtures break it.
    for rule in RULES.iter().filter(|r| r.id != "N19") {
        let change = difference(rule.id, rule.id);
        assert!(!change.is_empty(), "{} does nothing where it should", rule.id);
        let miss = difference(rule.id, &format!("{}.miss", rule.id));
        assert_eq!(miss, "", "{} does something where it should not", rule.id);
        all += &format!("{}: {}\n{change}", rule.id, rule.summary);
    }
    insta::assert_snapshot!(all);
}

#[test]
fn documentation_lists_every_rule() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/quantization.md");
    let text = std::fs::read_to_string(path).unwrap();
    let listed: Vec<&str> = text
        .lines()
        .skip_while(|l| *l != "| rule | what it does | on | without it |")
        .skip(2)
        .take_while(|l| l.starts_with('|'))
        .collect();
    let row = |r: &quantize::placement::Rule| {
        format!("| {} | {} | {} | {} |", r.id, r.summary, r.on.name(), r.without)
    };
    let want: Vec<String> = RULES.iter().map(row).collect();
    assert_eq!(listed.join("\n"), want.join("\n"));
}

/// Outputs of the model on seeded samples, as far as the engine runs it.
fn sqnr(before: &Model, after: &Model) -> Option<f64> {
    let options = DataOptions { random: Some(2), ..DataOptions::default() };
    let source = data::open(&options, before, 0).ok()?;
    let v = verify::compare(
        before,
        after,
        &TractEngine,
        source.as_ref(),
        2,
        pass::Semantics::Lossy,
        &|_| {},
    );
    v.outputs.iter().filter_map(|o| o.sqnr_db).reduce(f64::min)
}

#[test]
fn both_forms_are_legal_and_compute_what_the_model_does() {
    let mut judged = 0;
    for rule in RULES.iter().filter(|r| r.id != "N19") {
        for sign in ["+", "-"] {
            let (m, o) = load(rule.id);
            let o = with(&o, format!("{sign}{}", rule.id));
            let mut quantized = m.clone();
            let options = DataOptions { random: Some(2), ..DataOptions::default() };
            let source = data::open(&options, &m, 0).unwrap();
            let done =
                quantize::quantize(&mut quantized, &o, &TractEngine, source.as_ref(), &|_| {});
            match done {
                Err(QuantizeError::Run(_)) => continue,
                other => other.unwrap_or_else(|e| panic!("{sign}{}: {e}", rule.id)),
            };
            quantized.graph.check().unwrap();
            if let Some(sqnr) = sqnr(&m, &quantized) {
                assert!(sqnr > 15.0, "{sign}{}: {sqnr} dB", rule.id);
                judged += 1;
            }
        }
    }
    assert!(judged > 45, "{judged}");
}
