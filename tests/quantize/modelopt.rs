//! What NVIDIA's Model Optimizer asserts of its own placement (its `test_qdq_rules_int8.py`), on graphs
//! of ours of the same form.

use lapidary::engine::TractEngine;
use lapidary::ir::{DType, Model};
use lapidary::precision::{PrecisionOptions, convert};
use lapidary::quantize::{Profile, QuantizeOptions, quantize};
use lapidary::{data, pass};

use super::model;

/// Simplified and quantized on random numbers.
fn quantized(text: &str) -> Model {
    quantized_for(text, Profile::Tensorrt)
}

fn quantized_for(text: &str, profile: Profile) -> Model {
    let mut m = model(text);
    pass::simplify(&mut m, &mut pass::Cx::default()).unwrap();
    let options = data::DataOptions { random: Some(2), ..Default::default() };
    let source = data::open(&options, &m, 0).unwrap();
    let options = QuantizeOptions { profile, ..Default::default() };
    quantize(&mut m, &options, &TractEngine, source.as_ref(), &|_| {}).unwrap();
    m
}

/// For every op of a type, in order: the operators that make its operands, constants left out.
fn sources(m: &Model, op_type: &str) -> Vec<Vec<String>> {
    let g = &m.graph;
    let ops = g.order().into_iter().filter(|op| g.op(*op).is(op_type));
    ops.map(|op| {
        let made = g.operands(op).into_iter().flatten().filter_map(|v| g.producer_op(v));
        made.map(|p| g.op(p).op_type.clone()).collect()
    })
    .collect()
}

const DQ: &str = "DequantizeLinear";

#[track_caller]
fn all_quantized(m: &Model, op_type: &str) {
    let sources = sources(m, op_type);
    assert!(!sources.is_empty());
    for s in sources {
        assert_eq!(s, [DQ, DQ], "{op_type}");
    }
}

#[track_caller]
fn none_quantized(m: &Model, op_types: &[&str]) {
    for t in op_types {
        assert!(sources(m, t).iter().flatten().all(|s| s != DQ), "{t}");
    }
}

const ONES: &str = "<float[32] one = {1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1}, float[1, 32, 1, 1] bias = {1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1}>";

/// In float16 every op reads what it reads in float32: scales follow, and no Cast comes between.
#[track_caller]
fn same_in_float16(m: &Model, op_types: &[&str]) {
    let mut half = m.clone();
    convert(&mut half, &PrecisionOptions { fp16: true, ..Default::default() }, None).unwrap();
    for t in op_types {
        assert_eq!(sources(&half, t), sources(m, t), "{t}");
    }
}

#[test]
fn bias_add() {
    let m = quantized(&format!(
        "g (float[1, 32, 8, 8] x, float[32, 32, 3, 3] w0, float[32, 32, 3, 3] w1) => (float[1, 32, 8, 8] y) {ONES} {{
            a = Conv<pads = [1, 1, 1, 1]>(x, w0)
            b = Add(a, bias)
            c = Relu(b)
            d = Conv<pads = [1, 1, 1, 1]>(c, w1)
            e = Add(d, bias)
            y = Relu(e)
        }}"
    ));
    all_quantized(&m, "Conv");
    none_quantized(&m, &["Add", "Relu"]);
}

#[test]
fn residual_with_and_without_downsample() {
    for down in ["", "s = Conv(x, w2)"] {
        let shortcut = if down.is_empty() { "p" } else { "s" };
        let m = quantized(&format!(
            "g (float[1, 32, 8, 8] x, float[32, 32, 3, 3] w0, float[32, 32, 3, 3] w1, float[32, 32, 1, 1] w2) => (float[1, 32, 8, 8] y) {ONES} {{
                p = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(x)
                {down}
                a = Conv<pads = [1, 1, 1, 1]>(p, w0)
                b = BatchNormalization(a, one, one, one, one)
                c = Relu(b)
                d = Conv<pads = [1, 1, 1, 1]>(c, w1)
                e = BatchNormalization(d, one, one, one, one)
                f = Add(e, {shortcut})
                y = Relu(f)
            }}"
        ));
        all_quantized(&m, "Conv");
        let mut add = sources(&m, "Add").remove(0);
        add.sort();
        assert_eq!(add, ["Conv", DQ], "{down}");
        none_quantized(&m, &["Relu", "GlobalAveragePool"]);
    }
}

#[test]
fn conv_transpose_residual() {
    let m = quantized(&format!(
        "g (float[1, 32, 8, 8] x, float[32, 32, 3, 3] w0, float[32, 32, 2, 2] w1, float[32, 32, 3, 3] w2) => (float[1, 32, 16, 16] y) {ONES} {{
            a = Conv<pads = [1, 1, 1, 1]>(x, w0)
            b = Relu(a)
            t = ConvTranspose<strides = [2, 2]>(b, w1)
            u = Relu(t)
            v = Conv<pads = [1, 1, 1, 1]>(u, w2)
            y = Add(t, v)
        }}"
    ));
    all_quantized(&m, "Conv");
    all_quantized(&m, "ConvTranspose");
    let quantizers = m.graph.ops().filter(|op| m.graph.op(*op).is("QuantizeLinear"));
    assert!(
        quantizers
            .into_iter()
            .all(|op| { m.graph.operand(op, 0).is_none_or(|v| !m.graph.is_const(v)) }),
        "weights have no QuantizeLinear"
    );
    let add = sources(&m, "Add").remove(0);
    assert_eq!(add.iter().filter(|s| *s == DQ).count(), 1);
    same_in_float16(&m, &["Conv", "ConvTranspose", "Add"]);
}

