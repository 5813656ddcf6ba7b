use super::{EditOptions, ExtractOptions, SurgeryError, edit, extract};
use crate::ir::{Graph, Model, Tensor};
use crate::onnx::{self, text};

fn model(inputs: &str, outputs: &str, body: &str) -> Model {
    let text = format!(
        "<ir_version: 8, opset_import: [\"\": 17]> g ({inputs}) => ({outputs}) {{ {body} }}"
    );
    text::parse(&text).expect("valid text")
}

/// The model as text, spaces squeezed, after it went through a file.
fn printed(m: &Model) -> String {
    m.graph.check().expect("invariants");
    let (bytes, _) = onnx::to_bytes(m).expect("saves");
    let m = onnx::from_bytes(bytes, None).expect("loads");
    let printed = text::print(&m, &text::PrintOptions::default());
    printed.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|s| (*s).to_owned()).collect()
}

fn ports(g: &Graph) -> Vec<String> {
    let ty = |v| g.value(v).ty.as_ref().map(ToString::to_string).unwrap_or_default();
    let port = |v: &crate::ir::ValueId| format!("{} {}", g.value(*v).name(), ty(*v));
    g.inputs().iter().chain(g.outputs()).map(port).collect()
}

fn cut(m: &Model, inputs: &[&str], outputs: &[&str]) -> Result<Model, SurgeryError> {
    let mut part = m.clone();
    extract(&mut part, &ExtractOptions { inputs: names(inputs), outputs: names(outputs) })?;
    part.graph.check().expect("invariants");
    Ok(part)
}

fn edited(m: &Model, o: EditOptions) -> Result<Model, SurgeryError> {
    let mut m = m.clone();
    edit(&mut m, &o)?;
    m.graph.check().expect("invariants");
    Ok(m)
}

fn branches() -> Model {
    model(
        "float[N,4] x, float[N,4] u",
        "float[N,4] y, float[N,2] z",
        "a, b = Split <axis = 1> (x) c = Relu (a) d = Concat <axis = 1> (c, b) y = Add (d, u)
         z = Neg (b)",
    )
}

#[test]
fn a_part_has_the_types_that_inference_knows() {
    let part = cut(&branches(), &["c", "b"], &["d"]).expect("is cut");
    assert_eq!(ports(&part.graph), ["c float[N,2]", "b float[N,2]", "d float[N,4]"]);
    assert_eq!(part.graph.op_count(), 1);
    // An op of which one result is cut off and another is needed stays whole.
    let split = cut(&branches(), &["a", "x"], &["d"]).expect("is cut");
    assert!(printed(&split).contains("= Split"), "{}", printed(&split));
}

#[test]
fn what_does_not_cut_is_refused_with_the_path() {
    let error = cut(&branches(), &["c"], &["d"]).expect_err("b needs x").to_string();
    assert!(error.contains("\"x\"") && error.contains("Split -> a → Concat -> d"), "{error}");
    let error = cut(&branches(), &["c", "b", "u"], &["d"]).expect_err("u is no part").to_string();
    assert!(error.contains("no output depends on \"u\""), "{error}");
    let error = cut(&branches(), &["c"], &["nowhere"]).expect_err("no value").to_string();
    assert!(error.contains("nowhere"), "{error}");
}

#[test]
fn captured_values_are_followed_into_subgraphs() {
    let m = model(
        "bool p, float[4] x, float[4] u",
        "float[4] y",
        "a = Relu (x) b = Neg (u)
         y = If (p) <then_branch = t () => (float[4] r) { r = Add (a, b) },
                     else_branch = e () => (float[4] s) { s = Identity (a) }>",
    );
    let part = cut(&m, &["p", "a", "b"], &["y"]).expect("is cut");
    assert_eq!(ports(&part.graph), ["p bool[]", "a float[4]", "b float[4]", "y float[4]"]);
    assert!(cut(&m, &["p", "a"], &["y"]).is_err(), "b still needs u");
    assert!(printed(&part).contains("Add (a, b)"), "{}", printed(&part));
}

