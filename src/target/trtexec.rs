//! The `trtexec` line that builds an engine of a model.

use std::path::{Path, PathBuf};

use super::Version;
use crate::ir::{Dim, Graph, Model, Shape, ValueId};
use crate::report::weights::has_two_four;

/// What the line says besides the model and its types.
#[derive(Clone, Debug, Default)]
pub struct LineOptions {
    /// Smallest sizes of open dims, by symbol or as `input:axis`; later ones win.
    pub min: Vec<(String, i64)>,
    /// Likeliest sizes.
    pub opt: Vec<(String, i64)>,
    /// Largest sizes.
    pub max: Vec<(String, i64)>,
    /// Whether kernels for 2:4 sparse weights are tried: `enable` or `force`.
    pub sparsity: Option<String>,
    /// File of timings that later builds reuse.
    pub timing_cache: Option<PathBuf>,
    /// Core of the DLA that the engine is for; what it does not run is left to the GPU.
    pub dla: Option<u32>,
    /// Files for layers and their times.
    pub export: Option<Exports>,
    /// More flags, as they are.
    pub extra: Vec<String>,
}

/// Where `trtexec` writes what it knows of layers.
#[derive(Clone, Debug)]
pub struct Exports {
    /// Layers, with formats and the ONNX nodes they come from.
    pub layer_info: PathBuf,
    /// Times of layers.
    pub profile: PathBuf,
}

impl Exports {
    /// Files beside the engine of a model.
    pub fn beside(model: &Path) -> Exports {
        Exports {
            layer_info: model.with_extension("layers.json"),
            profile: model.with_extension("profile.json"),
        }
    }
}

/// The line that builds an engine of the model in `path`, as a shell takes it. For inputs of dynamic
/// shape it proposes an optimization profile: batches of 1 to 8, other sizes as are usual for images
/// and text, and sparse kernels where there are weights for them.
pub fn trtexec_line(path: &Path, m: &Model, version: Version, o: &LineOptions) -> String {
    let sparsity = || has_two_four(&m.graph).then(|| "enable".to_owned());
    let o = LineOptions { sparsity: o.sparsity.clone().or_else(sparsity), ..o.clone() };
    shell_line("trtexec", &trtexec_args(path, m, version, &o))
}

/// A program and its arguments as a shell takes them.
pub fn shell_line(program: &str, args: &[String]) -> String {
    let arg = |a: &String| match a.split_once('=') {
        Some((flag, value)) if flag.starts_with("--") => format!("{flag}={}", quoted(value)),
        _ => quoted(a),
    };
    let args: Vec<String> = args.iter().map(arg).collect();
    format!("{} {}", quoted(program), args.join(" "))
}

/// The arguments of `trtexec` that build an engine of the model in `path`.
pub fn trtexec_args(path: &Path, m: &Model, version: Version, o: &LineOptions) -> Vec<String> {
    let mut args = vec![format!("--onnx={}", path.display())];
    if version.takes_strongly_typed() {
        args.push("--stronglyTyped".to_owned());
    } else if !version.always_strongly_typed() {
        if is_quantized(&m.graph) {
            args.push("--int8".to_owned());
        }
        args.push("--fp16".to_owned());
    }
    if let Some(sparsity) = &o.sparsity {
        args.push(format!("--sparsity={sparsity}"));
    }
    if let Some(core) = o.dla {
        args.extend([format!("--useDLACore={core}"), "--allowGPUFallback".to_owned()]);
    }
    args.push(format!("--saveEngine={}", path.with_extension("engine").display()));
    args.extend(profiles(&m.graph, o));
    if let Some(cache) = &o.timing_cache {
        args.push(format!("--timingCacheFile={}", cache.display()));
    }
    if let Some(export) = &o.export {
        args.push("--profilingVerbosity=detailed".to_owned());
        args.push(format!("--exportLayerInfo={}", export.layer_info.display()));
        args.push(format!("--exportProfile={}", export.profile.display()));
        if !version.at_least(11, 0) {
            args.push("--separateProfileRun".to_owned()); // 11 always does
        }
    }
    args.extend(o.extra.iter().cloned());
    args
}

