//! That factors leave what a model computes, whatever they are.

#![allow(clippy::unwrap_used)]

use super::super::QuantizeOptions;
use super::super::placement::plan;
use super::equalize::{Site, apply, sites};
use crate::engine::{Engine, TractEngine};
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
