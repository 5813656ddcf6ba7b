//! Shapes and costs of operators, family by family, on small graphs in ONNX text.

use crate::ir::{Atom, Dim, Graph};
use crate::onnx::text;
use crate::pass::infer_graph;

/// The graph of `body` with everything inferred. A contradiction fails the test.
fn graph(opset: i64, body: &str) -> Graph {
    let text = format!("<ir_version: 9, opset_import: [\"\" : {opset}]>\n{body}");
    let mut model = text::parse(&text).expect("the text parses");
    infer_graph(&mut model.graph, opset, &mut |op, what| panic!("{op}: {what}"));
    model.graph
}

/// Type of the value `name` as text.
fn ty(g: &Graph, name: &str) -> String {
    let v = g.find_value(name).expect("the value is there");
    g.value(v).ty.as_ref().map_or("?".to_owned(), |t| t.to_string())
}

/// Multiply-accumulates of the op that makes `name`.
fn macs(g: &Graph, name: &str) -> Option<Dim> {
    let op = g.find_value(name).and_then(|v| g.producer_op(v)).expect("an op makes it");
    (super::schema(g.op(op)).expect("it has a schema").macs)(g, op)
}

#[test]
fn convolutions() {
    let g = graph(
        17,
        "m (float[N,4,H,W] x, float[6,2,3,3] w, float[4,3,2,2] t) => (float[a,b,c,d] y) {
            y = Conv <group = 2, pads = [1, 1, 1, 1], strides = [2, 2]> (x, w)
            s = Conv <group = 2, auto_pad = \"SAME_UPPER\", strides = [2, 2]> (x, w)
            u = ConvTranspose <strides = [2, 2]> (x, t)
            p = ConvTranspose <strides = [3, 3], output_padding = [1, 0]> (x, t)
            o = ConvTranspose <output_shape = [9, 8]> (x, t)
        }",
    );
    assert_eq!(ty(&g, "y"), "float[N,6,floor((H + 1)/(2)),floor((W + 1)/(2))]");
    assert_eq!(ty(&g, "s"), ty(&g, "y"));
    assert_eq!(ty(&g, "u"), "float[N,3,2*H,2*W]");
    assert_eq!(ty(&g, "p"), "float[N,3,3*H,3*W - 1]");
    assert_eq!(ty(&g, "o"), "float[N,3,9,8]");
    let one = |a: &Atom| matches!(a, Atom::Name(_)).then_some(Dim::Known(8));
    let known = |name: &str| macs(&g, name).map(|m| m.substitute(&one));
    assert_eq!(known("y"), Some(Dim::Known(8 * 6 * 4 * 4 * 2 * 9)));
    assert_eq!(known("u"), Some(Dim::Known(8 * 4 * 64 * 3 * 4)));
}

#[test]
fn products() {
    let g = graph(
        17,
        "m (float[N,3] a, float[5,3] b, float[B,S,3] c, float[3,7] d) => (float[p,q] y) {
            y = Gemm <transB = 1> (a, b)
            z = MatMul (c, d)
            e = Einsum <equation = \"bsk,bsk->bs\"> (c, c)
        }",
    );
    assert_eq!(ty(&g, "y"), "float[N,5]");
    assert_eq!(ty(&g, "z"), "float[B,S,7]");
    assert_eq!(ty(&g, "e"), "float[B,S]");
    assert_eq!(macs(&g, "y").map(|d| d.to_string()), Some("15*N".into()));
    assert_eq!(macs(&g, "z").map(|d| d.to_string()), Some("21*B*S".into()));
    assert_eq!(macs(&g, "e").map(|d| d.to_string()), Some("3*B*S".into()));
}

#[test]
fn pools_and_norms() {
    let g = graph(
        17,
        "m (float[N,4,10,10] x, float[4] s) => (float[a,b,c,d] y) {
            y, i = MaxPool <kernel_shape = [3, 3], strides = [2, 2], ceil_mode = 1> (x)
            g = GlobalAveragePool (x)
            b = BatchNormalization (x, s, s, s, s)
            l, mean, inv = LayerNormalization <axis = 2> (x, s)
        }",
    );
    assert_eq!(ty(&g, "y"), "float[N,4,5,5]");
    assert_eq!(ty(&g, "i"), "int64[N,4,5,5]");
    assert_eq!(ty(&g, "g"), "float[N,4,1,1]");
    assert_eq!(ty(&g, "b"), "float[N,4,10,10]");
    assert_eq!(ty(&g, "mean"), "float[N,4,1,1]");
}

