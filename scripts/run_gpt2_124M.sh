#!/usr/bin/env bash
# run_gpt2_124M.sh: GPT-2 124M on 10B tokens of FineWeb, one machine with 8 H100. By PLAN=H100, not measured:
#     18865 steps: 38:10, 7.89EFLOP, 9.89G tokens, $18 at 3.5 a GPU hour
# The environment may set BIN, DATA, OUT, RANKS and more: lib.sh.
set -u
DATA=${DATA:-dev/data/fineweb}
OUT=${OUT:-log_gpt2_124M}
# shellcheck source=scripts/lib.sh
source "$(dirname "$0")/lib.sh"
need_data 'fineweb_train_*.bin' 'dev/data/fineweb.py --size 10B --tokenized'
train 18865 -e d12 --precision bf16 -i "$DATA/fineweb_train_*.bin" -j "$DATA/fineweb_val_*.bin" \
    -b 64 -t 1024 -d 524288 -z 1 \
    -l 0.0006 -u 700 -k cosine -q 0.0 -c 0.1 \
    -v 250 -h "$hellaswag" -s 20000 -g 144 -n 5000
