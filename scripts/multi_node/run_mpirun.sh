#!/usr/bin/env bash
# run_mpirun.sh: GPT-2 124M on 10B tokens of FineWeb, two machines with 8 H100 each, started by mpirun. By PLAN=H100, not measured:
#     4716 steps: 19:03, 7.89EFLOP, 9.89G tokens, $18 at 3.5 a GPU hour
# HOSTS names the machines, each with its number of processes: HOSTS=h1:8,h2:8 scripts/multi_node/run_mpirun.sh. Program, data and OUT must have
# the same paths on all of them, and OUT must be one folder. The environment may set more: scripts/lib.sh.
set -u
DATA=${DATA:-dev/data/fineweb}
OUT=${OUT:-log_gpt2_124M_nodes}
RANKS=${RANKS:-16}
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/../lib.sh"
planned=(--nodes 2 --gpus-per-node 8)
if [ -z "${PLAN:-}" ] && [ -z "${HOSTS:-}" ]; then refuse "HOSTS is not set: HOSTS=h1:8,h2:8 $0"; fi
launch+=(--host "${HOSTS:-}")
need_data 'fineweb_train_*.bin' 'dev/data/fineweb.py --size 10B --tokenized'
train 4716 -e d12 --precision bf16 -i "$DATA/fineweb_train_*.bin" -j "$DATA/fineweb_val_*.bin" \
    -b 64 -t 1024 -d 2097152 -z 1 \
    -l 0.0006 -u 700 -k cosine -q 0.0 -c 0.1 \
    -v 250 -h "$hellaswag" -s 20000 -g 144 -n 1000
