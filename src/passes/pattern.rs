//! What rewrites ask about the neighbourhood of an op.

use crate::ir::{DType, Dim, Graph, Miss, Op, OpId, Patch, Ref, Tensor, Value, ValueId};
use crate::pass::Site;

/// The op of this type of the default domain that makes the value as its first result, when all of
/// its attributes are known.
pub(super) fn maker(g: &Graph, value: ValueId, op_type: &str) -> Option<OpId> {
    maker_of(g, value, &[op_type])
}

/// The same for several types.
pub(super) fn maker_of(g: &Graph, value: ValueId, op_types: &[&str]) -> Option<OpId> {
    let (op, slot) = g.producer(value)?;
    let node = g.op(op);
    let fits = slot == 0 && node.domain.is_empty() && op_types.contains(&node.op_type.as_str());
    (fits && !node.has_ref_attrs()).then_some(op)
}

/// As [`maker_of`], when exactly one operand slot reads the value and no graph output is it.
pub(super) fn sole_maker(g: &Graph, value: ValueId, op_types: &[&str]) -> Option<OpId> {
    g.sole_use(value)?;
    maker_of(g, value, op_types)
}

/// Operand `i`, which the operator requires.
pub(super) fn operand(g: &Graph, op: OpId, i: usize) -> Result<ValueId, Miss> {
    g.operand(op, i).ok_or_else(|| "an operand is missing".into())
}

/// The first result.
pub(super) fn result(g: &Graph, op: OpId) -> Result<ValueId, Miss> {
    g.result(op, 0).ok_or_else(|| "the result is missing".into())
}

/// A binary op with one constant operand.
pub(super) struct WithConst<'a> {
    /// The operand that is no constant.
    pub other: ValueId,
    /// The slot that it stands in.
    pub slot: usize,
    /// Data of the constant operand.
    pub data: &'a Tensor,
}

/// Takes a binary op with exactly one constant operand apart.
pub(super) fn with_const(g: &Graph, op: OpId) -> Result<WithConst<'_>, Miss> {
    let (a, b) = (operand(g, op, 0)?, operand(g, op, 1)?);
    if g.op(op).arity() != 2 {
        return Err("it has more than two operands".into());
    }
    match (g.const_tensor(a), g.const_tensor(b)) {
        (None, Some(data)) => Ok(WithConst { other: a, slot: 0, data }),
        (Some(data), None) => Ok(WithConst { other: b, slot: 1, data }),
        (None, None) => Err("no operand is constant".into()),
        (Some(_), Some(_)) => Err("both operands are constant".into()),
    }
}

/// Integers that an attribute holds, or, in later operator sets, a constant operand. `Ok(None)`
/// when both are missing.
pub(super) fn ints_at(
    g: &Graph,
    op: OpId,
    attr: &str,
    slot: usize,
) -> Result<Option<Vec<i64>>, Miss> {
    if let Some(ints) = g.op(op).ints(attr) {
        return Ok(Some(ints.to_vec()));
    }
    match g.operand(op, slot) {
        None => Ok(None),
        Some(v) => match known_ints(g, v) {
            Some(ints) => Ok(Some(ints)),
            None => Err(format!("its {attr} are not known").into()),
        },
    }
}

/// The bounds of a Slice are operands in this operator set.
pub(super) fn bounds_are_operands(site: &Site) -> Result<(), Miss> {
    match site.opset {
        10.. => Ok(()),
        _ => Err("before opset 10 the bounds are attributes".into()),
    }
}

/// The integers of a small tensor, when all of them are known.
pub(super) fn known_ints(g: &Graph, value: ValueId) -> Option<Vec<i64>> {
    if let Some(t) = g.const_tensor(value) {
        return if t.dtype().is_int() { t.to_i64() } else { None };
    }
    g.value(value).sym.as_ref()?.iter().map(Dim::known).collect()
}

