#!/usr/bin/env python3
"""Judges channel pruning with onnx and onnxruntime.

For each model and ratio: prunes it, checks the result, runs it, and compares it with a model of the
original's shapes (the two must compute the same): the original whose consumers of the removed
channels are zeroed, the one whose makers of them are (weights, batch normalization and bias), or one
half of whose channels are dead, of which pruning has to choose such (with --kind dead, give --norm l2
and ratios below 0.5). With --lapidary also compares what is left of the MACs with `inspect`. Needs the
example program: cargo build --release --example prune_zoo

With --fixtures, MODEL is the folder that `PRUNE_FIXTURES=DIR cargo test --release --test prune fixtures`
wrote to, and each cut fixture is run beside what must compute the same.

    scripts/prune_oracle.py [--ratios 0.3,0.5,0.7] [--norm random|l2] [--kind consumers|makers|dead]
                            [--simplify] [--approximate] [--table] [--lapidary PROGRAM] [--fixtures] MODEL...
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

ROOT = Path(__file__).resolve().parent.parent
TARGET = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target"))
PROGRAM = TARGET / "release/examples/prune_zoo"
BIG = 2**31 - 2**20
SIZES = [(224, 224), (48, 320), (320, 320)]
HINTS = {("input", 1): 512, ("state", 1): 1}


LINEAR = ("Conv", "FusedConv", "ConvTranspose", "Gemm", "MatMul", "FusedMatMul", "Einsum", "LSTM", "GRU", "RNN",
          "Attention")


def session(path, plain=False):
    options = ort.SessionOptions()
    if plain:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    graph = onnx.load(str(path), load_external_data=False).graph
    if any(n.op_type == "DequantizeLinear" for n in graph.node):
        # Where Q/DQ are fused into integer kernels, masks keep them from it.
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 2
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def feeds(sess, rng, height, width):
    """Random inputs; free sizes are 1 (axis 0), height and width of images, else 16."""
    out = {}
    cached = any("past" in i.name for i in sess.get_inputs())
    for i in sess.get_inputs():
        shape = []
        for axis, d in enumerate(i.shape):
            image = len(i.shape) == 4 and axis >= 2 and "past" not in i.name
            fallback = 1 if axis == 0 else ((height, width)[axis - 2] if image else 16)
            fallback = HINTS.get((i.name, axis), fallback)
            if i.name == "attention_mask" and axis == 1 and cached:
                fallback = 17
            shape.append(d if isinstance(d, int) else fallback)
        if i.name == "sr":
            out[i.name] = np.full(shape, 16000, np.int64)
        elif "int" in i.type:
            out[i.name] = np.ones(shape, re.search(r"\w*int\d+", i.type)[0])
        elif "bool" in i.type:
            out[i.name] = np.ones(shape, bool)
        else:
            kind = np.float16 if "16" in i.type else np.float32
            out[i.name] = rng.standard_normal(shape).astype(kind)
    return out


def run_first(sess):
    """Inputs that the model takes, and what it makes of them."""
    for size in SIZES:
        x = feeds(sess, np.random.default_rng(0), *size)
        try:
            return x, sess.run(None, x)
        except Exception as error:  # another size may fit
            last = error
    raise last


def signature(model):
    def one(v):
        dims = [d.dim_value or d.dim_param for d in v.type.tensor_type.shape.dim]
        return v.name, v.type.tensor_type.elem_type, dims

    return [one(v) for v in model.graph.input], [one(v) for v in model.graph.output]


def run_shapes(path, x):
    """Shapes of what linear operators read and make, as they are in a run."""
    model = onnx.load(path)
    shapes = {i.name: list(i.dims) for i in model.graph.initializer}
    shapes.update({name: list(value.shape) for name, value in x.items()})
    wanted = {v for n in model.graph.node if n.op_type in LINEAR for v in [*n.input, n.output[0]] if v}
    wanted = sorted(wanted - set(shapes))
    del model.graph.output[:]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in wanted)
    tapped = Path(path).with_suffix(".tapped.onnx")
    onnx.save(model, tapped)
    try:
        found = session(tapped, plain=True).run(wanted, x) if wanted else []
    finally:
        tapped.unlink()
    shapes.update({name: list(np.shape(value)) for name, value in zip(wanted, found)})
    return model, shapes


def macs(path, x):
    """Multiply-accumulates of convolutions, matrix products and recurrent layers, and float parameters,
    from the shapes in a run."""
    model, shapes = run_shapes(path, x)
    total = 0
    for n in model.graph.node:
        out, size = shapes.get(n.output[0]), lambda i: shapes.get(n.input[i])
        if n.op_type in ("Conv", "FusedConv") and out and size(1):
            total += int(np.prod(out)) * int(np.prod(size(1)[1:]))
        elif n.op_type == "ConvTranspose" and size(0) and size(1):
            total += int(np.prod(size(0))) * int(np.prod(size(1)[1:]))
        elif n.op_type == "Gemm" and out and size(0):
            attrs = {a.name: a.i for a in n.attribute}
            total += int(np.prod(out)) * size(0)[0 if attrs.get("transA") else 1]
        elif n.op_type in ("MatMul", "FusedMatMul") and out and size(0):
            flip = any(a.name == "transA" and a.i for a in n.attribute)
            total += int(np.prod(out)) * size(0)[-2 if flip else -1]
        elif n.op_type == "Einsum":
            [equation] = [a.s.decode() for a in n.attribute if a.name == "equation"]
            terms = equation.replace(" ", "").split("->")[0].split(",")
            sizes = {label: d for i, term in enumerate(terms) for label, d in zip(term, size(i))}
            total += int(np.prod(list(sizes.values())))
        elif n.op_type == "Attention" and n.domain == "com.microsoft":
            batch, length, _ = out
            weight = int(np.prod(size(1)))
            total += batch * length * (weight + 2 * length * size(1)[1] // 3)
        elif n.op_type in ("LSTM", "GRU", "RNN"):
            steps = size(0)[0] * size(0)[1]
            total += steps * (int(np.prod(size(1))) + int(np.prod(size(2))))
    params = sum(int(np.prod(i.dims)) for i in model.graph.initializer if i.data_type == 1)
    return total, params


def ranked(path):
    """Makes the first values that TopK and NonMaxSuppression rank, and those that are compared for
    NonZero to pick, the outputs, where there are such: of nearly equal scores the least noise of sums
    decides which come out."""
    model = onnx.load(path)
    maker = {o: n for n in model.graph.node for o in n.output}
    after, found = set(), []
    for n in model.graph.node:
        if after & set(n.input):
            after |= set(n.output)
        elif n.op_type in ("TopK", "NonMaxSuppression", "NonZero"):
            after |= set(n.output)
            scores = n.input[: 2 if n.op_type == "NonMaxSuppression" else 1]
            if n.op_type == "NonZero" and scores[0] in maker:
                scores = maker[scores[0]].input[:1]
            found += [i for i in scores if i not in found]
    if found:
        del model.graph.output[:]
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in found)
        onnx.save(model, path)


def reasons(lines):
    """Why groups were left alone, with how many."""
    counts = {}
    for line in lines:
        why = re.sub(r".* members\) ?", "", line)
        why = re.sub(r"^\S+( \(\w+\)| -> \S+)?: ", "", why)
        if why and not why.startswith("statistics"):
            counts[why] = counts.get(why, 0) + 1
    return "; ".join(f"{n} × {why}" for why, n in sorted(counts.items(), key=lambda x: -x[1]))


def inspected(lapidary, path, x):
    """Multiply-accumulates as `inspect` counts them, free sizes being those of the inputs."""
    dims = []
    for v in onnx.load(str(path), load_external_data=False).graph.input:
        for axis, d in enumerate(v.type.tensor_type.shape.dim):
            if v.name in x and not d.dim_value:
                name = d.dim_param if d.dim_param not in ("", "?") else f"{v.name}:{axis}"
                dims += ["--dim", f"{name}={x[v.name].shape[axis]}"]
    command = [lapidary, "inspect", path, "--json", *dict.fromkeys(zip(dims[::2], dims[1::2]))]
    command = [part for word in command for part in (word if isinstance(word, tuple) else (word,))]
    [found] = json.loads(subprocess.run(command, capture_output=True, text=True).stdout)
    return found["macs"]


def judge(path, ratio, args, folder):
    pruned, masked = folder / "pruned.onnx", folder / "masked.onnx"
    env = dict(os.environ, LIST="1")
    env.update({"SIMPLIFY": "1"} if args.simplify else {})
    env.update({"APPROXIMATE": "1"} if args.approximate else {})
    run = subprocess.run(
        [PROGRAM, path, str(ratio), args.norm, pruned, masked, args.kind],
        capture_output=True, text=True, env=env,
    )
    if run.returncode != 0:
        return f"FAILED prune: {run.stderr.strip()[:200]}"
    said, *listed = run.stdout.strip().splitlines()
    try:
        onnx.checker.check_model(str(pruned), full_check=True)
        if signature(onnx.load(pruned)) != signature(onnx.load(path)):
            return "FAILED inputs or outputs changed"
        ranked(masked), ranked(pruned)
        a, b = session(masked), session(pruned)
        worst = 0.0
        x, expected = run_first(a)
        for y, z in zip(expected, b.run(None, x)):
            y, z = np.asarray(y, np.float64), np.asarray(z, np.float64)
            if y.shape != z.shape:
                return f"FAILED output shape {y.shape} became {z.shape}"
            if not (np.isfinite(y) == np.isfinite(z)).all():
                return "FAILED one of the two is not finite"
            y, z = y[np.isfinite(y)], z[np.isfinite(z)]
            if y.size:
                scale = max(1e-2, float(np.abs(y).max()))
                worst = max(worst, float(np.abs(y - z).max()) / scale)
        verdict = "ok" if worst <= 1e-4 else "FAILED differs"
        if args.approximate:
            verdict = "differs by"
        before, after = macs(masked, x), macs(pruned, x)
        left = [f"{100 * q / max(1, p):.1f}%" for p, q in zip(before, after)]
        if args.lapidary and any(n.op_type in ("If", "Loop", "Scan") for n in onnx.load(pruned).graph.node):
            left.append("layers in subgraphs are not counted")
        elif args.lapidary:
            ours = [inspected(args.lapidary, p, x) for p in (masked, pruned)]
            same = all(o == m for o, m in zip(ours, (before[0], after[0])))
            left.append("inspect agrees" if same else f"inspect says {ours}, counted {before[0], after[0]}")
        if args.table:
            found, cut, pinned = re.findall(r"\d+", said)[:3]
            return f"{verdict} {worst:.0e} | {' | '.join(left)} | {cut} | {pinned} | {reasons(listed)}"
        return f"{verdict} {worst:.1e} | MACs, params left {' '.join(left)} | {said}"
    except Exception as error:  # the verdict must be a line for every model
        return f"FAILED {re.sub(chr(10), ' ', str(error))[:200]}"


def fixture(cut):
    """Largest difference between a cut fixture and what must compute the same, for both values of
    conditions; loops run three times."""
    worst = 0.0
    sess = session(cut)
    for other in ("masked", "zeroed"):
        beside = session(str(cut).replace(".cut.", f".{other}."))
        for yes in (True, False):
            x = feeds(sess, np.random.default_rng(0), 6, 6)
            for i in sess.get_inputs():
                if "bool" in i.type:
                    x[i.name] = np.full_like(x[i.name], yes)
                elif "int64" in i.type:
                    x[i.name] = np.full_like(x[i.name], 0 if i.shape else 3)
                elif i.name == "boxes":
                    x[i.name] = np.sort(np.abs(x[i.name]))
            for y, z in zip(sess.run(None, x), beside.run(None, x)):
                assert (np.isfinite(y) == np.isfinite(z)).all(), "one of the two is not finite"
                finite = np.isfinite(y)
                worst = max([worst, *np.abs(np.asarray(y, np.float64)[finite] - z[finite])])
    return worst


def judge_fixtures(folder):
    bad = 0
    for cut in sorted(folder.glob("*.cut.onnx")):
        try:
            worst = fixture(cut)
            verdict = "ok" if worst <= 1e-5 or "approximate" in cut.name else "FAILED differs"
            print(f"{cut.name}: {verdict} {worst:.0e}")
        except Exception as error:  # the verdict must be a line for every fixture
            verdict = "FAILED"
            print(f"{cut.name}: FAILED {re.sub(chr(10), ' ', str(error))[:200]}")
        bad += "FAILED" in verdict
    return bad


def main():
    args = argparse.ArgumentParser(description=__doc__)
    args.add_argument("models", nargs="+", type=Path)
    args.add_argument("--ratios", default="0.3,0.5,0.7")
    args.add_argument("--norm", default="random")
    args.add_argument("--kind", default="consumers", choices=["consumers", "makers", "dead"])
    args.add_argument("--simplify", action="store_true")
    args.add_argument("--approximate", action="store_true")
    args.add_argument("--table", action="store_true", help="short lines, with why groups were left alone")
    args.add_argument("--lapidary", type=Path, help="compare MACs with its inspect")
    args.add_argument("--fixtures", action="store_true", help="MODEL is a folder of cut fixtures")
    args = args.parse_args()
    bad = 0
    if args.fixtures:
        bad = sum(map(judge_fixtures, args.models))
        print(f"{bad} failed")
        sys.exit(bad > 0)
    with tempfile.TemporaryDirectory() as folder:
        for path in args.models:
            if path.stat().st_size > BIG:
                continue
            for ratio in args.ratios.split(","):
                line = judge(path, float(ratio), args, Path(folder))
                bad += "FAILED" in line
                print(f"{path.stem} {ratio}: {line}", flush=True)
    print(f"{bad} failed")
    sys.exit(bad > 0)


if __name__ == "__main__":
    main()
