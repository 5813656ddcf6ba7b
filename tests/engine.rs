//! Engines run the fixture models and single ops.

use std::path::{Path, PathBuf};

use bytes::Bytes;
use lapidary::data::{self, DataOptions, Source, Synthetic};
use lapidary::engine::{Engine, EngineError, TractEngine, eval_op};
use lapidary::evaluate::evaluate;
use lapidary::ir::{DType, Model, Op, Tensor};
use lapidary::onnx;
use lapidary::pass::Semantics;
use lapidary::verify::{Verdict, compare};

const MODELS: [&str; 3] = ["mobilenet", "resnet8", "vit"];

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// The first `n` test images as the fixture models take them.
fn images(n: usize) -> Tensor {
    let file = std::fs::read(fixture("data/test-1000-images-idx3-ubyte")).expect("fixture");
    let pixel = |b: &u8| (f32::from(*b) / 255.0 - 0.2860) / 0.3530;
    let x: Vec<f32> = file[16..16 + n * 784].iter().map(pixel).collect();
    Tensor::of(&[n, 1, 28, 28], &x)
}

fn stored(model: &str) -> Vec<f32> {
    let bytes = std::fs::read(fixture(&format!("models/{model}.values"))).expect("fixture");
    bytes.chunks_exact(4).map(|c| f32::from_le_bytes(c.try_into().expect("4 bytes"))).collect()
}

fn agrees_with_stored(engine: &dyn Engine) {
    for name in MODELS {
        let model = onnx::load(&fixture(&format!("models/{name}.onnx"))).expect("loads");
        let session = engine.prepare(&model, &[]).expect("prepares");
        let want = stored(name);
        let out = session.run(&vec![("input".into(), images(4))], &mut |_, _| {}).expect("runs");
        let got = out[0].to_f32().expect("floats");
        assert_eq!(out[0].dims(), [4, 10]);
        for (a, b) in got.iter().zip(&want) {
            assert!((a - b).abs() < 1e-4, "{name}: {a} is not {b}");
        }
    }
}

#[test]
fn tract_agrees_with_stored_values() {
    agrees_with_stored(&TractEngine);
}

/// Runs where ORT_DYLIB_PATH names a library, as it does in CI.
#[cfg(feature = "ort")]
#[test]
fn onnxruntime_agrees_with_stored_values() {
    if std::env::var_os("ORT_DYLIB_PATH").is_none() {
        let missing = lapidary::engine::by_name("ort").map(drop).expect_err("no library");
        assert!(missing.to_string().contains("ORT_DYLIB_PATH"), "{missing}");
        return;
    }
    let engine = lapidary::engine::by_name("ort").expect("loads");
    agrees_with_stored(&*engine);
    taps_are_seen_once(&*engine);
    let x: Vec<f32> = (0..4096).map(|i| (i as f32 - 2048.0).powi(3) * 1e-7).collect();
    assert_eq!(fp8(&*engine, &x), fp8(&TractEngine, &x));
}

#[cfg(not(feature = "ort"))]
#[test]
fn without_onnxruntime_the_way_to_get_it_is_told() {
    let missing = lapidary::engine::by_name("ort").map(drop).expect_err("not built in");
    assert!(missing.to_string().contains("--features ort"), "{missing}");
}

#[test]
fn inputs_weights_and_what_is_computed_can_be_tapped() {
    taps_are_seen_once(&TractEngine);
}

fn taps_are_seen_once(engine: &dyn Engine) {
    let model = onnx::load(&fixture("models/resnet8.onnx")).expect("loads");
    let g = &model.graph;
    let taps: Vec<String> = g
        .order()
        .into_iter()
        .filter(|op| g.op(*op).is("Conv"))
        .flat_map(|op| [g.operand(op, 0), g.operand(op, 1), g.result(op, 0)])
        .flatten()
        .map(|v| g.value(v).name().to_owned())
        .collect();
    let session = engine.prepare(&model, &taps).expect("prepares");
    let mut seen = Vec::new();
    let feeds = vec![("input".to_owned(), images(2))];
    session.run(&feeds, &mut |i, t| seen.push((i, t.dims().to_vec()))).expect("runs");
    seen.sort();
    assert_eq!(seen.iter().map(|s| s.0).collect::<Vec<_>>(), (0..taps.len()).collect::<Vec<_>>());
    assert_eq!(seen[0].1, [2, 1, 28, 28], "the input itself");
    assert_eq!(seen[1].1.len(), 4, "a weight");
}

