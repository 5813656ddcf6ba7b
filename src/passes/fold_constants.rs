//! # fold-constants
//!
//! ## What it does
//! Replaces results that are known before the model runs by constants: results of ops on constants,
//! and small integer tensors that shape inference knows, such as the Shape of a tensor of fixed
//! size.
//!
//! ## Before/after
//! ```text
//! s = Shape (x)            two = {2}           x is float[2,3]
//! n = Gather (s, zero)     y = f (two)
//! y = f (n)
//! ```
//!
//! ## When it applies
//! The operator is deterministic and its operands are constant. Small shape arithmetic runs in native
//! kernels, everything else in tract. Type and shape of what comes out must be what inference
//! says.
//!
//! ## What it preserves
//! Names of results. A result that is a graph output becomes a `Constant` op. QuantizeLinear,
//! DequantizeLinear and DynamicQuantizeLinear are never folded.
//!
//! ## Limits
//! All folding together lets constants grow only by the growth limit, counted against operands that
//! nothing else reads. Larger results are not even computed.

use super::cone::{Cone, check_foldable};
use crate::ir::{AttrValue, DType, Graph, Miss, Op, OpId, Patch, Tensor, ValueId};
use crate::pass::{PassInfo, Rewrite, Semantics, Site};

pub(crate) struct FoldConstants;

static INFO: PassInfo = PassInfo {
    name: "fold-constants",
    summary: "compute what is known before the model runs",
    semantics: Semantics::Reassociates,
    source: include_str!("fold_constants.rs"),
};

impl Rewrite for FoldConstants {
    fn info(&self) -> &'static PassInfo {
        &INFO
    }

    fn roots(&self) -> &'static [&'static str] {
        &[]
    }

    fn plan(&self, g: &Graph, at: OpId, site: &Site) -> Result<Patch, Miss> {
        check_foldable(g, at)?;
        let mut patch = Patch::at(at);
        let results = match known_elements(g, at) {
            Some(tensor) => vec![tensor],
            None => {
                let cone = Cone::before(g, at)?;
                cone.free(g, at, &mut patch)?;
                let max_bytes = room(g, at, site.room.saturating_sub(patch.growth()))?;
                let results = cone.run(g, at, site.opset, max_bytes);
                results.ok_or("nothing computes it")?
            }
        };
        let mut left = false;
        for (v, tensor) in g.results(at).into_iter().zip(results) {
            let Some(v) = v else { continue };
            check_type(g, v, &tensor)?;
            if g.is_output(v) {
                let constant = Op::new("Constant").with("value", AttrValue::Tensor(tensor));
                patch.op_into(constant, vec![], vec![Some(v.into())]);
            } else {
                patch.set_data(v, tensor);
            }
            left = true;
        }
        if !left {
            return Err("nothing reads its results".into());
        }
        patch.remove(at);
        Ok(patch)
    }
}

/// The only result, when it is a small integer tensor and shape inference knows all elements.
fn known_elements(g: &Graph, at: OpId) -> Option<Tensor> {
    if g.op(at).result_count() != 1 {
        return None;
    }
    let v = g.value(g.result(at, 0)?);
    let elements = v.sym.as_ref()?.iter().map(|d| d.known()).collect::<Option<Vec<i64>>>()?;
    let dims: Vec<usize> = match v.rank()? {
        0 if elements.len() == 1 => vec![],
        1 => vec![elements.len()],
        _ => return None,
    };
    match v.dtype()? {
        DType::I64 => Some(Tensor::of(&dims, &elements)),
        DType::I32 => {
            let narrow = elements.into_iter().map(|v| i32::try_from(v).ok());
            Some(Tensor::of(&dims, &narrow.collect::<Option<Vec<i32>>>()?))
        }
        DType::Bool => {
            let bytes: Vec<u8> = elements.into_iter().map(|v| u8::from(v != 0)).collect();
            Tensor::new(DType::Bool, dims, bytes.into()).ok()
        }
        _ => None,
    }
}

/// Bytes that the results may take. Refuses before computing what would not be taken.
fn room(g: &Graph, at: OpId, room: i64) -> Result<usize, Miss> {
    let mut needed = 0i64;
    for v in g.results(at).into_iter().flatten() {
        let value = g.value(v);
        let (Some(sizes), Some(dtype)) = (value.sizes(), value.dtype()) else { continue };
        let count = crate::ir::element_count(&sizes);
        let bytes = count.and_then(|n| n.checked_mul(dtype.bits())).map(|bits| bits / 8);
        let bytes = bytes.and_then(|b| i64::try_from(b).ok()).ok_or("the result is huge")?;
        needed = needed.saturating_add(bytes);
    }
    match usize::try_from(room) {
        Ok(bytes) if needed <= room => Ok(bytes),
        _ => Err("the file would grow beyond the limit".into()),
    }
}

fn check_type(g: &Graph, v: ValueId, tensor: &Tensor) -> Result<(), Miss> {
    let value = g.value(v);
    let fits = value.dtype().is_none_or(|d| d == tensor.dtype())
        && value.shape().is_none_or(|shape| {
            shape.len() == tensor.rank()
                && shape.iter().zip(tensor.dims()).all(|(s, &d)| s.size().is_none_or(|s| s == d))
        });
    if fits { Ok(()) } else { Err("what comes out is not of the type that inference says".into()) }
}
