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
use crate::recover::linalg::Cholesky;

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

    fn remove(&mut self, class: Class) {
        let atoms = self.atoms.get(&class).cloned().unwrap_or_default();
        if self.diagonal {
            return;
        }
        for c in atoms {
            let n = self.n;
            let d = self.inverse[c * n + c];
            let h: Vec<f64> = self.inverse[c * n..(c + 1) * n].iter().map(|x| x / d).collect();
            let s: Vec<f64> = self.products[c * n..(c + 1) * n].to_vec();
            for i in 0..n {
                let (hi, si) = (h[i], s[i]);
                if hi == 0.0 && si == 0.0 {
                    continue;
                }
                let (inverse, products) =
                    (&mut self.inverse[i * n..(i + 1) * n], &mut self.products[i * n..(i + 1) * n]);
                for j in 0..n {
                    inverse[j] -= hi * h[j] * d;
                    products[j] += hi * h[j] * s[c] - si * h[j] - hi * s[j];
                }
            }
            for i in 0..n {
                for at in [c * n + i, i * n + c] {
                    self.inverse[at] = 0.0;
                    self.products[at] = 0.0;
                }
            }
            self.inverse[c * n + c] = 1.0;
        }
    }
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
    }
}
