#!/bin/bash
# Load + save of a large model beside `cp` of the same file, in one run.
# Usage: bench_io.sh LAPIDARY MODEL [ROUNDS]
# Prints seconds of both, their ratio, and the peak of anonymous memory (what is not the mapped file).
set -euo pipefail
lapidary=$1 model=$2 rounds=${3:-3}
folder=$(mktemp -d -p "$(dirname "$(realpath "$model")")" .bench_io.XXXXXX)
trap 'rm -rf "$folder"' EXIT
cat "$model" > /dev/null

seconds() { # command...
    local start end
    start=$(date +%s.%N)
    "$@"
    end=$(date +%s.%N)
    echo "$end - $start" | bc -l
}

peak=0
convert() {
    "$lapidary" print "$model" -o "$folder/out.onnx" &
    local pid=$! now
    while kill -0 "$pid" 2> /dev/null; do
        now=$(awk '/^RssAnon/ {print $2}' "/proc/$pid/status" 2> /dev/null || true)
        [ "${now:-0}" -gt "$peak" ] && peak=$now
        sleep 0.01
    done
    wait "$pid"
    echo "$peak" > "$folder/peak"
}

best() { sort -n | head -1; }
copies=() converts=()
for _ in $(seq "$rounds"); do
    rm -f "$folder"/*.onnx*
    copies+=("$(seconds cp --reflink=never "$model" "$folder/copy.onnx")")
    rm -f "$folder"/*.onnx*
    converts+=("$(seconds "$lapidary" print "$model" -o "$folder/out.onnx")")
done
rm -f "$folder"/*.onnx*
convert
copy=$(printf '%s\n' "${copies[@]}" | best)
load_save=$(printf '%s\n' "${converts[@]}" | best)
size=$(stat -c %s "$model")
printf 'model %d MB\n' $((size >> 20))
printf 'cp %.2f s, load + save %.2f s, ratio %.2f (best of %d)\n' \
    "$copy" "$load_save" "$(echo "$load_save / $copy" | bc -l)" "$rounds"
printf 'peak anonymous memory %d MB, %.3f of the file\n' $(($(cat "$folder/peak") >> 10)) \
    "$(echo "$(cat "$folder/peak") * 1024 / $size" | bc -l)"
