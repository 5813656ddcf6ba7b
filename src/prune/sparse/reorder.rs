//! Reordering of channels for 2:4, absorbed by everything that makes and carries them.

use std::collections::{BTreeMap, HashMap};

use super::search::Columns;
use super::sites::Site;
use crate::ir::{Graph, ValueId};
use crate::prune::groups::{Class, Groups};
use crate::prune::lanes::LaneId;
use crate::prune::{Analysis, Order};

/// A cell: group, and number of the cell in it.
type Cell = (usize, usize);

/// The order of all classes in which the given weights keep most with 2:4.
pub(in crate::prune) fn order(analysis: &Analysis, sites: &[&Site]) -> Order {
    let (g, groups) = (analysis.graph(), &analysis.groups);
    let cells = movable(g, groups);
    let mut order = Order::identity(groups.class_count);
    let axes: BTreeMap<ValueId, usize> =
        sites.iter().filter_map(|s| Some((s.weight, s.axis?))).collect();
    let mut sinks: Vec<LaneId> = groups.sinks.iter().map(|s| s.0).collect();
    sinks.sort_unstable();
    sinks.dedup();
    let mut by_cell: BTreeMap<Cell, Vec<LaneId>> = BTreeMap::new();
    for id in sinks {
        let lane = groups.lanes.get(id);
        if lane.part.is_some() || axes.get(&lane.value) != Some(&lane.axis) {
            continue;
        }
        let mut met: Vec<Cell> =
            groups.classes(id).iter().filter_map(|c| cells.get(c)).copied().collect();
        met.sort_unstable();
        met.dedup();
        met.into_iter().for_each(|cell| by_cell.entry(cell).or_default().push(id));
    }
    for (cell, lanes) in by_cell {
        arrange(g, groups, &lanes, |c| cells.get(&c) == Some(&cell), &mut order);
    }
    order
}

/// The classes that may change places, each with its cell: in groups that may be cut, with one atom
/// on each lane at most, or with as many atoms in a row each where a Flatten repeats channels. A
/// class with atoms here and there on a lane has no place that can be named.
fn movable(g: &Graph, groups: &Groups) -> HashMap<Class, Cell> {
    let mut cells = HashMap::new();
    for (k, group) in groups.groups.iter().enumerate().filter(|(_, g)| g.pinned.is_none()) {
        for (j, cell) in group.cells.iter().enumerate() {
            cells.extend(cell.iter().map(|c| (*c, (k, j))));
        }
    }
    let mut bad = vec![false; groups.groups.len()];
    for id in groups.lanes.ids() {
        let mut runs: HashMap<Class, usize> = HashMap::new();
        let classes = groups.classes(id);
        let mut length: HashMap<Cell, usize> = HashMap::new();
        for run in classes.chunk_by(|a, b| a == b) {
            let Some(&cell) = cells.get(&run[0]) else { continue };
            let again = runs.insert(run[0], run.len()).is_some();
            let same = *length.entry(cell).or_insert(run.len()) == run.len();
            let repeats = run.len() > 1 && !may_repeat(g, groups.lanes.get(id).value);
            bad[cell.0] |= again || !same || repeats;
        }
    }
    cells.retain(|_, (k, _)| !bad[*k]);
    cells
}

/// The value is a constant, or one that keeps the order of what a Reshape or Flatten has made.
fn may_repeat(g: &Graph, mut value: ValueId) -> bool {
    const KEEP: [&str; 6] =
        ["Relu", "Clip", "Dropout", "Identity", "QuantizeLinear", "DequantizeLinear"];
    loop {
        let Some(op) = g.producer_op(value) else { return g.const_tensor(value).is_some() };
        match g.op(op).op_type.as_str() {
            "Reshape" | "Flatten" => return true,
            kind if KEEP.contains(&kind) => match g.operand(op, 0) {
                Some(v) => value = v,
                None => return false,
            },
            _ => return false,
        }
    }
}

