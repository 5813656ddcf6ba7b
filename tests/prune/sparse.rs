//! Weights set to zero one by one, and weights that share values.

use std::path::Path;

use lapidary::engine::TractEngine;
use lapidary::ir::{DType, Graph, Model, Tensor};
use lapidary::pass::Semantics;
use lapidary::prune::sparse::SparseLayer;
use lapidary::prune::{Importance, Mode, PruneError, PruneOptions, prune_with, sparsify};
use lapidary::report::weights;
use lapidary::share::{Init, Per, ShareOptions, share};
use lapidary::{data, onnx, verify};

fn fixture(name: &str) -> Model {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models");
    onnx::load(&root.join(format!("{name}.onnx"))).expect("the fixture loads")
}

fn noise(dims: &[usize], seed: u64) -> Tensor {
    let mut rng = fastrand::Rng::with_seed(seed);
    let data: Vec<f32> = (0..dims.iter().product()).map(|_| rng.f32() * 2.0 - 1.0).collect();
    Tensor::of(dims, &data)
}

/// One Conv as the first of ResNet-50, and one as its last.
fn convs() -> Model {
    let text = r#"
        <ir_version: 8, opset_import: ["" : 17]>
        agraph (float[1, 3, 16, 16] x) => (float[1, 64, 4, 4] y)
        <float[64, 3, 7, 7] first, float[64, 64, 1, 1] second>
        {
            a = Conv <pads = [3, 3, 3, 3], strides = [4, 4]> (x, first)
            b = Relu (a)
            y = Conv (b, second)
        }"#;
    let zeros = |n: usize| vec!["0"; n].join(", ");
    let text = text
        .replace("first,", &format!("first = {{{}}},", zeros(9408)))
        .replace("second>", &format!("second = {{{}}}>", zeros(4096)));
    let mut m = onnx::text::parse(&text).expect("the text parses");
    for (name, dims) in [("first", [64, 3, 7, 7]), ("second", [64, 64, 1, 1])] {
        let v = m.graph.find_value(name).expect("a weight");
        m.graph.set_data(v, noise(&dims, dims[1] as u64));
    }
    m
}

fn values(g: &Graph, name: &str) -> Vec<f32> {
    let v = g.find_value(name).expect("a value");
    g.const_tensor(v).and_then(Tensor::to_f32).expect("a float constant")
}

fn zeros(data: &[f32]) -> usize {
    data.iter().filter(|v| **v == 0.0).count()
}

fn unstructured(ratio: f64) -> PruneOptions {
    let importance = Some(Importance::L1);
    PruneOptions { mode: Mode::Unstructured, ratio, importance, ..PruneOptions::default() }
}

#[test]
fn counts_are_those_of_torch() {
    let mut m = convs();
    let report = sparsify(&mut m, &unstructured(0.3), None).expect("it prunes");
    let first = values(&m.graph, "first");
    assert_eq!(first.len() - zeros(&first), 6586);
    assert_eq!(report.zeros, 2822 + 1229);
    assert!(report.deflated_after < report.deflated_before);
    let before = values(&convs().graph, "first");
    let bound = first.iter().filter(|v| **v != 0.0).fold(f32::MAX, |m, v| m.min(v.abs()));
    for (old, new) in before.iter().zip(&first) {
        assert!(old == new || (*new == 0.0 && old.abs() <= bound));
    }
}

#[test]
fn all_layers_together_have_one_threshold() {
    let mut m = convs();
    let o = PruneOptions { global: true, ..unstructured(0.5) };
    let report = sparsify(&mut m, &o, None).expect("it prunes");
    assert_eq!(report.zeros, (9408 + 4096) / 2);
    let all = [values(&m.graph, "first"), values(&m.graph, "second")].concat();
    assert_eq!(zeros(&all), report.zeros);
}

#[test]
fn nothing_happens_at_zero_and_nan_is_refused() {
    let mut m = convs();
    sparsify(&mut m, &unstructured(0.0), None).expect("it prunes");
    assert_eq!(zeros(&values(&m.graph, "first")), 0);
    let v = m.graph.find_value("second").expect("a weight");
    m.graph.set_data(v, Tensor::of(&[64, 64, 1, 1], &[f32::NAN; 4096]));
    let failed = sparsify(&mut m, &unstructured(0.5), None);
    assert!(matches!(failed, Err(PruneError::NotANumber { .. })));
    assert_eq!(zeros(&values(&m.graph, "first")), 0);
}

#[test]
fn two_of_every_four_go_and_more_is_kept_in_another_order() {
    for name in ["resnet8", "mobilenet"] {
        let mut m = fixture(name);
        let o = PruneOptions { mode: Mode::TwoFour, ..PruneOptions::default() };
        let report = sparsify(&mut m, &o, None).expect("it prunes");
        let all = weights::weights(&m);
        let done: Vec<_> = report.layers.iter().filter(|l| l.skipped.is_none()).collect();
        assert!(!done.is_empty(), "{name}");
        for layer in &done {
            let stats = all.iter().find(|w| w.name == layer.weight).expect("a weight");
            assert!(stats.is_two_four(), "{name} {}", layer.weight);
            assert!(layer.zeros_after >= layer.dims.iter().product::<usize>() / 2);
        }
        let sum = |f: fn(&SparseLayer) -> f64| -> f64 { done.iter().map(|l| f(l)).sum() };
        let more = sum(|l| l.kept) > sum(|l| l.kept_in_order);
        assert!(more || report.channels_moved == 0, "{name}");
        assert!(weights::has_two_four(&m.graph));
        assert!(!weights::has_two_four(&fixture(name).graph));
    }
}

