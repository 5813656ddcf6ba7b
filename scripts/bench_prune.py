#!/usr/bin/env python3
"""Tables of pruning, each by one command; figures of Torch-Pruning come from the same run.

    bench_prune.py channels --lapidary PROGRAM --models FOLDER [--ratio 0.5] [NAME ...]
    bench_prune.py accuracy --lapidary PROGRAM --models FOLDER --data FOLDER [NAME ...]
    bench_prune.py two-four --lapidary PROGRAM --models FOLDER --data FOLDER [NAME ...]
    bench_prune.py latency  --lapidary PROGRAM --models FOLDER [--round-to 1] [NAME ...]

channels: FOLDER/NAME.onnx are exports of torchvision's models. What is left of the multiply-accumulates after asking
for RATIO of the channels, and seconds. Torch-Pruning's are those of tracing, grouping, ranking and cutting the module
(GroupMagnitudeImportance, local; layers of 1000 results, the classes, left alone). Ours are those of the whole process
with reading, simplification, counting and writing, and, under "cut alone", those of grouping, ranking and cutting the
simplified model, as the report has them. Torch-Pruning cuts across normalizations; so do we in the rows that say
--approximate.

accuracy: FOLDER has resnet8.onnx and mobilenet.onnx trained on Fashion-MNIST (fixtures/models), --data
fmnist-calib.npz without labels and fmnist-test.npz with. Accuracy in % at 70, 50 and 30 % of the multiply-accumulates
left: as cut by L2, with each kind of recovery, and by Torch-Pruning without fine-tuning on the same weights, local and
global, the ratio searched for.

two-four: 2:4 as SQNR in dB, and accuracy in % (where samples have no labels, agreement in % with the original), in
ONNX Runtime: by magnitude, reordered, with the update, and with a goal (--max-drop). --data has fmnist-calib.npz and
fmnist-test.npz for resnet8 and mobilenet, imagenet-calib.npz and imagenet-eval.npz for mobilenet_v2_imagenet. Other
models are judged on noise, and get no update: their weights are random.

latency: ONNX Runtime, one thread, at 70, 50 and 30 % of the multiply-accumulates: the processor time in % of the
original's, by medians of interleaved runs, beside the multiply-accumulates that are left.

Needs numpy, onnx and onnxruntime; the first two also torch, torchvision and torch-pruning.
"""
import argparse
import json
import signal
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
from accuracy import compare
from measuring import session
from onnx import numpy_helper

NAMES = """resnet18 resnet50 regnet_y_400mf densenet121 googlenet inception_v3 squeezenet1_1 alexnet mobilenet_v2
mobilenet_v3_small mnasnet1_0 efficientnet_b0 convnext_tiny shufflenet_v2_x1_0 vit_b_16 swin_t""".split()
NORMALIZED = ("convnext_tiny", "vit_b_16", "swin_t")
SHARES = (0.7, 0.5, 0.3)
# Chosen by the SQNR on 3,000 training images: --max-ratio and --iterations of `reconstruct`.
CHOSEN = {("resnet8", 0.3): (0.5, 2), ("mobilenet", 0.5): (0.5, 2), ("mobilenet", 0.3): (0.6, 1)}
# The samples and, without labels, the goal of each trained model.
TRAINED = {"resnet8": ("fmnist-calib", "fmnist-test", 5), "mobilenet": ("fmnist-calib", "fmnist-test", 5),
           "mobilenet_v2_imagenet": ("imagenet-calib", "imagenet-eval", 30)}


def lapidary(args, path, out, *more):
    """Prunes a model; the report, or None with a line of why not."""
    command = [args.lapidary, "prune", path, *more, "--no-verify", "--json", "--force", "-o", out]
    run = subprocess.run([*map(str, command)], capture_output=True, text=True)
    if run.returncode:
        print(f"{Path(path).stem} {' '.join(map(str, more))}: {run.stderr.strip()[:200]}", flush=True)
        return None
    return json.loads(run.stdout)


def step(report, kind="prune"):
    return next(s for s in report["steps"] if s["kind"] == kind)


# -- channels ---------------------------------------------------------------------------------------------------------


