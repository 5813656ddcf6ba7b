//! Prints, as JSON, element type and dims that inference finds for every value of a model.
//!
//! Usage: `shapes MODEL...`; one line for each model: `{"name": ["float", [1, "N", null]], ...}`.

use std::path::Path;

use lapidary::ir::{DType, Dim, Graph, Value};
use serde_json::{Map, Value as Json, json};

fn dim(d: &Dim) -> Json {
    match d {
        Dim::Known(n) => json!(n),
        Dim::Sym(_) => json!(d.to_string()),
        Dim::Unknown => Json::Null,
    }
}

fn entry(v: &Value) -> Json {
    let dims = v.shape().map(|s| s.iter().map(dim).collect::<Vec<Json>>());
    json!([v.dtype().map(DType::name), dims])
}

fn add(g: &Graph, out: &mut Map<String, Json>) {
    for op in g.ops() {
        for v in g.results(op).into_iter().flatten() {
            out.insert(g.value(v).name().to_owned(), entry(g.value(v)));
        }
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    for path in std::env::args().skip(1) {
        let mut out = Map::new();
        match lapidary::onnx::load(Path::new(&path)) {
            Err(e) => {
                out.insert("error".into(), json!(e.to_string()));
            }
            Ok(mut model) => {
                let opset = model.default_opset();
                let mut findings = Vec::new();
                let mut report = |op, what| findings.push(json!([op, what]));
                lapidary::pass::infer_graph(&mut model.graph, opset, &mut report);
                let mut values = Map::new();
                add(&model.graph, &mut values);
                out.insert("values".into(), Json::Object(values));
                out.insert("findings".into(), Json::Array(findings));
            }
        }
        println!("{}", Json::Object(out));
    }
    Ok(())
}