#[test]
fn conv_batch_norm_sigmoid_mul() {
    let m = quantized(&format!(
        "g (float[1, 32, 8, 8] x, float[32, 32, 3, 3] w0, float[32, 32, 3, 3] w1) => (float[1, 32, 8, 8] y) {ONES} {{
            a = Conv<pads = [1, 1, 1, 1]>(x, w0)
            b = BatchNormalization(a, one, one, one, one)
            c = Sigmoid(b)
            d = Mul(b, c)
            e = Conv<pads = [1, 1, 1, 1]>(d, w1)
            f = BatchNormalization(e, one, one, one, one)
            h = Sigmoid(f)
            i = Mul(f, h)
            y = Add(d, i)
        }}"
    ));
    all_quantized(&m, "Conv");
    none_quantized(&m, &["Sigmoid", "Mul"]);
    let add = sources(&m, "Add").remove(0);
    assert_eq!(add.iter().filter(|s| *s == DQ).count(), 1);
    same_in_float16(&m, &["Conv", "ConvTranspose", "Add"]);
}

#[test]
fn pool_behind_an_activation() {
    for reshape in [false, true] {
        let (end, shape) = match reshape {
            true => ("z = MaxPool<kernel_shape = [2, 2]>(b)\ny = Flatten(z)", "float[1, k]"),
            false => ("y = MaxPool<kernel_shape = [2, 2]>(b)", "float[1, 32, 7, 7]"),
        };
        let m = quantized(&format!(
            "g (float[1, 32, 8, 8] x, float[32, 32, 3, 3] w0) => ({shape} y) {{
                a = Conv<pads = [1, 1, 1, 1]>(x, w0)
                b = Relu(a)
                {end}
            }}"
        ));
        all_quantized(&m, "Conv");
        none_quantized(&m, &["MaxPool"]);
        same_in_float16(&m, &["Conv", "MaxPool"]);
    }
}

#[test]
fn is_inf_keeps_a_type_that_it_has() {
    let mut m = quantized(
        "g (float[1, 32, 8, 8] x, float[32, 32, 3, 3] w0) => (bool[1, 32, 8, 8] y) {
            a = Conv<pads = [1, 1, 1, 1]>(x, w0)
            y = IsInf(a)
        }",
    );
    all_quantized(&m, "Conv");
    convert(&mut m, &PrecisionOptions { fp16: true, ..Default::default() }, None).unwrap();
    let g = &m.graph;
    let op = g.order().into_iter().find(|op| g.op(*op).is("IsInf")).unwrap();
    let want = if m.default_opset() < 20 { DType::F32 } else { DType::F16 };
    assert_eq!(g.operand(op, 0).and_then(|v| g.value(v).dtype()), Some(want));
}

#[test]
fn layer_norm_behind_a_conv() {
    let m = quantized(&format!(
        "g (float[1, 32, 8, 8] x, float[32, 32, 3, 3] w0) => (float[1, 8, 8, 32] y) {ONES} {{
            a = Conv<pads = [1, 1, 1, 1]>(x, w0)
            t = Transpose<perm = [0, 2, 3, 1]>(a)
            y = LayerNormalization(t, one, one)
        }}"
    ));
    all_quantized(&m, "Conv");
    assert_eq!(sources(&m, "LayerNormalization"), [[DQ]]);
}

const GROUPED: &str = "g (float[1, 32, 8, 8] x, float[32, 32, 3, 3] w0, float[32, 1, 1, 1] w1) => (float[1, 32, 8, 8] y) {
    a = Conv<pads = [1, 1, 1, 1]>(x, w0)
    b = Conv<group = 32>(a, w1)
    y = Mul(b, a)
}";
const VECTOR: &str =
    "g (float[1, 64] x, float[64, 64] w0) => (float[1, 64] y) { y = MatMul(x, w0) }";

#[test]
fn small_grouped_convs_and_vectors_stay_float_on_gpus() {
    let m = quantized(GROUPED);
    let convs = sources(&m, "Conv");
    assert_eq!(convs[0], [DQ, DQ]);
    assert!(convs[1].iter().all(|s| s != DQ));
    none_quantized(&m, &["Mul"]);
    none_quantized(&quantized(VECTOR), &["MatMul"]);
}

#[test]
fn small_grouped_convs_and_vectors_are_quantized_for_dlas() {
    let m = quantized_for(GROUPED, Profile::TensorrtDla);
    for op_type in ["Conv", "Mul"] {
        all_quantized(&m, op_type);
        same_in_float16(&m, &[op_type]);
    }
    let m = quantized_for(VECTOR, Profile::TensorrtDla);
    all_quantized(&m, "MatMul");
    same_in_float16(&m, &["MatMul"]);
}
