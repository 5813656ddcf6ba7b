//! One op on constant operands, for constant folding.

use crate::ir::{Dim, Graph, Model, Op, Tensor, Value, element_count};
use crate::ops;
use crate::pass::infer_op;

use super::tract;

/// Operators whose results may be much larger than their operands: they are run only when shape
/// inference tells how large.
const GROWING: [&str; 16] = [
    "CenterCropPad",
    "Col2Im",
    "ConstantOfShape",
    "Conv",
    "ConvTranspose",
    "Expand",
    "EyeLike",
    "Gather",
    "MatMul",
    "MaxUnpool",
    "OneHot",
    "Pad",
    "Range",
    "Resize",
    "Tile",
    "Upsample",
];

/// Operators that give something else each time.
const RANDOM: [&str; 7] = [
    "Bernoulli",
    "Dropout",
    "Multinomial",
    "RandomNormal",
    "RandomNormalLike",
    "RandomUniform",
    "RandomUniformLike",
];

/// Runs one op with constant operands. Declines where the op has subgraphs or attributes that refer
/// to a function's, is random, is unknown to the engine, has types that the engine lacks, reads
/// infinities or NaN, or makes more than `max_bytes`. Never panics. The caller compares types and shapes of the results with
/// its own inference.
pub fn eval_op(
    op: &Op,
    opset: i64,
    operands: &[Option<&Tensor>],
    max_bytes: usize,
) -> Option<Vec<Tensor>> {
    if !op.bodies.is_empty() || op.has_ref_attrs() || RANDOM.contains(&op.op_type.as_str()) {
        return None;
    }
    // Kernels that start from the least finite number, such as MaxPool's, lose what is below it.
    let finite = |t: &Tensor| t.to_f64().is_none_or(|v| v.iter().all(|x| x.is_finite()));
    if !operands.iter().flatten().filter(|t| t.dtype().is_float()).all(|t| finite(t)) {
        return None;
    }
    // Its reductions of nothing start from the least finite number, too.
    let nothing = operands.first().is_some_and(|x| x.is_some_and(Tensor::is_empty));
    if nothing && op.op_type.starts_with("Reduce") {
        return None;
    }
    let model = single(op, opset, operands)?;
    expected_bytes(&model, opset, max_bytes)?;
    let results = tract::eval(&model)?;
    let total: usize = results.iter().map(Tensor::byte_len).sum();
    (total <= max_bytes).then_some(results)
}

/// A model of just the op.
fn single(op: &Op, opset: i64, operands: &[Option<&Tensor>]) -> Option<Model> {
    let mut g = Graph::new("fold");
    let mut ids = Vec::with_capacity(operands.len());
    for (i, t) in operands.iter().enumerate() {
        ids.push(t.map(|t| g.add_const(&format!("x{i}"), t.clone())));
    }
    let results: Vec<_> = (0..op.result_count().max(1))
        .map(|i| Some(g.add_value(Value::new(format!("y{i}"), None))))
        .collect();
    let mut copy = op.clone();
    copy.captures.clear();
    g.add_op(copy, &ids, &results, None);
    g.set_outputs(results.into_iter().flatten().collect());
    let mut opsets = vec![(String::new(), opset)];
    if !op.domain.is_empty() {
        opsets.push((op.domain.clone(), 1));
    }
    Some(Model { ir_version: 10, opsets, graph: g, ..Model::default() })
}

/// Bytes of the results as far as inference knows them; `None` when they are too many, or unknown
/// where they may be many.
fn expected_bytes(model: &Model, opset: i64, max_bytes: usize) -> Option<usize> {
    let mut g = model.graph.clone();
    let id = g.ops().next()?;
    ops::schema(g.op(id)).map(|_| infer_op(&mut g, id, opset, &mut |_, _| {}));
    let mut total = 0usize;
    for v in g.outputs().to_vec() {
        let value = g.value(v);
        let count = value
            .shape()
            .and_then(|s| s.iter().map(Dim::size).collect::<Option<Vec<_>>>())
            .map(|s| element_count(&s).unwrap_or(usize::MAX));
        match count {
            Some(n) => {
                let bits = value.dtype().map_or(64, |d| d.bits());
                total = total.checked_add(n.checked_mul(bits)? / 8)?;
            }
            None if GROWING.contains(&g.op(id).op_type.as_str()) => return None,
            None => {}
        }
    }
    (total <= max_bytes).then_some(total)
}
