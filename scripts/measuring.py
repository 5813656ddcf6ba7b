"""What the benchmark scripts share: measured commands, sizes, sessions, tables. Not a command itself."""

import json
import math
import os
import shutil
import signal
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnxruntime as ort
from onnx.external_data_helper import ExternalDataInfo, _get_all_tensors, uses_external_data

TIMED_OUT = 124


@dataclass
class Run:
    """One finished command."""

    status: int  # exit code; minus the signal's number; TIMED_OUT
    seconds: float
    cpu_seconds: float  # of the process and all it waited for, in user and kernel mode
    peak_mb: float  # largest resident set of any process of its tree that was waited for
    error: str  # the last line on stderr, or ""


# Linux counts the memory of the process that calls exec into the peak of what it starts, and ours is large. So a bare
# Python stands between: it times the command and writes status, seconds, processor seconds and peak (KiB) of that
# tree alone.
LAUNCHER = """
import os, sys, time
report = int(sys.argv[1])
os.set_inheritable(report, False)
started = time.monotonic()
child = os.posix_spawnp(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(child, 0)
seconds = time.monotonic() - started
line = f"{os.waitstatus_to_exitcode(status)} {seconds} {usage.ru_utime + usage.ru_stime} {usage.ru_maxrss}"
os.write(report, line.encode())
"""


def run_measured(command, timeout, env=None):
    """Run `command` in a fresh process group, with nothing on stdin. It has to be found, or OSError is raised."""
    if not shutil.which(command[0]):
        raise FileNotFoundError(command[0])
    ours, theirs = os.pipe()
    child = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", LAUNCHER, str(theirs), *command],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
        pass_fds=[theirs],
        env=os.environ | (env or {}),
    )
    os.close(theirs)
    try:
        _, error = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)
        _, error = child.communicate()
    with os.fdopen(ours) as pipe:
        report = pipe.read().split()
    lines = error.decode(errors="replace").strip().splitlines()
    status, seconds, cpu, peak = map(float, report) if report else (TIMED_OUT, timeout, timeout, 0)
    return Run(int(status), seconds, cpu, peak / 1024, lines[-1][:200] if lines else "")


def session(path, optimize=False, threads=1):
    """An ONNX Runtime session. Without `optimize`, the model runs as written."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    levels = ort.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_ENABLE_ALL if optimize else levels.ORT_DISABLE_ALL
    return ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def file_bytes(path):
    """Bytes of the model's file and of its external data files."""
    path = Path(path)
    model = onnx.load(path, load_external_data=False)
    names = {ExternalDataInfo(t).location for t in _get_all_tensors(model) if uses_external_data(t)}
    return path.stat().st_size + sum((path.parent / name).stat().st_size for name in names)


def geometric_mean(numbers):
    logs = [math.log(n) for n in numbers if n and n > 0]
    return math.exp(statistics.fmean(logs)) if logs else None


def cell(value):
    """A number with three significant digits where that says enough, or the text."""
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def table(columns, rows):
    """Rows of cells as aligned text; the first column is left-aligned."""
    text = [[cell(value) for value in row] for row in [columns, *rows]]
    widths = [max(map(len, column)) for column in zip(*text)]
    lines = ["  ".join([r[0].ljust(widths[0]), *(c.rjust(w) for c, w in zip(r[1:], widths[1:]))]) for r in text]
    return "\n".join(line.rstrip() for line in lines)


def write_rows(prefix, rows):
    """PREFIX.json and PREFIX.tsv of a list of dicts; what a row lacks stays empty."""
    Path(f"{prefix}.json").write_text(json.dumps(rows, indent=1) + "\n")
    columns = list(dict.fromkeys(key for row in rows for key in row))
    cells = [["" if row.get(key) is None else str(row[key]) for key in columns] for row in rows]
    lines = ["\t".join(row) for row in [columns, *cells]]
    Path(f"{prefix}.tsv").write_text("\n".join(lines) + "\n")


def machine():
    """What the figures were measured on."""
    model = "unknown processor"
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            model = line.split(":", 1)[1].strip()
    load = os.getloadavg()[0]
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return f"{model}, {len(os.sched_getaffinity(0))} cores, {memory:.0f} GiB; load before the run {load:.1f}"