#[test]
fn outputs_can_be_chosen_and_added() {
    let only = EditOptions { set_outputs: names(&["d", "z"]), ..EditOptions::default() };
    let m = edited(&branches(), only).expect("is edited");
    assert_eq!(ports(&m.graph), ["x float[N,4]", "u float[N,4]", "d float[N,4]", "z float[N,2]"]);
    let more = EditOptions {
        add_outputs: names(&["c"]),
        remove_unused_inputs: true,
        ..EditOptions::default()
    };
    let m = edited(&branches(), more).expect("is edited");
    assert_eq!(m.graph.outputs().len(), 3);
    let unused = EditOptions {
        set_outputs: names(&["z"]),
        remove_unused_inputs: true,
        ..EditOptions::default()
    };
    let m = edited(&branches(), unused).expect("is edited");
    assert_eq!(ports(&m.graph), ["x float[N,4]", "z float[N,2]"]);
}

fn shaped(m: &Model, shapes: &[&str], dims: &[&str]) -> Result<Model, SurgeryError> {
    let o =
        EditOptions { input_shape: names(shapes), set_dim: names(dims), ..EditOptions::default() };
    edited(m, o)
}

#[test]
fn a_dim_is_fixed_wherever_its_name_stands() {
    let m = shaped(&branches(), &[], &["N=3"]).expect("is fixed");
    assert_eq!(ports(&m.graph), ["x float[3,4]", "u float[3,4]", "y float[3,4]", "z float[3,2]"]);
    assert!(!printed(&m).contains("[N"), "{}", printed(&m));
    let by_shape = shaped(&branches(), &["x:3,?"], &[]).expect("is fixed");
    assert_eq!(ports(&by_shape.graph), ports(&m.graph));
    let named = shaped(&branches(), &["x:batch,4"], &[]).expect("is named");
    assert_eq!(ports(&named.graph)[2], "y float[batch,4]");
}

#[test]
fn wrong_shapes_are_refused() {
    for (shapes, dims, what) in [
        (&["x:0,4"][..], &[][..], "size of 0"),
        (&["x:1,4,4"], &[], "rank 2"),
        (&["x:1,4", "u:2,4"], &[], "both 1 and 2"),
        (&["nowhere:1"], &[], "nowhere"),
        (&["4,4"], &[], "INPUT:DIM"),
        (&["x:1,-1"], &[], "positive"),
        (&["x:N,8"], &[], "Add -> y"),
        (&[], &["M=2"], "\"M\""),
        (&[], &["N=0"], "size of 0"),
    ] {
        let error = shaped(&branches(), shapes, dims).expect_err(what).to_string();
        assert!(error.contains(what), "{what}: {error}");
    }
}

#[test]
fn a_fixed_size_opens_only_where_other_sizes_work() {
    let pool = model("float[1,3,8,8] x", "float[1,3,1,1] y", "y = GlobalAveragePool (x)");
    let m = shaped(&pool, &["1,3,h,w"], &[]).expect("opens");
    assert_eq!(ports(&m.graph), ["x float[1,3,h,w]", "y float[1,3,1,1]"]);
    let flat = model(
        "float[1,3,8,8] x",
        "float[1,192] y",
        "s = Constant <value_ints = [1, 192]> () y = Reshape (x, s)",
    );
    let error = shaped(&flat, &["1,3,h,8"], &[]).expect_err("192 is written out").to_string();
    assert!(error.contains("Reshape -> y") && error.contains("h = 16"), "{error}");
}

#[test]
fn names_can_be_swapped_and_never_collide() {
    let rename = |entries: &[&str]| {
        edited(&branches(), EditOptions { rename: names(entries), ..EditOptions::default() })
    };
    let m = rename(&["x=u", "u=x", "y=logits"]).expect("is renamed");
    assert_eq!(ports(&m.graph)[..3], ["u float[N,4]", "x float[N,4]", "logits float[N,4]"]);
    assert!(printed(&m).contains("Split <axis: int = 1> (u)"), "{}", printed(&m));
    for (entries, what) in [
        (&["x=u"][..], "another value"),
        (&["x=q", "u=q"], "two values"),
        (&["x=q", "x=r"], "twice"),
        (&["nothing=q"], "nothing"),
        (&["x"], "OLD=NEW"),
    ] {
        let error = rename(entries).expect_err(what).to_string();
        assert!(error.contains(what), "{error}");
    }
    let dims = EditOptions { rename_dim: names(&["N=batch"]), ..EditOptions::default() };
    assert_eq!(ports(&edited(&branches(), dims).expect("is renamed").graph)[0], "x float[batch,4]");
}

