//! A matched pair of nodes, and the inputs and outputs of their graphs.

use std::collections::HashMap;

use super::facts::{Source, source};
use super::header::keyed;
use super::matching::Matched;
use super::weights::Weights;
use super::{Change, GraphDiff, Kind, NodeDiff, NodeRef, Pair, graph_diff};
use crate::ir::{Atom, AttrValue, Dim, Graph, OpId, Type, Value, ValueId};

/// Compares what a match has brought together.
pub(super) struct Compare<'a> {
    pub pair: &'a Pair<'a>,
    pub matched: &'a Matched,
    pub weights: &'a mut Weights,
    /// Takes the differences of subgraphs.
    pub out: &'a mut Vec<GraphDiff>,
    /// Where the two graphs are.
    pub path: &'a str,
}

impl Compare<'_> {
    /// Compares a node of each graph, or describes one that has no twin.
    pub(super) fn node(&mut self, before: Option<usize>, after: Option<usize>) -> NodeDiff {
        let (g, h) = (self.pair.a, self.pair.b);
        let reference = |g: &Graph, order: &[OpId], i: usize| NodeRef {
            id: order[i],
            index: i,
            name: g.short_name(order[i]),
        };
        let x = before.map(|i| reference(g, &self.matched.a.order, i));
        let y = after.map(|j| reference(h, &self.matched.b.order, j));
        let op = match (&x, &y) {
            (_, Some(y)) => h.op(y.id).full_type(),
            (Some(x), _) => g.op(x.id).full_type(),
            (None, None) => String::new(),
        };
        let kind = if x.is_some() { Kind::Removed } else { Kind::Added };
        let mut node = NodeDiff {
            kind,
            op,
            before: x,
            after: y,
            changes: Vec::new(),
            weights: Vec::new(),
            shapes: Vec::new(),
        };
        if let (Some(a), Some(b)) = (&node.before, &node.after) {
            let (a, b) = (a.id, b.id);
            self.twins(a, b, &mut node);
        }
        node
    }

    fn twins(&mut self, a: OpId, b: OpId, node: &mut NodeDiff) {
        let (x, y) = (self.pair.a.op(a), self.pair.b.op(b));
        if x.full_type() != y.full_type() || x.overload != y.overload {
            let name = |op: &crate::ir::Op| [&op.full_type(), ".", &op.overload].concat();
            let name = |op| Some(name(op).trim_end_matches('.').to_owned());
            node.changes.push(Change::new("operator", name(x), name(y)));
        }
        self.attributes(a, b, &mut node.changes);
        if !self.pair.ignore.metadata {
            if x.doc != y.doc {
                let doc = |op: &crate::ir::Op| Some(op.doc.clone()).filter(|d| !d.is_empty());
                node.changes.push(Change::new("doc", doc(x), doc(y)));
            }
            let notes = |op: &crate::ir::Op| -> Vec<(String, String)> {
                op.metadata.iter().map(|(k, v)| (format!("metadata {k}"), v.clone())).collect()
            };
            keyed(&notes(x), &notes(y), &mut node.changes);
        }
        self.operands(a, b, node);
        self.bodies(a, b, &mut node.changes);
        self.shapes(a, b, &mut node.shapes);
        node.kind = if !node.changes.is_empty() || !node.weights.is_empty() {
            Kind::Changed
        } else if !node.shapes.is_empty() {
            Kind::Shape
        } else if x.name != y.name {
            Kind::Renamed
        } else {
            Kind::Same
        };
    }

    fn attributes(&self, a: OpId, b: OpId, changes: &mut Vec<Change>) {
        let (x, y) = (self.pair.a.op(a), self.pair.b.op(b));
        for attr in &y.attrs {
            let before = x.attr(&attr.name);
            if !before.is_some_and(|v| same_attr(v, &attr.value)) {
                let what = format!("attribute {}", attr.name);
                changes.push(Change::new(what, before.map(show_attr), show_attr(&attr.value)));
            }
        }
        for attr in x.attrs.iter().filter(|t| y.attr(&t.name).is_none()) {
            let what = format!("attribute {}", attr.name);
            changes.push(Change::new(what, show_attr(&attr.value), None));
        }
    }

    fn operands(&mut self, a: OpId, b: OpId, node: &mut NodeDiff) {
        let (g, h) = (self.pair.a, self.pair.b);
        let (x, y) = (g.operands(a), h.operands(b));
        for slot in 0..x.len().max(y.len()) {
            let (v, w) = (x.get(slot).copied().flatten(), y.get(slot).copied().flatten());
            if let (Source::Constant(t), Source::Constant(u)) = (source(g, v), source(h, w)) {
                if let Some(mut diff) = self.weights.compare(t, u) {
                    let name = |g: &Graph, v: Option<ValueId>| {
                        v.map(|v| g.value(v).name().to_owned()).unwrap_or_default()
                    };
                    diff.operand = slot;
                    (diff.before_name, diff.after_name) = (name(g, v), name(h, w));
                    node.weights.push(diff);
                }
            } else if !self.same_source(v, w) {
                let (before, after) = (describe(g, v), describe(h, w));
                node.changes.push(Change::new(format!("operand {slot}"), before, after));
            }
        }
    }

    /// Both values are the same thing; of constants only that they are constants.
    fn same_source(&self, v: Option<ValueId>, w: Option<ValueId>) -> bool {
        let m = self.matched;
        match (source(self.pair.a, v), source(self.pair.b, w)) {
            (Source::Made(p, s), Source::Made(q, t)) => {
                s == t && m.to[m.a.index[&p]] == Some(m.b.index[&q])
            }
            (Source::Input, Source::Input) => w.and_then(|w| m.inputs.get(&w)) == v.as_ref(),
            (Source::Outer, Source::Outer) => {
                let (x, y) = (&self.pair.outer_a, &self.pair.outer_b);
                v.and_then(|v| x.get(&v)) == w.and_then(|w| y.get(&w))
            }
            (x, y) => std::mem::discriminant(&x) == std::mem::discriminant(&y),
        }
    }

    fn bodies(&mut self, a: OpId, b: OpId, changes: &mut Vec<Change>) {
        let (x, y) = (self.pair.a.op(a), self.pair.b.op(b));
        for attr in &y.attrs {
            let (Some(body_b), Some(body_a)) = (y.body(&attr.name), x.body(&attr.name)) else {
                continue;
            };
            let label = self.pair.b.short_name(b);
            let path = [self.path, &label, &attr.name].into_iter().filter(|p| !p.is_empty());
            let path = path.collect::<Vec<_>>().join("/");
            let (outer_a, outer_b) = self.outer(a, b);
            let pair = Pair { a: body_a, b: body_b, outer_a, outer_b, ignore: self.pair.ignore };
            if !graph_diff(pair, &path, self.weights, self.out) {
                let what = format!("subgraph {}", attr.name);
                let count = |g: &Graph| Some(format!("{} nodes", g.op_count()));
                changes.push(Change::new(what, count(body_a), count(body_b)));
            }
        }
    }

    /// Numbers for the values that bodies of the two ops read from these graphs.
    fn outer(&self, a: OpId, b: OpId) -> (HashMap<ValueId, u64>, HashMap<ValueId, u64>) {
        let (g, h) = (self.pair.a, self.pair.b);
        let capture = |g: &Graph, op: OpId| -> Vec<(ValueId, ValueId)> {
            g.op(op).captures.iter().map(|c| c.1).zip(g.captures(op)).collect()
        };
        let (left, right) = (capture(g, a), capture(h, b));
        let number = |i: usize| i as u64;
        let first = |v: ValueId| left.iter().position(|(_, outer)| *outer == v);
        let outer_a =
            left.iter().filter_map(|(inner, v)| Some((*inner, number(first(*v)?)))).collect();
        let twin = |w: ValueId| {
            left.iter().position(|(_, v)| match (source(g, Some(*v)), source(h, Some(w))) {
                (Source::Constant(_), Source::Constant(_)) => {
                    g.value(*v).name() == h.value(w).name()
                }
                _ => self.same_source(Some(*v), Some(w)),
            })
        };
        let outer_b = right
            .iter()
            .enumerate()
            .map(|(i, (inner, w))| (*inner, number(twin(*w).unwrap_or(left.len() + i))));
        (outer_a, outer_b.collect())
    }

    fn shapes(&self, a: OpId, b: OpId, changes: &mut Vec<Change>) {
        let (g, h) = (self.pair.a, self.pair.b);
        for (slot, (v, w)) in g.results(a).into_iter().zip(h.results(b)).enumerate() {
            let (Some(v), Some(w)) = (v, w) else { continue };
            if !compatible(g.value(v), h.value(w)) {
                let (before, after) = (show_type(g.value(v)), show_type(h.value(w)));
                changes.push(Change::new(format!("result {slot}"), before, after));
            }
        }
    }

    /// Inputs and outputs of the two graphs, and constants that no op reads.
    pub(super) fn ports(&mut self) -> Vec<Change> {
        let (g, h) = (self.pair.a, self.pair.b);
        let mut changes = Vec::new();
        let fed = |g: &Graph, with_default: bool| -> Vec<(String, String)> {
            let default = |v: &&ValueId| g.initializer(**v).is_some() == with_default;
            let kind = if with_default { "default of input" } else { "input" };
            g.inputs().iter().filter(default).map(|v| port(g, *v, kind)).collect()
        };
        let outputs = |g: &Graph| -> Vec<(String, String)> {
            g.outputs().iter().map(|v| port(g, *v, "output")).collect()
        };
        keyed(&fed(g, false), &fed(h, false), &mut changes);
        keyed(&fed(g, true), &fed(h, true), &mut changes);
        keyed(&outputs(g), &outputs(h), &mut changes);
        for (what, x, y) in
            [("inputs", fed(g, false), fed(h, false)), ("outputs", outputs(g), outputs(h))]
        {
            let order = |list: &[(String, String)]| {
                let names = list.iter().filter_map(|(k, _)| k.split_once(' '));
                Some(names.map(|(_, name)| name).collect::<Vec<_>>().join(", "))
            };
            let moved = x.len() == y.len() && x.iter().all(|(k, _)| y.iter().any(|o| o.0 == *k));
            if moved && x.iter().zip(&y).any(|(p, q)| p.0 != q.0) {
                changes.push(Change::new(format!("order of the {what}"), order(&x), order(&y)));
            }
        }
        self.makers(&mut changes);
        let unread = |g: &Graph| -> Vec<(String, String)> {
            let idle = |v: &ValueId| g.initializer(*v).is_some() && g.is_unused(*v);
            let mut list: Vec<_> = g
                .values()
                .filter(idle)
                .map(|v| port(g, v, "constant that nothing reads:"))
                .collect();
            list.sort();
            list
        };
        keyed(&unread(g), &unread(h), &mut changes);
        changes
    }

    /// Outputs of the same name that something else makes, or constants that differ.
    fn makers(&mut self, changes: &mut Vec<Change>) {
        let (g, h) = (self.pair.a, self.pair.b);
        for (i, w) in h.outputs().iter().enumerate() {
            let by_name = g.outputs().iter().find(|v| g.value(**v).name() == h.value(*w).name());
            let Some(v) = by_name.or_else(|| g.outputs().get(i)) else { continue };
            let what = format!("source of output {}", h.value(*w).name());
            let differs = match (source(g, Some(*v)), source(h, Some(*w))) {
                (Source::Constant(t), Source::Constant(u)) => self.weights.compare(t, u).is_some(),
                _ => !self.same_source(Some(*v), Some(*w)),
            };
            if differs {
                changes.push(Change::new(what, describe(g, Some(*v)), describe(h, Some(*w))));
            }
        }
    }
}

