//! New names for values, nodes and dims.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::{SurgeryError, bad, find, pair};
use crate::ir::{Atom, Dim, Graph, Model, OpId, ValueId};
use crate::surgery::symbols::{replace_symbols, symbols};

/// Renames values of the main graph, all at once, so that names can be swapped.
pub(super) fn rename_values(
    m: &mut Model,
    entries: &[String],
    changes: &mut Vec<String>,
) -> Result<(), SurgeryError> {
    const OPTION: &str = "--rename";
    let g = &mut m.graph;
    let mut wishes: Vec<(ValueId, &str)> = Vec::new();
    for entry in entries {
        let (old, new) = split(OPTION, entry, &|name| g.find_value(name).is_some())?;
        let v = find(g, old)?;
        if wishes.iter().any(|w| w.0 == v) {
            return Err(bad(OPTION, entry, "the value is renamed twice"));
        }
        if wishes.iter().any(|w| w.1 == new) {
            return Err(bad(OPTION, entry, "two values would have this name"));
        }
        wishes.push((v, new));
    }
    let moved = |g: &Graph, name: &str| {
        g.find_value(name).is_some_and(|v| !wishes.iter().any(|w| w.0 == v))
    };
    for ((_, new), entry) in wishes.iter().zip(entries) {
        if moved(g, new) {
            return Err(bad(OPTION, entry, "another value has this name"));
        }
        if super::within_body(g, new) {
            return Err(bad(OPTION, entry, "a value inside a subgraph has this name"));
        }
    }
    let mut renamed: HashMap<String, String> = HashMap::new();
    for (v, new) in &wishes {
        renamed.insert(g.value(*v).name().to_owned(), (*new).to_owned());
        changes.push(format!("value {} is called {new}", g.value(*v).name()));
        g.rename(*v, "");
    }
    for (v, new) in &wishes {
        g.rename(*v, new);
    }
    // Quantization annotations refer to values by name.
    for v in g.values().collect::<Vec<_>>() {
        for (_, name) in g.facts_mut(v).notes.iter_mut().flat_map(|n| &mut n.quant) {
            if let Some(new) = renamed.get(name) {
                name.clone_from(new);
            }
        }
    }
    Ok(())
}

/// `OLD=NEW`, where `OLD` may itself hold `=`: the first split that names something.
fn split<'a>(
    option: &'static str,
    entry: &'a str,
    exists: &dyn Fn(&str) -> bool,
) -> Result<(&'a str, &'a str), SurgeryError> {
    let mut at = entry.match_indices('=').map(|(i, _)| (&entry[..i], &entry[i + 1..]));
    match at.find(|(old, new)| !new.is_empty() && exists(old)) {
        Some(found) => Ok(found),
        None => pair(option, entry),
    }
}

/// Calls `f` on the main graph and the bodies in it, outermost first.
fn each_graph(g: &mut Graph, f: &mut dyn FnMut(&mut Graph)) {
    f(g);
    for op in g.ops().collect::<Vec<_>>() {
        if !g.op(op).bodies.is_empty() {
            for body in g.bodies_mut(op) {
                each_graph(body, f);
            }
        }
    }
}

/// How often each node name is there, subgraphs included.
fn node_names(g: &mut Graph) -> BTreeMap<String, usize> {
    let mut names = BTreeMap::new();
    each_graph(g, &mut |g| {
        for op in g.ops() {
            *names.entry(g.op(op).name.clone()).or_insert(0) += 1;
        }
    });
    names
}

/// Renames nodes of the main graph and of subgraphs, all at once.
pub(super) fn rename_nodes(
    m: &mut Model,
    entries: &[String],
    changes: &mut Vec<String>,
) -> Result<(), SurgeryError> {
    const OPTION: &str = "--rename-node";
    if entries.is_empty() {
        return Ok(());
    }
    let names = node_names(&mut m.graph);
    let mut wishes: BTreeMap<&str, &str> = BTreeMap::new();
    for entry in entries {
        let (old, new) = split(OPTION, entry, &|name| names.contains_key(name))?;
        match names.get(old) {
            None => return Err(bad(OPTION, entry, "no node has this name")),
            Some(1) => {}
            Some(n) => {
                let what = format!("{n} nodes have this name; --name-nodes numbers them");
                return Err(bad(OPTION, entry, what));
            }
        }
        if wishes.insert(old, new).is_some() {
            return Err(bad(OPTION, entry, "the node is renamed twice"));
        }
    }
    let mut taken = HashSet::new();
    for (old, new) in &wishes {
        let stays = names.contains_key(*new) && !wishes.contains_key(new);
        if stays || !taken.insert(*new) {
            return Err(bad(OPTION, &format!("{old}={new}"), "another node has this name"));
        }
        changes.push(format!("node {old} is called {new}"));
    }
    each_graph(&mut m.graph, &mut |g| {
        for op in g.ops().collect::<Vec<_>>() {
            if let Some(new) = wishes.get(g.op(op).name.as_str()) {
                g.edit_op(op).name = (*new).to_owned();
            }
        }
    });
    Ok(())
}

/// Gives every node of the main graph and of subgraphs a name of its own: nameless ones
/// `Type_number`, and those after the first that share a name a number.
pub(super) fn name_nodes(m: &mut Model, changes: &mut Vec<String>) {
    let all = node_names(&mut m.graph);
    let mut taken: HashSet<String> = all.into_keys().collect();
    let mut seen: HashSet<String> = HashSet::new();
    let mut next: HashMap<String, usize> = HashMap::new();
    let mut named = 0;
    each_graph(&mut m.graph, &mut |g| {
        let order: Vec<OpId> = g.order();
        for op in order {
            let node = g.op(op);
            if !node.name.is_empty() && seen.insert(node.name.clone()) {
                continue;
            }
            let stem = if node.name.is_empty() { &node.op_type } else { &node.name };
            let count = next.entry(stem.clone()).or_insert(0);
            let stem = stem.clone();
            let name = loop {
                let name = format!("{stem}_{count}");
                *count += 1;
                if taken.insert(name.clone()) {
                    break name;
                }
            };
            seen.insert(name.clone());
            g.edit_op(op).name = name;
            named += 1;
        }
    });
    changes.push(format!("{named} nodes got a name of their own"));
}

/// Renames symbols everywhere, all at once.
pub(super) fn rename_dims(
    m: &mut Model,
    entries: &[String],
    changes: &mut Vec<String>,
) -> Result<(), SurgeryError> {
    const OPTION: &str = "--rename-dim";
    if entries.is_empty() {
        return Ok(());
    }
    let have = symbols(m);
    let mut wishes: BTreeMap<&str, &str> = BTreeMap::new();
    for entry in entries {
        let (old, new) = pair(OPTION, entry)?;
        if !have.contains(old) {
            let open = have.iter().cloned().collect();
            return Err(crate::report::inspect::StrayDim { name: old.to_owned(), open }.into());
        }
        if new.parse::<i64>().is_ok() {
            return Err(bad(OPTION, entry, "a name is wanted; --set-dim fixes a dim"));
        }
        wishes.insert(old, new);
    }
    let mut taken = HashSet::new();
    for (old, new) in &wishes {
        if (have.contains(*new) && !wishes.contains_key(new)) || !taken.insert(*new) {
            let what = "another dim has this name, and one name means one size";
            return Err(bad(OPTION, &format!("{old}={new}"), what));
        }
        changes.push(format!("dim {old} is called {new}"));
    }
    replace_symbols(m, &|atom| match atom {
        Atom::Name(name) => wishes.get(&**name).map(|new| Dim::symbol(new)),
        _ => None,
    });
    Ok(())
}
