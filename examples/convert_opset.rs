//! Converts models to other versions of the default operator set.
//!
//! Reads lines `VERSION<tab>MODEL<tab>OUTPUT` and answers each with a line of JSON: null, or why the
//! model cannot be converted.

use std::io::{BufRead, Write};
use std::path::Path;

use lapidary::onnx::{self, SaveOptions};
use serde_json::{Value as Json, json};

fn convert(line: &str) -> Result<(), Box<dyn std::error::Error>> {
    let fields: Vec<&str> = line.split('\t').collect();
    let [version, from, output] = fields[..] else { return Err("three fields are wanted".into()) };
    let mut model = onnx::load(Path::new(from))?;
    lapidary::convert::convert_opset(&mut model, version.parse()?)?;
    model.graph.check()?;
    onnx::save(&model, Path::new(output), SaveOptions::default())?;
    Ok(())
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut out = std::io::stdout().lock();
    for line in std::io::stdin().lock().lines() {
        let why = convert(&line?).err();
        writeln!(out, "{}", why.map_or(Json::Null, |e| json!(e.to_string())))?;
        out.flush()?;
    }
    Ok(())
}
