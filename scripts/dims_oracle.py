#!/usr/bin/env python3
"""Open dims of real models through `lapidary`, judged by ONNX Runtime.

    python=$(scripts/judge.sh)
    "$python" scripts/dims_oracle.py --lapidary target/release/lapidary --zoo DIR [--zoo DIR ...] [--filter REGEX]

Of every .onnx below DIR with an open dim (a name, or none) in an input:

simplify       keeps the dims of inputs and outputs, names included, loses none that value_info knows, brings in none
               that no declaration of the source has, and computes the same at two settings of the dims
set-dim        `simplify --set-dim NAME=SIZE` fixes one named dim wherever it stands, and computes the same there
input-shape    `simplify --input-shape` with sizes for all inputs, likewise
dynamic-batch  `edit --dynamic-batch` on the model fixed so at batch 1: computes at batch 1 and 3 what the source does
freeze-inputs  `simplify --freeze-inputs` of models whose inputs have defaults

A command that refuses (exit code 2 with one line that names what is in the way) is counted, and listed. Prints each
failure and a table, with the ops on shapes that the simplified models still have. Exit code 1 if any failed.
"""
import argparse
import collections
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from conformance import INPUT_SHAPES, JudgeError, array_difference, random_value, run_ort

# What an open dim is set to: by name, then by rank and axis. Two settings.
SIZES = [
    (r"batch|unk.*|N", (1, 3)), (r"seq.*|past", (16, 7)), (r"height|width", (64, 96)), (r"total", (17, 8)),
]
SHAPE_OPS = {"Shape", "Size", "ConstantOfShape", "NonZero"}


def open_dims(value):
    """Sizes and names; "?" stands for a dim without a name in some exports."""
    return [(d.dim_param if d.dim_param != "?" else "") or (d.dim_value if d.dim_value > 0 else None) for d in value.type.tensor_type.shape.dim]


def free_inputs(model):
    constants = {t.name for t in model.graph.initializer}
    return [v for v in model.graph.input if v.name not in constants]


def size_of(dim, axis, rank, setting):
    if isinstance(dim, int):
        return dim
    for pattern, sizes in SIZES:
        if dim and re.fullmatch(pattern, dim):
            return sizes[setting]
    if axis == 0:
        return (1, 3)[setting]
    if rank >= 4:
        return (64, 96)[setting]
    return (16, 7)[setting]


def shapes(path, model, setting):
    """The shape of each input at a setting."""
    out = {}
    for v in free_inputs(model):
        dims = open_dims(v)
        shape = [size_of(d, a, len(dims), setting) for a, d in enumerate(dims)]
        for in_path, in_name, known in INPUT_SHAPES:
            if re.search(in_path, path) and re.fullmatch(in_name, v.name):
                shape = list(known)
        out[v.name] = shape
    return out


def feeds(model, sizes):
    rng, out = np.random.default_rng(0), {}
    for v in free_inputs(model):
        fixed = onnx.ValueInfoProto()
        fixed.CopyFrom(v)
        del fixed.type.tensor_type.shape.dim[:]
        fixed.type.tensor_type.shape.dim.extend(
            onnx.TensorShapeProto.Dimension(dim_value=n) for n in sizes[v.name])
        # The sizes are settled: no model of this name has others.
        out[v.name] = random_value(fixed, "", rng, True, {})
    return out


def lapidary(args, command, source, target, *flags):
    done = subprocess.run(
        [args.lapidary, command, source, "-o", target, "--no-verify", "--quiet", "--force", *flags],
        stdin=subprocess.DEVNULL, capture_output=True, timeout=600)
    said = done.stderr.decode(errors="replace").strip()
    if done.returncode == 2 and said.count("\n") <= 3:
        raise Refused(" ".join(said.split())[:300])
    if done.returncode:
        raise JudgeError("crashed", said[:300])


class Refused(Exception):
    """The command said that it cannot."""


def compare(source, expected, path, inputs):
    try:
        got = run_ort(path, inputs)
    except Exception as e:  # noqa: BLE001
        raise JudgeError("does not run", " ".join(str(e).split())[:300]) from None
    for i, (a, b) in enumerate(zip(expected, got)):
        if (found := array_difference("zoo", a, b, True)) and not unstable(source, inputs, i, a, b):
            raise JudgeError("wrong", f"output {i}: {found}")


