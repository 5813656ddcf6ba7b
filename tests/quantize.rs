//! Quantization: where pairs go and where they must not, what is written, what the linter finds.

#![allow(clippy::unwrap_used)]

#[path = "quantize/cpu.rs"]
mod cpu;
#[path = "quantize/half.rs"]
mod half;
#[path = "quantize/linter.rs"]
mod linter;
#[path = "quantize/modelopt.rs"]
mod modelopt;
#[path = "quantize/modes.rs"]
mod modes;
#[path = "quantize/opset.rs"]
mod opset;
#[path = "quantize/placement.rs"]
mod placement;
#[path = "quantize/recover.rs"]
mod recover;
#[path = "quantize/residual.rs"]
mod residual;
#[path = "quantize/rules.rs"]
mod rules;
mod support;
#[path = "quantize/targets.rs"]
mod targets;
#[path = "quantize/weights.rs"]
mod weights;
#[path = "quantize/whole.rs"]
mod whole;

use lapidary::ir::{Model, Tensor, Type};
use lapidary::quantize::{Plan, QuantizeOptions};
use lapidary::{onnx, pass, quantize};

/// A model of operator set 17. Graph inputs whose names start with `w` are filled with seeded random
/// numbers and become constants.
fn model(text: &str) -> Model {
    let text = format!("<ir_version: 8, opset_import: [\"\" : 17]>\n{text}");
    let mut m = onnx::text::parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let g = &mut m.graph;
    let mut random = fastrand::Rng::with_seed(7);
    for v in g.inputs().to_vec() {
        if g.value(v).name().starts_with('w') {
            let dims = g.value(v).sizes().unwrap();
            let n: usize = dims.iter().product();
            let data: Vec<f32> = (0..n).map(|_| random.f32() - 0.5).collect();
            let dtype = g.value(v).dtype().unwrap();
            g.remove_input(v);
            g.set_data(v, Tensor::from_f32(dtype, &dims, &data).unwrap());
        }
    }
    pass::infer_graph(&mut m.graph, 17, &mut |op, what| panic!("{op}: {what}"));
    m
}

fn planned(m: &Model, o: &QuantizeOptions) -> Plan {
    quantize::plan(&m.graph, o).unwrap()
}

/// Which operands of the op that makes `result` read a pair: a string of `q` and `-`.
fn operands(m: &Model, plan: &Plan, result: &str) -> String {
    let g = &m.graph;
    let op = g.producer_op(g.find_value(result).unwrap()).unwrap();
    let reads = |(i, v): (usize, Option<lapidary::ir::ValueId>)| {
        let pair = v.and_then(|v| plan.pairs.get(&v));
        if pair.is_some_and(|r| r.contains_key(&(op, i))) { 'q' } else { '-' }
    };
    g.operands(op).into_iter().enumerate().map(reads).collect()
}

/// Plans with default options and compares the operands of one op.
#[track_caller]
fn expect(text: &str, result: &str, want: &str) {
    let m = model(text);
    assert_eq!(operands(&m, &planned(&m, &QuantizeOptions::default()), result), want);
}

/// The rule that decided on the op that makes `result`, and whether it is quantized.
fn decision(text: &str, o: &QuantizeOptions, result: &str) -> (bool, &'static str) {
    let m = model(text);
    let g = &m.graph;
    let label = g.label(g.producer_op(g.find_value(result).unwrap()).unwrap());
    let plan = planned(&m, o);
    let d = plan.decisions.iter().find(|d| d.node == label).unwrap();
    assert!(!d.reason.is_empty());
    (d.quantized, d.rule)
}

/// Sets of tensors that share a scale, by name.
fn groups(m: &Model, plan: &Plan) -> Vec<Vec<String>> {
    let name = |v: &lapidary::ir::ValueId| m.graph.value(*v).name().to_owned();
    let sorted = |mut names: Vec<String>| {
        names.sort();
        names
    };
    plan.scale_groups.iter().map(|s| sorted(s.iter().map(name).collect())).collect()
}

/// The type of every result is still what the file says.
fn is_float(ty: Option<&Type>) -> bool {
    ty.and_then(Type::as_tensor).is_none_or(|t| t.dtype.is_none_or(|d| d.is_float()))
}
