//! Weights whose elements may be set to zero.

use std::collections::BTreeMap;

use super::SparseLayer;
use crate::ir::DType::{BF16, F16, F32, F64};
use crate::ir::layout::Layout;
use crate::ir::{Graph, OpId, Slot, Tensor, ValueId};
use crate::prune::PruneError;

/// A weight of linear layers.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub weight: ValueId,
    /// The ops that read it and the slots in which they do.
    pub readers: Vec<(OpId, usize)>,
    /// Names of the readers and of the weight, for patterns.
    pub names: Vec<String>,
    /// The axis that the readers sum over; none when they do not agree.
    pub axis: Option<usize>,
}

/// The constant float weights that only Conv, ConvTranspose, Gemm and MatMul read, in the order of
/// the graph.
pub(crate) fn sites(g: &Graph) -> Vec<Site> {
    let mut at: BTreeMap<ValueId, usize> = BTreeMap::new();
    let mut out: Vec<Site> = Vec::new();
    for op in g.order() {
        for slot in 0..2 {
            let Some((weight, axis)) = summed(g, op, slot) else { continue };
            let index = *at.entry(weight).or_insert_with(|| {
                let name = g.value(weight).name().to_owned();
                let names = vec![name];
                out.push(Site { weight, readers: Vec::new(), names, axis: Some(axis) });
                out.len() - 1
            });
            let site = &mut out[index];
            site.axis = site.axis.filter(|a| *a == axis);
            site.readers.push((op, slot));
            site.names.push(g.short_name(op));
        }
    }
    let linear = |s: &Site| {
        let uses = g.uses(s.weight);
        let known = |(op, slot): &(OpId, Slot)| match slot {
            Slot::Operand(i) => s.readers.contains(&(*op, *i as usize)),
            _ => false,
        };
        uses.iter().all(known) && !g.is_output(s.weight)
    };
    out.retain(linear);
    out
}

/// The weight in this slot of a linear op, and the axis that the op sums over.
fn summed(g: &Graph, op: OpId, slot: usize) -> Option<(ValueId, usize)> {
    let node = g.op(op);
    let weight = g.operand(op, slot)?;
    let t = g.const_tensor(weight)?;
    let float = matches!(t.dtype(), F32 | F64 | F16 | BF16);
    if !node.domain.is_empty() || !float || t.raw().is_none() || t.rank() < 2 || t.is_empty() {
        return None;
    }
    let flag = |name| usize::from(node.int_or(name, 0) != 0);
    let axis = match (node.op_type.as_str(), slot) {
        ("Conv", 1) => 1,
        ("ConvTranspose", 1) => 0,
        ("Gemm", 0) => 1 - flag("transA"),
        ("Gemm", 1) => flag("transB"),
        ("MatMul", 0) => t.rank() - 1,
        ("MatMul", 1) => t.rank() - 2,
        _ => return None,
    };
    Some((weight, axis))
}

impl Site {
    /// Magnitudes of all elements.
    ///
    /// # Errors
    /// When one is NaN.
    pub fn magnitudes(&self, g: &Graph) -> Result<Vec<f32>, PruneError> {
        let name = || g.value(self.weight).name().to_owned();
        let data = g.const_tensor(self.weight).and_then(Tensor::to_f32);
        let mut data = data.ok_or_else(|| PruneError::Weight { name: name() })?;
        data.iter_mut().for_each(|v| *v = v.abs());
        match data.iter().any(|v| v.is_nan()) {
            true => Err(PruneError::NotANumber { name: name() }),
            false => Ok(data),
        }
    }

    /// The axis of the weight along which the readers make their results side by side.
    pub fn channel_axis(&self, g: &Graph) -> Option<usize> {
        let (rank, axis) = (g.const_tensor(self.weight)?.rank(), self.axis?);
        let (op, _) = self.readers.first()?;
        Some(match g.op(*op).op_type.as_str() {
            "Conv" => 0,
            "ConvTranspose" => 1,
            _ if axis == rank - 1 => rank - 2,
            _ => rank - 1,
        })
    }

    /// For each element what `channels` says of the channel that it is multiplied with.
    pub fn spread(&self, g: &Graph, channels: &[f64]) -> Option<Vec<f64>> {
        let (t, axis) = (g.const_tensor(self.weight)?, self.axis?);
        let (dims, n) = (t.dims(), *t.dims().get(axis)?);
        let layout = Layout::new(dims, Some(axis));
        let (op, _) = self.readers.first()?;
        let groups = match g.op(*op).is("Conv") {
            true => usize::try_from(g.op(*op).int_or("group", 1)).ok().filter(|g| *g > 0)?,
            false => 1,
        };
        if channels.len() != n * groups || !dims[0].is_multiple_of(groups) {
            return None;
        }
        let block = |i: usize| if groups > 1 { i / (t.len() / groups) } else { 0 };
        Some((0..t.len()).map(|i| channels[block(i) * n + layout.channel(i)]).collect())
    }

    /// The report before anything has happened.
    pub fn describe(&self, g: &Graph) -> SparseLayer {
        let t = g.const_tensor(self.weight);
        SparseLayer {
            name: self.names.get(1).cloned().unwrap_or_default(),
            weight: g.value(self.weight).name().to_owned(),
            dims: t.map(|t| t.dims().to_vec()).unwrap_or_default(),
            zeros_before: zeros(t),
            zeros_after: zeros(t),
            kept_in_order: 1.0,
            kept: 1.0,
            skipped: None,
        }
    }
}

/// Number of elements that are zero.
pub(super) fn zeros(t: Option<&Tensor>) -> usize {
    t.and_then(Tensor::to_f32).map_or(0, |d| d.iter().filter(|v| **v == 0.0).count())
}
