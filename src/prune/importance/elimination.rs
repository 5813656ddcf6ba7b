//! Channels one by one, the least harmful first, while the weights of those that stay make up for
//! those that went: the optimal brain surgeon (Hassibi and Stork, 1993) on whole channels.
//!
//! For a layer that reads channels `x` with weights `W`, taking channel `c` away costs
//! `‖W_c‖² / [H⁻¹]_cc` in the squared error of its results, `H` being the covariance of `x`; the other
//! weights change by `−W_c [H⁻¹]_c / [H⁻¹]_cc`. Only the products `S = Wᵀ W` are kept, which change by
//! a term of rank two. The taps of a convolution count as rows of `W`.

use std::collections::BTreeMap;

use rayon::prelude::*;

use super::super::groups::{Class, Groups};
use super::activations::{Moments, Reader, readers};
use crate::ir::Graph;
use crate::recover::cholesky::Cholesky;
use crate::recover::linalg::{BLOCK, subtract_product};

/// Added to the diagonal of `H`, relative to its mean.
const RIDGE: f64 = 1e-3;

/// Scores of the classes of open groups that layers with known moments read: the error, relative to
/// the variance of the layers' results, that has added up once the class has gone.
pub(super) fn scores(g: &Graph, groups: &Groups, moments: &Moments) -> Vec<(Class, f64)> {
    let readers = readers(g, groups);
    let open: Vec<u32> = (0u32..)
        .zip(&groups.groups)
        .filter(|(_, group)| group.pinned.is_none())
        .map(|(k, _)| k)
        .collect();
    let one = |k: &u32| eliminate(g, groups, moments, &readers, *k);
    open.par_iter().flat_map_iter(one).collect()
}

fn eliminate(
    g: &Graph,
    groups: &Groups,
    moments: &Moments,
    readers: &[Reader],
    k: u32,
) -> Vec<(Class, f64)> {
    let mut sinks: Vec<Sink> =
        readers.iter().filter_map(|r| Sink::of(g, groups, moments, r, k)).collect();
    let mut left: BTreeMap<Class, ()> = BTreeMap::new();
    for s in &sinks {
        left.extend(s.atoms.keys().map(|c| (*c, ())));
    }
    let (mut out, mut total) = (Vec::new(), 0.0);
    while !left.is_empty() {
        let cost = |c: &Class| sinks.iter().map(|s| s.cost(*c)).sum::<f64>();
        let costs = left.keys().map(|c| (*c, cost(c)));
        // Of equal ones the higher index goes first.
        let least = costs.reduce(|a, b| if b.1 <= a.1 { b } else { a });
        let Some((class, cost)) = least else { break };
        total += cost.max(0.0);
        out.push((class, total));
        left.remove(&class);
        sinks.iter_mut().for_each(|s| s.remove(class));
    }
    out
}

/// One layer, as far as the channels of one group go.
struct Sink {
    /// Places of each class in the matrices.
    atoms: BTreeMap<Class, Vec<usize>>,
    n: usize,
    /// `H⁻¹`, or the inverse of its diagonal where it is too large.
    inverse: Vec<f64>,
    /// `Wᵀ W`, or its diagonal.
    products: Vec<f64>,
    diagonal: bool,
    /// Variance of all results of the layer, summed.
    energy: f64,
}

impl Sink {
    fn of(g: &Graph, groups: &Groups, moments: &Moments, r: &Reader, k: u32) -> Option<Sink> {
        let atoms: BTreeMap<Class, Vec<usize>> =
            super::atoms(groups, k, groups.classes(r.lane)).into_iter().collect();
        let m = moments.get(r.layer.input).filter(|_| !atoms.is_empty())?;
        let n = m.mean.len();
        let diagonal = m.products.len() == n;
        let floor = RIDGE * (0..n).map(|c| m.variance(c)).sum::<f64>() / n.max(1) as f64;
        if floor <= 0.0 || floor.is_nan() {
            return None;
        }
        if diagonal {
            let products = r.layer.squares_by_input(g).filter(|s| s.len() == n)?;
            let energy = (0..n).map(|c| products[c] * m.variance(c)).sum();
            let inverse = (0..n).map(|c| 1.0 / (m.variance(c) + floor)).collect();
            return Some(Sink { atoms, n, inverse, products, diagonal, energy });
        }
        let products = r.layer.products_by_input(g).filter(|p| p.len() == n * n)?;
        let block = n / r.layer.groups;
        let mut h = m.products.clone();
        let mut energy = 0.0;
        for i in 0..n {
            for j in 0..n {
                // What one group of a convolution reads cannot make up for another's.
                if i / block != j / block {
                    h[i * n + j] = 0.0;
                }
                energy += h[i * n + j] * products[i * n + j];
            }
            h[i * n + i] += floor;
        }
        let inverse = Cholesky::of(h, n)?.inverse();
        Some(Sink { atoms, n, inverse, products, diagonal, energy })
    }

    /// Relative cost of taking a class away; for one of several channels, of each alone.
    fn cost(&self, class: Class) -> f64 {
        let Some(atoms) = self.atoms.get(&class) else { return 0.0 };
        let at = |i: usize| if self.diagonal { i } else { i * self.n + i };
        let one = |&i: &usize| self.products[at(i)].max(0.0) / self.inverse[at(i)].max(1e-30);
        atoms.iter().map(one).sum::<f64>() / self.energy.max(1e-30)
    }

