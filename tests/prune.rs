//! Channel pruning: one fixture for each way in which channels travel through an operator, counts,
//! and the parameter-length verifier.

#[path = "prune/sparse.rs"]
mod sparse;
mod support;

use std::fmt::Write;
use std::path::Path;

use lapidary::data::{DataOptions, Source};
use lapidary::engine::{Engine, TractEngine};
use lapidary::ir::{DType, Model, Tensor};
use lapidary::prune::{
    Analysis, Importance, LayerRatio, PruneError, PruneOptions, SensitivityOptions, curve, prune,
    prune_with, verify,
};
use lapidary::recover::{Calibration, Recover};

use support::{header, load_fixture, parse_fixture};

fn options(ratio: f64) -> PruneOptions {
    PruneOptions { ratio, ..PruneOptions::default() }
}

/// What pruning said and did, one line for each group.
fn describe(analysis: &Analysis, choice: &lapidary::prune::Choice) -> String {
    let mut out = String::new();
    for g in analysis.report(choice) {
        let near = g.approximate.map(|op| format!("statistics of {op}"));
        let why = g.pinned.or(near).map(|why| format!("  # {why}")).unwrap_or_default();
        let members = g.members.join(", ");
        let _ = writeln!(out, "{} -> {}: {members}{why}", g.before, g.after);
    }
    out
}

/// Lengths of everything that is not as it was.
fn changes(before: &Model, after: &Model) -> String {
    let mut lines = Vec::new();
    for v in after.graph.values() {
        let now = after.graph.value(v);
        let old = before.graph.find_value(now.name()).map(|o| before.graph.value(o));
        let data = after.graph.const_tensor(v).filter(|t| t.dtype() == DType::I64);
        let show = |v: &lapidary::ir::Value, t: Option<&Tensor>| match t.and_then(Tensor::to_i64) {
            Some(ints) => format!("{ints:?}"),
            None => v.tensor_type().map(ToString::to_string).unwrap_or_default(),
        };
        let old_data = before
            .graph
            .find_value(now.name())
            .and_then(|o| before.graph.const_tensor(o))
            .filter(|t| t.dtype() == DType::I64);
        let (was, is) = (old.map(|o| show(o, old_data)).unwrap_or_default(), show(now, data));
        if was != is {
            lines.push(format!("{}: {was} -> {is}", now.name()));
        }
    }
    lines.sort();
    lines.join("\n")
}

/// Random inputs of the shapes that the model declares, symbols as 2; conditions are as given.
fn feeds(model: &Model, yes: bool) -> Vec<(String, Tensor)> {
    let mut rng = fastrand::Rng::with_seed(7);
    let one = |v: &lapidary::ir::ValueId| {
        let value = model.graph.value(*v);
        let shape = value.shape().expect("an input has a shape");
        let dims: Vec<usize> = shape.iter().map(|d| d.size().unwrap_or(2)).collect();
        let n: usize = dims.iter().product();
        let tensor = match value.dtype() {
            Some(DType::I64) => Tensor::of(&dims, &vec![1i64; n]),
            Some(DType::Bool) => {
                Tensor::new(DType::Bool, dims, vec![u8::from(yes); n].into()).expect("length")
            }
            _ => {
                let data: Vec<f32> = (0..n).map(|_| rng.f32() * 2.0 - 1.0).collect();
                Tensor::of(&dims, &data)
            }
        };
        (value.name().to_owned(), tensor)
    };
    model.graph.inputs().iter().map(one).collect()
}

fn run(model: &Model) -> Vec<Tensor> {
    let session = TractEngine.prepare(model, &[]).expect("the engine takes the model");
    let run = |yes| session.run(&feeds(model, yes), &mut |_, _| {}).expect("the model runs");
    let inputs = model.graph.inputs().iter();
    let conditions = inputs.filter(|v| model.graph.value(**v).dtype() == Some(DType::Bool)).count();
    let other = if conditions > 0 { run(false) } else { Vec::new() };
    run(true).into_iter().chain(other).collect()
}

fn largest_difference(a: &[Tensor], b: &[Tensor]) -> f64 {
    assert_eq!(a.len(), b.len());
    let mut worst = 0.0f64;
    for (x, y) in a.iter().zip(b) {
        assert_eq!(x.dims(), y.dims());
        let (x, y) = (x.to_f64().expect("numbers"), y.to_f64().expect("numbers"));
        for (x, y) in x.iter().zip(&y) {
            assert_eq!(x.is_nan(), y.is_nan(), "one of the two is no number");
            worst = worst.max((x - y).abs());
        }
    }
    worst
}

