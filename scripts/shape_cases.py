#!/usr/bin/env python3
"""The shape-inference cases of the onnx repository through Lapidary's inference.

    shape_cases.py CHECKOUT [-v]

CHECKOUT holds tests/python/shape_inference_test.py of onnx (a clone of the repository, or that file alone in its
place). pytest runs the file with its assertion replaced: the model of each case goes through examples/shapes, and what
comes out is compared with the types and shapes that the case expects. A case may compare several models.

agree         element types, ranks and sizes are the expected ones
more precise  and some are known here that the case leaves open
unknown       some that the case knows are open here
wrong         some contradict
rejects       the case expects an error, or asks onnx for something else than types
disputed      the reference and ONNX Runtime say otherwise

Exit code 1 when anything is wrong. Needs onnx and pytest; builds the example.
"""
import argparse
import collections
import os
import sys
import tempfile

import onnx
import pytest
from onnx import helper

from shape_oracle import compare, programs, run_lines, tensor_type


class Recorder:
    """Stands in for the assertions of the test classes."""

    def __init__(self):
        self.cases, self.counts, self.current = [], collections.Counter(), ""
        self.rejected = set()

    def pytest_collection_modifyitems(self, items):
        for module in {item.module for item in items}:
            base = module.TestShapeInferenceHelper
            base._assert_inferred = lambda test, model, expected, **kwargs: self.record(model, expected, kwargs)
            base._inferred = lambda test, model, **kwargs: self.reject(model, kwargs)
        # Cases of malformed models may bring an older onnx down: it is not asked.
        onnx.shape_inference.infer_shapes = lambda model, *_, **__: self.reject(model, {})
        self.items = len(items)

    def pytest_runtest_setup(self, item):
        self.current = item.name

    def pytest_runtest_logreport(self, report):
        if report.when == "call":
            self.counts[report.outcome] += 1
            if "DID NOT RAISE" in report.longreprtext:
                self.rejected.add(self.current)

    def record(self, model, expected, kwargs):
        kwargs.pop("data_prop", None)
        if isinstance(model, onnx.GraphProto):
            model = helper.make_model(model, **kwargs)
        names = {v.name for v in expected}
        expected = [v for v in [*model.graph.value_info, *model.graph.output] if v.name not in names] + list(expected)
        self.cases.append((self.current, model, expected))

    def reject(self, model, kwargs):
        kwargs.pop("data_prop", None)
        if isinstance(model, onnx.GraphProto):
            model = helper.make_model(model, **kwargs)
        if isinstance(model, onnx.ModelProto):
            self.cases.append((self.current, model, None))
        raise onnx.shape_inference.InferenceError("as the case may expect")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkout")
    parser.add_argument("-v", "--verbose", action="store_true", help="what is unknown, too")
    args = parser.parse_args()
    test = os.path.join(args.checkout, "tests", "python", "shape_inference_test.py")
    (program,) = programs("shapes")
    recorder = Recorder()
    pytest.main([test, "-q", "--no-header", "-p", "no:cacheprovider", "--tb=no", "-rN"], plugins=[recorder])
    counts, by_test = collections.Counter(), collections.defaultdict(set)
    with tempfile.TemporaryDirectory() as folder:
        paths = []
        for i, (_, model, _) in enumerate(recorder.cases):
            paths.append(os.path.join(folder, f"{i}.onnx"))
            onnx.save(model, paths[-1])
        for (name, model, expected), result in zip(recorder.cases, run_lines(program, paths)):
            if name.split("[")[0] in DISPUTED:
                counts["disputed"] += 1
                continue
            if expected is None or name in recorder.rejected:
                findings = bool(result is None or "error" in result or result["findings"])
                counts["rejects, found here too" if findings else "rejects, not found here"] += 1
                continue
            if result is None or "error" in result:
                verdicts = [("wrong", f"not loaded: {result}")]
            else:
                verdicts = list(judge(expected, result["values"]))
            worst = max((v for v, _ in verdicts), key=ORDER.index, default="agree")
            counts[worst] += 1
            by_test[name].add(worst)
            for verdict, what in verdicts:
                if verdict == "wrong" or (args.verbose and verdict == "coarser"):
                    print(f"{verdict}: {name}: {what}")
    print(f"{recorder.items} cases collected, of which pytest says {dict(recorder.counts)}")
    tests = collections.Counter(max(kinds, key=ORDER.index) for kinds in by_test.values())
    rename = {"finer": "more precise", "coarser": "unknown"}
    print("models:", {rename.get(k, k): n for k, n in sorted(counts.items())})
    print("cases with models to compare:", {rename.get(k, k): n for k, n in sorted(tests.items())})
    return 1 if counts["wrong"] else 0


# Cases whose expectation onnx's own reference and ONNX Runtime contradict.
DISPUTED = {
    "test_stft_reals",  # `onesided` is 1 by default, so that the last axis but one has 3 elements
}
ORDER = ["agree", "finer", "coarser", "wrong"]


def judge(expected, values):
    for v in expected:
        theirs = tensor_type(v)
        if theirs is None:
            continue
        theirs = (None if theirs[0] == "undefined" else theirs[0], theirs[1])
        mine = values.get(v.name)
        if mine is None:
            continue
        verdict = compare(mine, theirs)
        yield verdict, f"{v.name}: here {mine}, expected {theirs}"


if __name__ == "__main__":
    sys.exit(main())
