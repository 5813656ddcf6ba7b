#!/usr/bin/env python3
"""lapidary quantize beside other static INT8 quantizers: effort, size, and what is left of the model.

    python=$(scripts/peers.sh)
    "$python" scripts/bench_quantize.py --lapidary target/release/lapidary \\
        --job fixtures/models/resnet8.onnx=calibration.npz,evaluation.npz --job ...

--job MODEL=CALIBRATION[,EVALUATION]: .npz files with one array for each graph input, samples along axis 0, and
perhaps "label" (bench_data.py makes those of published models). Without evaluation data, the calibration data serve
for both.
Tools: lapidary with the flags of each --ours; onnxruntime.quantization (Q/DQ, INT8 weights and
activations, symmetric, per channel, float biases, after its own pre-processing) with MinMax, Percentile and Entropy
(its histogram at 2,048 bins into 128, as its 128 bins into 128 quantized bins never clip); with --modelopt-python,
NVIDIA Model Optimizer with entropy and max. Each run is a fresh process; the tools take turns over --rounds.
With --out, every row goes to PREFIX.jsonl as soon as it is there, and what stands there is not run again.

Both models run in ONNX Runtime with its optimizations off, so that Q/DQ arithmetic is taken as written.
SQNR = 10 log10(sum y^2 / sum (y - yq)^2) over all float outputs and samples; "agree" is the share of equal argmax
along the last axis of the first output; top-1 where there are labels, with the exact McNemar test of whether a tool's
accuracy differs from that of the first: p near 1 says that the pictures on which they differ fall evenly.
integer = the share of convolutions and matrix products that ONNX Runtime's own optimizations make integer kernels of;
latency = time of one run then, relative to the float model optimized alike, in turns on two threads.
"""
import argparse
import collections
import json
import math
import os
import shutil
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from conformance import checker_error
from measuring import file_bytes, geometric_mean, machine, run_measured, session, table, write_rows

OURS = "lapidary"
RANGES_ONLY = "--equalize off --rounding nearest"
VARIANTS = [
    ("", ""),
    ("ranges only", RANGES_ONLY),
    ("minmax", f"--method minmax {RANGES_ONLY}"),
    ("for ort", "--profile onnxruntime-cpu"),
]
FLOAT_KERNELS = {"Conv", "FusedConv", "MatMul", "FusedMatMul", "Gemm", "FusedGemm"}
INTEGER_KERNELS = {
    *("QLinearConv", "QLinearMatMul", "QGemm", "ConvInteger", "MatMulInteger", "MatMulIntegerToFloat"),
    *("DynamicQuantizeMatMul", "QAttention", "MatMulNBits"),
}

ORT = """
import sys
import numpy as np
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
method, model, data, out = sys.argv[1:]
data = np.load(data)
data = {name: data[name] for name in data.files if name != "label"}
class Reader(CalibrationDataReader):
    def __init__(self):
        count = len(next(iter(data.values())))
        self.samples = iter([{name: array[i : i + 1] for name, array in data.items()} for i in range(count)])
    def get_next(self):
        return next(self.samples, None)
options = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
if method == "Entropy":
    # quantize_static passes no number of bins on: create_calibrator, which it calls, has it.
    whole = sys.modules["onnxruntime.quantization.quantize"]
    def create(*args, extra_options, create=whole.create_calibrator, **rest):
        bins = {"num_bins": 2048, "num_quantized_bins": 128}
        return create(*args, extra_options={**extra_options, **bins}, **rest)
    whole.create_calibrator = create
prepared = out + ".prepared.onnx"
quant_pre_process(model, prepared, skip_symbolic_shape=True)
quantize_static(
    prepared, out, Reader(), quant_format=QuantFormat.QDQ, per_channel=True, activation_type=QuantType.QInt8,
    weight_type=QuantType.QInt8, calibrate_method=getattr(CalibrationMethod, method), extra_options=options,
)
"""

MODELOPT = """
import sys
import numpy as np
from modelopt.onnx.quantization import quantize
method, model, data, out = sys.argv[1:]
data = np.load(data)
data = {name: data[name] for name in data.files if name != "label"}
quantize(
    model, calibration_data=data, calibration_method=method, quantize_mode="int8", output_path=out,
    high_precision_dtype="fp32", calibration_eps=["cpu"],
)
"""


def say(message):
    print(message, file=sys.stderr, flush=True)


def tools_of(args):
    """Name -> command of model, calibration data and result."""

    def ours(flags):
        flags = ["--no-verify", "--quiet", *flags.split()]
        return lambda model, data, out: [args.lapidary, "quantize", model, "--data", data, "-o", out, *flags]

    def script(python, source, method):
        return lambda model, data, out: [python, "-c", source, method, model, data, out]

    tools = {f"{OURS} {name}".rstrip(): ours(flags) for name, flags in args.ours or VARIANTS}
    if run_measured([args.peers_python, "-c", "import onnxruntime.quantization"], 120).status == 0:
        for method in args.ort_methods.split(","):
            tools[f"ort {method}"] = script(args.peers_python, ORT, method)
    else:
        say(f"note: onnxruntime.quantization skipped: {args.peers_python} cannot import it")
    if args.modelopt_python:
        tools |= {f"modelopt {m}": script(args.modelopt_python, MODELOPT, m) for m in ("entropy", "max")}
    return tools


