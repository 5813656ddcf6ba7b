//! Inference and kernels, on one-line models.

use super::{EvalCx, schema};
use crate::ir::{Graph, Tensor, Type};
use crate::onnx::text;
use crate::pass::infer_graph;

/// The graph of a model with inputs and initializers as given and `body` making `y`.
fn graph(opset: i64, inputs: &str, constants: &str, body: &str) -> Graph {
    let text = format!(
        "<ir_version: 8, opset_import: [\"\": {opset}]> g ({inputs}) => (y) <{constants}> {{ {body} }}"
    );
    text::parse(&text).expect("valid text").graph
}

/// Type of `y` as inference sees it, and its elements when they are known.
fn inferred(opset: i64, inputs: &str, constants: &str, body: &str) -> String {
    let mut g = graph(opset, inputs, constants, body);
    let mut findings = Vec::new();
    infer_graph(&mut g, opset, &mut |_, what| findings.push(what));
    if let Some(what) = findings.pop() {
        return format!("error: {what}");
    }
    let y = g.value(g.outputs()[0]);
    let ty = y.ty.as_ref().map_or("?".to_owned(), Type::to_string);
    let elements = y.sym.as_ref().map(|s| s.iter().map(|d| d.to_string()).collect::<Vec<_>>());
    ty + &elements.map_or(String::new(), |e| format!(" {{{}}}", e.join(", ")))
}

/// Rows of opset, inputs, constants, body and what is inferred.
type Row = (i64, &'static str, &'static str, &'static str, &'static str);

fn check(rows: &[Row]) {
    for (opset, inputs, constants, body, want) in rows {
        assert_eq!(inferred(*opset, inputs, constants, body), *want, "{body}");
    }
}

#[test]
fn elementwise_shapes() {
    check(&[
        (17, "float[N,1,3] a, float[4,1] b", "", "y = Add (a, b)", "float[N,4,3]"),
        (17, "float[N] a, float[5] b", "", "y = Mul (a, b)", "float[5]"),
        (
            17,
            "float[2] a, float[3] b",
            "",
            "y = Mul (a, b)",
            "error: sizes 2 and 3 do not broadcast",
        ),
        (
            6,
            "float[2,3] a, float[2] b",
            "",
            "y = Add <broadcast = 1, axis = 0> (a, b)",
            "float[2,3]",
        ),
        (17, "float[N] a, float[N] b", "", "y = Less (a, b)", "bool[N]"),
        (17, "int64[N] a", "", "y = Cast <to = 10> (a)", "float16[N]"),
        (17, "bool[1,3] c, float[2,1] a, float b", "", "y = Where (c, a, b)", "float[2,3]"),
        (17, "float[N,2] a, float[2] b, float[1] c", "", "y = Max (a, b, c)", "float[N,2]"),
    ]);
}

#[test]
fn shape_arithmetic_carries_symbols() {
    check(&[
        (17, "float[N,3,H] x", "", "y = Shape (x)", "int64[3] {N, 3, H}"),
        (17, "float[N,3,H] x", "", "y = Shape <start = -2> (x)", "int64[2] {3, H}"),
        (17, "float[N,3,H] x", "", "y = Size (x)", "int64[] {3*H*N}"),
        (
            17,
            "float[N,3,H] x",
            "int64 i = {2}, int64[1] two = {2}, int64[1] ax = {0}",
            "s = Shape (x) h = Gather (s, i) u = Unsqueeze (h, ax) y = Mul (u, two)",
            "int64[1] {2*H}",
        ),
        (
            17,
            "float[N,8] x",
            "int64[1] from = {0}, int64[1] to = {1}, int64[1] m = {-1}",
            "s = Shape (x) n = Slice (s, from, to) t = Concat <axis = 0> (n, m) y = Reshape (x, t)",
            "float[N,8]",
        ),
        (
            17,
            "float[N,8] x",
            "int64[1] m = {-1}",
            "s = Shape (x) k = ConstantOfShape <value = int64[1] {-1}> (two) e = Equal (s, k) \
             two = Shape (s) y = Where (e, k, s)",
            "int64[2] {N, 8}",
        ),
        (
            17,
            "float[N,8] x",
            "",
            "s = Shape (x) y = ReduceProd <keepdims = 0> (s)",
            "int64[] {8*N}",
        ),
        (
            17,
            "float[N] x",
            "int64 a = {0}, int64 d = {1}",
            "s = Size (x) y = Range (a, s, d)",
            "int64[N]",
        ),
    ]);
}

