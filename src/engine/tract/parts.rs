//! Long models, part after part: the time of tract's optimizer grows with the cube of the number of
//! nodes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Place, Taps, TractEngine, deliver, place};
use crate::engine::{EngineError, Feeds, InputSpec, Session, match_feeds};
use crate::ir::{Model, OpId, Tensor, Value, ValueId};
use crate::ops;
use crate::pass::infer_model;

/// Ops of a part.
const LENGTH: usize = 600;
/// Models up to this many ops stay in one piece.
pub(super) const LONG: usize = 2 * LENGTH;

/// A session that runs part after part.
pub(super) struct Parts {
    specs: Vec<InputSpec>,
    /// Values that taps and outputs are taken from.
    wanted: Vec<ValueId>,
    outputs: Vec<Place>,
    taps: Taps,
    parts: Vec<Part>,
}

struct Part {
    session: Arc<dyn Session>,
    /// Inputs of the whole model that it reads.
    fed: BTreeSet<String>,
    /// What earlier parts make for it, and under which name it takes that.
    taken: Vec<(ValueId, String)>,
    made: Vec<ValueId>,
    /// What no later part reads, nor anybody else.
    done: Vec<ValueId>,
}

impl Parts {
    /// The parts; `None` where a value between two of them has no known type.
    ///
    /// # Errors
    /// When a tap is no value of the model, or tract cannot run a part.
    pub(super) fn new(model: &Model, taps: &[String]) -> Result<Option<Parts>, EngineError> {
        let mut typed = model.clone();
        infer_model(&mut typed, &mut |_, _| {});
        let model = &typed;
        let g = &model.graph;
        let mut wanted = Vec::new();
        let outputs = g.outputs().iter().map(|v| place(model, *v, &mut wanted)).collect();
        let taps = super::taps(model, taps, &mut wanted)?;
        let order = g.order();
        let chunks: Vec<&[OpId]> = order.chunks(LENGTH).collect();
        let fixed = fixed_ops(model, &order);
        let mut maker: BTreeMap<ValueId, usize> = BTreeMap::new();
        for (i, chunk) in chunks.iter().enumerate() {
            for op in *chunk {
                maker.extend(g.results(*op).into_iter().flatten().map(|v| (v, i)));
            }
        }
        let needs: Vec<BTreeSet<ValueId>> = (0..chunks.len())
            .map(|i| needed(model, chunks[i], &fixed, |v| maker.get(&v).is_some_and(|m| *m < i)))
            .collect();
        let mut last: BTreeMap<ValueId, usize> = BTreeMap::new();
        for (i, needed) in needs.iter().enumerate() {
            last.extend(needed.iter().map(|v| (*v, i)));
        }
        last.extend(wanted.iter().map(|v| (*v, usize::MAX)));
        let mut parts = Vec::with_capacity(chunks.len());
        for (i, needed) in needs.iter().enumerate() {
            let made: Vec<ValueId> = maker
                .iter()
                .filter(|(v, m)| **m == i && last.get(v).is_some_and(|l| *l > i))
                .map(|(v, _)| *v)
                .collect();
            if made.is_empty() {
                continue;
            }
            let before: Vec<ValueId> = needed.iter().copied().collect();
            if before.iter().any(|v| g.value(*v).dtype().is_none()) {
                return Ok(None);
            }
            let (part, taken) = cut(model, &before, &made);
            let names = part.graph.inputs().iter().map(|v| part.graph.value(*v).name().to_owned());
            parts.push(Part {
                fed: names.collect(),
                session: TractEngine::whole(&part, &[])?,
                taken,
                made,
                done: before.into_iter().filter(|v| last.get(v) == Some(&i)).collect(),
            });
        }
        Ok(Some(Parts { specs: InputSpec::of_graph(g), wanted, outputs, taps, parts }))
    }
}