def unstable(source, inputs, i, expected, got):
    """ONNX Runtime's own optimizations change the output about as much."""
    if (expected.dtype, expected.shape) != (got.dtype, got.shape) or expected.dtype.kind != "f":
        return False
    options = ort.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 4, 1
    other = ort.InferenceSession(source, options, providers=["CPUExecutionProvider"]).run(None, inputs)[i]
    return np.abs(other - expected).max() >= 0.5 * np.abs(got - expected).max()


def names_in(model):
    values = [*model.graph.input, *model.graph.output, *model.graph.value_info]
    return {d.dim_param for v in values for d in v.type.tensor_type.shape.dim if d.dim_param}


def same_names(before, after):
    for what in ("input", "output"):
        for old, new in zip(getattr(before.graph, what), getattr(after.graph, what)):
            for a, (was, now) in enumerate(zip(open_dims(old), open_dims(new))):
                if was != now and was is not None:
                    raise JudgeError("dims", f"{what} {old.name}, axis {a}: {was} became {now}")
    known = {v.name: open_dims(v) for v in before.graph.value_info if v.type.tensor_type.HasField("shape")}
    for v in after.graph.value_info:
        for a, (was, now) in enumerate(zip(known.get(v.name, []), open_dims(v))):
            if was is not None and now is None:
                raise JudgeError("dims", f"value {v.name}, axis {a}: {was} is lost")
    # An expression over the dims of the source is no new name.
    symbols = {s for n in names_in(before) for s in re.findall(r"[A-Za-z_][\w.]*", n)} | names_in(before)
    new = {n for n in names_in(after) if not set(re.findall(r"[A-Za-z_][\w.]*", n)) <= symbols | {"floor", "min", "max", "ceil"}}
    if new:
        raise JudgeError("dims", f"new names {sorted(new)[:5]}")


def left_over(graph):
    counts = collections.Counter(n.op_type for n in graph.node if n.op_type in SHAPE_OPS)
    constants = {t.name for t in graph.initializer}
    for n in graph.node:
        if n.op_type == "Reshape" and n.input[1] not in constants:
            counts["Reshape, computed shape"] += 1
        for a in n.attribute:
            if a.HasField("g"):
                counts += left_over(a.g)
    return counts


