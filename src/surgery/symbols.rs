//! Names of dims wherever they stand: in types, in small integer values, in bodies and functions.

use std::collections::BTreeSet;

use crate::ir::{Atom, Dim, Graph, Model, Type, for_each_graph};

/// Names of all symbols of the model.
pub(super) fn symbols(m: &Model) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut add = |g: &Graph| {
        for v in g.values() {
            let value = g.value(v);
            for ty in [&value.ty, &value.file_ty].into_iter().flatten() {
                each_dim(ty, &mut |dim| {
                    dim.for_each_symbol(&mut |atom| {
                        if let Atom::Name(name) = atom {
                            found.insert(name.to_string());
                        }
                    });
                });
            }
        }
    };
    for_each_graph(&m.graph, &mut add);
    found
}

fn each_dim(ty: &Type, f: &mut dyn FnMut(&Dim)) {
    match ty {
        Type::Tensor(t) | Type::Sparse(t) => t.shape.iter().flatten().for_each(f),
        Type::Sequence(Some(t)) | Type::Optional(Some(t)) | Type::Map(_, Some(t)) => each_dim(t, f),
        Type::Denoted(_, t) => each_dim(t, f),
        _ => {}
    }
}

fn each_dim_mut(ty: &mut Type, f: &mut dyn FnMut(&mut Dim)) {
    match ty {
        Type::Tensor(t) | Type::Sparse(t) => t.shape.iter_mut().flatten().for_each(f),
        Type::Sequence(Some(t)) | Type::Optional(Some(t)) | Type::Map(_, Some(t)) => {
            each_dim_mut(t, f);
        }
        Type::Denoted(_, t) => each_dim_mut(t, f),
        _ => {}
    }
}

/// Puts dims in the place of symbols, in all graphs of the model.
pub(super) fn replace_symbols(m: &mut Model, lookup: &dyn Fn(&Atom) -> Option<Dim>) {
    replace_in_graph(&mut m.graph, lookup);
    for f in &mut m.functions {
        replace_in_graph(&mut f.graph, lookup);
    }
}

/// The same in one graph and its bodies.
pub(super) fn replace_in_graph(g: &mut Graph, lookup: &dyn Fn(&Atom) -> Option<Dim>) {
    for v in g.values().collect::<Vec<_>>() {
        let value = g.facts_mut(v);
        for ty in [&mut value.ty, &mut value.file_ty].into_iter().flatten() {
            each_dim_mut(ty, &mut |dim| *dim = dim.substitute(lookup));
        }
        if let Some(sym) = &value.sym {
            value.sym = Some(sym.iter().map(|d| d.substitute(lookup)).collect());
        }
    }
    for op in g.ops().collect::<Vec<_>>() {
        for body in &mut g.op_facts_mut(op).bodies {
            replace_in_graph(body, lookup);
        }
    }
}