/// Ops that compute from constants and shapes alone. A part that needs what they make computes it
/// again: tract wants to know sizes, axes and parameters before it runs.
fn fixed_ops(model: &Model, order: &[OpId]) -> BTreeSet<OpId> {
    let g = &model.graph;
    let mut fixed = BTreeSet::new();
    for &op in order {
        let of_shape = g.op(op).is("Shape") || g.op(op).is("Size");
        let known = |v| match g.producer_op(v) {
            Some(p) => fixed.contains(&p),
            None => g.is_const(v),
        };
        let pure = ops::schema(g.op(op)).is_some_and(|s| s.deterministic);
        if of_shape || (pure && g.op(op).bodies.is_empty() && g.reads(op).all(known)) {
            fixed.insert(op);
        }
    }
    fixed
}

/// What ops read of values that are `made` in earlier parts, directly or over ops that are computed
/// again.
fn needed(
    model: &Model,
    ops: &[OpId],
    fixed: &BTreeSet<OpId>,
    made: impl Fn(ValueId) -> bool,
) -> BTreeSet<ValueId> {
    let g = &model.graph;
    let mut found = BTreeSet::new();
    let mut seen: BTreeSet<OpId> = ops.iter().copied().collect();
    let mut left: Vec<OpId> = ops.to_vec();
    while let Some(op) = left.pop() {
        for v in g.reads(op).filter(|v| made(*v)) {
            match g.producer_op(v).filter(|p| fixed.contains(p)) {
                Some(p) => left.extend(Some(p).filter(|p| seen.insert(*p))),
                None => {
                    found.insert(v);
                }
            }
        }
    }
    found
}

/// The model from the values `before` to the values `made`, and the inputs that the former go to.
fn cut(model: &Model, before: &[ValueId], made: &[ValueId]) -> (Model, Vec<(ValueId, String)>) {
    let mut part = model.clone();
    let g = &mut part.graph;
    g.set_outputs(made.to_vec());
    let mut taken = Vec::new();
    for v in before {
        let value = g.value(*v);
        let input = Value::new(format!("{}_taken", value.name()), value.ty.clone());
        let input = g.add_input(input);
        g.replace_uses(*v, input);
        taken.push((*v, input));
    }
    let unused: Vec<ValueId> = g.values().filter(|v| g.is_unused(*v)).collect();
    g.remove_dead(unused);
    for v in g.inputs().to_vec() {
        if g.is_unused(v) {
            g.remove_input(v);
        }
    }
    taken.retain(|(_, input)| g.has_value(*input) && g.is_input(*input));
    let taken = taken.into_iter().map(|(v, i)| (v, g.value(i).name().to_owned())).collect();
    (part, taken)
}

impl Session for Parts {
    fn run(
        &self,
        feeds: &Feeds,
        observe: &mut dyn FnMut(usize, Tensor),
    ) -> Result<Vec<Tensor>, EngineError> {
        let fed = match_feeds(&self.specs, feeds)?;
        let mut have: BTreeMap<ValueId, Tensor> = BTreeMap::new();
        for part in &self.parts {
            let mut own: Feeds =
                feeds.iter().filter(|f| part.fed.contains(&f.0)).cloned().collect();
            for (v, name) in &part.taken {
                own.extend(have.get(v).map(|t| (name.clone(), t.clone())));
            }
            let made = part.session.run(&own, &mut |_, _| {})?;
            have.extend(part.made.iter().copied().zip(made));
            for v in &part.done {
                have.remove(v);
            }
        }
        let get = |p: &Place| match p {
            Place::Input(i) => fed[*i].cloned(),
            Place::Const(t) => Some(t.clone()),
            Place::Computed(i) => have.get(&self.wanted[*i]).cloned(),
        };
        deliver(&self.taps, &self.outputs, observe, get).ok_or_else(|| EngineError::Run {
            engine: super::NAME,
            node: None,
            what: "an output is missing".to_owned(),
        })
    }
}
