//! A weight matrix in blocks, and how it is written.

use rayon::prelude::*;

use super::WeightType;
use crate::ir::{DType, Graph, Op, OpId, Tensor, Type, Value, ValueId};
use crate::quantize::weight::MIN_SCALE;

/// A weight as rows that are summed over: one row for each output.
pub(super) struct Matrix {
    /// Row-major elements.
    pub data: Vec<f32>,
    /// Elements of a row.
    pub columns: usize,
}

impl Matrix {
    /// The matrix of a tensor of rank 2 that is summed over `axis`.
    pub(super) fn of(t: &Tensor, axis: usize) -> Option<Matrix> {
        let data = t.to_f32()?;
        let [rows, columns] = t.dims() else { return None };
        let (rows, columns) = (*rows, *columns);
        if axis == 1 {
            return Some(Matrix { data, columns });
        }
        let flipped = (0..columns).flat_map(|c| (0..rows).map(move |r| (r, c)));
        Some(Matrix { data: flipped.map(|(r, c)| data[r * columns + c]).collect(), columns: rows })
    }
}

/// Quantized rows.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Blocks {
    /// One for each element.
    pub codes: Vec<i8>,
    /// One for each block of each row.
    pub scales: Vec<f32>,
    /// For unsigned types, one for each block of each row.
    pub zeros: Vec<u8>,
    /// Elements of a row.
    pub columns: usize,
}

/// Scale, and zero point of unsigned types, of one block.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Grid {
    pub scale: f32,
    pub zero: f32,
    low: f32,
    high: f32,
}

impl Grid {
    /// The grid over the block's range times `share`.
    pub(super) fn over(block: &[f32], ty: WeightType, share: f32) -> Grid {
        let (lo, hi) = block.iter().fold((0f32, 0f32), |(l, h), x| (l.min(*x), h.max(*x)));
        if ty == WeightType::Uint4 {
            let scale = ((hi - lo) * share / 15.0).max(MIN_SCALE);
            let zero = (-lo * share / scale).round_ties_even().clamp(0.0, 15.0);
            return Grid { scale, zero, low: 0.0, high: 15.0 };
        }
        let largest = if ty == WeightType::Int8 { 127.0 } else { 7.0 };
        let scale = (hi.max(-lo) * share / largest).max(MIN_SCALE);
        // INT4 has one more code below zero; INT8 stays symmetric.
        let low = if ty == WeightType::Int8 { -127.0 } else { -8.0 };
        Grid { scale, zero: 0.0, low, high: largest }
    }

    /// The grid of least squared error over some clippings, each element counted by `weights`.
    pub(super) fn best(block: &[f32], weights: Option<&[f32]>, ty: WeightType) -> Grid {
        let error = |g: &Grid| -> f64 {
            let of = |(i, x): (usize, &f32)| {
                let weight = weights.map_or(1.0, |w| f64::from(w[i]));
                weight * f64::from(g.value(g.code(*x)) - x).powi(2)
            };
            block.iter().enumerate().map(of).sum()
        };
        let shares = [1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7];
        let grids = shares.map(|s| Grid::over(block, ty, s));
        let scored = grids.into_iter().map(|g| (error(&g), g));
        scored.min_by(|a, b| a.0.total_cmp(&b.0)).map_or(grids[0], |best| best.1)
    }

    pub(super) fn code(&self, x: f32) -> i8 {
        ((x / self.scale).round_ties_even() + self.zero).clamp(self.low, self.high) as i8
    }

    pub(super) fn value(&self, code: i8) -> f32 {
        (f32::from(code) - self.zero) * self.scale
    }
}

impl Blocks {
    /// Rounds every element to nearest.
    pub(super) fn nearest(w: &Matrix, ty: WeightType, block: usize) -> Blocks {
        Blocks::weighted(w, None, ty, block)
    }

    /// The same, where the clipping counts the errors of each column by `weights`.
    pub(super) fn weighted(
        w: &Matrix,
        weights: Option<&[f32]>,
        ty: WeightType,
        block: usize,
    ) -> Blocks {
        let rows = w.data.par_chunks(w.columns).map(|row| {
            let mut codes = Vec::with_capacity(row.len());
            let grids: Vec<Grid> = row
                .chunks(block)
                .enumerate()
                .map(|(b, part)| {
                    let weights = weights.map(|w| &w[b * block..b * block + part.len()]);
                    let grid = Grid::best(part, weights, ty);
                    codes.extend(part.iter().map(|x| grid.code(*x)));
                    grid
                })
                .collect();
            (codes, grids)
        });
        Blocks::collect(rows.collect(), w.columns, ty)
    }

    /// Joins rows of codes and grids.
    pub(super) fn collect(
        rows: Vec<(Vec<i8>, Vec<Grid>)>,
        columns: usize,
        ty: WeightType,
    ) -> Blocks {
        let mut all = Blocks { codes: vec![], scales: vec![], zeros: vec![], columns };
        for (codes, grids) in rows {
            all.codes.extend(codes);
            all.scales.extend(grids.iter().map(|g| g.scale));
            if ty == WeightType::Uint4 {
                all.zeros.extend(grids.iter().map(|g| g.zero as u8));
            }
        }
        all
    }

    /// What the codes stand for, as rows.
    pub(super) fn values(&self, block: usize) -> Vec<f32> {
        let per_row = self.columns.div_ceil(block);
        let value = |(i, q): (usize, &i8)| {
            let at = i / self.columns * per_row + i % self.columns / block;
            let zero = self.zeros.get(at).map_or(0.0, |z| f32::from(*z));
            (f32::from(*q) - zero) * self.scales[at]
        };
        self.codes.iter().enumerate().map(value).collect()
    }

