//! Time of load, simplify and save: `cargo bench`.
//!
//! First a curve is printed of how all three scale over generated graphs: the time per node should
//! stay flat from 1,000 to 100,000 nodes, and however often a block is repeated.

use std::time::Instant;

#[path = "../tests/support/scale.rs"]
mod scale;

use lapidary::ir::{DType, Dim, Model, Op, Tensor, Type, Value};
use lapidary::{onnx, pass};

fn main() {
    if std::env::args().any(|a| a == "--bench") {
        println!("{:<16}{:>9}{:>9}{:>11}{:>9}", "", "nodes", "after", "ms", "ns/node");
        for nodes in [1_000, 3_000, 10_000, 30_000, 100_000] {
            point("chain", &chain(nodes));
        }
        for count in [10, 30, 100, 300, 1_000] {
            point(&format!("{count} blocks"), &scale::blocks(count));
        }
    }
    divan::main();
}

/// Prints the time from the bytes of a file to those of the simplified one: the median of five.
fn point(name: &str, model: &Model) {
    let file = onnx::to_bytes(model).expect("encodes").0;
    let mut after = 0;
    let mut seconds: Vec<f64> = (0..5)
        .map(|_| {
            let start = Instant::now();
            let mut model = onnx::from_bytes(file.clone(), None).expect("loads");
            pass::simplify(&mut model, &mut pass::Cx::default()).expect("simplifies");
            onnx::to_bytes(&model).expect("encodes");
            let seconds = start.elapsed().as_secs_f64();
            after = model.graph.op_count();
            seconds
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    let (nodes, seconds) = (model.graph.op_count(), seconds[2]);
    let per_node = 1e9 * seconds / nodes as f64;
    println!("{name:<16}{nodes:>9}{after:>9}{:>11.2}{per_node:>9.0}", 1e3 * seconds);
}

/// A chain of Conv, BatchNormalization, Relu and a no-op Identity, over four channels.
fn chain(nodes: usize) -> Model {
    let mut m = Model { ir_version: 8, opsets: vec![(String::new(), 17)], ..Model::default() };
    let shape = vec![Dim::symbol("N"), Dim::Known(4), Dim::Known(8), Dim::Known(8)];
    let ty = Type::tensor(DType::F32, shape);
    let g = &mut m.graph;
    let mut x = g.add_input(Value::new("x", Some(ty)));
    for i in 0..nodes / 4 {
        let weight: Vec<f32> = (0..16).map(|k| (k + i) as f32 * 0.01).collect();
        let w = g.add_const(&format!("w{i}"), Tensor::of(&[4, 4, 1, 1], &weight));
        let ones = Tensor::of(&[4], &[1.0f32, 0.5, 2.0, 1.5]);
        let stats: Vec<_> = ["s", "b", "m", "v"]
            .iter()
            .map(|n| g.add_const(&format!("{n}{i}"), ones.clone()))
            .collect();
        let step = |op: Op, operands: Vec<_>, g: &mut lapidary::ir::Graph| {
            let y = g.add_named("t");
            let operands: Vec<_> = operands.into_iter().map(Some).collect();
            g.add_op(op, &operands, &[Some(y)], None);
            y
        };
        x = step(Op::new("Conv"), vec![x, w], g);
        x = step(Op::new("BatchNormalization"), vec![x, stats[0], stats[1], stats[2], stats[3]], g);
        x = step(Op::new("Relu"), vec![x], g);
        x = step(Op::new("Identity"), vec![x], g);
    }
    g.set_outputs(vec![x]);
    m
}

#[divan::bench(args = [1_000, 10_000, 100_000], sample_count = 5)]
fn simplify_chain(bencher: divan::Bencher, nodes: usize) {
    let model = chain(nodes);
    bencher.counter(nodes).with_inputs(|| model.clone()).bench_values(|mut m| {
        pass::simplify(&mut m, &mut pass::Cx::default()).expect("simplifies");
        m
    });
}

#[divan::bench(args = [10, 100, 1_000, 4_000], sample_count = 5)]
fn simplify_blocks(bencher: divan::Bencher, count: usize) {
    let model = scale::blocks(count);
    let nodes = model.graph.op_count();
    bencher.counter(nodes).with_inputs(|| model.clone()).bench_values(|mut m| {
        pass::simplify(&mut m, &mut pass::Cx::default()).expect("simplifies");
        m
    });
}

#[divan::bench(args = ["resnet8", "mobilenet", "vit"])]
fn load(name: &str) -> Model {
    onnx::load(format!("fixtures/models/{name}.onnx").as_ref()).expect("loads")
}

#[divan::bench(args = ["resnet8", "mobilenet", "vit"])]
fn simplify(bencher: divan::Bencher, name: &str) {
    let model = load(name);
    bencher.with_inputs(|| model.clone()).bench_values(|mut m| {
        pass::simplify(&mut m, &mut pass::Cx::default()).expect("simplifies");
        m
    });
}

#[divan::bench(args = ["resnet8", "mobilenet", "vit"])]
fn encode(bencher: divan::Bencher, name: &str) {
    let model = load(name);
    bencher.bench_local(|| onnx::to_bytes(&model).expect("encodes"));
}
