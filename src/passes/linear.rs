//! A view of ops that are linear in constant weights: Conv, ConvTranspose, Gemm and MatMul.

use super::pattern::{is_plain_float, is_private, sole_maker};
use super::weights::{float_tensor, scale_blocks};
use crate::ir::{Graph, Miss, Op, OpId, Patch, Ref, Tensor, ValueId};

/// A linear op whose weights, and bias if it has one, are constant and whose result has one reader.
pub(super) struct Linear<'a> {
    pub op: OpId,
    pub kind: Kind,
    weight: ValueId,
    data: &'a Tensor,
    bias: Option<(ValueId, &'a Tensor)>,
    group: usize,
    trans_b: bool,
    /// Number of output channels.
    pub channels: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Conv,
    ConvTranspose,
    Gemm,
    MatMul,
}

/// Conv and ConvTranspose.
pub(super) const CONVS: &[&str] = &["Conv", "ConvTranspose"];
/// Gemm and MatMul.
pub(super) const GEMMS: &[&str] = &["Gemm", "MatMul"];

impl<'a> Linear<'a> {
    /// The linear op among `types` that makes `value`.
    pub fn making(
        g: &'a Graph,
        value: ValueId,
        types: &[&str],
        opset: i64,
    ) -> Result<Linear<'a>, Miss> {
        let op = sole_maker(g, value, types)
            .ok_or("no linear op makes the operand, or another op or an output reads it too")?;
        Linear::of(g, op, opset)
    }

    /// The op as a linear one.
    pub fn of(g: &'a Graph, op: OpId, opset: i64) -> Result<Linear<'a>, Miss> {
        let kind = match g.op(op).op_type.as_str() {
            "Conv" => Kind::Conv,
            "ConvTranspose" => Kind::ConvTranspose,
            "Gemm" if opset >= 7 => Kind::Gemm,
            "MatMul" => Kind::MatMul,
            _ => return Err("the op is not linear in weights".into()),
        };
        let weight = g.operand(op, 1).ok_or("it has no weights")?;
        let data = g.const_tensor(weight).ok_or("its weights are no constant")?;
        if !is_plain_float(data.dtype()) || data.raw().is_none() {
            return Err("its weights are no plain floats".into());
        }
        let group = usize::try_from(g.op(op).int_or("group", 1)).ok().filter(|&n| n > 0);
        let group = group.ok_or("its group is not positive")?;
        let dims = data.dims();
        let trans_b = kind == Kind::Gemm && g.op(op).int_or("transB", 0) != 0;
        let channels = match kind {
            Kind::Conv if dims.len() >= 3 => dims[0],
            Kind::ConvTranspose if dims.len() >= 3 => dims[1] * group,
            Kind::Gemm if dims.len() == 2 && trans_b => dims[0],
            Kind::Gemm | Kind::MatMul if dims.len() == 2 => dims[1],
            _ => return Err("its weights do not have the right rank".into()),
        };
        let fits = match kind {
            Kind::Conv => dims[0] % group == 0,
            Kind::ConvTranspose => dims[0] % group == 0,
            _ => true,
        };
        if !fits || channels == 0 {
            return Err("its group does not divide its channels".into());
        }
        let bias = match g.operand(op, 2) {
            None => None,
            Some(v) => {
                let b = g.const_tensor(v).ok_or("its bias is no constant")?;
                let per_channel = b.len() == channels && b.dims().last() == Some(&channels);
                if !(per_channel || kind == Kind::Gemm && b.len() == 1) {
                    return Err("its bias is not one number per channel".into());
                }
                Some((v, b))
            }
        };
        Ok(Linear { op, kind, weight, data, bias, group, trans_b, channels })
    }

    /// The element that `c` holds for each output channel, when it broadcasts to the result and
    /// varies over no other axis.
    pub fn per_channel(&self, g: &Graph, c: &Tensor) -> Result<Vec<f64>, Miss> {
        let rank = match self.kind {
            Kind::Conv | Kind::ConvTranspose => Some(self.data.rank()),
            Kind::Gemm => Some(2),
            Kind::MatMul => g.operand(self.op, 0).and_then(|a| g.value(a).rank()),
        };
        let from_right = match self.kind {
            Kind::Conv | Kind::ConvTranspose => self.data.rank() - 2,
            _ => 0,
        };
        if c.rank() > rank.unwrap_or(1) {
            return Err("the constant may have more axes than the result".into());
        }
        let fits = |(i, &d): (usize, &usize)| d == 1 || (i == from_right && d == self.channels);
        if !c.dims().iter().rev().enumerate().all(fits) {
            return Err("the constant varies over more than the channels".into());
        }
        let values = c.to_f64().ok_or("the constant is not numeric")?;
        Ok(match values.len() {
            1 => vec![values[0]; self.channels],
            _ => values,
        })
    }

    /// The weights with each output channel multiplied by its factor.
    pub fn scaled(&self, by: &[f64]) -> Result<Tensor, Miss> {
        let dims = self.data.dims();
        let inner = |from: usize| dims[from..].iter().product::<usize>();
        let scaled = match self.kind {
            Kind::Conv => scale_blocks(self.data, inner(1), by),
            Kind::ConvTranspose => scale_blocks(self.data, inner(2), &self.per_group(by)),
            _ if self.trans_b => scale_blocks(self.data, dims[1], by),
            _ => scale_blocks(self.data, 1, by),
        };
        scaled.ok_or_else(|| "a weight would leave the range of its type".into())
    }

    /// What each block of weights is multiplied with when the channels of the second axis, those of
    /// one group after those of another, have these factors.
    fn per_group(&self, by: &[f64]) -> Vec<f64> {
        let (rows, columns) = (self.data.dims()[0] / self.group, self.data.dims()[1]);
        (0..self.data.dims()[0] * columns)
            .map(|i| by[i / columns / rows * columns + i % columns])
            .collect()
    }

    /// The element that `c` holds for each input channel, when it broadcasts to the first operand and
    /// varies over no other axis.
    pub fn per_input_channel(&self, g: &Graph, c: &Tensor) -> Result<Vec<f64>, Miss> {
        let dims = self.data.dims();
        let (channels, from_right) = match self.kind {
            Kind::Conv => (dims[1] * self.group, dims.len() - 2),
            Kind::MatMul => (dims[0], 0),
            Kind::Gemm if g.op(self.op).int_or("transA", 0) == 0 => {
                (dims[usize::from(self.trans_b)], 0)
            }
            _ => return Err("its input channels do not stand last".into()),
        };
        let rank = match self.kind {
            Kind::Conv => dims.len(),
            Kind::Gemm => 2,
            _ => g.operand(self.op, 0).and_then(|a| g.value(a).rank()).unwrap_or(1),
        };
        let fits = |(i, &d): (usize, &usize)| d == 1 || (i == from_right && d == channels);
        if c.rank() > rank || !c.dims().iter().rev().enumerate().all(fits) {
            return Err("the constant varies over more than the channels".into());
        }
        let values = c.to_f64().ok_or("the constant is not numeric")?;
        Ok(if values.len() == 1 { vec![values[0]; channels] } else { values })
    }

    /// Plans weights with each input channel multiplied by its factor.
    pub fn plan_input_scale(&self, g: &Graph, patch: &mut Patch, by: &[f64]) -> Result<(), Miss> {
        let dims = self.data.dims();
        let scaled = match self.kind {
            Kind::Conv => {
                let block = dims[2..].iter().product::<usize>();
                scale_blocks(self.data, block, &self.per_group(by))
            }
            _ if self.trans_b => scale_blocks(self.data, 1, by),
            _ => scale_blocks(self.data, dims[1], by),
        };
        let scaled = scaled.ok_or("a weight would leave the range of its type")?;
        let weight = self.replace_const(g, patch, self.weight, scaled);
        patch.set_operand(self.op, 1, Some(weight));
        Ok(())
    }

    /// What the op adds to each output channel.
    pub fn bias_values(&self, g: &Graph) -> Result<Vec<f64>, Miss> {
        let Some((_, b)) = self.bias else { return Ok(vec![0.0; self.channels]) };
        let beta = match self.kind {
            Kind::Gemm => f64::from(g.op(self.op).float_or("beta", 1.0)),
            _ => 1.0,
        };
        let values = b.to_f64().ok_or("its bias is not numeric")?;
        Ok((0..self.channels)
            .map(|i| beta * values[if values.len() == 1 { 0 } else { i }])
            .collect())
    }

    /// Plans `scale * op(x) + shift` per output channel, with `value` as the result of the op.
    pub fn plan_affine(
        &self,
        g: &Graph,
        patch: &mut Patch,
        scale: Option<&[f64]>,
        shift: Option<&[f64]>,
        value: ValueId,
    ) -> Result<(), Miss> {
        let weight = match scale {
            Some(scale) => self.replace_const(g, patch, self.weight, self.scaled(scale)?),
            None => Ref::Old(self.weight),
        };
        let has_bias = self.bias.is_some() || shift.is_some();
        let bias = match has_bias {
            false => None,
            true => Some(self.plan_bias(g, patch, scale, shift)?),
        };
        if self.kind == Kind::MatMul && bias.is_some() {
            self.plan_gemm(g, patch, weight, bias, value)?;
            return Ok(());
        }
        patch.set_operand(self.op, 1, Some(weight));
        if bias.is_some() {
            patch.set_operand(self.op, 2, bias);
            patch.remove_attr(self.op, "beta");
        }
        patch.set_result(self.op, 0, value);
        Ok(())
    }

    fn plan_bias(
        &self,
        g: &Graph,
        patch: &mut Patch,
        scale: Option<&[f64]>,
        shift: Option<&[f64]>,
    ) -> Result<Ref, Miss> {
        let mut values = self.bias_values(g)?;
        for (i, v) in values.iter_mut().enumerate() {
            *v = *v * scale.map_or(1.0, |s| s[i]) + shift.map_or(0.0, |s| s[i]);
        }
        let bias = float_tensor(self.data.dtype(), &[self.channels], &values)
            .ok_or("a bias would leave the range of its type")?;
        Ok(match self.bias {
            Some((v, _)) => self.replace_const(g, patch, v, bias),
            None => patch.constant(format!("{}_bias", g.value(self.weight).name()), bias),
        })
    }

    /// New data for a constant: in place when nothing else reads it, else as a new constant.
    fn replace_const(&self, g: &Graph, patch: &mut Patch, old: ValueId, data: Tensor) -> Ref {
        if is_private(g, old) {
            patch.frees(g, old);
            patch.set_data(old, data);
            Ref::Old(old)
        } else {
            patch.constant(g.value(old).name(), data)
        }
    }

    /// A MatMul of two matrices becomes a Gemm.
    fn plan_gemm(
        &self,
        g: &Graph,
        patch: &mut Patch,
        weight: Ref,
        bias: Option<Ref>,
        value: ValueId,
    ) -> Result<(), Miss> {
        let a = g.operand(self.op, 0).ok_or("an operand is missing")?;
        if g.value(a).rank() != Some(2) {
            return Err("the operand of the MatMul is not known to be a matrix".into());
        }
        let gemm = Op::new("Gemm").named(g.op(self.op).name.clone());
        patch.op_into(gemm, vec![Some(a.into()), Some(weight), bias], vec![Some(value.into())]);
        patch.remove(self.op);
        Ok(())
    }
}
