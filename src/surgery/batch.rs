//! Opening the batch: a model for a fixed number of samples becomes one for any number.
//!
//! # Why it is sound
//! From the first axis of the inputs on, the walk follows where the samples lie in every value. An op
//! passes only when the axis rules of its operator ([`crate::ops::axes`]) say that a result at one
//! index of that axis depends on the operands at that index alone, so each sample is computed as it
//! was. Integers that depend on the number of samples are followed by shape inference. What writes the
//! number out is rewritten: shapes of `Reshape` get −1 there, those of `Expand` 1, and a constant that
//! is joined with samples, and the same for all of them, is spread by an `Expand`. Everything else is
//! refused with the name of the node.

use std::collections::{HashMap, HashSet};

use super::dims::{contradictions, fresh_contradiction, set_axis, settle};
use super::place::{Place, link_of, own_links};
use super::sizes::known;
use super::symbols::{replace_in_graph, symbols};
use super::{SurgeryError, dims};
use crate::ir::{Atom, Dim, Graph, Model, OpId, Shape, Tensor, ValueId};
use crate::ops::{self, Axes, AxisLink, AxisRef, InferCx, axes};
use crate::pass::{infer_graph, infer_op};
use crate::report::inspect::fed_inputs;

/// Opens the first axis of all inputs under one name.
pub(super) fn open(
    m: &mut Model,
    name: &str,
    changes: &mut Vec<String>,
) -> Result<(), SurgeryError> {
    let opset = m.default_opset();
    let before = contradictions(&m.graph, opset);
    infer_graph(&mut m.graph, opset, &mut |_, _| {});
    let inputs: Vec<ValueId> =
        fed_inputs(&m.graph).filter(|v| m.graph.value(*v).rank() != Some(0)).collect();
    let batch = common_size(&m.graph, &inputs)?;
    if symbols(m).contains(name) {
        return Err(super::bad("--dynamic-batch", name, "another dim has this name"));
    }
    let shape = |v| Some((v, m.graph.value(v).shape()?.clone()));
    let sizes = m.graph.values().filter_map(shape).collect();
    let mut walk = Walk {
        symbol: Dim::symbol(name),
        opset,
        batch: Dim::from(batch),
        source: inputs[0],
        sizes,
        places: inputs.iter().map(|v| (*v, Place::alone(0))).collect(),
        counts: HashSet::new(),
        number: None,
        rewritten: 0,
    };
    for v in &inputs {
        set_axis(&mut m.graph, *v, 0, &walk.symbol);
    }
    dims::forget(&mut m.graph, true);
    for op in m.graph.order() {
        walk.pass(&mut m.graph, op).map_err(|why| {
            let node = m.graph.label(op);
            SurgeryError::Batch { node, why }
        })?;
    }
    if !m.graph.outputs().iter().any(|v| walk.places.contains_key(v)) {
        let why = "no output depends on the samples".to_owned();
        return Err(SurgeryError::Batch { node: "the graph".to_owned(), why });
    }
    settle(m, true);
    for size in [2, 3, 7] {
        let mut other = m.graph.clone();
        replace_in_graph(&mut other, &|atom| match atom {
            Atom::Name(n) if **n == *name => Some(Dim::Known(size)),
            _ => None,
        });
        if let Some((node, why)) = fresh_contradiction(&other, opset, &before) {
            return Err(SurgeryError::Batch { node, why });
        }
    }
    changes.push(format!(
        "the batch of {batch} is open as {name}; {} ops were rewritten",
        walk.rewritten
    ));
    Ok(())
}

/// The length of the first axis of all inputs.
fn common_size(g: &Graph, inputs: &[ValueId]) -> Result<usize, SurgeryError> {
    let refuse = |v: ValueId, why: String| {
        let node = format!("input {}", g.value(v).name());
        Err(SurgeryError::Batch { node, why })
    };
    let mut common = None;
    for v in inputs {
        let Some(first) = g.value(*v).shape().and_then(|s| s.first()) else {
            return refuse(*v, "its shape is not known".to_owned());
        };
        let size = match (first.size(), first.name()) {
            (Some(size), _) if size > 0 => size,
            (_, Some(name)) => return refuse(*v, format!("its first axis is open, as {name}")),
            _ => return refuse(*v, "its first axis has no size".to_owned()),
        };
        if *common.get_or_insert(size) != size {
            return refuse(*v, format!("its first axis is {size}, that of another input is not"));
        }
    }
    match common {
        Some(size) => Ok(size),
        None => {
            let why = "it has no input with an axis".to_owned();
            Err(SurgeryError::Batch { node: "the graph".to_owned(), why })
        }
    }
}