#[test]
fn taps_are_what_outputs_in_their_place_would_be() {
    let mut model = onnx::load(&fixture("models/vit.onnx")).expect("loads");
    let g = &model.graph;
    let computed = g.order().into_iter().flat_map(|op| g.results(op)).flatten();
    let taps: Vec<_> = computed.filter(|v| g.value(*v).dtype() == Some(DType::F32)).collect();
    let names: Vec<String> = taps.iter().map(|v| g.value(*v).name().to_owned()).collect();
    let feeds = vec![("input".to_owned(), images(2))];
    let mut seen = vec![None; taps.len()];
    let session = TractEngine.prepare(&model, &names).expect("prepares");
    session.run(&feeds, &mut |i, t| seen[i] = Some(t)).expect("runs");
    model.graph.set_outputs(taps);
    let session = TractEngine.prepare(&model, &[]).expect("prepares");
    let outputs = session.run(&feeds, &mut |_, _| {}).expect("runs");
    for ((name, tapped), output) in names.iter().zip(seen).zip(outputs) {
        assert_eq!(tapped, Some(output), "{name}");
    }
}

fn parsed(opset: i64, graph: &str) -> Model {
    let text = format!("<ir_version: 10, opset_import: [\"\": {opset}]> {graph}");
    onnx::text::parse(&text).expect("valid text")
}

#[test]
fn what_no_output_depends_on_and_constants_can_be_tapped() {
    let model = parsed(
        17,
        "g (float[2] x) => (float[2] y) <float[2] c = {1, 2}>
         { k = Neg (c) a = Abs (x) b = Neg (a) y = Add (x, k) }",
    );
    let session =
        TractEngine.prepare(&model, &["k", "a", "b"].map(str::to_owned)).expect("prepares");
    let feeds = vec![("x".to_owned(), Tensor::of(&[2], &[-3.0f32, 4.0]))];
    let mut seen = vec![None; 3];
    let out = session.run(&feeds, &mut |i, t| seen[i] = t.to_f32()).expect("runs");
    assert_eq!(out[0].to_f32(), Some(vec![-4.0, 2.0]));
    let want = [vec![-1.0, -2.0], vec![3.0, 4.0], vec![-3.0, -4.0]];
    assert_eq!(seen, want.map(Some));
}

#[test]
fn softmax_along_any_axis() {
    let dims = [2, 3, 4, 5];
    let x: Vec<f32> = (0..120).map(|i| ((i * 37) % 41) as f32 / 7.0 - 2.0).collect();
    let feeds = vec![("x".to_owned(), Tensor::of(&dims, &x))];
    for axis in 0..4 {
        let graph = format!(
            "g (float[2, 3, 4, 5] x) => (float[2, 3, 4, 5] y, float[2, 3, 4, 5] z)
             {{ y = Softmax<axis = {axis}>(x) z = LogSoftmax<axis = {axis}>(x) }}"
        );
        let session = TractEngine.prepare(&parsed(17, &graph), &[]).expect("prepares");
        let out = session.run(&feeds, &mut |_, _| {}).expect("runs");
        assert_eq!(out[0].dims(), dims);
        let logs = out[1].to_f32().expect("floats");
        let inner: usize = dims[axis + 1..].iter().product();
        let first = |i: usize| i - i / inner % dims[axis] * inner;
        let sum = |i: usize| (0..dims[axis]).map(|k| x[first(i) + k * inner].exp()).sum::<f32>();
        for (i, y) in out[0].to_f32().expect("floats").into_iter().enumerate() {
            assert!((y - x[i].exp() / sum(i)).abs() < 1e-6, "axis {axis}, element {i}: {y}");
            assert!((logs[i] - y.ln()).abs() < 1e-5, "axis {axis}, element {i}: {}", logs[i]);
        }
    }
}

