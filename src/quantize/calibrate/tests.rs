use super::*;
use crate::quantize::Payload;

const INT8: Codes = Codes::Symmetric(Payload::Int8);

const BINS: usize = 2048;

/// Counts over bins of width 1 for a density on `[0, 1)`.
fn bins(density: impl Fn(f64) -> f64) -> Vec<u64> {
    (0..BINS).map(|i| density((i as f64 + 0.5) / BINS as f64).floor() as u64).collect()
}

/// Distributions with the results of straightforward NumPy programs of the published
/// definitions: entropy threshold, divergence there, percentiles 99.9, 99.99 and 99.999 as bins,
/// and the least squared error at bin centers (thresholds from bin 128 on).
#[allow(clippy::type_complexity)]
fn references() -> Vec<(&'static str, Histogram, f32, f64, [f32; 3], f64)> {
    let normal = bins(|x| 1e6 * (-(x * 6.0).powi(2) / 2.0).exp());
    let laplace = bins(|x| 1e6 * (-x * 20.0).exp());
    let mut outlier = bins(|x| 1e6 * (-(x * 40.0).powi(2) / 2.0).exp());
    outlier[2047] += 3;
    outlier[1500] += 10;
    let mut relu = bins(|x| 1e5 * (-(x * 8.0).powi(2) / 2.0).exp());
    relu[0] += 50_000_000;
    let uniform = vec![1000; BINS];
    let mut sparse = bins(|x| 1e4 * (-x * 5.0).exp());
    sparse.iter_mut().enumerate().filter(|(i, _)| i % 7 != 0).for_each(|(_, n)| *n = 0);
    let of = |bins: &[u64], zeros| Histogram::of_bins(bins, zeros);
    vec![
        (
            "normal",
            of(&normal, 0),
            1646.0,
            6.225202103373461e-05,
            [1123.0, 1327.0, 1504.0],
            10.194049936602399,
        ),
        (
            "laplace",
            of(&laplace, 0),
            1152.0,
            0.0003524067683974846,
            [706.0, 939.0, 1158.0],
            5.930781308705467,
        ),
        (
            "outlier",
            of(&outlier, 0),
            247.0,
            4.793851996294476e-05,
            [168.0, 199.0, 225.0],
            0.6498818029845804,
        ),
        ("uniform", of(&uniform, 0), 2048.0, 0.0, [2045.0, 2047.0, 2047.0], 21.501515884867707),
        (
            "relu",
            of(&relu, 50_000_000),
            1192.0,
            5.728298964844712e-05,
            [771.0, 934.0, 1069.0],
            2.3309018292027632,
        ),
        (
            "sparse",
            of(&sparse, 0),
            2045.0,
            5.7770985140723416e-05,
            [1988.0, 2044.0, 2044.0],
            21.028009185955863,
        ),
    ]
}

#[test]
fn entropy_agrees_with_the_definition() {
    for (name, h, threshold, divergence, ..) in references() {
        assert_eq!(entropy_threshold(&h), threshold, "{name}");
        let mut bins: Vec<f64> = h.counts().bins.iter().map(|&n| n as f64).collect();
        bins[0] = bins[1];
        let got = EntropySearch::new(&bins).divergence(threshold as usize);
        assert!((got - divergence).abs() < 1e-9, "{name}: {got}");
    }
}

#[test]
fn entropy_does_not_clip_behind_a_spike() {
    // Pixels of 256 levels, most of them background.
    let mut pixels = vec![0; BINS];
    pixels.iter_mut().skip(3).step_by(8).for_each(|n| *n = 1000);
    pixels[819] = 150_000;
    let threshold = entropy_threshold(&Histogram::of_bins(&pixels, 0));
    assert!(threshold > 2000.0, "{threshold}");
}

#[test]
fn divergence_elsewhere_agrees_with_the_definition() {
    let all = references();
    let at = |k: usize, i: usize| {
        let mut bins: Vec<f64> = all[k].1.counts().bins.iter().map(|&n| n as f64).collect();
        bins[0] = bins[1];
        EntropySearch::new(&bins).divergence(i)
    };
    for (k, i, want) in [
        (0, 128, 2.8770819022832943),
        (0, 1128, 0.0034272041859996186),
        (1, 128, 1.0031099548284108),
        (3, 128, 4.319166567642249),
        (5, 1128, 0.17220506499546406),
    ] {
        assert!((at(k, i) - want).abs() < 1e-9, "{k} {i}: {}", at(k, i));
    }
    assert_eq!(at(5, 128), f64::INFINITY);
}

#[test]
fn percentiles_fall_into_the_bin_of_the_definition() {
    for (name, h, _, _, bins, _) in references() {
        for (p, bin) in [99.9, 99.99, 99.999].into_iter().zip(bins) {
            let got = percentile_threshold(&h, p);
            assert!((bin..=bin + 1.0).contains(&got), "{name} {p}: {got} not in bin {bin}");
        }
        let last = h.counts().bins.iter().rposition(|n| *n > 0).expect("not empty") + 1;
        assert_eq!(percentile_threshold(&h, 100.0), last as f32, "{name}");
    }
}

#[test]
fn mse_threshold_is_as_good_as_the_published_search() {
    for (name, h, .., best) in references() {
        let step = f64::from(mse_threshold(&h, INT8)) / 127.0;
        let at_centers: f64 = h
            .counts()
            .bins
            .iter()
            .enumerate()
            .map(|(i, &n)| {
                let c = i as f64 + 0.5;
                n as f64 * ((c / step).round().min(127.0) * step - c).powi(2)
            })
            .sum::<f64>()
            / h.counts().total() as f64;
        assert!(at_centers < best * 1.02 + 0.1, "{name}: {at_centers} > {best}");
    }
}

#[test]
fn expected_error_is_exact_where_it_can_be_computed() {
    // Uniform on [0, amax]: step^2 / 12 without clipping.
    let uniform = Histogram::of_bins(&vec![1000; BINS], 0);
    let step = 2048.0 / 127.0;
    assert!((expected_mse(&uniform, 2048.0, INT8) - step * step / 12.0).abs() < 1e-9);
    // Clipping at half adds the integral of (x - amax/2)^2.
    let half: f64 = 1024.0;
    let want = 0.5 * (step / 2.0).powi(2) / 12.0 + half.powi(3) / 3.0 / 2048.0;
    assert!((expected_mse(&uniform, 1024.0, INT8) - want).abs() < 1e-6);
    // Exact zeros cost nothing.
    let mut zeros = vec![0; BINS];
    zeros[0] = 10;
    assert_eq!(expected_mse(&Histogram::of_bins(&zeros, 10), 2048.0, INT8), 0.0);
}

#[test]
fn auto_takes_the_least_error_and_no_method_leaves_the_range() {
    for (name, h, ..) in references() {
        let all = [Method::Minmax, Method::Percentile, Method::Entropy, Method::Mse];
        let all = all.map(|m| choose(&h, m, 99.99, INT8));
        let auto = choose(&h, Method::Auto, 99.99, INT8);
        assert!(all.iter().all(|t| t.mse >= auto.mse), "{name}");
        assert!(all.iter().all(|t| t.amax > 0.0 && t.amax <= 2048.0), "{name}");
        assert!((0.0..=1.0).contains(&auto.clipped), "{name}");
    }
    let empty = Histogram::of_bins(&[0], 0);
    assert_eq!(choose(&empty, Method::Auto, 99.99, INT8).amax, 1.0);
}
