#!/bin/sh
# run.sh: measures the layers and the whole steps on this machine, into dev/bench/results/MACHINE.json: an array of objects, one
# a measurement. Takes about three minutes; nothing else should run.
set -eu
cd "$(dirname "$0")/../.."
name=$(sed -n 's/^model name[^:]*: *//p' /proc/cpuinfo 2>/dev/null | head -1)
name=$(printf '%s %s threads' "${name:-$(uname -m)}" "${OMP_NUM_THREADS:-$(nproc)}" | tr 'A-Z' 'a-z' | tr -cs 'a-z0-9\n' '-')
lines=build/bench.jsonl
rm -f "$lines"
build/bench_layers "$lines"
build/bench_steps "$lines"
mkdir -p dev/bench/results
{ echo "["; sed '$!s/$/,/' "$lines"; echo "]"; } > "dev/bench/results/$name.json"
echo "written: dev/bench/results/$name.json"