/// Softmax of `x` as float64, along rows of `n` elements.
fn softmax_rows(x: &[f32], n: usize) -> Vec<f64> {
    let row = |row: &[f32]| {
        let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exp: Vec<f64> = row.iter().map(|x| f64::from(x - largest).exp()).collect();
        let sum: f64 = exp.iter().sum();
        exp.into_iter().map(move |e| e / sum).collect::<Vec<f64>>()
    };
    x.chunks_exact(n).flat_map(row).collect()
}

#[test]
fn softmax_along_several_axes_and_of_extreme_elements() {
    // Before operator set 13, all axes from the given one on; rows that fill no lanes, and many blocks.
    for (shape, n) in [([3, 5, 7], 35), ([200, 1, 50], 50), ([2, 3, 2000], 6000), ([4, 1, 1], 1)] {
        let len: usize = shape.iter().product();
        let mut x: Vec<f32> = (0..len).map(|i| ((i * 7919) % 1009) as f32 / 9.0 - 50.0).collect();
        let graph = first_axis_on(&shape);
        // Far below the others: nothing; above what a float holds: its share is still right.
        (x[0], x[len - 1]) = (f32::NEG_INFINITY, 3e38);
        let want = softmax_rows(&x, n);
        for (y, want) in output_of(12, &graph, &shape, &x).1.into_iter().zip(want) {
            let near = (f64::from(y) - want).abs() <= 1e-6 * want + 1e-37;
            assert!(near || y.is_nan() && want.is_nan(), "{shape:?}: {y} and not {want}");
        }
    }
    let (shape, x) = ([2, 1, 2], [0.0, f32::NAN, 1.0, 1.0]);
    let y = output_of(12, &first_axis_on(&shape), &shape, &x).1;
    assert!(y[0].is_nan() && y[1].is_nan() && y[2..] == [0.5, 0.5], "{y:?}");
}

fn first_axis_on(dims: &[usize; 3]) -> String {
    format!("g (float{dims:?} x) => (float{dims:?} y) {{ y = Softmax<axis = 1>(x) }}")
}

#[test]
fn padding_along_all_axes() {
    let model = parsed(
        17,
        "g (float[1, 2, 2] x) => (float[2, 2, 4] y)
         <int64[6] pads = {0, 0, 2, 1, 0, 0}, float c = {7}> { y = Pad (x, pads, c) }",
    );
    let session = TractEngine.prepare(&model, &[]).expect("prepares");
    let feeds = vec![("x".to_owned(), Tensor::of(&[1, 2, 2], &[1.0f32, 2.0, 3.0, 4.0]))];
    let out = session.run(&feeds, &mut |_, _| {}).expect("runs");
    let mut want = [7.0; 16];
    (want[2], want[3], want[6], want[7]) = (1.0, 2.0, 3.0, 4.0);
    assert_eq!(out[0].to_f32(), Some(want.to_vec()));
}

/// The only output for `x` of these dims, and its dims.
fn output_of(opset: i64, graph: &str, dims: &[usize], x: &[f32]) -> (Vec<usize>, Vec<f32>) {
    let session = TractEngine.prepare(&parsed(opset, graph), &[]).expect("prepares");
    let feeds = vec![("x".to_owned(), Tensor::of(dims, x))];
    let out = session.run(&feeds, &mut |_, _| {}).expect("runs").remove(0);
    (out.dims().to_vec(), out.to_f32().expect("floats"))
}

