#!/usr/bin/env python3
"""Random graphs through `lapidary simplify`, judged by ONNX Runtime.

    python=$(scripts/judge.sh)
    "$python" scripts/random_graphs.py --lapidary target/release/lapidary --count 10000 --save FOLDER
    "$python" scripts/random_graphs.py --lapidary target/release/lapidary --first 4711 --count 1 --save FOLDER

Graph number N comes from seed N and nothing else. Each draws an opset from 9 to 21 and some 4 to 20 forms: single
operators (random_ops.py) and patterns that passes look for (random_patterns.py), over float, double, float16, integer
and bool tensors, symbolic dimensions, arithmetic on shapes, subgraphs and functions. Each runs with two settings of
its symbolic dimensions, one of which sets some to 1.

A graph that ONNX Runtime (its optimizations off) cannot run is skipped. For every other, `lapidary simplify
--no-verify` has to keep the promises of docs/simplify.md: exit code 0; the same inputs and outputs; no new domain; the
declared opset; no larger file than the input beyond 64 KiB and 1 %; a second run writes the same bytes; the result
loads and computes what the graph computes, on the same inputs. Floats may differ by rounding. Where the graph's own
outputs change as much when its inputs and weights change by a few roundings (steps such as Floor and ArgMax), the case
counts as unstable, not as failed.

Prints each failure with its seed, and counts. --save keeps model, result and inputs of each failure. Exit code 1 if
any failed. Needs onnx, onnxruntime and numpy.
"""
import argparse
import collections
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

import random_patterns  # noqa: F401 - registers its forms
from conformance import check_interface, JudgeError
from random_builder import BINDINGS, SYMBOLS, Builder, Skip
from random_ops import FORMS, grow

PER_WORKER = 250  # graphs after which a fresh process goes on
SMALL = 64 << 10
# (relative, absolute) by element type; the absolute one is scaled by the largest element
ROUNDING = {"float64": (1e-5, 1e-6), "float32": (1e-3, 1e-4), "float16": (2e-2, 1e-2)}


def generate(seed):
    """The graph of a seed: model, inputs under each binding, and the forms it is made of."""
    b = Builder(seed, opset=9 + seed % 13)
    dims = list(SYMBOLS)
    b.rng.shuffle(dims)
    kind = b.rng.random()
    if kind < 0.5:
        b.input("float32", [dims[0], b.choice([2, 3, 4, 6, 8]), b.choice([6, 7, 8, dims[1]]), b.choice([6, 8, 9])])
    if kind > 0.35:
        b.input("float32", [dims[0], b.choice([dims[1], 3]), b.choice([4, 6, 8])])
    grow(b, FORMS, b.rng.randint(4, 20))
    return b.model(), b.feeds, b.forms


def session(model):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(model, feeds):
    runner = session(model)
    return [runner.run(None, feed) for feed in feeds]


def difference(expected, got):
    """How two outputs differ, with the largest difference; None when they agree."""
    if (expected.dtype, expected.shape) != (got.dtype, got.shape):
        return f"{got.dtype}{list(got.shape)} instead of {expected.dtype}{list(expected.shape)}", np.inf
    if expected.size == 0:
        return None
    if expected.dtype.kind != "f":
        if np.array_equal(expected, got):
            return None
        return f"{int(np.sum(expected != got))} of {expected.size} values differ", 1.0
    relative, absolute = ROUNDING[expected.dtype.name]
    a, b = expected.astype(np.float64), got.astype(np.float64)
    finite = np.abs(a[np.isfinite(a)])
    scale = max(1.0, float(finite.max())) if finite.size else 1.0
    close = np.isclose(b, a, rtol=relative, atol=absolute * scale, equal_nan=True)
    if close.all():
        return None
    with np.errstate(invalid="ignore"):
        worst = float(np.nanmax(np.append(np.abs(a - b)[~close], 0)))
    return f"{int(np.sum(~close))} of {a.size} values differ, by up to {worst:.3g} (scale {scale:.3g})", worst


def first_difference(expected, got, names):
    """(binding, output, how, how much) of the first output that differs, or None."""
    for k, (x, y) in enumerate(zip(expected, got)):
        for name, a, b in zip(names, x, y):
            if found := difference(a, b):
                return k, name, *found
    return None


def nudged(array, rng):
    if array.dtype.kind != "f" or array.size == 0:
        return array
    return (array * (1 + rng.uniform(-4, 4, array.shape) * np.finfo(array.dtype).eps)).astype(array.dtype)


def unstable(model, feeds, expected, found):
    """The output changes about as much when inputs and weights change by a few roundings."""
    k, name, _, much = found
    names = [o.name for o in model.graph.output]
    for seed in range(6):
        rng = np.random.default_rng(seed)
        near = onnx.ModelProto.FromString(model.SerializeToString())
        for tensor in near.graph.initializer:
            tensor.CopyFrom(onnx.numpy_helper.from_array(nudged(onnx.numpy_helper.to_array(tensor), rng), tensor.name))
        feed = {n: nudged(v, rng) for n, v in feeds[k].items()}
        (got,) = run(near.SerializeToString(), [feed])
        i = names.index(name)
        other = difference(expected[k][i], got[i])
        if other and other[1] >= 0.05 * min(much, 1e30):
            return True
    return False


def simplify(lapidary, source, target, extra=()):
    done = subprocess.run(
        [lapidary, "simplify", source, "-o", target, "--no-verify", "--quiet", "--force", *extra],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, close_fds=False, timeout=60,
    )
    if done.returncode:
        lines = done.stderr.decode(errors="replace").strip().splitlines() or [""]
        raise JudgeError("refused" if done.returncode in (1, 2) else "crashed", " ".join(lines)[:300])


