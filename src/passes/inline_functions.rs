//! # inline-functions
//!
//! ## What it does
//! Puts the body of a local function in the place of every op that calls it, and drops functions
//! that nothing calls any more.
//!
//! ## Before/after
//! ```text
//! y = local.Scaled <by = 2.0> (x)          c = Constant <value_float = 2.0> ()
//!                                          y = Mul (x, c)
//! ```
//!
//! ## When it applies
//! Wherever an op calls a local function, in subgraphs and in other functions too. Attributes of
//! the call, else their defaults, take the place of references to them; operands that the call
//! leaves out are left out inside.
//!
//! ## What it preserves
//! Names of results. Names inside the function, unless they are taken outside; names of its nodes
//! get the name of the calling node before them.
//!
//! ## Limits
//! A call stays where the function is written for another version of an operator set than the
//! model, where a subgraph is passed as an attribute, or where functions call each other in circles.

use crate::ir::{
    Attr, AttrValue, Function, Graph, Model, Op, OpId, Slot, ValueId, for_each_graph, opset_of,
};
use crate::pass::{Cx, Pass, PassError, PassInfo, Semantics, visit_graphs};

pub(crate) struct InlineFunctions;

static INFO: PassInfo = PassInfo {
    name: "inline-functions",
    summary: "put the bodies of local functions in the place of their calls",
    semantics: Semantics::Exact,
    source: include_str!("inline_functions.rs"),
};

/// Calls within calls, and ops that inlining may make, before it gives up.
const DEEPEST: usize = 64;
const MOST_OPS: usize = 1 << 20;

impl Pass for InlineFunctions {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn run(&self, model: &mut Model, _: &mut Cx) -> Result<(), PassError> {
        inline_functions(model);
        Ok(())
    }
}

/// Inlines all calls of local functions. Returns how many.
pub fn inline_functions(m: &mut Model) -> usize {
    inline_those(m, &|_| true)
}

/// Infers the types of values of the main graph that calls of local functions make, and of what
/// follows from these.
pub(crate) fn infer_through_calls(m: &mut Model) {
    if m.functions.is_empty() {
        return;
    }
    let mut inlined = m.clone();
    inline_functions(&mut inlined);
    crate::pass::infer_model(&mut inlined, &mut |_, _| {});
    let g = &mut m.graph;
    let open = |v: &ValueId| {
        g.value(*v)
            .ty
            .as_ref()
            .is_none_or(|t| g.value(*v).rank().is_none() && t.as_tensor().is_some())
    };
    for v in g.values().filter(open).collect::<Vec<_>>() {
        let known = inlined.graph.find_value(g.value(v).name());
        if let Some(ty) = known.and_then(|known| inlined.graph.value(known).ty.clone()) {
            g.facts_mut(v).ty = Some(ty);
        }
    }
}

/// Inlines the calls of those local functions. Returns how many.
pub(super) fn inline_those(m: &mut Model, which: &dyn Fn(&Function) -> bool) -> usize {
    if m.functions.is_empty() {
        return 0;
    }
    let functions = std::mem::take(&mut m.functions);
    let mut total = 0;
    for _ in 0..DEEPEST {
        let mut done = 0;
        let opsets = &mut m.opsets;
        visit_graphs(&mut m.graph, &mut |g| done += inline_calls(g, &functions, which, opsets));
        total += done;
        if done == 0 || op_count(&m.graph) > MOST_OPS {
            break;
        }
    }
    m.functions = functions;
    drop_uncalled(m, which);
    total
}

fn op_count(graph: &Graph) -> usize {
    let mut n = 0;
    for_each_graph(graph, &mut |g| n += g.ops().count());
    n
}

pub(super) fn called<'f>(functions: &'f [Function], op: &Op) -> Option<&'f Function> {
    functions
        .iter()
        .find(|f| f.name == op.op_type && f.domain == op.domain && f.overload == op.overload)
}

