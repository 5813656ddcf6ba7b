#!/usr/bin/env python3
"""Judges `lapidary convert --opset`: models are converted and must compute the same.

    convert_oracle.py [--to VERSION ...] [--back] [--zoo DIR ...] [MODEL.onnx ...]
    convert_oracle.py --suite DIR

Without models: the backend cases of the onnx wheel. Each goes to every version given (by default from
7 to the newest), upwards or downwards; with --back every result is a case of its own, of an older
version of its operators, and goes to the newest version again. onnx's checker and ONNX Runtime judge,
where it has no kernel onnx's reference evaluator. The answer of onnx.version_converter stands beside:
what it converts and we refuse is counted, and listed with --list.

--suite runs the version converter's own tests, from the folder tests/python of a checkout of onnx,
with our converter in the place of onnx's. Needs pytest.

Needs onnx, numpy and onnxruntime; builds the example program it drives. Exit status 1 when anything
is wrong.
"""

import argparse
import collections
import glob
import json
import multiprocessing
import os
import subprocess
import sys
import tempfile

import numpy as np
import onnx
import onnxruntime as ort
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator

from shape_oracle import DATA, programs, stored

NEWEST = onnx.defs.onnx_opset_version()
TYPES = {"tensor(float)": np.float32, "tensor(int64)": np.int64, "tensor(int32)": np.int32,
         "tensor(bool)": np.bool_, "tensor(uint8)": np.uint8, "tensor(double)": np.float64,
         "tensor(float16)": np.float16, "tensor(int8)": np.int8}
WRONG = ("wrong", "invalid", "crash")


class Converter:
    """The example program: one line in, one line out."""

    def __init__(self, program):
        self.program, self.process = program, None

    def convert(self, path, to, output):
        """None, or why not."""
        if self.process is None or self.process.poll() is not None:
            pipe = subprocess.PIPE
            self.process = subprocess.Popen([self.program], stdin=pipe, stdout=pipe, text=True)
        self.process.stdin.write(f"{to}\t{path}\t{output}\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        return json.loads(line) if line else "CRASH"


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
        return isinstance(b, list) and len(a) == len(b) and all(agree(x, y) for x, y in zip(a, b))
    if a is None or not isinstance(a, np.ndarray):
        return a is b or a == b
    if not isinstance(b, np.ndarray) or a.shape != b.shape or a.dtype != b.dtype:
        return False
    if a.dtype.kind not in "fV" and a.dtype.name not in ("bfloat16",):
        return np.array_equal(a, b)
    coarse = 1e-2 if a.dtype.itemsize < 4 else 1e-4
    a, b = a.astype(np.float64), b.astype(np.float64)
    return np.allclose(a, b, rtol=coarse, atol=coarse / 10, equal_nan=True)


def reference(path):
    """Inputs and outputs by onnx's reference evaluator, on the stored inputs; None without those, or at random."""
    model = onnx.load(path)
    x = {}
    for i, v in enumerate(model.graph.input):
        tensor = stored(os.path.dirname(path), "input", i)
        if tensor is None:
            return None
        x[v.name] = numpy_helper.to_array(tensor)
    wanted = ReferenceEvaluator(model).run(None, x)
    return (x, wanted) if agree(wanted, ReferenceEvaluator(model).run(None, x)) else None


def original(path):
    """(inputs, outputs, by whom), from whoever can run the model; None where nobody can."""
    try:
        s = session(path)
        x = feeds(path, s.get_inputs())
        wanted = s.run(None, x)
        same = agree(wanted, session(path).run(None, x))
        return (x, wanted, "ort") if same else None
    except Exception:  # noqa: BLE001 - a judge that cannot run the original
        pass
    try:
        found = reference(path)
        return found and (*found, "reference")
    except Exception:  # noqa: BLE001
        return None


def passes(path):
    """The full check has nothing against a model."""
    try:
        onnx.checker.check_model(path, full_check=True)
    except Exception:  # noqa: BLE001
        return False
    return CHECKED_BADLY not in converted_types(path)


def judge(truth, original_path, converted):
    """Verdict and what there is to say about it."""
    x, wanted, by = truth
    try:
        onnx.checker.check_model(converted, full_check=passes(original_path))
    except Exception as e:  # noqa: BLE001
        return "invalid", str(e)[:300].replace("\n", " ")
    verdict, why = "no kernel in the judge", ""
    try:
        s = session(converted)
    except Exception as e:  # noqa: BLE001
        why = str(e)[:200].replace("\n", " ")
    else:
        try:
            verdict = "equal" if agree(wanted, s.run(None, x)) else "wrong"
        except Exception as e:  # noqa: BLE001
            verdict, why = "wrong", str(e)[:200].replace("\n", " ")
    # Of old versions the evaluator knows less than ONNX Runtime: it is asked second.
    if verdict != "equal" and (by == "reference" or verdict != "wrong"):
        try:
            got = ReferenceEvaluator(converted).run(None, x)
            verdict = "equal" if agree(wanted, got) else "wrong"
        except Exception as e:  # noqa: BLE001
            why += str(e)[:100].replace("\n", " ")
    return verdict, why or ("other outputs" if verdict == "wrong" else "")


# onnx's full check fails on the body of this function in all versions but the one it is written for.
CHECKED_BADLY = "MeanVarianceNormalization"


def converted_types(path):
    return {n.op_type for n in onnx.load(path, load_external_data=False).graph.node}


def peer(path, to, queue):
    try:
        onnx.version_converter.convert_version(onnx.load(path), to)
        queue.put(True)
    except Exception:  # noqa: BLE001
        queue.put(False)


def peer_converts(path, to):
    """Whether onnx's own converter has an answer; some bring the interpreter down."""
    queue = multiprocessing.SimpleQueue()
    child = multiprocessing.Process(target=peer, args=(path, to, queue))
    child.start()
    child.join(60)
    return not queue.empty() and queue.get()


def opset(path):
    model = onnx.load(path, load_external_data=False)
    return next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)


