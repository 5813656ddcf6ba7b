//! `check`: what each target rejects, and that sound models pass.

use lapidary::onnx;
use lapidary::target::{Finding, Severity, Target, check, sarif};

fn findings(text: &str, target: &str) -> Vec<Finding> {
    let m = onnx::text::parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    check(&m, target.parse::<Target>().unwrap())
}

/// Ids of the findings about one op between `x` and `y`, notes left out.
#[track_caller]
fn ids(op: &str, input: &str, output: &str, constants: &str, target: &str) -> Vec<&'static str> {
    let text = format!(
        "<ir_version: 9, opset_import: [\"\" : 20, \"com.acme\" : 1, \"com.microsoft\" : 1,
          \"ai.onnx.ml\" : 3]>
         g ({input} x) => ({output} y) <{constants}> {{ y = {op} }}"
    );
    let found = findings(&text, target);
    assert!(found.iter().all(|f| !f.why.is_empty() && !f.fix.is_empty() && !f.node.is_empty()));
    found.into_iter().filter(|f| f.severity != Severity::Note).map(|f| f.id).collect()
}

const IMAGE: &str = "float[1, 3, 8, 8]";

#[test]
fn operators_that_the_version_has() {
    let rt = |op, target| ids(op, IMAGE, IMAGE, "", target);
    assert!(rt("Relu(x)", "tensorrt").is_empty());
    assert_eq!(rt("Det(x)", "tensorrt"), ["O1"]);
    assert!(rt("Gelu(x)", "tensorrt-10").is_empty());
    assert_eq!(rt("Gelu(x)", "tensorrt-8.6"), ["O1", "V1"]);
    assert_eq!(rt("com.acme.Fancy(x)", "tensorrt"), ["O3"]);
    assert_eq!(rt("com.microsoft.FusedConv(x)", "tensorrt"), ["O3"]);
    assert!(rt("Det(x)", "onnxruntime-cpu").is_empty());
    assert_eq!(rt("com.acme.Fancy(x)", "onnxruntime-cpu"), ["R1"]);
    assert!(rt("ai.onnx.ml.Binarizer(x)", "onnxruntime-cpu").is_empty());
    assert_eq!(rt("ai.onnx.ml.TreeEnsemble(x)", "onnxruntime-cpu"), ["R1"]);
}

#[test]
fn element_types() {
    let rt = |op, ty, target| ids(op, ty, ty, "", target);
    assert_eq!(rt("Neg(x)", "double[4]", "tensorrt"), ["D1"]);
    assert_eq!(rt("Neg(x)", "int16[4]", "tensorrt"), ["D1"]);
    assert_eq!(rt("Neg(x)", "int8[4]", "tensorrt"), ["D1"]);
    assert_eq!(rt("Sin(x)", "int64[4]", "tensorrt"), ["D2"]);
    assert!(rt("Neg(x)", "int64[4]", "tensorrt").is_empty());
    assert!(rt("Relu(x)", "float16[4]", "onnxruntime-cpu").is_empty());
    assert_eq!(rt("Softmax(x)", "bfloat16[4]", "onnxruntime-cpu"), ["R2"]);
}

#[test]
fn restrictions() {
    let rt = |op| ids(op, IMAGE, "float", "int64[1] axes = {1}", "tensorrt");
    for bad in [
        "MaxPool<kernel_shape = [2, 2], dilations = [2, 2]>(x)",
        "Resize<mode = \"nearest\", antialias = 1>(x, axes, axes)",
        "Resize<coordinate_transformation_mode = \"tf_crop_and_resize\">(x, axes, axes)",
        "TopK<sorted = 0>(x, axes)",
        "LpNormalization<p = 3>(x)",
    ] {
        assert!(rt(bad).contains(&"O2"), "{bad}: {:?}", rt(bad));
    }
    for good in [
        "MaxPool<kernel_shape = [2, 2]>(x)",
        "ReduceSum(x, axes)",
        "Squeeze(x, axes)",
        "LpNormalization<p = 1>(x)",
        "GridSample(x, x)",
    ] {
        assert!(rt(good).is_empty(), "{good}: {:?}", rt(good));
    }
    let text = "<ir_version: 9, opset_import: [\"\" : 20]>
        g (float[4, 4] x, int64[1] axes) => (float y) { y = ReduceSum(x, axes) }";
    let found = findings(text, "tensorrt");
    assert_eq!(found[0].id, "O2");
    assert_eq!(found[0].command, Some("simplify MODEL"));
}

