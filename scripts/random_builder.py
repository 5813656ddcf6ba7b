"""A builder of random valid ONNX graphs: what it knows of each value, and how operands are drawn.

Not a command itself. Every graph has `BINDINGS` settings of its symbolic dimensions; a value's shapes, and where they
are known its elements, are tracked under each of them, so that operands fit whatever size a caller feeds.
"""
import random
from dataclasses import dataclass

import numpy as np
from onnx import helper, numpy_helper

BINDINGS = 2  # how many settings of the symbols every graph is run with
SYMBOLS = {"batch": (2, 1), "seq": (3, 5), "width": (4, 6), "many": (5, 2)}
MAX_ELEMENTS = 6000
FLOATS = ("float32", "float64", "float16")
INTS = ("int64", "int32", "int8", "uint8")


class Skip(Exception):
    """No operand fits: the form is not possible here."""


@dataclass(eq=False)
class Value:
    """A tensor of the graph. `data` holds its elements under each binding where they are known."""

    name: str
    dtype: str
    shapes: tuple
    data: tuple | None = None
    bound: float = 4.0  # elements lie about within -bound..bound
    uses: int = 0

    @property
    def rank(self):
        return len(self.shapes[0])

    @property
    def const(self):
        """The elements, when they are the same under all bindings."""
        if self.data and all(np.array_equal(self.data[0], d) for d in self.data):
            return self.data[0]
        return None

    def size(self, i):
        """The size of a dimension, when all bindings agree."""
        sizes = {s[i] for s in self.shapes}
        return sizes.pop() if len(sizes) == 1 else None


def elem(dtype):
    return helper.np_dtype_to_tensor_dtype(np.dtype(dtype))


def each(f, *values):
    """`f` of the shapes, binding by binding."""
    return tuple(f(*(v.shapes[i] for v in values)) for i in range(BINDINGS))


def broadcast(*values):
    try:
        return each(lambda *s: tuple(np.broadcast_shapes(*s)), *values)
    except ValueError as e:
        raise Skip from e


