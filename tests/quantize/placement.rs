//! Rules about everything but linear ops and residual additions.

use super::{expect, groups, model, operands, planned};
use lapidary::quantize::{Profile, QuantizeOptions};

/// Convolutions `NAME = Conv(INPUT, wN)` of 16 channels.
fn conv(result: &str, input: &str, weight: &str) -> String {
    format!("{result} = Conv<pads = [1, 1, 1, 1]>({input}, {weight})\n")
}

fn graph(weights: usize, body: &str, outputs: &str) -> String {
    let w: String = (0..weights).map(|i| format!(", float[16, 16, 3, 3] w{i}")).collect();
    format!("g (float[n, 16, 8, 8] x{w}) => ({outputs}) {{\n{body}}}")
}

#[test]
fn n1_n2_no_pair_behind_a_conv_or_inside_its_epilogue() {
    let body = conv("a", "x", "w0") + "b = Relu(a)\n" + &conv("y", "b", "w1");
    let text = graph(2, &body, "float[n, 16, 8, 8] y");
    expect(&text, "a", "q-");
    expect(&text, "b", "-");
    expect(&text, "y", "q-");
    let m = model(&text);
    let plan = planned(&m, &QuantizeOptions::default());
    assert_eq!(plan.pairs.len(), 2, "x and b, not a or y");
}

#[test]
fn bias_add_of_a_constant_stays_float() {
    let body = conv("a", "x", "w0") + "b = Add(a, bias)\nc = Relu(b)\n" + &conv("y", "c", "w1");
    let text = format!(
        "g (float[n, 16, 8, 8] x, float[16, 16, 3, 3] w0, float[16, 16, 3, 3] w1) => (float[n, 16, 8, 8] y)
         <float[1, 1, 1, 1] bias = {{0.5}}> {{\n{body}}}"
    );
    expect(&text, "b", "--");
    expect(&text, "y", "q-");
}

#[test]
fn n9_conv_bn_sigmoid_mul_is_one_epilogue() {
    let body = conv("a", "x", "w0")
        + "b = BatchNormalization(a, s, o, o, s)\nc = Sigmoid(b)\nd = Mul(b, c)\n"
        + &conv("y", "d", "w1");
    let text = format!(
        "g (float[n, 16, 8, 8] x, float[16, 16, 3, 3] w0, float[16, 16, 3, 3] w1) => (float[n, 16, 8, 8] y)
         <float[16] s = {{1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1}}, float[16] o = {{0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0}}> {{\n{body}}}"
    );
    expect(&text, "b", "-----");
    expect(&text, "c", "-");
    expect(&text, "d", "--");
    expect(&text, "y", "q-");
}

#[test]
fn n7_a_pool_that_ends_the_network_is_not_quantized() {
    for pool in ["MaxPool<kernel_shape = [2, 2]>(b)", "AveragePool<kernel_shape = [2, 2]>(b)"] {
        let body = conv("a", "x", "w0") + &format!("b = Relu(a)\ny = {pool}\n");
        expect(&graph(1, &body, "float[n, 16, 7, 7] y"), "y", "-");
        let reshaped = conv("a", "x", "w0")
            + &format!(
                "b = Relu(a)\nc = {pool}\ns = Constant<value_ints = [0, -1]>()\ny = Reshape(c, s)\n"
            );
        let text = graph(1, &reshaped, "float[n, k] y");
        expect(&text, "c", "-");
        expect(&text, "y", "--");
    }
}

#[test]
fn n7_max_pool_between_quantized_readers_keeps_the_scale() {
    let body = conv("a", "x", "w0")
        + "p = MaxPool<kernel_shape = [3, 3], pads = [1, 1, 1, 1]>(a)\n"
        + &conv("b", "a", "w1")
        + &conv("c", "p", "w2");
    let m = model(&graph(3, &body, "float[n, 16, 8, 8] b, float[n, 16, 8, 8] c"));
    let plan = planned(&m, &QuantizeOptions::default());
    assert_eq!(operands(&m, &plan, "p"), "q");
    assert_eq!(groups(&m, &plan), [["a", "p"]]);
    let minimal = QuantizeOptions { profile: Profile::Minimal, ..QuantizeOptions::default() };
    assert_eq!(operands(&m, &planned(&m, &minimal), "p"), "-");
}

