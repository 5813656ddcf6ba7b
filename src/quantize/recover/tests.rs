//! That factors leave what a model computes, whatever they are.

#![allow(clippy::unwrap_used)]

use super::super::QuantizeOptions;
use super::super::placement::plan;
use super::super::ranges::observe_plan;
use super::equalize::{Site, apply, factors, sites};
use super::{absorb, observed};
use crate::data::{DataError, Source};
use crate::engine::{Engine, Feeds, TractEngine};
use crate::ir::{Model, Tensor};

/// A model whose inputs named `w…` are constants of seeded random numbers.
fn model(text: &str) -> Model {
    let mut m =
        crate::onnx::text::parse(&format!("<ir_version: 8, opset_import: [\"\" : 17]>\n{text}"))
            .unwrap();
    let g = &mut m.graph;
    let mut random = fastrand::Rng::with_seed(7);
    for v in g.inputs().to_vec() {
        if g.value(v).name().starts_with('w') {
            let dims = g.value(v).sizes().unwrap();
            let data: Vec<f32> = (0..dims.iter().product()).map(|_| random.f32() - 0.5).collect();
            g.remove_input(v);
            g.set_data(v, Tensor::of(&dims, &data));
        }
    }
    let opset = m.default_opset();
    crate::pass::infer_graph(&mut m.graph, opset, &mut |_, _| {});
    m
}

fn run(m: &Model, dims: &[usize]) -> Vec<f32> {
    let mut random = fastrand::Rng::with_seed(3);
    let data: Vec<f32> = (0..dims.iter().product()).map(|_| random.f32() - 0.3).collect();
    let feeds = vec![("x".to_owned(), Tensor::of(dims, &data))];
    let session = TractEngine.prepare(m, &[]).unwrap();
    session.run(&feeds, &mut |_, _| {}).unwrap()[0].to_f32().unwrap()
}

/// Number of sites; all get factors from 1/4 to 4, and the outputs stay.
fn rescaled(text: &str, dims: &[usize], insert: bool) -> Vec<(usize, usize)> {
    let float = model(text);
    let mut m = float.clone();
    let plan = plan(&m.graph, &QuantizeOptions::default()).unwrap();
    let sites: Vec<Site> = sites(&m.graph, &plan, insert);
    for site in &sites {
        let n = site.space.channels;
        let s: Vec<f64> = (0..n).map(|c| 2f64.powi(c as i32 % 5 - 2)).collect();
        assert!(apply(&mut m.graph, site, &s));
    }
    m.graph.check().unwrap();
    let (a, b) = (run(&float, dims), run(&m, dims));
    let scale = a.iter().fold(1e-6f32, |s, x| s.max(x.abs()));
    let worst = a.iter().zip(&b).fold(0f32, |s, (x, y)| s.max((x - y).abs()));
    assert!(worst <= 1e-5 * scale, "{worst} of {scale}");
    sites.iter().map(|s| (s.space.values.len(), s.space.edits.len())).collect()
}

#[test]
fn convolutions_residuals_and_depthwise() {
    let found = rescaled(
        "g (float[1, 16, 8, 8] x, float[32, 16, 3, 3] w0, float[32] wb, float[32, 1, 3, 3] wd, float[32, 32, 1, 1] w1, float[32, 32, 1, 1] w2, float[32, 40] wm) => (float[1, 40] y) {
            a = Conv<pads = [1, 1, 1, 1]>(x, w0, wb)
            b = Relu(a)
            c = Conv<pads = [1, 1, 1, 1], group = 32>(b, wd, wb)
            d = Relu(c)
            e = Conv(d, w1, wb)
            f = Conv(e, w2)
            h = Add(e, f)
            p = GlobalAveragePool(h)
            r = Flatten(p)
            y = Gemm(r, wm)
        }",
        &[1, 16, 8, 8],
        false,
    );
    // a, b; c, d; e, f, h, p, r, where the weight of f has a factor on both sides.
    assert_eq!(found.len(), 3, "{found:?}");
    assert_eq!(found.iter().map(|f| f.0).sum::<usize>(), 9, "{found:?}");
}

#[test]
fn normalization_takes_factors_in() {
    let text = "g (float[1, 8, 32] x, float[32] ws, float[32] wb, float[32, 64] w0, float[64] wc, float[64, 32] w1) => (float[1, 8, 32] y) {
        a = LayerNormalization(x, ws, wb)
        b = MatMul(a, w0)
        c = Add(b, wc)
        d = Sigmoid(c)
        y = MatMul(d, w1)
    }";
    let dims = [1, 8, 32];
    assert_eq!(rescaled(text, &dims, false), [(1, 3)]);
    // Behind the Sigmoid nothing takes them in: a Mul does.
    assert_eq!(rescaled(text, &dims, true).len(), 2);
}

#[test]
fn what_does_not_commute_is_left_alone() {
    let dims = [1, 16, 8, 8];
    let none = |middle: &str, y: &str| {
        let text = format!(
            "g (float[1, 16, 8, 8] x, float[16, 16, 3, 3] w0, float[16, 16, 3, 3] w1) => ({y}) {{
                a = Conv<pads = [1, 1, 1, 1]>(x, w0)
                {middle}
                y = Conv<pads = [1, 1, 1, 1]>(b, w1)
            }}"
        );
        assert_eq!(rescaled(&text, &dims, true), [], "{middle}");
    };
    let y = "float[1, 16, 8, 8] y";
    none("b = Sigmoid(a)", y);
    none("b = Mul(a, a)", y);
    none("b = HardSwish(a)", y);
    none("b = Softmax<axis = 1>(a)", y);
    none("b = Transpose<perm = [0, 1, 3, 2]>(a)", y);
    none("b = Relu(a)", &format!("{y}, float[1, 16, 8, 8] b"));
}

