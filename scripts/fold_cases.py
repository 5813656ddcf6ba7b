#!/usr/bin/env python3
"""Constant folding on the backend cases of the onnx wheel, their inputs made constants.

    python=$(scripts/judge.sh)
    "$python" scripts/fold_cases.py --lapidary target/release/lapidary

Every case of one operator or a few has its stored inputs put into the file, goes through `lapidary simplify`, and must
then give the stored outputs: in onnx's reference evaluator, where it lacks an operator in ONNX Runtime. Counts the
cases whose operator was left as it was. Exit code 1 when anything is wrong.
"""
import argparse
import collections
import concurrent.futures
import glob
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

DATA = os.path.join(os.path.dirname(onnx.__file__), "backend", "test", "data")
FOLDERS = ("node", "simple", "pytorch-operator", "pytorch-converted")


def stored(path):
    tensor = onnx.TensorProto()
    with open(path, "rb") as file:
        tensor.ParseFromString(file.read())
    return tensor


def with_constants(model, data):
    """The model with the stored inputs as initializers, and the stored outputs."""
    graph = model.graph
    if any(not v.type.HasField("tensor_type") for v in [*graph.input, *graph.output]):
        return None
    for i, value in enumerate(list(graph.input)):
        path = os.path.join(data, f"input_{i}.pb")
        if os.path.exists(path):
            tensor = stored(path)
            tensor.name = value.name
            for old in [t for t in graph.initializer if t.name == value.name]:
                graph.initializer.remove(old)
            graph.initializer.append(tensor)
            graph.input.remove(value)
    model.ir_version = max(model.ir_version, 4)
    return [numpy_helper.to_array(stored(os.path.join(data, f"output_{i}.pb"))) for i in range(len(graph.output))]


def same(want, got):
    """Equal; floats up to the digits that the cases are stored with."""
    got = np.asarray(got)
    if want.shape != got.shape or want.dtype != got.dtype:
        return False
    if want.dtype.kind in "fc" or "float" in str(want.dtype):
        wide = complex if want.dtype.kind == "c" else float
        near = 1e-4 if want.dtype.itemsize >= 4 else 2e-3
        return np.allclose(want.astype(wide), got.astype(wide), rtol=near, atol=near, equal_nan=True)
    return bool((want == got).all())


def run(path):
    try:
        return ReferenceEvaluator(onnx.load(path)).run(None, {})
    except Exception:  # noqa: BLE001 - it lacks operators
        return ort.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {})


def judge(lapidary, path):
    model = onnx.load(path)
    before = [n.op_type for n in model.graph.node]
    want = with_constants(model, os.path.join(os.path.dirname(path), "test_data_set_0"))
    if want is None:
        return "no tensors"
    with tempfile.TemporaryDirectory() as folder:
        source, target = os.path.join(folder, "in.onnx"), os.path.join(folder, "out.onnx")
        onnx.save(model, source)
        command = [lapidary, "simplify", source, "-o", target, "--no-verify", "--quiet", "--fold-limit", "100000000"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return f"failed: {done.stderr.strip()[:200]}"
        after = [n.op_type for n in onnx.load(target).graph.node if n.op_type != "Constant"]
        if after and after == before:
            return "left as it was"
        try:
            got = run(target)
        except Exception:  # noqa: BLE001
            return "not judged"
    return "folded" if all(map(same, want, got)) else "wrong"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lapidary", required=True, metavar="PATH")
    parser.add_argument("--jobs", type=int, default=2)
    args = parser.parse_args()
    ort.set_default_logger_severity(4)
    cases = [p for f in FOLDERS for p in sorted(glob.glob(os.path.join(DATA, f, "*", "model.onnx")))]
    with concurrent.futures.ThreadPoolExecutor(args.jobs) as pool:
        verdicts = list(pool.map(lambda p: judge(args.lapidary, p), cases))
    bad = [(p, v) for p, v in zip(cases, verdicts) if v == "wrong" or v.startswith("failed")]
    for path, verdict in bad:
        print(os.path.basename(os.path.dirname(path)), verdict)
    print(dict(collections.Counter(v.split(":")[0] for v in verdicts)))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
