#!/usr/bin/env python3
"""Compare MACs and parameters with published values and with onnx-tool.

    python3 -m venv /tmp/onnxtool && /tmp/onnxtool/bin/pip install onnx-tool
    /tmp/onnxtool/bin/python scripts/macs_oracle.py --lapidary target/release/lapidary MODEL…

Models whose file name begins with that of an architecture below are compared with its published figures, too. MACs of
linear operators are compared one by one by node name. What differs otherwise, and why:

- onnx-tool counts element-wise operators, pooling and normalization, which cost no multiply-accumulate here, and the
  addition of a bias as one for each element of the result, so its totals are larger.
- ConvTranspose is left out: onnx-tool applies the kernel at each element of the result, where it is applied at each of
  the input.
- Parameters differ by small constants that only one of the two counts, such as the bounds of a Clip or shapes. Files
  whose batch normalization is not folded count means and variances, which publications leave out.

Open dims are 1 on the first axis and 64 on others. Exits with 1 when a published figure differs by more than 1 % (1.5 %
for parameters), or a node that both count by more than its bias.
"""

import argparse
import contextlib
import io
import json
import pathlib
import subprocess
import sys

# Figures of torchvision's documentation (GFLOPS there are multiply-accumulates) and of the papers.
PUBLISHED = {"resnet50": (4.09e9, 25.56e6), "mobilenet_v2": (0.30e9, 3.50e6), "mobilenetv2": (0.30e9, 3.50e6)}
LINEAR = {"Conv", "Gemm", "MatMul", "Einsum"}


def open_dims(path: pathlib.Path) -> dict[str, int]:
    """Sizes for the open dims of inputs, by symbol or as `input:axis`."""
    import onnx

    sizes: dict[str, int] = {}
    graph = onnx.load(path, load_external_data=False).graph
    stored = {t.name for t in graph.initializer}
    for value in graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if value.name not in stored and dim.dim_value <= 0:
                sizes.setdefault(name_of(dim, value.name, axis), 64 if axis else 1)
    return sizes


def ours(lapidary: str, path: pathlib.Path, sizes: dict[str, int]) -> dict:
    dims = [f"--dim={name}={size}" for name, size in sizes.items()]
    command = [lapidary, "inspect", path, "--layers", "--json", *dims]
    return json.loads(subprocess.run(command, capture_output=True, check=True).stdout)[0]


def theirs(path: pathlib.Path, sizes: dict[str, int]) -> tuple[float, float, dict[str, float]] | None:
    """Total MACs and parameters, and MACs of linear nodes by name; None when onnx-tool fails."""
    import numpy
    import onnx
    import onnx_tool

    feeds = {}
    graph = onnx.load(path, load_external_data=False).graph
    stored = {t.name for t in graph.initializer}
    for value in graph.input:
        if value.name not in stored:
            tensor = value.type.tensor_type
            dims = enumerate(tensor.shape.dim)
            shape = [sizes.get(name_of(d, value.name, axis), max(d.dim_value, 1)) for axis, d in dims]
            feeds[value.name] = numpy.ones(shape, onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            model = onnx_tool.Model(str(path), {"constant_folding": True, "verbose": False})
            model.graph.shape_infer(feeds)
            model.graph.profile()
        nodes = {n: float(node.macs[0]) for n, node in model.graph.nodemap.items() if node.op_type in LINEAR}
        return float(model.graph.macs[0]), float(model.graph.params), nodes
    except Exception as error:  # noqa: BLE001 - whatever it stumbles over, the comparison goes on
        print(f"{path.name:45} onnx-tool fails: {type(error).__name__}: {str(error)[:60]}")
        return None


def elements(type_: str) -> float:
    """Number of elements of a type such as `float[1,64,56,56]`; symbols count as 1."""
    product = 1.0
    for size in type_.partition("[")[2].rstrip("]").split(","):
        product *= int(size) if size.isdigit() else 1
    return product


def name_of(dim, value: str, axis: int) -> str:
    """What lapidary calls an open dim."""
    return f"{value}:{axis}" if dim.dim_param in ("", "?") else dim.dim_param


def near(a: float, b: float, share: float = 0.01) -> bool:
    return abs(a - b) <= share * max(abs(a), abs(b))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lapidary", required=True)
    parser.add_argument("models", nargs="+", type=pathlib.Path)
    args = parser.parse_args()
    failed = False
    for path in args.models:
        sizes = open_dims(path)
        report = ours(args.lapidary, path, sizes)
        macs, params = report["macs"], report["params"]
        for name, (want_macs, want_params) in PUBLISHED.items():
            if path.name.startswith(name) and macs is not None:
                # Published figures have three digits.
                good = near(macs, want_macs, 0.01) and near(params, want_params, 0.015)
                failed |= not good
                verdict = "as published" if good else "NOT as published"
                print(f"{path.name:45} {verdict}: {macs / 1e9:.3f} G, {params / 1e6:.2f} M")
        other = theirs(path, sizes)
        if other is None:
            continue
        total, their_params, nodes = other
        mine = {l["name"]: float(l["macs"]) for l in report["layers"] if str(l["macs"]).isdigit()}
        both = [n for n in mine if n in nodes]
        bias = {l["name"]: elements(l["output"]) for l in report["layers"]}
        differ = [n for n in both if nodes[n] not in (mine[n], mine[n] + bias[n])]
        failed |= bool(differ)
        linear = sum(nodes.values())
        share = lambda x, y: f"{100 * (x / y - 1):+.2f} %" if y else "-"
        print(
            f"{path.name:45} MACs {macs if macs is not None else 'open':>13} onnx-tool {total:.0f} "
            f"(linear {linear:.0f}, {share(macs or 0, linear)}), params {params} / {their_params:.0f}, "
            f"{len(both)} nodes compared, {len(differ)} differ"
        )
        for n in differ[:5]:
            print(f"    {n}: {mine[n]:.0f}, onnx-tool {nodes[n]:.0f}")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