def pruner(model, x, ratio, ignored, global_pruning=False):
    import torch
    import torch_pruning as tp

    heads = {m: m.num_heads for m in model.modules() if isinstance(m, torch.nn.MultiheadAttention)}
    return tp.pruner.MagnitudePruner(
        model, x, tp.importance.GroupMagnitudeImportance(p=2), pruning_ratio=ratio, ignored_layers=ignored,
        num_heads=heads, global_pruning=global_pruning,
    )


def theirs(name, ratio, limit):
    """Share of the MACs left in percent and seconds, or why not."""
    import torch
    import torch_pruning as tp
    import torchvision

    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None).eval()
    size = 299 if name == "inception_v3" else 224
    x = torch.randn(1, 3, size, size)
    ignored = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m.out_features == 1000]
    ignored += [m for m in model.modules() if isinstance(m, torch.nn.Conv2d) and m.out_channels == 1000]
    try:
        signal.alarm(limit)
        before = tp.utils.count_ops_and_params(model, x)[0]
        start = time.perf_counter()
        pruner(model, x, ratio, ignored).step()
        seconds = time.perf_counter() - start
        after = tp.utils.count_ops_and_params(model, x)[0]
        return f"{100 * after / before:.1f}", f"{seconds:.2f}"
    except Exception as error:  # the row must be there for every model
        return f"fails ({type(error).__name__})", ""
    finally:
        signal.alarm(0)


def ours(args, name, folder, *more):
    """MACs left in percent, seconds of the process and of the cut alone, and groups cut and left alone."""
    path = args.models / f"{name}.onnx"
    start = time.perf_counter()
    report = lapidary(args, path, folder / "p.onnx", *more, "--ratio", args.ratio)
    seconds = time.perf_counter() - start
    if report is None:
        return "fails", "", "", ""
    before, after = report["before"]["macs"], report["after"]["macs"]
    groups = step(report)["groups"]
    pinned = sum(g["pinned"] is not None for g in groups)
    simple = folder / "simple.onnx"
    command = [args.lapidary, "simplify", path, "--no-verify", "--force", "-o", simple]
    subprocess.run(command, check=True, capture_output=True)
    own = lapidary(args, simple, folder / "p.onnx", "--no-simplify", *more, "--ratio", args.ratio)["seconds"]
    return f"{100 * after / before:.1f}", f"{seconds:.2f}", f"{own:.3f}", f"{len(groups) - pinned}/{pinned}"