class Builder:
    """Nodes of one graph. A subgraph has a builder of its own, whose parent's values it may capture."""

    def __init__(self, seed, opset, parent=None):
        self.seed, self.opset, self.parent = seed, opset, parent
        self.root = parent.root if parent else self
        self.rng = self.root.rng if parent else random.Random(seed)
        self.np = self.root.np if parent else np.random.default_rng(seed)
        self.nodes, self.initializers, self.inputs, self.values = [], [], [], []
        self.feeds = [{} for _ in range(BINDINGS)] if not parent else None
        self.functions, self.forms, self.count = [], [], 0

    # ---- naming and emitting

    def name(self, stem="v"):
        self.root.count += 1
        return f"{stem}{self.root.count}"

    def chance(self, p):
        return self.rng.random() < p

    def choice(self, items):
        items = list(items)
        if not items:
            raise Skip
        return self.rng.choice(items)

    def emit(self, op_type, inputs, outputs, *, domain="", data=None, bound=None, **attrs):
        """Adds a node; `outputs` lists (dtype, shapes). Returns its value, or values when there are several."""
        for _, shapes in outputs:
            if any(np.prod(s, dtype=float) > MAX_ELEMENTS for s in shapes):
                raise Skip
        floats = [v.bound for v in inputs if v is not None and v.dtype in FLOATS]
        bound = bound if bound is not None else max(floats, default=4.0)
        made = []
        for dtype, shapes in outputs:
            made.append(Value(self.name(), dtype, tuple(tuple(map(int, s)) for s in shapes), bound=bound))
        if data is not None:
            made[0].data = tuple(np.asarray(d) for d in data)
        attrs = {k: v for k, v in attrs.items() if v is not None}
        node = helper.make_node(
            op_type, [v.name if v is not None else "" for v in inputs], [v.name for v in made], **attrs, domain=domain
        )
        while node.input and not node.input[-1]:
            node.input.pop()
        if self.chance(0.8):
            node.name = f"{op_type}_{made[0].name}"
        self.nodes.append(node)
        for v in inputs:
            if v is not None:
                v.uses += 1
        self.values += made
        return made[0] if len(made) == 1 else made

    def same(self, op_type, x, *more, bound=None, **attrs):
        """A node whose result has the type and shape of `x`."""
        return self.emit(op_type, [x, *more], [(x.dtype, x.shapes)], bound=bound, **attrs)

    def const(self, array, dtype=None):
        """A constant: an initializer, or a node."""
        array = np.asarray(array) if dtype is None else np.asarray(array, dtype)
        v = Value(self.name("c"), array.dtype.name, (array.shape,) * BINDINGS, (array,) * BINDINGS)
        if array.dtype.kind == "f":
            v.bound = float(np.abs(array).max()) if array.size else 1.0
        tensor = numpy_helper.from_array(array, v.name)
        if self.chance(0.3):
            self.nodes.append(helper.make_node("Constant", [], [v.name], value=tensor))
        else:
            self.initializers.append(tensor)
        return v

    def ints(self, *values):
        return self.const(np.array(values, np.int64))

    def weight(self, *shape, dtype="float32", scale=1.0):
        return self.const((self.np.standard_normal(shape) * scale).astype(dtype))

    def input(self, dtype, dims, low=None, high=None):
        """A graph input. `dims` holds sizes and names of SYMBOLS; integers are fed from low..high."""
        root = self.root
        shapes = tuple(tuple(SYMBOLS[d][i] if isinstance(d, str) else d for d in dims) for i in range(BINDINGS))
        v = Value(root.name("x"), dtype, shapes)
        declared = [None if isinstance(d, str) and root.chance(0.1) else d for d in dims]
        root.inputs.append(helper.make_tensor_value_info(v.name, elem(dtype), declared))
        for i in range(BINDINGS):
            root.feeds[i][v.name] = root.random_array(dtype, shapes[i], low, high)
        root.values.append(v)
        return v

    def random_array(self, dtype, shape, low=None, high=None):
        if dtype == "bool":
            return np.asarray(self.np.random(shape) < 0.5)
        if dtype in INTS:
            low = (0 if dtype == "uint8" else -3) if low is None else low
            return np.asarray(self.np.integers(low, 4 if high is None else high, shape)).astype(dtype)
        return np.asarray(np.clip(self.np.standard_normal(shape), -4, 4)).astype(dtype)

    # ---- drawing operands

    def visible(self):
        return self.values + (self.parent.visible() if self.parent else [])

    def pick(self, fits, make=None):
        """A value for which `fits` holds, recent and unread ones first; else one from `make`."""
        found = [v for v in self.visible() if fits(v)]
        if not found or (make and self.chance(0.12)):
            if make is None:
                raise Skip
            return make()
        found.sort(key=lambda v: (v.uses > 0, -int(v.name[1:])))
        return found[min(int(self.rng.expovariate(0.35)), len(found) - 1)]

    def dims(self, rank):
        return [self.rng.choice(list(SYMBOLS)) if self.chance(0.3) else self.rng.randint(1, 6) for _ in range(rank)]

    def float(self, rank=None, low=0, high=5, dtypes=("float32",), where=lambda v: True, bound=60.0):
        """A float tensor of a rank, or of one in low..high."""
        if rank is not None:
            low = high = rank

        def fits(v):
            return v.dtype in dtypes and low <= v.rank <= high and v.bound <= bound and v.data is None and where(v)

        def make():
            if self.parent:
                raise Skip
            for _ in range(20):
                v = self.input(dtypes[0], self.dims(self.rng.randint(max(low, 1) if high else 0, min(high, 4))))
                if fits(v):
                    return v
            raise Skip

        return self.pick(fits, make)

    def image(self, spatial=2, least=1):
        """A float tensor [N, C, …] whose channels are known."""
        def fits(v):
            return v.size(1) is not None and all(min(s[2:]) >= least and min(s) > 0 for s in v.shapes)

        found = [v for v in self.visible() if v.dtype == "float32" and v.rank == spatial + 2 and v.bound <= 60 and v.data is None and fits(v)]
        if found and self.chance(0.85):
            return self.choice(found[-4:])
        if self.parent:
            raise Skip
        batch = self.choice(["batch", 1, 2])
        sizes = [self.choice([6, 7, 8, 9, "width"]) if least <= 4 else self.choice([8, 9]) for _ in range(spatial)]
        return self.input("float32", [batch, self.choice([1, 2, 3, 4, 6, 8]), *sizes])

    def partner(self, x, dtype=None):
        """A second operand that broadcasts with `x`."""
        dtype = dtype or x.dtype

        def fits(v):
            if v.dtype != dtype or v.bound > 60 or (v.data is not None and not self.chance(0.2)):
                return False
            try:
                return all(np.prod(s, dtype=float) <= MAX_ELEMENTS for s in broadcast(x, v))
            except Skip:
                return False

        if self.chance(0.5):
            return self.constant_like(x, dtype)
        return self.pick(fits, lambda: self.constant_like(x, dtype))

    def constant_like(self, x, dtype=None, plain=False):
        """A constant that broadcasts to `x` (or, unless `plain`, perhaps beyond its rank)."""
        dtype = dtype or x.dtype
        sizes = [x.size(i) for i in range(x.rank)]
        kind = self.rng.random()
        if kind < 0.3:
            shape = self.choice([(), (1,)]) if x.rank else ()
        else:
            shape = [d if d is not None and self.chance(0.6) else 1 for d in sizes]
            if kind < 0.6:
                shape = shape[self.rng.randint(0, len(shape)) :]
            if not plain and kind > 0.95 and len(shape) < 5:
                shape = [1, *shape]
        value = self.random_array(dtype, tuple(shape))
        kind = self.rng.random()
        if kind < 0.3 and dtype != "bool":
            value = np.full(shape, self.choice([0, 1, 2] if dtype == "uint8" else [0, 1, -1, 2, 6]), dtype)
        elif kind < 0.45:
            value = np.full(shape, value.flat[0] if value.size else 0, dtype)
        return self.const(value)

    def axis(self, x, sign=True):
        if x.rank == 0:
            raise Skip
        axis = self.rng.randrange(x.rank)
        return axis - x.rank if sign and self.chance(0.4) else axis

    def some_axes(self, x):
        if x.rank == 0:
            raise Skip
        axes = sorted(self.rng.sample(range(x.rank), self.rng.randint(1, x.rank)))
        return [a - x.rank for a in axes] if self.chance(0.3) and self.opset >= 11 else axes

    # ---- finishing

    def subgraph(self, name, outputs, inputs=()):
        infos = [helper.make_tensor_value_info(v.name, elem(v.dtype), None) for v in outputs]
        return helper.make_graph(self.nodes, name, list(inputs), infos, self.initializers)

    def model(self):
        """The model. Outputs are all values that nobody reads, and some that somebody does."""
        leaves = [v for v in self.values if v.uses == 0 and v.name not in self.feeds[0]]
        inner = [v for v in self.values if v.uses and v.name not in self.feeds[0] and self.chance(0.06)]
        outputs = leaves + inner
        self.rng.shuffle(outputs)
        if not outputs:
            raise Skip
        if self.chance(0.1):
            outputs += [v for v in self.values if v.name in self.feeds[0]][:1]
        infos = []
        for v in outputs:
            declared = [a if a == b and self.chance(0.7) else None for a, b in zip(*v.shapes)]
            infos.append(helper.make_tensor_value_info(v.name, elem(v.dtype), declared if self.chance(0.7) else None))
        graph = helper.make_graph(self.nodes, f"random_{self.seed}", self.inputs, infos, self.initializers)
        graph.doc_string = f"seed {self.seed}"
        opsets = [helper.make_opsetid("", self.opset)]
        if self.functions:
            opsets.append(helper.make_opsetid("local", 1))
        ir = 4 if self.opset < 11 and not self.functions else 8 if self.opset < 19 else 10
        model = helper.make_model(graph, opset_imports=opsets, functions=self.functions, ir_version=ir)
        model.metadata_props.add(key="seed", value=str(self.seed))
        return model

