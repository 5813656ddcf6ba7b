//! The `trtexec` line that builds an engine of a model.

use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::ir::{Dim, Graph, Model, Shape, ValueId};

/// A version of TensorRT; without a minor version the newest of that major one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Version {
    major: u32,
    minor: Option<u32>,
}

/// The text is no version of TensorRT that Lapidary knows.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("{0:?} is no version of TensorRT: say 8.6, 10, 10.7 or 11")]
pub struct ParseVersionError(String);

impl FromStr for Version {
    type Err = ParseVersionError;

    fn from_str(text: &str) -> Result<Version, ParseVersionError> {
        let fail = || ParseVersionError(text.to_owned());
        let mut parts = text.split('.').map(|p| p.parse::<u32>().map_err(|_| fail()));
        let major = parts.next().ok_or_else(fail)??;
        let minor = parts.next().transpose()?;
        parts.try_for_each(|p| p.map(|_| ()))?;
        if (8..=11).contains(&major) && major != 9 {
            Ok(Version { major, minor })
        } else {
            Err(fail())
        }
    }
}

impl TryFrom<String> for Version {
    type Error = ParseVersionError;

    fn try_from(text: String) -> Result<Version, ParseVersionError> {
        text.parse()
    }
}

impl From<Version> for String {
    fn from(v: Version) -> String {
        v.to_string()
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.major)?;
        self.minor.map_or(Ok(()), |minor| write!(f, ".{minor}"))
    }
}

impl Default for Version {
    /// TensorRT 11.
    fn default() -> Version {
        Version { major: 11, minor: None }
    }
}

impl Version {
    /// It is this version or a later one; without a minor version it is the newest of its major.
    pub fn at_least(self, major: u32, minor: u32) -> bool {
        self.major > major || (self.major == major && self.minor.is_none_or(|have| have >= minor))
    }

    /// Every network is strongly typed.
    fn always_strongly_typed(self) -> bool {
        self.major >= 11
    }

    /// Types come from the file on request, and precision flags are deprecated.
    fn takes_strongly_typed(self) -> bool {
        self.at_least(10, 12) && !self.at_least(11, 0)
    }
}

/// The line that builds an engine of the model in `path`. For inputs of dynamic shape it proposes an
/// optimization profile: batches of 1 to 8, other sizes as are usual for images and text. `dims`
/// says the likeliest size of open dims, by symbol or as `input:axis`; later ones win.
pub fn trtexec_line(path: &Path, m: &Model, version: Version, dims: &[(String, i64)]) -> String {
    let engine = path.with_extension("engine");
    let mut line = format!("trtexec --onnx={}", quoted(&path.display().to_string()));
    if version.takes_strongly_typed() {
        line += " --stronglyTyped";
    } else if !version.always_strongly_typed() {
        line += if is_quantized(&m.graph) { " --int8 --fp16" } else { " --fp16" };
    }
    line += &format!(" --saveEngine={}", quoted(&engine.display().to_string()));
    let fed = |v: &&ValueId| !m.graph.is_const(**v) && m.graph.initializer(**v).is_none();
    let inputs: Vec<ValueId> = m.graph.inputs().iter().filter(fed).copied().collect();
    let known = |v: &ValueId| m.graph.value(*v).sizes().is_some();
    if inputs.iter().all(known) {
        return line;
    }
    for (flag, pick) in [("minShapes", 0), ("optShapes", 1), ("maxShapes", 2)] {
        let shapes: Vec<String> =
            inputs.iter().filter_map(|v| profile(&m.graph, *v, pick, dims)).collect();
        line += &format!(" --{flag}={}", quoted(&shapes.join(",")));
    }
    line
}

/// `name:AxBxC` for one end of the optimization profile.
fn profile(g: &Graph, input: ValueId, pick: usize, dims: &[(String, i64)]) -> Option<String> {
    let value = g.value(input);
    let shape = value.shape()?;
    let name = match value.name() {
        name if name.contains([':', ',']) => format!("'{name}'"),
        name => name.to_owned(),
    };
    let likely = |axis: usize| {
        let dim_name =
            shape[axis].name().map_or_else(|| format!("{}:{axis}", value.name()), str::to_owned);
        dims.iter().rev().find(|(n, _)| *n == dim_name).map(|(_, size)| *size)
    };
    let size = |axis: usize| {
        let [min, opt, max] = proposal(shape, axis);
        let opt = if shape[axis].known().is_some() { opt } else { likely(axis).unwrap_or(opt) };
        [min.min(opt), opt, max.max(opt)][pick].to_string()
    };
    let sizes: Vec<String> = (0..shape.len()).map(size).collect();
    Some(if sizes.is_empty() { format!("{name}:1") } else { format!("{name}:{}", sizes.join("x")) })
}