fn port(g: &Graph, v: ValueId, kind: &str) -> (String, String) {
    (format!("{kind} {}", g.value(v).name()), show_type(g.value(v)))
}

/// Where the value comes from, for people.
fn describe(g: &Graph, v: Option<ValueId>) -> Option<String> {
    let name = g.value(v?).name();
    Some(match source(g, v) {
        Source::Missing => return None,
        Source::Constant(t) => {
            let dims: Vec<String> = t.dims().iter().map(usize::to_string).collect();
            format!("constant {name} {}[{}]", t.dtype(), dims.join(","))
        }
        Source::Input => format!("input {name}"),
        Source::Outer => format!("outer {name}"),
        Source::Made(op, 0) => g.short_name(op),
        Source::Made(op, slot) => format!("{} (result {slot})", g.short_name(op)),
    })
}

/// The type with sizes that inference made up as `?`.
fn show_type(v: &Value) -> String {
    let Some(mut ty) = v.ty.clone() else { return "?".to_owned() };
    if let Some(shape) = ty.as_tensor_mut().and_then(|t| t.shape.as_mut()) {
        for dim in shape {
            if is_made_up(dim) {
                *dim = Dim::Unknown;
            }
        }
    }
    ty.to_string()
}

fn is_made_up(dim: &Dim) -> bool {
    let mut made_up = false;
    dim.for_each_symbol(&mut |atom| made_up |= matches!(atom, Atom::Fresh(_)));
    made_up
}

