//! Writes the plan into a graph: constants, types, attributes, casts.

use super::decide::{Plan, is_f32, makes_half, reads_any_type, reads_half};
use super::{Cx, PrecisionReport, constants};
use crate::ir::{AttrValue, DType, Graph, Op, OpId, Slot, Tensor, Type, Value, ValueId};

/// Rewrites one graph. Inputs and outputs keep float32, but for those of the main graph where the
/// options ask for 16 bits; bodies always keep theirs.
pub(super) fn rewrite(
    g: &mut Graph,
    cx: &Cx,
    plan: &Plan,
    is_main: bool,
    report: &mut PrecisionReport,
) {
    for &op in &plan.half {
        attributes(g, op, cx.half);
    }
    let mut values: Vec<ValueId> = g.values().filter(|v| is_f32(g, *v)).collect();
    values.sort_unstable();
    let io_types = is_main && cx.options.io_types;
    for v in values {
        let readers = readers(g, cx, plan, v);
        if g.is_const(v) {
            constant(g, cx, v, &readers, report);
        } else {
            activation(g, cx, plan, v, &readers, io_types, report);
        }
    }
}

/// Attributes that name or hold float32.
fn attributes(g: &mut Graph, op: OpId, half: DType) {
    if g.op(op).is("Cast") && g.op(op).int("to") == Some(i64::from(DType::F32.code())) {
        g.edit_op(op).set_attr("to", i64::from(half.code()));
    }
    if g.op(op).is("ConstantOfShape") {
        let fill = g.op(op).tensor("value").and_then(Tensor::to_f32).unwrap_or(vec![0.0]);
        if let Some(t) = Tensor::from_f32(half, &[fill.len()], &fill) {
            g.edit_op(op).set_attr("value", AttrValue::Tensor(t));
        }
    }
    if g.op(op).is("DequantizeLinear")
        && g.op(op).int("output_dtype") == Some(i64::from(DType::F32.code()))
    {
        g.edit_op(op).set_attr("output_dtype", i64::from(half.code()));
    }
}

/// Who reads a value, by the type they want.
#[derive(Default)]
struct Readers {
    half: Vec<(OpId, usize)>,
    float: Vec<(OpId, usize)>,
    captured: bool,
}

fn readers(g: &Graph, cx: &Cx, plan: &Plan, v: ValueId) -> Readers {
    let mut readers = Readers::default();
    for (op, slot) in g.uses(v) {
        match slot {
            Slot::Operand(_) if reads_any_type(g, op) => {}
            Slot::Operand(i) => {
                let i = i as usize;
                let half = plan.half.contains(&op) && reads_half(g, op, i, cx);
                (if half { &mut readers.half } else { &mut readers.float }).push((op, i));
            }
            _ => readers.captured = true,
        }
    }
    readers
}

/// A constant in 16 bits for those who want it; the same value where all do.
fn constant(g: &mut Graph, cx: &Cx, v: ValueId, readers: &Readers, report: &mut PrecisionReport) {
    if readers.half.is_empty() {
        return;
    }
    let Some(t) = g.const_tensor(v) else { return };
    let (dims, Some(data)) = (t.dims().to_vec(), t.to_f32()) else { return };
    let Some(small) = Tensor::from_f32(cx.half, &dims, &data) else { return };
    report.constants += 1;
    report.vanished += constants::loss(&data, cx.half).vanishes;
    let alone = readers.float.is_empty() && !readers.captured;
    if alone && !g.is_capture(v) && !g.is_output(v) {
        g.set_data(v, small);
        return;
    }
    let name = format!("{}_{}", g.value(v).name(), cx.half);
    let made = g.add_const(&name, small);
    for &(op, slot) in &readers.half {
        g.set_operand(op, slot, Some(made));
    }
    g.remove_dead(vec![v]);
}

fn activation(
    g: &mut Graph,
    cx: &Cx,
    plan: &Plan,
    v: ValueId,
    readers: &Readers,
    io_types: bool,
    report: &mut PrecisionReport,
) {
    let made = g.producer(v);
    let boundary = g.is_input(v) || g.is_output(v);
    let home_half = match made {
        Some((op, slot)) => plan.half.contains(&op) && makes_half(g, op, slot, cx),
        None => g.is_input(v) && io_types && g.initializer(v).is_none(),
    };
    let wants_float = !readers.float.is_empty() || readers.captured;
    // The type that the value keeps under its name.
    let half =
        if boundary { io_types && g.initializer(v).is_none() } else { home_half && !wants_float };
    let other_wanted = if half { wants_float } else { !readers.half.is_empty() };
    if half == home_half && !other_wanted {
        if half {
            retype(g, v, cx.half, boundary);
        }
        return;
    }
    let (own, other) = if half { (cx.half, DType::F32) } else { (DType::F32, cx.half) };
    let twin = twin(g, v, other);
    if half == home_half {
        cast(g, v, twin, other, made.map(|m| m.0));
    } else {
        let (op, slot) = made.expect("invariant: an input is at home in the type that it keeps");
        g.set_result(op, slot, Some(twin));
        cast(g, twin, v, own, Some(op));
    }
    report.casts += 1;
    if half {
        if readers.captured {
            g.replace_uses(v, twin);
            for &(op, slot) in &readers.half {
                g.set_operand(op, slot, Some(v));
            }
            if half == home_half {
                reread(g, v, twin);
            }
        } else {
            for &(op, slot) in &readers.float {
                g.set_operand(op, slot, Some(twin));
            }
        }
        retype(g, v, cx.half, boundary);
    } else {
        for &(op, slot) in &readers.half {
            g.set_operand(op, slot, Some(twin));
        }
    }
}

/// After all uses moved to the twin: the cast that makes it reads the value again.
fn reread(g: &mut Graph, v: ValueId, twin: ValueId) {
    if let Some(cast) = g.producer_op(twin) {
        g.set_operand(cast, 0, Some(v));
    }
}

/// A value like `v` of another type.
fn twin(g: &mut Graph, v: ValueId, dtype: DType) -> ValueId {
    let ty = Type::tensor(dtype, g.value(v).shape().cloned());
    let name = format!("{}_{dtype}", g.value(v).name());
    g.add_value(Value::new(name, Some(ty)))
}

fn cast(g: &mut Graph, from: ValueId, to: ValueId, dtype: DType, producer: Option<OpId>) {
    let anchor = producer.or_else(|| g.uses(from).first().map(|u| u.0));
    let name = format!("{}_cast", g.value(to).name());
    let op = Op::new("Cast").named(name).with("to", i64::from(dtype.code()));
    g.add_op(op, &[Some(from)], &[Some(to)], anchor);
}

fn retype(g: &mut Graph, v: ValueId, dtype: DType, boundary: bool) {
    let facts = g.facts_mut(v);
    for ty in [&mut facts.ty, &mut facts.file_ty] {
        if let Some(t) = ty.as_mut().and_then(Type::as_tensor_mut) {
            t.dtype = Some(dtype);
        }
    }
    if !boundary {
        facts.declared = None;
    }
}
