//! What a model takes, and whether a run gives it.

use super::{EngineError, Feeds};
use crate::ir::{DType, Dim, Graph, Shape, Tensor, Value};

/// One input of a model.
#[derive(Clone, Debug)]
pub struct InputSpec {
    /// Its name.
    pub name: String,
    /// Element type, when the model says.
    pub dtype: Option<DType>,
    /// Shape, when the model says.
    pub shape: Option<Shape>,
    /// It has a default: it need not be fed.
    pub optional: bool,
}

impl InputSpec {
    /// The inputs of a graph in order.
    pub fn of_graph(g: &Graph) -> Vec<InputSpec> {
        let spec = |v: &crate::ir::ValueId| {
            let value: &Value = g.value(*v);
            InputSpec {
                name: value.name().to_owned(),
                dtype: value.dtype(),
                shape: value.shape().cloned(),
                optional: g.initializer(*v).is_some(),
            }
        };
        g.inputs().iter().map(spec).collect()
    }

    /// Type and shape as messages show them: `float[N,3,224,224]`.
    pub fn describe(&self) -> String {
        let dtype = self.dtype.map_or("?", DType::name);
        match &self.shape {
            None => dtype.to_owned(),
            Some(shape) => {
                let dims: Vec<String> = shape.iter().map(Dim::to_string).collect();
                format!("{dtype}[{}]", dims.join(","))
            }
        }
    }

    fn check(&self, t: &Tensor) -> Result<(), EngineError> {
        let fits = self.dtype.is_none_or(|d| d == t.dtype())
            && self.shape.as_ref().is_none_or(|s| {
                let fits = |(dim, &n): (&Dim, &usize)| dim.size().is_none_or(|d| d == n);
                s.len() == t.rank() && s.iter().zip(t.dims()).all(fits)
            });
        if fits {
            return Ok(());
        }
        let dims: Vec<String> = t.dims().iter().map(usize::to_string).collect();
        let got = format!("{}[{}]", t.dtype(), dims.join(","));
        let what = format!("the model takes {}, but got {got}", self.describe());
        Err(EngineError::Input { name: self.name.clone(), what })
    }
}

/// The tensors of `feeds` in the order of `specs`; `None` where a default stands in.
///
/// # Errors
/// When one is missing, does not fit, or is no input of the model.
pub fn match_feeds<'a>(
    specs: &[InputSpec],
    feeds: &'a Feeds,
) -> Result<Vec<Option<&'a Tensor>>, EngineError> {
    let fail = |name: &str, what: String| Err(EngineError::Input { name: name.to_owned(), what });
    if let Some((name, _)) = feeds.iter().find(|(n, _)| !specs.iter().any(|s| s.name == *n)) {
        return fail(name, format!("the model has no such input; it has {}", list(specs)));
    }
    let mut out = Vec::with_capacity(specs.len());
    for spec in specs {
        match feeds.iter().find(|(n, _)| *n == spec.name) {
            Some((_, t)) => {
                spec.check(t)?;
                out.push(Some(t));
            }
            None if spec.optional => out.push(None),
            None => return fail(&spec.name, "no data given for it".to_owned()),
        }
    }
    Ok(out)
}

/// The inputs for messages: `image float[N,3,224,224], mask int64[N]`.
pub fn list(specs: &[InputSpec]) -> String {
    let each: Vec<String> = specs.iter().map(|s| format!("{} {}", s.name, s.describe())).collect();
    each.join(", ")
}
