//! Fixing, opening and naming dims of inputs, and what that means for everything else.

use std::collections::{BTreeMap, BTreeSet};

use super::symbols::{replace_in_graph, replace_symbols};
use super::{SurgeryError, bad, find};
use crate::ir::{Atom, Dim, Graph, Model, Shape, Value, ValueId};
use crate::pass::infer_graph;
use crate::report::inspect::{StrayDim, fed_inputs};

const INPUT_SHAPE: &str = "--input-shape";
const SET_DIM: &str = "--set-dim";

/// What is wanted of the inputs.
#[derive(Default)]
struct Wishes {
    /// Symbols that become something else everywhere.
    symbols: BTreeMap<String, Dim>,
    /// Axes that get a dim of their own: a size that was another, or was not there.
    axes: Vec<(ValueId, usize, Dim)>,
    /// Inputs whose rank was not known.
    shapes: Vec<(ValueId, Shape)>,
    /// New symbols in the place of fixed sizes.
    opened: BTreeMap<String, i64>,
}

/// Sets shapes of inputs and sizes of dims. Symbols change wherever they stand; where a size changes
/// that was fixed, all other shapes are inferred anew.
pub(super) fn set(
    m: &mut Model,
    input_shapes: &[String],
    set_dims: &[String],
    changes: &mut Vec<String>,
) -> Result<(), SurgeryError> {
    if input_shapes.is_empty() && set_dims.is_empty() {
        return Ok(());
    }
    let before = contradictions(&m.graph, m.default_opset());
    let mut wishes = Wishes::default();
    for entry in input_shapes {
        wishes.shape(&m.graph, entry, changes)?;
    }
    for entry in set_dims {
        wishes.dim(m, entry, changes)?;
    }
    let symbols = &wishes.symbols;
    replace_symbols(m, &|atom| match atom {
        Atom::Name(name) => symbols.get(&**name).cloned(),
        _ => None,
    });
    for (v, axis, dim) in &wishes.axes {
        set_axis(&mut m.graph, *v, *axis, dim);
    }
    for (v, shape) in &wishes.shapes {
        set_shape(&mut m.graph, *v, shape);
    }
    let anew = !wishes.axes.is_empty() || !wishes.shapes.is_empty();
    settle(m, anew);
    refuse_contradictions(m, &before)?;
    for (name, size) in &wishes.opened {
        for times in [2, 3] {
            let mut other = m.graph.clone();
            replace_in_graph(&mut other, &|atom| match atom {
                Atom::Name(n) if **n == **name => Some(Dim::Known(size * times)),
                _ => None,
            });
            if let Some((node, why)) = fresh_contradiction(&other, m.default_opset(), &before) {
                let why = format!("with {name} = {}, {why}", size * times);
                return Err(SurgeryError::Contradiction { node, why });
            }
        }
    }
    Ok(())
}

impl Wishes {
    fn shape(
        &mut self,
        g: &Graph,
        entry: &str,
        changes: &mut Vec<String>,
    ) -> Result<(), SurgeryError> {
        let (v, dims) = input_and_dims(g, entry)?;
        let name = g.value(v).name();
        let dims: Vec<&str> = dims.split(',').map(str::trim).collect();
        let old = g.value(v).shape();
        if let Some(old) = old.filter(|old| old.len() != dims.len()) {
            let old: Vec<String> = old.iter().map(ToString::to_string).collect();
            let what = format!(
                "input {name:?} has rank {} [{}], this is a shape of rank {}",
                old.len(),
                old.join(","),
                dims.len()
            );
            return Err(bad(INPUT_SHAPE, entry, what));
        }
        let mut shape = Vec::new();
        for (axis, text) in dims.iter().enumerate() {
            let old = old.map_or(Dim::Unknown, |s| s[axis].clone());
            let new = if *text == "?" { old.clone() } else { dim(INPUT_SHAPE, entry, text)? };
            shape.push(new.clone());
            if *text != "?" && new != old {
                self.change(entry, v, axis, &old, new)?;
            }
        }
        if old.is_none() {
            self.axes.retain(|w| w.0 != v);
            self.shapes.push((v, shape));
        }
        changes.push(format!("input {name} is [{}]", dims.join(",")));
        Ok(())
    }