#[test]
fn resampling() {
    let g = graph(
        18,
        "m (float[N,3,H,W] x, float[N,5,6,2] grid) => (float[a,b,c,d] y)
        <float[4] up = {1, 1, 2, 1.5}, float[2] down = {0.5, 0.25}, int64[2] to = {7, 9}> {
            y = Resize (x, , up)
            d = Resize <axes = [2, 3]> (x, , down)
            s = Resize <axes = [3, 2]> (x, , , to)
            g = GridSample (x, grid)
        }",
    );
    assert_eq!(ty(&g, "y"), "float[N,3,2*H,floor((3*W)/(2))]");
    assert_eq!(ty(&g, "d"), "float[N,3,floor((H)/(2)),floor((W)/(4))]");
    assert_eq!(ty(&g, "s"), "float[N,3,9,7]");
    assert_eq!(ty(&g, "g"), "float[N,3,5,6]");
}

#[test]
fn recurrence_and_attention() {
    let g = graph(
        23,
        "m (float[S,B,10] x, float[2,80,10] w, float[2,80,20] r, float[B,Q,24] q, float[B,K,12] k,
            float[B,2,P,6] past) => (float[a,b,c,d] y) {
            y, h, c = LSTM <direction = \"bidirectional\", hidden_size = 20> (x, w, r)
            a, pk, pv = Attention <q_num_heads = 4, kv_num_heads = 2> (q, k, k, , past, past)
        }",
    );
    assert_eq!(ty(&g, "y"), "float[S,2,B,20]");
    assert_eq!(ty(&g, "h"), "float[2,B,20]");
    assert_eq!(macs(&g, "y").map(|d| d.to_string()), Some("4800*B*S".into()));
    assert_eq!(ty(&g, "a"), "float[B,Q,24]");
    assert_eq!(ty(&g, "pk"), "float[B,2,P + K,6]");
    assert_eq!(macs(&g, "a").map(|d| d.to_string()), Some("48*B*P*Q + 48*B*K*Q".into()));
}

#[test]
fn branches_that_differ_leave_sizes_open() {
    let g = graph(
        17,
        "m (bool p, float[N,4] x) => (float[a,b] y) {
            y = If (p) <
                then_branch = t () => (float[a,b] u) { u = Relu (x) },
                else_branch = e () => (float[a,b] v) { v = Concat <axis = 1> (x, x) }
            >
        }",
    );
    // The file names the size that inference does not know.
    assert_eq!(ty(&g, "y"), "float[N,b]");
}

#[test]
fn loops_carry_what_holds_of_every_round() {
    let g = graph(
        17,
        "m (float[N,4] x) => (float[a,b] grown, float[c,d] kept, float[e,f,g] stacked)
        <int64 trips = {5}, bool yes = {1}> {
            grown, kept, stacked = Loop (trips, yes, x, x) <
                body = b (int64 i, bool go, float[p,q] s, float[r,t] k)
                    => (bool on, float[u,v] s2, float[w,z] k2, float[a1,a2] out) {
                    on = Identity (go)
                    s2 = Concat <axis = 1> (s, k)
                    k2 = Relu (k)
                    out = Neg (k)
                }
            >
        }",
    );
    assert_eq!(ty(&g, "kept"), "float[N,4]");
    assert_eq!(ty(&g, "stacked"), "float[5,N,4]");
    assert!(ty(&g, "grown").starts_with("float[N,") && !ty(&g, "grown").contains('8'));
}

#[test]
fn sequences_and_quantization() {
    let g = graph(
        21,
        "m (float[N,4] x, float s, int8 z) => (float[a,b] y) {
            seq = SequenceConstruct (x, x)
            y = ConcatFromSequence <axis = 0> (seq)
            at = SequenceAt (seq, zero)
            zero = Constant <value = int64 {0}> ()
            q = QuantizeLinear (x, s, z)
            d = DequantizeLinear (q, s, z)
            u, us, uz = DynamicQuantizeLinear (x)
        }",
    );
    assert_eq!(ty(&g, "seq"), "seq(float[N,4])");
    assert_eq!(ty(&g, "at"), "float[N,4]");
    assert_eq!(ty(&g, "q"), "int8[N,4]");
    assert_eq!(ty(&g, "d"), "float[N,4]");
    assert_eq!(ty(&g, "us"), "float[]");
}

#[test]
fn contradictions_are_found() {
    for body in [
        "m (float[N,3,8,8] x, float[4,5,3,3] w) => (float[a] y) { y = Conv (x, w) }",
        "m (float[N,3] x, float[4,5] w) => (float[a] y) { y = MatMul (x, w) }",
        "m (float[N,3,2,2] x) => (float[a] y) { y = MaxPool <kernel_shape = [3, 3]> (x) }",
        "m (float[N,3] x) => (float[a] y) { y = LayerNormalization <axis = 2> (x, x) }",
    ] {
        let text = format!("<ir_version: 9, opset_import: [\"\" : 17]>\n{body}");
        let mut model = text::parse(&text).expect("the text parses");
        let mut found = 0;
        infer_graph(&mut model.graph, 17, &mut |_, _| found += 1);
        assert_eq!(found, 1, "{body}");
    }
}
