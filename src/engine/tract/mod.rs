//! The embedded engine: tract.
//!
//! A model goes to tract as a file without weights; the weights are patched in as constants, which
//! copies each once. A plan is made for the input shapes of a run and kept, so that everything
//! which depends on shapes is settled before the first sample runs. Calls are guarded: tract may
//! panic on what it does not foresee.

mod fp8;
mod kernels;
mod parts;
mod plan;
mod quiet;
mod softmax;
mod stored;
mod strided;
mod support;
mod tensor;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::feeds::{InputSpec, match_feeds};
use super::{Engine, EngineError, Feeds, Session};
use crate::ir::{Model, Tensor, ValueId};
use crate::pass::inline_functions;
use plan::{Parsed, Plan};

const NAME: &str = "tract";
const HINT: Option<&str> = Some("try `--engine ort`");

/// Plans for different input shapes that a session keeps.
const MAX_PLANS: usize = 16;

/// The embedded engine.
#[derive(Clone, Copy, Debug, Default)]
pub struct TractEngine;

impl Engine for TractEngine {
    fn name(&self) -> &'static str {
        NAME
    }

    fn prepare(&self, model: &Model, taps: &[String]) -> Result<Arc<dyn Session>, EngineError> {
        let mut own;
        let g = &model.graph;
        let model = match model.functions.is_empty() && !stored::any(g) && !fp8::any(g) {
            true => model,
            false => {
                own = model.clone();
                inline_functions(&mut own);
                stored::unpack(&mut own);
                fp8::widen(&mut own.graph);
                &own
            }
        };
        support::check(model)?;
        let no_defaults =
            model.graph.inputs().iter().all(|v| model.graph.initializer(*v).is_none());
        if model.graph.ops().count() > parts::LONG
            && no_defaults
            && let Some(parts) = parts::Parts::new(model, taps)?
        {
            return Ok(Arc::new(parts));
        }
        TractEngine::whole(model, taps)
    }
}

impl TractEngine {
    /// The model in one piece.
    fn whole(model: &Model, taps: &[String]) -> Result<Arc<dyn Session>, EngineError> {
        let specs = InputSpec::of_graph(&model.graph);
        let labels = model.graph.order().iter().map(|op| model.graph.label(*op)).collect();
        let mut wanted = Vec::new();
        let outputs = model.graph.outputs().to_vec();
        let outputs = outputs.iter().map(|v| place(model, *v, &mut wanted)).collect();
        let kept = wanted.len();
        let taps = self::taps(model, taps, &mut wanted);
        let wanted: Vec<String> =
            wanted.iter().map(|v| model.graph.value(*v).name().to_owned()).collect();
        let names = Names { labels };
        let parsed =
            Parsed::new(model, &specs, &wanted, kept).map_err(|e| names.unsupported(&e))?;
        let mut shown = vec![Vec::new(); wanted.len()];
        let mut taps = taps?;
        taps.retain(|(i, tap)| match tap {
            Place::Computed(computed) => {
                shown[*computed].push(*i);
                false
            }
            _ => true,
        });
        let plans = Mutex::default();
        let session = TractSession { specs, outputs, taps, shown, parsed, plans, names };
        session.plan_ahead()?;
        Ok(Arc::new(session))
    }
}

/// Where a result comes from.
enum Place {
    Input(usize),
    Const(Tensor),
    Computed(usize),
}

fn place(model: &Model, v: ValueId, wanted: &mut Vec<ValueId>) -> Place {
    let g = &model.graph;
    if let Some(i) = g.inputs().iter().position(|input| *input == v) {
        return Place::Input(i);
    }
    if let Some(t) = g.const_tensor(v) {
        return Place::Const(t.clone());
    }
    let i = wanted.iter().position(|w| *w == v).unwrap_or_else(|| {
        wanted.push(v);
        wanted.len() - 1
    });
    Place::Computed(i)
}

/// Taps under their indices.
type Taps = Vec<(usize, Place)>;

fn taps(model: &Model, names: &[String], wanted: &mut Vec<ValueId>) -> Result<Taps, EngineError> {
    let mut tap = |name: &String| {
        let v = model.graph.find_value(name).ok_or_else(|| EngineError::Input {
            name: name.to_owned(),
            what: "the model has no value of this name to observe".to_owned(),
        })?;
        Ok(place(model, v, wanted))
    };
    names.iter().enumerate().map(|(i, name)| Ok((i, tap(name)?))).collect()
}

/// Shows what is tapped, and gives the outputs; `None` when one is missing.
fn deliver(
    taps: &Taps,
    outputs: &[Place],
    observe: &mut dyn FnMut(usize, Tensor),
    get: impl Fn(&Place) -> Option<Tensor>,
) -> Option<Vec<Tensor>> {
    for (i, tap) in taps {
        if let Some(t) = get(tap) {
            observe(*i, t);
        }
    }
    outputs.iter().map(get).collect()
}

