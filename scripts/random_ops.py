"""Forms of single operators for random graphs. Not a command itself.

Each form takes a `Builder`, adds nodes whose operands it draws, and raises `Skip` where none fits. `form` registers it
with a weight and the opsets in which it is valid.
"""
import numpy as np
from onnx import helper

from random_builder import BINDINGS, FLOATS, INTS, Skip, broadcast, each, elem

FORMS = []  # (function, weight, since, until)


def form(weight=1.0, since=9, until=99):
    def register(f):
        FORMS.append((f, weight, since, until))
        return f

    return register


def known(b, f, *values):
    """Elements of a result by numpy, under each binding, or None."""
    if any(v.data is None for v in values):
        return None
    try:
        return tuple(np.asarray(f(*(v.data[i] for v in values))) for i in range(BINDINGS))
    except Exception:
        return None


# ---- elementwise ---------------------------------------------------------------------------------------------------

UNARY = {  # name: (since, bound of the result)
    "Relu": (6, None), "Sigmoid": (6, 1), "Tanh": (6, 1), "Abs": (6, None), "Neg": (6, None), "Floor": (6, None),
    "Ceil": (6, None), "Round": (11, None), "Erf": (9, 1), "Softplus": (1, None), "Softsign": (1, 1), "Sign": (9, 1),
    "Sin": (7, 1), "Cos": (7, 1), "Atan": (7, 2), "Asinh": (9, None), "HardSwish": (14, None), "Mish": (18, None),
    "Identity": (1, None), "Dropout": (7, None), "Elu": (6, None), "Selu": (6, None), "LeakyRelu": (6, None),
    "HardSigmoid": (6, 1), "ThresholdedRelu": (10, None), "Celu": (12, None), "Gelu": (20, None), "Swish": (24, None),
}


def attributes(b, op):
    if op in ("Elu", "LeakyRelu", "ThresholdedRelu", "Celu"):
        return {"alpha": b.choice([None, 0.1, 0.5, 1.0])}
    if op == "HardSigmoid":
        alpha, beta = b.choice([(None, None), (1 / 6, 0.5), (0.3, 0.4)])
        return {"alpha": alpha, "beta": beta}
    if op == "Gelu":
        return {"approximate": b.choice([None, "none", "tanh"])}
    if op == "Dropout" and b.opset < 12:
        return {"ratio": 0.3}
    return {}


@form(6)
def unary(b):
    op = b.choice(n for n, (since, _) in UNARY.items() if since <= b.opset)
    dtypes = ("float32",) if op in ("Celu", "HardSwish", "Mish", "Gelu", "Selu") else FLOATS[:2] if b.chance(0.8) else FLOATS
    x = b.float(dtypes=dtypes)
    for _ in range(b.choice([1, 1, 1, 2, 3])):
        x = b.same(op, x, bound=UNARY[op][1], **attributes(b, op))


@form(1)
def guarded_unary(b):
    x = b.float()
    kind = b.choice(["Exp", "Sqrt", "Log", "Reciprocal", "Asin", "Acosh", "Tan", "Sinh", "Cosh"])
    if kind in ("Exp", "Sinh", "Cosh", "Asin"):
        x = b.same("Tanh", x, bound=1)
        if kind == "Asin":
            x = b.emit("Mul", [x, b.const(0.9, "float32")], [(x.dtype, x.shapes)], bound=1)
    elif kind != "Tan":
        x = b.same("Abs", x)
        x = b.emit("Add", [x, b.const(np.float32(1.0))], [(x.dtype, x.shapes)], bound=x.bound + 1)
    else:
        x = b.same("Sigmoid", x, bound=1)
    b.same(kind, x, bound=max(4, x.bound))


@form(6)
def binary(b):
    op = b.choice(["Add", "Add", "Mul", "Mul", "Sub", "Div", "Max", "Min", "Sum", "Mean", "PRelu", "Pow"])
    x = b.float(dtypes=FLOATS[:2] if op not in ("PRelu", "Mean", "Sum") else FLOATS[:1])
    bound = None
    if op == "Div":
        y = b.const(np.asarray(b.choice([1.0, 2.0, 8.0, -3.0]), x.dtype))
        bound = x.bound
    elif op == "Pow":
        y = b.const(np.asarray(b.choice([1.0, 2.0, 3.0]), x.dtype if b.chance(0.8) or b.opset < 12 else "int64"))
        bound = x.bound**3
    elif op == "PRelu":
        y = b.constant_like(x, plain=True)
        if any(len(s) > len(t) for s, t in zip(y.shapes, x.shapes)):
            raise Skip
    else:
        y = b.partner(x)
        bound = x.bound * y.bound if op == "Mul" else x.bound + y.bound
    operands = [x, y]
    if op in ("Max", "Min", "Sum", "Mean") and b.chance(0.3):
        operands.append(b.partner(x))
    if op not in ("Div", "Pow", "PRelu") and b.chance(0.4):
        operands.reverse()
    b.emit(op, operands, [(x.dtype, broadcast(*operands))], bound=bound)


@form(2)
def neutral(b):
    """Arithmetic that does nothing, or nearly."""
    x = b.float(dtypes=FLOATS)
    op, c = b.choice([("Add", 0), ("Sub", 0), ("Mul", 1), ("Div", 1), ("Pow", 1), ("Add", -0.0), ("Mul", 0), ("Sub", 1)])
    shape = b.choice([(), (1,), (1,) * max(x.rank, 1), (1,) * (x.rank + 1)])
    y = b.const(np.full(shape, c, x.dtype))
    operands = [y, x] if op in ("Add", "Mul") and b.chance(0.4) else [x, y]
    b.emit(op, operands, [(x.dtype, broadcast(*operands))], bound=x.bound + 1)


