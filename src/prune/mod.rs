//! Structured channel pruning over dependency groups.
//!
//! Channels are followed from the weights that make them through the graph, by the operators' axis
//! rules ([`crate::ops::axes`]), until every tensor that carries them and every weight that
//! consumes them is known (`Trace`). Indices that can only be removed together form a
//! class; classes whose removal is interchangeable form a [`Group`]. Of each group that can be
//! proven safe the least important choices are cut; a group that reaches a graph input or output,
//! an unknown operator, or anything else that its rule cannot follow is left alone, and
//! the report says why.
//!
//! Cutting is exact: the pruned model equals the original with the removed channels' consumers
//! zeroed. Initializers are values like others: one that several ops read is cut once if they agree,
//! and a vector shared by ops that do not agree is copied for each.

mod curve;
mod cuts;
mod derived;
mod edits;
mod error;
mod explain;
mod flat;
mod groups;
mod importance;
mod lanes;
mod links;
mod mask;
mod options;
mod outcome;
mod run;
mod select;
mod sensitivity;
mod shuffle;
mod sizes;
mod slice;
pub mod sparse;
mod target;
mod trace;
pub mod verify;

pub use curve::{Curve, CurvePoint, curve};
pub use cuts::{ChannelNorms, Cuts};
pub use error::PruneError;
pub use explain::{AxisPart, Explanation};
pub use groups::Group;
pub use importance::{Aggregate, Importance, Normalize};
pub use options::{LayerRatio, Mode, PruneOptions};
pub use run::{prune, prune_with};
pub use select::{kept, removed};
pub use sensitivity::{
    FittedPlan, GroupSensitivity, Point, SensitivityOptions, SensitivityReport, sensitivity,
};
pub use sparse::{SparseReport, sparsify};

use flat::Flat;
use groups::Groups;
use importance::Moments;

use crate::ir::{Graph, Model};
use crate::pass;
use crate::passes::lift_constants;
use crate::recover::{Calibration, Kept, RecoveryReport};

/// What pruning did to one group.
#[derive(Clone, Debug, serde::Serialize)]
pub struct GroupReport {
    /// Its first source layer.
    pub name: String,
    /// All layers that lose channels or inputs with it.
    pub members: Vec<String>,
    /// Channels before.
    pub before: usize,
    /// Channels after.
    pub after: usize,
    /// Ratio that was asked for.
    pub requested: f64,
    /// Why it was left alone.
    pub pinned: Option<String>,
    /// An op that takes statistics over its channels: cutting changes what is left.
    pub approximate: Option<String>,
}

/// A goal and what is left, as shares of the original.
#[derive(Clone, Debug, serde::Serialize)]
pub struct GoalReport {
    /// What the goal is about: multiply-accumulates, parameters, bytes or latency.
    pub what: &'static str,
    /// The share that may be left.
    pub goal: f64,
    /// The share that is left.
    pub left: f64,
}

/// What pruning did.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub struct PruneReport {
    /// The groups in the order of their first sources.
    pub groups: Vec<GroupReport>,
    /// Channels of all groups before.
    pub channels_before: usize,
    /// Channels of all groups after.
    pub channels_after: usize,
    /// Elements of all float constants before.
    pub params_before: usize,
    /// Elements of all float constants after.
    pub params_after: usize,
    /// What one cut took from each layer, for pictures; with several steps there is none.
    #[serde(skip)]
    pub cuts: Option<Box<Cuts>>,
    /// What a `--target-…` asked for and what is left, measured on the cut model.
    pub goal: Option<GoalReport>,
    /// What the user should look at.
    pub warnings: Vec<String>,
    /// How accuracy was won back.
    pub recovery: Option<RecoveryReport>,
    /// The model as cut, before recovery, for whoever wants to measure the difference.
    #[serde(skip)]
    pub as_cut: Option<Box<Model>>,
}

/// The groups of a model, ready to choose from and to cut.
pub struct Analysis {
    model: Model,
    groups: Groups,
    /// The graph that the groups are of, where the model has bodies.
    flat: Option<Flat>,
    /// What does not fit in the model as it is.
    known: Vec<verify::Misfit>,
}

/// Which class takes the place of which.
#[derive(Clone, Debug)]
struct Order(Vec<groups::Class>);

