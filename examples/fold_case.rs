//! Evaluates models natively whose operands are all constant.
//!
//! For every model named on the command line the program runs the native kernels of its ops in
//! order and prints one JSON line: for each output its element type, dims and raw bytes in hex, or
//! null where a kernel declined.

use std::path::Path;

use lapidary::ir::{Graph, Tensor, TensorData};
use lapidary::ops::{self, EvalCx};
use serde_json::{Value as Json, json};

fn show(t: &Tensor) -> Json {
    let data = match t.data() {
        TensorData::Raw(b) => json!(b.iter().map(|b| format!("{b:02x}")).collect::<String>()),
        TensorData::Strings(s) => {
            json!(s.iter().map(|s| String::from_utf8_lossy(s).into_owned()).collect::<Vec<_>>())
        }
        TensorData::Sparse(_) => Json::Null,
    };
    json!([t.dtype().name(), t.dims(), data])
}

fn fold(g: &mut Graph, opset: i64) {
    for id in g.order() {
        let operands = g.operands(id);
        let tensors: Vec<Option<Tensor>> =
            operands.iter().map(|v| v.and_then(|v| g.const_tensor(v).cloned())).collect();
        if operands.iter().zip(&tensors).any(|(v, t)| v.is_some() && t.is_none()) {
            continue;
        }
        let Some(eval) = ops::schema(g.op(id)).and_then(|s| s.eval) else { continue };
        let operands: Vec<Option<&Tensor>> = tensors.iter().map(Option::as_ref).collect();
        let cx = EvalCx { op: g.op(id), opset, operands: &operands, max_bytes: 1 << 26 };
        let Some(results) = eval(&cx) else { continue };
        for (v, t) in g.results(id).into_iter().zip(results) {
            if let Some(v) = v {
                g.set_data(v, t);
            }
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for path in std::env::args().skip(1) {
        let mut model = lapidary::onnx::load(Path::new(&path))?;
        let opset = model.default_opset();
        fold(&mut model.graph, opset);
        let g = &model.graph;
        let out: Vec<Json> =
            g.outputs().iter().map(|v| g.const_tensor(*v).map_or(Json::Null, show)).collect();
        println!("{}", json!(out));
    }
    Ok(())
}
