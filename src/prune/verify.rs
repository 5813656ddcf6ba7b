//! Parameter lengths: does every constant and every length written down fit its op?
//!
//! Neither the ONNX checker nor a run of a model tells: a `Conv` whose bias is too short passes the
//! one and reads past its buffer in the other.

use crate::ir::{Graph, OpId};
use crate::ops;
use crate::ops::axes::{Axes, AxisLink, AxisRef, Place};

/// A length that does not fit.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Misfit {
    /// The op.
    pub node: String,
    /// What is wrong.
    pub what: String,
}

impl std::fmt::Display for Misfit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.node, self.what)
    }
}

/// Every length in the graph that contradicts the operator it belongs to, in the order of the ops.
/// Types must be up to date; what is not known is not judged.
pub fn check_lengths(g: &Graph, opset: i64) -> Vec<Misfit> {
    let mut out = Vec::new();
    for op in g.order() {
        let check = Check { g, op };
        let mut report = |what: String| out.push(Misfit { node: g.label(op), what });
        let schema = ops::any_schema(g.op(op));
        if let Ok(links) = super::flat::links(g, op, opset) {
            links.iter().filter_map(|l| check.link(l)).for_each(&mut report);
        }
        if matches!(schema.map(|s| s.axes), Some(Axes::Reshape)) {
            check.elements().into_iter().for_each(&mut report);
        }
        check.recurrent().into_iter().for_each(&mut report);
    }
    out
}

struct Check<'a> {
    g: &'a Graph,
    op: OpId,
}

impl Check<'_> {
    fn len(&self, at: AxisRef) -> Option<usize> {
        let (value, axis, _) = super::trace::place(self.g, self.op, at)?;
        self.g.value(value).shape()?.get(axis)?.size()
    }

    fn link(&self, link: &AxisLink) -> Option<String> {
        match link {
            AxisLink::Same(refs) => self.equal(refs, false),
            AxisLink::Broadcast(refs) => self.equal(refs, true),
            AxisLink::Source { weight, result } => self.equal(&[*weight, *result], false),
            AxisLink::Contract(a, b) => self.equal(&[*a, *b], false),
            AxisLink::Blocked { axis, part, rows, groups, .. } => {
                let (n, p) = (self.len(*axis)?, self.len(*part)?);
                if p.checked_mul(*groups) != Some(n) {
                    let (axis, part) = (name(*axis), name(*part));
                    return Some(format!(
                        "{axis} is {n} where {groups} groups of {part} make {p} each"
                    ));
                }
                let AxisRef::Operand(slot, _) = part else { return None };
                let r = self.len(AxisRef::Operand(*slot, *rows))?;
                (r % groups != 0).then(|| format!("{r} rows do not make {groups} groups"))
            }
            AxisLink::Equal(axis, groups)
            | AxisLink::Whole(axis, groups)
            | AxisLink::Statistics(axis, groups) => {
                let n = self.len(*axis)?;
                let uneven = *groups == 0 || n % groups != 0;
                uneven.then(|| format!("{} of {n} does not make {groups} groups", name(*axis)))
            }
            AxisLink::Map(a, b, pairs) => {
                let (n, m) = (self.len(*a)?, self.len(*b)?);
                let out = pairs.iter().any(|&(i, j)| i as usize >= n || j as usize >= m);
                out.then(|| format!("{} of {n} does not fit {} of {m}", name(*a), name(*b)))
            }
            AxisLink::Lengths { of, at } => self.lengths(of, *at),
            _ => None,
        }
    }

    fn equal(&self, refs: &[AxisRef], broadcast: bool) -> Option<String> {
        let known = |r: &AxisRef| self.len(*r).filter(|n| !broadcast || *n != 1).map(|n| (*r, n));
        let mut known = refs.iter().filter_map(known);
        let (first, n) = known.next()?;
        let (other, m) = known.find(|(_, m)| *m != n)?;
        Some(format!("{} is {n} but {} is {m}", name(first), name(other)))
    }

    /// Lengths that are written down, against those of the axes; the pieces of `Split` against the
    /// whole.
    fn lengths(&self, of: &[AxisRef], at: Place) -> Option<String> {
        let op = self.g.op(self.op);
        let list = match at {
            Place::Attr(attr) => match op.int(attr) {
                Some(v) => vec![v],
                None => op.ints(attr)?.to_vec(),
            },
            Place::Operand(slot) => self.g.const_operand(self.op, slot)?.to_i64()?,
        };
        if op.is("Split") {
            let whole = self.len(AxisRef::Operand(0, axis_of(*of.first()?)))?;
            let sum = list.iter().fold(0i64, |sum, n| sum.saturating_add(*n));
            return (i64::try_from(whole) != Ok(sum))
                .then(|| format!("its pieces add up to {sum} of {whole}"));
        }
        of.iter().zip(list).find_map(|(axis, stated)| {
            let n = self.len(*axis)?;
            let open = stated == 0 || stated == -1 || (stated == 1 && op.is("Expand"));
            let wrong = !open && i64::try_from(n) != Ok(stated);
            wrong.then(|| format!("{} is {n} but stated as {stated}", name(*axis)))
        })
    }

    /// A change of dims keeps the number of elements.
    fn elements(&self) -> Option<String> {
        let sizes = |v: Option<_>| self.g.value(v?).sizes();
        let from = sizes(self.g.operand(self.op, 0))?;
        let to = sizes(self.g.result(self.op, 0))?;
        let count = crate::ir::element_count;
        (count(&from) != count(&to)).then(|| format!("{from:?} does not fill {to:?}"))
    }

    /// Parameters of `LSTM`, `GRU` and `RNN`.
    fn recurrent(&self) -> Option<String> {
        let op = self.g.op(self.op);
        let gates: usize = match op.op_type.as_str() {
            _ if !op.domain.is_empty() => return None,
            "LSTM" => 4,
            "GRU" => 3,
            "RNN" => 1,
            _ => return None,
        };
        let at = |slot, axis| self.len(AxisRef::Operand(slot, axis));
        let hidden = match op.int("hidden_size") {
            Some(h) => usize::try_from(h).ok()?,
            None => at(2, 2)?,
        };
        let directions = if op.str("direction") == Some("bidirectional") { 2 } else { 1 };
        let wanted = [
            (1, 0, directions),
            (1, 1, gates.saturating_mul(hidden)),
            (2, 0, directions),
            (2, 1, gates.saturating_mul(hidden)),
            (2, 2, hidden),
            (3, 0, directions),
            (3, 1, hidden.saturating_mul(2 * gates)),
            (5, 2, hidden),
            (6, 2, hidden),
            (7, 1, hidden.saturating_mul(3)),
        ];
        if let (Some(x), Some(w)) = (at(0, 2), at(1, 2))
            && x != w
        {
            return Some(format!("its input has {x} features and its weight {w}"));
        }
        wanted.into_iter().find_map(|(slot, axis, n)| {
            let m = at(slot, axis)?;
            (m != n).then(|| format!("operand {slot} axis {axis} is {m} instead of {n}"))
        })
    }
}

fn axis_of(at: AxisRef) -> usize {
    match at {
        AxisRef::Operand(_, axis) | AxisRef::Result(_, axis) => axis,
    }
}

fn name(at: AxisRef) -> String {
    match at {
        AxisRef::Operand(slot, axis) => format!("operand {slot} axis {axis}"),
        AxisRef::Result(slot, axis) => format!("result {slot} axis {axis}"),
    }
}
