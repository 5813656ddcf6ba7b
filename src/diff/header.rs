//! What a file says around its graphs.

use super::{Change, Ignore};
use crate::ir::{Function, Model};

/// Differences of everything outside of the graphs, and functions that only one model has.
pub(super) fn changes(a: &Model, b: &Model, ignore: Ignore) -> Vec<Change> {
    let mut out = Vec::new();
    let mut text = |what: &str, x: &str, y: &str| {
        if x != y {
            out.push(Change::new(what, present(x), present(y)));
        }
    };
    text("ir_version", &a.ir_version.to_string(), &b.ir_version.to_string());
    text("domain", &a.domain, &b.domain);
    let version = |m: &Model| m.model_version.map(|v| v.to_string()).unwrap_or_default();
    text("model version", &version(a), &version(b));
    let opsets = |m: &Model| {
        let name = |d: &str| format!("opset {}", if d.is_empty() { "ai.onnx" } else { d });
        m.opsets.iter().map(|(d, v)| (name(d), v.to_string())).collect::<Vec<_>>()
    };
    keyed(&opsets(a), &opsets(b), &mut out);
    if !ignore.metadata {
        notes(a, b, &mut out);
    }
    let functions = |m: &Model| -> Vec<(String, String)> {
        let one = |f: &Function| {
            let name = function_name(f);
            (format!("function {name}"), format!("{} nodes", f.graph.op_count()))
        };
        m.functions.iter().map(one).collect()
    };
    one_sided(&functions(a), &functions(b), &mut out);
    if a.extra != b.extra {
        let parts = |m: &Model| Some(format!("{} fields", m.extra.len()));
        out.push(Change::new("training and device information", parts(a), parts(b)));
    }
    out
}

/// What people and tools wrote about the file.
fn notes(a: &Model, b: &Model, out: &mut Vec<Change>) {
    let texts = |m: &Model| -> Vec<(String, String)> {
        let pairs = [
            ("producer", &m.producer_name),
            ("producer version", &m.producer_version),
            ("doc", &m.doc),
            ("graph name", &m.graph.name),
            ("graph doc", &m.graph.notes.doc),
        ];
        let present = pairs.into_iter().filter(|(_, text)| !text.is_empty());
        let named = |what: &str, list: &[(String, String)]| -> Vec<(String, String)> {
            list.iter().map(|(k, v)| (format!("{what} {k}"), v.clone())).collect()
        };
        let texts = present.map(|(what, text)| (what.to_owned(), text.clone()));
        texts
            .chain(named("metadata", &m.metadata))
            .chain(named("graph metadata", &m.graph.notes.metadata))
            .collect()
    };
    keyed(&texts(a), &texts(b), out);
}

/// `domain.name` and the overload, if there is one.
pub(super) fn function_name(f: &Function) -> String {
    let parts = [&f.domain, &f.name, &f.overload].into_iter().filter(|p| !p.is_empty());
    parts.map(String::as_str).collect::<Vec<_>>().join(".")
}

fn present(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Entries that differ, in the order of the second list and then the first.
pub(super) fn keyed(a: &[(String, String)], b: &[(String, String)], out: &mut Vec<Change>) {
    for (key, after) in b {
        let before = a.iter().find(|(k, _)| k == key).map(|(_, v)| v);
        if before != Some(after) {
            out.push(Change::new(key.clone(), before.cloned(), after.clone()));
        }
    }
    for (key, before) in a.iter().filter(|(k, _)| b.iter().all(|(other, _)| other != k)) {
        out.push(Change::new(key.clone(), before.clone(), None));
    }
}

fn one_sided(a: &[(String, String)], b: &[(String, String)], out: &mut Vec<Change>) {
    let missing = |from: &[(String, String)], key: &String| from.iter().all(|(k, _)| k != key);
    for (key, what) in b.iter().filter(|(k, _)| missing(a, k)) {
        out.push(Change::new(key.clone(), None, what.clone()));
    }
    for (key, what) in a.iter().filter(|(k, _)| missing(b, k)) {
        out.push(Change::new(key.clone(), what.clone(), None));
    }
}