/// Nothing that is known of both differs.
fn compatible(a: &Value, b: &Value) -> bool {
    let (Some(x), Some(y)) = (a.tensor_type(), b.tensor_type()) else {
        let (x, y) = (a.ty.as_ref().map(Type::to_string), b.ty.as_ref().map(Type::to_string));
        return x.is_none() || y.is_none() || x == y;
    };
    let open = |d: &Dim| !d.is_some() || is_made_up(d);
    let same = |(d, e): (&Dim, &Dim)| d == e || open(d) || open(e);
    let shapes = x.shape.as_ref().zip(y.shape.as_ref());
    x.dtype.zip(y.dtype).is_none_or(|(d, e)| d == e)
        && shapes.is_none_or(|(s, t)| s.len() == t.len() && s.iter().zip(t).all(same))
}

/// Bit by bit for floats. Graphs are compared elsewhere.
fn same_attr(a: &AttrValue, b: &AttrValue) -> bool {
    let bits = |v: &[f32]| v.iter().map(|v| v.to_bits()).collect::<Vec<u32>>();
    match (a, b) {
        (AttrValue::Float(a), AttrValue::Float(b)) => a.to_bits() == b.to_bits(),
        (AttrValue::Floats(a), AttrValue::Floats(b)) => bits(a) == bits(b),
        (AttrValue::Tensor(a), AttrValue::Tensor(b)) => {
            a.dtype() == b.dtype() && a.dims() == b.dims() && a.data() == b.data()
        }
        (AttrValue::Graph(_), AttrValue::Graph(_)) => true,
        (a, b) => a == b,
    }
}