/// Dims of each input; `None` where its default stands in.
type Key = Vec<Option<Vec<usize>>>;

struct TractSession {
    specs: Vec<InputSpec>,
    outputs: Vec<Place>,
    /// Taps that are not computed.
    taps: Taps,
    /// The taps that each computed value is.
    shown: Vec<Vec<usize>>,
    parsed: Parsed,
    plans: Mutex<Vec<(Key, Arc<Plan>)>>,
    names: Names,
}

impl TractSession {
    /// Where the model says all input shapes, finds out now whether tract can run it.
    fn plan_ahead(&self) -> Result<(), EngineError> {
        let dims = |s: &InputSpec| match s.optional {
            true => Some(None),
            false => crate::ir::known_sizes(s.shape.as_ref()?).map(Some),
        };
        match self.specs.iter().map(dims).collect::<Option<Key>>() {
            Some(key) if self.specs.iter().all(|s| s.dtype.is_some()) => {
                self.plan(&key, &self.specs.iter().map(|s| s.dtype).collect::<Vec<_>>()).map(drop)
            }
            _ => Ok(()),
        }
    }

    fn plan(
        &self,
        key: &Key,
        dtypes: &[Option<crate::ir::DType>],
    ) -> Result<Arc<Plan>, EngineError> {
        let mut plans = self.plans.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(i) = plans.iter().position(|(k, _)| k == key) {
            return Ok(plans[i].1.clone());
        }
        let plan = self.parsed.plan(key, dtypes).map_err(|e| self.names.unsupported(&e))?;
        if plans.len() >= MAX_PLANS {
            plans.remove(0);
        }
        plans.push((key.clone(), plan.clone()));
        Ok(plan)
    }
}

impl Session for TractSession {
    fn run(
        &self,
        feeds: &Feeds,
        observe: &mut dyn FnMut(usize, Tensor),
    ) -> Result<Vec<Tensor>, EngineError> {
        let fed = match_feeds(&self.specs, feeds)?;
        let key: Key = fed.iter().map(|t| t.map(|t| t.dims().to_vec())).collect();
        let dtypes: Vec<_> = fed.iter().map(|t| t.map(Tensor::dtype)).collect();
        let plan = self.plan(&key, &dtypes)?;
        let mut computed = BTreeMap::new();
        let show = &mut |i: usize, t: Tensor| {
            self.shown[i].iter().for_each(|tap| observe(*tap, t.clone()));
            if self.parsed.keeps(i) {
                computed.insert(i, t);
            }
        };
        plan.run(&fed, show).map_err(|e| self.names.failed(&e))?;
        let get = |p: &Place| match p {
            Place::Input(i) => fed[*i].cloned().or_else(|| self.parsed.default(*i).cloned()),
            Place::Const(t) => Some(t.clone()),
            Place::Computed(i) => computed.get(i).cloned(),
        };
        let outputs = deliver(&self.taps, &self.outputs, observe, get);
        outputs.ok_or_else(|| self.names.failed("an output is missing"))
    }
}

/// Labels of our nodes, to be put in the place of tract's.
struct Names {
    labels: Vec<String>,
}

impl Names {
    fn unsupported(&self, what: &str) -> EngineError {
        let (node, what) = self.explain(what);
        EngineError::Unsupported { engine: NAME, node, what, hint: HINT }
    }

    fn failed(&self, what: &str) -> EngineError {
        let (node, what) = self.explain(what);
        EngineError::Run { engine: NAME, node, what }
    }

    /// The node that a message of tract blames, and the message cut to what says why.
    fn explain(&self, message: &str) -> (Option<String>, String) {
        let index = message.split("op@").skip(1).find_map(|rest| {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            digits.parse::<usize>().ok()
        });
        let node = index.and_then(|i| self.labels.get(i)).cloned();
        let mut what = message.lines().next().unwrap_or_default().to_owned();
        let links: Vec<&str> = what.split(": ").collect();
        if node.is_some() && links.len() > 3 {
            what = links[links.len() - 3..].join(": ");
        }
        const LONGEST: usize = 240;
        if what.chars().count() > LONGEST {
            what = what.chars().take(LONGEST).collect::<String>() + " …";
        }
        (node, what)
    }
}

/// Runs a model without inputs, whose operators may all be constant folded; `None` when tract
/// cannot.
pub(super) fn eval(model: &Model) -> Option<Vec<Tensor>> {
    support::check(model).ok()?;
    let wanted: Vec<String> =
        model.graph.outputs().iter().map(|v| model.graph.value(*v).name().to_owned()).collect();
    Parsed::new(model, &[], &wanted, wanted.len()).ok()?.constants()
}