/// Orders the classes of one cell for the weights behind `lanes`. Only classes that fill whole blocks
/// of four move, and only lanes with the blocks of the first count.
fn arrange(
    g: &Graph,
    groups: &Groups,
    lanes: &[LaneId],
    inside: impl Fn(Class) -> bool,
    order: &mut Order,
) {
    let blocks = |id: LaneId| -> Vec<[Class; 4]> {
        let quads = groups.classes(id).chunks_exact(4).filter_map(|q| q.try_into().ok());
        quads.filter(|q: &[Class; 4]| q.iter().all(|c| inside(*c)) && q[0] != q[1]).collect()
    };
    let Some(first) = lanes.iter().map(|l| blocks(*l)).max_by_key(Vec::len) else { return };
    let lanes: Vec<LaneId> = lanes.iter().copied().filter(|l| blocks(*l) == first).collect();
    let classes: Vec<Class> = first.into_iter().flatten().collect();
    let mut columns: Vec<Vec<f32>> = vec![Vec::new(); classes.len()];
    for id in lanes {
        let lane = groups.lanes.get(id);
        let Some(t) = g.const_tensor(lane.value) else { continue };
        let Some(data) = t.to_f32() else { continue };
        let place: HashMap<Class, usize> =
            groups.classes(id).iter().enumerate().map(|(i, c)| (*c, i)).collect();
        let n = t.dims()[lane.axis];
        let inner: usize = t.dims()[lane.axis + 1..].iter().product();
        for (class, column) in classes.iter().zip(&mut columns) {
            for row in data.chunks_exact(n * inner) {
                let at = place[class] * inner;
                column.extend(row[at..at + inner].iter().map(|v| v.abs()));
            }
        }
    }
    let rows = columns.first().map_or(0, Vec::len);
    if rows == 0 || columns.iter().any(|c| c.len() != rows) {
        return;
    }
    let best = Columns { rows, data: columns.concat() }.best_order();
    for (place, from) in classes.iter().zip(best) {
        order.set(*place, classes[from as usize]);
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::data::{self, DataOptions};
    use crate::engine::TractEngine;
    use crate::onnx;
    use crate::pass::Semantics;
    use crate::verify::{Verdict, compare};

    /// Every class that may move at a random place of its cell.
    fn shuffled(analysis: &Analysis) -> Order {
        let mut by_cell: BTreeMap<Cell, Vec<Class>> = BTreeMap::new();
        let mut all: Vec<(Class, Cell)> =
            movable(analysis.graph(), &analysis.groups).into_iter().collect();
        all.sort_unstable();
        all.iter().for_each(|(class, cell)| by_cell.entry(*cell).or_default().push(*class));
        let mut order = Order::identity(analysis.groups.class_count);
        let mut rng = fastrand::Rng::with_seed(11);
        for classes in by_cell.values() {
            let mut from = classes.clone();
            rng.shuffle(&mut from);
            classes.iter().zip(from).for_each(|(place, from)| order.set(*place, from));
        }
        order
    }

    #[test]
    fn any_order_computes_the_same() {
        for (name, moves) in [("resnet8", 100), ("mobilenet", 100)] {
            let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models");
            let model = onnx::load(&root.join(format!("{name}.onnx"))).expect("it loads");
            let analysis = Analysis::of(&model);
            let order = shuffled(&analysis);
            assert!(order.moved() > moves, "{name}: {}", order.moved());
            let other = analysis.reordered(&order).expect("it can be reordered");
            let source = data::open(&DataOptions::default(), &model, 2).expect("random inputs");
            let exact = Semantics::Reassociates;
            let v = compare(&model, &other, &TractEngine, source.as_ref(), 2, exact, &|_| {});
            assert!(matches!(v.verdict, Verdict::Agree), "{name}: {:?}", v.verdict);
        }
    }
}