def channels(args, folder):
    print("| model | Torch-Pruning: MACs left % | s | Lapidary: MACs left % | s | cut alone, s "
          "| groups cut/left alone |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for name in args.names or NAMES:
        other = theirs(name, args.ratio, args.limit)
        print("|", " | ".join([name, *other, *ours(args, name, folder)]), "|", flush=True)
        if name in NORMALIZED:
            row = ours(args, name, folder, "--approximate")
            print("|", " | ".join([f"{name} --approximate", "", "", *row]), "|", flush=True)


# -- accuracy ---------------------------------------------------------------------------------------------------------


def as_module(path):
    """The ONNX model as a PyTorch module with the same weights: the operators of the Fashion-MNIST models."""
    import torch
    from torch import nn

    graph = onnx.load(path).graph
    data = {t.name: torch.tensor(numpy_helper.to_array(t).copy()) for t in graph.initializer}

    class Module(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = nn.ModuleDict()
            names = [n for n in graph.node if n.op_type == "Identity" and n.input[0] in data]
            data.update({n.output[0]: data[n.input[0]] for n in names})
            self.nodes = [n for n in graph.node if n not in names]
            for i, n in enumerate(self.nodes):
                made = layer(n, [data.get(v) for v in n.input])
                if made is not None:
                    self.layers[str(i)] = made

        def forward(self, x):
            values = {graph.input[0].name: x}
            for i, n in enumerate(self.nodes):
                own = [values[v] for v in n.input if v in values]
                values[n.output[0]] = self.layers[str(i)](*own) if str(i) in self.layers else apply(n, own, data)
            return values[graph.output[0].name]

    def attributes(n):
        return {a.name: onnx.helper.get_attribute_value(a) for a in n.attribute}

    def layer(n, w):
        a = attributes(n)
        if n.op_type == "Conv":
            out, each, *kernel = w[1].shape
            group = a.get("group", 1)
            stride, pad = a.get("strides", 1), a.get("pads", [0])[0]
            made = nn.Conv2d(each * group, out, kernel, stride, pad, 1, group, len(w) > 2)
        elif n.op_type == "Gemm":
            made = nn.Linear(w[1].shape[1], w[1].shape[0])
            assert a.get("transB") == 1
        elif n.op_type == "BatchNormalization":
            made = nn.BatchNorm2d(len(w[1]), a.get("epsilon", 1e-5))
            made.running_mean.data, made.running_var.data = w[3], w[4]
        else:
            return None
        made.weight.data = w[1]
        if len(w) > 2:
            made.bias.data = w[2]
        return made

    def apply(n, x, data):
        a, f = attributes(n), torch.nn.functional
        if n.op_type == "MaxPool":
            return f.max_pool2d(x[0], a["kernel_shape"], a.get("strides"), a.get("pads", [0])[0])
        if n.op_type == "ReduceMean":
            axes = a.get("axes") or data[n.input[1]].tolist()
            return x[0].mean(axes, keepdim=bool(a.get("keepdims", 1)))
        known = {
            "Relu": torch.relu, "HardSwish": f.hardswish, "HardSigmoid": lambda v: (v / 6 + 0.5).clamp(0, 1),
            "Add": torch.add, "Mul": torch.mul, "GlobalAveragePool": lambda v: v.mean((2, 3), keepdim=True),
            "Flatten": lambda v: v.flatten(1), "Identity": lambda v: v,
        }
        return known[n.op_type](*x)

    return Module().eval()


def top1(model, data):
    import torch

    hits = 0
    with torch.no_grad():
        for i in range(0, len(data["label"]), 500):
            found = model(torch.tensor(data["input"][i : i + 500])).argmax(1).numpy()
            hits += int((found == data["label"][i : i + 500]).sum())
    return 100 * hits / len(data["label"])


def torch_pruned(path, share, global_pruning):
    """The module cut by the least ratio, found by bisection, that leaves at most `share` of the MACs."""
    import torch
    import torch_pruning as tp

    def cut(ratio):
        model = as_module(path)
        last = [m for m in model.modules() if isinstance(m, torch.nn.Linear)][-1:]
        x = torch.randn(1, 1, 28, 28)
        before = tp.utils.count_ops_and_params(model, x)[0]
        pruner(model, x, ratio, last, global_pruning).step()
        return model, tp.utils.count_ops_and_params(model, x)[0] / before

    low, high = 0.0, 0.95
    for _ in range(10):
        middle = (low + high) / 2
        low, high = (low, middle) if cut(middle)[1] <= share else (middle, high)
    return cut(high)


def accuracy(args, folder):
    calib, test = args.data / "fmnist-calib.npz", dict(np.load(args.data / "fmnist-test.npz"))
    print("| model | MACs asked for % | original | cut by L2 | bias | affine | reconstruct (MACs left %) "
          "| Torch-Pruning local | global |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|---:|")
    for name in args.names or ("resnet8", "mobilenet"):
        path = args.models / f"{name}.onnx"
        original = session(path)
        same = abs(top1(as_module(path), test) - compare(original, original, test, 500, 0)["top1_float"])
        assert same <= 0.02, f"the PyTorch module differs by {same} points"
        for share in SHARES:
            row = []
            for how in ("none", "bias", "affine", "reconstruct"):
                ratio, steps = CHOSEN.get((name, share), (0.5, 1)) if how == "reconstruct" else (0.7, 1)
                rank = [] if how == "reconstruct" else ["--importance", "l2"]
                report = lapidary(args, path, folder / "p.onnx", "--global", "--target-macs", share, "--data", calib,
                                  "--recover", how, "--max-ratio", ratio, "--iterations", steps, *rank)
                found = report and compare(original, session(folder / "p.onnx"), test, 500, 0)
                row.append(f"{found['top1_quantized']:.2f}" if found else "out of reach")
            left = report and 100 * report["after"]["macs"] / report["before"]["macs"]
            row[-1] += f" ({left:.1f})" if left else ""
            peers = [f"{top1(torch_pruned(path, share, g)[0], test):.2f}" for g in (False, True)]
            start = f"{found['top1_float']:.2f}" if found else ""
            print("|", " | ".join([name, f"{100 * share:.0f}", start, *row, *peers]), "|", flush=True)


# -- 2:4 --------------------------------------------------------------------------------------------------------------


def two_four(args, folder):
    rows = {"magnitude, in order": ("--no-permute", "none"), "reordered": ("", "none"),
            "update, in order": ("--no-permute", "data"), "both": ("", "data"), "both, with a goal": ("", "goal")}
    print("| model | 2:4 | layers 2:4 / linear | SQNR dB | accuracy or agreement % | s |")
    print("|---|---|---:|---:|---:|---:|")
    for name in args.names or [*TRAINED, "resnet18", "resnet50"]:
        path = args.models / f"{name}.onnx"
        original, trained = session(path), TRAINED.get(name)
        shape = [d if isinstance(d, int) else 1 for d in original.get_inputs()[0].shape]
        noise = np.random.default_rng(0).standard_normal([8, *shape[1:]]).astype(np.float32)
        data = {original.get_inputs()[0].name: noise}
        if trained:
            data = dict(np.load(args.data / f"{trained[1]}.npz"))
        for label, (order, how) in rows.items():
            if how != "none" and not trained:
                continue
            more = [order] if order else []
            more += [] if how == "none" else ["--data", args.data / f"{trained[0]}.npz"]
            more += ["--max-drop", trained[2]] if how == "goal" else []
            start = time.perf_counter()
            report = lapidary(args, path, folder / "s.onnx", "--mode", "2:4", *more)
            seconds = time.perf_counter() - start
            if report is None:
                continue
            layers = step(report, "sparse")["layers"]
            cut = sum(layer["skipped"] is None for layer in layers)
            found = compare(original, session(folder / "s.onnx"), data, 16, 0)
            said = f"{found.get('top1_quantized', found['agreement']):.2f}" if trained else "random weights"
            row = [name, label, f"{cut} / {len(layers)}", f"{found['sqnr_db']:.1f}", said, f"{seconds:.1f}"]
            print("|", " | ".join(row), "|", flush=True)


# -- latency ----------------------------------------------------------------------------------------------------------


def latency(args, folder):
    print("| model | 70 %: MACs / time | 50 % | 30 % |\n|---|---:|---:|---:|")
    for name in args.names or ("resnet18", "resnet50", "mobilenet_v2", "mobilenet_v3_large", "efficientnet_b0"):
        path, cells, sessions = args.models / f"{name}.onnx", [], {1.0: None}
        for share in SHARES:
            out = folder / f"{share}.onnx"
            report = lapidary(args, path, out, "--target-macs", share, "--round-to", args.round_to)
            sessions[share] = report and (session(out, optimize=True), report)
        sessions[1.0] = (session(path, optimize=True), None)
        first = sessions[1.0][0].get_inputs()[0]
        shape = [d if isinstance(d, int) else 1 for d in first.shape]
        x = {first.name: np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
        times = {share: [] for share, s in sessions.items() if s}
        for _ in range(args.runs):
            for share in times:
                start = time.process_time()
                sessions[share][0].run(None, x)
                times[share].append(time.process_time() - start)
        base = statistics.median(times[1.0])
        for share in SHARES:
            if share not in times:
                cells.append("out of reach")
                continue
            report = sessions[share][1]
            left = 100 * report["after"]["macs"] / report["before"]["macs"]
            cells.append(f"{left:.0f} / {100 * statistics.median(times[share]) / base:.0f}")
        print("|", " | ".join([name, *cells]), "|", flush=True)


def stop(*_):
    raise TimeoutError


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tables = {"channels": channels, "accuracy": accuracy, "two-four": two_four, "latency": latency}
    parser.add_argument("table", choices=tables)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--lapidary", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--ratio", type=float, default=0.5)
    parser.add_argument("--round-to", type=int, default=1)
    parser.add_argument("--runs", type=int, default=31, help="runs of each model for a median")
    parser.add_argument("--limit", type=int, default=240, help="seconds for Torch-Pruning on one model")
    args = parser.parse_intermixed_args()
    signal.signal(signal.SIGALRM, stop)
    with tempfile.TemporaryDirectory() as folder:
        tables[args.table](args, Path(folder))


if __name__ == "__main__":
    main()