fn show_attr(value: &AttrValue) -> String {
    const SHOWN: usize = 80;
    let list = |items: Vec<String>| format!("[{}]", items.join(", "));
    let text = match value {
        AttrValue::Float(v) => v.to_string(),
        AttrValue::Int(v) => v.to_string(),
        AttrValue::Str(v) => format!("{:?}", String::from_utf8_lossy(v)),
        AttrValue::Floats(v) => list(v.iter().map(f32::to_string).collect()),
        AttrValue::Ints(v) => list(v.iter().map(i64::to_string).collect()),
        AttrValue::Strs(v) => {
            list(v.iter().map(|s| format!("{:?}", String::from_utf8_lossy(s))).collect())
        }
        AttrValue::Tensor(t) => match t.to_f64().filter(|v| v.len() <= 8) {
            Some(v) => format!("{}{:?} {v:?}", t.dtype(), t.dims()),
            None => format!("{}{:?}", t.dtype(), t.dims()),
        },
        AttrValue::Tensors(v) => format!("{} tensors", v.len()),
        AttrValue::Graph(_) => "a graph".to_owned(),
        AttrValue::Graphs(v) => format!("{} graphs", v.len()),
        AttrValue::Type(t) => t.to_string(),
        AttrValue::Types(v) => list(v.iter().map(Type::to_string).collect()),
        AttrValue::Ref(name, _) => format!("@{name}"),
    };
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}
