//! What GPTQ and AWQ must know of the inputs of linear ops.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::Samples;
use crate::engine::{Observer, RunError, run_all};
use crate::ir::{Model, Tensor, ValueId};
use crate::quantize::QuantizeError;
use crate::recover::linalg::Mat;

/// Runs of the model that statistics are gathered on at most.
const MOST_RUNS: usize = 64;

/// Sum of `x xᵀ` over the rows of an input.
#[derive(Default)]
pub(super) struct Hessian {
    /// Elements of a row.
    pub size: usize,
    /// Row-major, symmetric.
    pub data: Vec<f64>,
    /// Rows that are still to be summed.
    pending: Vec<f32>,
}

impl Hessian {
    /// Takes rows of `k` elements in; nothing where rows before were of another length.
    pub(super) fn add(&mut self, rows: &[f32], k: usize) {
        /// As many rows as make a product worth it, which reads and writes all of `data`.
        const ROWS: usize = 512;
        if self.data.is_empty() {
            (self.size, self.data) = (k, vec![0.0; k * k]);
        }
        if self.size == k {
            self.pending.extend_from_slice(&rows[..rows.len() / k * k]);
            if self.pending.len() >= ROWS * k {
                self.sum();
            }
        }
    }

    /// Sums the rows that are pending.
    pub(super) fn sum(&mut self) {
        let x = Mat::new(&self.pending, self.size);
        self.data.par_iter_mut().zip(x.transposed_times(x)).for_each(|(a, b)| *a += b);
        self.pending.clear();
    }
}

/// Statistics of each channel of an input.
pub(super) struct ChannelStats {
    /// Mean magnitude.
    pub magnitude: Vec<f32>,
    /// Mean square.
    pub square: Vec<f32>,
}

/// The products of the channels of each value with each other.
pub(super) fn hessians(
    m: &Model,
    values: &[ValueId],
    s: &Samples,
) -> Result<BTreeMap<ValueId, Hessian>, QuantizeError> {
    let mut found = gather(m, values, s, &Hessian::default, &Hessian::add)?;
    found.values_mut().for_each(Hessian::sum);
    Ok(found)
}

/// Mean magnitude and mean square of the channels of each value.
pub(super) fn channel_stats(
    m: &Model,
    values: &[ValueId],
    s: &Samples,
) -> Result<BTreeMap<ValueId, ChannelStats>, QuantizeError> {
    struct Sums {
        magnitude: Vec<f64>,
        square: Vec<f64>,
        count: usize,
    }
    let update = |sums: &mut Sums, rows: &[f32], k: usize| {
        sums.magnitude.resize(k, 0.0);
        sums.square.resize(k, 0.0);
        for row in rows.chunks_exact(k) {
            for (i, x) in row.iter().enumerate() {
                sums.magnitude[i] += f64::from(x.abs());
                sums.square[i] += f64::from(*x).powi(2);
            }
            sums.count += 1;
        }
    };
    let make = || Sums { magnitude: vec![], square: vec![], count: 0 };
    let found = gather(m, values, s, &make, &update)?;
    let mean = |sums: &[f64], n: usize| sums.iter().map(|x| (x / n.max(1) as f64) as f32).collect();
    Ok(found
        .into_iter()
        .map(|(v, s)| {
            let (magnitude, square) = (mean(&s.magnitude, s.count), mean(&s.square, s.count));
            (v, ChannelStats { magnitude, square })
        })
        .collect())
}

struct Gather<'a, T> {
    parts: Vec<T>,
    update: &'a (dyn Fn(&mut T, &[f32], usize) + Sync),
}

impl<T: Send> Observer for Gather<'_, T> {
    fn tap(&mut self, _: usize, index: usize, value: Tensor) {
        if let (Some(rows), Some(&k)) = (value.to_f32(), value.dims().last())
            && k > 0
        {
            (self.update)(&mut self.parts[index], &rows, k);
        }
    }

    // One thread runs the samples; the work on each is spread over all cores.
    fn merge(&mut self, _: Self) {}
}

fn gather<T: Send>(
    m: &Model,
    values: &[ValueId],
    s: &Samples,
    make: &(dyn Fn() -> T + Sync),
    update: &(dyn Fn(&mut T, &[f32], usize) + Sync),
) -> Result<BTreeMap<ValueId, T>, QuantizeError> {
    let mut values = values.to_vec();
    values.sort_unstable();
    values.dedup();
    let names: Vec<String> = values.iter().map(|v| m.graph.value(*v).name().to_owned()).collect();
    let session = s.engine.prepare(m, &names).map_err(RunError::from)?;
    let samples = crate::data::Taken(s.data, MOST_RUNS);
    let start = || Gather { parts: values.iter().map(|_| make()).collect(), update };
    let found = run_all(&*session, &samples, 1, start, s.progress)?;
    Ok(values.into_iter().zip(found.parts).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn products_of_all_rows_are_summed() {
        let mut random = fastrand::Rng::with_seed(4);
        let rows: Vec<f32> = (0..1300 * 3).map(|_| random.f32() - 0.2).collect();
        let mut h = Hessian::default();
        rows.chunks(300).for_each(|part| h.add(part, 3));
        h.add(&[1.0; 4], 4);
        h.sum();
        for (i, j) in [(0, 0), (0, 1), (1, 0), (2, 2)] {
            let want: f64 = rows.chunks(3).map(|r| f64::from(r[i]) * f64::from(r[j])).sum();
            assert!((h.data[i * 3 + j] - want).abs() < 1e-3, "{i} {j}");
        }
    }
}