/// For `scripts/prune_oracle.py --fixtures DIR`: writes the cut model and those that must compute the
/// same to the directory that PRUNE_FIXTURES names.
fn write_for_judge(path: &Path, models: [(&str, &Model); 3]) {
    let Some(folder) = std::env::var_os("PRUNE_FIXTURES") else { return };
    let name = path.file_stem().expect("a fixture has a name").to_string_lossy();
    for (kind, model) in models {
        let file = Path::new(&folder).join(format!("{name}.{kind}.onnx"));
        lapidary::onnx::save(model, &file, Default::default()).expect("written");
    }
}

#[test]
fn fixtures() {
    insta::glob!("../fixtures/prune", "*.onnxtxt", |path: &Path| {
        let text = std::fs::read_to_string(path).expect("fixture");
        let model = load_fixture(path);
        let ratio = header(&text, "ratio")[0].parse().expect("ratio");
        let approximate = !header(&text, "approximate").is_empty();
        let analysis = Analysis::with(&model, approximate);
        let choice = analysis.choose(&options(ratio)).expect("choice");
        let cut = analysis.cut(&choice).expect("cut");
        assert_eq!(cut.graph.check(), Ok(()));
        assert_eq!(verify::check_lengths(&cut.graph, cut.default_opset()), vec![]);
        let uncut = analysis.cut(&analysis.choose(&options(0.0)).expect("choice")).expect("cut");
        insta::assert_snapshot!(format!(
            "{}\n{}",
            describe(&analysis, &choice),
            changes(&uncut, &cut)
        ));
        if changes(&uncut, &cut).is_empty() {
            return;
        }
        let (masked, zeroed) = (analysis.masked(&choice), analysis.zeroed(&choice));
        write_for_judge(path, [("cut", &cut), ("masked", &masked), ("zeroed", &zeroed)]);
        if header(&text, "engine").is_empty() {
            let cut = run(&cut);
            for (kind, other) in [("masked", masked), ("zeroed", zeroed)] {
                let difference = largest_difference(&run(&other), &cut);
                assert!(approximate || difference < 1e-5, "{kind} and cut differ by {difference}");
            }
        }
    });
}

