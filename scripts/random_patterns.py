"""Patterns of several operators, as exporters write them and passes look for them. Not a command itself."""
import numpy as np
from onnx import helper

from random_builder import BINDINGS, FLOATS, Skip, broadcast, each, elem
from random_ops import after, batch_norm, conv_shape, convolution, form, known, quantized, reduced, transposed, unsqueezed


def scalar(b, value, dtype="float32"):
    return b.const(np.full(b.choice([(), (), (), (), (1,), (1,), (1, 1, 1)]), value, dtype))


def arithmetic(b, op, x, y, bound=None):
    return b.emit(op, [x, y], [(x.dtype, broadcast(x, y))], bound=bound)


# ---- around convolutions -------------------------------------------------------------------------------------------


@form(3)
def conv_then(b):
    """Conv and what is fused into it: normalization, scale, bias, once or more."""
    x = convolution(b, b.image(b.choice([1, 2, 2])))
    for _ in range(b.choice([1, 1, 2, 3])):
        x = after(b, x)
    if b.chance(0.5):
        x = b.same(b.choice(["Relu", "Sigmoid"]), x)


@form(2)
def scale_then_conv(b):
    x = b.image()
    c = np.asarray(b.np.standard_normal(b.choice([(), (x.size(1), 1, 1), (1, x.size(1), 1, 1)])), np.float32)
    x = arithmetic(b, b.choice(["Mul", "Add", "Sub"]), x, b.const(c), x.bound * 3)
    convolution(b, x, **({"pads": [0] * 4} if b.chance(0.6) else {}))


@form(2)
def pad_then(b):
    x = b.image(b.choice([1, 2]))
    spatial = x.rank - 2
    pads = [b.choice([0, 1, 2]) for _ in range(2 * spatial)]
    outer = b.chance(0.1)
    full = [0, int(outer), *pads[:spatial], 0, 0, *pads[spatial:]]
    shapes = each(lambda s: [d + full[i] + full[i + x.rank] for i, d in enumerate(s)], x)
    value = b.choice([0.0, 0.0, 1.0, -np.inf])
    if b.opset < 11:
        y = b.emit("Pad", [x], [(x.dtype, shapes)], pads=full, mode=b.choice([None, "constant"]), value=value if np.isfinite(value) else None)
    else:
        v = b.const(np.float32(value)) if value else None
        y = b.emit("Pad", [x, b.ints(*full), v], [(x.dtype, shapes)], mode=b.choice([None, "constant", "edge"]) if not v else None)
    if np.isinf(value) or b.chance(0.4):
        op = "MaxPool" if np.isinf(value) else b.choice(["MaxPool", "AveragePool"])
        out = each(lambda s: (*s[:2], *[conv_shape(d, 2, 2, 1, 0, 0) for d in s[2:]]), y)
        if any(min(s) <= 0 for s in out):
            raise Skip
        b.emit(op, [y], [(x.dtype, out)], kernel_shape=[2] * spatial, strides=[2] * spatial,
               count_include_pad=b.choice([None, 1]) if op == "AveragePool" else None)
    else:
        convolution(b, y, **({"pads": [b.choice([0, 1])] * (2 * spatial)} if b.chance(0.7) else {}))


@form(2)
def channels_last(b):
    """Transposes around ops, as converters from TensorFlow leave them."""
    x = b.image()
    y = transposed(b, x, [0, 2, 3, 1])
    for _ in range(b.choice([1, 2, 3])):
        kind = b.rng.random()
        if kind < 0.4:
            y = b.same(b.choice(["Relu", "Sigmoid", "Tanh", "Abs"]), y)
        elif kind < 0.7:
            c = b.const(b.np.standard_normal(b.choice([(), (x.size(1),), (1, 1, 1, x.size(1))])).astype("float32"))
            y = arithmetic(b, b.choice(["Add", "Mul"]), y, c, y.bound * 3)
        elif kind < 0.85:
            y = reduced(b, b.choice(["ReduceMean", "ReduceSum"]), y, [1, 2], True)
        else:
            other = b.float(4, where=lambda v: all(broadcastable(s, t) for s, t in zip(v.shapes, y.shapes)))
            y = arithmetic(b, "Add", y, other, y.bound + other.bound)
    z = transposed(b, y, [0, 3, 1, 2])
    if b.chance(0.3):
        b.same("Relu", y)
    if b.chance(0.5) and z.size(1) and z.bound < 60:
        convolution(b, z)