/// What is in the way.
pub(super) type Why = String;

pub(super) struct Walk {
    /// The open size.
    symbol: Dim,
    pub(super) opset: i64,
    /// The size that the model was for.
    batch: Dim,
    /// An input whose first axis the samples lie along.
    pub(super) source: ValueId,
    /// Shapes that values had.
    pub(super) sizes: HashMap<ValueId, Shape>,
    /// Where the samples lie; a value that is not here depends on no sample.
    places: HashMap<ValueId, Place>,
    /// Integers that depend on the number of samples.
    counts: HashSet<ValueId>,
    /// The number of samples as a vector of one, once it is needed.
    pub(super) number: Option<ValueId>,
    pub(super) rewritten: usize,
}

impl Walk {
    fn pass(&mut self, g: &mut Graph, op: OpId) -> Result<(), Why> {
        let reads: Vec<ValueId> = g.reads(op).collect();
        let sampled = reads.iter().any(|v| self.places.contains_key(v));
        let counted = reads.iter().any(|v| self.counts.contains(v));
        if (sampled || counted) && !g.op(op).bodies.is_empty() {
            return Err("it has a subgraph that reads samples".to_owned());
        }
        if sampled && !g.op(op).domain.is_empty() {
            return Err("the operator is not known".to_owned());
        }
        let inferred = infer_op(g, op, self.opset, &mut |_, _| {});
        if !sampled && !counted {
            return Ok(());
        }
        let node = g.op(op);
        if node.is("Shape") || node.is("Size") || (counted && !sampled) {
            inferred.map_err(|e| e.to_string())?;
            return self.count(g, op);
        }
        let schema = ops::schema(g.op(op)).ok_or("the operator is not known")?;
        if matches!(schema.axes, Axes::Reshape) {
            return self.reshape(g, op);
        }
        if g.op(op).is("Expand") {
            return self.expand(g, op);
        }
        inferred.map_err(|e| e.to_string())?;
        self.follow(g, op, schema)
    }

    /// An op on integers that depend on the number of samples.
    fn count(&mut self, g: &Graph, op: OpId) -> Result<(), Why> {
        for v in g.results(op).into_iter().flatten() {
            if g.is_unused(v) {
                continue;
            }
            let value = g.value(v);
            if let Some(elements) = &value.sym {
                if elements.iter().any(|d| !d.is_some()) {
                    return Err("it computes with the number of samples".to_owned());
                }
                if elements.iter().any(|d| self.depends(d)) {
                    self.counts.insert(v);
                }
                continue;
            }
            // The same everywhere, so the same for each sample.
            let spread = g.op(op).is("ConstantOfShape") || g.op(op).is("Expand");
            let shape = value.shape().filter(|_| spread);
            let shape = shape.ok_or("it computes with the number of samples")?;
            let axes: Vec<usize> = (0..shape.len()).filter(|a| self.depends(&shape[*a])).collect();
            let place = match axes[..] {
                [] => continue,
                [axis] => {
                    let inner = shape[axis].div_exact(&self.symbol);
                    let inner = inner.ok_or("its size is no multiple of the number of samples")?;
                    Place { inner, ..Place::alone(axis) }
                }
                _ => return Err("several of its sizes depend on the number of samples".to_owned()),
            };
            if g.op(op).is("Expand") && !is_one(g, op, place.axis, shape.len()) {
                return Err("what it spreads is not the same for all samples".to_owned());
            }
            self.places.insert(v, place);
        }
        Ok(())
    }

    fn depends(&self, dim: &Dim) -> bool {
        let mut found = false;
        dim.for_each_symbol(&mut |atom| {
            found |= matches!(atom, Atom::Name(n) if Some(&**n) == self.symbol.name());
        });
        found
    }

