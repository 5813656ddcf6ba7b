#!/usr/bin/env python3
"""The whole job, `lapidary optimize`, on real models: what it takes and what is left, judged by ONNX Runtime.

    python=$(scripts/judge.sh)
    "$python" scripts/bench_optimize.py --lapidary target/release/lapidary \\
        --job resnet50.onnx=calibration.npz,evaluation.npz '--flags=--prune 0.1 --int8' [--out table.md]

--job MODEL=CALIBRATION[,EVALUATION] as in bench_quantize.py; --flags is what optimize gets besides the data. For each
model: nodes, MACs and bytes before and after, INT8 share of the MACs, seconds and largest resident set of the command,
whether ONNX's checker passes, and the agreement of float and result on the evaluation data in ONNX Runtime with its
optimizations off. Exit code 1 if any result is missing, invalid or does not run.
"""
import argparse
import json
import shlex
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx

from bench_quantize import Judge, job
from conformance import checker_error
from measuring import file_bytes, machine, run_measured, table

COLUMNS = [
    *("model", "nodes", "MACs (M)", "MB", "INT8 MACs", "SQNR dB", "argmax agree", "top-1", "seconds", "peak MB", "judged"),
]


def dims(model, data):
    """--dim flags for the model's open dimensions, one sample large: without sizes there is no count of MACs."""
    constants = {tensor.name for tensor in model.graph.initializer}
    with np.load(data) as archive:
        shapes = {name: (1, *archive[name].shape[1:]) for name in archive.files}
    for value in model.graph.input:
        if value.name in constants or value.name not in shapes:
            continue
        for axis, (dim, size) in enumerate(zip(value.type.tensor_type.shape.dim, shapes[value.name])):
            if dim.dim_value <= 0:
                plain = dim.dim_param.replace(".", "").replace("_", "").isalnum()
                yield from ("--dim", f"{dim.dim_param if plain else f'{value.name}:{axis}'}={size}")


def arrow(before, after, digits=0):
    return f"{before:.{digits}f} → {after:.{digits}f}" if None not in (before, after) else "-"


def millions(count):
    return None if count is None else count / 1e6


def measure(command, model, evaluation, timeout):
    """The cells of one row, and whether the result is good."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        out, report = Path(folder) / "out.onnx", Path(folder) / "report.json"
        # the report comes on stdout, which run_measured does not keep
        shell = f"{shlex.join([*command, '-o', str(out)])} >{shlex.quote(str(report))}"
        run = run_measured(["sh", "-c", shell], timeout)
        name = Path(model).stem
        if run.status or not out.exists():
            return [name, *["-"] * 9, f"FAILED ({run.status}): {run.error}"], False
        found = json.loads(report.read_text())
        before, after = found["before"], found["after"]
        share = after.get("int8_macs")
        cells = [
            name,
            arrow(before["nodes"], after["nodes"]),
            arrow(millions(before.get("macs")), millions(after.get("macs")), 1),
            arrow(file_bytes(model) / 1e6, file_bytes(out) / 1e6, 2),
            "-" if share is None else f"{100 * share:.1f} %",
        ]
        effort = [f"{run.seconds:.2f}", f"{run.peak_mb:.0f}"]
        error = checker_error(str(out))
        if error:
            return [*cells, "-", "-", "-", *effort, f"INVALID: {error[:100]}"], False
        try:
            values = Judge(model, evaluation).compare(str(out))
        except Exception as problem:
            return [*cells, "-", "-", "-", *effort, f"DOES NOT RUN: {str(problem)[:100]}"], False
        top1 = arrow(values["top1_float"], values["top1_int8"], 2)
        cells += [f"{values['sqnr_db']:.2f}", f"{values['agree']:.2f} %", top1, *effort, "ok"]
        return cells, True


def markdown(rows):
    lines = ["| " + " | ".join(row) + " |" for row in [COLUMNS, ["---"] * len(COLUMNS), *rows]]
    return "\n".join(lines)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lapidary", required=True, metavar="PATH", help="the binary to try")
    parser.add_argument("--flags", default="--int8", help="flags of lapidary optimize, in one argument")
    parser.add_argument("--timeout", type=float, default=1800, metavar="SECONDS")
    parser.add_argument("--out", metavar="FILE", help="append the table to FILE, in Markdown, with the commands")
    parser.add_argument("--job", type=job, action="append", required=True, metavar="MODEL=CALIBRATION[,EVALUATION]")
    args = parser.parse_args()
    args.lapidary = str(Path(args.lapidary).resolve())
    where = machine()
    print(where, flush=True)
    rows, commands, all_good = [], [], True
    for model, calibration, evaluation in args.job:
        command = [args.lapidary, "optimize", model, "--data", calibration, "--json", *shlex.split(args.flags)]
        command += dims(onnx.load(model, load_external_data=False), calibration)
        commands.append(shlex.join(["lapidary", *command[1:]]))
        row, good = measure(command, model, evaluation, args.timeout)
        print(*row, sep="  ", file=sys.stderr, flush=True)
        rows.append(row)
        all_good &= good
    print(table(COLUMNS, rows))
    if args.out:
        with open(args.out, "a") as file:
            listing = "\n".join(commands)
            file.write(f"\n`{args.flags}`; {where}\n\n{markdown(rows)}\n\n```sh\n{listing}\n```\n")
    return 0 if all_good else 1


if __name__ == "__main__":
    sys.exit(main())