def broadcastable(s, t):
    try:
        return np.broadcast_shapes(s, t) == t
    except ValueError:
        return False


@form(1)
def residual(b):
    x = b.image()
    y = convolution(b, x, pads=[0] * 4)
    z = b.same("Relu", after(b, y))
    arithmetic(b, "Add", z, y, z.bound + y.bound)


@form(1)
def squeeze_excite(b):
    x = b.image()
    c = x.size(1)
    y = b.emit("GlobalAveragePool", [x], [(x.dtype, each(lambda s: (*s[:2], 1, 1), x))]) if b.chance(0.5) else reduced(b, "ReduceMean", x, [2, 3], True)
    y = b.emit("Conv", [y, b.weight(c, c, 1, 1, scale=0.3)], [(x.dtype, y.shapes)])
    y = b.same(b.choice(["Sigmoid", "HardSigmoid"]), y, bound=1)
    arithmetic(b, "Mul", x, y, x.bound)


# ---- activations and norms spelled out -----------------------------------------------------------------------------


@form(2)
def gelu(b):
    x = b.float(bound=20)
    if b.chance(0.6):
        y = b.same("Erf", arithmetic(b, "Div", x, scalar(b, 1.4142135)) if b.chance(0.6) else arithmetic(b, "Mul", x, scalar(b, 0.70710678)), bound=1)
    else:
        cube = arithmetic(b, "Pow", x, scalar(b, 3.0), x.bound**3)
        y = arithmetic(b, "Add", x, arithmetic(b, "Mul", cube, scalar(b, 0.044715)))
        y = b.same("Tanh", arithmetic(b, "Mul", y, scalar(b, 0.79788456)), bound=1)
    y = arithmetic(b, "Add", y, scalar(b, 1.0), 2)
    if b.chance(0.5):
        arithmetic(b, "Mul", arithmetic(b, "Mul", x, y, x.bound * 2), scalar(b, 0.5))
    else:
        arithmetic(b, "Mul", arithmetic(b, "Mul", x, scalar(b, 0.5)), y, x.bound * 2)


@form(2)
def hard_swish(b):
    x = b.float(dtypes=("float32",), bound=30)
    y = arithmetic(b, "Add", x, scalar(b, 3.0), x.bound + 3)
    if b.opset < 11:
        y = b.same("Clip", y, min=0.0, max=6.0, bound=6)
    else:
        y = b.emit("Clip", [y, b.const(np.float32(0)), b.const(np.float32(6))], [(x.dtype, y.shapes)], bound=6)
    kind = b.choice(["swish", "swish", "sigmoid", "near"])
    if kind == "sigmoid":
        return arithmetic(b, "Div", y, scalar(b, 6.0))
    y = arithmetic(b, "Mul", x, y, x.bound * 6)
    arithmetic(b, "Div", y, scalar(b, 6.0 if kind == "swish" else 5.0), x.bound)


@form(1)
def swish(b):
    x = b.float()
    arithmetic(b, "Mul", *b.rng.sample([x, b.same("Sigmoid", x, bound=1)], 2), x.bound)


@form(2)
def layer_norm(b):
    x = b.float(low=2, high=4, where=lambda v: v.size(-1) and all(0 not in s for s in v.shapes), bound=20)
    rms = b.chance(0.3)
    d = x if rms else arithmetic(b, "Sub", x, reduced(b, "ReduceMean", x, [-1], True))
    square = arithmetic(b, "Pow", d, scalar(b, 2.0), d.bound**2) if b.chance(0.6) else arithmetic(b, "Mul", d, d, d.bound**2)
    root = b.same("Sqrt", arithmetic(b, "Add", reduced(b, "ReduceMean", square, [-1], True), scalar(b, 1e-3)))
    y = arithmetic(b, "Div", d, root, 8)
    if rms and b.chance(0.3):
        y = arithmetic(b, "Mul", d, b.same("Reciprocal", root, bound=8), 8)
    y = arithmetic(b, "Mul", y, b.weight(x.size(-1)), 20)
    if b.chance(0.7):
        arithmetic(b, "Add", y, b.weight(x.size(-1)), 24)