    /// Writes codes, scales and zero points in the layout of the weight, behind a blocked
    /// DequantizeLinear; returns its result.
    #[allow(clippy::too_many_arguments)]
    pub(super) fn dequantize(
        &self,
        g: &mut Graph,
        weight: ValueId,
        like: &Tensor,
        axis: usize,
        ty: WeightType,
        block: usize,
        anchor: OpId,
    ) -> ValueId {
        let per_row = self.columns / block;
        let mut dims = like.dims().to_vec();
        let codes = stored(&self.codes, like.dims(), axis, self.columns);
        dims[axis] = per_row;
        let scales = stored(&self.scales, &dims, axis, per_row);
        let zeros = match self.zeros.is_empty() {
            true => vec![0i8; scales.len()],
            false => {
                let signed: Vec<i8> = self.zeros.iter().map(|z| z.cast_signed()).collect();
                stored(&signed, &dims, axis, per_row)
            }
        };
        let tensors = [
            packed(ty.dtype(), like.dims(), &codes),
            Tensor::of(&dims, &scales),
            packed(ty.dtype(), &dims, &zeros),
        ];
        let op =
            Op::new("DequantizeLinear").with("axis", axis as i64).with("block_size", block as i64);
        add(g, weight, like, op, tensors, anchor)
    }

    /// The same for one INT8 scale for each row of an embedding table.
    pub(super) fn dequantize_rows(
        &self,
        g: &mut Graph,
        weight: ValueId,
        like: &Tensor,
        anchor: OpId,
    ) -> ValueId {
        let tensors = [
            Tensor::of(like.dims(), &self.codes),
            Tensor::vector(&self.scales),
            Tensor::vector(&vec![0i8; self.scales.len()]),
        ];
        add(g, weight, like, Op::new("DequantizeLinear").with("axis", 0i64), tensors, anchor)
    }
}

fn add(
    g: &mut Graph,
    weight: ValueId,
    like: &Tensor,
    op: Op,
    tensors: [Tensor; 3],
    anchor: OpId,
) -> ValueId {
    let name = g.value(weight).name().to_owned();
    let [codes, scales, zeros] = tensors;
    let operands = [
        Some(g.add_const(&format!("{name}_q"), codes)),
        Some(g.add_const(&format!("{name}_s"), scales)),
        Some(g.add_const(&format!("{name}_zero_point"), zeros)),
    ];
    let dims = like.dims().iter().map(|&d| d.into()).collect();
    let ty = Some(Type::tensor(DType::F32, Some(dims)));
    let result = g.add_value(Value::new(format!("{name}_dq"), ty));
    g.add_op(op, &operands, &[Some(result)], Some(anchor));
    result
}

/// Rows in the layout of a tensor whose `axis` runs along a row.
fn stored<T: Copy>(rows: &[T], dims: &[usize], axis: usize, columns: usize) -> Vec<T> {
    if axis == 1 {
        return rows.to_vec();
    }
    let outputs = dims[1];
    (0..columns)
        .flat_map(|k| (0..outputs).map(move |n| (n, k)))
        .map(|(n, k)| rows[n * columns + k])
        .collect()
}

/// A tensor of 8 or 4 bits; of 4, the first element is in the low half of a byte.
fn packed(dtype: DType, dims: &[usize], codes: &[i8]) -> Tensor {
    let bytes: Vec<u8> = match dtype.bits() {
        4 => codes
            .chunks(2)
            .map(|pair| {
                let nibble = |i: usize| pair.get(i).map_or(0, |c| c.cast_unsigned() & 15);
                nibble(0) | nibble(1) << 4
            })
            .collect(),
        _ => codes.iter().map(|c| c.cast_unsigned()).collect(),
    };
    Tensor::new(dtype, dims.to_vec(), bytes.into()).expect("invariant: codes fill the dims")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wave(n: usize) -> Vec<f32> {
        (0..n).map(|i| ((i * 37 % 101) as f32 / 50.0 - 1.0) * (1.0 + (i % 7) as f32)).collect()
    }

    #[test]
    fn blocks_round_trip_within_half_a_step() {
        for ty in [WeightType::Int8, WeightType::Int4, WeightType::Uint4] {
            let w = Matrix { data: wave(256), columns: 64 };
            let blocks = Blocks::nearest(&w, ty, 32);
            let error: f32 =
                blocks.values(32).iter().zip(&w.data).map(|(a, b)| (a - b).powi(2)).sum::<f32>();
            let signal: f32 = w.data.iter().map(|x| x * x).sum();
            let want = if ty == WeightType::Int8 { 1e-4 } else { 2e-2 };
            assert!(error / signal < want, "{ty:?}: {}", error / signal);
        }
    }

    #[test]
    fn packing_puts_the_first_element_low() {
        let t = packed(DType::I4, &[3], &[1, -1, -8]);
        assert_eq!(t.to_i64(), Some(vec![1, -1, -8]));
        let t = packed(DType::U4, &[2], &[15, 3]);
        assert_eq!(t.to_i64(), Some(vec![15, 3]));
    }

    #[test]
    fn both_layouts_mean_the_same() {
        let t = Tensor::of(&[2, 3], &[1.0f32, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let w = Matrix::of(&t, 0).expect("matrix");
        assert_eq!((w.columns, w.data.as_slice()), (2, &[1.0, 4.0, 2.0, 5.0, 3.0, 6.0][..]));
        assert_eq!(stored(&w.data, &[2, 3], 0, 2), t.to_f32().expect("floats"));
    }
}
