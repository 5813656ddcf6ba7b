//! Models parsed by tract, and plans for given input shapes.

use std::collections::HashMap;
use std::sync::Arc;

use prost::Message;
use tract_onnx::pb;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::internal::{InferenceFact, ShapeFactoid};
use tract_onnx::tract_hir::ops::konst::Const;
use tract_onnx::tract_hir::ops::source::Source;

use super::{Key, quiet, support, tensor};
use crate::engine::feeds::InputSpec;
use crate::ir::{DType, Model, Tensor as OurTensor};
use crate::onnx;

/// A plan that runs.
pub(super) type Plan = TypedRunnableModel;

/// A model as tract reads it, weights in place, input shapes still open.
pub(super) struct Parsed {
    model: InferenceModel,
    inputs: Vec<OutletId>,
    wanted: Vec<OutletId>,
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
    /// Hands the model to tract. `wanted` names the values of the main graph to compute.
    pub(super) fn new(
        model: &Model,
        specs: &[InputSpec],
        wanted: &[String],
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
            for (name, data) in &skeleton.weights {
                let constant = Arc::new(tensor::to_tract(data)?);
                let outlet = outlet(name)?;
                set_const(&mut parsed.model, outlet, constant)?;
                if specs.iter().any(|s| s.name == *name) {
                    defaults.insert(name, data.clone());
                }
            }
            Ok(Parsed {
                inputs: specs.iter().map(|s| outlet(&s.name)).collect::<Result<_, _>>()?,
                wanted: wanted.iter().map(outlet).collect::<Result<_, _>>()?,
                defaults: specs.iter().map(|s| defaults.get(s.name.as_str()).cloned()).collect(),
                model: parsed.model,
            })
        })
    }

    /// The default of an input.
    pub(super) fn default(&self, input: usize) -> Option<&OurTensor> {
        self.defaults.get(input)?.as_ref()
    }

    /// Makes a plan for these input shapes.
    pub(super) fn plan(&self, key: &Key, dtypes: &[Option<DType>]) -> Result<Arc<Plan>, String> {
        let shaped = guarded(|| self.shaped(key, dtypes))?;
        let again = shaped.clone();
        let optimized = guarded(|| {
            let typed = shaped.into_optimized().map_err(text)?;
            typed.into_runnable().map_err(text)
        });
        // What breaks in tract's optimizer alone still runs without it.
        optimized.or_else(|why| {
            let plain = guarded(|| {
                let typed = again.into_typed().map_err(text)?;
                typed.into_runnable().map_err(text)
            });
            plain.map_err(|_| why)
        })
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
                return known.iter().map(|t| tensor::from_tract(t)).collect();
            }
            let plan = typed.into_runnable().map_err(text)?;
            let outputs = plan.run(tvec!()).map_err(text)?;
            outputs.iter().map(|t| tensor::from_tract(t)).collect::<Result<Vec<_>, _>>()
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

/// Runs a plan once.
pub(super) fn run(plan: &Arc<Plan>, fed: &[Option<&OurTensor>]) -> Result<Vec<OurTensor>, String> {
    let inputs = fed.iter().flatten().map(|t| tensor::to_tract(t).map(IntoTValue::into_tvalue));
    let inputs: Result<TVec<TValue>, String> = inputs.collect();
    let inputs = inputs?;
    guarded(|| {
        let outputs = plan.run(inputs).map_err(text)?;
        outputs.iter().map(|t| tensor::from_tract(t)).collect()
    })
}