/// The axes as they count from the front, sorted; `None` when one is out of range or repeated.
pub(super) fn sorted_axes(axes: &[i64], rank: usize) -> Option<Vec<usize>> {
    let axes = axes.iter().map(|&a| crate::ops::normalize_axis(a, rank));
    let mut axes = axes.collect::<Option<Vec<usize>>>()?;
    axes.sort_unstable();
    let count = axes.len();
    axes.dedup();
    (axes.len() == count).then_some(axes)
}

/// Both have the same shape, whatever the symbols are.
pub(super) fn same_shape(a: &Value, b: &Value) -> bool {
    match (a.shape(), b.shape()) {
        (Some(a), Some(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.same(b)),
        _ => false,
    }
}

/// The result of `at` has the rank of `x`: no constant on the way adds axes by broadcasting.
pub(super) fn keeps_rank(g: &Graph, x: ValueId, at: OpId) -> Result<(), Miss> {
    let rank = g.value(x).rank();
    match rank.is_some() && rank == g.value(result(g, at)?).rank() {
        true => Ok(()),
        false => Err("broadcasting may add axes".into()),
    }
}

/// Plans that the only result of `at` is known: a constant, or, for a graph output, a Constant op.
pub(super) fn known_result(
    g: &Graph,
    at: OpId,
    tensor: Tensor,
    patch: &mut Patch,
) -> Result<(), Miss> {
    let v = result(g, at)?;
    if g.is_output(v) {
        let constant = Op::new("Constant").with("value", tensor);
        patch.op_into(constant, vec![], vec![Some(v.into())]);
    } else {
        patch.set_data(v, tensor);
    }
    patch.remove(at);
    Ok(())
}

/// An Unsqueeze of `x`, as the operator set writes it.
pub(super) fn unsqueeze(
    patch: &mut Patch,
    x: impl Into<Ref>,
    axes: &[i64],
    opset: i64,
    name: &str,
) -> Ref {
    if opset < 13 {
        return patch.op(Op::new("Unsqueeze").with("axes", axes.to_vec()), &[x.into()], name);
    }
    let axes = patch.constant(format!("{name}_axes"), Tensor::vector(axes));
    patch.op(Op::new("Unsqueeze"), &[x.into(), axes], name)
}

/// Combining `x` with something of these dims by broadcasting gives a result of the shape of `x`.
pub(super) fn broadcasts_into(dims: &[usize], x: &Value) -> bool {
    let Some(shape) = x.shape() else { return dims.is_empty() };
    dims.len() <= shape.len()
        && dims.iter().rev().zip(shape.iter().rev()).all(|(&d, s)| d == 1 || s.size() == Some(d))
}

/// The value may get new data in place: one slot reads it and it belongs to this graph.
pub(super) fn is_private(g: &Graph, value: ValueId) -> bool {
    g.is_const(value) && !g.is_capture(value) && g.sole_use(value).is_some()
}

/// The only element of a one-element float or integer constant of this element type.
pub(super) fn scalar(g: &Graph, value: ValueId) -> Option<f64> {
    g.const_tensor(value)?.single()
}

/// Float types that passes compute with.
pub(super) fn is_plain_float(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F64 | DType::F16 | DType::BF16)
}

/// Tells the patch that constants which only `op` reads go with it.
pub(super) fn free_operands(g: &Graph, op: OpId, patch: &mut Patch) {
    for v in g.operands(op).into_iter().flatten() {
        if is_private(g, v) {
            patch.frees(g, v);
        }
    }
}

/// Works on each element of its first operand alone; further operands are single constants of at
/// most `rank` axes.
pub(super) fn is_unary(g: &Graph, op: OpId, rank: usize) -> bool {
    let node = g.op(op);
    let schema = crate::ops::schema(node).filter(|s| s.deterministic);
    let elementwise = schema.is_some_and(|s| matches!(s.axes, crate::ops::Axes::Elementwise));
    let single = |v: ValueId| g.const_tensor(v).is_some_and(|t| t.len() == 1 && t.rank() <= rank);
    elementwise
        && g.operands(op).into_iter().skip(1).flatten().all(single)
        && node.result_count() == 1
        && node.bodies.is_empty()
        && node.attr("axis").is_none()
        && !node.has_ref_attrs()
}
