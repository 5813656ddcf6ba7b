//! Rules that a model keeps or breaks, without numbers.

use globset::{Glob, GlobSet, GlobSetBuilder};

use super::{Budgets, GateError};
use crate::ir::{Graph, Model, Op, for_each_graph};
use crate::target::{self, Severity, Target};

/// A rule and what broke it.
pub(super) struct Broken {
    /// Key of the budget.
    pub budget: &'static str,
    /// What the budget says.
    pub limit: String,
    /// Each violation: where, and what.
    pub found: Vec<(String, String)>,
}

/// A budget, its patterns, whether they allow or forbid, and what of an op they match.
type OpRule<'a> = (&'static str, &'a [String], bool, &'a dyn Fn(&Op) -> String);

/// Checks all rules that are set, in a fixed order.
///
/// # Errors
/// When a pattern or a target has no meaning.
pub(super) fn check(model: &Model, budgets: &Budgets) -> Result<Vec<Broken>, GateError> {
    let mut out = Vec::new();
    if let Some(max) = budgets.max_opset {
        let opset = model.default_opset();
        let found = (opset > max).then(|| (String::new(), format!("operator set {opset}")));
        let found = found.into_iter().collect();
        out.push(Broken { budget: "max-opset", limit: max.to_string(), found });
    }
    let domain = |op: &Op| match op.domain.as_str() {
        "" => "ai.onnx".to_owned(),
        domain => domain.to_owned(),
    };
    let rules: [OpRule; 4] = [
        ("allow-ops", &budgets.allow_ops, true, &Op::full_type),
        ("forbid-ops", &budgets.forbid_ops, false, &Op::full_type),
        ("allow-domains", &budgets.allow_domains, true, &domain),
        ("forbid-domains", &budgets.forbid_domains, false, &domain),
    ];
    for (budget, patterns, allows, key) in rules {
        if !patterns.is_empty() {
            let set = patterns_of(budget, patterns)?;
            let found = ops(model, &|op| set.is_match(key(op)) != allows);
            out.push(Broken { budget, limit: patterns.join(", "), found });
        }
    }
    for (budget, patterns, allows) in [
        ("allow-dtypes", &budgets.allow_dtypes, true),
        ("forbid-dtypes", &budgets.forbid_dtypes, false),
    ] {
        if !patterns.is_empty() {
            let set = patterns_of(budget, patterns)?;
            let found = values(model, &|dtype| set.is_match(dtype) != allows);
            out.push(Broken { budget, limit: patterns.join(", "), found });
        }
    }
    if let Some(target) = &budgets.target {
        out.push(Broken {
            budget: "target",
            limit: target.clone(),
            found: legality(model, target)?,
        });
    }
    Ok(out)
}

fn patterns_of(budget: &str, patterns: &[String]) -> Result<GlobSet, GateError> {
    let fail = |e: globset::Error| GateError::Budget(format!("{budget}: {e}"));
    let mut set = GlobSetBuilder::new();
    for pattern in patterns {
        set.add(Glob::new(pattern).map_err(fail)?);
    }
    set.build().map_err(fail)
}

/// Ops of all graphs that break a rule. Calls of local functions count by the functions' bodies.
fn ops(model: &Model, breaks: &dyn Fn(&Op) -> bool) -> Vec<(String, String)> {
    let mut found = Vec::new();
    each_graph(model, &mut |g| {
        for id in g.order() {
            let op = g.op(id);
            if model.function(op).is_none() && breaks(op) {
                found.push((g.label(id), String::new()));
            }
        }
    });
    found
}

/// Values of all graphs whose element type breaks a rule.
fn values(model: &Model, breaks: &dyn Fn(&str) -> bool) -> Vec<(String, String)> {
    let mut model = model.clone();
    let opset = model.default_opset();
    crate::pass::infer_graph(&mut model.graph, opset, &mut |_, _| {});
    let mut found = Vec::new();
    each_graph(&model, &mut |g| {
        for v in g.values() {
            let stored = g.initializer(v).map(crate::ir::Tensor::dtype);
            let dtype = stored.or_else(|| g.value(v).dtype());
            if let Some(dtype) = dtype.filter(|d| breaks(d.name())) {
                found.push((g.value(v).name().to_owned(), dtype.name().to_owned()));
            }
        }
    });
    found
}

fn each_graph<'a>(model: &'a Model, f: &mut dyn FnMut(&'a Graph)) {
    for_each_graph(&model.graph, f);
    for function in &model.functions {
        for_each_graph(&function.graph, f);
    }
}

/// What the target rejects; warnings are no breach.
fn legality(model: &Model, target: &str) -> Result<Vec<(String, String)>, GateError> {
    let parsed: Target = target.parse().map_err(|e| GateError::Budget(format!("target: {e}")))?;
    let findings = target::check(model, parsed);
    let errors = findings.into_iter().filter(|f| f.severity == Severity::Error);
    Ok(errors.map(|f| (f.node, format!("{} ({}); {}", f.why, f.id, f.fix))).collect())
}