# ---- judging -------------------------------------------------------------------------------------------------------


def batches(runner, data, size=32):
    """The samples in the batches that the model takes."""
    names = [i.name for i in runner.get_inputs()]
    first = runner.get_inputs()[0].shape
    step = 1 if first and first[0] == 1 else size
    for i in range(0, len(data[names[0]]), step):
        yield slice(i, i + step), {name: data[name][i : i + step] for name in names}


def optimized(model, folder):
    """A session with all optimizations, and how often each operator is left."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 2
    options.optimized_model_filepath = str(Path(folder) / "optimized.onnx")
    runner = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(options.optimized_model_filepath, load_external_data=False).graph.node
    return runner, collections.Counter(node.op_type for node in nodes)


def kernels(model, quantized, feed):
    """Share of integer kernels, and the latency of the quantized model relative to the float one."""
    with tempfile.TemporaryDirectory() as folder:
        runners = []
        for path in (model, quantized):
            runner, count = optimized(str(path), folder)
            runners.append((runner, []))
        integer = sum(count[op] for op in INTEGER_KERNELS)
        linear = integer + sum(count[op] for op in FLOAT_KERNELS)
        for _ in range(15):
            for runner, times in runners:
                start = time.perf_counter()
                runner.run(None, feed)
                times.append(time.perf_counter() - start)
        float_time, time_now = (statistics.median(times[3:]) for _, times in runners)
    return {"integer": round(100 * integer / max(linear, 1), 1), "latency": round(time_now / float_time, 3)}


class Judge:
    """The float model on the evaluation data, and comparisons with it."""

    def __init__(self, model, data):
        with np.load(data) as archive:
            self.data = dict(archive)
        self.runner = session(model, threads=2)
        self.expected = [self.runner.run(None, feed) for _, feed in batches(self.runner, self.data)]

    def right(self, outputs):
        """Which samples are classified as their label says, or None without labels."""
        if "label" not in self.data:
            return None
        return np.concatenate([batch[0].argmax(-1).ravel() for batch in outputs]) == self.data["label"]

    def compare(self, quantized):
        runner = session(quantized, threads=2)
        got = [runner.run(None, feed) for _, feed in batches(runner, self.data)]
        signal = noise = same = total = 0.0
        for expected, batch in zip(self.expected, got):
            for y, q in zip(expected, batch):
                if y.dtype.kind == "f":
                    y, q = y.astype(np.float64), q.astype(np.float64)
                    signal += float((y**2).sum())
                    noise += float(((y - q) ** 2).sum())
            equal = expected[0].argmax(-1) == batch[0].argmax(-1)
            same += float(equal.sum())
            total += equal.size
        row = {
            "sqnr_db": round(float(10 * np.log10(signal / max(noise, 1e-30))), 3),
            "agree": round(100 * same / total, 3),
        }
        if (right := self.right(got)) is not None:
            row["top1_float"] = round(100 * float(self.right(self.expected).mean()), 3)
            row["top1_int8"] = round(100 * float(right.mean()), 3)
            row["right"] = np.packbits(right).tobytes().hex()
        return row


# ---- one job -------------------------------------------------------------------------------------------------------


def measure(model, calibration, evaluation, tools, args):
    """Yields one row for each tool."""
    judge = Judge(model, evaluation)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        source = shutil.copy(model, Path(folder) / "model.onnx")  # a peer may write to its input
        outs = {name: str(Path(folder) / f"{i}.onnx") for i, name in enumerate(tools)}
        runs = {name: [] for name in tools}
        for i in range(args.rounds):
            for name, command in tools.items():
                Path(outs[name]).unlink(missing_ok=True)
                runs[name].append(run_measured(command(str(source), calibration, outs[name]), args.timeout))
                if i + 1 == args.rounds:
                    yield judged(model, name, runs[name], outs[name], judge)


def judged(model, name, past, out, judge):
    row = {
        "model": Path(model).stem,
        "tool": name,
        "status": past[-1].status,
        "seconds": round(statistics.median(r.seconds for r in past), 3),
        "cpu_seconds": round(statistics.median(r.cpu_seconds for r in past), 3),
        "peak_mb": round(max(r.peak_mb for r in past), 1),
        "mb_in": file_bytes(model) / 1e6,
        **dict.fromkeys(["mb_out", "sqnr_db", "agree", "top1_float", "top1_int8", "right", "integer", "latency"]),
        "note": past[-1].error if past[-1].status else "",
    }
    if past[-1].status == 0 and Path(out).exists():
        row["mb_out"] = file_bytes(out) / 1e6
        try:
            row |= judge.compare(out)
            row["note"] = checker_error(out) or ""
            row |= kernels(model, out, next(batches(judge.runner, judge.data, 1))[1])
        except Exception as error:
            row["note"] = f"does not run: {error}"[:200]
    return row


def mcnemar(ours, theirs):
    """Samples that only we, and only they, have right, and the exact two-sided p of that split."""
    bits = [np.unpackbits(np.frombuffer(bytes.fromhex(row["right"]), np.uint8)) for row in (ours, theirs)]
    only_ours, only_theirs = (int((a > b).sum()) for a, b in (bits, bits[::-1]))
    n, least = only_ours + only_theirs, min(only_ours, only_theirs)
    tail = sum(math.comb(n, k) for k in range(least + 1)) / 2**n
    return only_ours, only_theirs, min(1.0, 2 * tail)


def print_accuracy(by_model, first):
    """Whether the accuracies of the tools differ from the first one's by more than chance."""
    body = []
    for model, of in by_model.items():
        for name, row in of.items():
            if name != first and row.get("right") and of.get(first, {}).get("right"):
                a, b, p = mcnemar(of[first], row)
                body.append([model, name, row["top1_int8"], of[first]["top1_int8"], a, b, f"{p:.2f}"])
    if body:
        print(f"\nTop-1 against {first}: samples that only one of the two has right, and McNemar's p")
        print(table(["model", "tool", "top-1", f"of {first}", f"only {first}", "only it", "p"], body))


