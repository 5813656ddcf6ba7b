//! Einstein summation.

use std::collections::BTreeMap;

use super::axes::{AxisLink, AxisRef, Refusal};
use super::facts::operand_shape;
use super::{Axes, InferCx, InferError, OpSchema};
use crate::ir::{Dim, Graph, OpId};

pub(super) static SCHEMAS: &[OpSchema] =
    &[OpSchema { infer, macs, axes: Axes::Rule(axes), ..OpSchema::new("Einsum") }];

/// What an axis is called: a letter of the equation, or a place under `...` counted from the right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Label {
    Dots(usize),
    Letter(char),
}

/// Labels of every operand's axes and of the result's.
pub(crate) struct Equation {
    pub operands: Vec<Vec<Label>>,
    pub result: Vec<Label>,
}

impl Equation {
    /// Reads `text` for operands of these ranks; `None` when the two do not fit.
    fn parse(text: &str, ranks: &[usize]) -> Option<Equation> {
        let text: String = text.chars().filter(|c| !c.is_whitespace()).collect();
        let (left, right) = match text.split_once("->") {
            Some((left, right)) => (left, Some(right)),
            None => (&text[..], None),
        };
        let terms: Vec<&str> = left.split(',').collect();
        if terms.len() != ranks.len() {
            return None;
        }
        let operands: Vec<Vec<Label>> =
            terms.iter().zip(ranks).map(|(t, &r)| labels(t, Some(r))).collect::<Option<_>>()?;
        let dots = operands.iter().flatten().filter_map(|l| match l {
            Label::Dots(i) => Some(i + 1),
            Label::Letter(_) => None,
        });
        let dots = dots.max().unwrap_or(0);
        let result = match right {
            Some(right) => labels(right, right.contains("...").then(|| dots + letters(right)))?,
            None => implicit(&operands, dots),
        };
        Some(Equation { operands, result })
    }

    /// The equation of an op, when the ranks of its operands are known.
    pub(crate) fn of(g: &Graph, id: OpId) -> Option<Equation> {
        let ranks: Vec<usize> = (0..g.op(id).arity())
            .map(|i| operand_shape(g, id, i).map(Vec::len))
            .collect::<Option<_>>()?;
        Equation::parse(g.op(id).str("equation")?, &ranks)
    }
}

fn letters(term: &str) -> usize {
    term.chars().filter(|c| c.is_ascii_alphabetic()).count()
}

/// Labels of one term; `rank` tells how many axes `...` stands for.
fn labels(term: &str, rank: Option<usize>) -> Option<Vec<Label>> {
    let named = letters(term);
    let (before, after) = match term.split_once("...") {
        Some((before, after)) => (before, Some(after)),
        None => (term, None),
    };
    let letter = |c: char| c.is_ascii_alphabetic().then_some(Label::Letter(c));
    let mut out: Vec<Label> = before.chars().map(letter).collect::<Option<_>>()?;
    if let Some(after) = after {
        let dots = rank?.checked_sub(named)?;
        out.extend((0..dots).rev().map(Label::Dots));
        out.extend(after.chars().map(letter).collect::<Option<Vec<_>>>()?);
    }
    rank.is_none_or(|r| r == out.len()).then_some(out)
}

/// The result when the equation does not name it: `...`, then letters that occur once.
fn implicit(operands: &[Vec<Label>], dots: usize) -> Vec<Label> {
    let mut seen: BTreeMap<Label, usize> = BTreeMap::new();
    for label in operands.iter().flatten() {
        *seen.entry(*label).or_default() += 1;
    }
    let once = seen.into_iter().filter(|(l, n)| matches!(l, Label::Letter(_)) && *n == 1);
    (0..dots).rev().map(Label::Dots).chain(once.map(|(l, _)| l)).collect()
}

