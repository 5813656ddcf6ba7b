//! SARIF 2.1.0, as GitHub code scanning and editors read it.

use serde_json::{Value, json};

use crate::gate::{Check, Status};

/// The whole log: a rule for each kind of budget, a result for each one that is exceeded.
pub fn sarif(checks: &[Check]) -> Value {
    let mut budgets: Vec<&str> = checks.iter().map(|c| c.budget).collect();
    budgets.sort_unstable();
    budgets.dedup();
    let rule = |b: &&str| {
        json!({
            "id": b,
            "shortDescription": { "text": format!("Models keep the budget {b}") },
            "defaultConfiguration": { "level": "error" },
        })
    };
    let rules: Vec<Value> = budgets.iter().map(rule).collect();
    let exceeded = checks.iter().filter(|c| c.status == Status::Exceeded);
    let result = |c: &Check| {
        json!({
            "ruleId": c.budget,
            "ruleIndex": budgets.iter().position(|b| *b == c.budget),
            "level": "error",
            "message": { "text": c.message() },
            "locations": [{
                "physicalLocation": { "artifactLocation": { "uri": uri(&c.model) } },
                "logicalLocations": places(c),
            }],
            "partialFingerprints": { "lapidaryBudget/v1": format!("{}:{}", c.model, c.budget) },
        })
    };
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "lapidary",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules,
            } },
            "results": exceeded.map(result).collect::<Vec<_>>(),
        }],
    })
}

/// The nodes that are to blame.
fn places(c: &Check) -> Vec<Value> {
    let culprits = c.culprits.iter().map(|p| p.name.clone());
    let found = c.found.iter().map(|f| f.0.clone());
    let names = culprits.chain(found).filter(|name| !name.is_empty());
    names.map(|name| json!({ "fullyQualifiedName": name, "kind": "member" })).collect()
}

/// A path as a relative URI reference (RFC 3986).
fn uri(path: &str) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~/".contains(&b);
    let code = |b: u8| if plain(b) { char::from(b).to_string() } else { format!("%{b:02X}") };
    path.replace('\\', "/").bytes().map(code).collect()
}
