use super::{OpsetError, convert_opset};
use crate::onnx::text;

/// The model as text after it was raised, spaces squeezed.
fn raised(model: &str, to: i64) -> Result<String, OpsetError> {
    let mut m = text::parse(model).expect("valid text");
    convert_opset(&mut m, to)?;
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
    let error = convert_opset(&mut m, 13).expect_err("scales are not known");
    assert!(error.to_string().contains("Resize"), "{error}");
    assert_eq!(m.default_opset(), 10);
    let mut m = text::parse(&model(7, "float[2] x", "y = Relu (x)")).expect("valid text");
    assert_eq!(convert_opset(&mut m, 99), Err(OpsetError::Version { from: 7, to: 99 }));
    assert_eq!(convert_opset(&mut m, 6), Err(OpsetError::Version { from: 7, to: 6 }));
    for (from, to, inputs, body, what) in [
        (18, 17, "int32[2] x", "y = BitwiseNot (x)", "came with version 18"),
        (14, 13, "int32[2] x", "y = Relu (x)", "cannot be int32"),
        (13, 12, "float[2] x, int64[1] a", "y = Unsqueeze (x, a)", "axes are not constant"),
        (
            16,
            15,
            "float[3] x, int64[1,1] i, float[1] u",
            "y = ScatterND <reduction = \"add\"> (x, i, u)",
            "reduction came with version 16",
        ),
        (20, 19, "float[1,1,2,2,2] x, float[1,1,1,1,3] i", "y = GridSample (x, i)", "planes"),
    ] {
        let mut m = text::parse(&model(from, inputs, body)).expect(body);
        let error = convert_opset(&mut m, to).expect_err(what).to_string();
        assert!(error.contains(what) && error.contains("-> y"), "{what}: {error}");
    }
}

#[test]
fn operands_become_attributes() {
    let constant = |name: &str, v: &str| format!("{name} = Constant <value = int64[1] {{{v}}}> ()");
    let axes = constant("a", "-1");
    for (from, to, inputs, body, want) in [
        (
            13,
            12,
            "float[2] x",
            format!("{axes} y = Unsqueeze (x, a)"),
            "Unsqueeze <axes = [-1]> (x)",
        ),
        (
            13,
            10,
            "float[2] x",
            format!("{axes} y = Unsqueeze (x, a)"),
            "Unsqueeze <axes = [1]> (x)",
        ),
        (
            18,
            13,
            "float[2,3] x",
            format!("{axes} y = ReduceMean (x, a)"),
            "ReduceMean <axes = [-1]> (x)",
        ),
        (
            18,
            17,
            "float[5] x",
            "y, z = Split <num_outputs = 2> (x)".to_owned(),
            "Split (x, y_split)",
        ),
        (13, 11, "float[2,3] x", "y = Softmax (x)".to_owned(), "Softmax <axis = 1> (x)"),
        (
            13,
            11,
            "float[2,3,4] x",
            "y = Softmax <axis = 1> (x)".to_owned(),
            "y_turned = Transpose <perm = [0, 2, 1]> (x)",
        ),
        (14, 13, "float[2] x", "y = HardSwish (x)".to_owned(), "HardSigmoid"),
        (17, 16, "float[2,3] x, float[3] s", "y = LayerNormalization (x, s)".to_owned(), "Sqrt"),
    ] {
        let text = raised(&model(from, inputs, &body), to).expect(&body);
        let plain = text.replace(": ints", "").replace(": int", "");
        assert!(plain.contains(want), "{want} not in {text}");
    }
}

#[test]
fn the_ir_version_follows() {
    let text = model(23, "float[2] x", "y = Relu (x)").replace("ir_version: 4", "ir_version: 11");
    let mut m = text::parse(&text).expect("valid text");
    convert_opset(&mut m, 13).expect("is lowered");
    assert_eq!((m.ir_version, m.default_opset()), (7, 13));
    convert_opset(&mut m, 27).expect("is raised");
    assert_eq!((m.ir_version, m.default_opset()), (13, 27));
}

#[test]
fn raising_leaves_a_later_model() {
    let mut m = text::parse(&model(17, "float[2] x", "y = Relu (x)")).expect("valid text");
    super::raise_opset(&mut m, 13).expect("nothing to do");
    assert_eq!(m.default_opset(), 17);
}

/// Attributes that end with a version, and what an adapter must therefore take care of.
#[test]
fn no_attribute_is_lost_without_an_adapter() {
    for schema in crate::ops::schemas() {
        let all = crate::ops::versions::versions(schema.op_type);
        for pair in all.windows(2).filter(|p| p[0].since >= 6 && !p[1].deprecated) {
            let gone = |a: &&crate::ops::versions::Attribute| pair[1].attribute(a.name).is_none();
            if let Some(attr) = pair[0].attributes.iter().find(gone) {
                let handled = super::adapters::find(schema.op_type, pair[1].since).is_some();
                assert!(handled, "{} {}: {}", schema.op_type, pair[1].since, attr.name);
            }
        }
    }
}

#[test]
fn a_domain_that_is_named_twice_is_named_once_afterwards() {
    let mut m = text::parse(&model(17, "float[2] x", "y = Relu (x)")).expect("valid text");
    m.opsets.push(("com.acme".to_owned(), 1));
    m.opsets.push((String::new(), 17));
    convert_opset(&mut m, 13).expect("older");
    assert_eq!(m.opsets, [(String::new(), 13), ("com.acme".to_owned(), 1)]);
}
