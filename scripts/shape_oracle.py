#!/usr/bin/env python3
"""Compares Lapidary's shape inference and folding kernels with onnx and ONNX Runtime.

    shape_oracle.py shapes [MODEL.onnx ...]   inferred types and shapes
    shape_oracle.py fold [CASE ...]           native kernels on the backend node cases

Without arguments after the mode: all backend node cases (and with --zoo DIR, repeatable, the models
found there). Needs onnx, numpy and onnxruntime; builds the two example programs it drives.
Exit status 1 when anything is wrong.
"""

import argparse
import collections
import glob
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import numpy_helper, shape_inference

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DATA = os.path.join(os.path.dirname(onnx.__file__), "backend", "test", "data")
NAMES = {getattr(onnx.TensorProto, n): n.lower() for n in onnx.TensorProto.DataType.keys()}


def programs(*names):
    command = ["cargo", "build", "--release", "--quiet"]
    for name in names:
        command += ["--example", name]
    subprocess.run(command, cwd=ROOT, check=True)
    target = os.environ.get("CARGO_TARGET_DIR", os.path.join(ROOT, "target"))
    return [os.path.join(target, "release", "examples", n) for n in names]


def run_lines(program, paths, chunk=200):
    """One JSON value for each path; None where the program failed on it."""
    out = []
    for i in range(0, len(paths), chunk):
        part = paths[i : i + chunk]
        done = subprocess.run([program, *part], capture_output=True, text=True)
        lines = done.stdout.splitlines()
        out += [json.loads(line) for line in lines]
        if len(lines) < len(part):
            bad = part[len(lines)]
            print(f"CRASH {bad}: {done.stderr.strip()[-300:]}")
            out.append(None)
            out += run_lines(program, part[len(lines) + 1 :], chunk)
    return out


def tensor_type(value):
    kind = value.type.WhichOneof("value")
    if kind != "tensor_type":
        return None
    t = value.type.tensor_type
    dims = None
    if t.HasField("shape"):
        # Some exporters write -1 for a size that is not known.
        dims = [d.dim_value if d.HasField("dim_value") else None for d in t.shape.dim]
        dims = [None if d is None or d < 0 else d for d in dims]
    return NAMES.get(t.elem_type), dims


def reference_types(path):
    """What onnx infers for every value of the main graph."""
    model = onnx.load(path, load_external_data=False)
    try:
        model = shape_inference.infer_shapes(model, strict_mode=False, data_prop=True)
    except Exception as e:  # noqa: BLE001 - the judge itself gives up
        return {}, str(e)[:80]
    g = model.graph
    return {v.name: tensor_type(v) for v in [*g.value_info, *g.output]}, None


def compare(mine, theirs):
    """agree, finer, coarser or wrong."""
    my_type, my_dims = mine
    their_type, their_dims = theirs
    verdict = "agree"
    if their_type and my_type != their_type:
        if my_type:
            return "wrong"
        verdict = "coarser"
    if their_dims is None:
        return "finer" if my_dims is not None and verdict == "agree" else verdict
    if my_dims is None:
        return "coarser"
    if len(my_dims) != len(their_dims):
        return "wrong"
    for a, b in zip(my_dims, their_dims):
        if isinstance(b, int) and isinstance(a, int) and a != b:
            return "wrong"
        if isinstance(b, int) and not isinstance(a, int):
            verdict = "coarser"
    if verdict == "agree":
        known = [(isinstance(a, int), isinstance(b, int)) for a, b in zip(my_dims, their_dims)]
        if any(a and not b for a, b in known):
            verdict = "finer"
    return verdict


def stored(case, kind, i):
    path = os.path.join(case, "test_data_set_0", f"{kind}_{i}.pb")
    if not os.path.exists(path):
        return None
    tensor = onnx.TensorProto()
    with open(path, "rb") as f:
        try:
            tensor.ParseFromString(f.read())
        except Exception:  # noqa: BLE001 - a sequence or optional
            return None
    return tensor if tensor.data_type else None


