"""Run `quantize` (seeded random data) and `convert` to 16 bits over ONNX's backend node cases and real models.

    python scripts/types_sweep.py BINARY OUT.tsv [MODEL ...] [--node-cases] [--modes int8,fp16] [--limit N]

Each result is checked by `onnx.checker` (with shape inference) and run by ONNX Runtime on the inputs that ship with
the case, or on random ones. A row for each model and mode: `valid`, `refused` (exit code 1 or 2 with a message and
nothing written), `invalid`, `timeout` or `crash`; what the original fails at is not held against the result.
"""

import argparse
import collections
import os
import pathlib
import subprocess
import tempfile

import onnx
import onnxruntime as ort

import conformance

RANDOM = ["--random", "2", "--seed", "1"]
MODES = {
    "int8": ["quantize", *RANDOM],
    "fp8": ["quantize", "--type", "fp8", *RANDOM],
    "int4": ["quantize", "--weights", "int4", "--block", "32"],
    "fp16": ["convert", "--fp16", *RANDOM],
    "bf16": ["convert", "--bf16"],
    "int8-fp16": ["quantize", "--fp16", *RANDOM],
}
# Types that ONNX Runtime's CPU provider mostly has no kernels for: such results are checked, not run.
NOT_RUN = {"bf16"}


def node_cases():
    root = pathlib.Path(onnx.__file__).parent / "backend" / "test" / "data" / "node"
    return sorted(root.glob("*/model.onnx"))


def session(path):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    return ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def feeds(path):
    """Inputs of a model: those of the case, else random ones."""
    data = pathlib.Path(path).parent / "test_data_set_0"
    case = conformance.Case(pathlib.Path(path).stem, "zoo", path, str(data) if data.is_dir() else None)
    return conformance.make_inputs(case, onnx.load(path, load_external_data=False))


class Judge:
    """What the checker and ONNX Runtime say, the original being judged once."""

    def __init__(self, original):
        self.original = original
        self.feeds, self.runs = None, None
        self.passes = self.fails(lambda: onnx.checker.check_model(original, full_check=True)) is None

    @staticmethod
    def fails(act):
        try:
            act()
        except Exception as error:
            return (str(error).strip().splitlines() or [""])[0][:150]
        return None

    def run_original(self):
        self.feeds = feeds(self.original)
        session(self.original).run(None, self.feeds)

    def say(self, result, run):
        why = self.fails(lambda: onnx.checker.check_model(result, full_check=True))
        if why and self.passes:
            return f"invalid: checker: {why}"
        if not run:
            return "valid"
        if self.runs is None:
            self.runs = self.fails(self.run_original) is None
        why = self.fails(lambda: session(result).run(None, self.feeds)) if self.runs else None
        return f"invalid: ONNX Runtime: {why}" if why else "valid"


def run(binary, model, mode, folder, judge):
    out = os.path.join(folder, "out.onnx")
    arguments = [*MODES[mode][1:], "-o", out, "--force", "--quiet", "--no-verify"]
    command = [binary, MODES[mode][0], str(model), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        return "timeout"
    if done.returncode == 0:
        return judge.say(out, mode not in NOT_RUN)
    message = (done.stderr.strip().splitlines() or [""])[-1][:200]
    if done.returncode in (1, 2) and message and "panicked" not in done.stderr:
        return f"refused: {message}"
    return f"crash: {done.returncode} {message}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary")
    parser.add_argument("out")
    parser.add_argument("models", nargs="*")
    parser.add_argument("--node-cases", action="store_true")
    parser.add_argument("--modes", default=",".join(MODES))
    parser.add_argument("--limit", type=int)
    args = parser.parse_args()
    ort.set_default_logger_severity(4)
    models = [pathlib.Path(m) for m in args.models] + (node_cases() if args.node_cases else [])
    modes = args.modes.split(",")
    counts = {mode: collections.Counter() for mode in modes}
    with open(args.out, "w") as table, tempfile.TemporaryDirectory() as folder:
        for model in models[: args.limit]:
            judge = Judge(str(model))
            for mode in modes:
                outcome = run(args.binary, model, mode, folder, judge)
                counts[mode][outcome.split(":")[0]] += 1
                name = model.parent.name if model.name == "model.onnx" else model.name
                print(name, mode, outcome, sep="\t", file=table, flush=True)
    for mode, count in counts.items():
        print(mode, dict(count))


if __name__ == "__main__":
    main()