#[test]
fn operator_sets_and_shapes() {
    let old = "<ir_version: 4, opset_import: [\"\" : 8]>
        g (float[n, 3] x) => (float[n, 3] y) { y = Relu(x) }";
    let found = findings(old, "tensorrt");
    let all: Vec<&str> = found.iter().map(|f| f.id).collect();
    assert_eq!(all, ["V1", "S3"]);
    assert!(found[0].command.is_some_and(|c| c.starts_with("convert")));
    let branches = "<ir_version: 9, opset_import: [\"\" : 20]>
        g (bool c, float[4] x) => (float y) <int64[1] s = {0}> {
            y = If <then_branch = t () => (float[4] a) { a = Neg(x) },
                    else_branch = e () => (float[1, 4] b) { b = Unsqueeze(x, s) }> (c)
        }";
    assert!(findings(branches, "tensorrt").iter().any(|f| f.id == "S4"));
    let nonzero = ids("NonZero(x)", "float[4]", "int64[1, k]", "", "tensorrt");
    assert_eq!(nonzero, ["S2"]);
}

/// Conv with an INT8 weight behind DequantizeLinear alone.
const QUANTIZED: &str = r#"<ir_version: 8, opset_import: ["" : 17]>
g (float[1, 2, 4, 4] x) => (float[1, 2, 4, 4] y)
<float s = {0.1}, int8 z = {0}, int8[2, 2, 1, 1] w = {1, 2, 3, 4}, float[2] ws = {0.1, 0.2}, int8[2] wz = {0, 0}>
{
    q = QuantizeLinear<axis = 0>(x, s, z)
    d = DequantizeLinear<axis = 0>(q, s, z)
    wd = DequantizeLinear<axis = 0>(w, ws, wz)
    y = Conv(d, wd)
}"#;

#[test]
fn precision_comes_from_flags_or_from_the_file() {
    let ids = |target| -> Vec<&str> { findings(QUANTIZED, target).iter().map(|f| f.id).collect() };
    assert_eq!(ids("tensorrt-11"), ["L17"]);
    assert_eq!(ids("tensorrt-8.6"), ["L13", "L17"]);
    assert!(ids("onnxruntime-cpu").is_empty());
}

#[test]
fn a_dla_takes_zero_points_with_a_flag_and_no_open_sizes() {
    let asymmetric = QUANTIZED.replace("int8 z = {0}", "uint8 z = {3}");
    let of = |text: &str, target: &str| -> Vec<(&str, Severity)> {
        findings(text, target).iter().map(|f| (f.id, f.severity)).collect()
    };
    let gpu = of(&asymmetric, "tensorrt-11");
    let dla = of(&asymmetric, "tensorrt-11-dla");
    for id in ["L1", "L2"] {
        assert!(gpu.contains(&(id, Severity::Error)), "{gpu:?}");
        assert!(dla.contains(&(id, Severity::Note)), "{dla:?}");
    }
    assert!(dla.iter().all(|f| f.1 == Severity::Note), "{dla:?}");
    let open = QUANTIZED.replace("float[1, 2, 4, 4] x", "float[n, 2, 4, 4] x");
    assert!(of(&open, "tensorrt-11").contains(&("S3", Severity::Note)));
    assert!(of(&open, "tensorrt-11-dla").contains(&("S3", Severity::Error)));
    for (version, knows) in [("8.6", true), ("10.7", true), ("10.8", false), ("11.3", false)] {
        let target = format!("tensorrt-{version}-dla");
        let found = of(QUANTIZED, &target);
        assert_eq!(!found.contains(&("V2", Severity::Error)), knows, "{version}: {found:?}");
    }
    let target: Target = "tensorrt-10.7-dla".parse().unwrap();
    assert_eq!(target.to_string(), "tensorrt-10.7-dla");
}

#[test]
fn float16_scales_are_no_good_for_onnx_runtime() {
    let half = QUANTIZED
        .replace("float[1, 2, 4, 4] x", "float16[1, 2, 4, 4] x")
        .replace("float[1, 2, 4, 4] y", "float16[1, 2, 4, 4] y")
        .replace("float s =", "float16 s =")
        .replace("float[2] ws", "float16[2] ws")
        .replace("\"\" : 17", "\"\" : 19");
    let ids: Vec<&str> = findings(&half, "onnxruntime-cpu").iter().map(|f| f.id).collect();
    assert_eq!(ids, ["R3"]);
}

#[test]
fn sarif_names_the_rules_it_uses() {
    let bad = QUANTIZED.replace("int8 z = {0}", "int8 z = {3}");
    let log = sarif(std::path::Path::new("m.onnx"), &findings(&bad, "tensorrt"));
    let run = &log["runs"][0];
    let results = run["results"].as_array().unwrap();
    assert_eq!(results[0]["ruleId"], "L1");
    for r in results {
        let index = r["ruleIndex"].as_u64().unwrap() as usize;
        assert_eq!(run["tool"]["driver"]["rules"][index]["id"], r["ruleId"]);
    }
    assert_eq!(results[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], "m.onnx");
}

#[test]
fn odd_targets_are_refused() {
    for text in ["", "tensorrt-9", "cuda", "onnxruntime", "tensorrt-"] {
        assert!(text.parse::<Target>().is_err(), "{text}");
    }
}