/// Size of every label; a size of 1 gives way to a larger one.
fn sizes(g: &Graph, id: OpId, eq: &Equation) -> Result<BTreeMap<Label, Dim>, InferError> {
    let mut sizes: BTreeMap<Label, Dim> = BTreeMap::new();
    for (i, labels) in eq.operands.iter().enumerate() {
        let Some(shape) = operand_shape(g, id, i) else { continue };
        for (label, dim) in labels.iter().zip(shape) {
            let known = sizes.entry(*label).or_insert(Dim::Known(1));
            if known.known() == Some(1) || (!known.is_some() && dim.known() != Some(1)) {
                *known = dim.clone();
            } else if dim.known() != Some(1) && known.differs(dim) {
                return Err(format!("an axis has sizes {known} and {dim}").into());
            } else if dim.known().is_some_and(|n| n != 1) {
                *known = dim.clone();
            }
        }
    }
    Ok(sizes)
}

fn infer(cx: &mut InferCx) -> Result<(), InferError> {
    cx.set(0, cx.dtype(0), None);
    let Some(text) = cx.op().str("equation") else { return Err("equation is missing".into()) };
    let ranks: Option<Vec<usize>> = (0..cx.arity()).map(|i| cx.rank(i)).collect();
    let Some(ranks) = ranks else { return Ok(()) };
    let Some(eq) = Equation::parse(text, &ranks) else {
        return Err(format!("equation {text:?} does not fit operands of ranks {ranks:?}").into());
    };
    let sizes = sizes(cx.graph(), cx.id(), &eq)?;
    let shape: Option<Vec<Dim>> = eq.result.iter().map(|l| sizes.get(l).cloned()).collect();
    let Some(shape) = shape else { return Err("a result axis stands in no operand".into()) };
    cx.set(0, cx.dtype(0), Some(shape));
    Ok(())
}

/// One multiplication and addition for every combination of labels, when there is a product.
fn macs(g: &Graph, id: OpId) -> Option<Dim> {
    if g.op(id).arity() < 2 {
        return Some(Dim::Known(0));
    }
    let eq = Equation::of(g, id)?;
    super::facts::count(sizes(g, id, &eq).ok()?.values())
}

/// Label by label: in the result it is one channel everywhere; between two operands alone it is
/// summed over. A label that stands twice in one operand takes a diagonal and is pinned.
fn axes(cx: &InferCx) -> Result<Vec<AxisLink>, Refusal> {
    let eq = Equation::of(cx.graph(), cx.id()).ok_or("its equation or a rank is not known")?;
    let mut labels: Vec<Label> = eq.operands.iter().flatten().copied().collect();
    labels.sort_unstable();
    labels.dedup();
    let mut links = Vec::new();
    for label in labels {
        let mut places = Vec::new();
        for (slot, operand) in eq.operands.iter().enumerate() {
            let axes = (0..operand.len()).filter(|&a| operand[a] == label);
            places.extend(axes.map(|a| AxisRef::Operand(slot, a)));
        }
        let diagonal = eq.operands.iter().any(|o| o.iter().filter(|l| **l == label).count() > 1);
        let result = eq.result.iter().position(|l| *l == label);
        match (result.map(|axis| AxisRef::Result(0, axis)), &places[..]) {
            _ if diagonal => {}
            (Some(result), &[weight @ AxisRef::Operand(slot, _)]) if cx.tensor(slot).is_some() => {
                links.push(AxisLink::Source { weight, result });
            }
            (Some(result), _) => {
                places.push(result);
                links.push(AxisLink::Broadcast(places));
            }
            (None, &[a, b]) => links.push(AxisLink::Contract(a, b)),
            (None, _) => {}
        }
    }
    Ok(links)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equations() {
        let eq = Equation::parse("bhid, bhjd -> bhij", &[4, 4]).expect("fits");
        assert_eq!(eq.result.len(), 4);
        let eq = Equation::parse("...ij,...jk", &[3, 4]).expect("fits");
        let ij = [Label::Dots(1), Label::Dots(0), Label::Letter('i'), Label::Letter('k')];
        assert_eq!(eq.result, ij);
        assert!(Equation::parse("ij,jk->ik", &[2, 3]).is_none());
        assert!(Equation::parse("ij->i", &[2, 3]).is_none());
        assert!(Equation::parse("i1", &[2]).is_none());
    }
}