#[test]
fn every_few_elements_of_an_axis() {
    let dims = [2, 5, 7];
    let x: Vec<f32> = (0..70u8).map(f32::from).collect();
    for (axis, start, step) in [(1, 1, 2), (2, 0, 3), (0, 1, 2), (2, 2, 5), (1, 4, 9), (2, 1, 1)] {
        let graph = format!(
            "g (float[2, 5, 7] x) => (float[?, ?, ?] y)
             <int64[1] s = {{{start}}}, int64[1] e = {{99}}, int64[1] a = {{{axis}}}, int64[1] t = {{{step}}}>
             {{ y = Slice (x, s, e, a, t) }}"
        );
        let stays = |i: usize| {
            let at = [i / 35, i / 7 % 5, i % 7][axis];
            at >= start && (at - start).is_multiple_of(step)
        };
        let want: Vec<f32> = (0..70).filter(|i| stays(*i)).map(|i| x[i]).collect();
        let (got, y) = output_of(17, &graph, &dims, &x);
        assert_eq!(y, want, "axis {axis}, {start}, {step}");
        assert_eq!(got[axis], (dims[axis] - start).div_ceil(step));
    }
}

#[test]
fn maxima_of_squares_of_pixels() {
    let x: Vec<f32> = (0..2 * 3 * 5 * 7).map(|i| ((i * 37) % 101) as f32 - 90.0).collect();
    for (attributes, rows, columns, kernel, stride) in [
        ("strides = [2, 2]", 2, 3, 2, 2),
        ("strides = [1, 1]", 4, 6, 2, 1),
        ("strides = [2, 2], ceil_mode = 1", 3, 4, 2, 2),
        ("strides = [2, 2], dilations = [2, 2]", 2, 3, 3, 2),
    ] {
        let graph = format!(
            "g (float[2, 3, 5, 7] x) => (float[2, 3, {rows}, {columns}] y)
             {{ y = MaxPool<kernel_shape = [2, 2], {attributes}>(x) }}"
        );
        let mut want = Vec::new();
        for plane in x.chunks_exact(35) {
            for (row, column) in (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))) {
                let offsets = [(0, 0), (0, kernel - 1), (kernel - 1, 0), (kernel - 1, kernel - 1)];
                let pixels = offsets.map(|(a, b)| (row * stride + a, column * stride + b));
                let inside = pixels.iter().filter(|(r, c)| *r < 5 && *c < 7);
                want.push(inside.map(|(r, c)| plane[r * 7 + c]).fold(f32::MIN, f32::max));
            }
        }
        assert_eq!(output_of(17, &graph, &[2, 3, 5, 7], &x).1, want, "{attributes}");
    }
}

/// `x` as FP8 in steps of a half, and four times what that is.
fn fp8(engine: &dyn Engine, x: &[f32]) -> Vec<f32> {
    let graph = "g (float[n] x) => (float[n] y, float[n] z) <float s = {0.5}, float four = {4}> {
        zero = Constant<value = float8e4m3fn {0}>()
        q = QuantizeLinear(x, s, zero)
        y = DequantizeLinear(q, s, zero)
        d = DequantizeLinear(q, s, zero)
        z = Mul(d, four)
    }";
    let session = engine.prepare(&parsed(19, graph), &["y".to_owned()]).expect("prepares");
    let mut tapped = None;
    let feeds = vec![("x".to_owned(), Tensor::vector(x))];
    let out = session.run(&feeds, &mut |_, t| tapped = t.to_f32()).expect("runs");
    let values = |i: usize| out[i].to_f32().expect("floats");
    assert_eq!(tapped, Some(values(0)));
    assert!(values(0).iter().zip(values(1)).all(|(y, z)| 4.0 * y == z));
    values(0)
}

#[test]
fn fp8_activations_are_rounded_as_their_codes() {
    let x = [0.0, 8.4, 8.5, 9.5, -1000.0, 224.0, 0.0004, 0.001];
    let want = [0.0, 8.0, 8.0, 10.0, -224.0, 224.0, 0.0, 0.000_976_562_5];
    assert_eq!(fp8(&TractEngine, &x), want);
}

