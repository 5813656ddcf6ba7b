//! Converts models to a later version of the default operator set.
//!
//! Usage: `raise_opset VERSION (MODEL OUTPUT)...`; one line of JSON for each model: null, or why it
//! cannot be converted.

use std::path::Path;

use lapidary::onnx::{self, SaveOptions};
use serde_json::{Value as Json, json};

fn convert(from: &str, to: i64, output: &str) -> Result<(), Box<dyn std::error::Error>> {
    let mut model = onnx::load(Path::new(from))?;
    lapidary::pass::raise_opset(&mut model, to)?;
    model.graph.check()?;
    onnx::save(&model, Path::new(output), SaveOptions::default())?;
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let version: i64 = args.first().ok_or("no version")?.parse()?;
    for pair in args[1..].chunks_exact(2) {
        let why = convert(&pair[0], version, &pair[1]).err();
        println!("{}", why.map_or(Json::Null, |e| json!(e.to_string())));
    }
    Ok(())
}