impl Order {
    /// Every class stays in its place.
    fn identity(classes: usize) -> Order {
        Order((0..classes as groups::Class).collect())
    }

    /// Puts class `from` into the place of class `place`.
    fn set(&mut self, place: groups::Class, from: groups::Class) {
        self.0[place as usize] = from;
    }

    fn at(&self, place: groups::Class) -> groups::Class {
        self.0[place as usize]
    }

    /// Classes that leave their place.
    fn moved(&self) -> usize {
        self.0.iter().enumerate().filter(|(i, c)| *i != **c as usize).count()
    }
}

/// Which channels go.
#[derive(Clone, Debug)]
pub struct Choice {
    gone: Vec<bool>,
    plans: Vec<select::Plan>,
}

impl Analysis {
    /// Finds the groups of the main graph and of the bodies of `If`, `Loop` and `Scan`.
    pub fn of(model: &Model) -> Analysis {
        Analysis::with(model, false)
    }

    /// As [`Analysis::of`]; with `approximate` also those that a normalization takes statistics over.
    /// Where channels of a layer all go together, shuffles are `Gather`s in the model.
    pub fn with(model: &Model, approximate: bool) -> Analysis {
        let found = Analysis::as_it_is(model, approximate);
        if found.flat.is_none() && found.groups.are_tied() {
            let mut other = found.model.clone();
            if shuffle::unravel(&mut other.graph) {
                return Analysis::as_it_is(&other, approximate);
            }
        }
        found
    }

    /// As [`Analysis::with`], the ops being those of the model.
    fn as_it_is(model: &Model, approximate: bool) -> Analysis {
        let mut model = model.clone();
        pass::visit_model(&mut model, &mut |g, _| lift_constants::lift(g));
        let opset = model.default_opset();
        let mut known = refresh(&mut model.graph, opset);
        let flat = Flat::of(&model.graph, opset);
        known.extend(flat.iter().flat_map(|f| verify::check_lengths(&f.graph, opset)));
        let graph = flat.as_ref().map_or(&model.graph, |f| &f.graph);
        let groups = Groups::find(graph, opset, approximate);
        Analysis { model, groups, flat, known }
    }

    /// The graph that the groups are of: that of the model, bodies laid out.
    fn graph(&self) -> &Graph {
        self.flat.as_ref().map_or(&self.model.graph, |f| &f.graph)
    }

    /// A copy of the model with its constants, attributes and types changed; and what else the edit
    /// says.
    fn edited<T>(&self, edit: impl FnOnce(&mut Graph) -> T) -> (Model, T) {
        let mut model = self.model.clone();
        let Some(flat) = &self.flat else {
            let said = edit(&mut model.graph);
            return (model, said);
        };
        let mut graph = flat.graph.clone();
        let said = edit(&mut graph);
        flat.write_back(&graph, &mut model.graph);
        (model, said)
    }

    /// The groups, in the order of their first sources.
    pub fn groups(&self) -> &[Group] {
        &self.groups.groups
    }

    /// Chooses what goes.
    ///
    /// # Errors
    /// Patterns and ratios that make no sense, weights that cannot be ranked.
    pub fn choose(&self, o: &PruneOptions) -> Result<Choice, PruneError> {
        self.choose_by(o, None)
    }

    /// As [`Analysis::choose`], by these moments where the importance looks at activations.
    fn choose_by(&self, o: &PruneOptions, moments: Option<&Moments>) -> Result<Choice, PruneError> {
        let scores = importance::scores(self.graph(), &self.groups, o, moments)?;
        self.choose_scored(o, &scores)
    }

    /// The moments over the data that scores of this importance need, if it needs any.
    fn moments(
        &self,
        importance: Importance,
        data: Option<Calibration>,
    ) -> Result<Option<Moments>, PruneError> {
        match data.filter(|_| importance.needs_data()) {
            Some(c) => Moments::collect(&self.model, self.graph(), &self.groups, c).map(Some),
            None => Ok(None),
        }
    }

    fn choose_scored(&self, o: &PruneOptions, scores: &[f64]) -> Result<Choice, PruneError> {
        let adds_up = o.importance() == Importance::Reconstruction;
        let costs = adds_up.then(|| target::costs(self.graph(), &self.groups));
        let plans = select::plan(&self.groups, scores, costs.as_deref(), o)?;
        Ok(Choice { gone: select::choose(&self.groups, scores, &plans), plans })
    }