#[test]
fn weights_of_types_that_tract_lacks_run_in_float() {
    let model = parsed(
        21,
        "g (float[1, 4] x) => (float[1, 2] y)
         <int4[4, 2] w = {1, -8, 2, 7, 3, 0, -4, 5}, float[2, 2] s = {0.5, 1, 2, 4}>
         { d = DequantizeLinear<axis = 0, block_size = 2>(w, s) y = MatMul (x, d) }",
    );
    let session = TractEngine.prepare(&model, &["d".to_owned()]).expect("prepares");
    let feeds = vec![("x".to_owned(), Tensor::of(&[1, 4], &[1.0f32, 1.0, 1.0, 1.0]))];
    let mut weight = None;
    let out = session.run(&feeds, &mut |_, t| weight = t.to_f32()).expect("runs");
    assert_eq!(weight, Some(vec![0.5, -8.0, 1.0, 7.0, 6.0, 0.0, -8.0, 20.0]));
    assert_eq!(out[0].to_f32(), Some(vec![-0.5, 19.0]));
}

#[test]
fn long_models_run_in_parts() {
    // What tract must know before it runs is computed before the first cut and read after it.
    let mut body = "axis = Identity (one) end = Identity (two) factor = Identity (three)
                    size = Shape (x) rest = Slice (size, one, two) v0 = Neg (x)"
        .to_owned();
    for i in 1..1301 {
        body += &format!(" v{i} = Neg (v{})", i - 1);
    }
    body += " s = Slice (v1300, one, end, axis) m = Mul (s, factor)
              e = Concat <axis = 0> (one, rest) o = ConstantOfShape (e) y = Add (m, o)";
    let text = format!(
        "<ir_version: 8, opset_import: [\"\": 17]> g (float[1,3] x) => (float[1,3] y)
         <int64[1] one = {{1}}, int64[1] two = {{2}}, float three = {{3}}> {{ {body} }}"
    );
    let model = onnx::text::parse(&text).expect("valid text");
    let session = TractEngine.prepare(&model, &["v700".to_owned()]).expect("prepares");
    let mut tapped = Vec::new();
    let x = Tensor::of(&[1, 3], &[1.0f32, 2.0, 3.0]);
    let out = session.run(&vec![("x".into(), x)], &mut |_, t| tapped.push(t)).expect("runs");
    assert_eq!(tapped[0].to_f32(), Some(vec![-1.0, -2.0, -3.0]));
    assert_eq!(out[0].to_f32(), Some(vec![-6.0; 3]), "minus two, times three, broadcast");
}

#[test]
fn wrong_feeds_are_named() {
    let model = onnx::load(&fixture("models/resnet8.onnx")).expect("loads");
    let session = TractEngine.prepare(&model, &[]).expect("prepares");
    let run = |name: &str, t: Tensor| {
        let feeds = vec![(name.to_owned(), t)];
        session.run(&feeds, &mut |_, _| {}).expect_err("does not fit").to_string()
    };
    let shape = run("input", Tensor::of(&[1, 28, 28], &[0f32; 784]));
    assert!(shape.contains("float[batch,1,28,28]") && shape.contains("float[1,28,28]"), "{shape}");
    let name = run("image", images(1));
    assert!(name.contains("\"image\"") && name.contains("input float[batch,1,28,28]"), "{name}");
    let dtype = run("input", Tensor::of(&[1, 1, 28, 28], &[0u8; 784]));
    assert!(dtype.contains("uint8[1,1,28,28]"), "{dtype}");
}

#[test]
fn unknown_operators_are_named() {
    let mut model = onnx::load(&fixture("models/resnet8.onnx")).expect("loads");
    let op = model.graph.order()[3];
    model.graph.edit_op(op).domain = "my.domain".into();
    let label = model.graph.label(op);
    match TractEngine.prepare(&model, &[]).map(drop) {
        Err(e @ EngineError::Unsupported { .. }) => {
            let text = e.to_string();
            assert!(text.contains(&label) && text.contains("--engine ort"), "{text}");
        }
        other => panic!("{other:?}"),
    }
}

fn eval(op: &Op, operands: &[&Tensor]) -> Option<Vec<Tensor>> {
    let operands: Vec<Option<&Tensor>> = operands.iter().map(|t| Some(*t)).collect();
    eval_op(op, 17, &operands, 1 << 20)
}

