#!/usr/bin/env python3
"""lapidary simplify beside other ONNX simplifiers, or the latency of what it makes.

    python=$(scripts/peers.sh)
    "$python" scripts/bench_simplify.py --lapidary target/release/lapidary --peers-python "$python" MODEL...
    "$python" scripts/bench_simplify.py --lapidary target/release/lapidary --latency MODEL...

Tools: lapidary with and without verification; onnxsim (as it is, and as `onnxsim portable` without the fusions that
emit com.microsoft operators), onnxslim and onnxoptimizer as installed beside --peers-python (one that is missing is
skipped with a note; --tools REGEX picks). Each run is a fresh process, so start-up counts. The tools take turns, model
by model and round by round, so that a change of the machine's load meets all of them.

For each model and tool: median wall and processor seconds, largest resident set, nodes (Constant not counted, subgraphs included),
bytes, operator-set domains that the input model does not import, whether the checker passes, whether the outputs agree
with the input model's in ONNX Runtime (its optimizations off, seeded inputs). The tables hold ratios to
`lapidary --no-verify`, as no peer verifies by default: above 1, the tool took more.

A peer's graph with fewer nodes than ours counts as the better one unless it is wrong (its outputs differ, or the
checker rejects it), needs operators of another domain, is a larger file (by more than 1 % and 64 KiB) or slower in
ONNX Runtime (all optimizations, pair by pair against our result, by more than 3 %). The node table says which.

With --out PREFIX the rows are written after each model; --resume reads them and goes on with the models that lack.
With --times nothing is judged: for timing again what was judged before.

--latency runs original and result in ONNX Runtime with all its optimizations on and one thread, pair by pair, and
reports the median of the pairs' ratios: below 1, the result is faster. What counts is the processor time of a run, which
for one thread is its latency on an idle machine.
"""
import argparse
import json
import os
import re
import statistics
import sys
import tempfile
import time
from pathlib import Path

import onnx

from conformance import Case, checker_error, count_nodes, difference, first_line, make_inputs
from measuring import file_bytes, geometric_mean, machine, run_measured, session, table, write_rows

OURS = "lapidary --no-verify"
VERIFYING = "lapidary"
CONTRIB_FUSIONS = ("fuse_attention", "fuse_gqa")  # those of onnxsim's default passes that emit com.microsoft
OPTIMIZER = """
import sys, onnx, onnxoptimizer
model = onnxoptimizer.optimize(onnx.load(sys.argv[1]), fixed_point=True)
onnx.save(model, sys.argv[2])
"""


def say(message):
    print(message, file=sys.stderr, flush=True)


# ---- tools ---------------------------------------------------------------------------------------------------------


def lapidary_tools(binary):
    def simplify(*flags):
        return lambda model, out: [binary, "simplify", model, "-o", out, "--quiet", *flags]

    return {OURS: simplify("--no-verify"), VERIFYING: simplify()}


def peer_tools(python):
    """The peers that are installed beside `python`: name -> command of model and result."""
    tools = {}
    if not python:
        say("note: no --peers-python, so no peers")
        return tools
    for name in ("onnxsim", "onnxslim"):
        script = str(Path(python).parent / name)
        if os.access(script, os.X_OK):
            tools[name] = lambda model, out, script=script: [script, model, out]
        else:
            say(f"note: {name} skipped: {script} does not exist")
    if "onnxsim" in tools:
        onnxsim = str(Path(python).parent / "onnxsim")
        skip = ["--skip-optimization", *CONTRIB_FUSIONS]
        tools["onnxsim portable"] = lambda model, out: [onnxsim, model, out, *skip]
    if run_measured([python, "-c", "import onnxoptimizer"], 120).status == 0:
        tools["onnxoptimizer"] = lambda model, out: [python, "-c", OPTIMIZER, model, out]
    else:
        say(f"note: onnxoptimizer skipped: {python} cannot import it")
    return tools


# ---- one model -----------------------------------------------------------------------------------------------------


