//! What a pass is, and how passes are driven.

mod changes;
mod driver;
mod hashes;
mod infer;
mod pipeline;
mod visit;

use std::collections::BTreeMap;
use std::time::Duration;

pub use changes::Changes;
pub use driver::run_rewrites;
pub use hashes::Hashes;
pub use infer::{infer_graph, infer_model, infer_op};
pub use pipeline::{Selection, all_passes, find_pass, simplify};
pub(crate) use visit::visit_model_and_tell;
pub use visit::{visit_graphs, visit_model};

pub use crate::ir::Miss;
use crate::ir::{Cycle, Graph, Model, OpId, Patch, Violation};
pub use crate::passes::inline_functions::inline_functions;
pub use crate::passes::remove_dead::remove_dead;

/// What a rewrite does to the numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Semantics {
    /// Results are bit-identical.
    Exact,
    /// Results differ by the rounding of reordered float arithmetic.
    Reassociates,
    /// Results change.
    Lossy,
}

/// Name and promise of a pass.
#[derive(Debug)]
pub struct PassInfo {
    /// Its name, verb first: `fuse-conv-bn`.
    pub name: &'static str,
    /// One line.
    pub summary: &'static str,
    /// What it does to the numbers.
    pub semantics: Semantics,
    /// Source of the file that holds it; its module docs are the page `lapidary explain` prints.
    pub source: &'static str,
}

impl PassInfo {
    /// The page about the pass: the module docs of its file.
    pub fn page(&self) -> String {
        let lines = self.source.lines().take_while(|l| l.starts_with("//!"));
        lines.map(|l| l[3..].strip_prefix(' ').unwrap_or(&l[3..]).to_owned() + "\n").collect()
    }
}

/// Why a pass failed. Not firing is no failure.
#[derive(Debug, thiserror::Error)]
pub enum PassError {
    /// A pass broke an invariant of the graph: a bug in Lapidary.
    #[error("pass {pass} broke the graph ({violation}); please report this with the model")]
    Broken {
        /// Its name.
        pass: &'static str,
        /// What it broke.
        violation: Violation,
    },
    /// A pass made a cycle: a bug in Lapidary.
    #[error(transparent)]
    Cycle(#[from] Cycle),
    /// No pass has the name.
    #[error("no pass is called {name:?}; the passes are: {valid}")]
    UnknownPass {
        /// The name given.
        name: String,
        /// All names.
        valid: String,
    },
}

/// A transformation of a whole model.
pub trait Pass: Sync {
    /// Name and promise.
    fn info(&self) -> &'static PassInfo;
    /// Transforms the model.
    ///
    /// # Errors
    /// Only for what stops the whole run.
    fn run(&self, model: &mut Model, cx: &mut Cx) -> Result<(), PassError>;
}

/// A local transformation around one op. It reads a shared graph and plans a patch.
pub trait Rewrite: Sync {
    /// Name and promise.
    fn info(&self) -> &'static PassInfo;
    /// Operators of the default domain at which the pattern is rooted; empty for all ops of all
    /// domains.
    fn roots(&self) -> &'static [&'static str];
    /// The edits, or why the pattern does not apply here.
    ///
    /// # Errors
    /// A [`Miss`], which is no failure.
    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss>;
}

/// Where a rewrite looks.
#[derive(Clone, Copy, Debug)]
pub struct Site<'a> {
    /// Version of the default operator set.
    pub opset: i64,
    /// Limits that the user set.
    pub limits: &'a Limits,
    /// Bytes that constants may still grow by. The driver refuses patches beyond it; a rewrite asks
    /// only to save the work.
    pub room: i64,
}

/// Limits that the user sets.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// All passes together never make the constants of a model take more bytes than this beyond
    /// what they took. Without a limit from the user: 64 KiB and 1 % of what they took.
    pub fold_growth: Option<usize>,
}

/// State of one run over a model.
#[derive(Debug, Default)]
pub struct Cx {
    /// Limits that the user set.
    pub limits: Limits,
    /// Which passes run.
    pub selection: Selection,
    /// Keep misses for `--explain`.
    pub explain: bool,
    /// Verify all invariants after each pass, and at the end that nothing is left to do anywhere.
    pub check: bool,
    /// What each pass did.
    pub stats: BTreeMap<&'static str, PassStats>,
    /// Where and why patterns did not fire, when `explain` is set: pass, op, reason.
    pub misses: Vec<(&'static str, String, Miss)>,
    /// Contradictions that shape inference met: op and what is wrong.
    pub findings: Vec<(String, String)>,
    /// Stop after this many patches, to bisect.
    pub stop_after: Option<usize>,
    /// Patches applied so far.
    pub applied: usize,
    /// With `stop_after`, the pass that made the last of them, and the node where.
    pub last: Option<(&'static str, Option<String>)>,
    /// Bytes that constants may still grow by.
    pub room: i64,
    /// Hashes of constants.
    pub hashes: Hashes,
    /// Rounds over the whole model.
    pub rounds: usize,
    /// What changed in the main graph since each list of rewrites looked at it.
    pub changes: Changes,
    /// The passes did not come to rest: a bug, caught by tests; the result is right but perhaps
    /// not as simple as it could be.
    pub exhausted: bool,
}

/// What a pass did.
#[derive(Clone, Copy, Debug, Default)]
pub struct PassStats {
    /// Times it changed the graph.
    pub fired: usize,
    /// Times it was tried at a node; zero for passes over whole graphs.
    pub tried: usize,
    /// Time it took.
    pub time: Duration,
}

impl Cx {
    /// Some passes still may run.
    pub fn may_go_on(&self) -> bool {
        self.stop_after.is_none_or(|n| self.applied < n)
    }
}