def print_report(rows, tools):
    fixed = ["sqnr_db", "agree", "top1_float", "top1_int8"]
    columns = ["model", "tool", "seconds", "peak_mb", "mb_in", "mb_out", *fixed, "integer", "latency"]

    def text(row, column):
        value = row.get(column)
        return f"{value:.2f}" if column in fixed and value is not None else value

    print(table([*columns, "note"], [[*(text(row, c) for c in columns), row["note"][:80]] for row in rows]))
    first = next(iter(tools))
    by_model = {}
    for row in rows:
        by_model.setdefault(row["model"], {})[row["tool"]] = row
    print_accuracy(by_model, first)
    body = []
    for name in tools:
        means = []
        for what in ("seconds", "peak_mb", "mb_out"):
            pairs = [(of[name][what], of[first][what]) for of in by_model.values() if {name, first} <= of.keys()]
            means.append(geometric_mean(a / b for a, b in pairs if a and b))
        both = [of for of in by_model.values() if {name, first} <= of.keys()]
        pairs = [(of[name]["sqnr_db"], of[first]["sqnr_db"]) for of in both]
        gains = [a - b for a, b in pairs if None not in (a, b)]
        body.append([name, *means, f"{statistics.fmean(gains):+.2f}" if gains else None])
    print(f"\nAgainst {first}, over all models: ratios as geometric means, SQNR as mean difference")
    print(table(["tool", "seconds ÷", "peak_mb ÷", "mb_out ÷", "sqnr_db −"], body))


def variant(text):
    name, _, flags = text.partition("=")
    return name, flags


def job(text):
    model, _, data = text.partition("=")
    calibration, _, evaluation = data.partition(",")
    if not calibration:
        raise argparse.ArgumentTypeError("write it as MODEL=CALIBRATION[,EVALUATION]")
    return model, calibration, evaluation or calibration


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lapidary", required=True, metavar="PATH", help="the binary to try")
    parser.add_argument(
        "--ours",
        type=variant,
        action="append",
        metavar="NAME=FLAGS",
        help="flags for lapidary, in one argument, and what to call them; without it, the default and its parts",
    )
    parser.add_argument("--peers-python", default=sys.executable, metavar="PATH", help="a python with onnxruntime")
    parser.add_argument("--ort-methods", default="MinMax,Percentile,Entropy", help="of onnxruntime.quantization")
    parser.add_argument("--modelopt-python", metavar="PATH", help="a python with nvidia-modelopt[onnx]")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--timeout", type=float, default=1800, metavar="SECONDS")
    parser.add_argument("--out", metavar="PREFIX", help="write PREFIX.jsonl, .tsv and .json")
    parser.add_argument("--job", type=job, action="append", required=True, metavar="MODEL=CALIBRATION[,EVALUATION]")
    args = parser.parse_args()
    args.lapidary = str(Path(args.lapidary).resolve())
    if not os.access(args.lapidary, os.X_OK):
        parser.error(f"{args.lapidary} is not an executable file")
    print(machine(), flush=True)
    tools, rows = tools_of(args), []
    lines = Path(f"{args.out}.jsonl") if args.out else None
    if lines and lines.exists():
        rows = [json.loads(line) for line in lines.read_text().splitlines()]
    for model, calibration, evaluation in args.job:
        done = {row["tool"] for row in rows if row["model"] == Path(model).stem}
        left = {name: command for name, command in tools.items() if name not in done}
        for row in measure(model, calibration, evaluation, left, args) if left else []:
            rows.append(row)
            say("  ".join(f"{k}={v}" for k, v in row.items() if k != "right"))
            if lines:
                with lines.open("a") as file:
                    file.write(json.dumps(row) + "\n")
    if args.out:
        write_rows(args.out, rows)
    print_report(rows, tools)
    return 1 if any(row["tool"].startswith(OURS) and row["status"] for row in rows) else 0


if __name__ == "__main__":
    sys.exit(main())
