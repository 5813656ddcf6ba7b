//! Models parsed by tract, and plans for given input shapes.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use prost::Message;
use rayon::prelude::*;
use tract_onnx::pb;
use tract_onnx::prelude::*;
use tract_onnx::tract_core::internal::TractError;
use tract_onnx::tract_hir::internal::{InferenceFact, ShapeFactoid};
use tract_onnx::tract_hir::ops::konst::Const;
use tract_onnx::tract_hir::ops::source::Source;

use super::{Key, kernels, quiet, support, tensor};
use crate::engine::feeds::InputSpec;
use crate::ir::{DType, Model, Tensor as OurTensor};
use crate::onnx;

/// A plan that runs.
pub(super) struct Plan {
    runnable: Arc<TypedRunnableModel>,
    /// Which of the wanted values each output is.
    outputs: Vec<usize>,
    /// Which of the wanted values each slot of a node is: those that are shown as soon as they are
    /// there, and need not stay.
    passing: BTreeMap<usize, Vec<(usize, usize)>>,
}

/// A model as tract reads it, weights in place, input shapes still open.
pub(super) struct Parsed {
    model: InferenceModel,
    inputs: Vec<OutletId>,
    wanted: Vec<OutletId>,
    /// So many of the wanted values stay until the end of a run.
    kept: usize,
    defaults: Vec<Option<OurTensor>>,
}

fn text(e: impl std::fmt::Display) -> String {
    format!("{e:#}")
}

/// Runs `f` guarded; its panics and errors as text.
fn guarded<T>(f: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    quiet::guarded(f).unwrap_or_else(|said| Err(format!("it panicked: {said}")))
}

impl Parsed {
    /// Hands the model to tract. `wanted` names the values of the main graph to compute, the first
    /// `kept` of which stay until the end of a run.
    pub(super) fn new(
        model: &Model,
        specs: &[InputSpec],
        wanted: &[String],
        kept: usize,
    ) -> Result<Parsed, String> {
        let skeleton = onnx::skeleton(model).map_err(text)?;
        let proto = pb::ModelProto::decode(skeleton.bytes).map_err(text)?;
        guarded(|| {
            let mut parsed = support::front_end().parse(&proto, None).map_err(text)?;
            if let Some(name) = parsed.unresolved_inputs.first() {
                return Err(format!("nothing makes {name:?}"));
            }
            let outlets = parsed.outlets_by_name;
            let outlet = |name: &String| {
                outlets.get(name).copied().ok_or_else(|| format!("it lost {name:?}"))
            };
            let mut defaults: HashMap<&str, OurTensor> = HashMap::new();
            let weights: Result<Vec<_>, String> =
                skeleton.weights.par_iter().map(|(_, data)| tensor::to_tract(data)).collect();
            for ((name, data), constant) in skeleton.weights.iter().zip(weights?) {
                let constant = Arc::new(constant);
                let outlet = outlet(name)?;
                set_const(&mut parsed.model, outlet, constant)?;
                if specs.iter().any(|s| s.name == *name) {
                    defaults.insert(name, data.clone());
                }
            }
            Ok(Parsed {
                inputs: specs.iter().map(|s| outlet(&s.name)).collect::<Result<_, _>>()?,
                wanted: wanted.iter().map(outlet).collect::<Result<_, _>>()?,
                kept,
                defaults: specs.iter().map(|s| defaults.get(s.name.as_str()).cloned()).collect(),
                model: parsed.model,
            })
        })
    }

    /// The default of an input.
    pub(super) fn default(&self, input: usize) -> Option<&OurTensor> {
        self.defaults.get(input)?.as_ref()
    }

    /// Whether a wanted value stays until the end of a run.
    pub(super) fn keeps(&self, wanted: usize) -> bool {
        wanted < self.kept
    }

    /// Makes a plan for these input shapes.
    pub(super) fn plan(&self, key: &Key, dtypes: &[Option<DType>]) -> Result<Arc<Plan>, String> {
        let optimized = guarded(|| {
            let typed = self.shaped(key, dtypes)?.into_optimized().map_err(text)?;
            Plan::new(typed, self.kept)
        });
        // What breaks in tract's optimizer alone still runs without it.
        optimized
            .or_else(|why| {
                let plain = guarded(|| {
                    let typed = self.shaped(key, dtypes)?.into_typed().map_err(text)?;
                    Plan::new(typed, self.kept)
                });
                plain.map_err(|_| why)
            })
            .map(Arc::new)
    }

