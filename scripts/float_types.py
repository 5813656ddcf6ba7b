"""Print src/precision/types.tsv: where the operators of the default domain take which float types.

    python scripts/float_types.py > src/precision/types.tsv

One row for each operator and version in which it changed: operator, version, operands, results. A
letter for each slot says which of float32 (f), float16 (h) and bfloat16 it takes: `a` all three,
`h` f and h, `b` f and bfloat16, `f` only f, `n` no float32, `x` no tensors; `+` after the last letter: any number of
them.
"""

import onnx


def letter(schema, slot):
    allowed = {slot.type_str}
    for constraint in schema.type_constraints:
        if constraint.type_param_str == slot.type_str:
            allowed = set(constraint.allowed_type_strs)
    if any("seq(" in t or "optional(" in t for t in allowed):
        return "x"
    f, h, b = (f"tensor({t})" in allowed for t in ("float", "float16", "bfloat16"))
    if not f:
        return "n"
    return {(True, True): "a", (True, False): "h", (False, True): "b"}.get((h, b), "f")


def letters(schema, slots):
    many = any(s.option == onnx.defs.OpSchema.FormalParameterOption.Variadic for s in slots)
    return "".join(letter(schema, s) for s in slots) + ("+" if many else "")


def main():
    print("operator\tversion\toperands\tresults")
    last = {}
    schemas = [s for s in onnx.defs.get_all_schemas_with_history() if s.domain == ""]
    for s in sorted(schemas, key=lambda s: (s.name, s.since_version)):
        row = letters(s, s.inputs), letters(s, s.outputs)
        if s.deprecated or last.get(s.name) == row:
            continue
        last[s.name] = row
        print(s.name, s.since_version, *(x or "-" for x in row), sep="\t")


if __name__ == "__main__":
    main()