    /// One axis of an input goes from `old` to `new`.
    fn change(
        &mut self,
        entry: &str,
        v: ValueId,
        axis: usize,
        old: &Dim,
        new: Dim,
    ) -> Result<(), SurgeryError> {
        match (old.name(), old.known()) {
            (Some(symbol), _) => {
                let symbol = symbol.to_owned();
                let given = self.symbols.entry(symbol).or_insert_with(|| new.clone());
                if *given != new {
                    let what = format!("dim {old} would be both {given} and {new}");
                    return Err(bad(INPUT_SHAPE, entry, what));
                }
            }
            (None, Some(size)) => {
                if let Some(symbol) = new.name() {
                    let given = self.opened.entry(symbol.to_owned()).or_insert(size);
                    if *given != size {
                        let what = format!("dim {symbol} would stand for both {given} and {size}");
                        return Err(bad(INPUT_SHAPE, entry, what));
                    }
                }
                self.axes.push((v, axis, new));
            }
            (None, None) => self.axes.push((v, axis, new)),
        }
        Ok(())
    }

    fn dim(
        &mut self,
        m: &Model,
        entry: &str,
        changes: &mut Vec<String>,
    ) -> Result<(), SurgeryError> {
        let (name, size) = match entry.rsplit_once('=') {
            Some((name, size)) if !name.is_empty() => (name, size),
            _ => return Err(bad(SET_DIM, entry, "write it as NAME=SIZE")),
        };
        let Dim::Known(size) = dim(SET_DIM, entry, size)? else {
            return Err(bad(SET_DIM, entry, "a size is wanted; --rename-dim renames a dim"));
        };
        let mut open = BTreeSet::new();
        let mut nameless = None;
        for v in fed_inputs(&m.graph) {
            let value = m.graph.value(v);
            for (axis, dim) in value.shape().into_iter().flatten().enumerate() {
                match dim.name() {
                    Some(name) => drop(open.insert(name.to_owned())),
                    None if dim.known().is_none() => {
                        let place = format!("{}:{axis}", value.name());
                        if place == name {
                            nameless = Some((v, axis));
                        }
                        open.insert(place);
                    }
                    None => {}
                }
            }
        }
        if !open.contains(name) {
            let open = open.into_iter().collect();
            return Err(StrayDim { name: name.to_owned(), open }.into());
        }
        let new = Dim::Known(size);
        match nameless {
            Some((v, axis)) => self.axes.push((v, axis, new)),
            None => {
                let given = self.symbols.entry(name.to_owned()).or_insert_with(|| new.clone());
                if *given != new {
                    let what = format!("dim {name} would be both {given} and {new}");
                    return Err(bad(SET_DIM, entry, what));
                }
            }
        }
        changes.push(format!("dim {name} is {size}"));
        Ok(())
    }
}

/// The input and the dims that an entry names: `INPUT:DIMS`, or `DIMS` where there is one input.
fn input_and_dims<'a>(g: &Graph, entry: &'a str) -> Result<(ValueId, &'a str), SurgeryError> {
    if let Some((name, dims)) = entry.rsplit_once(':') {
        let v = find(g, name)?;
        return match g.is_input(v) {
            true => Ok((v, dims)),
            false => Err(bad(INPUT_SHAPE, entry, "the value is no input")),
        };
    }
    let mut inputs = fed_inputs(g);
    match (inputs.next(), inputs.next()) {
        (Some(only), None) => Ok((only, entry)),
        _ => Err(bad(INPUT_SHAPE, entry, "write it as INPUT:DIM,DIM,…")),
    }
}

/// A size of at least 1, or a name.
fn dim(option: &'static str, entry: &str, text: &str) -> Result<Dim, SurgeryError> {
    match text.parse::<i64>() {
        Ok(1..) => Ok(Dim::Known(text.parse().unwrap_or(1))),
        Ok(0) => {
            let what = "a size of 0 would make an empty tensor; give a size, or a name for a dim \
                        that stays open";
            Err(bad(option, entry, what))
        }
        Ok(_) => {
            Err(bad(option, entry, "a size is positive; give a name for a dim that stays open"))
        }
        Err(_) => {
            let plain = |c: char| c.is_alphanumeric() || c == '_' || c == '.';
            let starts = text.starts_with(|c: char| c.is_alphabetic() || c == '_');
            match starts && text.chars().all(plain) {
                true => Ok(Dim::symbol(text)),
                false => Err(bad(option, entry, format!("{text:?} is neither size nor name"))),
            }
        }
    }
}