fn inline_calls(
    g: &mut Graph,
    functions: &[Function],
    which: &dyn Fn(&Function) -> bool,
    opsets: &mut Vec<(String, i64)>,
) -> usize {
    let mut done = 0;
    for id in g.order() {
        let Some(f) = called(functions, g.op(id)).filter(|f| which(f)) else { continue };
        let differs = |(d, v): &(String, i64)| opset_of(opsets, d).is_some_and(|mine| mine != *v);
        if f.opsets.iter().any(differs) || op_count(g) > MOST_OPS {
            continue;
        }
        let Some(body) = specialize(f, g, id) else { continue };
        for (domain, version) in &f.opsets {
            if opset_of(opsets, domain).is_none() {
                opsets.push((domain.clone(), *version));
            }
        }
        let operands = g.operands(id);
        let call = g.edit_op(id);
        call.bodies.push(body);
        let index = call.bodies.len() - 1;
        g.inline_body(id, index, &operands);
        done += 1;
    }
    done
}

/// The body of the function as this call means it; `None` where that is no plain graph.
fn specialize(f: &Function, g: &Graph, call: OpId) -> Option<Graph> {
    let mut body = f.graph.clone();
    let op = g.op(call);
    if g.op(call).result_count() > body.outputs().len() || op.arity() > body.inputs().len() {
        return None;
    }
    let operands = g.operands(call);
    for (i, v) in body.inputs().to_vec().into_iter().enumerate() {
        if operands.get(i).copied().flatten().is_some() {
            continue;
        }
        if body.is_output(v) {
            return None;
        }
        for (user, slot) in body.uses(v) {
            let Slot::Operand(slot) = slot else { return None };
            body.set_operand(user, slot as usize, None);
        }
    }
    resolve(&mut body, f, op)?;
    Some(body)
}

/// Puts attributes of the call in the place of references to them.
fn resolve(body: &mut Graph, f: &Function, call: &Op) -> Option<()> {
    for id in body.ops().collect::<Vec<_>>() {
        let op = body.edit_op(id);
        if !op.name.is_empty() && !call.name.is_empty() {
            op.name = format!("{}/{}", call.name, op.name);
        }
        let mut kept: Vec<Attr> = Vec::with_capacity(op.attrs.len());
        for mut attr in std::mem::take(&mut op.attrs) {
            if let AttrValue::Ref(name, _) = &attr.value {
                let default = || f.attr_defaults.iter().find(|a| a.name == *name).map(|a| &a.value);
                match call.attr(name).or_else(default) {
                    Some(AttrValue::Graph(_) | AttrValue::Graphs(_)) => return None,
                    Some(value) => attr.value = value.clone(),
                    None => continue,
                }
            }
            kept.push(attr);
        }
        op.attrs = kept;
        for inner in &mut op.bodies {
            resolve(inner, f, call)?;
        }
    }
    Some(())
}

/// Drops those functions that neither the main graph nor a function that stays calls.
pub(crate) fn drop_uncalled(m: &mut Model, which: &dyn Fn(&Function) -> bool) {
    let calls = |graph: &Graph, f: &Function| {
        let mut found = false;
        for_each_graph(graph, &mut |g| {
            found |= g.ops().any(|op| called(std::slice::from_ref(f), g.op(op)).is_some());
        });
        found
    };
    let mut kept: Vec<bool> = m.functions.iter().map(|f| !which(f) || calls(&m.graph, f)).collect();
    loop {
        let mut grew = false;
        for i in 0..m.functions.len() {
            let used = |j: usize| kept[j] && calls(&m.functions[j].graph, &m.functions[i]);
            if !kept[i] && (0..m.functions.len()).any(used) {
                kept[i] = true;
                grew = true;
            }
        }
        if !grew {
            break;
        }
    }
    let mut kept = kept.into_iter();
    m.functions.retain(|_| kept.next().unwrap_or(false));
}