/// The sample that [`run`] feeds, so many times.
struct Same(&'static [usize], usize);

impl Source for Same {
    fn len(&self) -> usize {
        self.1
    }

    fn get(&self, _: usize) -> Result<Feeds, DataError> {
        let mut random = fastrand::Rng::with_seed(3);
        let data = (0..self.0.iter().product()).map(|_| random.f32() - 0.3);
        Ok(vec![("x".to_owned(), Tensor::of(self.0, &data.collect::<Vec<f32>>()))])
    }
}

/// Sites that absorbed something; the outputs stay on what was seen.
fn absorbed(text: &str, dims: &'static [usize]) -> usize {
    let mut float = model(text);
    let bias = float.graph.find_value("wb").unwrap();
    let n = float.graph.const_tensor(bias).unwrap().len();
    let high: Vec<f32> = (0..n).map(|c| (c % 3) as f32 * 8.0).collect();
    float.graph.set_data(bias, Tensor::vector(&high));
    let o = QuantizeOptions::default();
    let plan = plan(&float.graph, &o).unwrap();
    let axes = observed(&float, &plan, &[]);
    let seen =
        observe_plan(&float, &plan, &o, &axes, (&TractEngine, &Same(dims, 1), &|_| {})).unwrap();
    let mut m = float.clone();
    let sites = absorb::sites(&m.graph, &plan);
    let count = sites.iter().filter(|s| absorb::absorb(&mut m.graph, s, &seen)).count();
    m.graph.check().unwrap();
    let (a, b) = (run(&float, dims), run(&m, dims));
    let scale = a.iter().fold(1e-6f32, |s, x| s.max(x.abs()));
    let worst = a.iter().zip(&b).fold(0f32, |s, (x, y)| s.max((x - y).abs()));
    assert!(worst <= 1e-5 * scale, "{worst} of {scale}");
    count
}

#[test]
fn absorbing_a_bias_is_exact_on_what_was_seen() {
    const IMAGE: &[usize] = &[1, 16, 8, 8];
    let conv = |middle: &str| {
        format!(
            "g (float[1, 16, 8, 8] x, float[48, 16, 3, 3] w0, float[48] wb, float[48, 1, 3, 3] wd,
            float[48] wc, float[32, 48, 1, 1] w1, float[32, 40] wm, float[40] wv) => (float[1, 40] y) {{
                a = Conv<pads = [1, 1, 1, 1]>(x, w0, wb)
                r = Relu(a)
                {middle}
                p = GlobalAveragePool(e)
                q = Flatten(p)
                y = Gemm(q, wm, wv)
            }}"
        )
    };
    assert_eq!(absorbed(&conv("e = Conv(r, w1)"), IMAGE), 1);
    let pools = "d = Conv<group = 48>(r, wd, wc) m = MaxPool<kernel_shape = [2, 2]>(r)
        f = Conv(m, w1) g = Conv(d, w1) h = GlobalMaxPool(f) i = GlobalMaxPool(g) e = Add(h, i)";
    assert_eq!(absorbed(&conv(pools), IMAGE), 1);
    let padded = "d = Conv<group = 48, pads = [1, 1, 1, 1]>(r, wd, wc) e = Conv(d, w1)";
    assert_eq!(absorbed(&conv(padded), IMAGE), 0);
    assert_eq!(absorbed(&conv("d = Mul(r, r) e = Conv(d, w1)"), IMAGE), 0);
    let matrices =
        "g (float[1, 8, 32] x, float[32, 64] w0, float[64] wb, float[64, 32] w1, float[32] wc)
        => (float[1, 8, 32] y) {
        a = MatMul(x, w0)
        b = Add(a, wb)
        c = Relu(b)
        d = MatMul(c, w1)
        y = Add(d, wc)
    }";
    assert_eq!(absorbed(matrices, &[1, 8, 32]), 1);
    // Nothing takes the bias in behind the second matrix.
    let without = matrices.replace("y = Add(d, wc)", "y = Sigmoid(d)");
    assert_eq!(absorbed(&without, &[1, 8, 32]), 0);
}

#[test]
fn a_channel_that_few_samples_were_quiet_in_is_not_stretched_far() {
    let mut m = model(
        "g (float[1, 16, 8, 8] x, float[32, 16, 3, 3] w0, float[32, 32, 3, 3] w1) => (float[1, 32, 4, 4] y) {
            a = Conv(x, w0)
            b = Relu(a)
            y = Conv(b, w1)
        }",
    );
    let w = m.graph.find_value("w0").unwrap();
    let t = m.graph.const_tensor(w).unwrap().clone();
    let mut data = t.to_f32().unwrap();
    let quiet = data.len() / 2;
    data[..quiet].iter_mut().for_each(|x| *x *= 1e-4);
    m.graph.set_data(w, Tensor::of(t.dims(), &data));
    let o = QuantizeOptions::default();
    let plan = plan(&m.graph, &o).unwrap();
    let smallest = |samples| {
        let axes = observed(&m, &plan, &[false]);
        let data = Same(&[1, 16, 8, 8], samples);
        let seen = observe_plan(&m, &plan, &o, &axes, (&TractEngine, &data, &|_| {})).unwrap();
        let site = &sites(&m.graph, &plan, false)[0];
        let (s, _, _) = factors(&m.graph, &plan, site, &seen).unwrap();
        s.iter().fold(f64::INFINITY, |a, b| a.min(*b)) / s.iter().fold(0.0f64, |a, b| a.max(*b))
    };
    let (few, many) = (smallest(4), smallest(64));
    assert!((1.0 / 8.0..1.0).contains(&few), "{few}");
    assert!((1.0 / 128.0..1.0 / 16.0).contains(&many), "{many}");
}