    /// The wanted values of a model that needs no inputs.
    pub(super) fn constants(mut self) -> Option<Vec<OurTensor>> {
        guarded(|| {
            self.model.set_input_outlets(&[]).map_err(text)?;
            self.model.select_output_outlets(&self.wanted).map_err(text)?;
            let typed = self.model.into_typed().map_err(text)?;
            let known: Option<Vec<Arc<Tensor>>> =
                typed.outputs.iter().map(|o| typed.outlet_fact(*o).ok()?.konst.clone()).collect();
            if let Some(known) = known {
                return known.into_iter().map(|t| tensor::from_tract(t.into_tvalue())).collect();
            }
            let plan = typed.into_runnable().map_err(text)?;
            let outputs = plan.run(tvec!()).map_err(text)?;
            outputs.into_iter().map(tensor::from_tract).collect::<Result<Vec<_>, _>>()
        })
        .ok()
    }

    fn shaped(&self, key: &Key, dtypes: &[Option<DType>]) -> Result<InferenceModel, String> {
        let mut model = self.model.clone();
        let mut sources = Vec::new();
        for ((outlet, dims), dtype) in self.inputs.iter().zip(key).zip(dtypes) {
            let Some(dims) = dims else { continue };
            let datum = dtype.and_then(tensor::datum_type);
            let datum = datum.ok_or_else(|| "an input has a type that it lacks".to_owned())?;
            let fact = InferenceFact::default().with_datum_type(datum).with_shape(
                ShapeFactoid::closed(dims.iter().map(|&d| d.to_dim().into()).collect()),
            );
            let node = model.node_mut(outlet.node);
            node.op = Box::new(Source);
            node.outputs[0].fact = fact;
            sources.push(*outlet);
        }
        model.set_input_outlets(&sources).map_err(text)?;
        model.select_output_outlets(&self.wanted).map_err(text)?;
        Ok(model)
    }
}

/// Puts a constant in the place of an input.
pub(super) fn set_const(
    model: &mut InferenceModel,
    outlet: OutletId,
    constant: Arc<Tensor>,
) -> Result<(), String> {
    let fact = InferenceFact::try_from(&constant).map_err(text)?;
    let node = model.node_mut(outlet.node);
    node.op = Box::new(Const::new(constant).map_err(text)?);
    node.outputs[0].fact = fact;
    Ok(())
}

impl Plan {
    /// A plan for a model whose outputs are the wanted values.
    fn new(mut model: TypedModel, kept: usize) -> Result<Plan, String> {
        let wanted = model.outputs.clone();
        let passes = |(i, outlet): (usize, &OutletId)| {
            let node = &model.nodes[outlet.node];
            // Constants are not computed, and what nothing reads would not be.
            i >= kept && !node.inputs.is_empty() && !node.outputs[outlet.slot].successors.is_empty()
        };
        let (passing, outputs): (Vec<usize>, Vec<usize>) =
            (0..wanted.len()).partition(|i| passes((*i, &wanted[*i])));
        let outlets: Vec<OutletId> = outputs.iter().map(|i| wanted[*i]).collect();
        model.select_output_outlets(&outlets).map_err(text)?;
        let order = model.eval_order().map_err(text)?;
        if let Some(lost) = passing.iter().find(|i| !order.contains(&wanted[**i].node)) {
            return Err(format!("no output depends on {}", model.nodes[wanted[*lost].node]));
        }
        let mut by_node: BTreeMap<usize, Vec<(usize, usize)>> = BTreeMap::new();
        for i in passing {
            by_node.entry(wanted[i].node).or_default().push((wanted[i].slot, i));
        }
        let runnable = model.into_runnable().map_err(text)?;
        Ok(Plan { runnable, outputs, passing: by_node })
    }

    /// Runs once. `show` gets each of the wanted values, those that pass as soon as they are there.
    pub(super) fn run(
        &self,
        fed: &[Option<&OurTensor>],
        show: &mut dyn FnMut(usize, OurTensor),
    ) -> Result<(), String> {
        let inputs = fed.iter().flatten().map(|t| tensor::to_tract(t).map(IntoTValue::into_tvalue));
        let inputs: Result<TVec<TValue>, String> = inputs.collect();
        let inputs = inputs?;
        let outputs = guarded(|| {
            let mut state = self.runnable.spawn().map_err(text)?;
            let outputs = state.run_plan_with_eval(inputs, |context, state, node, inputs| {
                let results = kernels::eval(context, state, node, inputs)?;
                for (slot, i) in self.passing.get(&node.id).into_iter().flatten() {
                    show(*i, tensor::from_tract(results[*slot].clone()).map_err(TractError::msg)?);
                }
                TractResult::Ok(results)
            });
            outputs.map_err(text)
        })?;
        for (i, output) in self.outputs.iter().zip(outputs) {
            show(*i, tensor::from_tract(output)?);
        }
        Ok(())
    }
}
