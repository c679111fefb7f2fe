#!/bin/sh
# run.sh: measures the layers and the whole steps on this machine, into dev/bench/results/MACHINE.json: an array of objects, one
# a measurement. Takes about three minutes; nothing else should run.
set -eu
cd "$(dirname "$0")/../.."
lines=build/bench.jsonl
rm -f "$lines"
build/bench_layers "$lines"
build/bench_steps "$lines"
# machine and threads as the programs say them, which know what affinity and control group allow
name=$(sed -n '1s/^{"machine": "\([^"]*\)", "threads": \([0-9]*\),.*/\1 \2 threads/p' "$lines" | tr 'A-Z' 'a-z' | tr -cs 'a-z0-9\n' '-')
mkdir -p dev/bench/results
{ echo "["; sed '$!s/$/,/' "$lines"; echo "]"; } > "dev/bench/results/$name.json"
echo "written: dev/bench/results/$name.json"
