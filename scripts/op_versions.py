#!/usr/bin/env python3
"""Writes src/ops/versions.txt: what every version of every standard operator takes and gives.

    op_versions.py > src/ops/versions.txt

Facts from the schemas of the onnx package that is installed. Lines `=N types` define sets of types;
then one line for each version of an operator of the default domain:

    Name|since|deprecated|inputs|outputs|attributes

An input or output is `variable:set`, behind it `?` when it may be left out and `*` when it repeats
(`~` when the repeats may differ in type). An attribute is `name:kind`, behind it `!` when it must be
there, or `=` and its default in JSON.
"""

import json

import onnx
from onnx import defs, helper


def main():
    print(f"# Written by scripts/op_versions.py from onnx {onnx.__version__}.")
    schemas = [s for s in defs.get_all_schemas_with_history() if s.domain == ""]
    schemas.sort(key=lambda s: (s.name, s.since_version))
    sets, lines = {}, []

    def types(schema, formal):
        constraint = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
        allowed = constraint.get(formal.type_str, [formal.type_str])
        short = [t.replace("tensor(", "").replace(")", "", 1) if t.startswith("tensor(") else
                 t.replace("(tensor(", "(").replace("))", ")", 1) for t in allowed]
        short = tuple(sorted(short))
        return sets.setdefault(short, len(sets))

    def formals(schema, list_of):
        out = []
        for f in list_of:
            option = str(f.option).rsplit(".", 1)[-1]
            mark = {"Single": "", "Optional": "?", "Variadic": "*" if f.is_homogeneous else "~"}[option]
            repeats = f.min_arity if option == "Variadic" else ""
            variable = f.type_str.split("(")[0] if "(" in f.type_str else f.type_str
            out.append(f"{variable}:{types(schema, f)}{mark}{repeats}")
        return ",".join(out)

    def attribute(a):
        kind = str(a.type).rsplit(".", 1)[-1].lower()
        if a.required:
            return f"{a.name}:{kind}!"
        if not a.default_value.name:
            return f"{a.name}:{kind}"
        value = helper.get_attribute_value(a.default_value)
        value = value.decode() if isinstance(value, bytes) else value
        value = [v.decode() if isinstance(v, bytes) else v for v in value] if isinstance(value, (list, tuple)) else value
        return f"{a.name}:{kind}={json.dumps(value, separators=(',', ':'))}"

    for s in schemas:
        attributes = ";".join(attribute(s.attributes[n]) for n in sorted(s.attributes))
        lines.append("|".join([s.name, str(s.since_version), "x" if s.deprecated else "",
                               formals(s, s.inputs), formals(s, s.outputs), attributes]))
    for types_of, number in sets.items():
        print(f"={number} {' '.join(types_of)}")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
