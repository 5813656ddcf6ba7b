//! Bisection: the edit after which a model no longer computes what it did.

use serde::Serialize;

use crate::ir::Model;
use crate::pass::{Cx, PassError};

/// Simplifies a model, and stops after so many edits. Every call has to make the same edits.
pub type Simplify<'a> = dyn Fn(&mut Model, Option<usize>) -> Result<Cx, PassError> + 'a;

/// What a bisection found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Bisection {
    /// Edits that simplification makes.
    pub edits: usize,
    /// The edit that changes an output; none where all of them together change nothing.
    pub culprit: Option<Culprit>,
}

/// An edit that changes an output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Culprit {
    /// Which one, counted from 1: `--stop-after` one less gives the model just before it.
    pub edit: usize,
    /// The pass that made it.
    pub pass: &'static str,
    /// The node at which it was made; none for passes over whole graphs.
    pub node: Option<String>,
    /// How the outputs differ after it.
    pub why: String,
}

/// Looks for an edit before which the model agrees with the original and after which it does not.
/// `differs` says how a model differs, if it does; it is asked once for every halving.
///
/// # Errors
/// When a pass breaks the graph, or when `differs` cannot tell.
pub fn bisect<E: From<PassError>>(
    original: &Model,
    simplify: &Simplify,
    differs: &mut dyn FnMut(&Model) -> Result<Option<String>, E>,
) -> Result<Bisection, E> {
    let mut until = |stop_after: Option<usize>| -> Result<(Cx, Option<String>), E> {
        let mut model = original.clone();
        let cx = simplify(&mut model, stop_after)?;
        let why = differs(&model)?;
        Ok((cx, why))
    };
    let (all, why) = until(None)?;
    let edits = all.applied;
    let Some(mut why) = why else { return Ok(Bisection { edits, culprit: None }) };
    // After `good` edits the model agrees, after `bad` ones it does not.
    let (mut good, mut bad) = (0, edits);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        match until(Some(middle))?.1 {
            None => good = middle,
            Some(how) => (bad, why) = (middle, how),
        }
    }
    let last = simplify(&mut original.clone(), Some(bad))?.last;
    let (pass, node) = last.unwrap_or(("simplify", None));
    Ok(Bisection { edits, culprit: Some(Culprit { edit: bad, pass, node, why }) })
}
