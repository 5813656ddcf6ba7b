#!/usr/bin/env python3
"""Judges zeroed and shared weights with torch, onnx and onnxruntime.

    sparsity_oracle.py torch ORIGINAL PRUNED --amount 0.3 [--global]
    sparsity_oracle.py two-four PRUNED
    sparsity_oracle.py runs A B [--atol 0]

torch: the weights of Conv and Gemm that are zero in PRUNED are those that `torch.nn.utils.prune`
takes from ORIGINAL (`l1_unstructured`, or `global_unstructured`); ties may differ, counts may not.
two-four: the rule of `polygraphy inspect sparsity` on every weight with zeros: of every four
consecutive elements along the axis that is summed over, two are zero. Looks through
DequantizeLinear. runs: both load in ONNX Runtime and give the same on random inputs.
Exit code 1 when something does not hold.
"""
import argparse
import sys

import numpy as np
import onnx
from onnx import numpy_helper


def weights(path):
    """Initializers by name, sparse ones made dense, and the ops that read them."""
    graph = onnx.load(path).graph
    out = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    for s in graph.sparse_initializer:
        dense = np.zeros(int(np.prod(s.dims)), numpy_helper.to_array(s.values).dtype)
        dense[numpy_helper.to_array(s.indices)] = numpy_helper.to_array(s.values)
        out[s.values.name] = dense.reshape(s.dims)
    return graph, out


def linear(graph, values):
    """(name, summed axis, op) of the weights of linear ops."""
    source = {n.output[0]: n.input[0] for n in graph.node if n.op_type == "DequantizeLinear"}
    for n in graph.node:
        if n.op_type not in ("Conv", "Gemm", "MatMul") or len(n.input) < 2:
            continue
        name = source.get(n.input[1], n.input[1])
        if name not in values:
            continue
        flags = {a.name: a.i for a in n.attribute}
        axis = {"Conv": 1, "MatMul": values[name].ndim - 2}.get(n.op_type)
        yield name, int(bool(flags.get("transB"))) if axis is None else axis, n


def check_torch(args):
    import torch
    from torch.nn.utils import prune

    graph, before = weights(args.original)
    _, after = weights(args.pruned)
    names = dict.fromkeys(name for name, _, _ in linear(graph, before))
    modules = {}
    for name in names:
        module = torch.nn.Module()
        module.weight = torch.nn.Parameter(torch.tensor(before[name]))
        modules[name] = module
    if vars(args)["global"]:
        pairs = [(m, "weight") for m in modules.values()]
        prune.global_unstructured(pairs, prune.L1Unstructured, amount=args.amount)
    else:
        for module in modules.values():
            prune.l1_unstructured(module, "weight", amount=args.amount)
    bad = total = differ = 0
    for name, module in modules.items():
        theirs = module.weight_mask.numpy() == 0
        ours = (after[name] == 0) & ~((before[name] == 0) & ~theirs)
        same_count = theirs.sum() == ours.sum() or vars(args)["global"]
        mags = np.abs(before[name])
        wrong = theirs != ours
        ties = not wrong.any() or len(np.unique(mags[wrong])) == 1
        bad += not (same_count and ties)
        total += int(ours.sum())
        differ += int(wrong.sum())
        if not (same_count and ties):
            print(f"{name}: torch {theirs.sum()}, here {ours.sum()}, {wrong.sum()} differ")
    print(f"{len(modules)} weights, {total} zeros, {differ} ties broken otherwise, {bad} wrong")
    return bad == 0


def check_two_four(args):
    graph, values = weights(args.pruned)
    good, other, seen = 0, [], set()
    for name, axis, _ in linear(graph, values):
        w = values[name]
        if name in seen or w.shape[axis] % 4:
            continue
        seen.add(name)
        rows = np.moveaxis(w, axis, -1).reshape(-1, 4)
        if ((rows == 0).sum(1) >= 2).all():
            good += 1
        else:
            other.append(name)
    print(f"{good} weights are 2:4, {len(other)} are not: {', '.join(other)}")
    return good > 0


def check_runs(args):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    a, b = (ort.InferenceSession(p, options, providers=["CPUExecutionProvider"]) for p in (args.a, args.b))
    rng = np.random.default_rng(0)
    feeds = {}
    for i in a.get_inputs():
        shape = [d if isinstance(d, int) else 1 for d in i.shape]
        feeds[i.name] = rng.random(shape, np.float32)
    worst = max(float(np.abs(x - y).max()) for x, y in zip(a.run(None, feeds), b.run(None, feeds)))
    print(f"largest difference {worst:.3g}")
    return worst <= args.atol


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    p = commands.add_parser("torch")
    p.add_argument("original")
    p.add_argument("pruned")
    p.add_argument("--amount", type=float, required=True)
    p.add_argument("--global", action="store_true")
    p.set_defaults(check=check_torch)
    p = commands.add_parser("two-four")
    p.add_argument("pruned")
    p.set_defaults(check=check_two_four)
    p = commands.add_parser("runs")
    p.add_argument("a")
    p.add_argument("b")
    p.add_argument("--atol", type=float, default=0.0)
    p.set_defaults(check=check_runs)
    args = parser.parse_args()
    sys.exit(0 if args.check(args) else 1)


if __name__ == "__main__":
    main()