/// The flags of the optimization profile; none when all inputs are of fixed shape.
fn profiles(g: &Graph, o: &LineOptions) -> Vec<String> {
    let fed = |v: &&ValueId| !g.is_const(**v) && g.initializer(**v).is_none();
    let inputs: Vec<ValueId> = g.inputs().iter().filter(fed).copied().collect();
    if inputs.iter().all(|v| g.value(*v).sizes().is_some()) {
        return Vec::new();
    }
    let flag = |(name, pick): (&str, usize)| {
        let shapes = inputs.iter().filter_map(|v| profile(g, *v, pick, o));
        format!("--{name}={}", shapes.collect::<Vec<_>>().join(","))
    };
    [("minShapes", 0), ("optShapes", 1), ("maxShapes", 2)].map(flag).to_vec()
}

/// `name:AxBxC` for one end of the optimization profile.
fn profile(g: &Graph, input: ValueId, pick: usize, o: &LineOptions) -> Option<String> {
    let value = g.value(input);
    let shape = value.shape()?;
    let name = match value.name() {
        name if name.contains([':', ',']) => format!("'{name}'"),
        name => name.to_owned(),
    };
    let given = |sizes: &[(String, i64)], axis: usize| {
        let dim_name =
            shape[axis].name().map_or_else(|| format!("{}:{axis}", value.name()), str::to_owned);
        sizes.iter().rev().find(|(n, _)| *n == dim_name).map(|(_, size)| *size)
    };
    let size = |axis: usize| {
        if let Some(n) = shape[axis].known() {
            return n.to_string();
        }
        let [min, opt, max] = proposal(shape, axis);
        let (least, most) = (given(&o.min, axis), given(&o.max, axis));
        let within = opt.max(least.unwrap_or(opt)).min(most.unwrap_or(i64::MAX));
        let likely = given(&o.opt, axis).unwrap_or(within);
        let least = least.unwrap_or(min.min(likely));
        let most = most.unwrap_or(max.max(likely));
        [least, likely, most][pick].to_string()
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
        let version = version.parse().expect("version");
        trtexec_line(Path::new("out/m.onnx"), m, version, &LineOptions::default())
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
        let dla = LineOptions { dla: Some(1), ..LineOptions::default() };
        assert_eq!(
            trtexec_line(Path::new("out/m.onnx"), &fixed, Version::default(), &dla),
            format!("{start} --useDLACore=1 --allowGPUFallback --saveEngine=out/m.engine")
        );
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
        let opt = vec![("w".to_owned(), 2048), ("images:2".to_owned(), 48)];
        let o = LineOptions { opt, ..LineOptions::default() };
        let line = trtexec_line(Path::new("m.onnx"), &m, Version::default(), &o);
        assert!(line.ends_with(
            "--minShapes=images:1x3x32x32 --optShapes=images:1x3x48x2048 --maxShapes=images:8x3x1280x2048"
        ), "{line}");
    }

    #[test]
    fn ends_of_the_profile_can_be_given() {
        let m = model(vec![Dim::symbol("n"), Dim::Known(3), Dim::symbol("h")], false);
        let pair = |n: &str, v| vec![(n.to_owned(), v)];
        let options = LineOptions { min: pair("n", 16), max: pair("h", 64), ..Default::default() };
        let args = trtexec_args(Path::new("m.onnx"), &m, Version::default(), &options);
        let shapes: Vec<&str> = args[2..].iter().map(|a| &a[..]).collect();
        assert_eq!(
            shapes,
            [
                "--minShapes=images:16x3x1",
                "--optShapes=images:16x3x64",
                "--maxShapes=images:16x3x64"
            ]
        );
    }

    #[test]
    fn names_with_colons_are_quoted_for_trtexec_and_the_shell() {
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("'x:0':1x3"), r"''\''x:0'\'':1x3'");
    }
}