#[test]
fn a_goal_keeps_the_fewest_layers_whole() {
    let (m, source) = crate::resnet8();
    let with = |max_drop: f64| {
        let max_drop = Some(max_drop);
        let o = PruneOptions { mode: Mode::TwoFour, max_drop, ..PruneOptions::default() };
        let mut m = m.clone();
        let report = sparsify(&mut m, &o, Some(crate::calibration(source.as_ref())));
        let report = report.expect("it prunes");
        let whole = |l: &&SparseLayer| l.zeros_after == l.zeros_before;
        let asked = report.layers.iter().filter(|l| whole(l) && l.skipped.is_some());
        let asked = asked.filter(|l| l.skipped.as_ref().is_some_and(|w| w.contains("goal")));
        (asked.count(), report.goal.expect("a goal"))
    };
    let (kept, free) = with(90.0);
    assert!(free.met && free.kept.is_empty() && free.tried == 1 && kept == 0);
    let goal = free.drop_before / 2.0;
    let (kept, half) = with(goal);
    assert!(half.met && half.drop_after <= goal, "{half:?}");
    assert!(kept == half.kept.len() && (1..half.ranking.len()).contains(&kept), "{half:?}");
    let o = PruneOptions { mode: Mode::TwoFour, max_drop: Some(1.0), ..PruneOptions::default() };
    let without_data = sparsify(&mut m.clone(), &o, None);
    assert!(matches!(without_data, Err(PruneError::GoalData)));
    let channels = PruneOptions { mode: Mode::Channels, ..o };
    let wrong =
        prune_with(&mut m.clone(), &channels, Some(crate::calibration(source.as_ref())), &[]);
    assert!(matches!(wrong, Err(PruneError::GoalMode)));
}

/// Largest difference of outputs relative to the largest output, as text for messages.
fn agree(a: &Model, b: &Model, semantics: Semantics) -> verify::Verification {
    let source = data::open(&data::DataOptions::default(), a, 2).expect("random inputs");
    verify::compare(a, b, &TractEngine, source.as_ref(), 2, semantics, &|_| {})
}

#[test]
fn codebooks_compute_what_plain_values_compute() {
    for (per, init) in
        [(Per::Tensor, Init::PlusPlus), (Per::Channel, Init::Linear), (Per::Group, Init::Density)]
    {
        let o = ShareOptions { bits: 4, per, init, group_size: 5, ..ShareOptions::default() };
        let (mut stored, mut plain) = (fixture("resnet8"), fixture("resnet8"));
        let report = share(&mut stored, &o, None).expect("it shares");
        let values_only = ShareOptions { values_only: true, ..o };
        share(&mut plain, &values_only, None).expect("it shares");
        assert!(report.layers.iter().any(|l| l.skipped.is_none()));
        assert!(report.bytes_after * 2 < report.bytes_before, "{per:?}");
        let v = agree(&plain, &stored, Semantics::Exact);
        assert!(
            !matches!(v.verdict, verify::Verdict::Disagree(_) | verify::Verdict::NotVerified(_)),
            "{per:?}: {:?}",
            v.verdict
        );
    }
}

#[test]
fn values_are_as_few_as_the_bits_say() {
    let mut m = fixture("resnet8");
    let o = ShareOptions { bits: 3, values_only: true, ..ShareOptions::default() };
    let report = share(&mut m, &o, None).expect("it shares");
    for layer in report.layers.iter().filter(|l| l.skipped.is_none()) {
        let mut found: Vec<u32> =
            values(&m.graph, &layer.weight).iter().map(|v| v.to_bits()).collect();
        found.sort_unstable();
        found.dedup();
        assert!(found.len() <= 8, "{}", layer.weight);
    }
    assert!(report.deflated_after * 2 < report.deflated_before);
}

#[test]
fn packed_indices_are_half_as_long() {
    let mut m = fixture("resnet8");
    assert!(m.default_opset() < 21);
    let o = ShareOptions { bits: 4, pack: true, ..ShareOptions::default() };
    let report = share(&mut m, &o, None).expect("it shares");
    assert_eq!(m.default_opset(), 21);
    let layer = report.layers.iter().find(|l| l.skipped.is_none()).expect("a layer");
    let n: usize = layer.dims.iter().product();
    assert_eq!(layer.bytes_after, n / 2 + 16 * 4);
    let name = format!("{}_indices", layer.weight);
    let indices = m.graph.find_value(&name).and_then(|v| m.graph.const_tensor(v));
    assert_eq!(indices.map(Tensor::dtype), Some(DType::U4));
    let old = share(&mut fixture("resnet8"), &ShareOptions { bits: 9, ..o }, None);
    assert!(old.is_err());
}