#[test]
fn single_ops_fold() {
    let a = Tensor::of(&[2, 2], &[1f32, 2.0, 3.0, 4.0]);
    let sum = eval(&Op::new("Add"), &[&a, &Tensor::scalar(1f32)]).expect("folds");
    assert_eq!(sum, [Tensor::of(&[2, 2], &[2f32, 3.0, 4.0, 5.0])]);
    let shape = eval(&Op::new("Shape"), &[&a]).expect("folds");
    assert_eq!(shape, [Tensor::vector(&[2i64, 2])]);
    let t = eval(&Op::new("Transpose").with("perm", vec![1i64, 0]), &[&a]).expect("folds");
    assert_eq!(t, [Tensor::of(&[2, 2], &[1f32, 3.0, 2.0, 4.0])]);
    let cast = eval(&Op::new("Cast").with("to", 7i64), &[&a]).expect("folds");
    assert_eq!(cast, [Tensor::of(&[2, 2], &[1i64, 2, 3, 4])]);
}

#[test]
fn folding_declines_what_it_must() {
    let ints = Tensor::of(&[2, 2], &[1i64, 2, 3, 4]);
    let bf16 = Tensor::new(DType::BF16, vec![1], Bytes::from_static(&[0, 0])).expect("length");
    let huge = Tensor::vector(&[1i64 << 40]);
    assert_eq!(eval(&Op::new("MatMul"), &[&ints, &ints]).map(|_| ()), None, "tract panics");
    assert_eq!(eval(&Op::new("Abs"), &[&bf16]), None);
    assert_eq!(eval(&Op::new("ConstantOfShape"), &[&huge]), None);
    assert_eq!(eval(&Op::new("RandomNormalLike"), &[&ints]), None);
    assert_eq!(eval(&Op::new("NoSuchOp"), &[&ints]), None);
    let none = Tensor::of(&[2, 0], &[0f32; 0]);
    let celu = Op::new("Celu").with("alpha", 0.5f32);
    assert_eq!(eval(&celu, &[&Tensor::of(&[1], &[-1f32])]), None, "tract forgets alpha");
    let max = Op::new("ReduceMax").with("axes", vec![1i64]);
    assert_eq!(eval(&max, &[&none]), None, "tract starts from the least finite number");
}

fn test_images() -> DataOptions {
    DataOptions {
        data: vec![fixture("data/test-1000-images-idx3-ubyte").display().to_string()],
        labels: Some(fixture("data/test-1000-labels-idx1-ubyte")),
        mean: vec![0.2860],
        std: vec![0.3530],
        ..DataOptions::default()
    }
}

#[test]
fn fixture_models_are_as_accurate_as_their_readme_says() {
    for (name, want) in MODELS.iter().zip([0.906, 0.908, 0.857]) {
        let model = onnx::load(&fixture(&format!("models/{name}.onnx"))).expect("loads");
        let source = data::open(&test_images(), &model, 0).expect("opens");
        let found = evaluate(&model, &TractEngine, &*source, &|_| {}).expect("runs");
        assert_eq!(found.samples, 1000);
        assert!((found.top1 - want).abs() < 0.0015, "{name}: {}", found.top1);
    }
}

#[test]
fn data_that_do_not_fit_are_explained() {
    let model = onnx::load(&fixture("models/resnet8.onnx")).expect("loads");
    let fails = |options: DataOptions| {
        data::open(&options, &model, 0).map(drop).expect_err("does not fit").to_string()
    };
    let good = test_images();
    let text = fails(DataOptions { data: vec![format!("image={}", good.data[0])], ..good.clone() });
    assert!(text.contains("\"image\"") && text.contains("input float[batch,1,28,28]"), "{text}");
    let labels = good.data[0].clone();
    let text = fails(DataOptions { labels: Some(labels.into()), ..good.clone() });
    assert!(text.contains("list of integers"), "{text}");
    let crop = DataOptions { crop: "32".parse().ok(), ..good.clone() };
    let text = fails(crop);
    assert!(text.contains("float[batch,1,28,28]") && text.contains("32"), "{text}");
    let text = fails(DataOptions { data: vec!["no-such.npy".into()], ..good.clone() });
    assert!(text.contains("cannot read no-such.npy"), "{text}");
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").to_owned();
    let text = fails(DataOptions { data: vec![manifest], ..good });
    assert!(text.contains("neither .npy"), "{text}");
}

