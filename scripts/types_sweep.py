"""Run `quantize` (seeded random data) and `--fp16` over ONNX's backend node cases and real models.

    python scripts/types_sweep.py BINARY OUT.tsv [MODEL ...] [--node-cases] [--limit N]

Each result is checked by `onnx.checker` and loaded by ONNX Runtime. A row for each model and mode:
`valid`, `refused` (exit code 1 or 2 with a message and nothing written), `invalid` or `crash`.
"""

import argparse
import collections
import os
import pathlib
import subprocess
import tempfile

import onnx
import onnxruntime as ort

MODES = {
    "int8": ["quantize", "--random", "2", "--seed", "1"],
    "fp16": ["optimize", "--fp16", "--random", "2", "--seed", "1"],
}


def node_cases():
    root = pathlib.Path(onnx.__file__).parent / "backend" / "test" / "data" / "node"
    return sorted(root.glob("*/model.onnx"))


def loads(path):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def judge(original, result):
    """`valid`, or what is wrong with the result and not with the original."""
    for what, check in (
        ("checker", lambda p: onnx.checker.check_model(p, full_check=True)),
        ("ONNX Runtime", loads),
    ):
        try:
            check(result)
        except Exception as error:
            try:
                check(original)
            except Exception:
                continue
            return f"invalid: {what}: {str(error).splitlines()[0][:150]}"
    return "valid"


def run(binary, model, mode, folder):
    out = os.path.join(folder, "out.onnx")
    command = [binary, MODES[mode][0], str(model), *MODES[mode][1:], "-o", out, "--force", "--quiet"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    except subprocess.TimeoutExpired:
        return "timeout"
    if done.returncode == 0:
        return judge(str(model), out)
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
    parser.add_argument("--limit", type=int)
    args = parser.parse_args()
    ort.set_default_logger_severity(4)
    models = [pathlib.Path(m) for m in args.models] + (node_cases() if args.node_cases else [])
    counts = {mode: collections.Counter() for mode in MODES}
    with open(args.out, "w") as table, tempfile.TemporaryDirectory() as folder:
        for model in models[: args.limit]:
            for mode in MODES:
                outcome = run(args.binary, model, mode, folder)
                counts[mode][outcome.split(":")[0]] += 1
                name = model.parent.name if model.name == "model.onnx" else model.name
                print(name, mode, outcome, sep="\t", file=table, flush=True)
    for mode, count in counts.items():
        print(mode, dict(count))


if __name__ == "__main__":
    main()
