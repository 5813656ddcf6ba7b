#!/usr/bin/env python3
"""Raises older models to later opsets and compares ONNX Runtime's outputs before and after.

    raise_oracle.py [--to VERSION ...] [--zoo DIR ...] [MODEL.onnx ...]

Without models: the backend cases of the onnx wheel that start below the version. Needs onnx, numpy
and onnxruntime; builds the example program it drives. Exit status 1 when anything is wrong.
"""

import argparse
import collections
import glob
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper

from shape_oracle import DATA, ROOT, programs, stored

TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32,
         "tensor(bool)": np.bool_, "tensor(uint8)": np.uint8, "tensor(double)": np.float64,
         "tensor(float16)": np.float16, "tensor(int8)": np.int8}


def session(path):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def feeds(path, inputs):
    rng, out = np.random.default_rng(7), {}
    for i, x in enumerate(inputs):
        tensor = stored(os.path.dirname(path), "input", i)
        if tensor is not None and tensor.name in ("", x.name):
            out[x.name] = numpy_helper.to_array(tensor)
            continue
        shape = [d if isinstance(d, int) else 1 for d in x.shape]
        dtype = TYPES[x.type]
        values = rng.standard_normal(shape)
        out[x.name] = (values if dtype().dtype.kind == "f" else values > 0).astype(dtype)
    return out


def agree(a, b):
    if isinstance(a, list):
        return len(a) == len(b) and all(agree(x, y) for x, y in zip(a, b))
    if a is None or not isinstance(a, np.ndarray):
        return a == b
    if a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind != "f":
        return np.array_equal(a, b)
    return np.allclose(a, b, rtol=1e-4, atol=1e-5, equal_nan=True)


def judge(path, raised, counts):
    name = path.replace(DATA, "")
    try:
        before = session(path)
        x = feeds(path, before.get_inputs())
        wanted = before.run(None, x)
    except Exception:  # noqa: BLE001 - the judge cannot run the original
        before = None
    if before is None:
        against_truth(path, raised, counts, name)
        return
    try:
        onnx.checker.check_model(raised)
        after = session(raised)
    except Exception as e:  # noqa: BLE001
        text = str(e)[:300].replace("\n", " ")
        verdict = "no kernel in the judge" if "NOT_IMPLEMENTED" in text else "invalid"
        counts[verdict] += 1
        print(verdict.upper(), name, text)
        return
    try:
        got = after.run(None, x)
    except Exception as e:  # noqa: BLE001
        counts["wrong"] += 1
        print("WRONG", name, str(e)[:200].replace("\n", " "))
        return
    good = agree(wanted, got)
    if not good and not agree(wanted, before.run(None, x)):
        counts["not deterministic"] += 1
        return
    counts["equal" if good else "wrong"] += 1
    if not good:
        print("WRONG", name)


def against_truth(path, raised, counts, name):
    """For originals that the judge cannot run: the case's expected outputs."""
    try:
        onnx.checker.check_model(raised)
    except Exception as e:  # noqa: BLE001
        print("INVALID", name, str(e)[:200].replace("\n", " "))
        counts["invalid"] += 1
        return
    try:
        after = session(raised)
        x = feeds(path, after.get_inputs())
        got = after.run(None, x)
        truth = [stored(os.path.dirname(path), "output", i) for i in range(len(got))]
        truth = [numpy_helper.to_array(t) for t in truth]
    except Exception:  # noqa: BLE001 - the judge cannot run it either
        counts["judge runs neither"] += 1
        return
    good = all(np.allclose(a, b, rtol=1e-3, atol=1e-4, equal_nan=True) if a.dtype.kind in "fiub" else True
               for a, b in zip(truth, got))
    counts["equal to the truth" if good else "wrong"] += 1
    if not good:
        print("WRONG", name, "against the stored outputs")


def opset(path):
    model = onnx.load(path, load_external_data=False)
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*")
    parser.add_argument("--to", type=int, action="append")
    parser.add_argument("--zoo", action="append", default=[])
    args = parser.parse_args()
    (program,) = programs("raise_opset")
    paths = args.models or sorted(glob.glob(os.path.join(DATA, "*", "*", "model.onnx")))
    paths += sorted(glob.glob(os.path.join(DATA, "light", "*.onnx"))) if not args.models else []
    for folder in args.zoo:
        paths += sorted(glob.glob(os.path.join(folder, "**", "*.onnx"), recursive=True))
    versions = {p: opset(p) for p in paths}
    bad = False
    for to in args.to or [13, 17, 21]:
        counts = collections.Counter()
        old = [p for p in paths if versions[p] < to]
        with tempfile.TemporaryDirectory() as folder:
            for i in range(0, len(old), 100):
                part = [(p, os.path.join(folder, f"{i + k}.onnx")) for k, p in enumerate(old[i : i + 100])]
                pairs = [x for pair in part for x in pair]
                done = subprocess.run([program, str(to), *pairs], capture_output=True, text=True)
                lines = done.stdout.splitlines()
                if len(lines) < len(part):
                    counts["crash"] += 1
                    print("CRASH", part[len(lines)][0], done.stderr[-300:])
                for (path, raised), line in zip(part, lines):
                    if line == "null":
                        judge(path, raised, counts)
                        os.remove(raised)
                    else:
                        counts["refused"] += 1
                        print("REFUSED", path.replace(DATA, ""), line)
        print(f"to {to}: {dict(sorted(counts.items()))}", flush=True)
        bad |= any(counts[k] for k in ("wrong", "invalid", "crash"))
    sys.exit(bad)


if __name__ == "__main__":
    main()