/// A float array of zeros as a .npy file.
fn npy(dims: &[usize]) -> Vec<u8> {
    let shape: String = dims.iter().map(|d| format!("{d}, ")).collect();
    let header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape})}}\n");
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.bytes());
    file.extend(vec![0; 4 * dims.iter().product::<usize>()]);
    file
}

#[test]
fn samples_may_be_batches_of_the_fixed_size() {
    let text = "<ir_version: 8, opset_import: [\"\" : 17]> g (float[2, 3] x) => (float[2, 3] y) {
        y = Relu (x) }";
    let model = onnx::text::parse(text).expect("valid text");
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("x.npy");
    for (dims, runs, batch) in [(vec![4, 3], 2, 2), (vec![5, 2, 3], 5, 1)] {
        std::fs::write(&path, npy(&dims)).expect("writes");
        let data = vec![path.display().to_string()];
        let source =
            data::open(&DataOptions { data, ..Default::default() }, &model, 0).expect("opens");
        assert_eq!((source.len(), source.batch()), (runs, batch));
        let feeds = source.get(runs - 1).expect("reads");
        assert_eq!(feeds[0].1.dims(), [2, 3]);
    }
}

#[test]
fn random_samples_are_the_same_each_time_and_in_range() {
    let model = onnx::load(&fixture("models/resnet8.onnx")).expect("loads");
    let bind = vec![("batch".to_owned(), 3)];
    let a = Synthetic::new(&model, 2, 7, &bind).expect("makes");
    let b = Synthetic::new(&model, 5, 7, &bind).expect("makes");
    assert_eq!(a.get(1).expect("makes"), b.get(1).expect("makes"));
    assert_ne!(a.get(0).expect("makes"), a.get(1).expect("makes"));
    assert_eq!(a.get(0).expect("makes")[0].1.dims(), [3, 1, 28, 28]);
}

#[test]
fn comparison_tells_rounding_from_damage() {
    let model = onnx::load(&fixture("models/resnet8.onnx")).expect("loads");
    let random = Synthetic::new(&model, 3, 1, &[]).expect("makes");
    let check = |other: &Model, semantics| {
        compare(&model, other, &TractEngine, &random, 3, semantics, &|_| {})
    };
    let same = check(&model, Semantics::Exact);
    assert_eq!(same.verdict, Verdict::Agree);
    assert!(same.outputs[0].bit_equal && same.outputs[0].top1 == Some(1.0));
    let mut damaged = model.clone();
    let weight = damaged
        .graph
        .order()
        .into_iter()
        .find(|op| damaged.graph.op(*op).is("Conv"))
        .and_then(|op| damaged.graph.operand(op, 1))
        .expect("a weight");
    let scaled = |factor: f32| {
        let t = model.graph.const_tensor(weight).expect("constant");
        let v: Vec<f32> = t.to_f32().expect("floats").iter().map(|x| x * factor).collect();
        Tensor::of(t.dims(), &v)
    };
    damaged.graph.set_data(weight, scaled(1.0 + 1e-7));
    assert_eq!(check(&damaged, Semantics::Reassociates).verdict, Verdict::Agree);
    damaged.graph.set_data(weight, scaled(1.01));
    assert!(matches!(check(&damaged, Semantics::Exact).verdict, Verdict::Disagree(_)));
    assert_eq!(check(&damaged, Semantics::Lossy).verdict, Verdict::Reported);
    let output = damaged.graph.outputs()[0];
    damaged.graph.rename(output, "logits");
    assert!(matches!(check(&damaged, Semantics::Lossy).verdict, Verdict::Disagree(_)));
}