    /// The choice of so many choices of each group, the least important first.
    fn choose_counts(&self, scores: &[f64], plans: &[select::Plan]) -> Choice {
        Choice { gone: select::choose(&self.groups, scores, plans), plans: plans.to_vec() }
    }

    /// The model without the chosen channels.
    ///
    /// # Errors
    /// When the result does not fit together: a bug.
    pub fn cut(&self, choice: &Choice) -> Result<Model, PruneError> {
        let opset = self.model.default_opset();
        let (mut model, misfits) = self.edited(|g| {
            slice::cut(g, opset, &self.groups, &choice.gone).map(|()| refresh(g, opset))
        });
        let mut misfits = misfits?;
        if self.flat.is_some() {
            misfits.extend(refresh(&mut model.graph, opset));
        }
        match misfits.into_iter().find(|m| !self.known.iter().any(|k| k.node == m.node)) {
            Some(misfit) => Err(PruneError::Misfit(misfit)),
            None => Ok(model),
        }
    }

    /// The model with the channels in another order, which computes the same.
    fn reordered(&self, order: &Order) -> Result<Model, PruneError> {
        let (model, done) = self.edited(|g| slice::reorder(g, &self.groups, order));
        done.map(|()| model)
    }

    /// The model with zeros in the weights that consume the chosen channels: it computes what the
    /// cut model computes.
    pub fn masked(&self, choice: &Choice) -> Model {
        let (mut model, ()) = self.edited(|g| mask::mask_consumers(g, &self.groups, &choice.gone));
        mask::mask_pairs(&mut model.graph, &self.model.graph, &self.groups, &choice.gone);
        model
    }

    /// The model with zeros in what makes the chosen channels, and after ops that make something else of
    /// zero: it computes what the cut model computes.
    pub fn zeroed(&self, choice: &Choice) -> Model {
        let (mut model, ()) = self.edited(|g| mask::mask_makers(g, &self.groups, &choice.gone));
        let outside = |v| self.model.graph.has_value(v);
        let shifted = mask::shifted(self.graph(), &self.groups, &choice.gone);
        let shifted = shifted.into_iter().filter(|l| outside(self.groups.lanes.get(*l).value));
        mask::mask_lanes(&mut model.graph, &self.groups, shifted, &choice.gone);
        model
    }

    /// What stays of the axes that lose channels, those of the main graph.
    pub fn kept(&self, choice: &Choice) -> Kept {
        let keeps = slice::Keeps::of(&self.groups, &choice.gone);
        let at = |lane| {
            let lane = self.groups.lanes.get(lane);
            (lane.value, lane.axis)
        };
        let all = keeps.iter().map(|(lane, keep)| (at(lane), keep.clone()));
        all.filter(|((value, _), _)| self.model.graph.has_value(*value)).collect()
    }

    /// What the choice means for each group.
    pub fn report(&self, choice: &Choice) -> Vec<GroupReport> {
        let one = |(group, plan): (&Group, &select::Plan)| GroupReport {
            name: group.name.clone(),
            members: group.members.clone(),
            before: group.channels(),
            after: group.channels() - plan.remove * group.cells.len(),
            requested: plan.ratio,
            pinned: group.pinned.clone().or_else(|| plan.skipped.clone()),
            approximate: group.approximate.clone(),
        };
        self.groups.groups.iter().zip(&choice.plans).map(one).collect()
    }
}

/// Infers everything again; what does not fit.
fn refresh(g: &mut Graph, opset: i64) -> Vec<verify::Misfit> {
    let values: Vec<_> = g.values().collect();
    for v in values {
        g.facts_mut(v).sym = None;
    }
    let mut misfits = Vec::new();
    pass::infer_graph(g, opset, &mut |node, what| misfits.push(verify::Misfit { node, what }));
    misfits.extend(verify::check_lengths(g, opset));
    misfits
}

fn params(g: &Graph) -> usize {
    let float = |v| g.const_tensor(v).filter(|t| t.dtype().is_float()).map_or(0, |t| t.len());
    let mut all: usize = g.values().filter(|v| !g.is_capture(*v)).map(float).sum();
    for op in g.ops() {
        all += g.op(op).bodies.iter().map(params).sum::<usize>();
    }
    all
}