#[test]
fn n7_average_pool_computes_on_int8_only_between_quantized_ops() {
    let tail = "p = GlobalAveragePool(b)\nf = Flatten(p)\n";
    let head = |extra: &str| {
        let body = conv("a", "x", "w0") + "b = Relu(a)\n" + tail + "y = MatMul(f, wm)\n" + extra;
        format!(
            "g (float[n, 16, 8, 8] x, float[16, 16, 3, 3] w0, float[16, 32] wm) => (float[n, 32] y, float[n, 16, 8, 8] z) {{\n{body}}}"
        )
    };
    expect(&head("z = Identity(x)\n"), "p", "q");
    expect(&head("z = Tanh(b)\n"), "p", "-");
}

#[test]
fn n6_concat_read_by_quantized_ops_only_shares_one_scale() {
    let branches = conv("a", "x", "w0") + &conv("b", "x", "w1") + "c = Concat<axis = 1>(a, b)\n";
    let text = |tail: &str| {
        format!(
            "g (float[n, 16, 8, 8] x, float[16, 16, 3, 3] w0, float[16, 16, 3, 3] w1, float[16, 32, 3, 3] w2) => (float[n, 16, 6, 6] y, float[n, 32, 8, 8] z) {{\n{branches}y = Conv(c, w2)\n{tail}}}"
        )
    };
    let m =
        model(&text("z = Identity(x)\n").replace("float[n, 32, 8, 8] z", "float[n, 16, 8, 8] z"));
    let plan = planned(&m, &QuantizeOptions::default());
    assert_eq!(operands(&m, &plan, "c"), "qq");
    assert_eq!(groups(&m, &plan), [["a", "b", "c"]]);
    expect(&text("z = Tanh(c)\n"), "c", "--");
    let off = QuantizeOptions { rules: vec!["-n6".into()], ..QuantizeOptions::default() };
    assert_eq!(operands(&m, &planned(&m, &off), "c"), "--");
}

#[test]
fn n6_a_concat_with_a_constant_stays_float() {
    let text = "g (float[n, 16, 8, 8] x, float[16, 16, 3, 3] w0, float[1, 16, 8, 8] wc, float[16, 16, 3, 3] w2) => (float[m, 16, 6, 6] y) {
        a = Conv<pads = [1, 1, 1, 1]>(x, w0)
        c = Concat<axis = 0>(a, wc)
        y = Conv(c, w2)
    }";
    expect(text, "c", "--");
    expect(text, "y", "q-");
}

#[test]
fn n6_pyramid_pooling_keeps_one_scale_through_pools_and_concat() {
    let pool = |y: &str, x: &str| {
        format!("{y} = MaxPool<kernel_shape = [5, 5], pads = [2, 2, 2, 2]>({x})\n")
    };
    let body = conv("a", "x", "w0")
        + &pool("p", "a")
        + &pool("q", "p")
        + "c = Concat<axis = 1>(a, p, q)\ny = Conv(c, wl)\n";
    let text = format!(
        "g (float[n, 16, 8, 8] x, float[16, 16, 3, 3] w0, float[16, 48, 1, 1] wl) => (float[n, 16, 8, 8] y) {{\n{body}}}"
    );
    let m = model(&text);
    let plan = planned(&m, &QuantizeOptions::default());
    for (result, want) in [("p", "q"), ("q", "q"), ("c", "qqq"), ("y", "q-")] {
        assert_eq!(operands(&m, &plan, result), want, "{result}");
    }
    assert_eq!(groups(&m, &plan), [["a", "c", "p", "q"]]);
}

