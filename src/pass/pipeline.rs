//! Which passes run, in which order.

use super::{Cx, Pass, PassError, PassInfo, Rewrite, run_rewrites};
use crate::ir::Model;

/// Which passes the user wants.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    only: Option<Vec<String>>,
    disabled: Vec<String>,
}

impl Selection {
    /// Runs all passes but `disabled`, or, if `only` is not empty, just those.
    ///
    /// # Errors
    /// When a name is no pass.
    pub fn new(only: &[String], disabled: &[String]) -> Result<Selection, PassError> {
        for name in only.iter().chain(disabled) {
            if find_pass(name).is_none() {
                let valid: Vec<&str> = all_passes().map(|p| p.name).collect();
                return Err(PassError::UnknownPass { name: name.clone(), valid: valid.join(", ") });
            }
        }
        let only = Some(only.to_vec()).filter(|o| !o.is_empty());
        Ok(Selection { only, disabled: disabled.to_vec() })
    }

    /// The pass with this name may run.
    pub fn allows(&self, name: &str) -> bool {
        let is = |n: &String| n == name;
        self.only.as_ref().is_none_or(|o| o.iter().any(is)) && !self.disabled.iter().any(is)
    }
}

/// Passes over the whole model that run first.
static NORMALIZE: &[&dyn Pass] = &[];

/// Rewrites that run together until none fires.
static SIMPLIFY: &[&dyn Rewrite] = &[];

/// Passes that run between rounds of rewrites, until nothing changes.
static BETWEEN: &[&dyn Pass] = &[];

/// Passes over the whole model that run last.
static CLEAN_UP: &[&dyn Pass] = &[];

/// Rounds after which a fixpoint is given up; reaching it fails in tests.
const MAX_ROUNDS: usize = 20;

/// All passes, in the order they run.
pub fn all_passes() -> impl Iterator<Item = &'static PassInfo> {
    let first = NORMALIZE.iter().map(|p| p.info());
    let middle = SIMPLIFY.iter().map(|r| r.info()).chain(BETWEEN.iter().map(|p| p.info()));
    first.chain(middle).chain(CLEAN_UP.iter().map(|p| p.info()))
}

/// The pass with this name.
pub fn find_pass(name: &str) -> Option<&'static PassInfo> {
    all_passes().find(|p| p.name == name)
}

/// Simplifies a model: every selected pass until nothing changes.
///
/// # Errors
/// When a pass breaks the graph.
pub fn simplify(m: &mut Model, cx: &mut Cx) -> Result<(), PassError> {
    run_passes(NORMALIZE, m, cx)?;
    for round in 0.. {
        debug_assert!(round < MAX_ROUNDS, "passes undo each other's work");
        let before = m.graph.revision();
        let opset = m.default_opset();
        super::infer::infer_model(m, &mut |op, what| cx.findings.push((op, what)));
        run_rewrites(&mut m.graph, opset, SIMPLIFY, cx)?;
        for f in 0..m.functions.len() {
            let function = &mut m.functions[f];
            let opset = crate::ir::opset_of(&function.opsets, "").unwrap_or(opset);
            run_rewrites(&mut function.graph, opset, SIMPLIFY, cx)?;
        }
        run_passes(BETWEEN, m, cx)?;
        if m.graph.revision() == before || round >= MAX_ROUNDS || !cx.may_go_on() {
            break;
        }
        cx.findings.clear();
        cx.misses.clear();
    }
    run_passes(CLEAN_UP, m, cx)
}

fn run_passes(passes: &[&dyn Pass], m: &mut Model, cx: &mut Cx) -> Result<(), PassError> {
    for pass in passes {
        let info = pass.info();
        if !cx.selection.allows(info.name) || !cx.may_go_on() {
            continue;
        }
        let start = std::time::Instant::now();
        let before = m.graph.revision();
        pass.run(m, cx)?;
        let stats = cx.stats.entry(info.name).or_default();
        stats.time += start.elapsed();
        if m.graph.revision() != before {
            stats.fired += 1;
            cx.applied += 1;
        }
        if cx.check {
            let check = m.graph.check();
            check.map_err(|violation| PassError::Broken { pass: info.name, violation })?;
        }
    }
    Ok(())
}
