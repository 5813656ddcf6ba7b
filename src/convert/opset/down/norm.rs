//! Normalizations.

use super::super::step::{Step, Why};
use crate::ir::{DType, Op, Tensor, ValueId};
use crate::ops::normalize_axis;

/// The axes from attribute `axis` on.
fn axes(s: &Step) -> Result<Vec<i64>, Why> {
    s.own_attr("axis")?;
    let axis = s.node().int_or("axis", -1);
    match s.rank(0) {
        Some(rank) => {
            let axis = normalize_axis(axis, rank).ok_or("its axis is out of range")?;
            Ok((axis as i64..rank as i64).collect())
        }
        None if axis < 0 => Ok((axis..0).collect()),
        None => Err("the rank of its input is not known".into()),
    }
}

/// A mean over axes that keeps them.
fn mean(s: &mut Step, x: ValueId, axes: &[i64], what: &str) -> ValueId {
    let op = Op::new("ReduceMean").with("keepdims", 1i64);
    if s.at >= 18 {
        let axes = s.constant("axes", Tensor::vector(axes));
        return s.add(op, &[x, axes], what);
    }
    s.add(op.with("axes", axes.to_vec()), &[x], what)
}

/// The input in the type that statistics are computed in, and that type.
fn staged(s: &mut Step) -> Result<(ValueId, DType, DType), Why> {
    s.own_attr("stash_type")?;
    let x = s.operand(0)?;
    let dtype = s.dtype(0).ok_or("the element type of its input is not known")?;
    let wide = s.node().int_or("stash_type", 1) == 1 && matches!(dtype, DType::F16 | DType::BF16);
    match wide {
        false => Ok((x, dtype, dtype)),
        true => {
            let to = i64::from(DType::F32.code());
            Ok((s.add(Op::new("Cast").with("to", to), &[x], "wide"), dtype, DType::F32))
        }
    }
}

fn scalar(s: &mut Step, dtype: DType, what: &str, value: f32) -> Result<ValueId, Why> {
    let tensor = Tensor::from_f32(dtype, &[], &[value]).ok_or("its type is no float")?;
    Ok(s.constant(what, tensor))
}

/// What normalizations over axes share.
struct Norm {
    axes: Vec<i64>,
    /// The input in the type of the statistics.
    x: ValueId,
    dtype: DType,
    wide: DType,
    scale: ValueId,
    epsilon: ValueId,
}

impl Norm {
    fn of(s: &mut Step) -> Result<Norm, Why> {
        s.own_attr("epsilon")?;
        let axes = axes(s)?;
        let (x, dtype, wide) = staged(s)?;
        let scale = s.operand(1)?;
        let epsilon = s.node().float_or("epsilon", 1e-5);
        let epsilon = scalar(s, wide, "epsilon", epsilon)?;
        Ok(Norm { axes, x, dtype, wide, scale, epsilon })
    }

    /// `x / √(mean(x²) + ε)` in the type of the op, and the root; `what` names the mean.
    fn normal(&self, s: &mut Step, x: ValueId, what: &str, root: &str) -> (ValueId, ValueId) {
        let square = s.add(Op::new("Mul"), &[x, x], "square");
        let mean = mean(s, square, &self.axes, what);
        let sum = s.add(Op::new("Add"), &[mean, self.epsilon], &format!("{what}_epsilon"));
        let root = s.add(Op::new("Sqrt"), &[sum], root);
        let normal = s.add(Op::new("Div"), &[x, root], "normal");
        if self.wide == self.dtype {
            return (normal, root);
        }
        let cast = Op::new("Cast").with("to", i64::from(self.dtype.code()));
        (s.add(cast, &[normal], "narrow"), root)
    }
}

/// `x / √(mean(x²) + ε) · scale`.
pub(super) fn rms(s: &mut Step) -> Result<(), Why> {
    let norm = Norm::of(s)?;
    let (normal, _) = norm.normal(s, norm.x, "mean", "root");
    s.finish(Op::new("Mul"), &[normal, norm.scale])
}

/// `(x − mean) / √(variance + ε) · scale + bias`, its mean and inverse deviation where they are read.
pub(super) fn layer(s: &mut Step) -> Result<(), Why> {
    let norm = Norm::of(s)?;
    let scale = norm.scale;
    let mean_of_x = mean(s, norm.x, &norm.axes, "mean");
    let centred = s.add(Op::new("Sub"), &[norm.x, mean_of_x], "centred");
    let (normal, deviation) = norm.normal(s, centred, "variance", "deviation");
    if s.is_read(1) {
        let result = s.g.result(s.op, 1).ok_or("it has no mean")?;
        s.add_into(Op::new("Identity"), &[mean_of_x], result);
    }
    if s.is_read(2) {
        let result = s.g.result(s.op, 2).ok_or("it has no deviation")?;
        s.add_into(Op::new("Reciprocal"), &[deviation], result);
    }
    match s.g.operand(s.op, 2) {
        None => s.finish(Op::new("Mul"), &[normal, scale]),
        Some(bias) => {
            let scaled = s.add(Op::new("Mul"), &[normal, scale], "scaled");
            s.finish(Op::new("Add"), &[scaled, bias])
        }
    }
}

/// Each group is a channel of `InstanceNormalization`; scale and bias of single channels come after
/// it. (Version 18, with one scale for each group, ended with version 21.)
pub(super) fn group(s: &mut Step) -> Result<(), Why> {
    s.own_attr("num_groups")?;
    s.own_attr("epsilon")?;
    let groups = s.node().int("num_groups").filter(|g| *g > 0).ok_or("it has no num_groups")?;
    let rank = s.rank(0).filter(|r| *r >= 2).ok_or("the rank of its input is not known")?;
    let dtype = s.dtype(0).ok_or("the element type of its input is not known")?;
    let epsilon = s.node().float_or("epsilon", 1e-5);
    let (x, scale, bias) = (s.operand(0)?, s.operand(1)?, s.operand(2)?);
    let count = usize::try_from(groups).map_err(|_| "it has too many groups")?;
    let mut filled = |what: &str, value: f32| -> Result<ValueId, Why> {
        let data = Tensor::from_f32(dtype, &[count], &vec![value; count]);
        Ok(s.constant(what, data.ok_or("its type is no float")?))
    };
    let (ones, zeros) = (filled("ones", 1.0)?, filled("zeros", 0.0)?);
    let mut column = vec![1i64; rank - 1];
    column[0] = -1;
    let column = s.constant("column", Tensor::vector(&column));
    let by_group = s.constant("groups", Tensor::vector(&[0, groups, -1]));
    let grouped = s.add(Op::new("Reshape"), &[x, by_group], "grouped");
    let shape = s.add(Op::new("Shape"), &[x], "shape");
    let normal = Op::new("InstanceNormalization").with("epsilon", epsilon);
    let normal = s.add(normal, &[grouped, ones, zeros], "normal");
    let normal = s.add(Op::new("Reshape"), &[normal, shape], "ungrouped");
    let scale = s.add(Op::new("Reshape"), &[scale, column], "scale");
    let bias = s.add(Op::new("Reshape"), &[bias, column], "bias");
    let scaled = s.add(Op::new("Mul"), &[normal, scale], "scaled");
    s.finish(Op::new("Add"), &[scaled, bias])
}
