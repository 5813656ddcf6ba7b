//! Codebooks and indices in the graph.

use super::{ShareOptions, Shared};
use crate::ir::{DType, Graph, Op, Tensor, ValueId};
use crate::prune::sparse::sites::Site;

/// `Cast(to)` of ONNX for 32-bit integers.
const INT32: i64 = 6;

/// Stores a shared weight, under its name; the bytes that it takes.
pub(super) fn write(g: &mut Graph, site: &Site, shared: &Shared, o: &ShareOptions) -> usize {
    if o.values_only {
        let Some(values) = Tensor::from_f32(shared.dtype, &shared.dims, &shared.values()) else {
            return 0;
        };
        let bytes = values.byte_len();
        g.set_data(site.weight, values);
        return bytes;
    }
    let name = g.value(site.weight).name().to_owned();
    let books = [shared.codebooks.len()];
    let Some(codebook) = Tensor::from_f32(shared.dtype, &books, &shared.codebooks) else {
        return 0;
    };
    let indices = indices(shared, o.pack && shared.size <= 16);
    let mut bytes = codebook.byte_len() + indices.byte_len();
    let anchor = site.readers.first().map(|r| r.0);
    let codebook = g.add_const(&format!("{name}_codebook"), codebook);
    let indices = g.add_const(&format!("{name}_indices"), indices);
    let cast = Op::new("Cast").with("to", INT32);
    let mut wide = g.add_named(&format!("{name}_wide"));
    g.add_op(cast, &[Some(indices)], &[Some(wide)], anchor);
    if shared.codebooks() > 1 {
        let starts: Vec<i32> = shared.books().map(|b| (b * shared.size) as i32).collect();
        let mut dims = vec![1; shared.dims.len()];
        dims[shared.axis] = starts.len();
        let starts = Tensor::of(&dims, &starts);
        bytes += starts.byte_len();
        let starts = g.add_const(&format!("{name}_starts"), starts);
        let sum = g.add_named(&format!("{name}_places"));
        g.add_op(Op::new("Add"), &[Some(wide), Some(starts)], &[Some(sum)], anchor);
        wide = sum;
    }
    gather(g, site.weight, codebook, wide, anchor);
    bytes
}

/// The weight becomes what a Gather makes.
fn gather(
    g: &mut Graph,
    weight: ValueId,
    codebook: ValueId,
    indices: ValueId,
    anchor: Option<crate::ir::OpId>,
) {
    g.take_data(weight);
    let op = Op::new("Gather").with("axis", 0i64);
    g.add_op(op, &[Some(codebook), Some(indices)], &[Some(weight)], anchor);
}

/// Indices as bytes, or two in a byte, the first in the low bits.
fn indices(shared: &Shared, pack: bool) -> Tensor {
    if !pack {
        return Tensor::of(&shared.dims, &shared.indices);
    }
    let pairs = shared.indices.chunks(2);
    let bytes: Vec<u8> = pairs.map(|p| p[0] | p.get(1).copied().unwrap_or(0) << 4).collect();
    Tensor::new(DType::U4, shared.dims.clone(), bytes.into())
        .unwrap_or_else(|_| Tensor::of(&shared.dims, &shared.indices))
}