/// Smallest, likeliest and largest size of an axis.
fn proposal(shape: &Shape, axis: usize) -> [i64; 3] {
    match (&shape[axis], shape.len(), axis) {
        (Dim::Known(n), ..) => [*n; 3],
        (_, _, 0) => [1, 1, 8],
        (_, 4, 2 | 3) => [32, 320, 1280],
        (_, 2 | 3, _) => [1, 128, 512],
        _ => [1, 16, 256],
    }
}

/// The graph holds Q/DQ.
fn is_quantized(g: &Graph) -> bool {
    g.ops().any(|op| g.op(op).is("QuantizeLinear") || g.op(op).is("DequantizeLinear"))
}

/// The argument as a shell reads it.
fn quoted(arg: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:,=+@%".contains(c);
    if !arg.is_empty() && arg.chars().all(plain) {
        return arg.to_owned();
    }
    format!("'{}'", arg.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::{DType, Op, Type, Value};

    fn model(shape: Shape, quantized: bool) -> Model {
        let mut m = Model::default();
        let ty = Some(Type::tensor(DType::F32, Some(shape)));
        let x = m.graph.add_input(Value::new("images", ty));
        let y = m.graph.add_named("y");
        let op = if quantized { "QuantizeLinear" } else { "Relu" };
        m.graph.add_op(Op::new(op), &[Some(x)], &[Some(y)], None);
        m.graph.set_outputs(vec![y]);
        m
    }

    fn line(m: &Model, version: &str) -> String {
        trtexec_line(Path::new("out/m.onnx"), m, version.parse().expect("version"), &[])
    }

    #[test]
    fn flags_follow_the_version() {
        let fixed = model(vec![Dim::Known(1), Dim::Known(3)], true);
        let start = "trtexec --onnx=out/m.onnx";
        assert_eq!(line(&fixed, "11"), format!("{start} --saveEngine=out/m.engine"));
        for v in ["10", "10.12"] {
            let want = format!("{start} --stronglyTyped --saveEngine=out/m.engine");
            assert_eq!(line(&fixed, v), want);
        }
        for v in ["8.6", "10.7", "10.11.0"] {
            let want = format!("{start} --int8 --fp16 --saveEngine=out/m.engine");
            assert_eq!(line(&fixed, v), want);
        }
        let float = model(vec![Dim::Known(1)], false);
        assert_eq!(line(&float, "8.6"), format!("{start} --fp16 --saveEngine=out/m.engine"));
    }

    #[test]
    fn dynamic_inputs_get_a_profile() {
        let m =
            model(vec![Dim::symbol("n"), Dim::Known(3), Dim::symbol("h"), Dim::Known(224)], false);
        let line = line(&m, "11");
        assert!(line.ends_with(
            "--minShapes=images:1x3x32x224 --optShapes=images:1x3x320x224 --maxShapes=images:8x3x1280x224"
        ));
    }

    #[test]
    fn sizes_of_the_data_are_the_likeliest() {
        let m = model(vec![Dim::symbol("n"), Dim::Known(3), Dim::Unknown, Dim::symbol("w")], false);
        let dims = [("w".to_owned(), 2048), ("images:2".to_owned(), 48)];
        let line = trtexec_line(Path::new("m.onnx"), &m, "11".parse().expect("version"), &dims);
        assert!(line.ends_with(
            "--minShapes=images:1x3x32x32 --optShapes=images:1x3x48x2048 --maxShapes=images:8x3x1280x2048"
        ), "{line}");
    }

    #[test]
    fn odd_versions_are_refused() {
        for text in ["", "9", "7.2", "12", "ten", "10.x"] {
            assert!(text.parse::<Version>().is_err(), "{text}");
        }
        assert_eq!("10.7".parse::<Version>().expect("version").to_string(), "10.7");
    }

    #[test]
    fn names_with_colons_are_quoted_for_trtexec_and_the_shell() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("'x:0':1x3"), r"''\''x:0'\'':1x3'");
    }
}