@form(2)
def integer_arithmetic(b):
    dtype = b.choice(INTS[:2])
    x = b.pick(lambda v: v.dtype == dtype and v.bound <= 60, lambda: b.input(dtype, b.dims(2)))
    op = b.choice(["Add", "Sub", "Mul", "Div", "Mod", "Max", "Min", "Neg", "Abs"])
    if op in ("Max", "Min") and b.opset < 12:
        raise Skip
    if op == "Mod" and b.opset < 10:
        raise Skip
    if op in ("Neg", "Abs"):
        b.emit(op, [x], [(dtype, x.shapes)], data=known(b, np.negative if op == "Neg" else np.abs, x))
        return
    if op in ("Div", "Mod"):
        y = b.const(np.asarray(b.choice([1, 2, 3]), dtype))
    else:
        y = b.constant_like(x) if x.data is None else b.const(np.asarray(b.choice([0, 1, 2]), dtype))
    f = {"Add": np.add, "Sub": np.subtract, "Mul": np.multiply, "Mod": np.mod, "Max": np.maximum, "Min": np.minimum}
    data = known(b, f[op], x, y) if op in f else None
    b.emit(op, [x, y], [(dtype, broadcast(x, y))], data=data, bound=x.bound + 4)


@form(2)
def comparison(b):
    op = b.choice(["Less", "Greater", "Equal"] + (["LessOrEqual", "GreaterOrEqual"] if b.opset >= 12 else []))
    x = b.float() if op != "Equal" or b.opset >= 11 else b.pick(lambda v: v.dtype in INTS[:2])
    y = b.partner(x)
    c = b.emit(op, [x, y], [("bool", broadcast(x, y))])
    if b.chance(0.5):
        c = b.same("Not", c)
        if b.chance(0.3):
            c = b.same("Not", c)
    if b.chance(0.5):
        p, q = b.partner(c, "float32"), b.partner(c, "float32")
        b.emit("Where", [c, p, q], [("float32", broadcast(c, p, q))], bound=max(p.bound, q.bound))


@form(1)
def logic(b):
    x = b.pick(lambda v: v.dtype == "bool", lambda: b.input("bool", b.dims(2)))
    op = b.choice(["And", "Or", "Xor", "Not"])
    if op == "Not":
        return b.same("Not", b.same("Not", x))
    y = b.partner(x)
    b.emit(op, [x, y], [("bool", broadcast(x, y))])


@form(3)
def clip(b):
    x = b.float(dtypes=FLOATS[:2] if b.opset >= 12 else FLOATS[:1])
    for _ in range(b.choice([1, 1, 2])):
        low, high = sorted(b.rng.sample([-2.0, -1.0, 0.0, 0.5, 1.0, 3.0, 6.0], 2))
        if b.opset < 11:
            x = b.same("Clip", x, min=b.choice([None, low]), max=b.choice([None, high]))
        else:
            bounds = [b.const(np.asarray(v, x.dtype)) if b.chance(0.8) else None for v in (low, high)]
            x = b.emit("Clip", [x, *bounds], [(x.dtype, x.shapes)])
        if b.chance(0.3):
            x = b.same("Relu", x)
        if b.chance(0.2):
            c = b.const(np.asarray(b.choice([0.0, 1.0, 6.0]), x.dtype))
            x = b.emit(b.choice(["Min", "Max"]), [x, c], [(x.dtype, x.shapes)])


@form(3)
def cast(b):
    x = b.pick(lambda v: v.bound <= 60 and v.rank <= 5)
    for _ in range(b.choice([1, 2, 2, 3])):
        to = b.choice([*FLOATS, "int64", "int32", "bool", x.dtype])
        if to == "bool" and x.dtype == "float16":
            raise Skip
        data = known(b, lambda d: d.astype(to), x) if x.dtype in INTS and to in INTS[:2] else None
        if b.opset >= 15 and b.chance(0.2):
            x = b.emit("CastLike", [x, b.const(np.zeros(1, to))], [(to, x.shapes)], data=data)
        else:
            x = b.emit("Cast", [x], [(to, x.shapes)], to=elem(to), data=data)


@form(1, since=10)
def nan_tests(b):
    x = b.float()
    b.emit(b.choice(["IsNaN", "IsInf"]), [x], [("bool", x.shapes)])


@form(0.5, since=11)
def bits(b):
    x = b.input("uint8", b.dims(2))
    y = b.const(np.asarray(b.choice([0, 1, 2]), "uint8"))
    if b.opset >= 18 and b.chance(0.6):
        b.emit(b.choice(["BitwiseAnd", "BitwiseOr", "BitwiseXor"]), [x, y], [("uint8", x.shapes)])
    else:
        b.emit("BitShift", [x, y], [("uint8", x.shapes)], direction=b.choice(["LEFT", "RIGHT"]))


# ---- layout --------------------------------------------------------------------------------------------------------


def transposed(b, x, perm=None):
    perm = perm or b.rng.sample(range(x.rank), x.rank)
    data = known(b, lambda d: d.transpose(perm), x)
    given = None if perm == [*range(x.rank)][::-1] and b.chance(0.5) else perm
    return b.emit("Transpose", [x], [(x.dtype, each(lambda s: [s[p] for p in perm], x))], perm=given, data=data)


def any_value(b, low=0, high=5):
    """Any tensor of a plain type."""
    return b.pick(lambda v: low <= v.rank <= high and v.data is None and v.bound < 1e6, lambda: b.float(low=low, high=high))


@form(4)
def transpose(b):
    x = any_value(b, 1)
    for _ in range(b.choice([1, 1, 2, 3])):
        x = transposed(b, x)
        if b.chance(0.4) and x.dtype == "float32" and x.bound < 60:
            x = b.same(b.choice(["Relu", "Neg", "Sigmoid", "Identity"]), x)


@form(1)
def flatten(b):
    x = b.float(low=1)
    axis = b.rng.randint(0, x.rank) if b.chance(0.7) or b.opset < 11 else -b.rng.randint(1, x.rank)
    a = axis + x.rank if axis < 0 else axis
    shapes = each(lambda s: (int(np.prod(s[:a], dtype=int)), int(np.prod(s[a:], dtype=int))), x)
    b.emit("Flatten", [x], [(x.dtype, shapes)], axis=axis)


