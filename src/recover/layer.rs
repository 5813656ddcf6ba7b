//! Linear layers: where weight and bias are, and which elements of the input each result reads.

use super::linalg::{Mat, transpose};
use super::patches;
use crate::ir::{DType, Graph, OpId, Tensor, ValueId};
use crate::ops::Window;
use crate::passes::weights::float_tensor;

/// A `Conv`, `Gemm` or `MatMul` with a weight of its own.
#[derive(Clone, Debug)]
pub(crate) struct Layer {
    pub op: OpId,
    /// The activation.
    pub input: ValueId,
    pub weight: ValueId,
    /// Where the bias is, or goes: op and operand slot. `None` where there is no place.
    pub bias: Option<(OpId, usize)>,
    /// The result, bias included.
    pub output: ValueId,
    pub groups: usize,
    kind: Kind,
}

#[derive(Clone, Debug)]
enum Kind {
    /// Weight `[n, k]` when transposed, else `[k, n]`; channels are the last axis.
    Matrix { transposed: bool },
    /// Weight `[n, k / taps, …]`; channels are axis 1.
    Conv(Window),
}

impl Layer {
    /// The op as a layer, if it is one whose weight can be rewritten: a float constant that no other
    /// op reads.
    pub fn of(g: &Graph, op: OpId) -> Option<Layer> {
        Layer::shared(g, op).filter(|l| g.sole_use(l.weight).is_some())
    }

    /// As [`Layer::of`], other ops may read the weight.
    pub fn shared(g: &Graph, op: OpId) -> Option<Layer> {
        let node = g.op(op);
        if !node.domain.is_empty() {
            return None;
        }
        let (input, weight, result) = (g.operand(op, 0)?, g.operand(op, 1)?, g.result(op, 0)?);
        let tensor = g.const_tensor(weight).filter(|t| t.dtype().is_float() && !t.is_empty())?;
        if g.is_const(input) || tensor.rank() < 2 {
            return None;
        }
        let plain = |name: &str| node.float_or(name, 1.0) == 1.0;
        let mut layer = Layer {
            op,
            input,
            weight,
            bias: Some((op, 2)),
            output: result,
            groups: 1,
            kind: Kind::Matrix { transposed: false },
        };
        match node.op_type.as_str() {
            "Conv" => {
                layer.groups = usize::try_from(node.int_or("group", 1)).ok().filter(|g| *g > 0)?;
                layer.kind = Kind::Conv(patches::window(node, &tensor.dims()[2..])?);
                if !tensor.dims()[0].is_multiple_of(layer.groups) {
                    return None;
                }
            }
            "Gemm" if node.int_or("transA", 0) == 0 && plain("alpha") && plain("beta") => {
                layer.kind = Kind::Matrix { transposed: node.int_or("transB", 0) != 0 };
            }
            "MatMul" if tensor.rank() == 2 && g.value(input).rank()? >= 2 => {
                layer.bias = following_bias(g, result);
                if let Some((add, _)) = layer.bias {
                    layer.output = g.result(add, 0)?;
                }
            }
            _ => return None,
        }
        layer.bias_values(g, layer.out_channels(g)?)?;
        Some(layer)
    }

