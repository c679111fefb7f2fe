#!/usr/bin/env bash
# run_gpt2_774M.sh: GPT-2 774M on 150B tokens of FineWeb, one machine with 8 H100. By PLAN=H100, not measured:
#     286102 steps: 50:34:23, 737EFLOP, 150G tokens, $1416 at 3.5 a GPU hour
# The environment may set BIN, DATA, OUT, RANKS and more: lib.sh.
set -u
DATA=${DATA:-dev/data/fineweb}
OUT=${OUT:-log_gpt2_774M}
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"
need_data 'fineweb_train_*.bin' 'dev/data/fineweb.py --size 100B --tokenized'
train 286102 -e d36 --precision bf16 -i "$DATA/fineweb_train_*.bin" -j "$DATA/fineweb_val_*.bin" \
    -b 32 -t 1024 -d 524288 -z 1 \
    -l 0.00025 -u 700 -k cosine -q 0.0 -c 0.1 \
    -v 250 -h "$hellaswag" -s 300000 -g 144 -n 4000 -nk 5 -nm 40000