def agreement(model, out):
    """"ok", or how the outputs of the two models differ, or why that cannot be told."""
    case = Case(Path(model).stem, "zoo", str(model))
    try:
        inputs = make_inputs(case, onnx.load(model, load_external_data=False))
        expected = session(model).run(None, inputs)
    except Exception as error:
        return f"not judged: {first_line(error)[:90]}"
    try:
        got = session(out).run(None, inputs)
    except Exception as error:
        return f"DIFFERS: {first_line(error)[:90]}"
    found = difference("zoo", expected, got)
    return f"DIFFERS: {found}" if found else "ok"


def domains(model):
    return {opset.domain or "ai.onnx" for opset in model.opset_import}


def judge(model, before, out, run):
    """The columns that come from reading a result and, where it is to be run, from the checker and from running it."""
    result = onnx.load(out, load_external_data=False)
    used = {node.domain or "ai.onnx" for node in result.graph.node}
    read = {
        "nodes_out": count_nodes(result.graph),
        "bytes_out": file_bytes(out),
        "domains": " ".join(sorted(used - domains(before))),
        "checker": "ok",
        "agreement": "not judged",
    }
    if not run:
        return read
    error = checker_error(out)
    return read | {
        "checker": f"INVALID {error[:80]}" if error and not checker_error(model) else "ok",
        "agreement": agreement(model, out),
    }


def measure(model, tools, rounds, slow, timeout, judged):
    """One row for each tool. One that failed, or took more than `slow` seconds, is not run again."""
    before = onnx.load(model, load_external_data=False)
    runs = {name: [] for name in tools}
    rows = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        outs = {name: str(Path(folder) / f"{i}" / "out.onnx") for i, name in enumerate(tools)}
        for k in range(rounds):
            turn = k % len(tools)
            for name in [*tools][turn:] + [*tools][:turn]:
                past = runs[name]
                if past and (past[-1].status or past[-1].seconds > slow):
                    continue
                target = Path(outs[name])
                target.parent.mkdir(exist_ok=True)
                for old in target.parent.iterdir():
                    old.unlink()
                past.append(run_measured(tools[name](model, outs[name]), timeout))
        for name, past in runs.items():
            row = {
                "model": Path(model).stem,
                "tool": name,
                "status": past[-1].status,
                "runs": len(past),
                "seconds": round(statistics.median(r.seconds for r in past), 4),
                "cpu_seconds": round(statistics.median(r.cpu_seconds for r in past), 4),
                "peak_mb": round(max(r.peak_mb for r in past), 1),
                "nodes_in": count_nodes(before.graph),
                "bytes_in": file_bytes(model),
                "nodes_out": None,
                "bytes_out": None,
                "domains": None,
                "checker": None,
                "agreement": f"NO OUTPUT: {past[-1].error}",
                "latency": None,
            }
            if past[-1].status == 0 and Path(outs[name]).exists():
                row |= judge(model, before, outs[name], judged)
            rows.append(row)
        ours = next((row for row in rows if row["tool"] == OURS and good(row)), None)
        for row in rows:
            fewer = judged and ours and acceptable(row, ours) and row["nodes_out"] < ours["nodes_out"]
            if fewer and is_peer(row["tool"]):
                pair = latency_of(model, (outs[OURS], outs[row["tool"]]), 3)
                row["latency"] = pair.get("ratio")
            say("  ".join(f"{k}={v}" for k, v in row.items()))
    return rows


# ---- tables --------------------------------------------------------------------------------------------------------


def good(row):
    return row["nodes_out"] is not None and row["checker"] == "ok" and not row["agreement"].startswith("DIFFERS")


def is_peer(tool):
    return tool not in (OURS, VERIFYING)


def fault(row, ours):
    """Why a peer's result cannot stand in for the input model's, or is worse than ours; "" if nothing speaks against."""
    if row["nodes_out"] is None:
        return "no output"
    if not good(row):
        return "wrong"
    if row["domains"]:
        return f"needs {row['domains']}"
    if row["bytes_out"] > 1.01 * ours["bytes_out"] + (64 << 10):
        return "larger file"
    if row["latency"] and float(row["latency"]) > 1.03:
        return f"{float(row['latency']):.2f}x slower"
    return ""