def promises(model, result, before, after):
    check_interface(model, result)
    versions = {o.domain: o.version for o in model.opset_import}
    for o in result.opset_import:
        if versions.get(o.domain) != o.version:
            raise JudgeError("opset", f"{o.domain or 'ai.onnx'} {versions.get(o.domain)} became {o.version}")
    if after > before + before // 100 + SMALL:
        raise JudgeError("size", f"{before} bytes became {after}")
    if [(p.key, p.value) for p in result.metadata_props] != [(p.key, p.value) for p in model.metadata_props]:
        raise JudgeError("metadata", "metadata changed")
    if result.graph.doc_string != model.graph.doc_string or result.graph.name != model.graph.name:
        raise JudgeError("metadata", "the graph's name or doc string changed")


def judge(lapidary, seed, folder, keep):
    """The outcome of a seed: its kind and a message."""
    try:
        model, feeds, forms = generate(seed)
    except Skip:
        return "empty", "", []
    raw = model.SerializeToString()
    names = [o.name for o in model.graph.output]
    try:
        expected = run(raw, feeds)
    except Exception as e:  # noqa: BLE001 - whatever the judge throws
        return "not run", f"opset {model.opset_import[0].version}: {' '.join(str(e).split())[:400]}", forms
    source, target, again = (os.path.join(folder, f"{stem}.onnx") for stem in ("model", "result", "again"))
    Path(source).write_bytes(raw)
    try:
        simplify(lapidary, source, target)
        result = onnx.load(target)
        promises(model, result, len(raw), os.path.getsize(target))
        simplify(lapidary, target, again)
        if Path(again).read_bytes() != Path(target).read_bytes():
            raise JudgeError("idempotent", "a second run changes more")
        try:
            got = run(target, feeds)
        except Exception as e:  # noqa: BLE001
            raise JudgeError("does not run", " ".join(str(e).split())[:300]) from None
        if found := first_difference(expected, got, names):
            if unstable(model, feeds, expected, found):
                return "unstable", "", forms
            raise JudgeError("wrong", f"binding {found[0]}, output {found[1]}: {found[2]}")
    except JudgeError as e:
        save(keep, seed, source, target, feeds)
        return e.kind, e.message, forms
    changed = len(result.graph.node) < len(model.graph.node)
    return ("simplified" if changed else "unchanged"), "", forms


def save(keep, seed, source, target, feeds):
    if not keep:
        return
    folder = Path(keep)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{seed}.onnx").write_bytes(Path(source).read_bytes())
    if Path(target).exists():
        (folder / f"{seed}.result.onnx").write_bytes(Path(target).read_bytes())
    for k in range(BINDINGS):
        np.savez(folder / f"{seed}.{k}.npz", **feeds[k])


def worker(args):
    """One line of JSON for each seed, written as soon as it is known."""
    with tempfile.TemporaryDirectory(prefix="random-") as folder:
        for seed in range(args.first, args.first + args.count):
            for stem in ("model", "result", "again"):
                Path(folder, f"{stem}.onnx").unlink(missing_ok=True)
            kind, message, forms = judge(args.lapidary, seed, folder, args.save)
            print(json.dumps([seed, kind, message, forms]), flush=True)


def chunk(args, first, count):
    """Runs a worker over seeds; where the judge itself crashes, the next one goes on behind that seed."""
    rows, end = [], first + count
    while first < end:
        command = [sys.executable, __file__, "--worker", "--lapidary", args.lapidary, "--first", str(first), "--count", str(end - first)]
        command += ["--save", args.save] if args.save else []
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        lines = [json.loads(line) for line in done.stdout.decode().splitlines()]
        rows += lines
        first += len(lines)
        if first < end:
            error = done.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {done.returncode}"]
            rows.append([first, "judge crashed", error[-1][:200], []])
            first += 1
    return rows


GOOD = ("simplified", "unchanged", "unstable", "not run", "empty", "judge crashed")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lapidary", required=True, metavar="PATH")
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--jobs", type=int, default=os.cpu_count())
    parser.add_argument("--save", metavar="FOLDER", help="keep what failed")
    parser.add_argument("--forms", action="store_true", help="how often each form was judged")
    parser.add_argument("--verbose", action="store_true", help="why graphs were not run")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    args.lapidary = os.path.abspath(args.lapidary)
    if args.worker:
        return worker(args)
    started = time.monotonic()
    kinds, judged, unrun = collections.Counter(), collections.Counter(), collections.Counter()
    firsts = range(args.first, args.first + args.count, PER_WORKER)
    with ThreadPoolExecutor(args.jobs) as pool:
        jobs = [pool.submit(chunk, args, f, min(PER_WORKER, args.first + args.count - f)) for f in firsts]
        for job in jobs:
            for seed, kind, message, forms in job.result():
                kinds[kind] += 1
                if kind in ("not run", "judge crashed"):
                    unrun.update(set(forms))
                    if args.verbose:
                        print(f"seed {seed}: {kind}: {message}", flush=True)
                else:
                    judged.update(set(forms))
                if kind not in GOOD:
                    print(f"seed {seed}: {kind}: {message}", flush=True)
    if args.forms:
        for f, *_ in FORMS:
            print(f"{f.__name__:28} judged in {judged[f.__name__]:6} graphs, not run in {unrun[f.__name__]:6}")
    failed = sum(n for kind, n in kinds.items() if kind not in GOOD)
    print(f"{len(FORMS)} forms, {time.monotonic() - started:.0f} s: {dict(kinds)}")
    print(f"{sum(kinds.values()) - failed - sum(kinds[k] for k in ('not run', 'empty', 'judge crashed'))} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
