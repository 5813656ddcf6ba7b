//! Values of a model over all samples, with those kept from which the rest can go on.

use std::collections::{BTreeMap, BTreeSet};

use super::RecoverError;
use crate::data::Source;
use crate::engine::{Engine, Feeds, RunError, all_cores, for_each_sample};
use crate::ir::{Dim, Graph, Model, Tensor, Type, Value, ValueId};

/// Bytes of values that are kept.
const BUDGET: usize = 3 << 29;

/// Runs parts of a model over samples. Values that later parts start from are kept as long as they
/// fit into the memory; where they do not, a part starts further up.
pub(super) struct Tape<'a> {
    engine: &'a dyn Engine,
    source: &'a dyn Source,
    kept: BTreeMap<ValueId, Vec<Tensor>>,
}

impl<'a> Tape<'a> {
    pub fn new(engine: &'a dyn Engine, source: &'a dyn Source) -> Tape<'a> {
        Tape { engine, source, kept: BTreeMap::new() }
    }

    /// What `f` makes of these values of each sample, in the order of the samples. `later` names
    /// what will be asked for from here on.
    ///
    /// # Errors
    /// When a sample cannot be had or run.
    pub fn run<T: Send>(
        &mut self,
        model: &Model,
        wanted: &[ValueId],
        later: &[ValueId],
        f: impl Fn(usize, &[&Tensor]) -> T + Sync,
    ) -> Result<Vec<T>, RecoverError> {
        let mut values: Vec<ValueId> = wanted.to_vec();
        values.sort_unstable();
        values.dedup();
        let is_input = |v: &ValueId| model.graph.is_input(*v);
        values.retain(|v| !self.kept.contains_key(v) && !is_input(v));
        let made = self.compute(model, &values)?;
        let get = |sample: usize, feeds: &'_ Feeds| -> Vec<Tensor> {
            let one = |v: &ValueId| match (self.kept.get(v), values.binary_search(v)) {
                (Some(all), _) => all[sample].clone(),
                (None, Ok(i)) => made[sample][i].clone(),
                (None, Err(_)) => {
                    let name = model.graph.value(*v).name();
                    let fed = feeds.iter().find(|f| f.0 == name);
                    fed.map(|f| f.1.clone()).unwrap_or_else(|| Tensor::vector::<f32>(&[]))
                }
            };
            wanted.iter().map(one).collect()
        };
        let step = |out: &mut Vec<(usize, T)>, i: usize, feeds: Feeds| {
            let tensors = get(i, &feeds);
            out.push((i, f(i, &tensors.iter().collect::<Vec<_>>())));
            Ok(())
        };
        let all = for_each_sample(self.source, all_cores(), Vec::new, step, Vec::extend, &|_| {});
        let mut all = all.map_err(RecoverError::from)?;
        all.sort_by_key(|(i, _)| *i);
        self.keep(&model.graph, &values, made, later);
        Ok(all.into_iter().map(|(_, t)| t).collect())
    }

    /// Forgets what depends on `changed`.
    pub fn forget(&mut self, g: &Graph, changed: ValueId) {
        let (mut stack, mut seen) = (vec![changed], BTreeSet::from([changed]));
        while let Some(v) = stack.pop() {
            self.kept.remove(&v);
            for (op, _) in g.uses(v) {
                stack.extend(g.results(op).into_iter().flatten().filter(|r| seen.insert(*r)));
            }
        }
    }

    fn compute(&self, model: &Model, values: &[ValueId]) -> Result<Vec<Vec<Tensor>>, RecoverError> {
        if values.is_empty() {
            return Ok(Vec::new());
        }
        let (part, starts) = self.part(model, values);
        let session = self.engine.prepare(&part, &[]).map_err(RunError::from)?;
        let step = |out: &mut Vec<(usize, Vec<Tensor>)>, i: usize, mut feeds: Feeds| {
            feeds.retain(|f| part.graph.find_value(&f.0).is_some_and(|v| part.graph.is_input(v)));
            for (v, name) in &starts {
                feeds.push((name.clone(), self.kept[v][i].clone()));
            }
            out.push((i, session.run(&feeds, &mut |_, _| {})?));
            Ok(())
        };
        let made = for_each_sample(self.source, all_cores(), Vec::new, step, Vec::extend, &|_| {});
        let mut made = made.map_err(RecoverError::from)?;
        made.sort_by_key(|(i, _)| *i);
        Ok(made.into_iter().map(|(_, t)| t).collect())
    }

    /// The part of the model from what is kept to `values`, and the names of the inputs that kept
    /// values go to.
    fn part(&self, model: &Model, values: &[ValueId]) -> (Model, Vec<(ValueId, String)>) {
        let mut part = model.clone();
        let g = &mut part.graph;
        g.set_outputs(values.to_vec());
        let mut starts = Vec::new();
        for (v, tensors) in &self.kept {
            let value = Value::new(format!("{}_kept", g.value(*v).name()), typed(g, *v, tensors));
            let input = g.add_input(value);
            g.replace_uses(*v, input);
            starts.push((*v, input));
        }
        let unused: Vec<ValueId> = g.values().filter(|v| g.is_unused(*v)).collect();
        g.remove_dead(unused);
        for v in g.inputs().to_vec() {
            if g.is_unused(v) {
                g.remove_input(v);
            }
        }
        starts.retain(|(_, input)| g.has_value(*input) && g.is_input(*input));
        let starts = starts.into_iter().map(|(v, i)| (v, g.value(i).name().to_owned())).collect();
        (part, starts)
    }

    fn keep(&mut self, g: &Graph, values: &[ValueId], made: Vec<Vec<Tensor>>, later: &[ValueId]) {
        let bytes = |t: &Tensor| t.byte_len();
        let new: usize = made.iter().flatten().map(bytes).sum();
        let have: usize = self.kept.values().flatten().map(bytes).sum();
        if new + have <= BUDGET {
            let mut columns: Vec<Vec<Tensor>> = values.iter().map(|_| Vec::new()).collect();
            for row in made {
                columns.iter_mut().zip(row).for_each(|(c, t)| c.push(t));
            }
            self.kept.extend(values.iter().copied().zip(columns));
        }
        let needed = self.reached_from(g, later);
        self.kept.retain(|v, _| needed.contains(v));
    }

    /// Kept values that `later` values are computed from.
    fn reached_from(&self, g: &Graph, later: &[ValueId]) -> BTreeSet<ValueId> {
        let (mut out, mut seen) = (BTreeSet::new(), BTreeSet::new());
        let mut stack = later.to_vec();
        while let Some(v) = stack.pop() {
            if !seen.insert(v) {
                continue;
            }
            if self.kept.contains_key(&v) {
                out.insert(v);
            } else if let Some(op) = g.producer_op(v) {
                stack.extend(g.reads(op));
            }
        }
        out
    }
}

/// The type of a kept value: sizes that all samples share are known.
fn typed(g: &Graph, v: ValueId, tensors: &[Tensor]) -> Option<Type> {
    let first = tensors.first()?;
    let same = tensors.iter().all(|t| t.dims() == first.dims());
    let sizes = || first.dims().iter().map(|d| Dim::from(*d)).collect::<Vec<_>>();
    match same {
        true => Some(Type::tensor(first.dtype(), sizes())),
        false => g.value(v).ty.clone(),
    }
}