class Run:
    def __init__(self, converter, folder, listed, beside):
        self.converter, self.folder, self.listed, self.beside = converter, folder, listed, beside

    def one(self, path, name, to, truth, counts):
        """Converts and judges; the converted file where that went well."""
        out = os.path.join(self.folder, "converted.onnx")
        why = self.converter.convert(path, to, out)
        if why is not None:
            verdict = "crash" if why == "CRASH" else "refused"
            if verdict == "refused" and self.beside and peer_converts(path, to):
                verdict = "refused, onnx converts"
            counts[verdict] += 1
            if verdict == "crash" or self.listed:
                print(f"{verdict.upper()} {name} to {to}: {why}", flush=True)
            return None
        verdict, what = judge(truth, path, out) if truth else ("no judge", "")
        counts[verdict] += 1
        if verdict in WRONG or (self.listed and verdict not in ("equal", "no judge")):
            print(f"{verdict.upper()} {name} to {to}: {what}", flush=True)
        return out if verdict == "equal" else None


def cases(args):
    paths = args.models or sorted(glob.glob(os.path.join(DATA, "*", "*", "model.onnx")))
    paths += sorted(glob.glob(os.path.join(DATA, "light", "*.onnx"))) if not args.models else []
    for folder in args.zoo:
        paths += sorted(glob.glob(os.path.join(folder, "**", "*.onnx"), recursive=True))
    return paths


def sweep(args, converter):
    targets = args.to or [v for v in range(7, NEWEST + 1)]
    up, down, back = (collections.Counter() for _ in range(3))
    with tempfile.TemporaryDirectory() as folder:
        run = Run(converter, folder, args.list, args.peer)
        for path in cases(args):
            name, version, truth = path.replace(DATA, ""), opset(path), original(path)
            for to in targets:
                if to == version:
                    continue
                done = run.one(path, name, to, truth, up if to > version else down)
                if done and args.back and to < version:
                    again = os.path.join(folder, "again.onnx")
                    os.replace(done, again)
                    run.one(again, f"{name} by way of {to}", NEWEST, truth, back)
    bad = False
    for what, counts in (("up", up), ("down", down), ("down and up again", back)):
        if counts:
            print(f"{what}: {dict(sorted(counts.items()))}", flush=True)
        bad |= any(counts[k] for k in WRONG)
    return bad


def suite(folder, converter):
    """The version converter's tests, with our converter."""
    import pytest

    class Refused(onnx.version_converter.ConvertError, RuntimeError):
        """The tests expect now the one, now the other."""

    def convert_version(model, target_version):
        with tempfile.TemporaryDirectory() as scratch:
            before, after = os.path.join(scratch, "a.onnx"), os.path.join(scratch, "b.onnx")
            onnx.save(model, before)
            why = converter.convert(before, target_version, after)
            if why is not None:
                raise Refused(why)
            return onnx.load(after)

    onnx.version_converter.convert_version = convert_version
    sys.path.insert(0, os.path.join(folder, "version_converter"))
    files = ["version_converter_test.py", "version_converter/automatic_upgrade_test.py",
             "version_converter/automatic_downgrade_test.py"]
    files = [os.path.join(folder, f) for f in files]
    return pytest.main(["-q", "-p", "no:cacheprovider", "--tb=line", *files])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*")
    parser.add_argument("--to", type=int, action="append")
    parser.add_argument("--back", action="store_true")
    parser.add_argument("--peer", action="store_true")
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--zoo", action="append", default=[])
    parser.add_argument("--suite")
    args = parser.parse_args()
    converter = Converter(*programs("convert_opset"))
    sys.exit(suite(args.suite, converter) if args.suite else sweep(args, converter))


if __name__ == "__main__":
    main()
