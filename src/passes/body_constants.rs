//! Constants of subgraphs that hold what another graph around or beside them holds.

use std::collections::BTreeMap;

use super::bodies::capture;
use super::content::{hash, same_elements};
use crate::ir::{DType, Graph, OpId, Tensor, TensorData, ValueId};
use crate::pass::Hashes;

/// Bytes from which on a capture pays.
const SMALLEST: usize = 64;

/// Where a constant stands: the bodies on the way from the main graph, and the value.
#[derive(Clone)]
struct Place {
    path: Vec<(OpId, usize)>,
    value: ValueId,
}

/// Lets equal constants of the graph and of its subgraphs be one, which the subgraphs capture.
pub(super) fn share(g: &mut Graph, hashes: &mut Hashes) {
    if !g.ops().any(|op| !g.op(op).bodies.is_empty()) {
        return;
    }
    let mut places = Vec::new();
    collect(g, &mut Vec::new(), &mut places);
    let mut by_kind: BTreeMap<(DType, Vec<usize>, usize), Vec<Place>> = BTreeMap::new();
    for place in places {
        let Some(t) = at(g, &place).const_tensor(place.value) else { continue };
        let kind = (t.dtype(), t.dims().to_vec(), t.byte_len());
        by_kind.entry(kind).or_default().push(place);
    }
    for places in by_kind.into_values().filter(|p| p.iter().any(|p| !p.path.is_empty())) {
        for group in equal(g, places, hashes) {
            unite(g, group);
        }
    }
}

/// Constants that may be shared, those of outer graphs first.
fn collect(g: &Graph, path: &mut Vec<(OpId, usize)>, places: &mut Vec<Place>) {
    let mut values: Vec<ValueId> = g.values().collect();
    values.sort_by_key(|v| (g.value(*v).init_rank, *v));
    for value in values {
        let large = |t: &Tensor| t.byte_len() >= SMALLEST && matches!(t.data(), TensorData::Raw(_));
        let fits = g.const_tensor(value).is_some_and(large)
            && !g.is_capture(value)
            && !g.is_output(value)
            && !g.is_unused(value)
            && g.value(value).notes.is_none();
        if fits {
            places.push(Place { path: path.clone(), value });
        }
    }
    for op in g.order() {
        for (i, body) in g.op(op).bodies.iter().enumerate() {
            path.push((op, i));
            collect(body, path, places);
            path.pop();
        }
    }
}

fn at<'g>(g: &'g Graph, place: &Place) -> &'g Graph {
    place.path.iter().fold(g, |g, (op, body)| &g.op(*op).bodies[*body])
}

/// Groups of places that hold the same elements.
fn equal(g: &Graph, places: Vec<Place>, hashes: &mut Hashes) -> Vec<Vec<Place>> {
    let mut groups: Vec<(u64, Vec<Place>)> = Vec::new();
    if places.len() < 2 {
        return Vec::new();
    }
    for place in places {
        let Some(t) = at(g, &place).const_tensor(place.value) else { continue };
        let key = hash(t, hashes);
        let twin = groups.iter_mut().find(|(k, group)| {
            let first = at(g, &group[0]).const_tensor(group[0].value);
            *k == key && first.is_some_and(|first| same_elements(first, t))
        });
        match twin {
            Some((_, group)) => group.push(place),
            None => groups.push((key, vec![place])),
        }
    }
    groups.into_iter().map(|(_, group)| group).filter(|group| group.len() > 1).collect()
}

/// Keeps one constant in the main graph for all of them.
fn unite(g: &mut Graph, group: Vec<Place>) {
    if group.iter().all(|p| p.path.is_empty()) {
        return;
    }
    let first = &group[0];
    let shared = match first.path.is_empty() {
        true => first.value,
        false => {
            let inner = at(g, first);
            let Some(data) = inner.const_tensor(first.value).cloned() else { return };
            let name = inner.value(first.value).name().to_owned();
            g.add_const(&name, data)
        }
    };
    for place in group.iter().filter(|p| !p.path.is_empty()) {
        read_from(g, &place.path, place.value, shared);
    }
}

/// Makes the readers of `value`, behind `path`, read the value `outer` of `g`.
fn read_from(g: &mut Graph, path: &[(OpId, usize)], value: ValueId, outer: ValueId) {
    match path.split_first() {
        None => {
            g.replace_uses(value, outer);
            g.remove_value_if_unused(value);
        }
        Some((&(op, body), rest)) => {
            let inner = capture(g, op, body, outer);
            read_from(&mut g.bodies_mut(op)[body], rest, value, inner);
        }
    }
}