#[test]
fn n10_nearest_resize_in_front_of_a_quantized_op() {
    let text = |mode: &str| {
        let body = conv("a", "x", "w0")
            + &format!("r = Resize<mode = \"{mode}\">(a, , s)\n")
            + &conv("y", "r", "w1");
        format!(
            "g (float[n, 16, 8, 8] x, float[16, 16, 3, 3] w0, float[16, 16, 3, 3] w1) => (float[n, 16, 16, 16] y)
             <float[4] s = {{1, 1, 2, 2}}> {{\n{body}}}"
        )
    };
    expect(&text("nearest"), "r", "q--");
    expect(&text("linear"), "r", "---");
}

#[test]
fn n8_moved_tensors_share_their_scale() {
    let body = conv("a", "x", "w0")
        + "s, t = Split<axis = 1>(a)\nu = Conv(s, w8)\nv = Conv(t, w9)\ny = Add(u, v)\n";
    let text = format!(
        "g (float[n, 16, 8, 8] x, float[16, 16, 3, 3] w0, float[16, 8, 3, 3] w8, float[16, 8, 3, 3] w9) => (float[n, 16, 6, 6] y) {{\n{body}}}"
    );
    let m = model(&text);
    assert_eq!(groups(&m, &planned(&m, &QuantizeOptions::default())), [["s", "t"]]);
}

#[test]
fn n14_readers_share_one_pair() {
    let body = conv("a", "x", "w0") + &conv("b", "a", "w1") + &conv("c", "a", "w2");
    let m = model(&graph(3, &body, "float[n, 16, 8, 8] b, float[n, 16, 8, 8] c"));
    let plan = planned(&m, &QuantizeOptions::default());
    let a = m.graph.find_value("a").unwrap();
    assert_eq!((plan.pairs.len(), plan.pairs[&a].len()), (2, 2));
}

#[test]
fn conv_isinf_stays_float() {
    let body = conv("a", "x", "w0") + "y = IsInf(a)\n";
    let text = graph(1, &body, "bool[n, 16, 8, 8] y");
    expect(&text, "y", "-");
    expect(&text, "a", "q-");
}

#[test]
fn n11_conv_layer_norm_gets_the_pair_between() {
    let norm = "l = LayerNormalization(t, wg)\n";
    let text = |between: &str| {
        let body = conv("a", "x", "w0") + between + norm;
        format!(
            "g (float[n, 16, 8, 8] x, float[16, 16, 3, 3] w0, float[16] wg) => (float[n, 8, 8, 16] l) {{\n{body}}}"
        )
    };
    expect(&text("t = Transpose<perm = [0, 2, 3, 1]>(a)\n"), "l", "q-");
    expect(&text("u = Tanh(a)\nt = Transpose<perm = [0, 2, 3, 1]>(u)\n"), "l", "--");
}

#[test]
fn n11_softmax_and_reductions_stay_float() {
    let body = conv("a", "x", "w0") + "s = Softmax(a)\nr = ReduceMean<axes = [2, 3]>(a)\n";
    let text = graph(1, &body, "float[n, 16, 8, 8] s, float[n, 16, 1, 1] r");
    expect(&text, "s", "-");
    expect(&text, "r", "-");
}

#[test]
fn n4_arithmetic_shares_a_pair_that_is_there_anyway() {
    let text = |reader: &str| {
        let body = conv("a", "x", "w0")
            + &conv("b", "x", "w1")
            + "ra = Relu(a)\nrb = Relu(b)\ny = Mul(ra, rb)\n"
            + reader;
        graph(3, &body, "float[n, 16, 8, 8] y, float[n, 16, 8, 8] z")
    };
    expect(&text(&conv("z", "ra", "w2")), "y", "q-");
    expect(&text("z = Tanh(ra)\n"), "y", "--");
}