def acceptable(row, ours):
    return not fault(row, ours)


def by_model(rows):
    groups = {}
    for row in rows:
        groups.setdefault(row["model"], {})[row["tool"]] = row
    return groups


def ratio_table(rows, what, names):
    """Ours in absolute figures, the others as ratios to ours, and the geometric mean over models where both exist."""
    body, ratios = [], {name: [] for name in names}
    for model, of in by_model(rows).items():
        ours = of[OURS][what] if good(of[OURS]) else None
        cells = [model, ours]
        for name in names[1:]:
            theirs = of[name][what] if good(of[name]) else None
            ratio = theirs / ours if theirs and ours else None
            ratios[name].append(ratio)
            cells.append(ratio)
        body.append(cells)
    body.append(["geometric mean", None, *(geometric_mean(ratios[name]) for name in names[1:])])
    return table([what, names[0], *(f"{name} ÷" for name in names[1:])], body)


def node_table(rows, names):
    peers = [name for name in names if is_peer(name)]
    body, more, shares, reasons = [], 0, [], []
    for model, of in by_model(rows).items():
        ours = of[OURS]
        count = ours["nodes_out"] if good(ours) else None
        faults = {name: fault(of[name], ours) if count else "-" for name in peers}
        best = min((of[name]["nodes_out"] for name in peers if not faults[name]), default=None)
        verdict = "-" if None in (count, best) else "fewer" if count < best else "equal" if count == best else "MORE"
        more += verdict == "MORE"
        shares.append(count / best if count and best else None)
        body.append([model, ours["nodes_in"], count, *(of[name]["nodes_out"] for name in peers), best, verdict])
        for name in peers:
            theirs = of[name]["nodes_out"]
            if count and theirs is not None and theirs < count and faults[name]:
                reasons.append(f"{model}: {name} has {theirs} nodes, but: {faults[name]}")
    text = table(["nodes", "before", "lapidary", *peers, "best peer", "ours are"], body)
    if mean := geometric_mean(shares):
        text += f"\nours ÷ best acceptable peer, geometric mean: {mean:.3f}; more nodes: {more} of {len(body)}"
    return "\n".join([text, *reasons])


def fastest_peer(rows, what):
    """How the peer that needs least, of onnxsim and OnnxSlim, compares to ours on each model."""
    lines = []
    for base in (OURS, VERIFYING):
        ratios = []
        for of in by_model(rows).values():
            theirs = [of[name][what] for name in ("onnxsim", "onnxslim") if name in of and good(of[name])]
            if theirs and base in of and good(of[base]):
                ratios.append(min(theirs) / of[base][what])
        if ratios:
            mean, worst = geometric_mean(ratios), min(ratios)
            lines.append(f"{what}: the better of onnxsim and onnxslim ÷ {base}: geometric mean {mean:.3g}, least {worst:.3g}")
    return "\n".join(lines)


def print_report(rows, names):
    for what in ("seconds", "cpu_seconds", "peak_mb"):
        print(fastest_peer(rows, what))
        print(ratio_table(rows, what, names), end="\n\n")
    print(node_table(rows, names), end="\n\n")
    print(ratio_table(rows, "bytes_out", names))
    for row in rows:
        if not good(row) or row["agreement"] not in ("ok", "not judged"):
            print(f"{row['model']}: {row['tool']}: checker {row['checker']}, {row['agreement']}")


# ---- latency -------------------------------------------------------------------------------------------------------


def timed(runner, inputs):
    started = time.process_time()
    runner.run(None, inputs)
    return time.process_time() - started


