//! Descent of the squared error of one row of weights, one weight or block of four at a time.

/// How the squared error of a row falls with each weight, halved.
fn slope(w: &[f64], best: &[f64], hessian: &[f64]) -> Vec<f64> {
    let mut slope = vec![0.0; w.len()];
    for (h, (best, w)) in hessian.chunks(w.len().max(1)).zip(best.iter().zip(w)) {
        let d = best - w;
        if d != 0.0 {
            slope.iter_mut().zip(h).for_each(|(s, h)| *s += d * h);
        }
    }
    slope
}

/// Moves what stays of a row closer to the best row, one weight at a time.
pub(super) fn descend(w: &mut [f64], gone: &[bool], best: &[f64], hessian: &[f64], sweeps: usize) {
    let k = w.len();
    if sweeps == 0 {
        return;
    }
    let mut slope = slope(w, best, hessian);
    for _ in 0..sweeps {
        for j in (0..k).filter(|j| !gone[*j]) {
            let h = &hessian[j * k..][..k];
            let step = slope[j] / h[j];
            if step.is_finite() && step != 0.0 {
                w[j] += step;
                slope.iter_mut().zip(h).for_each(|(s, h)| *s -= step * h);
            }
        }
    }
}

/// Moves a row closer to the best row, four weights at a time, of which those two stay that come
/// closest with all others as they are.
pub(super) fn exchange(w: &mut [f64], best: &[f64], hessian: &[f64], sweeps: usize) {
    let k = w.len();
    if sweeps == 0 {
        return;
    }
    let mut slope = slope(w, best, hessian);
    for _ in 0..sweeps {
        for i in (0..k).step_by(4) {
            let block: [[f64; 4]; 4] =
                std::array::from_fn(|a| std::array::from_fn(|b| hessian[(i + a) * k + i + b]));
            let pull: [f64; 4] = std::array::from_fn(|a| {
                slope[i + a] + (0..4).map(|b| block[a][b] * w[i + b]).sum::<f64>()
            });
            let Some(four) = best_pair(&block, &pull) else { continue };
            for (j, new) in (i..).zip(four) {
                let step = new - w[j];
                if step != 0.0 {
                    w[j] = new;
                    let h = &hessian[j * k..][..k];
                    slope.iter_mut().zip(h).for_each(|(s, h)| *s -= step * h);
                }
            }
        }
    }
}

/// Four numbers `w`, two of which are zero, with the least `wᵀ · block · w − 2 · pullᵀ · w`; `None`
/// where all zeros are as good.
fn best_pair(block: &[[f64; 4]; 4], pull: &[f64; 4]) -> Option<[f64; 4]> {
    const PAIRS: [(usize, usize); 6] = [(0, 1), (0, 2), (0, 3), (1, 2), (1, 3), (2, 3)];
    let (mut most, mut found) = (0.0, None);
    for (a, b) in PAIRS {
        let det = block[a][a] * block[b][b] - block[a][b] * block[a][b];
        let x = (block[b][b] * pull[a] - block[a][b] * pull[b]) / det;
        let y = (block[a][a] * pull[b] - block[a][b] * pull[a]) / det;
        let gain = x * pull[a] + y * pull[b];
        if gain.is_finite() && gain > most {
            let mut four = [0.0; 4];
            (four[a], four[b]) = (x, y);
            (most, found) = (gain, Some(four));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_four_those_two_stay_that_come_closest() {
        // Alone 0 and 1 are best; but they say the same, so 2 goes with one of them.
        let block = [
            [1.0, 0.99, 0.0, 0.0],
            [0.99, 1.0, 0.0, 0.0],
            [0.0, 0.0, 1.0, 0.0],
            [0.0, 0.0, 0.0, 1.0],
        ];
        let four = best_pair(&block, &[3.0, 2.97, 2.0, 1.0]).expect("a pair");
        assert_eq!(four, [3.0, 0.0, 2.0, 0.0]);
        assert_eq!(best_pair(&block, &[0.0; 4]), None);
        let (mut w, best) = ([1.0, 1.0, 0.0, 0.0], [3.0, 0.0, 2.0, 1.0]);
        exchange(&mut w, &best, block.as_flattened(), 2);
        assert_eq!(w, [3.0, 0.0, 2.0, 0.0]);
    }
}
