#!/usr/bin/env python3
"""Compares Lapidary's text formats with those of the onnx package.

Usage: judge_text.py LAPIDARY FOLDER_OR_MODEL...

For each model, weights beyond 256 elements turned into inputs:
- what `lapidary print` writes as ONNX text, protobuf text and JSON must read as the same model in
  onnx.parser and google.protobuf;
- what onnx.printer, text_format and json_format write must read as the same model in Lapidary.
"""

import collections
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from google.protobuf import json_format, text_format
from onnx import AttributeProto, TensorProto, numpy_helper, parser, printer


def strip(model):
    """Drops weights that no one wants to see as text."""

    def graph(g):
        for t in list(g.initializer):
            if np.prod(t.dims, dtype=object) > 256 or t.data_location == TensorProto.EXTERNAL:
                if all(i.name != t.name for i in g.input):
                    info = onnx.helper.make_tensor_value_info(t.name, t.data_type, t.dims)
                    g.input.append(info)
                g.initializer.remove(t)
        for n in g.node:
            for a in n.attribute:
                if a.HasField("g"):
                    graph(a.g)
                if a.HasField("t") and len(a.t.raw_data) > 4096:
                    a.t.CopyFrom(onnx.helper.make_tensor("", 1, [1], [0.0]))

    graph(model.graph)
    return model


def tensor(t):
    if t.data_type == TensorProto.STRING:
        return t.data_type, tuple(t.dims), tuple(t.string_data)
    if t.data_location == TensorProto.EXTERNAL:
        return t.data_type, tuple(t.dims), tuple((e.key, e.value) for e in t.external_data)
    try:
        data = numpy_helper.to_array(t).tobytes()
    except Exception:
        # onnx.parser stores elements below 8 bits one to an entry, which is not valid.
        data = "unreadable"
    return t.data_type, tuple(t.dims), data


def attr(a):
    kind = AttributeProto.AttributeType.Name(a.type)
    if a.ref_attr_name:
        return a.name, kind, "@" + a.ref_attr_name
    value = {
        "FLOAT": lambda: np.float32(a.f).tobytes(),
        "INT": lambda: a.i,
        "STRING": lambda: a.s,
        "TENSOR": lambda: tensor(a.t),
        "GRAPH": lambda: graph(a.g),
        "FLOATS": lambda: np.array(a.floats, np.float32).tobytes(),
        "INTS": lambda: tuple(a.ints),
        "STRINGS": lambda: tuple(a.strings),
        "TYPE_PROTO": lambda: a.tp.SerializeToString(deterministic=True),
    }.get(kind, lambda: "?")()
    return a.name, kind, value


def value_type(t):
    t = onnx.TypeProto.FromString(t.SerializeToString())
    t.ClearField("denotation")
    for d in t.tensor_type.shape.dim if t.HasField("tensor_type") else []:
        d.ClearField("denotation")
        if d.HasField("dim_param") and not d.dim_param:
            d.ClearField("dim_param")
    return t.SerializeToString(deterministic=True)


def nodes(ns):
    return tuple(
        (
            n.name,
            "" if n.domain == "ai.onnx" else n.domain,
            n.op_type,
            n.overload,
            tuple(n.input),
            tuple(n.output),
            tuple(attr(a) for a in n.attribute),
        )
        for n in ns
    )


def infos(vs):
    return tuple((v.name, value_type(v.type)) for v in vs)


def graph(g):
    return {
        "name": g.name,
        "input": infos(g.input),
        "output": infos(g.output),
        "value_info": tuple(sorted(infos(g.value_info))),
        "initializer": tuple((t.name, tensor(t)) for t in g.initializer),
        "node": nodes(g.node),
    }


def canonical(m):
    out = graph(m.graph)
    plain = {"ai.onnx": ""}
    out["opsets"] = tuple((plain.get(o.domain, o.domain), o.version) for o in m.opset_import)
    out["header"] = m.ir_version, m.producer_name, m.producer_version, m.domain, m.doc_string
    out["metadata"] = tuple((e.key, e.value) for e in m.metadata_props)
    out["functions"] = tuple(
        (
            f.domain,
            f.name,
            f.overload,
            tuple(f.input),
            tuple(f.output),
            tuple(f.attribute),
            nodes(f.node),
        )
        for f in m.functions
    )
    return out


def differences(a, b):
    a, b = canonical(a), canonical(b)
    return [k for k in a if a[k] != b[k]]


def main():
    lapidary, *roots = sys.argv[1:]
    files = []
    for root in map(pathlib.Path, roots):
        files += sorted(root.rglob("*.onnx")) if root.is_dir() else [root]
    counts, problems = collections.Counter(), []
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)

        def convert(source, target):
            run = [lapidary, "print", str(folder / source), "-o", str(folder / target)]
            done = subprocess.run(run, capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError(done.stderr.strip()[:300])

        def ours(name, read):
            convert("in.onnx", name)
            return read((folder / name).read_text())

        def theirs(name, text):
            (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
            convert(name, "back.onnx")
            return onnx.load(folder / "back.onnx")

        def text_proto(text):
            return text_format.Parse(text, onnx.ModelProto())

        def json(text):
            return json_format.Parse(text, onnx.ModelProto())

        for file in files:
            try:
                model = strip(onnx.load(file, load_external_data=False))
            except Exception:
                counts["unreadable"] += 1
                continue
            onnx.save(model, folder / "in.onnx")
            try:
                convert("in.onnx", "copy.onnx")
            except RuntimeError as e:
                counts["lapidary does not load it"] += 1
                problems.append((file, "load", str(e)))
                continue
            checks = {
                "ours onnxtxt": lambda: ours("a.onnxtxt", parser.parse_model),
                "ours textproto": lambda: ours("a.textproto", text_proto),
                "ours json": lambda: ours("a.json", json),
                "their textproto": lambda: theirs("b.pbtxt", text_format.MessageToString(model)),
                "their json": lambda: theirs("b.json", json_format.MessageToJson(model)),
            }
            wanted = dict.fromkeys(checks, model)
            try:
                text = printer.to_text(model)
                wanted["their onnxtxt"] = parser.parse_model(text)
                checks["their onnxtxt"] = lambda: theirs("b.onnxtxt", text)
            except Exception:
                counts["their parser does not read their printer"] += 1
            for name, check in checks.items():
                try:
                    found = differences(wanted[name], check())
                except Exception as e:
                    found = [str(e)[:300]]
                counts[name, "bad" if found else "good"] += 1
                if found:
                    problems.append((file, name, found))
    for file, name, found in problems:
        print(f"{file}: {name}: {found}")
    for key, n in sorted(counts.items(), key=str):
        print(key, n)
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