@form(1)
def chained_constants(b):
    x = b.float(dtypes=FLOATS[:2], bound=20)
    for _ in range(b.rng.randint(2, 4)):
        op = b.choice(["Add", "Mul", "Sub", "Div"])
        c = b.constant_like(x, plain=True) if op != "Div" else b.const(np.asarray(b.choice([2.0, 4.0, 3.0]), x.dtype))
        operands = [x, c] if op == "Div" or b.chance(0.7) else [c, x]
        x = b.emit(op, operands, [(x.dtype, broadcast(*operands))], bound=max(x.bound * max(c.bound, 1), x.bound + c.bound))


@form(1)
def twice(b):
    """The same computation two times over."""
    x = b.float(low=1)
    op = b.choice(["Relu", "Sigmoid", "Exp" if x.bound < 5 else "Tanh"])
    y, z = b.same(op, x, bound=max(x.bound, 150)), b.same(op, x, bound=max(x.bound, 150))
    if b.chance(0.5):
        arithmetic(b, b.choice(["Add", "Sub"]), y, z, 300)


@form(1)
def where_not(b):
    x = b.float(low=1)
    zero = scalar(b, 0.0)
    c = b.emit("Greater", [x, zero], [("bool", broadcast(x, zero))])
    c = b.same("Not", c)
    y = b.same("Neg", x)
    b.emit("Where", [c, x, y], [(x.dtype, broadcast(c, x, y))])


@form(1, since=11)
def min_max(b):
    x = b.float()
    low, high = sorted(b.rng.sample([-1.0, 0.0, 1.0, 6.0], 2))
    y = arithmetic(b, "Max", x, scalar(b, low))
    y = arithmetic(b, "Min", y, scalar(b, high))
    if b.chance(0.4):
        b.same("Relu", y)


@form(1)
def masked_attention(b):
    x = b.float(3, where=lambda v: v.size(2) and v.size(2) % 2 == 0 and all(0 not in s for s in v.shapes), bound=20)
    heads, d = 2, x.size(2) // 2

    def split_heads(w):
        y = b.emit("MatMul", [x, w], [(x.dtype, x.shapes)], bound=x.bound)
        if b.chance(0.5):
            y = arithmetic(b, "Add", y, b.weight(x.size(2)))
        shape = b.ints(0, 0, heads, d) if b.chance(0.4) else dynamic_shape(b, x, [0, 1, ("const", heads), ("const", d)])
        y = b.emit("Reshape", [y, shape], [(x.dtype, each(lambda s: (*s[:2], heads, d), x))])
        return transposed(b, y, [0, 2, 1, 3])

    q, k, v = (split_heads(b.weight(x.size(2), x.size(2), scale=0.3)) for _ in range(3))
    k = transposed(b, k, [0, 1, 3, 2])
    scores = b.emit("MatMul", [q, k], [(x.dtype, each(lambda s: (s[0], heads, s[1], s[1]), x))], bound=50)
    scores = arithmetic(b, b.choice(["Div", "Mul"]), scores, scalar(b, 2.0))
    weights = b.same("Softmax", scores, axis=-1 if b.opset >= 13 else 3, bound=1)
    y = b.emit("MatMul", [weights, v], [(x.dtype, v.shapes)], bound=10)
    y = transposed(b, y, [0, 2, 1, 3])
    b.emit("Reshape", [y, dynamic_shape(b, x, [0, 1, ("const", heads * d)])], [(x.dtype, x.shapes)])


@form(1)
def rotate_half(b):
    x = b.float(low=2, high=4, where=lambda v: v.size(-1) and v.size(-1) % 2 == 0)
    if b.opset < 10:
        raise Skip
    half = x.size(-1) // 2
    shapes = each(lambda s: (*s[:-1], half), x)
    first = b.emit("Slice", [x, b.ints(0), b.ints(half), b.ints(-1), b.ints(1)], [(x.dtype, shapes)])
    second = b.emit("Slice", [x, b.ints(half), b.ints(2**63 - 1), b.ints(-1), b.ints(1)], [(x.dtype, shapes)])
    y = b.emit("Concat", [b.same("Neg", second), first], [(x.dtype, x.shapes)], axis=-1 if b.opset >= 11 else x.rank - 1)
    arithmetic(b, "Add", arithmetic(b, "Mul", x, b.weight(2 * half), 60), arithmetic(b, "Mul", y, b.weight(2 * half), 60))