#[test]
fn local_functions_are_inlined_for_tract() {
    let path = fixture("passes/inline-functions/call.onnxtxt");
    let source = std::fs::read_to_string(path).expect("fixture");
    let model = onnx::text::parse(&source).expect("parses");
    let session = TractEngine.prepare(&model, &[]).expect("prepares");
    let feeds = vec![("x".to_owned(), Tensor::vector(&[1f32, -2.0]))];
    let out = session.run(&feeds, &mut |_, _| {}).expect("runs");
    assert_eq!(out[0], Tensor::vector(&[12f32, -24.0]));
    assert_eq!(out[1], Tensor::vector(&[3f32, -6.0]));
}

/// Runs every model under the folders in ZOO (separated by `:`) on random inputs and, where there
/// is one, on ONNX Runtime too; prints a line for each.
#[test]
#[ignore = "takes minutes and wants models: ZOO=folder:folder cargo test -- --ignored zoo"]
fn zoo_runs_and_agrees_with_onnxruntime() {
    let folders = std::env::var("ZOO").expect("ZOO names folders");
    let ort = lapidary::engine::by_name("ort").ok();
    let mut paths: Vec<PathBuf> = folders
        .split(':')
        .flat_map(|f| std::fs::read_dir(f).expect("a folder").flatten())
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|e| e == "onnx"))
        .collect();
    paths.sort();
    let mut mismatches = Vec::new();
    for path in paths {
        let start = std::time::Instant::now();
        let result = zoo_model(&path, ort.as_deref());
        println!("{}\t{:.1} s\t{result}", path.display(), start.elapsed().as_secs_f64());
        if result.starts_with("MISMATCH") {
            mismatches.push(path);
        }
    }
    assert!(mismatches.is_empty(), "{mismatches:?}");
}

fn zoo_model(path: &Path, ort: Option<&dyn Engine>) -> String {
    let model = match onnx::load(path) {
        Ok(model) => model,
        Err(e) => return format!("not loaded: {e}"),
    };
    let feeds = match Synthetic::new(&model, 1, 0, &[]).and_then(|s| s.get(0)) {
        Ok(feeds) => feeds,
        Err(e) => return format!("no inputs: {e}"),
    };
    let run = |engine: &dyn Engine| -> Result<Vec<Tensor>, EngineError> {
        engine.prepare(&model, &[])?.run(&feeds, &mut |_, _| {})
    };
    let ours = match run(&TractEngine) {
        Ok(ours) => ours,
        Err(e) => return format!("unsupported: {e}"),
    };
    let Some(ort) = ort else { return "runs".into() };
    let theirs = match run(ort) {
        Ok(theirs) => theirs,
        Err(e) => return format!("runs, but ONNX Runtime says: {e}"),
    };
    let (mut worst, mut largest) = (f64::INFINITY, 0f64);
    for (a, b) in ours.iter().zip(&theirs) {
        if a.dtype() != b.dtype() || a.dims() != b.dims() {
            return format!("MISMATCH {}{:?} is {}{:?}", a.dtype(), a.dims(), b.dtype(), b.dims());
        }
        let (x, y) = (a.to_f64().expect("numbers"), b.to_f64().expect("numbers"));
        let (mut signal, mut noise) = (0.0, 0.0);
        for (x, y) in x.iter().zip(&y) {
            if x.to_bits() != y.to_bits() && !(x.is_nan() && y.is_nan()) {
                noise += (x - y) * (x - y);
                largest = largest.max((x - y).abs());
            }
            signal += y * y;
        }
        // NaN on one side only makes the noise NaN.
        if !noise.is_finite() {
            return format!("MISMATCH {noise}: not finite where the other is");
        }
        if noise > 0.0 {
            worst = worst.min(10.0 * (signal / noise).log10());
        }
    }
    // Random weights and inputs amplify rounding: 45 dB where ONNX Runtime is 69 dB off itself.
    let fine = worst >= 40.0 || largest <= 1e-5;
    format!("{} {worst:.0} dB, {largest:.1e}", if fine { "ok" } else { "MISMATCH" })
}
