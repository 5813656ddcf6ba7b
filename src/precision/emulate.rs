//! A float32 model that rounds as one of 16-bit floats does, for engines that lack those.
//!
//! Every result is computed in float32 and rounded to the type that the model says: to float16 by
//! casts, to bfloat16 by Veltkamp's splitting (T. J. Dekker, "A floating-point technique for extending
//! the available precision", 1971): with `c = 65537 x`, `c - (c - x)` is `x` rounded to 8 bits.

use crate::ir::{AttrValue, DType, Graph, Model, Op, OpId, Tensor, Type, Value, ValueId};
use crate::ops::{self, Quant};
use crate::pass::visit_graphs;

/// The model in float32, inputs and outputs included; `None` when it has functions.
pub fn emulate(m: &Model) -> Option<Model> {
    if !m.functions.is_empty() {
        return None;
    }
    let mut m = m.clone();
    crate::pass::infer_model(&mut m, &mut |_, _| {});
    visit_graphs(&mut m.graph, &mut |g| widen(g));
    crate::pass::infer_model(&mut m, &mut |_, _| {});
    Some(m)
}

fn is_half(g: &Graph, v: ValueId) -> bool {
    g.value(v).dtype().is_some_and(is_half_type)
}

fn is_half_type(d: DType) -> bool {
    [DType::F16, DType::BF16].contains(&d)
}

fn widen(g: &mut Graph) {
    let mut values: Vec<ValueId> = g.values().filter(|v| is_half(g, *v)).collect();
    values.sort_unstable();
    for v in values {
        let dtype = g.value(v).dtype();
        if let Some(t) = g.const_tensor(v).filter(|_| !g.is_capture(v)) {
            let wide = t.to_f32().map(|data| Tensor::of(t.dims(), &data));
            if let Some(wide) = wide {
                g.set_data(v, wide);
            }
            continue;
        }
        let facts = g.facts_mut(v);
        for ty in [&mut facts.ty, &mut facts.file_ty] {
            if let Some(t) = ty.as_mut().and_then(Type::as_tensor_mut) {
                t.dtype = Some(DType::F32);
            }
        }
        if let (Some(dtype), Some(op)) = (dtype, g.producer_op(v)) {
            attributes(g, op);
            let moves = ops::schema(g.op(op)).is_some_and(|s| s.quant == Quant::PassThrough);
            if !moves && g.op(op).bodies.is_empty() {
                round(g, v, dtype, op);
            }
        }
    }
}

fn attributes(g: &mut Graph, op: OpId) {
    let wide = i64::from(DType::F32.code());
    for name in ["to", "dtype", "output_dtype"] {
        let code = g.op(op).int(name).and_then(|c| i32::try_from(c).ok());
        if code.and_then(DType::from_code).is_some_and(is_half_type) {
            g.edit_op(op).set_attr(name, wide);
        }
    }
    let value = g.op(op).tensor("value").filter(|t| is_half_type(t.dtype()));
    if let Some((dims, data)) = value.and_then(|t| Some((t.dims().to_vec(), t.to_f32()?))) {
        g.edit_op(op).set_attr("value", AttrValue::Tensor(Tensor::of(&dims, &data)));
    }
}

/// Puts rounding between `v` and its readers.
fn round(g: &mut Graph, v: ValueId, dtype: DType, op: OpId) {
    let name = g.value(v).name().to_owned();
    let slot = g.producer(v).map_or(0, |p| p.1);
    let shape = g.value(v).shape().cloned();
    let like = |g: &mut Graph, what: &str, dtype: DType| {
        let ty = Type::tensor(dtype, shape.clone());
        g.add_value(Value::new(format!("{name}_{what}"), Some(ty)))
    };
    let exact = like(g, "exact", DType::F32);
    g.set_result(op, slot, Some(exact));
    let to = |d: DType| Op::new("Cast").with("to", i64::from(d.code()));
    if dtype == DType::F16 {
        let half = like(g, "half", DType::F16);
        g.add_op(to(DType::F16), &[Some(exact)], &[Some(half)], Some(op));
        g.add_op(to(DType::F32), &[Some(half)], &[Some(v)], Some(op));
        return;
    }
    let factor = g.add_const(&format!("{name}_factor"), Tensor::scalar(65537.0f32));
    let (c, low) = (like(g, "scaled", DType::F32), like(g, "low", DType::F32));
    g.add_op(Op::new("Mul"), &[Some(exact), Some(factor)], &[Some(c)], Some(op));
    g.add_op(Op::new("Sub"), &[Some(c), Some(exact)], &[Some(low)], Some(op));
    g.add_op(Op::new("Sub"), &[Some(c), Some(low)], &[Some(v)], Some(op));
}
