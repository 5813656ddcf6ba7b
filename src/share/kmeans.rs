//! k-means on a line: exact steps of Lloyd's algorithm over sorted numbers.

use super::Init;

/// Values, and which of them each element takes.
#[derive(Clone, Debug, PartialEq)]
pub struct Clusters {
    /// The values in order, at most as many as were asked for.
    pub centers: Vec<f32>,
    /// For each element the number of its value.
    pub indices: Vec<u8>,
}

/// Steps at most.
const STEPS: usize = 300;
/// Elements of which this share is zero keep their zeros.
const SPARSE: f64 = 0.1;

/// Finds at most `size` values (256 at most) for finite elements so that the sum of squared errors,
/// each times its weight, is small. Zeros stay zero where there are many, so that what was pruned
/// stays pruned. The same arguments give the same result.
pub fn cluster(
    data: &[f32],
    weights: Option<&[f64]>,
    size: usize,
    init: Init,
    seed: u64,
) -> Clusters {
    let size = size.clamp(1, 256);
    let zeros = data.iter().filter(|v| **v == 0.0).count();
    let keeps_zeros = size > 1 && zeros as f64 > SPARSE * data.len() as f64;
    let mut order: Vec<u32> =
        (0..data.len() as u32).filter(|i| !keeps_zeros || data[*i as usize] != 0.0).collect();
    order.sort_unstable_by(|a, b| data[*a as usize].total_cmp(&data[*b as usize]).then(a.cmp(b)));
    let line = Line::of(&order, data, weights);
    let mut centers = line.centers(size - usize::from(keeps_zeros), init, seed);
    if keeps_zeros {
        centers.push(0.0);
        centers.sort_by(f64::total_cmp);
    }
    let centers: Vec<f32> = centers.into_iter().map(|c| c as f32).collect();
    let zero = centers.iter().position(|c| *c == 0.0).filter(|_| keeps_zeros);
    let index = |v: &f32| match zero {
        Some(zero) if *v == 0.0 => zero,
        Some(zero) => nearest(&centers, *v, Some(zero)),
        None => nearest(&centers, *v, None),
    };
    Clusters { indices: data.iter().map(|v| index(v) as u8).collect(), centers }
}

/// The number of the nearest center, `but` one; the lower one of two.
fn nearest(centers: &[f32], v: f32, but: Option<usize>) -> usize {
    let after = centers.partition_point(|c| *c < v);
    let near = after.saturating_sub(2)..(after + 2).min(centers.len());
    let distance = |k: &usize| (f64::from(centers[*k]) - f64::from(v)).abs();
    near.filter(|k| Some(*k) != but).min_by(|a, b| distance(a).total_cmp(&distance(b))).unwrap_or(0)
}

/// Sorted numbers with running sums of weights and of weighted numbers.
struct Line {
    values: Vec<f64>,
    weights: Vec<f64>,
    sums: Vec<f64>,
}

impl Line {
    fn of(order: &[u32], data: &[f32], weights: Option<&[f64]>) -> Line {
        let values: Vec<f64> = order.iter().map(|i| f64::from(data[*i as usize])).collect();
        let weight = |i: &u32| weights.map_or(1.0, |w| w[*i as usize].max(1e-12));
        let running = |f: &dyn Fn(usize) -> f64| -> Vec<f64> {
            let mut sum = 0.0;
            let mut out = vec![0.0];
            out.extend((0..order.len()).map(|i| {
                sum += f(i);
                sum
            }));
            out
        };
        Line {
            weights: running(&|i| weight(&order[i])),
            sums: running(&|i| weight(&order[i]) * values[i]),
            values,
        }
    }

    /// Centers in order.
    fn centers(&self, size: usize, init: Init, seed: u64) -> Vec<f64> {
        let mut distinct = self.values.clone();
        distinct.dedup();
        if distinct.len() <= size {
            return distinct;
        }
        let mut centers = match init {
            Init::Linear => self.linear(size),
            Init::Density => self.density(size),
            Init::PlusPlus => self.plus_plus(size, seed),
        };
        let mut bounds = Vec::new();
        for _ in 0..STEPS {
            let next = self.bounds(&centers);
            if next == bounds {
                break;
            }
            bounds = next;
            for (k, center) in centers.iter_mut().enumerate() {
                let (from, to) = (bounds[k], bounds[k + 1]);
                let weight = self.weights[to] - self.weights[from];
                if weight > 0.0 {
                    *center = (self.sums[to] - self.sums[from]) / weight;
                }
            }
            centers.sort_by(f64::total_cmp);
        }
        centers.dedup();
        centers
    }

