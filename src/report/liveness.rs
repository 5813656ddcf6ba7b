//! Which values are alive when: the memory that activations need.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::bind;
use super::inspect::fed_inputs;
use crate::ir::{Graph, Model, OpId, ValueId};
use crate::ops;

/// Bytes of activations over a run, ops in the order of the graph, one after the other, none of
/// them in place. A value lives from the op that makes it to the last one that reads it; inputs live
/// from the start and outputs to the end. What only depends on constants is no activation. While an
/// op with subgraphs runs, the greatest peak among them comes on top.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Liveness {
    /// The most bytes that are alive at once.
    pub peak_bytes: usize,
    /// The first op while which so many are alive; empty for a graph without ops.
    pub peak_op: String,
    /// Values alive then, largest first.
    pub alive: Vec<Alive>,
    /// Bytes alive while each op runs, in order.
    pub bytes_by_op: Vec<usize>,
}

/// A value that is alive at the peak.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Alive {
    /// Its name.
    pub name: String,
    /// Its size.
    pub bytes: usize,
}

/// Liveness over the main graph; `None` where the size of an activation is not known. `dims` gives
/// sizes to symbols of the inputs, as in [`summarize`](super::inspect::summarize).
pub fn liveness(model: &Model, dims: &[(String, i64)]) -> Option<Liveness> {
    of_graph(&bind::bind(model, dims).graph)
}

/// A value with the places in the order between which it lives, both included.
struct Span {
    value: ValueId,
    bytes: usize,
    first: usize,
    last: usize,
}

pub(super) fn of_graph(g: &Graph) -> Option<Liveness> {
    let order = g.order();
    let spans = spans(g, &order)?;
    let mut starts = vec![0usize; order.len().max(1)];
    let mut ends = starts.clone();
    for s in &spans {
        starts[s.first] = starts[s.first].checked_add(s.bytes)?;
        ends[s.last] = ends[s.last].checked_add(s.bytes)?;
    }
    let (mut now, mut bytes_by_op) = (0usize, Vec::with_capacity(starts.len()));
    for (i, (start, end)) in starts.into_iter().zip(ends).enumerate() {
        now = now.checked_add(start)?;
        let inside = order.get(i).map_or(Some(0), |op| bodies_peak(g, *op))?;
        bytes_by_op.push(now.checked_add(inside)?);
        now -= end;
    }
    let peak_bytes = bytes_by_op.iter().copied().max().unwrap_or(0);
    let at = bytes_by_op.iter().position(|n| *n == peak_bytes).unwrap_or(0);
    let mut alive: Vec<Alive> = spans
        .iter()
        .filter(|s| s.first <= at && at <= s.last)
        .map(|s| Alive { name: g.value(s.value).name().to_owned(), bytes: s.bytes })
        .collect();
    alive.sort_by_key(|a| std::cmp::Reverse(a.bytes));
    let peak_op = order.get(at).map_or(String::new(), |op| g.label(*op));
    bytes_by_op.truncate(order.len());
    Some(Liveness { peak_bytes, peak_op, alive, bytes_by_op })
}

fn spans(g: &Graph, order: &[OpId]) -> Option<Vec<Span>> {
    let at: BTreeMap<OpId, usize> = order.iter().enumerate().map(|(i, op)| (*op, i)).collect();
    let end = order.len().saturating_sub(1);
    let span = |value: ValueId, first: usize| {
        let last_use = g.uses(value).into_iter().filter_map(|(op, _)| at.get(&op)).max();
        let last = if g.is_output(value) { end } else { last_use.map_or(first, |i| *i) };
        let n = g.value(value).sizes()?.into_iter().try_fold(1usize, usize::checked_mul)?;
        Some(Span { value, bytes: g.value(value).dtype()?.byte_len(n)?, first, last })
    };
    let mut spans: Vec<Span> = fed_inputs(g).map(|v| span(v, 0)).collect::<Option<_>>()?;
    let mut fixed: BTreeSet<ValueId> = BTreeSet::new();
    for (i, op) in order.iter().enumerate() {
        let constant = g.reads(*op).all(|v| g.is_const(v) || fixed.contains(&v))
            && ops::schema(g.op(*op)).is_some_and(|s| s.deterministic);
        for v in g.results(*op).into_iter().flatten() {
            if constant {
                fixed.insert(v);
            } else {
                spans.push(span(v, i)?);
            }
        }
    }
    Some(spans)
}

/// The greatest peak among the bodies of an op, of which one runs at a time.
fn bodies_peak(g: &Graph, op: OpId) -> Option<usize> {
    let mut peak = 0;
    for body in &g.op(op).bodies {
        peak = peak.max(of_graph(body)?.peak_bytes);
    }
    Some(peak)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::text;

    fn of(body: &str) -> Option<Liveness> {
        let head = "<ir_version: 9, opset_import: [\"\" : 17]>";
        liveness(&text::parse(&format!("{head}\n{body}")).expect("the text parses"), &[])
    }

    #[test]
    fn a_skipped_value_lives_until_it_is_added() {
        let l = of("m (float[10] x) => (float[10] y) {
                a = Relu (x)
                b = Concat <axis = 0> (a, a, a)
                c = ReduceMax <keepdims = 1> (b)
                y = Add (a, c)
            }")
        .expect("all sizes are known");
        assert_eq!(l.bytes_by_op, [80, 160, 40 + 120 + 4, 40 + 4 + 40]);
        assert_eq!((l.peak_bytes, &l.peak_op[..]), (164, "ReduceMax -> c"));
        let alive: Vec<(&str, usize)> = l.alive.iter().map(|a| (&a.name[..], a.bytes)).collect();
        assert_eq!(alive, [("b", 120), ("a", 40), ("c", 4)]);
    }

    #[test]
    fn constants_are_no_activations_and_bodies_count_once() {
        let l = of("m (float[2] x, bool c) => (float[2] y)
            <float[1] w = {1}> {
                n = Neg (w)
                m = ReduceMax <keepdims = 1> (n)
                y = If (c) <
                    then_branch = a () => (float[2] t) { s = Relu (x) t = Add (s, m) },
                    else_branch = b () => (float[2] e) { e = Identity (x) }
                >
            }");
        let l = l.map(|l| (l.peak_bytes, l.peak_op));
        // The input, the condition, the result, and both values of the first branch.
        assert_eq!(l, Some((8 + 1 + 8 + 16, "If -> y".to_owned())));
    }

    #[test]
    fn unknown_sizes_are_not_guessed() {
        assert_eq!(of("m (float[N,rows] x) => (float[N,rows] y) { y = Relu (x) }"), None);
        assert_eq!(
            of("m (float[N,2] x) => (float[N,2] y) { y = Relu (x) }").map(|l| l.peak_bytes),
            Some(16)
        );
    }
}