def check_truth(path, values, counts, verbose):
    """The case's expected outputs are the truth."""
    case = os.path.dirname(path)
    model = onnx.load(path, load_external_data=False)
    for i, out in enumerate(model.graph.output):
        if out.type.WhichOneof("value") != "tensor_type":
            continue
        tensor = stored(case, "output", i)
        if tensor is None or out.name not in values:
            continue
        mine = values[out.name]
        truth = (NAMES[tensor.data_type], list(tensor.dims))
        verdict = compare(mine, truth)
        counts["truth " + verdict] += 1
        if verdict == "wrong" or verbose:
            print(f"{verdict:8} {path} {out.name}: mine {mine}, true {truth}")


def run_truth(path, values, counts):
    """ONNX Runtime's own results are the truth: inputs of ones, free sizes 2 in front, else 64."""
    import onnxruntime as ort

    model = onnx.load(path)
    names = {o.name for o in model.graph.output}
    extra = [n for node in model.graph.node for n in node.output if n and n not in names]
    known = {n: v for n, v in values.items() if n in extra or n in names}
    for n in extra:
        if n in known and known[n][0]:
            model.graph.output.append(onnx.ValueInfoProto(name=n))
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    with tempfile.NamedTemporaryFile(suffix=".onnx", dir=os.path.dirname(path) or ".") as f:
        onnx.save(model, f.name)
        session = ort.InferenceSession(f.name, options, providers=["CPUExecutionProvider"])
    symbols, feeds = {}, {}
    for x in session.get_inputs():
        shape = []
        for axis, d in enumerate(x.shape):
            free = 64 if axis else 2
            shape.append(d if isinstance(d, int) else symbols.setdefault(d, free) if d else free)
        dtype = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32,
                 "tensor(bool)": np.bool_, "tensor(uint8)": np.uint8, "tensor(double)": np.float64,
                 "tensor(float16)": np.float16}[x.type]
        feeds[x.name] = np.ones(shape, dtype)
    spelled = {d.dim_param for v in [*model.graph.value_info, *model.graph.output]
               if v.type.HasField("tensor_type") for d in v.type.tensor_type.shape.dim
               if d.dim_param and d.dim_param not in symbols and not d.dim_param.isidentifier()}
    outputs = [o.name for o in session.get_outputs()]
    for name, value in zip(outputs, session.run(outputs, feeds)):
        if not isinstance(value, np.ndarray) or name not in known or not known[name][0]:
            continue
        mine = [d if isinstance(d, int) else evaluate(d, symbols, spelled) for d in known[name][1] or []]
        if known[name][1] is None:
            counts["run coarser"] += 1
            continue
        good = len(mine) == value.ndim and all(a is None or a == b for a, b in zip(mine, value.shape))
        exact = good and None not in mine
        counts["run agree" if exact else "run coarser" if good else "run wrong"] += 1
        if not good:
            print(f"wrong    {path} {name}: mine {known[name][1]}, ran {value.shape}")


def evaluate(text, symbols, spelled):
    """A dim expression with the symbols bound; None when it has one of its own, or one of those
    that the file spells as a formula."""
    if text is None or "?" in text or any(name in text for name in spelled):
        return None
    import math

    scope = {"floor": math.floor, "min": min, "max": max, "mod": lambda a, b: a % b}
    safe = text
    for k, name in enumerate(sorted(symbols, key=len, reverse=True)):
        if name:
            safe = safe.replace(name, f"_s{k}_")
            scope[f"_s{k}_"] = symbols[name]
    try:
        return int(eval(safe, {"__builtins__": {}}, scope))  # noqa: S307 - our own expressions
    except Exception:  # noqa: BLE001 - a symbol that is no input's
        return None