#[test]
fn reshapes() {
    check(&[
        (17, "float[N,7,7,64] x", "int64[2] s = {0, -1}", "y = Reshape (x, s)", "float[N,3136]"),
        (17, "float[N,6] x", "int64[3] s = {-1, 2, 3}", "y = Reshape (x, s)", "float[N,2,3]"),
        (
            17,
            "float[2,3] x",
            "int64[2] s = {4, 2}",
            "y = Reshape (x, s)",
            "error: 6 elements do not fill 8",
        ),
        (
            17,
            "float[0,3] x",
            "int64[2] s = {3, 0}",
            "y = Reshape <allowzero = 1> (x, s)",
            "float[3,0]",
        ),
        (4, "float[2,3] x", "", "y = Reshape <shape = [3, -1]> (x)", "float[3,2]"),
        (17, "float[N,2,3] x", "", "y = Flatten <axis = 2> (x)", "float[2*N,3]"),
        (11, "float[1,N,1] x", "", "y = Squeeze <axes = [0, -1]> (x)", "float[N]"),
        (13, "float[1,N,1] x", "int64[1] a = {0}", "y = Squeeze (x, a)", "float[N,1]"),
        (13, "float[N] x", "int64[2] a = {0, -1}", "y = Unsqueeze (x, a)", "float[1,N,1]"),
    ]);
}

#[test]
fn movement() {
    check(&[
        (17, "float[N,3,4] x", "", "y = Transpose <perm = [2, 0, 1]> (x)", "float[4,N,3]"),
        (17, "float[N,3] a, float[N,M] b", "", "y = Concat <axis = 1> (a, b)", "float[N,M + 3]"),
        (
            17,
            "float[2,3] a, float[3,3] b",
            "",
            "y = Concat <axis = 1> (a, b)",
            "error: sizes 2 and 3 do not join",
        ),
        (17, "float[N,1] x", "int64[3] s = {4, 1, 5}", "y = Expand (x, s)", "float[4,N,5]"),
        (17, "float[N,2] x", "int64[2] r = {1, 3}", "y = Tile (x, r)", "float[N,6]"),
        (17, "float[N,8,H,W] x", "", "y = DepthToSpace <blocksize = 2> (x)", "float[N,2,2*H,2*W]"),
        (17, "float[N,2,4,6] x", "", "y = SpaceToDepth <blocksize = 2> (x)", "float[N,8,2,3]"),
        (13, "float[N,6] x", "", "y, z = Split <axis = 1> (x)", "float[N,3]"),
        (18, "float[7] x", "", "y, z = Split <num_outputs = 2> (x)", "float[4]"),
        (11, "float[N,4] x", "int64[4] p = {0, 1, 0, 2}", "y = Pad (x, p)", "float[N,7]"),
        (
            9,
            "float[8,N] x",
            "",
            "y = Slice <axes = [0], starts = [1], ends = [-1]> (x)",
            "float[6,N]",
        ),
        (
            13,
            "float[N,S] x",
            "int64[1] s = {1}, int64[1] e = {9223372036854775807}, int64[1] a = {0}",
            "y = Slice (x, s, e, a)",
            "float[-min(1, N) + N,S]",
        ),
        (
            13,
            "float[5] x",
            "int64[1] s = {-1}, int64[1] e = {-9223372036854775807}, int64[1] a = {0}, int64[1] k = {-2}",
            "y = Slice (x, s, e, a, k)",
            "float[3]",
        ),
    ]);
}

#[test]
fn indexing_and_reductions() {
    check(&[
        (17, "float[N,5,6] x, int64[2,3] i", "", "y = Gather <axis = 1> (x, i)", "float[N,2,3,6]"),
        (17, "float[4,5,6] x, int64[7,2] i", "", "y = GatherND (x, i)", "float[7,6]"),
        (17, "int64[N] i, float[2] v", "int64 d = {10}", "y = OneHot (i, d, v)", "float[N,10]"),
        (17, "float[N,5,6] x", "", "y = ReduceMean <axes = [1], keepdims = 0> (x)", "float[N,6]"),
        (18, "float[N,5,6] x", "int64[1] a = {-1}", "y = ReduceMean (x, a)", "float[N,5,1]"),
        (18, "float[N,5] x", "", "y = ReduceMean <noop_with_empty_axes = 1> (x)", "float[N,5]"),
        (18, "float[N,5] x", "", "y = ReduceMean (x)", "float[1,1]"),
        (17, "float[N,5] x", "", "y = ArgMax <axis = 1> (x)", "int64[N,1]"),
        (17, "float[N,5] x", "int64[1] k = {3}", "y, z = TopK (x, k)", "float[N,3]"),
    ]);
}