class Model:
    def __init__(self, args, path, folder):
        self.args, self.path, self.folder = args, str(path), folder
        self.model = onnx.load(path, load_external_data=False)
        self.out = os.path.join(folder, "out.onnx")
        self.runs = {}

    def at(self, setting, **fixed):
        """(inputs, outputs) of the source at a setting; None where it does not run there."""
        key = (setting, *sorted(fixed.items()))
        if key not in self.runs:
            sizes = shapes(self.path, self.model, setting)
            if setting and any(re.search(p, self.path) for p, *_ in INPUT_SHAPES):
                return None
            for v in free_inputs(self.model):
                for a, d in enumerate(open_dims(v)):
                    sizes[v.name][a] = fixed.get(d, sizes[v.name][a])
            inputs = feeds(self.model, sizes)
            try:
                self.runs[key] = inputs, run_ort(self.path, inputs)
            except Exception:  # noqa: BLE001
                self.runs[key] = None
        return self.runs[key]

    def agree(self, runs):
        judged = [r for r in runs if r]
        for inputs, expected in judged:
            compare(self.path, expected, self.out, inputs)
        return len(judged)

    def simplify(self):
        lapidary(self.args, "simplify", self.path, self.out)
        after = onnx.load(self.out, load_external_data=False)
        self.left = left_over(after.graph)
        same_names(self.model, after)
        return self.agree([self.at(0), self.at(1)])

    def set_dim(self):
        dims = [d for v in free_inputs(self.model) for d in open_dims(v) if isinstance(d, str)]
        if not dims:
            return None
        lapidary(self.args, "simplify", self.path, self.out, "--set-dim", f"{dims[0]}=2")
        after = onnx.load(self.out, load_external_data=False)
        if dims[0] in names_in(after):
            raise JudgeError("dims", f"{dims[0]} is still there")
        return self.agree([self.at(s, **{dims[0]: 2}) for s in (0, 1)])

    def fix(self, command):
        sizes = shapes(self.path, self.model, 0)
        flags = [f"--input-shape={name}:{','.join(map(str, s))}" for name, s in sizes.items() if s]
        lapidary(self.args, command, self.path, self.out, *flags)
        after = onnx.load(self.out, load_external_data=False)
        got = {v.name: open_dims(v) for v in free_inputs(after)}
        if got != sizes:
            raise JudgeError("dims", f"{got} instead of {sizes}")

    def loads_with(self, sizes):
        """ONNX Runtime takes the source with these sizes: it checks branches that will never run, too."""
        fixed = onnx.load(self.path)
        for v in free_inputs(fixed):
            for dim, size in zip(v.type.tensor_type.shape.dim, sizes[v.name]):
                dim.dim_value = size
        try:
            ort.InferenceSession(fixed.SerializeToString(), providers=["CPUExecutionProvider"])
        except Exception:  # noqa: BLE001
            return False
        return True

    def input_shape(self):
        if not self.loads_with(shapes(self.path, self.model, 0)):
            return None
        self.fix("simplify")
        return self.agree([self.at(0)])

    def dynamic_batch(self):
        self.fix("edit")
        fixed = os.path.join(self.folder, "fixed.onnx")
        os.replace(self.out, fixed)
        frozen = ["--freeze-inputs"] if len(free_inputs(self.model)) < len(self.model.graph.input) else []
        lapidary(self.args, "edit", fixed, self.out, "--dynamic-batch", *frozen)
        first = open_dims(free_inputs(onnx.load(self.out, load_external_data=False))[0])[0]
        if first != "batch":
            raise JudgeError("dims", f"the batch is {first}")
        sizes = shapes(self.path, self.model, 0)
        if all(s[0] == 1 for s in sizes.values() if s):
            wide = {n: [3, *s[1:]] if s else s for n, s in sizes.items()}
            inputs = feeds(self.model, wide)
            try:
                compare(self.path, run_ort(self.path, inputs), self.out, inputs)
            except JudgeError:
                raise
            except Exception:  # noqa: BLE001 - the source does not run there
                pass
        return self.agree([self.at(0)])

    def freeze_inputs(self):
        if len(free_inputs(self.model)) == len(self.model.graph.input):
            return None
        lapidary(self.args, "simplify", self.path, self.out, "--freeze-inputs")
        after = onnx.load(self.out, load_external_data=False)
        if len(after.graph.input) != len(free_inputs(self.model)):
            raise JudgeError("interface", "inputs with a default are left")
        return self.agree([self.at(0)])


MODES = ("simplify", "set-dim", "input-shape", "dynamic-batch", "freeze-inputs")


def wanted(args):
    for folder in args.zoo:
        for path in sorted(Path(folder).rglob("*.onnx")):
            model = onnx.load(path, load_external_data=False)
            is_open = any(not isinstance(d, int) for v in free_inputs(model) for d in open_dims(v))
            overridable = len(free_inputs(model)) < len(model.graph.input)
            if re.search(args.filter, str(path)) and (is_open or overridable):
                yield path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lapidary", required=True, metavar="PATH")
    parser.add_argument("--zoo", action="append", required=True, metavar="DIR")
    parser.add_argument("--filter", default="", metavar="REGEX")
    parser.add_argument("--only", choices=MODES, action="append")
    args = parser.parse_args()
    args.lapidary = os.path.abspath(args.lapidary)
    counts = {mode: collections.Counter() for mode in MODES}
    left = collections.Counter()
    for path in wanted(args):
        with tempfile.TemporaryDirectory(prefix="dims-") as folder:
            model = Model(args, path, folder)
            for mode in args.only or MODES:
                try:
                    runs = getattr(model, mode.replace("-", "_"))()
                    verdict, what = ("does not apply" if runs is None else f"agrees in {runs} runs"), ""
                except Refused as e:
                    verdict, what = "refused", str(e)
                except JudgeError as e:
                    verdict, what = "failed", f"{e.kind}: {e.message}"
                counts[mode][verdict] += 1
                if what:
                    print(f"{path.name}, {mode}: {verdict}: {what}", flush=True)
            if getattr(model, "left", None):
                left.update(model.left)
                print(f"{path.name} still has {dict(model.left)}", flush=True)
    for mode, kinds in counts.items():
        if kinds:
            print(f"{mode}: {dict(sorted(kinds.items()))}")
    print(f"left over in all: {dict(left)}")
    return 1 if any(kinds["failed"] for kinds in counts.values()) else 0


if __name__ == "__main__":
    sys.exit(main())