/// A layer of `n` channels between two others.
fn chain(n: usize) -> Model {
    let text = format!(
        "# fill: w1 seed=1\n# fill: w2 seed=2\n
        <ir_version: 9, opset_import: [\"\": 17]>
        g (float[1,3,4,4] x) => (float[1,2,4,4] y) <float[{n},3,1,1] w1, float[2,{n},1,1] w2> {{
          [\"layer1.0.conv1\"] a = Conv (x, w1)
          [\"layer1.0.conv2\"] y = Conv (a, w2)
        }}"
    );
    parse_fixture(&text).expect("model")
}

fn pruned_to(n: usize, o: &PruneOptions) -> usize {
    let mut model = chain(n);
    let report = prune(&mut model, o).expect("pruned");
    let after = report.groups[0].after;
    let weight = model.graph.find_value("w1").expect("weight");
    assert_eq!(model.graph.const_tensor(weight).expect("constant").dims()[0], after);
    after
}

#[test]
fn forty_percent_of_64_leaves_38() {
    assert_eq!(pruned_to(64, &options(0.4)), 38);
}

#[test]
fn counts_and_round_to() {
    let kept = |n, ratio, round_to| pruned_to(n, &PruneOptions { round_to, ..options(ratio) });
    for (n, want) in [(1, [1, 1, 1, 1]), (2, [2, 1, 1, 1]), (7, [6, 3, 1, 1]), (10, [9, 5, 1, 1])] {
        let got = [0.1, 0.5, 0.9, 0.99].map(|r| kept(n, r, 1));
        assert_eq!(got, want, "{n} channels");
    }
    assert_eq!([0.1, 0.5, 0.9, 0.99].map(|r| kept(100, r, 1)), [90, 50, 10, 1]);
    assert_eq!([4, 8, 16].map(|m| kept(64, 0.3, m)), [48, 48, 48]);
    assert_eq!([4, 8, 16].map(|m| kept(10, 0.5, m)), [8, 8, 10]);
}

#[test]
fn widths_that_kernels_are_slow_at_are_told_of() {
    let warned = |n, round_to| {
        let report = prune(&mut chain(n), &PruneOptions { round_to, ..options(0.4) });
        report.expect("prunes").warnings.iter().any(|w| w.contains("--round-to 8"))
    };
    assert!(warned(64, 1), "38 channels");
    assert!(!warned(64, 8));
    assert!(!warned(64, 16));
    assert!(!warned(20, 1), "they were odd before");
    assert!(!warned(80, 1), "48 channels");
}

#[test]
fn ratio_zero_changes_nothing() {
    let mut model = chain(8);
    let before = lapidary::onnx::text::print(&model, &Default::default());
    prune(&mut model, &options(0.0)).expect("pruned");
    assert_eq!(lapidary::onnx::text::print(&model, &Default::default()), before);
}

#[test]
fn of_equal_channels_the_lower_index_stays() {
    let mut model = chain(4);
    let weight = model.graph.find_value("w1").expect("weight");
    let rows = [2.0f32, 1.0, 1.0, 1.0].map(|v| [v; 3]).concat();
    model.graph.set_data(weight, Tensor::of(&[4, 3, 1, 1], &rows));
    let next = model.graph.find_value("w2").expect("weight");
    let columns = [0.0f32, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0];
    model.graph.set_data(next, Tensor::of(&[2, 4, 1, 1], &columns));
    prune(&mut model, &options(0.5)).expect("pruned");
    let kept = model.graph.const_tensor(next).expect("constant").to_vec::<f32>();
    assert_eq!(kept, Some(vec![0.0, 1.0, 4.0, 5.0]));
}

#[test]
fn nan_is_refused() {
    let mut model = chain(4);
    let weight = model.graph.find_value("w1").expect("weight");
    let mut data = vec![1.0f32; 12];
    data[5] = f32::NAN;
    model.graph.set_data(weight, Tensor::of(&[4, 3, 1, 1], &data));
    for importance in [Importance::L1, Importance::L2, Importance::Linf] {
        let result =
            prune(&mut model, &PruneOptions { importance: Some(importance), ..options(0.5) });
        assert!(matches!(result, Err(PruneError::NotANumber { name }) if name == "w1"));
    }
}

#[test]
fn patterns_and_overrides() {
    let layer = |s: &str| s.parse::<LayerRatio>().expect("override");
    let o = PruneOptions { exclude: vec!["layer1.*".into()], ..options(0.5) };
    assert_eq!(pruned_to(8, &o), 8);
    let o = PruneOptions { include: vec!["other*".into()], ..options(0.5) };
    assert_eq!(pruned_to(8, &o), 8);
    let o = PruneOptions { include: vec!["w1".into()], ..options(0.5) };
    assert_eq!(pruned_to(8, &o), 4);
    let o = PruneOptions { layers: vec![layer("layer1.*=0.25")], ..options(0.5) };
    assert_eq!(pruned_to(8, &o), 6);
    let o = PruneOptions { max_ratio: 0.25, ..options(0.5) };
    assert_eq!(pruned_to(8, &o), 6);
    let o = PruneOptions { layers: vec![layer("*=1.5")], ..options(0.5) };
    assert!(matches!(prune(&mut chain(8), &o), Err(PruneError::Ratio(_))));
    let o = PruneOptions { include: vec!["[".into()], ..options(0.5) };
    assert!(matches!(prune(&mut chain(8), &o), Err(PruneError::Pattern { .. })));
}

#[test]
fn global_ranking_takes_exactly_the_count() {
    let text = "# fill: w1 seed=1\n# fill: w2 seed=2\n# fill: w3 seed=3\n
        <ir_version: 9, opset_import: [\"\": 17]>
        g (float[1,3,4,4] x) => (float[1,2,4,4] y)
        <float[10,3,1,1] w1, float[30,10,1,1] w2, float[2,30,1,1] w3> {
          [c1] a = Conv (x, w1)
          [c2] b = Conv (a, w2)
          [c3] y = Conv (b, w3)
        }";
    let mut model = parse_fixture(text).expect("model");
    let o = PruneOptions { global: true, ..options(0.4) };
    let report = prune(&mut model, &o).expect("pruned");
    let gone: usize = report.groups.iter().map(|g| g.before - g.after).sum();
    assert_eq!(gone, 16);
    assert!(report.groups.iter().all(|g| g.after >= 1));
}

/// Half of the channels are dead in the original: pruning 40 % must take only such.
#[test]
fn dead_channels_go_first() {
    for name in ["conv", "batch_norm", "conv_grouped", "gemm_flatten", "residual"] {
        let path = format!("{}/fixtures/prune/{name}.onnxtxt", env!("CARGO_MANIFEST_DIR"));
        let mut model = load_fixture(Path::new(&path));
        for weight in ["w1", "ws", "w2", "b1", "bb", "mm", "wg", "bg"] {
            let Some(v) = model.graph.find_value(weight) else { continue };
            let is_last =
                model.graph.uses(v).iter().any(|(op, _)| model.graph.op(*op).name == "c2");
            let t = model.graph.const_tensor(v).expect("constant").clone();
            if name != "residual" && is_last {
                continue;
            }
            let mut data = t.to_vec::<f32>().expect("floats");
            let slice = data.len() / t.dims()[0];
            for (i, row) in data.chunks_mut(slice).enumerate() {
                if i % 2 == 1 {
                    row.fill(0.0);
                }
            }
            model.graph.set_data(v, Tensor::of(t.dims(), &data));
        }
        let mut cut = model.clone();
        let report = prune(&mut cut, &options(0.4)).expect("pruned");
        assert!(report.channels_after < report.channels_before, "{name}");
        let difference = largest_difference(&run(&model), &run(&cut));
        assert!(difference < 1e-5, "{name}: {difference}");
    }
}

/// Each of these defects passes the ONNX checker; each must be found here.
#[test]
fn planted_defects_are_found() {
    let conv = "Conv (x, w, b)";
    type Defect =
        (&'static str, &'static str, &'static str, &'static [(&'static str, &'static str)]);
    let cases: &[Defect] = &[
        ("conv bias short", "float[1,3,4,4] x", conv, &[("w", "48,3,1,1"), ("b", "29")]),
        ("conv bias long", "float[1,3,4,4] x", conv, &[("w", "48,3,1,1"), ("b", "60")]),
        ("conv bias one", "float[1,3,4,4] x", conv, &[("w", "48,3,1,1"), ("b", "1")]),
        ("conv in", "float[1,3,4,4] x", "Conv (x, w)", &[("w", "8,4,1,1")]),
        ("conv group in", "float[1,4,4,4] x", "Conv <group = 2> (x, w)", &[("w", "8,3,1,1")]),
        ("conv group out", "float[1,4,4,4] x", "Conv <group = 2> (x, w)", &[("w", "7,2,1,1")]),
        ("depthwise out", "float[1,4,4,4] x", "Conv <group = 4> (x, w)", &[("w", "6,1,1,1")]),
        (
            "transpose bias",
            "float[1,3,4,4] x",
            "ConvTranspose (x, w, b)",
            &[("w", "3,8,1,1"), ("b", "5")],
        ),
        (
            "lstm r",
            "float[2,1,3] x",
            "LSTM <hidden_size = 4> (x, w, r)",
            &[("w", "1,16,3"), ("r", "1,16,5")],
        ),
        (
            "lstm b",
            "float[2,1,3] x",
            "LSTM <hidden_size = 4> (x, w, r, b)",
            &[("w", "1,16,3"), ("r", "1,16,4"), ("b", "1,30")],
        ),
        (
            "gru b",
            "float[2,1,3] x",
            "GRU <hidden_size = 4> (x, w, r, b)",
            &[("w", "1,12,3"), ("r", "1,12,4"), ("b", "1,20")],
        ),
        ("gemm k", "float[2,3] x", "Gemm (x, w)", &[("w", "4,5")]),
        ("gemm c", "float[2,3] x", "Gemm (x, w, b)", &[("w", "3,5"), ("b", "4")]),
        ("layer norm scale", "float[2,3,8] x", "LayerNormalization (x, w)", &[("w", "5")]),
        (
            "layer norm bias",
            "float[2,3,8] x",
            "LayerNormalization (x, w, b)",
            &[("w", "8"), ("b", "5")],
        ),
        (
            "instance norm",
            "float[1,3,4,4] x",
            "InstanceNormalization (x, w, b)",
            &[("w", "2"), ("b", "3")],
        ),
        ("prelu", "float[1,3,4,4] x", "PRelu (x, w)", &[("w", "2,1,1")]),
        (
            "batch norm",
            "float[1,3,4,4] x",
            "BatchNormalization (x, w, b, b, b)",
            &[("w", "2"), ("b", "3")],
        ),
        ("add", "float[1,3,4,4] x", "Add (x, w)", &[("w", "2,1,1")]),
    ];
    for (what, input, node, weights) in cases {
        let fills: String = weights.iter().map(|(n, _)| format!("# fill: {n} seed=1\n")).collect();
        let consts: Vec<String> = weights.iter().map(|(n, d)| format!("float[{d}] {n}")).collect();
        let text = format!(
            "{fills}<ir_version: 9, opset_import: [\"\": 17]>\ng ({input}) => (float y) <{}> {{ y = {node} }}",
            consts.join(", ")
        );
        assert!(!misfits(&text).is_empty(), "{what} passed");
    }
}

#[test]
fn planted_sizes_are_found() {
    let graph = |node: &str, consts: &str, opset: i64| {
        format!(
            "<ir_version: 9, opset_import: [\"\": {opset}]>
            g (float[1,8,4,4] x) => (float y) <{consts}> {{ {node} }}"
        )
    };
    let bad = [
        graph("y = Reshape (x, s)", "int64[2] s = {1, 120}", 17),
        graph("y, z = Split <axis = 1> (x, s)", "int64[2] s = {3, 4}", 17),
        graph("y = GroupNormalization <num_groups = 8> (x, s, s)", "float[3] s = {1, 1, 1}", 21),
        graph("y = GroupNormalization <num_groups = 2> (x, s, s)", "float[3] s = {1, 1, 1}", 21),
        graph("y = QuantizeLinear <axis = 1> (x, s)", "float[3] s = {1, 1, 1}", 17),
    ];
    for text in bad {
        assert!(!misfits(&text).is_empty(), "{text} passed");
    }
    let good = graph("y = Reshape (x, s)", "int64[2] s = {0, 128}", 17);
    assert_eq!(misfits(&good), Vec::<String>::new());
}

/// What shape inference and the verifier find wrong.
fn misfits(text: &str) -> Vec<String> {
    let mut model = parse_fixture(text).expect("model");
    let opset = model.default_opset();
    let mut found = Vec::new();
    lapidary::pass::infer_graph(&mut model.graph, opset, &mut |node, what| {
        found.push(format!("{node}: {what}"));
    });
    let lengths = verify::check_lengths(&model.graph, opset);
    found.extend(lengths.iter().map(ToString::to_string));
    found
}

fn resnet8() -> (Model, Box<dyn Source>) {
    let data = DataOptions {
        data: vec!["fixtures/data/calib-256-images-idx3-ubyte".into()],
        samples: Some(160),
        mean: vec![0.2860],
        std: vec![0.3530],
        ..DataOptions::default()
    };
    let mut model = lapidary::onnx::load(Path::new("fixtures/models/resnet8.onnx")).expect("model");
    lapidary::pass::simplify(&mut model, &mut lapidary::pass::Cx::default()).expect("simplified");
    let source = lapidary::data::open(&data, &model, 0).expect("data");
    (model, source)
}

fn calibration(source: &dyn Source) -> Calibration<'_> {
    Calibration { engine: &TractEngine, source, progress: &|_, _, _| {} }
}

/// ResNet-8 on Fashion-MNIST cut to half its multiplications: what its outputs are worth afterwards.
#[test]
fn recovery_brings_outputs_back() {
    let (mut model, source) = resnet8();
    let mut last = f64::NEG_INFINITY;
    for (recover, least) in
        [(Recover::Bias, 0.0), (Recover::Affine, 1.0), (Recover::Reconstruct, 12.0)]
    {
        let mut cut = model.clone();
        let o = PruneOptions {
            recover: Some(recover),
            importance: Some(Importance::L2),
            ..options(0.3)
        };
        let report = prune_with(&mut cut, &o, Some(calibration(&*source)), &[]).expect("pruned");
        let recovery = report.recovery.expect("recovered");
        assert_eq!((recovery.layers.len(), recovery.skipped.len()), (9, 0));
        let (before, after) =
            (recovery.sqnr_before.expect("lossy"), recovery.sqnr_after.expect("lossy"));
        assert!(before < 0.0 && after > least && after > last, "{recover:?}: {before} {after}");
        last = after;
    }
    let alone = PruneOptions { recover: Some(Recover::Bias), ..options(0.3) };
    assert!(matches!(prune(&mut model, &alone), Err(PruneError::NoData)));
}

#[test]
fn goals_are_reached_by_every_importance() {
    let (model, source) = resnet8();
    let one = [("batch".to_owned(), 1)];
    let macs = |m: &Model| {
        let found = lapidary::report::inspect::summarize(m, &one);
        found.macs.expect("sizes are known") as f64
    };
    let most = macs(&model);
    for importance in <Importance as clap::ValueEnum>::value_variants() {
        for (global, isomorphic) in [(false, false), (true, false), (false, true)] {
            let o = PruneOptions {
                importance: Some(*importance),
                target_macs: Some(0.5),
                recover: Some(Recover::None),
                global,
                isomorphic,
                ..PruneOptions::default()
            };
            let data = importance.needs_data().then(|| calibration(&*source));
            let mut cut = model.clone();
            prune_with(&mut cut, &o, data, &[]).expect("pruned");
            let left = macs(&cut) / most;
            assert!(left <= 0.5 && left > 0.4, "{importance:?} {global} {isomorphic}: {left}");
        }
    }
    let o = PruneOptions { importance: Some(Importance::Hessian), ..options(0.3) };
    assert!(matches!(prune(&mut model.clone(), &o), Err(PruneError::ImportanceData)));
    let o = PruneOptions { target_params: Some(0.001), ..PruneOptions::default() };
    assert!(matches!(prune(&mut model.clone(), &o), Err(PruneError::Unreachable { .. })));
}

#[test]
fn steps_end_where_one_does() {
    let (model, source) = resnet8();
    let left = |iterations| {
        let o = PruneOptions { iterations, ..options(0.5) };
        let mut cut = model.clone();
        let report = prune_with(&mut cut, &o, Some(calibration(&*source)), &[]).expect("pruned");
        let sqnr = report.recovery.and_then(|r| r.sqnr_after).expect("recovered");
        (report.groups.into_iter().map(|g| g.after).collect::<Vec<_>>(), sqnr)
    };
    let (once, twice) = (left(1), left(2));
    assert!(once.0.iter().zip(&twice.0).all(|(a, b)| a.abs_diff(*b) <= 1), "{once:?} {twice:?}");
    assert!(twice.1 > 5.0, "{}", twice.1);
}

/// With zeros in the weights, biases and normalizations that make random channels of every group, the
/// original computes what it computes without these channels.
#[test]
fn zero_channels_are_no_channels() {
    for name in ["resnet8", "mobilenet", "vit"] {
        let path = format!("fixtures/models/{name}.onnx");
        let mut model = lapidary::onnx::load(Path::new(&path)).expect("model");
        lapidary::pass::simplify(&mut model, &mut lapidary::pass::Cx::default()).expect("simple");
        let analysis = Analysis::of(&model);
        for (seed, ratio) in [(1, 0.3), (2, 0.5), (3, 0.7)] {
            let importance = Some(Importance::Random);
            let o = PruneOptions { importance, seed, ..options(ratio) };
            let choice = analysis.choose(&o).expect("choice");
            let cut = run(&analysis.cut(&choice).expect("cut"));
            for other in [analysis.zeroed(&choice), analysis.masked(&choice)] {
                let difference = largest_difference(&run(&other), &cut);
                assert!(difference < 1e-4, "{name} {ratio}: {difference}");
            }
        }
    }
}

#[test]
fn more_channels_cost_more() {
    let (model, source) = resnet8();
    let o = SensitivityOptions {
        ratios: vec![0.5, 0.25],
        together: true,
        recover: Recover::Affine,
        ..SensitivityOptions::default()
    };
    let one = [("batch".to_owned(), 1)];
    let found = curve(&model, &o, calibration(&*source), &one).expect("measured");
    let [few, many] = &found.points[..] else { panic!("{found:?}") };
    assert!(few.macs > many.macs && few.params > many.params, "{found:?}");
    assert!(few.sqnr_db > many.sqnr_db && few.agreement > many.agreement, "{found:?}");
    let bad = SensitivityOptions { ratios: vec![1.5], ..o };
    assert!(matches!(curve(&model, &bad, calibration(&*source), &one), Err(PruneError::Ratio(_))));
}
