//! Tables of embeddings as INT8, one scale for each row, for ONNX Runtime on a CPU.
//!
//! A DequantizeLinear in front of Gather would be computed there for the whole table in every run. So
//! the rows are gathered as codes, and multiplied by their scales, which are gathered, too:
//! `Mul(Cast(Gather(codes, i)), Gather(scales, i))`, the same numbers.

use std::collections::BTreeMap;

use super::placement::WeightSite;
use super::weight::QuantizedWeight;
use crate::ir::{DType, Graph, Op, OpId, Tensor, Type, Value, ValueId};

/// Codes and scales of tables that are stored already.
pub(super) type Tables = BTreeMap<ValueId, (ValueId, ValueId)>;

/// Makes a Gather along axis 0 read codes.
pub(super) fn store(g: &mut Graph, site: &WeightSite, tables: &mut Tables) -> Option<()> {
    let (indices, y) = (g.operand(site.op, 1)?, g.result(site.op, 0)?);
    let (codes, scales) = match tables.get(&site.value) {
        Some(known) => *known,
        None => *tables.entry(site.value).or_insert(constants(g, site.value)?),
    };
    let name = g.value(y).name().to_owned();
    let add = |g: &mut Graph, what: &str, dtype| {
        g.add_value(Value::new(format!("{name}_{what}"), Some(Type::tensor(dtype, None))))
    };
    let gathered = add(g, "q", DType::I8);
    let cast = add(g, "codes", DType::F32);
    let scale = add(g, "s", DType::F32);
    g.set_operand(site.op, 0, Some(codes));
    g.set_result(site.op, 0, Some(gathered));
    let at = Some(site.op);
    let to = i64::from(DType::F32.code());
    g.add_op(Op::new("Cast").with("to", to), &[Some(gathered)], &[Some(cast)], at);
    let gather = Op::new("Gather").with("axis", 0i64);
    g.add_op(gather, &[Some(scales), Some(indices)], &[Some(scale)], at);
    g.add_op(Op::new("Mul"), &[Some(cast), Some(scale)], &[Some(y)], at);
    Some(())
}

fn constants(g: &mut Graph, table: ValueId) -> Option<(ValueId, ValueId)> {
    let tensor = g.const_tensor(table)?.clone();
    let QuantizedWeight { codes, scales } =
        QuantizedWeight::new(&tensor.as_f32()?, tensor.dims(), Some(0));
    let mut dims = vec![1; tensor.rank()];
    dims[0] = scales.len();
    let name = g.value(table).name().to_owned();
    let codes = g.add_const(&format!("{name}_q"), Tensor::of(tensor.dims(), &codes));
    Some((codes, g.add_const(&format!("{name}_s"), Tensor::of(&dims, &scales))))
}

/// The inverse, for the Mul: a Gather from a table in float.
pub(super) fn restore(g: &mut Graph, mul: OpId) -> Option<()> {
    let made_by = |v: Option<ValueId>, op: &str| {
        let v = v.filter(|v| g.sole_use(*v).is_some())?;
        g.producer_op(v).filter(|p| g.op(*p).is(op))
    };
    let cast = made_by(g.operand(mul, 0), "Cast")?;
    let rows = made_by(g.operand(cast, 0), "Gather")?;
    let scale = made_by(g.operand(mul, 1), "Gather")?;
    let same = g.operand(rows, 1) == g.operand(scale, 1);
    let first = [rows, scale].iter().all(|op| g.op(*op).int_or("axis", 0) == 0);
    let (codes, scales) = (g.const_operand(rows, 0)?, g.const_operand(scale, 0)?);
    let types = (codes.dtype(), scales.dtype()) == (DType::I8, DType::F32);
    let each = codes.len() / scales.len().max(1);
    let by_row = codes.rank() == scales.rank()
        && codes.rank() > 0
        && scales.dims()[0] == scales.len()
        && codes.dims()[0] == scales.len();
    (same && first && types && by_row && each > 0).then_some(())?;
    let (codes_of, scales_of) = (codes.to_vec::<i8>()?, scales.to_f32()?);
    let row = |(row, s): (&[i8], f32)| row.iter().map(|c| f32::from(*c) * s).collect::<Vec<_>>();
    let data: Vec<f32> = codes_of.chunks(each).zip(scales_of).flat_map(row).collect();
    let table = Tensor::of(codes.dims(), &data);
    let (stored, gathered) = (g.operand(rows, 0)?, g.result(rows, 0)?);
    let name = format!("{}_table", g.value(stored).name());
    let (y, table) = (g.result(mul, 0)?, g.add_const(&name, table));
    let old = [Some(stored), g.operand(scale, 0), Some(gathered)];
    g.set_operand(rows, 0, Some(table));
    g.set_result(rows, 0, Some(y));
    [mul, cast, scale].into_iter().for_each(|op| g.remove_op(op));
    g.remove_dead(old.into_iter().flatten().collect());
    Some(())
}