    /// Operators that keep the order of elements.
    fn reshape(&mut self, g: &mut Graph, op: OpId) -> Result<(), Why> {
        let x = g.operand(op, 0).ok_or("it has no operand")?;
        let y = g.result(op, 0).ok_or("it has no result")?;
        let was = self.places.get(&x).cloned().ok_or("its shape depends on samples")?;
        let (from, to) = match (self.sizes.get(&x), self.sizes.get(&y)) {
            (Some(from), Some(to)) => (from.clone(), to.clone()),
            _ => return Err("its sizes are not known".to_owned()),
        };
        let place = was.reshaped(&from, &to, &self.batch);
        let place = place.ok_or("it mixes samples with what lies beside them")?;
        self.places.insert(y, place.clone());
        if self.expected(g, y, &place) {
            return Ok(());
        }
        if !g.op(op).is("Reshape") {
            return Err(self.unexpected(g, y, &place));
        }
        // Open sizes are copied where they stand at the same axis; one more can be left open.
        let copied = |a: usize| a < from.len() && from[a].same(&to[a]);
        let open = |a: usize| if copied(a) { 0 } else { -1 };
        let mut shape: Vec<i64> = (0..to.len()).map(|a| to[a].known().unwrap_or(open(a))).collect();
        let free = shape.contains(&-1);
        shape[place.axis] = if free && place == was { 0 } else { -1 };
        let name = format!("{}_shape", g.value(y).name());
        let shape = g.add_const(&name, Tensor::vector(&shape));
        if self.opset < 5 {
            return Err("its shape is an attribute".to_owned());
        }
        self.set_operand(g, op, 1, shape);
        g.edit_op(op).remove_attr("allowzero");
        infer_op(g, op, self.opset, &mut |_, _| {}).map_err(|e| e.to_string())?;
        self.check(g, y, &place)
    }

    /// `Expand` of samples: along their axis it broadcasts 1.
    fn expand(&mut self, g: &mut Graph, op: OpId) -> Result<(), Why> {
        let x = g.operand(op, 0).ok_or("it has no operand")?;
        let y = g.result(op, 0).ok_or("it has no result")?;
        let place = self.places.get(&x).cloned().ok_or("its shape depends on samples")?;
        let rank = self.sizes.get(&x).map(Vec::len).ok_or("its sizes are not known")?;
        let sizes = self.sizes.get(&y).ok_or("its sizes are not known")?;
        let axis = (place.axis + sizes.len()).checked_sub(rank).ok_or("its ranks do not fit")?;
        let place = place.at(axis);
        self.places.insert(y, place.clone());
        if self.expected(g, y, &place) {
            return Ok(());
        }
        let mut shape = known(sizes)?;
        shape[place.axis] = 1;
        let name = format!("{}_shape", g.value(y).name());
        let shape = g.add_const(&name, Tensor::vector(&shape));
        self.set_operand(g, op, 1, shape);
        infer_op(g, op, self.opset, &mut |_, _| {}).map_err(|e| e.to_string())?;
        self.check(g, y, &place)
    }