def squeezed(b, x, axes):
    data = known(b, lambda d: d.squeeze(tuple(axes)), x)
    shapes = each(lambda s: [d for i, d in enumerate(s) if i not in {a % x.rank for a in axes}], x)
    if b.opset >= 13:
        return b.emit("Squeeze", [x, b.ints(*axes)], [(x.dtype, shapes)], data=data)
    return b.emit("Squeeze", [x], [(x.dtype, shapes)], axes=axes, data=data)


def unsqueezed(b, x, axes):
    rank = x.rank + len(axes)
    places = sorted(a % rank for a in axes)

    def grown(s):
        s = list(s)
        for p in places:
            s.insert(p, 1)
        return s

    data = known(b, lambda d: np.expand_dims(d, tuple(places)), x)
    if b.opset >= 13:
        return b.emit("Unsqueeze", [x, b.ints(*axes)], [(x.dtype, each(grown, x))], data=data)
    return b.emit("Unsqueeze", [x], [(x.dtype, each(grown, x))], axes=axes, data=data)


@form(3)
def squeeze(b):
    x = any_value(b, 0, 3)
    n = b.rng.randint(1, 2)
    axes = sorted(b.rng.sample(range(x.rank + n), n))
    y = unsqueezed(b, x, [a - x.rank - n if b.chance(0.3) and b.opset >= 11 else a for a in axes])
    if b.chance(0.6):
        ones = [i for i in range(y.rank) if y.size(i) == 1]
        picked = sorted(b.rng.sample(ones, b.rng.randint(1, len(ones))))
        if b.chance(0.3):
            y = unsqueezed(b, y, [0])
            picked = [p + 1 for p in picked]
        squeezed(b, y, picked)