# ---- arithmetic on shapes ------------------------------------------------------------------------------------------


def shape_of(b, x):
    return b.emit("Shape", [x], [("int64", ((x.rank,),) * BINDINGS)], data=tuple(np.array(s, np.int64) for s in x.shapes))


def dim_of(b, x, i, vector):
    """Size `i` of `x` as a vector of one, or a scalar, in one of the ways that exporters have."""
    if b.opset >= 15 and b.chance(0.2) and vector:
        data = tuple(np.array([s[i]], np.int64) for s in x.shapes)
        return b.emit("Shape", [x], [("int64", ((1,),) * BINDINGS)], data=data, start=i, end=i + 1)
    s = shape_of(b, x)
    if vector and b.chance(0.3) and b.opset >= 10:
        return b.emit("Slice", [s, b.ints(i), b.ints(i + 1), b.ints(0)], [("int64", ((1,),) * BINDINGS)], data=known(b, lambda d: d[i : i + 1], s))
    d = b.emit("Gather", [s, b.const(np.asarray(i, np.int64))], [("int64", ((),) * BINDINGS)], data=known(b, lambda d: d[i], s), axis=0)
    if b.chance(0.3):
        d = b.emit("Cast", [d], [("int64", ((),) * BINDINGS)], to=elem("int64"), data=d.data)
    return unsqueezed(b, d, [0]) if vector else d


def dynamic_shape(b, x, parts):
    """A shape by Concat; each part is an axis of `x`, or ("const", number), or ("times", axes), or ("minus", axis)."""
    pieces = []
    for part in parts:
        if isinstance(part, int):
            pieces.append(dim_of(b, x, part, True))
        elif part[0] == "const":
            pieces.append(b.ints(part[1]))
        elif part[0] == "times":
            product = dim_of(b, x, part[1][0], False)
            for axis in part[1][1:]:
                other = dim_of(b, x, axis, False)
                product = b.emit("Mul", [product, other], [("int64", ((),) * BINDINGS)], data=known(b, np.multiply, product, other))
            pieces.append(unsqueezed(b, product, [0]))
    n = sum(p.shapes[0][0] for p in pieces)
    return b.emit("Concat", pieces, [("int64", ((n,),) * BINDINGS)], axis=0, data=known(b, lambda *d: np.concatenate(d), *pieces))


@form(4)
def shape_reshape(b):
    """Reshape to sizes that are computed from sizes."""
    x = b.float(low=2, high=4, where=lambda v: all(0 not in s for s in v.shapes))
    at = b.rng.randrange(x.rank - 1)
    parts, shapes = [], each(lambda s: (*s[:at], s[at] * s[at + 1], *s[at + 2 :]), x)
    for i in range(x.rank):
        if i == at:
            parts.append(b.choice([("times", (i, i + 1)), ("const", -1)]))
        elif i != at + 1:
            parts.append(("const", x.size(i)) if x.size(i) and b.chance(0.4) else i)
    y = b.emit("Reshape", [x, dynamic_shape(b, x, parts)], [(x.dtype, shapes)])
    if b.chance(0.5):
        y = b.same("Relu", y)
        b.emit("Reshape", [y, shape_of(b, x) if b.chance(0.5) else dynamic_shape(b, x, [*range(x.rank)])], [(x.dtype, x.shapes)])


@form(2)
def shape_expand(b):
    x = b.float(low=1, high=3, where=lambda v: all(0 not in s for s in v.shapes))
    row = b.weight(*[x.size(i) or 1 for i in range(x.rank)])
    y = b.emit("Expand", [row, shape_of(b, x)], [("float32", x.shapes)])
    if b.chance(0.6):
        arithmetic(b, "Add", x, y, x.bound + y.bound)


@form(1)
def shape_fill(b):
    x = b.float(low=1, high=3)
    s = shape_of(b, x) if b.chance(0.5) else dynamic_shape(b, x, [0, ("const", 2)])
    value = helper.make_tensor("value", elem("float32"), [1], [b.choice([0.0, 1.0, 2.5])])
    y = b.emit("ConstantOfShape", [s], [("float32", tuple(tuple(d) for d in s.data))], value=value)
    if y.shapes == x.shapes:
        arithmetic(b, b.choice(["Add", "Mul"]), x, y, x.bound * 3)