    /// Every other op: by the links of its axes.
    fn follow(
        &mut self,
        g: &mut Graph,
        op: OpId,
        schema: &'static ops::OpSchema,
    ) -> Result<(), Why> {
        let links = {
            let cx = InferCx::new(g, op, self.opset);
            let shape = |v: Option<ValueId>| v.and_then(|v| self.sizes.get(&v));
            let sizes = shape(g.operand(op, 0)).zip(shape(g.result(op, 0)));
            match own_links(&cx, sizes) {
                Some(links) => links,
                None => axes::links(Some(schema), &cx).map_err(|why| why.into_owned())?,
            }
        };
        let operands = g.operands(op);
        let mut spread: Vec<(usize, usize, Place)> = Vec::new();
        let mut found: Vec<(usize, Place)> = Vec::new();
        for (i, v) in operands.iter().enumerate() {
            let Some(v) = v else { continue };
            if self.counts.contains(v) {
                continue;
            }
            let Some(place) = self.places.get(v).cloned() else { continue };
            let refs = link_of(&links, AxisRef::Operand(i, place.axis))?;
            for r in refs.0 {
                match *r {
                    AxisRef::Result(j, axis) => found.push((j, place.at(axis))),
                    AxisRef::Operand(j, axis) => {
                        let other = operands.get(j).copied().flatten();
                        let Some(other) = other.filter(|_| j != i) else { continue };
                        match self.places.get(&other) {
                            Some(p) if *p == place.at(axis) => {}
                            Some(_) => {
                                return Err("its operands order samples otherwise".to_owned());
                            }
                            None => {
                                let len = self.sizes.get(&other).and_then(|s| s.get(axis));
                                if !(refs.1 && len == Some(&Dim::Known(1))) {
                                    spread.push((j, axis, place.clone()));
                                }
                            }
                        }
                    }
                }
            }
        }
        for (slot, axis, place) in spread {
            self.spread(g, op, slot, axis, &place)?;
        }
        self.lengths(g, op, &links, &found)?;
        infer_op(g, op, self.opset, &mut |_, _| {}).map_err(|e| e.to_string())?;
        for (j, v) in g.results(op).into_iter().enumerate() {
            let Some(v) = v.filter(|v| !g.is_unused(*v)) else { continue };
            let mut mine = found.iter().filter(|f| f.0 == j).map(|f| &f.1);
            let place = mine.next().ok_or_else(|| format!("its result {j} mixes samples"))?;
            if mine.any(|p| p != place) {
                return Err("its operands order samples otherwise".to_owned());
            }
            self.places.insert(v, place.clone());
            self.check(g, v, place)?;
        }
        Ok(())
    }

    /// Sizes that an op lists, among them that of the samples.
    fn lengths(
        &mut self,
        g: &mut Graph,
        op: OpId,
        links: &[AxisLink],
        found: &[(usize, Place)],
    ) -> Result<(), Why> {
        for link in links {
            let AxisLink::Lengths { of, at } = link else { continue };
            let place_of = |r: &AxisRef| {
                found.iter().find(|(j, p)| *r == AxisRef::Result(*j, p.axis)).map(|f| &f.1)
            };
            let Some(e) = of.iter().position(|r| place_of(r).is_some()) else { continue };
            let place = of.iter().find_map(place_of).ok_or("its sizes are not known")?;
            let ops::axes::Place::Operand(slot) = *at else {
                return Err("it lists the number of samples in an attribute".to_owned());
            };
            let Some(list) = g.const_operand(op, slot).and_then(Tensor::to_i64) else { continue };
            let list = self.list(g, op, &list, e, place)?;
            self.set_operand(g, op, slot, list);
        }
        Ok(())
    }

    /// The shape that a value should have now.
    fn shape(&self, v: ValueId, place: &Place) -> Option<Shape> {
        let mut shape = self.sizes.get(&v)?.clone();
        *shape.get_mut(place.axis)? = place.len(&self.symbol);
        Some(shape)
    }

    fn expected(&self, g: &Graph, v: ValueId, place: &Place) -> bool {
        let want = self.shape(v, place);
        want.is_some() && g.value(v).shape() == want.as_ref()
    }

    fn unexpected(&self, g: &Graph, v: ValueId, place: &Place) -> Why {
        let show = |shape: Option<&Shape>| {
            let dims = shape.map(|s| s.iter().map(Dim::to_string).collect::<Vec<_>>().join(","));
            dims.map_or("of unknown shape".to_owned(), |d| format!("[{d}]"))
        };
        let (is, want) = (show(g.value(v).shape()), show(self.shape(v, place).as_ref()));
        format!("its result would be {is} where the samples need {want}")
    }

    fn check(&self, g: &Graph, v: ValueId, place: &Place) -> Result<(), Why> {
        match self.expected(g, v, place) {
            true => Ok(()),
            false => Err(self.unexpected(g, v, place)),
        }
    }
}

/// Operand 0 of the op has length 1 along an axis of a result of rank `rank`.
fn is_one(g: &Graph, op: OpId, axis: usize, rank: usize) -> bool {
    let Some(shape) = g.operand(op, 0).and_then(|v| g.value(v).shape()) else { return false };
    match (axis + shape.len()).checked_sub(rank) {
        Some(axis) => shape.get(axis) == Some(&Dim::Known(1)),
        None => true,
    }
}
