//! What ONNX Runtime's CPU kernels want: UINT8 activations, pairs behind convolutions and nowhere else,
//! INT32 biases of Gemm.

use lapidary::ir::{DType, Model};
use lapidary::quantize::inverse::strip;
use lapidary::quantize::{Equalize, Profile, QuantizeOptions};
use lapidary::recover::Rounding;

use super::modes::{LINEAR, Rows, errors, ops, quantized, rows, sqnr};
use super::{model, operands, planned};

fn cpu() -> QuantizeOptions {
    QuantizeOptions { profile: Profile::OnnxruntimeCpu, ..QuantizeOptions::default() }
}

fn image() -> Rows {
    Rows(vec![1, 16, 8, 8])
}

fn count(m: &Model, op: &str) -> usize {
    ops(m).iter().filter(|t| *t == op).count()
}

/// Types and zero points of the pairs.
fn zero_points(m: &Model) -> Vec<(DType, i64)> {
    let g = &m.graph;
    let quantize = g.order().into_iter().filter(|op| g.op(*op).is("QuantizeLinear"));
    let zero = quantize.map(|op| g.const_operand(op, 2).unwrap());
    zero.map(|t| (t.dtype(), t.to_i64().unwrap()[0])).collect()
}

#[test]
fn c1_results_of_convolutions_have_pairs() {
    let text = "g (float[1, 16, 8, 8] x, float[16, 16, 3, 3] w0) => (float[1, 16, 3, 3] y) {
        a = Conv(x, w0)
        b = Relu(a)
        c = Sigmoid(b)
        y = MaxPool<kernel_shape = [4, 4]>(c)
    }";
    let (_, m, _) = quantized(text, &cpu(), &image()).unwrap();
    assert_eq!(count(&m, "QuantizeLinear"), 2);
    let (_, m, _) = quantized(text, &QuantizeOptions::default(), &image()).unwrap();
    assert_eq!(count(&m, "QuantizeLinear"), 1);
}

#[test]
fn c2_codes_lie_between_the_least_and_the_largest_element() {
    let text = "g (float[1, 16, 8, 8] x, float[16, 16, 3, 3] w0, float[16, 16, 3, 3] w1,
        float[16, 16, 1, 1] w2) => (float[1, 16, 4, 4] y) {
        a = Conv(x, w0)
        b = Relu(a)
        c = Conv<pads = [0, 0, 0, 0]>(b, w1)
        d = HardSwish(c)
        y = Conv(d, w2)
    }";
    let plain = QuantizeOptions {
        equalize: Equalize::Off,
        rounding: Rounding::Nearest,
        ..QuantizeOptions::default()
    };
    let o = QuantizeOptions { profile: Profile::OnnxruntimeCpu, ..plain.clone() };
    let (float, m, report) = quantized(text, &o, &image()).unwrap();
    let zeros = zero_points(&m);
    assert!(zeros.iter().all(|z| z.0 == DType::U8), "{zeros:?}");
    let [x, b, c, d] = [0, 1, 2, 3].map(|i| zeros[i].1);
    assert!((96..160).contains(&x) && b == 0 && (32..224).contains(&c), "{zeros:?}");
    assert!(d > 0 && d < 64, "{zeros:?}");
    assert!(report.tensors.iter().any(|t| t.zero_point == 0));
    let (_, symmetric, _) = quantized(text, &plain, &image()).unwrap();
    assert!(zero_points(&symmetric).iter().all(|z| *z == (DType::I8, 0)));
    assert!(sqnr(&float, &m, &image()) > sqnr(&float, &symmetric, &image()) + 0.5);
    assert_eq!(errors(&m, "onnxruntime-cpu"), Vec::<&str>::new());
}

#[test]
fn c3_matrices_give_floats_and_gemm_has_an_int32_bias() {
    let (float, m, _) = quantized(LINEAR, &cpu(), &rows()).unwrap();
    assert_eq!(count(&m, "QuantizeLinear"), 2, "{:?}", ops(&m));
    let g = &m.graph;
    let codes = g.const_tensor(g.find_value("wb_q").unwrap()).unwrap();
    assert_eq!((codes.dtype(), codes.dims()), (DType::I32, &[32][..]));
    assert!(sqnr(&float, &m, &rows()) > 30.0);
    assert_eq!(errors(&m, "onnxruntime-cpu"), Vec::<&str>::new());
    let (_, m, _) = quantized(LINEAR, &QuantizeOptions::default(), &rows()).unwrap();
    assert!(m.graph.find_value("wb_q").is_none());
    let scaled = LINEAR.replace("transB = 1", "transB = 1, beta = 0.5");
    let (_, m, _) = quantized(&scaled, &cpu(), &rows()).unwrap();
    assert!(m.graph.find_value("wb_q").is_none());
}