@form(2)
def shape_slice(b):
    """Slice to a size that is computed; pads and tiles likewise."""
    x = b.float(low=2, high=4, where=lambda v: all(min(s) > 1 for s in v.shapes))
    if b.opset < 11:
        raise Skip
    axis = b.rng.randrange(x.rank)
    d = dim_of(b, x, axis, True)
    op, c = b.choice([("Sub", 1), ("Div", 2)])
    f = np.subtract if op == "Sub" else np.floor_divide
    end = b.emit(op, [d, b.ints(c)], [("int64", ((1,),) * BINDINGS)], data=known(b, f, d, b.ints(c)))
    shapes = tuple(tuple(int(end.data[k][0]) if i == axis else n for i, n in enumerate(s)) for k, s in enumerate(x.shapes))
    y = b.emit("Slice", [x, b.ints(0), end, b.ints(axis)], [(x.dtype, shapes)])
    if b.chance(0.4):
        rest = tuple(tuple(s[i] - (t[i] if i == axis else 0) if i == axis else s[i] for i in range(x.rank)) for s, t in zip(x.shapes, shapes))
        z = b.emit("Slice", [x, end, b.ints(2**62), b.ints(axis)], [(x.dtype, rest)])
        b.emit("Concat", [y, z], [(x.dtype, x.shapes)], axis=axis)


@form(1, since=11)
def shape_range(b):
    x = b.float(low=1, high=3)
    d = dim_of(b, x, 0, False)
    zero, one = b.const(np.asarray(0, np.int64)), b.const(np.asarray(1, np.int64))
    n = tuple((int(v),) for v in d.data)
    r = b.emit("Range", [zero, d, one], [("int64", n)], data=tuple(np.arange(v[0]) for v in n))
    if b.chance(0.5):
        b.emit("Gather", [x, r], [(x.dtype, x.shapes)], axis=0)
    else:
        f = b.emit("Cast", [r], [("float32", n)], to=elem("float32"), bound=10)
        arithmetic(b, "Mul", f, scalar(b, 0.5))


@form(1)
def shape_condition(b):
    """If over the sizes of a value."""
    x = b.float(low=1, high=3)
    d = dim_of(b, x, 0, False)
    limit = b.const(np.asarray(b.choice([0, 2, 100]), np.int64))
    cond = b.emit(b.choice(["Greater", "Less"]), [d, limit], [("bool", ((),) * BINDINGS)])
    bodies = []
    for op in b.rng.sample(["Relu", "Neg", "Sigmoid"], 2):
        inner = type(b)(b.seed, b.opset, b)
        bodies.append(inner.subgraph(b.name("branch"), [inner.same(op, x)]))
    b.emit("If", [cond], [(x.dtype, x.shapes)], then_branch=bodies[0], else_branch=bodies[1])


# ---- others --------------------------------------------------------------------------------------------------------


@form(1)
def folded(b):
    """A computation on constants alone."""
    x = b.weight(*[b.rng.randint(1, 4) for _ in range(b.rng.randint(1, 3))])
    x.data = None
    for _ in range(b.rng.randint(1, 4)):
        kind = b.rng.random()
        if kind < 0.4:
            x = b.same(b.choice(["Relu", "Neg", "Abs", "Sigmoid", "Tanh", "Floor", "Erf"]), x)
        elif kind < 0.7:
            x = transposed(b, x)
        else:
            x = arithmetic(b, b.choice(["Add", "Mul", "Sub"]), x, b.constant_like(x), 60)
    y = b.float(low=1)
    try:
        arithmetic(b, "Add", y, x, y.bound + x.bound)
    except Skip:
        pass


@form(1, since=13)
def double_quantization(b):
    """Q and DQ over what only moves data, with equal scales on both sides."""
    x = b.float(low=2, high=4)
    q, scale, zero = quantized(b, x)
    y = b.emit("DequantizeLinear", [q, scale, zero], [("float32", q.shapes)], bound=14)
    y = transposed(b, y) if b.chance(0.6) else b.same("Relu", y)
    for _ in range(b.choice([1, 2])):
        q = b.emit("QuantizeLinear", [y, scale, zero], [(q.dtype, y.shapes)])
        y = b.emit("DequantizeLinear", [q, scale, zero], [("float32", q.shapes)], bound=14)