/// `y` computed by the native kernels, from constants only.
fn evaluated(opset: i64, constants: &str, body: &str, max_bytes: usize) -> Option<Tensor> {
    let g = graph(opset, "", constants, body);
    let op = g.producer_op(g.outputs()[0])?;
    let operands: Vec<Option<&Tensor>> =
        (0..g.op(op).arity()).map(|i| g.const_operand(op, i)).collect();
    let eval = schema(g.op(op))?.eval?;
    let slot = g.producer(g.outputs()[0])?.1;
    eval(&EvalCx { op: g.op(op), opset, operands: &operands, max_bytes })?.into_iter().nth(slot)
}

fn ints(constants: &str, body: &str) -> Option<Vec<i64>> {
    evaluated(17, constants, body, 1 << 20)?.to_i64()
}

#[test]
fn integer_kernels() {
    let rows: &[(&str, &str, Option<&[i64]>)] = &[
        ("int64[2] a = {-7, 7}, int64 b = {2}", "y = Div (a, b)", Some(&[-3, 3])),
        ("int64[1] a = {1}, int64[1] b = {0}", "y = Div (a, b)", None),
        ("int64[2] a = {-7, 7}, int64 b = {3}", "y = Mod (a, b)", Some(&[2, 1])),
        ("int64[2] a = {-7, 7}, int64 b = {3}", "y = Mod <fmod = 1> (a, b)", Some(&[-1, 1])),
        (
            "int64[1] a = {9007199254740993}, int64[1] b = {2}",
            "y = Add (a, b)",
            Some(&[9_007_199_254_740_995]),
        ),
        ("int8[1] a = {100}, int8[1] b = {100}", "y = Add (a, b)", Some(&[-56])),
        ("float[3] a = {-1.5, 2.5, 300.0}", "y = Cast <to = 7> (a)", Some(&[-1, 2, 300])),
        ("float[1] a = {1e30}", "y = Cast <to = 7> (a)", None),
        ("int64[2,2] a = {1, 2, 3, 4}", "y = Transpose (a)", Some(&[1, 3, 2, 4])),
        ("int64[2,2] a = {1, 2, 3, 4}", "y = ReduceSum <keepdims = 0> (a)", Some(&[10])),
        ("int64 a = {5}, int64 b = {0}, int64 c = {-2}", "y = Range (a, b, c)", Some(&[5, 3, 1])),
        (
            "int64[5] a = {0, 1, 2, 3, 4}, int64[1] s = {-1}, int64[1] e = {-100}, int64[1] x = {0}, \
             int64[1] k = {-2}",
            "y = Slice (a, s, e, x, k)",
            Some(&[4, 2, 0]),
        ),
        ("int64[4] a = {0, 1, 0, 1}", "y = NonZero (a)", Some(&[1, 3])),
        (
            "int64[2] a = {1, 2}, int64[2] p = {1, 1}",
            "y = Pad <mode = \"reflect\"> (a, p)",
            Some(&[2, 1, 2, 1]),
        ),
        ("int64[3] a = {1, 2, 3}", "z, y = Split <axis = 0> (a)", Some(&[3])),
    ];
    for (constants, body, want) in rows {
        assert_eq!(ints(constants, body).as_deref(), *want, "{body}");
    }
}

#[test]
fn kernels_keep_to_the_byte_limit() {
    let big = "int64[2] s = {100000, 100000}";
    assert!(evaluated(17, big, "y = ConstantOfShape (s)", 1 << 20).is_none());
    let huge = "int64[2] s = {4611686018427387904, 4611686018427387904}";
    assert!(evaluated(17, huge, "y = ConstantOfShape (s)", usize::MAX).is_none());
    let wide = "int64 a = {0}, int64 b = {9223372036854775807}, int64 c = {1}";
    assert!(evaluated(17, wide, "y = Range (a, b, c)", 1 << 20).is_none());
}

#[test]
fn four_bit_elements_move() {
    let t = evaluated(21, "uint4[3] a = {1, 2, 3}, int64[2] i = {2, 0}", "y = Gather (a, i)", 64);
    assert_eq!(t.and_then(|t| t.to_i64()), Some(vec![3, 1]));
}