    /// Takes all channels of a class away at once, which is what one after the other comes to.
    fn remove(&mut self, class: Class) {
        if self.diagonal {
            return;
        }
        let Some(gone) = self.atoms.remove(&class) else { return };
        let (n, k) = (self.n, gone.len());
        let take = |of: &[f64]| -> Vec<f64> {
            gone.iter().flat_map(|c| of[c * n..(c + 1) * n].iter().copied()).collect()
        };
        let square = |of: &[f64]| -> Vec<f64> {
            of.chunks(n).flat_map(|row| gone.iter().map(|c| row[*c])).collect()
        };
        let (h, mut s) = (take(&self.inverse), take(&self.products));
        let (corner, both) = (square(&h), square(&s));
        if let Some(corner) = Cholesky::of(corner, k) {
            // Row `i` says how each channel that goes weighs on channel `i`.
            let mut onto = square(&self.inverse);
            corner.solve(&mut onto);
            subtract(&mut self.inverse, (&onto, k, 1), (&h, n, 1), (n, k));
            let half: Vec<f64> = both.iter().map(|x| x / 2.0).collect();
            subtract_product((k, k, n), (&half, k, 1), (&onto, 1, k), &mut s, n);
            subtract(&mut self.products, (&onto, k, 1), (&s, n, 1), (n, k));
            subtract(&mut self.products, (&s, 1, n), (&onto, 1, k), (n, k));
        }
        self.drop_places(&gone);
    }

    /// Leaves rows and columns out of the matrices.
    fn drop_places(&mut self, gone: &[usize]) {
        let n = self.n;
        let mut place = vec![Some(0); n];
        gone.iter().for_each(|c| place[*c] = None);
        let kept: Vec<usize> = (0..n).filter(|i| place[*i].is_some()).collect();
        kept.iter().enumerate().for_each(|(to, from)| place[*from] = Some(to));
        for of in [&mut self.inverse, &mut self.products] {
            for (to, i) in kept.iter().enumerate() {
                for (at, j) in kept.iter().enumerate() {
                    of[to * kept.len() + at] = of[i * n + j];
                }
            }
            of.truncate(kept.len() * kept.len());
        }
        for atoms in self.atoms.values_mut() {
            *atoms = atoms.iter().filter_map(|c| place[*c]).collect();
        }
        self.n = kept.len();
    }
}

/// `c -= a · b` for an `n × k` and a `k × n` matrix, rows shared out to threads.
fn subtract(
    c: &mut [f64],
    (a, ar, ac): (&[f64], usize, usize),
    (b, br, bc): (&[f64], usize, usize),
    (n, k): (usize, usize),
) {
    c.par_chunks_mut(BLOCK * n.max(1)).enumerate().for_each(|(at, rows)| {
        let a = (&a[at * BLOCK * ar..], ar, ac);
        subtract_product((rows.len() / n, k, n), a, (b, br, bc), rows, n);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two channels that are the same, and one of its own.
    #[test]
    fn what_another_channel_can_stand_in_for_costs_nothing() {
        let h = vec![1.0001, 1.0, 0.0, 1.0, 1.0001, 0.0, 0.0, 0.0, 1.0];
        let inverse = Cholesky::of(h, 3).expect("positive definite").inverse();
        let atoms = (0..3).map(|c| (c, vec![c as usize])).collect();
        let products = vec![1.0, 1.0, 0.1, 1.0, 1.0, 0.1, 0.1, 0.1, 0.01];
        let mut sink = Sink { atoms, n: 3, inverse, products, diagonal: false, energy: 4.01 };
        assert!(sink.cost(1) < sink.cost(2));
        sink.remove(1);
        // The first channel now counts twice.
        assert!((sink.cost(0) - 4.0 / 4.01).abs() < 1e-2, "{}", sink.cost(0));
        assert_eq!(sink.cost(1), 0.0);
        assert_eq!(sink.n, 2);
    }

    /// Two channels of one class go as they do when each is a class.
    #[test]
    fn channels_of_a_class_go_as_one_after_the_other() {
        let mut rng = fastrand::Rng::with_seed(1);
        let rows: Vec<f32> = (0..40 * 5).map(|_| rng.f32() - 0.5).collect();
        let m = crate::recover::linalg::Mat::new(&rows, 5);
        let inverse = Cholesky::of(m.transposed_times(m), 5).expect("positive definite").inverse();
        let w = m.rows(0, 3);
        let products = w.transposed_times(w);
        let sink = |classes: [Class; 5]| {
            let mut atoms: BTreeMap<Class, Vec<usize>> = BTreeMap::new();
            classes.into_iter().enumerate().for_each(|(i, c)| atoms.entry(c).or_default().push(i));
            let (inverse, products) = (inverse.clone(), products.clone());
            Sink { atoms, n: 5, inverse, products, diagonal: false, energy: 1.0 }
        };
        let (mut both, mut single) = (sink([0, 1, 2, 1, 4]), sink([0, 1, 2, 3, 4]));
        both.remove(1);
        [1, 3].into_iter().for_each(|c| single.remove(c));
        assert_eq!((both.n, single.n), (3, 3));
        for (a, b) in both.products.iter().zip(&single.products) {
            assert!((a - b).abs() < 1e-9, "{a} {b}");
        }
        assert!((both.cost(4) - single.cost(4)).abs() < 1e-9);
    }
}
