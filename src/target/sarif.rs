//! Findings as SARIF 2.1.0, which code hosts and editors show.

use std::path::Path;

use serde_json::{Value, json};

use super::{Finding, Severity, rules};

/// The log of one run over a file.
pub fn sarif(path: &Path, findings: &[Finding]) -> Value {
    let described: Vec<Value> = rules::RULES
        .iter()
        .map(|r| {
            json!({
                "id": r.id,
                "shortDescription": { "text": r.title },
                "fullDescription": { "text": r.page },
            })
        })
        .collect();
    let uri = path.display().to_string().replace('\\', "/");
    let results: Vec<Value> = findings.iter().map(|f| result(&uri, f)).collect();
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "lapidary",
                "version": env!("CARGO_PKG_VERSION"),
                "rules": described,
            } },
            "results": results,
        }],
    })
}

fn result(uri: &str, f: &Finding) -> Value {
    let level = match f.severity {
        Severity::Note => "note",
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    let command = f.command.map(|c| format!(" (lapidary {c})")).unwrap_or_default();
    json!({
        "ruleId": f.id,
        "ruleIndex": rules::RULES.iter().position(|r| r.id == f.id),
        "level": level,
        "message": { "text": format!("{}: {}. Fix: {}{command}", f.node, f.why, f.fix) },
        "locations": [{
            "physicalLocation": { "artifactLocation": { "uri": uri } },
            "logicalLocations": [{ "name": f.node }],
        }],
    })
}
