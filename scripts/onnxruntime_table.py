"""Print src/target/onnxruntime.tsv: what the CPU kernels of an installed ONNX Runtime take.

    python scripts/onnxruntime_table.py > src/target/onnxruntime.tsv

One row for each operator and range of operator set versions: domain, operator, first version, last
version (empty: open), element types of the first operand (`*`: any; `function`: no kernel, but the
operator is defined by others).
"""

import collections

import onnx
from onnxruntime.capi import onnxruntime_pybind11_state as ort

LAST = 2**31 - 1
DOMAINS = ("", "ai.onnx.ml", "com.microsoft")


def first_operand_types(kernel):
    """The types that the kernel allows for its first operand, or None for any."""
    try:
        schema = onnx.defs.get_schema(kernel.op_name, kernel.version_range[0], kernel.domain)
        name = schema.inputs[0].type_str if schema.inputs else None
    except onnx.defs.SchemaError:
        name = "T" if "T" in kernel.type_constraints else "T1"
    types = kernel.type_constraints.get(name)
    if types is None:
        return None
    tensors = [t for t in types if t.startswith("tensor(")]
    return [t.removeprefix("tensor(").removesuffix(")") for t in tensors] if tensors else None


def main():
    rows = collections.defaultdict(set)
    for kernel in ort.get_all_opkernel_def():
        if kernel.provider != "CPUExecutionProvider" or kernel.domain not in DOMAINS:
            continue
        key = (kernel.domain, kernel.op_name, *kernel.version_range)
        rows[key].update(first_operand_types(kernel) or ["*"])
    known = {(domain, op) for domain, op, _, _ in rows}
    for schema in onnx.defs.get_all_schemas():
        if schema.domain == "" and ("", schema.name) not in known and schema.has_function:
            rows["", schema.name, 1, LAST].add("function")
    print("domain\toperator\tfirst\tlast\ttypes")
    for (domain, op, first, last), types in sorted(rows.items()):
        end = "" if last >= LAST else last
        types = {"*"} if "*" in types else types
        print(domain, op, first, end, " ".join(sorted(types)), sep="\t")


if __name__ == "__main__":
    main()