#[test]
fn nodes_get_names_of_their_own() {
    let mut m = branches();
    let first = m.graph.order()[0];
    m.graph.edit_op(first).name = "Relu_0".to_owned();
    let m = edited(&m, EditOptions { name_nodes: true, ..EditOptions::default() }).expect("named");
    let names: Vec<&str> = m.graph.order().iter().map(|op| m.graph.op(*op).name.as_str()).collect();
    assert_eq!(names, ["Relu_0", "Relu_1", "Concat_0", "Add_0", "Neg_0"]);
}

fn opened(m: &Model) -> Result<Model, SurgeryError> {
    edited(m, EditOptions { dynamic_batch: Some("n".to_owned()), ..EditOptions::default() })
}

#[test]
fn a_batch_opens_where_samples_stay_apart() {
    let m = model(
        "float[1,4,6] x",
        "float[1,24] y",
        "s = Constant <value_ints = [4, 3, 2]> () t = Constant <value_ints = [1, 24]> ()
         c = Constant <value = float[1,4,6] {0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0,
             10.0, 11.0, 12.0, 13.0, 14.0, 15.0, 16.0, 17.0, 18.0, 19.0, 20.0, 21.0, 22.0, 23.0}> ()
         a = Add (x, c) b = Reshape (a, s) d = Transpose <perm = [0, 2, 1]> (b) y = Reshape (d, t)",
    );
    let m = opened(&m).expect("opens");
    assert_eq!(ports(&m.graph), ["x float[n,4,6]", "y float[n,24]"]);
    let joined = model(
        "float[1,4,6] x",
        "float[1,5,6] y",
        "c = Constant <value = float[1,1,6] {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}> ()
         y = Concat <axis = 1> (c, x)",
    );
    let m = opened(&joined).expect("opens");
    assert_eq!(ports(&m.graph), ["x float[n,4,6]", "y float[n,5,6]"]);
    assert!(printed(&m).contains("Expand"), "{}", printed(&m));
}

#[test]
fn a_batch_stays_closed_where_samples_meet() {
    for (body, what) in [
        ("y = Softmax <axis = 0> (x)", "mixes samples"),
        ("y = ReduceMean <axes = [0]> (x)", "mixes samples"),
        ("s = Constant <value_ints = [0]> () y = Gather <axis = 0> (x, s)", "picks"),
        ("c = Constant <value = float[2,1] {1.0, 2.0}> () y = Mul (x, c)", "for each sample"),
        ("t = Transpose (x) y = MatMul (t, x)", "sums over samples"),
        ("y = Concat <axis = 0> (x, x)", "mixes samples"),
        ("y = custom.Op (x)", "not known"),
        ("c = Shape (x) f = Cast <to = 1> (c) y = ReduceMax (f)", "number of samples"),
    ] {
        let text = format!(
            "<ir_version: 8, opset_import: [\"\": 17, \"custom\": 1]>
             g (float[2,3] x) => (float[] y) {{ {body} }}"
        );
        let m = text::parse(&text).expect(body);
        let error = opened(&m).expect_err(body).to_string();
        assert!(error.contains(what), "{body}: {error}");
    }
}

#[test]
fn an_input_becomes_a_constant() {
    let m = model(
        "float[2] x, bool p, int64[n] k, float16 h",
        "float[2] y, int64[n] l, float16 g",
        "y = If (p) <then_branch = t () => (float[2] r) { r = Neg (x) },
                     else_branch = e () => (float[2] s) { s = Identity (x) }>
         l = Neg (k) g = Neg (h)",
    );
    let set = |entries: &[&str]| {
        edited(&m, EditOptions { set_input: names(entries), ..EditOptions::default() })
    };
    let done = set(&["p=true", "k=3,4,5", "h=0.5"]).expect("is fixed");
    assert_eq!(ports(&done.graph)[0], "x float[2]");
    let k = done.graph.find_value("k").and_then(|v| done.graph.const_tensor(v));
    assert_eq!(k.and_then(Tensor::to_i64), Some(vec![3, 4, 5]));
    let filled = set(&["x=7"]).expect("one value fills it");
    let x = filled.graph.find_value("x").and_then(|v| filled.graph.const_tensor(v));
    assert_eq!(x.and_then(Tensor::to_f32), Some(vec![7.0, 7.0]));
    for (entry, what) in [
        ("p=maybe", "no bool"),
        ("x=1,2,3", "[2], and 3 values"),
        ("k=1.5", "no int64"),
        ("y=1", "no input"),
        ("z=1", "no value called"),
        ("p", "INPUT=VALUE"),
    ] {
        let error = set(&[entry]).expect_err(what).to_string();
        assert!(error.contains(what), "{entry}: {error}");
    }
}