    /// Where the elements of each center begin, and the end.
    fn bounds(&self, centers: &[f64]) -> Vec<usize> {
        let mut out = vec![0];
        for pair in centers.windows(2) {
            let middle = f64::midpoint(pair[0], pair[1]);
            out.push(self.values.partition_point(|v| *v <= middle));
        }
        out.push(self.values.len());
        out
    }

    fn linear(&self, size: usize) -> Vec<f64> {
        let (low, high) = (self.values[0], self.values[self.values.len() - 1]);
        let at = |k: usize| low + (high - low) * k as f64 / (size - 1).max(1) as f64;
        (0..size).map(at).collect()
    }

    fn density(&self, size: usize) -> Vec<f64> {
        let all = self.weights[self.values.len()];
        let at = |k: usize| {
            let wanted = all * (k as f64 + 0.5) / size as f64;
            let i = self.weights.partition_point(|w| *w < wanted);
            self.values[i.saturating_sub(1).min(self.values.len() - 1)]
        };
        (0..size).map(at).collect()
    }

    /// From at most this many elements, evenly picked: the start need not be exact.
    fn plus_plus(&self, size: usize, seed: u64) -> Vec<f64> {
        const MOST: usize = 1 << 14;
        let n = self.values.len();
        let count = n.min(MOST);
        let picked: Vec<usize> = (0..count).map(|k| k * n / count).collect();
        let weight = |i: usize| self.weights[i + 1] - self.weights[i];
        let mut rng = fastrand::Rng::with_seed(seed);
        let first = self.values[picked[rng.usize(..count)]];
        let mut centers = vec![first];
        let mut far: Vec<f64> =
            picked.iter().map(|i| (self.values[*i] - first).powi(2) * weight(*i)).collect();
        while centers.len() < size {
            let mut left = rng.f64() * far.iter().sum::<f64>();
            let hit = far.iter().position(|d| {
                left -= d;
                left < 0.0
            });
            let Some(hit) = hit else { break };
            let new = self.values[picked[hit]];
            centers.push(new);
            for (d, i) in far.iter_mut().zip(&picked) {
                *d = d.min((self.values[*i] - new).powi(2) * weight(*i));
            }
        }
        centers.sort_by(f64::total_cmp);
        centers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const STARTS: [Init; 3] = [Init::Linear, Init::Density, Init::PlusPlus];

    fn error(data: &[f32], c: &Clusters) -> f64 {
        let of = |(v, k): (&f32, &u8)| f64::from(v - c.centers[usize::from(*k)]).powi(2);
        data.iter().zip(&c.indices).map(of).sum()
    }

    #[test]
    fn few_values_stay_as_they_are() {
        let data = [0.5, -1.0, 0.5, 3.0];
        for init in STARTS {
            let c = cluster(&data, None, 4, init, 0);
            assert_eq!(c.centers, [-1.0, 0.5, 3.0]);
            assert_eq!(c.indices, [1, 0, 1, 2]);
        }
        assert_eq!(cluster(&[], None, 4, Init::Linear, 0).indices, Vec::<u8>::new());
    }

    #[test]
    fn clusters_are_found_and_seeds_repeat() {
        let mut rng = fastrand::Rng::with_seed(3);
        let data: Vec<f32> = (0..4000).map(|i| (i % 4) as f32 * 10.0 + rng.f32() - 0.5).collect();
        for init in STARTS {
            let c = cluster(&data, None, 4, init, 1);
            assert!(error(&data, &c) < 4000.0 / 11.0, "{init:?} {:?}", c.centers);
            assert_eq!(c, cluster(&data, None, 4, init, 1));
        }
    }

    #[test]
    fn zeros_stay_where_there_are_many() {
        let mut rng = fastrand::Rng::with_seed(3);
        let data: Vec<f32> =
            (0..1000).map(|i| if i % 2 == 0 { 0.0 } else { rng.f32() * 0.01 + 1e-6 }).collect();
        let c = cluster(&data, None, 8, Init::Linear, 0);
        for (v, k) in data.iter().zip(&c.indices) {
            assert_eq!(*v == 0.0, c.centers[usize::from(*k)] == 0.0);
        }
    }

    #[test]
    fn heavy_elements_draw_the_centers() {
        let data = [0.0f32, 1.0, 10.0, 11.0, 5.0];
        let c = cluster(&data[..], Some(&[1.0, 1.0, 1.0, 1.0, 1e6]), 3, Init::Density, 0);
        assert!(c.centers.iter().any(|v| (v - 5.0).abs() < 1e-3), "{:?}", c.centers);
    }
}
