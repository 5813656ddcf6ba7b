use super::*;
use crate::onnx::text;

fn model(body: &str) -> Model {
    let head = "<ir_version: 9, opset_import: [\"\" : 17]>";
    text::parse(&format!("{head}\n{body}")).expect("the text parses")
}

const CHAIN: &str = "m (float[1,4] x) => (float[1,4] y)
    <float[4,4] w = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16}, float[4] b = {1,2,3,4}> {
        [first] h = MatMul (x, w)
        [second] i = Add (h, b)
        [third] y = Relu (i)
    }";

fn kinds(d: &Diff) -> Vec<(Kind, &str)> {
    d.graphs[0].nodes.iter().map(|n| (n.kind, n.name())).collect()
}

#[test]
fn a_model_equals_itself_whatever_its_inner_values_are_called() {
    let a = model(CHAIN);
    let b = model(&CHAIN.replace(" h ", " hh ").replace("(h,", "(hh,"));
    let d = diff(&a, &b);
    assert!(d.is_empty(), "{d:?}");
    assert_eq!(d.count(Kind::Same), 3);
    assert!(diff(&a, &a).is_empty());
    assert_eq!(diff(&a, &a).effort, Effort { shared_bytes: 80, read_bytes: 0 });
}

#[test]
fn a_node_in_between_is_added_and_its_reader_rewired() {
    let b = CHAIN.replace("[third] y = Relu (i)", "[new] j = Tanh (i)\n [third] y = Relu (j)");
    let d = diff(&model(CHAIN), &model(&b));
    assert_eq!(
        kinds(&d),
        [
            (Kind::Same, "first"),
            (Kind::Same, "second"),
            (Kind::Added, "new"),
            (Kind::Changed, "third")
        ]
    );
    let change = Change::new("operand 0", "second".to_owned(), "new".to_owned());
    assert_eq!(d.graphs[0].nodes[3].changes, [change]);
    let back = diff(&model(&b), &model(CHAIN));
    assert_eq!((back.count(Kind::Removed), back.count(Kind::Changed)), (1, 1));
}

#[test]
fn numbered_names_do_not_mislead() {
    let block = |n: usize, from: &str, to: &str, w: &str| {
        format!("[MatMul_{n}] h{n} = MatMul ({from}, {w})\n[Relu_{}] {to} = Relu (h{n})\n", n + 1)
    };
    let weights = "<float[2,2] w1 = {1,2,3,4}, float[2,2] w2 = {5,6,7,8}, float[2,2] w3 = {9,8,7,6}, float[2,2] w4 = {0,1,0,1}>";
    let graph = |body: String| format!("m (float[1,2] x) => (float[1,2] y) {weights} {{ {body} }}");
    let a = graph(
        [block(0, "x", "p", "w1"), block(2, "p", "q", "w2"), block(4, "q", "y", "w3")].concat(),
    );
    let b = graph(
        [
            block(0, "x", "p", "w1"),
            block(2, "p", "r", "w4"),
            block(4, "r", "q", "w2"),
            block(6, "q", "y", "w3"),
        ]
        .concat(),
    );
    let d = diff(&model(&a), &model(&b));
    assert_eq!((d.count(Kind::Added), d.count(Kind::Removed)), (2, 0), "{:?}", kinds(&d));
    let pair =
        |n: &NodeDiff| Some((n.before.as_ref()?.name.clone(), n.after.as_ref()?.name.clone()));
    let pairs: Vec<_> = d.graphs[0].nodes.iter().filter_map(pair).collect();
    assert!(pairs.contains(&("MatMul_4".into(), "MatMul_6".into())), "{pairs:?}");
    assert!(d.graphs[0].nodes.iter().all(|n| n.weights.is_empty()));
}

#[test]
fn weights_attributes_and_types_are_compared() {
    let a = model(
        "m (float[1,1,4,4] x) => (float[1,1,3,3] y)
        <float[1,1,2,2] w = {1, 2, 3, 4}> {
            [conv] h = Conv <pads = [0, 0, 0, 0]> (x, w)
            [relu] y = Relu (h)
        }",
    );
    let b = model(
        "m (float[1,1,4,4] x) => (float[1,1,5,5] y)
        <float[1,1,2,2] w = {1, 2, 3, 5}> {
            [conv] h = Conv <pads = [1, 1, 1, 1]> (x, w)
            [relu] y = Relu (h)
        }",
    );
    let d = diff(&a, &b);
    assert_eq!(kinds(&d), [(Kind::Changed, "conv"), (Kind::Shape, "relu")]);
    let conv = &d.graphs[0].nodes[0];
    assert_eq!(conv.changes[0].what, "attribute pads");
    assert_eq!(conv.changes[0].after.as_deref(), Some("[1, 1, 1, 1]"));
    let elements = conv.weights[0].elements.as_ref().expect("elements differ");
    assert_eq!((elements.max_change, elements.max_value), (1.0, 4.0));
    assert!((elements.sqnr_db.expect("floats") - 10.0 * 30f64.log10()).abs() < 1e-9);
    assert_eq!(d.graphs[0].graph[0].what, "output y");
}

#[test]
fn subgraphs_are_compared_too() {
    let a = "m (bool c, float[2] x) => (float[2] y)
        <float[2] w = {1, 2}> {
            [choose] y = If (c) <
                then_branch = t () => (float[2] p) { [left] p = Add (x, w) },
                else_branch = e () => (float[2] q) { [right] q = Mul (x, w) }
            >
        }";
    assert!(diff(&model(a), &model(a)).is_empty());
    let d = diff(&model(a), &model(&a.replace("Mul", "Sub")));
    assert_eq!(kinds(&d), [(Kind::Changed, "choose")]);
    let body = d.graphs.iter().find(|g| g.path == "choose/else_branch").expect("a subgraph");
    assert_eq!(body.nodes.len(), 1);
    assert_eq!(body.nodes[0].changes[0].what, "operator");
}

#[test]
fn the_header_counts() {
    let a = model(CHAIN);
    let mut b = a.clone();
    b.opsets[0].1 = 18;
    b.metadata.push(("author".into(), "me".into()));
    let d = diff(&a, &b);
    let what: Vec<&str> = d.header.iter().map(|c| &c.what[..]).collect();
    assert_eq!(what, ["opset ai.onnx", "metadata author"]);
    assert!(!d.is_empty());
    b.opsets[0].1 = 17;
    assert!(diff_ignoring(&a, &b, Ignore { metadata: true }).is_empty());
}
