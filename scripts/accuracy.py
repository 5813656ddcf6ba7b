#!/usr/bin/env python3
"""Judges quantized models beside their float originals in ONNX Runtime.

    accuracy.py FLOAT.onnx QUANTIZED.onnx DATA.npz [--batch 16] [--samples N] [--max-drop POINTS] [--json]

DATA.npz holds one array for each graph input, samples along axis 0, and perhaps "label". Graph
optimizations are off, so that Q/DQ arithmetic is taken as written. Reports the signal-to-noise ratio
over all float outputs, the agreement of the largest element along the last axis of the first output,
accuracy where there are labels, and the sizes of the files. Exit code 1: accuracy dropped by more
than --max-drop points. Needs numpy, onnx and onnxruntime.
"""
import argparse
import json
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort


def session(path):
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def size(path):
    """Bytes of the file and of its external data."""
    path = Path(path)
    names = set()
    for t in onnx.load(str(path), load_external_data=False).graph.initializer:
        names |= {e.value for e in t.external_data if e.key == "location"}
    return path.stat().st_size + sum((path.parent / n).stat().st_size for n in names)


def compare(reference, quantized, data, batch, samples):
    """Outputs of both sessions over the data."""
    names = [i.name for i in reference.get_inputs()]
    n = min(len(data[names[0]]), samples or sys.maxsize)
    first = reference.get_inputs()[0].shape
    step = 1 if first and isinstance(first[0], int) and first[0] == 1 else batch
    signal = noise = same = total = 0.0
    hits = [0, 0]
    for i in range(0, n, step):
        feed = {k: data[k][i : min(i + step, n)] for k in names}
        a, b = reference.run(None, feed), quantized.run(None, feed)
        for p, q in zip(a, b):
            if p.dtype.kind == "f":
                p, q = p.astype(np.float64), q.astype(np.float64)
                signal += float((p**2).sum())
                noise += float(((p - q) ** 2).sum())
        top = [x[0].argmax(-1) for x in (a, b)]
        same += float((top[0] == top[1]).sum())
        total += top[0].size
        if "label" in data:
            label = data["label"][i : i + len(top[0])]
            hits = [h + int((t == label).sum()) for h, t in zip(hits, top)]
    result = {
        "samples": n,
        "sqnr_db": 10 * np.log10(signal / max(noise, 1e-30)),
        "agreement": 100 * same / total,
    }
    if "label" in data:
        result |= {"top1_float": 100 * hits[0] / n, "top1_quantized": 100 * hits[1] / n}
    return result


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("float")
    parser.add_argument("quantized")
    parser.add_argument("data")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--samples", type=int, default=0)
    parser.add_argument("--max-drop", type=float)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    onnx.checker.check_model(args.quantized, full_check=True)
    data = dict(np.load(args.data))
    result = compare(session(args.float), session(args.quantized), data, args.batch, args.samples)
    result |= {"bytes_float": size(args.float), "bytes_quantized": size(args.quantized)}
    if args.json:
        print(json.dumps({"float": args.float, "quantized": args.quantized, **result}))
    else:
        print(Path(args.quantized).name, *(f"{k}={v:.6g}" for k, v in result.items()))
    if args.max_drop is not None and "top1_float" in result:
        drop = result["top1_float"] - result["top1_quantized"]
        sys.exit(int(drop > args.max_drop))


if __name__ == "__main__":
    main()
