#!/bin/sh
# Make a Python with the simplifiers and quantizers that lapidary is measured against, for the bench scripts.
#
#     python=$(scripts/peers.sh) && "$python" scripts/bench_simplify.py --peers-python "$python" ...
#
# The virtual environment lies in ${LAPIDARY_CACHE:-~/.cache/lapidary}/peers and is made once: later calls return at
# once. Prints the path of its python on stdout and everything else on stderr. Needs Python 3.11 or newer with venv
# ($PYTHON, or python3) and PyPI the first time.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
judge=$(sed -n 's/^packages="\(.*\)"$/\1/p' "$here/judge.sh")
packages="$judge onnxsim==0.8.1 onnxslim==0.1.98 onnxoptimizer==0.4.2"

cache=${LAPIDARY_CACHE:-$HOME/.cache/lapidary}
venv=$cache/peers
done_file=$venv/.installed
python=$venv/bin/python

complete() {
    [ -x "$python" ] && [ "$(cat "$done_file" 2>/dev/null)" = "$packages" ]
}

install() {
    echo "peers.sh: installing $packages into $venv" >&2
    rm -f "$done_file"
    "${PYTHON:-python3}" -m venv --clear "$venv" >&2
    # shellcheck disable=SC2086 # one word per package
    "$python" -m pip install --quiet --disable-pip-version-check $packages >&2
    "$python" -c "import onnx, onnxruntime, numpy, onnxsim, onnxslim, onnxoptimizer" >&2
    echo "$packages" >"$done_file"
}

if ! complete; then
    mkdir -p "$cache"
    # two callers at once: the second waits, then finds the work done
    exec 9>"$cache/peers.lock"
    if command -v flock >/dev/null; then flock 9; fi
    complete || install
fi
echo "$python"