#[test]
fn c4_where_a_residual_stream_begins_there_is_no_pair() {
    let patches = |norm: &str| {
        format!(
            "g (float[1, 3, 8, 8] x, float[32, 3, 4, 4] w0, float[1, 4, 32] wp, float[32] ws,
            float[32] wb, float[32, 32] w1) => (float[1, 4, 32] y)
            <int64[3] dims = {{1, 32, 4}}> {{
                a = Conv<strides = [4, 4]>(x, w0)
                b = Reshape(a, dims)
                c = Transpose<perm = [0, 2, 1]>(b)
                d = Add(c, wp)
                e = {norm}
                f = MatMul(e, w1)
                y = Add(f, d)
            }}"
        )
    };
    let reads = |text: &str, rules: &[&str]| {
        let rules = rules.iter().map(|r| (*r).to_owned()).collect();
        let m = model(text);
        operands(&m, &planned(&m, &QuantizeOptions { rules, ..cpu() }), "b")
    };
    let normalized = patches("LayerNormalization(d, ws, wb)");
    assert_eq!(reads(&normalized, &[]), "--");
    assert_eq!(reads(&normalized, &["-N5"]), "q-");
    assert_eq!(reads(&patches("Sigmoid(d)"), &[]), "q-");
}

#[test]
fn c5_back_to_float_and_on_to_tensorrt() {
    let (float, m, _) = quantized(LINEAR, &cpu(), &rows()).unwrap();
    let mut back = m.clone();
    strip(&mut back);
    assert!(sqnr(&float, &back, &rows()) > 30.0);
    assert!(!errors(&m, "tensorrt").is_empty());
    let mut there = m;
    let o = QuantizeOptions { from_quantized: true, ..QuantizeOptions::default() };
    let engine = &lapidary::engine::TractEngine;
    lapidary::quantize::apply(&mut there, &o, engine, None, &|_| {}).unwrap();
    assert_eq!(errors(&there, "tensorrt"), Vec::<&str>::new());
    assert!(sqnr(&float, &there, &rows()) > 25.0);
}

#[test]
fn c6_rows_of_tables_are_gathered_as_codes() {
    let text = |rows: usize, last: &str| {
        format!(
            "g (float[1, 4, 32] x, float[{rows}, 32] wt, float[32, 32] w0, int64[1, 4] i) => (float[1, 4, 32] y)
            {{
                e = Gather(wt, i)
                f = Add(e, x)
                g = MatMul(f, w0)
                {last}
            }}"
        )
    };
    let indices = |text: String| {
        let mut m = model(&text);
        let v = m.graph.find_value("i").unwrap();
        m.graph.remove_input(v);
        m.graph.set_data(v, lapidary::ir::Tensor::of(&[1, 4], &[3i64, 0, 2, 7]));
        m
    };
    let data = Rows(vec![1, 4, 32]);
    let gathered = |m: &Model| {
        let g = &m.graph;
        let types = |op| g.const_operand(op, 0).map(|t| t.dtype());
        let gathers = g.order().into_iter().filter(|op| g.op(*op).is("Gather"));
        gathers.filter_map(types).collect::<Vec<_>>()
    };
    let with = |text: String, o: &QuantizeOptions| {
        let float = indices(text);
        let mut m = float.clone();
        let engine = &lapidary::engine::TractEngine;
        lapidary::quantize::quantize(&mut m, o, engine, &data, &|_| {}).unwrap();
        m.graph.check().unwrap();
        (float, m)
    };
    let plain = |rows| text(rows, "y = Sigmoid(g)");
    let (float, m) = with(plain(64), &cpu());
    assert_eq!(gathered(&m), [DType::I8, DType::F32], "{:?}", ops(&m));
    assert!(sqnr(&float, &m, &data) > 35.0);
    assert_eq!(errors(&m, "onnxruntime-cpu"), Vec::<&str>::new());
    let mut back = m;
    strip(&mut back);
    assert_eq!((gathered(&back), count(&back, "Cast")), (vec![DType::F32], 0));
    assert!(sqnr(&float, &back, &data) > 35.0);
    let float_rows = |m: &Model| gathered(m) == [DType::F32] && count(m, "Cast") == 0;
    assert!(float_rows(&with(plain(8), &cpu()).1), "too small");
    let tied = "t = Transpose<perm = [1, 0]>(wt) u = MatMul(g, t) v = ReduceSum<keepdims = 1>(u) y = Add(g, v)";
    assert!(float_rows(&with(text(64, tied), &cpu()).1), "read by another op");
    let keep = QuantizeOptions { rules: vec!["+N12".to_owned()], ..cpu() };
    assert!(float_rows(&with(plain(64), &keep).1));
    assert!(float_rows(&with(plain(64), &QuantizeOptions::default()).1));
    let wanted = QuantizeOptions { embeddings: true, ..QuantizeOptions::default() };
    let (_, m) = with(plain(64), &wanted);
    assert_eq!((gathered(&m), count(&m, "DequantizeLinear")), (vec![], 3), "{:?}", ops(&m));
    assert_eq!(errors(&m, "tensorrt"), Vec::<&str>::new());
}
