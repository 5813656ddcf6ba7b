//! L9, L10: the operator set is raised as far as the types need and no further, by conversion.

use lapidary::data::{self, DataOptions};
use lapidary::engine::TractEngine;
use lapidary::ir::{DType, Model};
use lapidary::precision::{PrecisionOptions, convert};
use lapidary::quantize::{Payload, QuantizeOptions, WeightType, apply};
use lapidary::{pass, verify};

use super::support;

/// Squeeze takes its axes as an attribute before version 13, and Softmax flattens.
const OLD: &str = r#"# fill: w seed=1
# fill: v seed=2
<ir_version: 6, opset_import: ["" : 11]>
g (float[4, 32, 8, 8] x) => (float[4, 32, 64] y)
<float[32, 32, 3, 3] w, float[8, 64] v>
{
    a = Conv<pads = [1, 1, 1, 1]> (x, w)
    s = Softmax<axis = 2> (a)
    u = Unsqueeze<axes = [0]> (s)
    q = Squeeze<axes = [0]> (u)
    r = ReduceSum<axes = [3], keepdims = 0> (q)
    z = ReduceMean<axes = [3], keepdims = 0> (a)
    b = Add (r, z)
    y = MatMul (b, v)
}"#;

fn old() -> Model {
    let mut m = support::parse_fixture(OLD).unwrap();
    pass::infer_graph(&mut m.graph, 11, &mut |op, what| panic!("{op}: {what}"));
    m
}

fn quantized(o: &QuantizeOptions) -> Model {
    let before = old();
    let mut m = before.clone();
    let options = DataOptions { random: Some(2), ..DataOptions::default() };
    let source = data::open(&options, &m, 0).unwrap();
    apply(&mut m, o, &TractEngine, Some(source.as_ref()), &|_| {}).unwrap();
    m.graph.check().unwrap();
    let v = verify::compare(
        &before,
        &m,
        &TractEngine,
        source.as_ref(),
        2,
        pass::Semantics::Lossy,
        &|_| {},
    );
    assert!(v.min_sqnr_db() > 25.0, "{o:?}: {}", v.min_sqnr_db());
    m
}

fn half(m: &mut Model, bf16: bool) -> Option<i64> {
    let o = PrecisionOptions { fp16: !bf16, bf16, ..PrecisionOptions::default() };
    convert(m, &o, None).unwrap().raised_to
}

#[test]
fn each_type_needs_its_version() {
    let int8 = QuantizeOptions::default();
    let weights = |w, block| QuantizeOptions { weights: Some(w), block, ..int8.clone() };
    let fp8 = QuantizeOptions { payload: Payload::Fp8, ..int8.clone() };
    for (o, want) in [
        (int8.clone(), 13),
        (fp8, 19),
        (weights(WeightType::Int8, None), 13),
        (weights(WeightType::Int8, Some(32)), 21),
        (weights(WeightType::Int4, Some(32)), 21),
    ] {
        let m = quantized(&o);
        assert_eq!(m.default_opset(), want, "{o:?}");
        let squeeze = m.graph.ops().find(|op| m.graph.op(*op).is("Squeeze")).unwrap();
        assert_eq!(m.graph.op(squeeze).arity(), 2, "converted, not renumbered");
    }
}

#[test]
fn sixteen_bits_need_no_more_than_their_operators() {
    assert_eq!(half(&mut old(), false), None, "float16 is in every version");
    assert_eq!(half(&mut old(), true), Some(22), "Conv takes bfloat16 from 22 on");
    let mut m = quantized(&QuantizeOptions::default());
    assert_eq!(half(&mut m, false), Some(19), "Q/DQ of float16");
    let g = &m.graph;
    let pair = g.order().into_iter().find(|op| g.op(*op).is("QuantizeLinear")).unwrap();
    let scale = g.operand(pair, 1).and_then(|v| g.value(v).dtype());
    assert_eq!(scale, g.operand(pair, 0).and_then(|v| g.value(v).dtype()));
    assert!(
        g.order()
            .into_iter()
            .filter(|op| g.op(*op).is("DequantizeLinear"))
            .all(|op| { g.operand(op, 1).and_then(|v| g.value(v).dtype()) == Some(DType::F16) })
    );
}

#[test]
fn a_model_that_is_new_enough_stays() {
    let text = OLD.replace("\"\" : 11", "\"\" : 17").replace("ir_version: 6", "ir_version: 8");
    let text = text
        .replace("Unsqueeze<axes = [0]> (s)", "Unsqueeze (s, axis)")
        .replace("Squeeze<axes = [0]> (u)", "Squeeze (u, axis)")
        .replace("ReduceSum<axes = [3], keepdims = 0> (q)", "ReduceSum<keepdims = 0> (q, last)")
        .replace("float[8, 64] v>", "float[8, 64] v, int64[1] axis = {0}, int64[1] last = {3}>");
    let mut m = support::parse_fixture(&text).unwrap();
    let options = DataOptions { random: Some(2), ..DataOptions::default() };
    let source = data::open(&options, &m, 0).unwrap();
    apply(&mut m, &QuantizeOptions::default(), &TractEngine, Some(source.as_ref()), &|_| {})
        .unwrap();
    assert_eq!(m.default_opset(), 17);
}