def latency(binary, model, seconds, timeout):
    """One row: the result beside the original."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        out = str(Path(folder) / "out.onnx")
        run = run_measured([binary, "simplify", model, "-o", out, "--quiet", "--no-verify"], timeout)
        if run.status:
            return {"model": Path(model).stem, "note": run.error}
        return {"model": Path(model).stem} | latency_of(model, (model, out), seconds)


def latency_of(model, paths, seconds):
    """Medians of two files in milliseconds, and the median of the pairs' ratios with its quartiles. `model` says what
    the inputs are."""
    case = Case(Path(model).stem, "zoo", str(model))
    try:
        inputs = make_inputs(case, onnx.load(model, load_external_data=False))
        pair = [session(path, optimize=True) for path in paths]
        for runner in pair * 2:
            runner.run(None, inputs)
    except Exception as error:
        return {"note": first_line(error)[:100]}
    first, second, ratios, end = [], [], [], time.monotonic() + seconds
    while len(ratios) < 10 or time.monotonic() < end:
        flip = len(ratios) % 2  # who goes first
        times = [0.0, 0.0]
        for which in (flip, 1 - flip):
            times[which] = timed(pair[which], inputs)
        first.append(times[0])
        second.append(times[1])
        ratios.append(times[1] / times[0])
    low, _, high = statistics.quantiles(ratios, n=4)
    return {
        "pairs": len(ratios),
        "original_ms": 1e3 * statistics.median(first),
        "result_ms": 1e3 * statistics.median(second),
        "ratio": statistics.median(ratios),
        "quartiles": f"{low:.3f}-{high:.3f}",
        "note": "",
    }


def latency_report(rows):
    columns = ["model", "pairs", "original_ms", "result_ms", "ratio", "quartiles", "note"]
    body = [[row.get(column) for column in columns] for row in rows]
    mean = geometric_mean(row.get("ratio") for row in rows)
    print(table(columns, [*body, ["geometric mean", None, None, None, mean, None, None]]))


# ---- command -------------------------------------------------------------------------------------------------------


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--lapidary", required=True, metavar="PATH", help="the binary to try")
    parser.add_argument("--peers-python", metavar="PATH", help="a python beside which the peers are installed")
    parser.add_argument("--tools", default="", metavar="REGEX", help="only those whose name matches")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slow", type=float, default=60, metavar="SECONDS", help="run once what takes more than this")
    parser.add_argument("--times", action="store_true", help="measure only: results are neither checked nor run")
    parser.add_argument("--timeout", type=float, default=600, metavar="SECONDS")
    parser.add_argument("--latency", action="store_true", help="measure latency of original and result instead")
    parser.add_argument("--seconds", type=float, default=5, help="with --latency: how long each model is run")
    parser.add_argument("--out", metavar="PREFIX", help="write PREFIX.tsv and PREFIX.json")
    parser.add_argument("--resume", action="store_true", help="keep the rows that PREFIX.json has")
    parser.add_argument("models", nargs="+")
    args = parser.parse_args()
    args.lapidary = str(Path(args.lapidary).resolve())
    if not os.access(args.lapidary, os.X_OK):
        parser.error(f"{args.lapidary} is not an executable file")
    return args


def main():
    args = parse_args()
    print(machine(), flush=True)
    rows = []
    if args.resume and Path(f"{args.out}.json").exists():
        rows = json.loads(Path(f"{args.out}.json").read_text())
    done = {row["model"] for row in rows}
    models = [model for model in args.models if Path(model).stem not in done]
    tools = lapidary_tools(args.lapidary) | peer_tools(args.peers_python) if not args.latency else {}
    tools = {name: command for name, command in tools.items() if re.search(args.tools, name)}
    for model in models:
        if args.latency:
            rows.append(latency(args.lapidary, model, args.seconds, args.timeout))
            say(rows[-1])
        else:
            rows += measure(model, tools, args.rounds, args.slow, args.timeout, not args.times)
        if args.out:
            write_rows(args.out, rows)
    if args.latency:
        latency_report(rows)
    else:
        print_report(rows, list(tools))
    ours = [row for row in rows if not is_peer(row.get("tool", ""))]
    return 0 if all(map(good, ours)) else 1


if __name__ == "__main__":
    sys.exit(main())