pub(super) fn set_axis(g: &mut Graph, v: ValueId, axis: usize, dim: &Dim) {
    let value = g.facts_mut(v);
    for ty in [&mut value.ty, &mut value.file_ty].into_iter().flatten() {
        let shape = ty.as_tensor_mut().and_then(|t| t.shape.as_mut());
        if let Some(slot) = shape.and_then(|s| s.get_mut(axis)) {
            *slot = dim.clone();
        }
    }
}

fn set_shape(g: &mut Graph, v: ValueId, shape: &Shape) {
    let value = g.facts_mut(v);
    for ty in [&mut value.ty, &mut value.file_ty].into_iter().flatten() {
        if let Some(t) = ty.as_tensor_mut() {
            t.shape = Some(shape.clone());
        }
    }
}

/// Infers all shapes from those of the inputs, and writes what is known of the outputs into their
/// declarations. With `anew`, no other shape that stood there before is trusted.
pub(super) fn settle(m: &mut Model, anew: bool) {
    let opset = m.default_opset();
    let mut declared: Vec<(ValueId, Option<Shape>)> = Vec::new();
    for v in m.graph.outputs().to_vec() {
        let value = m.graph.value(v);
        let tensor = value.file_ty.as_ref().or(value.ty.as_ref()).and_then(|t| t.as_tensor());
        if let Some(tensor) = tensor.filter(|t| t.shape.is_some() || anew) {
            declared.push((v, tensor.shape.clone()));
        }
    }
    if anew {
        forget(&mut m.graph, true);
    }
    infer_graph(&mut m.graph, opset, &mut |_, _| {});
    for (v, old) in declared {
        if m.graph.is_input(v) || m.graph.is_const(v) {
            continue;
        }
        let new = m.graph.value(v).shape().cloned();
        let shape = match (old, new) {
            (Some(old), Some(new)) if old.len() == new.len() => {
                old.iter().zip(new).map(|(o, n)| declare(o, n, anew)).collect()
            }
            (Some(old), None) => old.iter().map(|o| declare(o, Dim::Unknown, anew)).collect(),
            (_, Some(new)) => new,
            (None, None) => continue,
        };
        set_shape(&mut m.graph, v, &shape);
    }
}

/// The dim that an output declares: the size when it is known, else the name that it has.
fn declare(old: &Dim, new: Dim, anew: bool) -> Dim {
    match (new.known(), old.known()) {
        (Some(_), _) => new,
        // The size was of the model as it was.
        (None, Some(_)) if anew => new,
        (None, _) => old.clone(),
    }
}

/// Drops the shapes that ops are said to make, in bodies too.
pub(super) fn forget(g: &mut Graph, outermost: bool) {
    for v in g.values().collect::<Vec<_>>() {
        let keeps = g.initializer(v).is_some() || (outermost && g.is_input(v));
        if !keeps {
            let value: &mut Value = g.facts_mut(v);
            value.sym = None;
            for ty in [&mut value.ty, &mut value.file_ty].into_iter().flatten() {
                if let Some(t) = ty.as_tensor_mut() {
                    t.shape = None;
                }
            }
        }
    }
    for op in g.ops().collect::<Vec<_>>() {
        for body in &mut g.op_facts_mut(op).bodies {
            forget(body, false);
        }
    }
}

/// What inference has against a graph, shapes being those of the inputs: node and reason.
pub(super) fn contradictions(g: &Graph, opset: i64) -> Vec<(String, String)> {
    let mut trial = g.clone();
    forget(&mut trial, true);
    let mut found = Vec::new();
    infer_graph(&mut trial, opset, &mut |op, why| found.push((op, why)));
    found
}

/// The first contradiction at a node that had none before.
pub(super) fn fresh_contradiction(
    g: &Graph,
    opset: i64,
    before: &[(String, String)],
) -> Option<(String, String)> {
    contradictions(g, opset).into_iter().find(|(node, _)| !before.iter().any(|b| b.0 == *node))
}

fn refuse_contradictions(m: &Model, before: &[(String, String)]) -> Result<(), SurgeryError> {
    match fresh_contradiction(&m.graph, m.default_opset(), before) {
        Some((node, why)) => Err(SurgeryError::Contradiction { node, why }),
        None => Ok(()),
    }
}