    fn dims<'g>(&self, g: &'g Graph) -> Option<&'g [usize]> {
        Some(g.const_tensor(self.weight)?.dims())
    }

    /// Channels of the result.
    pub fn out_channels(&self, g: &Graph) -> Option<usize> {
        let dims = self.dims(g)?;
        Some(match self.kind {
            Kind::Matrix { transposed: false } => dims[1],
            _ => dims[0],
        })
    }

    /// Elements of the input that one result reads.
    pub fn fan_in(&self, g: &Graph) -> Option<usize> {
        let dims = self.dims(g)?;
        Some(match self.kind {
            Kind::Matrix { transposed: false } => dims[0],
            _ => dims[1..].iter().product(),
        })
    }

    /// Elements of the kernel: how many weights in a row read the same channel.
    pub fn taps(&self, g: &Graph) -> Option<usize> {
        let dims = self.dims(g)?;
        Some(match self.kind {
            Kind::Conv(_) => dims[2..].iter().product::<usize>().max(1),
            Kind::Matrix { .. } => 1,
        })
    }

    /// Weights as rows, one for each channel of the result.
    pub fn weights(&self, g: &Graph) -> Option<Vec<f32>> {
        let tensor = g.const_tensor(self.weight)?;
        let data = tensor.to_f32()?;
        Some(match self.kind {
            Kind::Matrix { transposed: false } => transpose(&data, tensor.dims()[1]),
            _ => data,
        })
    }

    /// For each group of results the weights as a matrix: a row for each result and tap, a column for
    /// each channel of the input that the group reads.
    fn by_input(&self, g: &Graph) -> Option<(Vec<Vec<f32>>, usize)> {
        let (weights, k) = (self.weights(g)?, self.fan_in(g)?);
        let channels = match self.kind {
            Kind::Conv(_) => *self.dims(g)?.get(1)?,
            Kind::Matrix { .. } => k,
        };
        if channels == 0 || k == 0 {
            return None;
        }
        let each = weights.len() / self.groups;
        let rows =
            |group: &[f32]| group.chunks(k).flat_map(|r| transpose(r, k / channels)).collect();
        Some((weights.chunks(each).map(rows).collect(), channels))
    }

    /// For each channel of the input the sum of the squares of the weights that read it.
    pub fn squares_by_input(&self, g: &Graph) -> Option<Vec<f64>> {
        let (groups, n) = self.by_input(g)?;
        let squares = |rows: &Vec<f32>| {
            let mut out = vec![0.0; n];
            rows.chunks(n).for_each(|r| {
                out.iter_mut().zip(r).for_each(|(o, w)| *o += f64::from(*w).powi(2));
            });
            out
        };
        Some(groups.iter().flat_map(squares).collect())
    }

    /// For each two channels of the input the sum of the products of the weights that read them.
    pub fn products_by_input(&self, g: &Graph) -> Option<Vec<f64>> {
        let (groups, n) = self.by_input(g)?;
        let all = n * groups.len();
        let mut out = vec![0.0; all * all];
        for (b, rows) in groups.iter().enumerate() {
            let rows = Mat::new(rows, n);
            for (i, row) in rows.transposed_times(rows).chunks(n).enumerate() {
                let at = (b * n + i) * all + b * n;
                out[at..at + n].copy_from_slice(row);
            }
        }
        Some(out)
    }

    /// The bias, zeros where there is none yet; `None` when it is no constant of `n` elements.
    pub fn bias_values(&self, g: &Graph, n: usize) -> Option<Vec<f32>> {
        match self.bias.map(|(op, slot)| g.operand(op, slot)) {
            None | Some(None) => Some(vec![0.0; n]),
            Some(Some(v)) => {
                let t = g.const_tensor(v)?;
                let fits = t.len() == n && t.dims().last() == Some(&n);
                t.to_f32().filter(|_| fits)
            }
        }
    }

    /// Writes weights (rows as [`Layer::weights`] has them) and bias. False, and nothing changes,
    /// when a number is not finite in the type of the tensor.
    pub fn write(&self, g: &mut Graph, weights: &[f32], bias: &[f32]) -> bool {
        let Some(old) = g.const_tensor(self.weight) else { return false };
        let wide = |v: &[f32]| v.iter().map(|x| f64::from(*x)).collect::<Vec<_>>();
        let data = match self.kind {
            Kind::Matrix { transposed: false } => wide(&transpose(weights, old.dims()[0])),
            _ => wide(weights),
        };
        let (dtype, dims) = (old.dtype(), old.dims().to_vec());
        let Some(new) = float_tensor(dtype, &dims, &data) else { return false };
        if self.bias.is_some() && !self.write_bias(g, dtype, &wide(bias)) {
            return false;
        }
        g.set_data(self.weight, new);
        true
    }

    fn write_bias(&self, g: &mut Graph, dtype: DType, bias: &[f64]) -> bool {
        let Some((op, slot)) = self.bias else { return true };
        let old = g.operand(op, slot);
        let dims =
            old.and_then(|v| g.const_tensor(v)).map_or(vec![bias.len()], |t| t.dims().to_vec());
        let Some(new) = float_tensor(dtype, &dims, bias) else { return false };
        match old {
            Some(v) if g.sole_use(v).is_some() => g.set_data(v, new),
            _ if old.is_none() && bias.iter().all(|b| *b == 0.0) => {}
            _ => {
                let name = g.value(old.unwrap_or(self.weight)).name().to_owned();
                let name = if old.is_some() { name } else { format!("{name}_bias") };
                let copy = g.add_const(&name, new);
                g.set_operand(op, slot, Some(copy));
            }
        }
        true
    }

    /// Axis of the channels of a result or input with `rank` axes.
    pub fn channel_axis(&self, rank: usize) -> usize {
        match self.kind {
            Kind::Conv(_) => 1,
            Kind::Matrix { .. } => rank.saturating_sub(1),
        }
    }

    /// Number of places in a result where the layer puts all its channels.
    pub fn places(&self, dims: &[usize]) -> usize {
        let axis = self.channel_axis(dims.len());
        dims.iter().enumerate().filter(|(a, _)| *a != axis).map(|(_, d)| d).product()
    }

    /// Appends the channels at these places of a result, those in `keep` only.
    pub fn channels_at(
        &self,
        t: &Tensor,
        places: &[usize],
        keep: Option<&[u32]>,
        out: &mut Vec<f32>,
    ) -> Option<()> {
        let (data, axis) = (t.to_f32()?, self.channel_axis(t.rank()));
        let channels = *t.dims().get(axis)?;
        let inner: usize = t.dims()[axis + 1..].iter().product();
        for &p in places {
            let at = p / inner * inner * channels + p % inner;
            let one = |c: usize| data.get(at + c * inner).copied();
            match keep {
                Some(keep) => {
                    for &c in keep {
                        out.push(one(c as usize)?);
                    }
                }
                None => {
                    for c in 0..channels {
                        out.push(one(c)?);
                    }
                }
            }
        }
        Some(())
    }

    /// Appends what the layer reads of input `x` for these places of a result of dims `result`:
    /// for each place all groups, and in each group as many elements as a row of the weights has.
    pub fn inputs_at(
        &self,
        x: &Tensor,
        result: &[usize],
        places: &[usize],
        out: &mut Vec<f32>,
    ) -> Option<()> {
        match &self.kind {
            Kind::Matrix { .. } => self.channels_at(x, places, None, out),
            Kind::Conv(window) => patches::append(window, x, result, places, out),
        }
    }
}

/// The constant vector that an `Add` alone adds to a value: op and slot.
fn following_bias(g: &Graph, result: ValueId) -> Option<(OpId, usize)> {
    let (add, slot) = g.sole_use(result)?;
    let bias = 1usize.checked_sub(slot)?;
    let n = g.value(result).shape()?.last()?.size()?;
    let fits =
        g.const_operand(add, bias).is_some_and(|t| t.len() == n && t.dims().last() == Some(&n));
    (g.op(add).is("Add") && fits).then_some((add, bias))
}