@form(1, since=11)
def sequences(b):
    x = b.float(low=1, high=3, where=lambda v: all(0 not in s for s in v.shapes))
    y = b.same("Relu", x)
    name = b.name("q")
    b.nodes.append(helper.make_node("SequenceConstruct", [x.name, y.name], [name]))
    x.uses, y.uses = x.uses + 1, y.uses + 1
    out = type(x)(b.name(), x.dtype, x.shapes, bound=x.bound)
    if b.chance(0.5):
        index = b.const(np.asarray(b.choice([0, 1, -1]), np.int64))
        b.nodes.append(helper.make_node("SequenceAt", [name, index.name], [out.name]))
    else:
        out.shapes = each(lambda s: (2 * s[0], *s[1:]), x)
        b.nodes.append(helper.make_node("ConcatFromSequence", [name], [out.name], axis=0))
    b.values.append(out)


@form(1, since=13)
def local_function(b):
    """A function of the model, called once or twice."""
    if b.parent:
        raise Skip
    x = b.float(low=1)
    name = b.name("F")
    ops = [b.choice(["Relu", "Sigmoid", "Neg", "Identity", "Tanh"]) for _ in range(b.rng.randint(1, 3))]
    nodes, last = [], "a"
    for i, op in enumerate(ops):
        nodes.append(helper.make_node(op, [last], [f"t{i}"]))
        last = f"t{i}"
    nodes.append(helper.make_node("Add", [last, "a"], ["out"]))
    b.root.functions.append(helper.make_function("local", name, ["a"], ["out"], nodes, [helper.make_opsetid("", b.opset)]))
    y = b.emit(name, [x], [(x.dtype, x.shapes)], domain="local", bound=x.bound * 2)
    if b.chance(0.4):
        b.emit(name, [y], [(x.dtype, x.shapes)], domain="local", bound=x.bound * 4)


@form(1)
def space_to_depth_by_slices(b):
    x = b.image(least=4)
    if b.opset < 10 or any(s[2] % 2 or s[3] % 2 for s in x.shapes):
        raise Skip
    parts = []
    shapes = each(lambda s: (*s[:2], s[2] // 2, s[3] // 2), x)
    for i, j in [(0, 0), (1, 0), (0, 1), (1, 1)]:
        rows = b.emit("Slice", [x, b.ints(i), b.ints(2**62), b.ints(2), b.ints(2)], [(x.dtype, each(lambda s: (*s[:2], s[2] // 2, s[3]), x))])
        parts.append(b.emit("Slice", [rows, b.ints(j), b.ints(2**62), b.ints(3), b.ints(2)], [(x.dtype, shapes)]))
    y = b.emit("Concat", parts, [(x.dtype, each(lambda s: (s[0], 4 * s[1], s[2] // 2, s[3] // 2), x))], axis=1)
    if b.chance(0.5):
        convolution(b, y)


@form(1)
def shuffle_channels(b):
    x = b.image(least=2)
    c = x.size(1)
    if c % 2:
        raise Skip
    h, w = x.size(2), x.size(3)
    if not h or not w:
        raise Skip
    y = b.emit("Reshape", [x, b.ints(0, 2, c // 2, h, w)], [(x.dtype, each(lambda s: (s[0], 2, c // 2, h, w), x))])
    y = transposed(b, y, [0, 2, 1, 3, 4])
    b.emit("Reshape", [y, b.ints(0, c, h, w) if b.chance(0.5) else b.ints(-1, c, h, w)], [(x.dtype, x.shapes)])


@form(1)
def argmax_of_monotone(b):
    x = b.float(low=1, where=lambda v: all(0 not in s for s in v.shapes))
    axis = b.rng.randrange(x.rank)
    y = b.same(b.choice(["Sigmoid", "Softmax", "Exp" if x.bound < 5 else "Tanh"]), x, bound=200)
    b.emit("ArgMax", [y], [("int64", each(lambda s: [1 if i == axis else d for i, d in enumerate(s)], x))], axis=axis)


@form(1)
def gemm_norm(b):
    x = b.float(2, where=lambda v: v.size(1) and all(0 not in s for s in v.shapes))
    n = b.rng.randint(2, 4)
    y = b.emit("Gemm", [x, b.weight(x.size(1), n, scale=0.5), b.weight(n)], [(x.dtype, each(lambda s: (s[0], n), x))], bound=x.bound * 2)
    batch_norm(b, y)