def shapes(args):
    (program,) = programs("shapes")
    cases = sorted(glob.glob(os.path.join(DATA, "node", "*", "model.onnx")))
    paths = args.items or cases
    for folder in args.zoo:
        paths += sorted(glob.glob(os.path.join(folder, "**", "*.onnx"), recursive=True))
    counts, by_op = collections.Counter(), collections.Counter()
    for path, result in zip(paths, run_lines(program, paths)):
        if result is None or "error" in result:
            counts["not loaded"] += 1
            print("NOLOAD", path, result)
            continue
        values = result["values"]
        if result["findings"]:
            counts["models with findings"] += 1
            print("FINDING", path, result["findings"][:3])
        check_truth(path, values, counts, args.verbose)
        if args.run and not path.startswith(DATA):
            try:
                run_truth(path, values, counts)
            except Exception as e:  # noqa: BLE001 - the judge cannot run it
                counts["judge cannot run"] += 1
                print("NORUN", path, str(e)[:150].replace("\n", " "))
        theirs, problem = reference_types(path)
        if problem:
            counts["judge gives up"] += 1
        makers = {}
        for node in onnx.load(path, load_external_data=False).graph.node:
            makers.update({o: f"{node.domain}{node.op_type}" for o in node.output})
        for name, mine in values.items():
            if theirs.get(name) is None:
                continue
            verdict = compare(mine, theirs[name])
            counts[verdict] += 1
            if verdict == "coarser" and args.verbose:
                print(f"COARSER  {path} {name} ({makers.get(name)}): mine {mine}, onnx {theirs[name]}")
            if verdict == "coarser":
                by_op[makers.get(name, "?")] += 1
            if verdict == "wrong":
                print(f"DIFF     {path} {name} ({makers.get(name)}): mine {mine}, onnx {theirs[name]}")
    print("coarser by operator:", dict(by_op.most_common()))
    print(dict(sorted(counts.items())))
    return any("wrong" in k and "truth" in k or k == "run wrong" for k in counts)


def fold(args):
    (program,) = programs("fold_case")
    cases = args.items or sorted(glob.glob(os.path.join(DATA, "node", "*")))
    counts, declined = collections.Counter(), collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        jobs = []
        for case in cases:
            model = onnx.load(os.path.join(case, "model.onnx"))
            inputs = [stored(case, "input", i) for i in range(len(model.graph.input))]
            if any(x.type.WhichOneof("value") != "tensor_type" for x in model.graph.input):
                counts["no tensors"] += 1
                continue
            if any(t is None for t in inputs):
                counts["no tensors"] += 1
                continue
            for t, x in zip(inputs, model.graph.input):
                t.name = x.name
            del model.graph.input[:]
            model.graph.initializer.extend(inputs)
            path = os.path.join(folder, os.path.basename(case) + ".onnx")
            onnx.save(model, path)
            jobs.append((case, path, model))
        results = run_lines(program, [p for _, p, _ in jobs])
        for (case, _, model), result in zip(jobs, results):
            for i in range(len(model.graph.output)):
                mine = (result or [None] * 99)[i]
                truth = stored(case, "output", i)
                if truth is None:
                    continue
                op = model.graph.node[0].op_type
                verdict = same(mine, truth)
                counts[verdict] += 1
                if verdict == "declined":
                    declined[op] += 1
                if verdict == "wrong":
                    print("wrong", op, case, str(mine)[:200])
    print("declined by operator:", dict(declined.most_common()))
    print(dict(counts))
    return counts["wrong"] > 0


def same(mine, truth):
    if mine is None:
        return "declined"
    dtype, dims, data = mine
    if dtype != NAMES[truth.data_type] or dims != list(truth.dims):
        return "wrong"
    array = numpy_helper.to_array(truth)
    if truth.data_type == onnx.TensorProto.STRING:
        flat = [s.decode() if isinstance(s, bytes) else s for s in array.reshape(-1)]
        return "equal" if flat == data else "wrong"
    raw = numpy_helper.from_array(array, "x").raw_data if not truth.raw_data else truth.raw_data
    if bytes.fromhex(data) == raw:
        return "equal"
    if np.issubdtype(array.dtype, np.floating):
        got = np.frombuffer(bytes.fromhex(data), array.dtype).reshape(array.shape)
        if np.array_equal(got, array, equal_nan=True):
            return "equal"
        if np.allclose(got, array, rtol=1e-6, equal_nan=True):
            return "close"
    return "wrong"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("mode", choices=["shapes", "fold"])
    parser.add_argument("items", nargs="*")
    parser.add_argument("--zoo", action="append", default=[])
    parser.add_argument("--run", action="store_true", help="run zoo models and compare")
    parser.add_argument("-v", "--verbose", action="store_true")
    args = parser.parse_args()
    sys.exit((shapes if args.mode == "shapes" else fold)(args))


if __name__ == "__main__":
    main()
