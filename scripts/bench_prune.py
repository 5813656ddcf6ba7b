#!/usr/bin/env python3
"""Channel pruning beside Torch-Pruning, in one run.

    bench_prune.py --lapidary target/release/lapidary --models FOLDER [--ratio 0.5] [NAME ...]

For each torchvision model: what is left of the multiply-accumulates after asking for RATIO of the channels, and the
seconds it took. Torch-Pruning prunes the module (GroupMagnitudeImportance, local, the last Linear left alone);
Lapidary prunes FOLDER/NAME.onnx, the export of the same module, the time being that of its steps, simplification
included, without reading and writing. Torch-Pruning cuts across normalizations, too; so do we in the
rows that say --approximate. Needs torch, torchvision and torch-pruning.
"""
import argparse
import json
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import torch
import torch_pruning as tp
import torchvision

NAMES = """resnet18 resnet50 regnet_y_400mf densenet121 googlenet inception_v3 squeezenet1_1 alexnet mobilenet_v2
mobilenet_v3_small mnasnet1_0 efficientnet_b0 convnext_tiny shufflenet_v2_x1_0 vit_b_16 swin_t""".split()


def theirs(name, ratio, limit):
    """Share of the MACs left in percent and seconds, or why not."""
    torch.manual_seed(0)
    model = torchvision.models.get_model(name, weights=None).eval()
    size = 299 if name == "inception_v3" else 224
    x = torch.randn(1, 3, size, size)
    ignored = [m for m in model.modules() if isinstance(m, torch.nn.Linear) and m.out_features == 1000]
    ignored += [m for m in model.modules() if isinstance(m, torch.nn.Conv2d) and m.out_channels == 1000]
    heads = {m: m.num_heads for m in model.modules() if isinstance(m, torch.nn.MultiheadAttention)}
    try:
        signal.alarm(limit)
        before = tp.utils.count_ops_and_params(model, x)[0]
        start = time.perf_counter()
        pruner = tp.pruner.MagnitudePruner(
            model, x, tp.importance.GroupMagnitudeImportance(p=2), pruning_ratio=ratio,
            ignored_layers=ignored, num_heads=heads,
        )
        pruner.step()
        seconds = time.perf_counter() - start
        after = tp.utils.count_ops_and_params(model, x)[0]
        return f"{100 * after / before:.1f}", f"{seconds:.2f}"
    except Exception as error:  # the row must be there for every model
        return f"fails ({type(error).__name__})", ""
    finally:
        signal.alarm(0)


NORMALIZED = ("convnext_tiny", "vit_b_16", "swin_t")


def ours(lapidary, path, ratio, *more):
    with tempfile.TemporaryDirectory() as folder:
        command = [lapidary, "prune", path, *more, "--ratio", str(ratio), "--no-verify", "--json", "-o", f"{folder}/p.onnx"]
        run = subprocess.run([*map(str, command), "--dim", "batch=1"], capture_output=True, text=True)
        if run.returncode:
            run = subprocess.run([*map(str, command)], capture_output=True, text=True)
        if run.returncode:
            return f"fails ({run.stderr.strip()[:60]})", "", ""
        report = json.loads(run.stdout)
        before, after = report["before"]["macs"], report["after"]["macs"]
        groups = next(s for s in report["steps"] if s["kind"] == "prune")["groups"]
        pinned = sum(g["pinned"] is not None for g in groups)
        return f"{100 * after / before:.1f}", f"{report['seconds']:.2f}", f"{len(groups) - pinned}/{pinned}"


def stop(*_):
    raise TimeoutError


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", default=NAMES)
    parser.add_argument("--lapidary", type=Path, required=True)
    parser.add_argument("--models", type=Path, required=True)
    parser.add_argument("--ratio", type=float, default=0.5)
    parser.add_argument("--limit", type=int, default=240, help="seconds for Torch-Pruning on one model")
    args = parser.parse_args()
    signal.signal(signal.SIGALRM, stop)
    print("| model | Torch-Pruning: MACs left % | s | Lapidary: MACs left % | s | groups cut/left alone |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in args.names:
        mine = ours(args.lapidary, args.models / f"{name}.onnx", args.ratio)
        other = theirs(name, args.ratio, args.limit)
        print(f"| {name} | {other[0]} | {other[1]} | {mine[0]} | {mine[1]} | {mine[2]} |", flush=True)
        if name in NORMALIZED:
            mine = ours(args.lapidary, args.models / f"{name}.onnx", args.ratio, "--approximate")
            print(f"| {name} --approximate | | | {mine[0]} | {mine[1]} | {mine[2]} |", flush=True)


if __name__ == "__main__":
    main()
