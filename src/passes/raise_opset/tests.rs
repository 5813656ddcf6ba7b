use super::{RaiseError, raise_opset};
use crate::onnx::text;

/// The model as text after it was raised, spaces squeezed.
fn raised(model: &str, to: i64) -> Result<String, RaiseError> {
    let mut m = text::parse(model).expect("valid text");
    raise_opset(&mut m, to)?;
    m.graph.check().expect("invariants");
    let printed = text::print(&m, &text::PrintOptions::default());
    Ok(printed.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn model(opset: i64, inputs: &str, body: &str) -> String {
    format!(
        "<ir_version: 4, opset_import: [\"\": {opset}]> g ({inputs}) => (float[] y) {{ {body} }}"
    )
}

#[test]
fn attributes_become_operands() {
    for (opset, to, inputs, body, want) in [
        (4, 7, "float[2,3] x", "y = Reshape <shape = [6]> (x)", "y = Reshape (x, y_shape)"),
        (
            6,
            13,
            "float[2,3,4,5] x, float[3] b",
            "y = Add <axis = 1, broadcast = 1> (x, b)",
            "y_aligned = Unsqueeze (b, y_aligned_axes) y = Add (x, y_aligned)",
        ),
        (11, 13, "float[2] x", "y = Unsqueeze <axes = [0]> (x)", "y = Unsqueeze (x, y_axes)"),
        (11, 18, "float[2,2] x", "y = ReduceMean <axes = [1]> (x)", "y = ReduceMean (x, y_axes)"),
        (
            9,
            10,
            "float[4] x",
            "y = Slice <starts = [1], ends = [3]> (x)",
            "y = Slice (x, y_starts, y_ends)",
        ),
        (10, 11, "float[4] x", "y = Clip <min = 0.0, max = 6.0> (x)", "y = Clip (x, y_min, y_max)"),
        (10, 11, "float[4] x", "y = Clip <max = 6.0> (x)", "y = Clip (x, \"\", y_max)"),
        (12, 18, "float[4] x", "y, z = Split (x)", "y, z = Split <num_outputs = 2> (x)"),
    ] {
        let text = raised(&model(opset, inputs, body), to).expect(body);
        let plain = text.replace(": int", "");
        assert!(plain.contains(want), "{want} not in {text}");
    }
}

#[test]
fn softmax_keeps_its_meaning() {
    let last = raised(&model(11, "float[2,3] x", "y = Softmax (x)"), 13).expect("convertible");
    assert!(!last.contains("Flatten"), "{last}");
    let spread = raised(&model(11, "float[2,3,4] x", "y = Softmax (x)"), 13).expect("convertible");
    assert!(spread.contains("Flatten") && spread.contains("Reshape"), "{spread}");
    let ones = raised(&model(11, "float[2,3,1,1] x", "y = Softmax (x)"), 13).expect("convertible");
    assert!(!ones.contains("Flatten"), "{ones}");
}

#[test]
fn refusals_name_the_operator() {
    let mut m = text::parse(&model(10, "float[1,1,2,2] x, float[4] s", "y = Resize (x, s)"))
        .expect("valid text");
    let error = raise_opset(&mut m, 13).expect_err("scales are not known");
    assert!(error.to_string().contains("Resize"), "{error}");
    assert_eq!(m.default_opset(), 10);
    let mut m = text::parse(&model(7, "float[2] x", "y = Relu (x)")).expect("valid text");
    assert_eq!(raise_opset(&mut m, 99), Err(RaiseError::Version { from: 7, to: 99 }));
}

#[test]
fn a_later_model_stays() {
    let mut m = text::parse(&model(17, "float[2] x", "y = Relu (x)")).expect("valid text");
    raise_opset(&mut m, 13).expect("nothing to do");
    assert_eq!(m.default_opset(), 17);
}