@form(4)
def reshape(b):
    x = any_value(b)
    for _ in range(b.choice([1, 1, 2])):
        want = [d for d in (x.size(i) for i in range(x.rank))]
        if None in want:
            kept = [i for i in range(x.rank) if x.size(i) is None]
            if len(kept) > 1 and kept != [*range(len(kept))]:
                raise Skip
            # Zeros keep what is open, in front; or the only open size goes by -1.
            if kept == [*range(len(kept))] and b.chance(0.6):
                rest = int(np.prod([d for d in want if d is not None], dtype=int))
                tail = b.choice([[rest], [1, rest], [rest, 1], *[[f, rest // f] for f in (2, 3, 4) if rest % f == 0]])
                target = [0] * len(kept) + tail
                shapes = each(lambda s: [*s[: len(kept)], *tail], x)
            elif len(kept) == 1:
                rest = int(np.prod([d for d in want if d is not None], dtype=int))
                if rest == 0 or any(0 in s for s in x.shapes):
                    raise Skip
                target = b.choice([[-1], [-1, rest], [rest, -1], [1, -1, rest]])
                shapes = each(lambda s: [int(np.prod(s)) // int(np.prod([t for t in target if t > 0])) if t == -1 else t for t in target], x)
            else:
                raise Skip
        else:
            n = int(np.prod(want, dtype=int))
            target = b.choice([[n], [1, n], [n, 1], want, want[::-1], *[[f, n // f] for f in (2, 3, 4, 6) if n % f == 0 and n]])
            shapes = (tuple(target),) * BINDINGS
            if n and target and b.chance(0.3):
                target = list(target)
                target[b.rng.randrange(len(target))] = -1
        x = b.emit("Reshape", [x, b.ints(*target)], [(x.dtype, shapes)])


@form(2)
def expand(b):
    x = b.float(high=3)
    shape = [d if d and b.chance(0.5) else 1 for d in (x.size(i) for i in range(x.rank))]
    shape = [b.rng.randint(1, 3) if x.size(i) == 1 and b.chance(0.5) else d for i, d in enumerate(shape)]
    if b.chance(0.3):
        shape = [b.rng.randint(1, 3), *shape]
    target = b.ints(*shape)
    y = b.emit("Expand", [x, target], [(x.dtype, each(lambda s: np.broadcast_shapes(s, shape), x))])
    if b.chance(0.4):
        z = b.partner(y)
        b.emit("Add", [y, z], [(x.dtype, broadcast(y, z))], bound=y.bound + z.bound)


@form(1)
def tile(b):
    x = b.float(low=1, high=3)
    times = [b.choice([1, 1, 2]) for _ in range(x.rank)]
    b.emit("Tile", [x, b.ints(*times)], [(x.dtype, each(lambda s: [d * t for d, t in zip(s, times)], x))])


def sliced(b, x, axes, starts, ends, steps):
    def cut(d):
        index = [slice(None)] * x.rank
        for a, s, e, t in zip(axes, starts, ends, steps):
            index[a] = slice(s, None if t < 0 and e < -1000 else e, t)
        return d[tuple(index)]

    shapes = each(lambda s: cut(np.empty(s, bool)).shape, x)
    data = known(b, cut, x)
    if b.opset < 10:
        if any(s != 1 for s in steps):
            raise Skip
        return b.emit("Slice", [x], [(x.dtype, shapes)], axes=axes, starts=starts, ends=ends, data=data)
    operands = [x, b.ints(*starts), b.ints(*ends), b.ints(*axes)]
    if any(s != 1 for s in steps) or b.chance(0.5):
        operands.append(b.ints(*steps))
    return b.emit("Slice", operands, [(x.dtype, shapes)], data=data)


@form(4)
def slices(b):
    x = any_value(b, 1)
    for _ in range(b.choice([1, 1, 2, 3])):
        axes = sorted(b.rng.sample(range(x.rank), min(x.rank, b.choice([1, 1, 2]))))
        starts, ends, steps = [], [], []
        for _ in axes:
            kind = b.rng.random()
            if kind < 0.15:
                starts, ends, steps = [*starts, -1], [*ends, -(2**40)], [*steps, -1]
            elif kind < 0.3:
                starts, ends, steps = [*starts, 0], [*ends, 2**40], [*steps, b.choice([1, 2])]
            else:
                starts, ends = [*starts, b.choice([0, 0, 1, -2, -3])], [*ends, b.choice([2, 3, -1, 2**31 - 1])]
                steps = [*steps, 1]
        x = sliced(b, x, axes, starts, ends, steps)
        if any(0 in s for s in x.shapes) and b.chance(0.9):
            raise Skip


@form(3)
def concat(b):
    x = b.float(low=1, dtypes=FLOATS[:2])
    axis = b.axis(x)
    a = axis % x.rank

    def fits(v):
        same = lambda s, t: all(i == a or p == q for i, (p, q) in enumerate(zip(s, t)))
        return v.dtype == x.dtype and v.rank == x.rank and v.bound < 60 and all(map(same, v.shapes, x.shapes))

    for _ in range(b.choice([1, 1, 2])):
        parts = [x] + [b.pick(fits) for _ in range(b.choice([0, 1, 1, 2]))]
        b.rng.shuffle(parts)
        shapes = each(lambda *s: [sum(p[a] for p in s) if i == a else d for i, d in enumerate(s[0])], *parts)
        x = b.emit("Concat", parts, [(x.dtype, shapes)], axis=axis if b.opset >= 11 else a)


@form(2)
def split(b):
    x = b.float(low=1, where=lambda v: any((v.size(i) or 0) > 1 for i in range(v.rank)))
    axis = b.choice(i for i in range(x.rank) if (x.size(i) or 0) > 1)
    n = x.size(axis)
    first = b.rng.randint(1, n - 1)
    sizes = b.choice([[first, n - first], [1] * n, [n]])
    outs = [(x.dtype, each(lambda s, k=k: [k if i == axis else d for i, d in enumerate(s)], x)) for k in sizes]
    if b.opset >= 13:
        parts = b.emit("Split", [x, b.ints(*sizes)], outs, axis=axis)
    else:
        parts = b.emit("Split", [x], outs, axis=axis, split=sizes)
    parts = parts if isinstance(parts, list) else [parts]
    if b.chance(0.4):
        if b.chance(0.4):
            parts = parts[::-1]
        total = each(lambda *s: [sum(p[axis] for p in s) if i == axis else d for i, d in enumerate(s[0])], *parts)
        b.emit("Concat", parts, [(x.dtype, total)], axis=axis)
    elif len(parts) == 2 and sizes[0] == sizes[1]:
        b.emit("Mul", [parts[0], b.same("Sigmoid", parts[1], bound=1)], [(x.dtype, parts[0].shapes)])


@form(2)
def pad(b):
    x = b.float(low=1, high=4, where=lambda v: all(0 not in s for s in v.shapes))
    mode = b.choice([None, "constant", "constant", "reflect", "edge"])
    pads = [b.choice([0, 0, 1] if mode == "reflect" else [0, 0, 1, 2]) for _ in range(2 * x.rank)]
    if mode == "reflect" and any(d < 2 for s in x.shapes for d in s):
        raise Skip
    shapes = each(lambda s: [d + pads[i] + pads[i + x.rank] for i, d in enumerate(s)], x)
    if b.opset < 11:
        b.emit("Pad", [x], [(x.dtype, shapes)], pads=pads, mode=mode, value=b.choice([None, 1.0]))
    else:
        value = b.const(np.float32(b.choice([0.0, 1.0]))) if b.chance(0.5) else None
        b.emit("Pad", [x, b.ints(*pads), value], [(x.dtype, shapes)], mode=mode)


@form(3)
def gather(b):
    x = any_value(b, 1, 4)
    axis = b.axis(x)
    least = min(s[axis] for s in x.shapes)
    if least == 0:
        raise Skip
    shape = b.choice([(), (), (1,), (2,), (2, 2)])
    if b.chance(0.8):
        index = b.const(b.np.integers(-least if b.opset >= 11 else 0, least, shape).astype(b.choice(["int64", "int32"])))
    else:
        if b.parent:
            raise Skip
        index = b.input("int64", shape, low=0, high=least)
    a = axis % x.rank
    y = b.emit("Gather", [x, index], [(x.dtype, each(lambda s: [*s[:a], *shape, *s[a + 1 :]], x))], axis=axis)
    if shape == () and b.chance(0.4):
        unsqueezed(b, y, [a])


@form(1, since=11)
def gather_others(b):
    x = b.float(low=1, high=3, where=lambda v: all(v.size(i) for i in range(v.rank)))
    sizes = x.shapes[0]
    kind = b.choice(["GatherElements", "GatherND", "ScatterElements", "ScatterND"])
    if kind in ("GatherElements", "ScatterElements"):
        axis = b.axis(x)
        shape = tuple(b.rng.randint(1, d) for d in sizes)
        order = np.stack([b.np.permutation(sizes[axis])] * 1)[0]
        index = np.broadcast_to(
            order[: shape[axis]].reshape([-1 if i == axis % x.rank else 1 for i in range(x.rank)]), shape
        ).astype(np.int64)
        if kind == "GatherElements":
            b.emit(kind, [x, b.const(index.copy())], [(x.dtype, (shape,) * BINDINGS)], axis=axis)
        else:
            b.emit(kind, [x, b.const(index.copy()), b.weight(*shape)], [(x.dtype, x.shapes)], axis=axis)
        return
    depth = b.rng.randint(1, x.rank)
    rows = b.rng.randint(1, min(3, sizes[0]))
    index = np.stack([b.np.permutation(sizes[0])[:rows]] + [b.np.integers(0, sizes[i], rows) for i in range(1, depth)], 1)
    if b.chance(0.2) and depth == 1:
        rows, index = sizes[0], np.arange(sizes[0]).reshape(-1, 1)
    shape = (rows, *sizes[depth:])
    if kind == "GatherND":
        b.emit(kind, [x, b.const(index, "int64")], [(x.dtype, (shape,) * BINDINGS)])
    else:
        b.emit(kind, [x, b.const(index, "int64"), b.weight(*shape)], [(x.dtype, x.shapes)])


@form(1)
def space(b):
    x = b.image()
    kind = b.choice(["DepthToSpace", "SpaceToDepth"])
    if kind == "SpaceToDepth":
        if any(s[2] % 2 or s[3] % 2 for s in x.shapes):
            raise Skip
        b.emit(kind, [x], [(x.dtype, each(lambda s: (s[0], s[1] * 4, s[2] // 2, s[3] // 2), x))], blocksize=2)
    else:
        if x.size(1) % 4:
            raise Skip
        mode = b.choice([None, "DCR", "CRD"]) if b.opset >= 11 else None
        b.emit(kind, [x], [(x.dtype, each(lambda s: (s[0], s[1] // 4, s[2] * 2, s[3] * 2), x))], blocksize=2, mode=mode)


@form(1, since=11)
def resize(b):
    x = b.image()
    scales = [1.0, 1.0, b.choice([1.0, 2.0, 0.5]), b.choice([1.0, 2.0])]
    mode = b.choice(["nearest", "linear"])
    transform = b.choice(["half_pixel", "asymmetric", "align_corners" if mode == "linear" else "asymmetric"])
    roi = b.const(np.zeros(0, np.float32)) if b.opset < 13 else None
    shapes = each(lambda s: [int(np.floor(d * k)) for d, k in zip(s, scales)], x)
    if any(0 in s for s in shapes):
        raise Skip
    nearest = "floor" if mode == "nearest" else None
    b.emit("Resize", [x, roi, b.const(np.array(scales, np.float32))], [(x.dtype, shapes)], mode=mode,
           coordinate_transformation_mode=transform, nearest_mode=nearest)


@form(0.7, since=14)
def trilu(b):
    x = b.float(low=2, high=4)
    b.emit("Trilu", [x], [(x.dtype, x.shapes)], upper=b.choice([0, 1]))


# ---- reductions and normalization ----------------------------------------------------------------------------------


def reduced(b, op, x, axes, keep):
    places = {a % x.rank for a in axes}
    shapes = each(lambda s: [1 if i in places else d for i, d in enumerate(s) if keep or i not in places], x)
    as_input = b.opset >= (13 if op == "ReduceSum" else 18)
    grows = {"ReduceSum": 50, "ReduceL1": 50, "ReduceL2": 10, "ReduceSumSquare": 50 * x.bound}
    attrs = {"keepdims": b.choice([None, 1]) if keep else 0, "bound": x.bound * grows.get(op, 1)}
    if as_input:
        return b.emit(op, [x, b.ints(*axes)], [(x.dtype, shapes)], **attrs)
    return b.emit(op, [x], [(x.dtype, shapes)], axes=axes, **attrs)


@form(3)
def reduce(b):
    op = b.choice(["Sum", "Sum", "Mean", "Mean", "Max", "Min", "L1", "L2", "SumSquare", "LogSumExp"])
    x = b.float(low=1, where=lambda v: all(0 not in s for s in v.shapes), bound=20)
    axes, keep = b.some_axes(x), b.chance(0.5)
    y = reduced(b, f"Reduce{op}", x, axes, keep)
    if not keep and b.chance(0.4):
        unsqueezed(b, y, sorted(a % x.rank for a in axes))
    elif y.rank and b.chance(0.2) and y.bound < 20:
        reduced(b, f"Reduce{op}", y, b.some_axes(y), keep)


@form(1)
def arg(b):
    x = b.float(low=1, where=lambda v: all(0 not in s for s in v.shapes))
    if b.chance(0.3):
        x = b.same(b.choice(["Sigmoid", "Tanh"]), x, bound=1)
    axis, keep = b.axis(x, sign=b.opset >= 11), b.chance(0.5)
    a = axis % x.rank
    shapes = each(lambda s: [1 if i == a else d for i, d in enumerate(s) if keep or i != a], x)
    b.emit(b.choice(["ArgMax", "ArgMin"]), [x], [("int64", shapes)], axis=axis, keepdims=int(keep))


@form(2)
def softmax(b):
    x = b.float(low=1, where=lambda v: all(0 not in s for s in v.shapes), dtypes=FLOATS[:2])
    op = b.choice(["Softmax", "Softmax", "LogSoftmax"])
    axis = b.axis(x, sign=b.opset >= 11)
    y = b.same(op, x, axis=b.choice([None, axis]), bound=1 if op == "Softmax" else 60)
    if op == "Softmax" and b.chance(0.4):
        b.same("Log", y, bound=60)


@form(1)
def top_k(b):
    x = b.float(low=1, where=lambda v: all(0 not in s for s in v.shapes))
    axis = b.axis(x, sign=b.opset >= 11)
    a = axis % x.rank
    k = b.rng.randint(1, min(s[a] for s in x.shapes))
    shapes = each(lambda s: [k if i == a else d for i, d in enumerate(s)], x)
    outs = [(x.dtype, shapes), ("int64", shapes)]
    if b.opset >= 10:
        values, _ = b.emit("TopK", [x, b.ints(k)], outs, axis=axis)
    else:
        values, _ = b.emit("TopK", [x], outs, axis=axis, k=k)
    if b.chance(0.5):
        b.same("Relu", values)


@form(1, since=11)
def cumulative(b):
    x = b.float(low=1, bound=10)
    axis = b.const(np.asarray(b.axis(x), np.int32))
    b.emit("CumSum", [x, axis], [(x.dtype, x.shapes)], bound=x.bound * 10, exclusive=b.choice([None, 1]), reverse=b.choice([None, 1]))


@form(2)
def normalization(b):
    kind = b.choice(["BatchNormalization", "InstanceNormalization", "LRN", "LpNormalization", "LayerNormalization",
                     "GroupNormalization", "MeanVarianceNormalization"])
    if kind == "LayerNormalization":
        if b.opset < 17:
            raise Skip
        x = b.float(low=1, where=lambda v: v.size(-1))
        scale, bias = b.weight(x.size(-1)), b.weight(x.size(-1)) if b.chance(0.7) else None
        return b.emit(kind, [x, scale, bias], [(x.dtype, x.shapes)], axis=-1, epsilon=b.choice([None, 1e-3]), bound=30)
    x = b.image(b.choice([1, 2])) if kind not in ("LRN", "MeanVarianceNormalization") else b.image()
    c = x.size(1)
    if kind == "BatchNormalization":
        return batch_norm(b, x)
    if kind == "InstanceNormalization":
        b.same(kind, x, b.weight(c), b.weight(c), bound=30, epsilon=1e-3)
    elif kind == "LRN":
        b.same(kind, x, size=3)
    elif kind == "LpNormalization":
        b.same(kind, x, axis=b.axis(x), p=b.choice([1, 2]), bound=1)
    elif kind == "GroupNormalization":
        if b.opset < 21 or c % 2:
            raise Skip
        b.same(kind, x, b.weight(c), b.weight(c), num_groups=2, bound=30)
    else:
        b.same(kind, x, bound=10)


def batch_norm(b, x):
    c = x.size(1)
    stats = [b.weight(c), b.weight(c), b.weight(c), b.const(np.abs(b.np.standard_normal(c)).astype(x.dtype) + 0.1)]
    return b.emit("BatchNormalization", [x, *stats], [(x.dtype, x.shapes)], epsilon=b.choice([None, 1e-3]), bound=x.bound * 3 + 5)


# ---- linear --------------------------------------------------------------------------------------------------------


def conv_shape(size, kernel, stride, dilation, before, after):
    return (size + before + after - dilation * (kernel - 1) - 1) // stride + 1


def convolution(b, x, bias=None, **fixed):
    """A Conv over `x` with random attributes, those in `fixed` as given."""
    spatial, c = x.rank - 2, x.size(1)
    group = fixed.get("group", b.choice([1, 1, 1, c, *[g for g in (2, 3) if c % g == 0]]))
    out = group * b.rng.randint(1, 3)
    kernel = [b.choice([1, 2, 3]) for _ in range(spatial)]
    stride = [b.choice([1, 1, 2]) for _ in range(spatial)]
    dilation = [b.choice([1, 1, 2]) for _ in range(spatial)]
    pads = fixed.get("pads", [b.choice([0, 0, 1]) for _ in range(2 * spatial)])
    auto = b.choice([None, None, None, "VALID", "SAME_UPPER", "SAME_LOWER"]) if "pads" not in fixed else None
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        dilation = [1] * spatial
        sizes = lambda s: [-(-d // t) for d, t in zip(s[2:], stride)]
    else:
        p = [0] * (2 * spatial) if auto == "VALID" else pads
        sizes = lambda s: [conv_shape(d, kernel[i], stride[i], dilation[i], p[i], p[i + spatial]) for i, d in enumerate(s[2:])]
    shapes = each(lambda s: (s[0], out, *sizes(s)), x)
    if any(min(s) <= 0 for s in shapes):
        raise Skip
    scale = 1 / np.sqrt(c // group * np.prod(kernel))
    w = b.weight(out, c // group, *kernel, scale=scale)
    bias = b.chance(0.5) if bias is None else bias
    attrs = {"strides": stride, "dilations": dilation, "group": group, "kernel_shape": b.choice([None, kernel])}
    attrs |= {"auto_pad": auto} if auto else {"pads": pads}
    operands = [x, w] + ([b.weight(out)] if bias else [])
    return b.emit("Conv", operands, [(x.dtype, shapes)], bound=x.bound + 4, **attrs)


@form(4)
def conv(b):
    y = convolution(b, b.image(b.choice([1, 2, 2, 2])))
    if b.chance(0.3):
        b.same("Relu", y)


@form(1)
def conv_transpose(b):
    x = b.image()
    c = x.size(1)
    group = b.choice([1, *[g for g in (2,) if c % g == 0]])
    out, k, stride = b.rng.randint(1, 3), b.choice([2, 3]), b.choice([1, 2])
    shapes = each(lambda s: (s[0], out * group, *[(d - 1) * stride + k for d in s[2:]]), x)
    operands = [x, b.weight(c, out, k, k, scale=0.3)] + ([b.weight(out * group)] if b.chance(0.5) else [])
    y = b.emit("ConvTranspose", operands, [(x.dtype, shapes)], strides=[stride] * 2, group=group, bound=x.bound + 4)
    after(b, y)


def after(b, y):
    """What passes fuse into a weighted op: a normalization, or a constant factor or summand for each channel."""
    kind = b.choice(["bn", "mul", "add", "div", "sub", "none"])
    if kind == "bn":
        return batch_norm(b, y)
    if kind == "none":
        return y
    shape = (y.size(1),) + (1,) * (y.rank - 2) if b.chance(0.7) else b.choice([(), (1,), (1,) * y.rank])
    c = np.abs(b.np.standard_normal(shape)) + 0.5
    operands = [y, b.const(np.asarray(c, np.float32))]
    if kind in ("mul", "add") and b.chance(0.3):
        operands.reverse()
    return b.emit(kind.capitalize(), operands, [(y.dtype, y.shapes)], bound=y.bound * 3 + 3)


@form(2)
def pool(b):
    x = b.image(b.choice([1, 2, 2]), least=2)
    spatial = x.rank - 2
    op = b.choice(["MaxPool", "MaxPool", "AveragePool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "LpPool"])
    if op.startswith("Global"):
        y = b.emit(op, [x], [(x.dtype, each(lambda s: (*s[:2], *[1] * spatial), x))])
        if b.chance(0.5):
            b.emit("Flatten", [y], [(x.dtype, each(lambda s: s[:2], x))])
        return
    k, stride = [2] * spatial, [b.choice([1, 2])] * spatial
    pads = [b.choice([0, 0, 1]) for _ in range(2 * spatial)]
    shapes = each(lambda s: (*s[:2], *[conv_shape(d, 2, stride[i], 1, pads[i], pads[i + spatial]) for i, d in enumerate(s[2:])]), x)
    if any(min(s) <= 0 for s in shapes):
        raise Skip
    include = b.choice([None, 1]) if op == "AveragePool" else None
    bound = x.bound * 4 if op == "LpPool" else None
    b.emit(op, [x], [(x.dtype, shapes)], kernel_shape=k, strides=stride, pads=pads, count_include_pad=include, bound=bound)


@form(3)
def matmul(b):
    x = b.float(low=1, high=4, dtypes=FLOATS[:2], where=lambda v: v.size(-1))
    n, m = x.size(-1), b.rng.randint(1, 5)
    if x.rank == 1 or b.chance(0.1):
        w = b.weight(n, dtype=x.dtype)
        if x.rank == 1:
            return b.emit("MatMul", [x, w], [(x.dtype, ((),) * BINDINGS)], bound=x.bound * 3)
        return b.emit("MatMul", [x, w], [(x.dtype, each(lambda s: s[:-1], x))], bound=x.bound * 3)
    w = b.weight(n, m, dtype=x.dtype, scale=0.5)
    y = b.emit("MatMul", [x, w], [(x.dtype, each(lambda s: (*s[:-1], m), x))], bound=x.bound * 2)
    if b.chance(0.5):
        bias = b.const(b.np.standard_normal(b.choice([(m,), (1,), (1, m), ()])).astype(x.dtype))
        operands = [y, bias] if b.chance(0.6) else [bias, y]
        y = b.emit("Add", operands, [(x.dtype, broadcast(*operands))], bound=y.bound + 3)
    if b.chance(0.2):
        b.emit("Mul", [y, b.const(np.asarray(b.choice([0.5, 2.0]), x.dtype))], [(x.dtype, y.shapes)])


@form(1)
def matmul_of_two(b):
    x = b.float(low=2, high=4, bound=20)
    y = transposed(b, x, [*range(x.rank - 2), x.rank - 1, x.rank - 2])
    b.emit("MatMul", [x, y], [(x.dtype, each(lambda s: (*s[:-1], s[-2]), x))], bound=x.bound**2 * 3)


@form(3)
def gemm(b):
    x = b.float(2, where=lambda v: v.size(0) or v.size(1))
    ta = 1 if not x.size(1) else int(b.chance(0.2) and bool(x.size(0)))
    k, tb, n = x.size(0 if ta else 1), b.choice([0, 1]), b.rng.randint(1, 5)
    if b.chance(0.2) and not ta and x.size(0):
        x, ta, k = transposed(b, x, [1, 0]), 1, x.size(1)
    w = b.weight(*((n, k) if tb else (k, n)), scale=0.5)
    if b.chance(0.2):
        w, tb = transposed(b, w, [1, 0]), 1 - tb
    c = b.const(b.np.standard_normal(b.choice([(n,), (1, n), (1,), ()])).astype("float32")) if b.chance(0.7) or b.opset < 11 else None
    alpha, beta = b.choice([(None, None), (None, None), (0.5, None), (1.0, 2.0), (2.0, 0.0)])
    y = b.emit("Gemm", [x, w, c], [(x.dtype, each(lambda s: (s[1] if ta else s[0], n), x))], bound=x.bound * 3,
               transA=b.choice([None, 0]) if not ta else 1, transB=tb or None, alpha=alpha, beta=beta)
    if b.chance(0.3):
        after(b, y)


@form(1, since=12)
def einsum(b):
    x = b.float(3, where=lambda v: v.size(2))
    kind, k = b.choice(["bij,jk->bik", "bij,kj->bik", "bij->bji", "bij->bi", "bij,j->bi"]), b.rng.randint(1, 4)
    j = x.size(2)
    shapes = {
        "bij,jk->bik": ((j, k), lambda s: (s[0], s[1], k)), "bij,kj->bik": ((k, j), lambda s: (s[0], s[1], k)),
        "bij->bji": (None, lambda s: (s[0], s[2], s[1])), "bij->bi": (None, lambda s: s[:2]), "bij,j->bi": ((j,), lambda s: s[:2]),
    }[kind]
    operands = [x] + ([b.weight(*shapes[0])] if shapes[0] else [])
    b.emit("Einsum", operands, [(x.dtype, each(shapes[1], x))], equation=kind, bound=x.bound * 5)


# ---- quantization --------------------------------------------------------------------------------------------------


def quantized(b, x, scale=None, dtype=None):
    scale = scale or b.const(np.float32(b.choice([0.05, 0.1, 0.25])))
    dtype = dtype or b.choice(["int8", "uint8"])
    zero = b.const(np.asarray(b.choice([0, 3]) if dtype == "int8" else 128, dtype))
    q = b.emit("QuantizeLinear", [x, scale, zero], [(dtype, x.shapes)])
    return q, scale, zero


@form(2, since=10)
def qdq(b):
    x = b.float(where=lambda v: v.rank > 0)
    for _ in range(b.choice([1, 1, 2])):
        q, scale, zero = quantized(b, x)
        if b.chance(0.3) and q.rank > 1:
            q = transposed(b, q)
        x = b.emit("DequantizeLinear", [q, scale, zero], [("float32", q.shapes)], bound=14)
        if b.chance(0.2):
            x = transposed(b, x)
        if b.chance(0.2):
            b.emit("DequantizeLinear", [q, scale, zero], [("float32", q.shapes)], bound=14)


@form(1, since=11)
def dynamic_quantization(b):
    x = b.float(low=1, where=lambda v: all(0 not in s for s in v.shapes))
    q, scale, zero = b.emit("DynamicQuantizeLinear", [x], [("uint8", x.shapes), ("float32", ((),) * BINDINGS), ("uint8", ((),) * BINDINGS)])
    b.emit("DequantizeLinear", [q, scale, zero], [("float32", x.shapes)])


@form(1, since=10)
def integer_matmul(b):
    x = b.float(2, where=lambda v: v.size(1))
    q, scale, zero = quantized(b, x, dtype="uint8")
    w = b.const(b.np.integers(-5, 5, (x.size(1), 3)).astype("int8"))
    y = b.emit("MatMulInteger", [q, w, zero], [("int32", each(lambda s: (s[0], 3), x))])
    b.emit("Cast", [y], [("float32", y.shapes)], to=elem("float32"), bound=1000)


@form(1, since=10)
def quantized_conv(b):
    x = b.image()
    q, scale, zero = quantized(b, x)
    y = b.emit("DequantizeLinear", [q, scale, zero], [("float32", x.shapes)], bound=x.bound)
    w = b.const(b.np.integers(-60, 60, (2, x.size(1), 1, 1)).astype("int8"))
    per = b.chance(0.5) and b.opset >= 13
    ws = b.const(np.array([0.01, 0.02], np.float32) if per else np.float32(0.01))
    wd = b.emit("DequantizeLinear", [w, ws, b.const(np.zeros(2 if per else (), np.int8))], [("float32", w.shapes)], axis=0 if per else None)
    after(b, b.emit("Conv", [y, wd], [("float32", each(lambda s: (s[0], 2, *s[2:]), x))], bound=x.bound + 3))


# ---- making and others ---------------------------------------------------------------------------------------------


@form(1)
def one_hot(b):
    depth = b.rng.randint(2, 4)
    x = b.input("int64", b.dims(b.choice([1, 2])), low=0, high=depth) if not b.parent else b.ints(0, 1)
    b.emit("OneHot", [x, b.ints(depth), b.const(np.array([0, 1], np.float32))], [("float32", each(lambda s: (*s, depth), x))])


@form(0.7)
def eye_like(b):
    x = b.float(2)
    b.emit("EyeLike", [x], [(x.dtype, x.shapes)], k=b.choice([None, 1]))


@form(0.7, since=11)
def range_op(b):
    n = b.rng.randint(1, 5)
    args = [b.const(np.asarray(v, "int64")) for v in (0, n, 1)]
    r = b.emit("Range", args, [("int64", ((n,),) * BINDINGS)], data=(np.arange(n),) * BINDINGS)
    b.emit("Cast", [r], [("float32", r.shapes)], to=elem("float32"))


@form(0.5)
def non_zero(b):
    x = b.float(low=1, high=3)
    c = b.emit("Greater", [x, b.const(np.float32(0))], [("bool", x.shapes)])
    f = b.emit("Cast", [c], [("float32", x.shapes)], to=elem("float32"), bound=1)
    reduced(b, "ReduceSum", f, [0], True)


@form(0.7)
def recurrent(b):
    kind = b.choice(["LSTM", "GRU", "RNN"])
    x = b.float(3, where=lambda v: v.size(2) and all(0 not in s for s in v.shapes))
    gates, h = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind], 2
    both = b.chance(0.3)
    d = 2 if both else 1
    operands = [x, b.weight(d, gates * h, x.size(2), scale=0.3), b.weight(d, gates * h, h, scale=0.3)]
    if b.chance(0.5):
        operands.append(b.weight(d, 2 * gates * h))
    shapes = each(lambda s: (s[0], d, s[1], h), x)
    y = b.emit(kind, operands, [(x.dtype, shapes)], hidden_size=h, direction="bidirectional" if both else None, bound=1)
    if d == 1 and b.chance(0.7):
        squeezed(b, y, [1])


# ---- subgraphs -----------------------------------------------------------------------------------------------------


def grow(b, forms, n):
    """Adds `n` forms, drawn by weight."""
    possible = [(f, w) for f, w, since, until in forms if since <= b.opset <= until]
    for _ in range(n):
        f = b.rng.choices([f for f, _ in possible], [w for _, w in possible])[0]
        state = len(b.nodes), len(b.initializers), len(b.values)
        uses = [(v, v.uses) for v in b.visible()]
        try:
            f(b)
            b.root.forms.append(f.__name__)
        except Skip:
            del b.nodes[state[0] :], b.initializers[state[1] :], b.values[state[2] :]
            for v, count in uses:
                v.uses = count


ELEMENTWISE = ("unary", "binary", "neutral", "clip", "transpose", "reshape", "slices", "matmul", "reduce", "squeeze")


def body_result(inner, x):
    """A value in the body with the type and shapes of `x`."""
    chosen = [f for f in FORMS if f[0].__name__ in ELEMENTWISE]
    grow(inner, chosen, inner.rng.randint(1, 3))
    y = next((v for v in inner.values[::-1] if v.dtype == x.dtype and v.shapes == x.shapes and v.bound <= 60), None)
    if y is None:
        y = inner.same(inner.choice(["Relu", "Neg", "Identity", "Abs", "Sigmoid"]), x)
    return y


@form(1.5)
def conditional(b):
    x = b.float(low=1)
    kind = b.rng.random()
    if kind < 0.35:
        cond = b.const(np.asarray(b.chance(0.5)))
    elif kind < 0.6 and not b.parent:
        cond = b.input("bool", ())
    else:
        total = reduced(b, "ReduceSum", x, [*range(x.rank)], False)
        cond = b.emit("Greater", [total, b.const(np.float32(0))], [("bool", ((),) * BINDINGS)])
    bodies = []
    for name in ("then", "else"):
        inner = type(b)(b.seed, b.opset, b)
        y = body_result(inner, x)
        bodies.append(inner.subgraph(b.name(name), [y]))
        x.uses += 1
    b.emit("If", [cond], [(x.dtype, x.shapes)], then_branch=bodies[0], else_branch=bodies[1], bound=60)


@form(1)
def loop(b):
    x = b.float(low=1, bound=10)
    n = b.rng.randint(0, 3)
    trips = b.const(np.asarray(n, np.int64)) if b.chance(0.6) or b.parent else b.input("int64", (), low=n, high=n + 1)
    keep = b.const(np.asarray(True)) if b.chance(0.6) else None
    inner = type(b)(b.seed, b.opset, b)
    ins = [helper.make_tensor_value_info(b.name("i"), elem("int64"), []), helper.make_tensor_value_info(b.name("k"), elem("bool"), [])]
    state = type(x)(b.name("s"), x.dtype, x.shapes, bound=x.bound)
    inner.values.append(state)
    # Without a shape: the body's input has what the caller feeds.
    ins.append(helper.make_tensor_value_info(state.name, elem(x.dtype), None))
    y = body_result(inner, state)
    y = inner.same("Tanh", y, bound=1)
    go = type(x)(b.name("k"), "bool", ((),) * BINDINGS)
    inner.nodes.append(helper.make_node("Identity", [ins[1].name], [go.name]))
    outs = [(x.dtype, x.shapes)]
    body_outputs = [go, y]
    if n and b.chance(0.4):
        body_outputs.append(inner.same("Neg", y))
        outs.append((x.dtype, each(lambda s: (n, *s), x)))
    graph = inner.subgraph(b.name("body"), body_outputs, ins)
    for v in b.visible():
        v.uses += any(v.name in node.input for node in inner.nodes)
    b.emit("Loop", [trips, keep, x], outs, body=graph, bound=max(x.bound, 1))
