#!/bin/sh
# Make the judge: a Python with ONNX's checker and ONNX Runtime, which the conformance checks run under.
#
#     python=$(scripts/judge.sh) && "$python" scripts/conformance.py --lapidary target/release/lapidary
#
# The virtual environment lies in ${LAPIDARY_CACHE:-~/.cache/lapidary}/judge and is made once: later calls return at
# once. Prints the path of its python on stdout and everything else on stderr. Needs Python 3.11 or newer with venv
# ($PYTHON, or python3) and PyPI the first time.
set -eu

packages="onnx==1.22.0 onnxruntime==1.32.0 numpy==2.4.6"

cache=${LAPIDARY_CACHE:-$HOME/.cache/lapidary}
venv=$cache/judge
done_file=$venv/.installed
python=$venv/bin/python

complete() {
    [ -x "$python" ] && [ "$(cat "$done_file" 2>/dev/null)" = "$packages" ]
}

install() {
    echo "judge.sh: installing $packages into $venv" >&2
    rm -f "$done_file"
    "${PYTHON:-python3}" -m venv --clear "$venv" >&2
    # shellcheck disable=SC2086 # one word per package
    "$python" -m pip install --quiet --disable-pip-version-check $packages >&2
    "$python" -c "import onnx, onnxruntime, numpy" >&2
    echo "$packages" >"$done_file"
}

if ! complete; then
    mkdir -p "$cache"
    # two callers at once: the second waits, then finds the work done
    exec 9>"$cache/judge.lock"
    if command -v flock >/dev/null; then flock 9; fi
    complete || install
fi
echo "$python"
